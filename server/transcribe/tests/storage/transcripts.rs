//! Transcripts out of a database: in the order of speaking, a page in memory.

use voicematch_transcribe::{
    export::{Format, Transcript},
    record::{Record, Session},
    store::StoreError,
};

use crate::{
    conformance::write,
    support::{Rig, outcomes, segment},
};

/// Segments: several pages, and more than a piece of a file.
const COUNT: i64 = 1_500;

/// A session in which two speak at a time, so that their segments are numbered in another order than they begin; and the last ones
/// were fetched afterwards, for gaps all over it.
async fn talk() -> (Rig, Session) {
    let rig = Rig::sqlite().await;
    let segments = (1..=COUNT).map(|seq| {
        let mut segment = segment(rig.session, seq);
        segment.start_ms = match seq {
            1_400.. => (seq - 1_400) * 14_000,
            _ => seq * 1_000 - seq % 2 * 7_000,
        };
        segment.words = Some(format!(
            "[{{\"word\":\"{seq}\",\"start_ms\":0,\"end_ms\":1}}]"
        ));
        segment.text = "x".repeat(100);
        rig.writer.write(Record::Segment(segment))
    });
    outcomes(segments.collect()).await;
    let session = rig.store.session("session").await.expect("read");
    (rig, session.expect("the session"))
}

async fn begin(rig: &Rig, session: &Session, after: i64) -> Transcript {
    let (store, people) = (rig.store.clone(), Vec::new());
    let begun = Transcript::begin(store, Format::Json, session, people, after);
    begun.await.expect("read")
}

#[tokio::test]
async fn a_transcript_is_written_piece_by_piece_in_the_order_of_speaking() {
    let (rig, session) = talk().await;
    for after in [0, 700] {
        let mut transcript = begin(&rig, &session, after).await;
        let mut pieces = Vec::new();
        while let Some(piece) = transcript.next().await.expect("read") {
            pieces.push(piece);
        }
        assert!(pieces.len() > 2);
        assert!(pieces.iter().all(|piece| piece.len() < 128 * 1024));
        let file: serde_json::Value = serde_json::from_str(&pieces.concat()).expect("JSON");
        let segments = file["segments"].as_array().expect("segments");
        let number = |value: &serde_json::Value| value.as_i64().expect("a number");
        let order = segments
            .iter()
            .map(|one| (number(&one["start_ms"]), number(&one["seq"])));
        let order: Vec<_> = order.collect();
        assert!(order.is_sorted());
        let mut numbers: Vec<_> = order.iter().map(|(_, seq)| *seq).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (after + 1..=COUNT).collect::<Vec<_>>());
        for one in segments {
            assert_eq!(one["words"][0]["word"], one["seq"].to_string());
        }
    }
}

#[tokio::test]
async fn a_transcript_of_a_session_that_is_deleted_meanwhile_has_no_end() {
    let (rig, session) = talk().await;
    let mut transcript = begin(&rig, &session, 0).await;
    assert!(transcript.next().await.expect("read").is_some());
    let deleted = Record::SessionDeleted { id: session.id };
    write(&*rig.store, &[deleted]).await;
    let rest = async {
        while transcript.next().await?.is_some() {}
        Ok::<(), StoreError>(())
    };
    assert!(matches!(rest.await, Err(StoreError::Temporary(_))));
}
