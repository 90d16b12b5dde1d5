//! Several processes with one database.

use std::time::Duration;

use tokio::time::Instant;
use voicematch_protocol::transcribe::{EndReason, TranscribeError};
use voicematch_transcribe::{
    record::{Record, RowId, Segment, SegmentKind},
    session::Out,
    sessions::NewSession,
    store::Owner,
};

use crate::support::{
    PATIENCE, eventually,
    sessions::{Guest, Meeting, SLUG},
};

/// Finals soon, so that tests are fast.
const FAKE: &str = "?delay=10ms&partial=1m&final=1s";

#[tokio::test]
async fn of_two_who_create_a_session_of_one_name_one_does() {
    let (meeting, _host) = Meeting::begin(FAKE).await;
    let other = meeting.other_process().await;
    for number in 0..20 {
        let new = || NewSession {
            slug: Some(format!("talk-{number}")),
            ..NewSession::default()
        };
        let (one, other) = tokio::join!(meeting.sessions.create(new()), other.create(new()));
        let refused = match (one, other) {
            (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused,
            both => panic!("{both:?}"),
        };
        assert_eq!(refused.code, TranscribeError::SlugTaken, "{refused}");
    }
}

#[tokio::test]
async fn the_end_says_how_much_all_processes_have_heard() {
    let (meeting, _host) = Meeting::begin(FAKE).await;
    let mut ann = meeting.speaker("ann").await;
    let who = ann.who;
    ann.say(10, meeting.at(0));
    let until = || Instant::now() + PATIENCE;
    assert_eq!(meeting.sessions.drain(until).await, None);
    let next = meeting.other_process().await;
    let mut host = Guest::attach(&next, SLUG, meeting.host, None).await;
    let mut ann = Guest::attach(&next, SLUG, who, None).await;
    ann.say(5, meeting.at(10));
    let ended = next.end(SLUG, EndReason::App).await;
    ended.expect("it went on");
    assert_eq!(host.expect("ended").await["audio_ms"], 1_500);
}

#[tokio::test]
async fn the_time_before_the_first_audio_is_none_for_the_next_process_either() {
    const QUIET: Duration = Duration::from_secs(1);
    let (meeting, mut host) = Meeting::begin(FAKE).await;
    let mut ann = meeting.speaker("ann").await;
    let who = ann.who;
    let started = Instant::now().into_std();
    ann.attachment.text(r#"{"type":"start"}"#, started);
    eventually("she says nothing for a while", || {
        started.elapsed() >= QUIET
    })
    .await;
    let first = Instant::now().into_std();
    ann.say(10, first);
    assert_eq!(host.expect("final").await["start_ms"], 0);
    let until = || Instant::now() + PATIENCE;
    assert_eq!(meeting.sessions.drain(until).await, None);
    let next = meeting.other_process().await;
    let mut host = Guest::attach(&next, SLUG, meeting.host, Some(1)).await;
    let mut ann = Guest::attach(&next, SLUG, who, None).await;
    let again = Instant::now().into_std();
    ann.say(30, again);
    let start_ms = host.expect("final").await["start_ms"].as_u64();
    let expected = (again - first).as_millis();
    assert!(
        u128::from(start_ms.expect("a time")) < expected + QUIET.as_millis() / 2,
        "{start_ms:?} ms, not {expected}"
    );
}

/// A process that stood still for longer than its lease: another one had the session, and let it go again.
#[tokio::test]
async fn a_session_that_another_process_had_meanwhile_is_read_anew() {
    let (meeting, mut host) = Meeting::begin(FAKE).await;
    let mut ann = meeting.speaker("ann").await;
    let who = ann.who;
    ann.say(10, meeting.at(0));
    host.expect_stored(1).await;
    meeting
        .sessions
        .renew()
        .await
        .expect("the database answers");
    ann.say(10, meeting.at(1));
    host.expect_stored(2).await;

    let store = &meeting.store;
    meeting.lease_is_over().await;
    let other = Owner {
        id: RowId(7),
        url: String::new(),
    };
    let held = store.hold(&other, &[meeting.id]).await.expect("held");
    assert_eq!(held.taken, [meeting.id]);
    let tracks = store.tracks(meeting.id).await.expect("it answers");
    let said = Segment {
        session_id: meeting.id,
        seq: 3,
        track_id: tracks[0].id,
        kind: SegmentKind::Final,
        source: "live".to_owned(),
        start_ms: 3_000,
        end_ms: 4_000,
        language: None,
        confidence: None,
        text: "said elsewhere".to_owned(),
        words: None,
        created_ms: 1,
    };
    let written = store.append(&[Record::Segment(said)]).await;
    written.expect("it is written");
    store.let_go(other.id, &[meeting.id]).await.expect("let go");

    meeting
        .sessions
        .renew()
        .await
        .expect("the database answers");
    while !matches!(host.attachment.next().await, Ok(Out::Close(_))) {}
    let mut host = Guest::attach(&meeting.sessions, SLUG, meeting.host, Some(2)).await;
    assert_eq!(host.expect("final").await["text"], "said elsewhere");
    let mut ann = Guest::attach(&meeting.sessions, SLUG, who, None).await;
    ann.next = 20;
    ann.say(10, meeting.at(5));
    assert_eq!(host.expect("final").await["seq"], 4);
    host.expect_stored(4).await;
    // And it stays.
    meeting
        .sessions
        .renew()
        .await
        .expect("the database answers");
    ann.say(10, meeting.at(6));
    assert_eq!(host.expect("final").await["seq"], 5);
}
