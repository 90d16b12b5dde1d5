//! A session or a server that ends although its provider hangs: what was said last is text, or a gap that is told and stored.

use std::time::Duration;

use tokio::time::Instant;
use voicematch_protocol::transcribe::{EndReason, TranscribeError};
use voicematch_transcribe::sessions::NewSession;

use crate::support::{
    PATIENCE, becomes,
    sessions::{Guest, Meeting, SLUG},
};

/// How much is said. The stream of the provider has room for 16 chunks, which it does not take: with more it cannot even be told
/// that this was all.
const LITTLE: u32 = 12;
const MUCH: u32 = 60;

impl Meeting {
    /// A provider that hears little or nothing, and a speaker who has said this much.
    async fn with_hanging_provider(chunks: u32) -> (Self, Guest, Guest) {
        let hangs = match chunks {
            MUCH => "?stall_after=300ms&delay=10ms&partial=100ms&final=300ms",
            _ => "?stall_after=0ms",
        };
        let (meeting, mut host) = Self::begin(hangs).await;
        let mut ann = meeting.speaker("ann").await;
        ann.say(chunks, meeting.at(0));
        if chunks == MUCH {
            host.expect("partial").await;
        }
        (meeting, host, ann)
    }

    async fn drain(&self) {
        let until = || Instant::now() + PATIENCE;
        assert_eq!(self.sessions.drain(until).await, None);
    }

    /// The host connects again. Returns the code with which the server refuses.
    async fn refused(&self) -> Option<TranscribeError> {
        let back = self.sessions.attach(SLUG, self.host, None).await;
        back.err().map(|refusal| refusal.code)
    }

    /// Waits until an end or a deletion is under way.
    async fn is_ending(&self) {
        let ended = Some(TranscribeError::SessionEnded);
        becomes(ended, "the host gets an answer", async || {
            self.refused().await
        })
        .await;
    }

    async fn end(&self) {
        let ended = self.sessions.end(SLUG, EndReason::App).await;
        ended.expect("it went on");
    }
}

/// The host is told a gap, and then, as the last word, that all is stored.
async fn expect_gap_and_end(host: &mut Guest) {
    let gap = host.expect("gap").await;
    assert_eq!(gap["reason"], "provider_lost");
    let ended = host.expect("ended").await;
    assert!(ended["segments"].as_i64() >= gap["seq"].as_i64(), "{ended}");
    assert_eq!(ended["segments"], ended["stored_through"]);
}

#[tokio::test]
async fn a_drain_loses_nothing_in_silence_although_the_provider_hangs() {
    let drained = async |chunks| {
        let (meeting, mut host, _ann) = Meeting::with_hanging_provider(chunks).await;
        meeting.drain().await;
        meeting.assert_complete(chunks).await;
        host.expect("gap").await;
    };
    tokio::join!(drained(LITTLE), drained(MUCH));
}

#[tokio::test]
async fn an_end_answers_when_all_is_stored_although_the_provider_hangs() {
    let ended = async |chunks| {
        let (meeting, mut host, _ann) = Meeting::with_hanging_provider(chunks).await;
        let began = Instant::now();
        meeting.end().await;
        assert!(
            began.elapsed() < Duration::from_secs(9),
            "{:?}",
            began.elapsed()
        );
        meeting.assert_complete(chunks).await;
        expect_gap_and_end(&mut host).await;
    };
    tokio::join!(ended(LITTLE), ended(MUCH));
}

#[tokio::test]
async fn a_drain_waits_for_a_session_that_ends() {
    let (meeting, mut host, _ann) = Meeting::with_hanging_provider(MUCH).await;
    let drain = async {
        meeting.is_ending().await;
        meeting.drain().await;
        meeting.assert_complete(MUCH).await;
        let row = meeting.store.session(SLUG).await.expect("it answers");
        assert!(row.expect("it is there").ended_ms.is_some());
    };
    tokio::join!(meeting.end(), drain);
    expect_gap_and_end(&mut host).await;
}

#[tokio::test]
async fn nobody_takes_a_session_up_again_while_it_ends_or_is_deleted() {
    let ended = async {
        let (meeting, _host, _ann) = Meeting::with_hanging_provider(LITTLE).await;
        let again = async {
            meeting.is_ending().await;
            // Who asks a second time waits, too.
            meeting.end().await;
            meeting.assert_complete(LITTLE).await;
            assert_eq!(meeting.refused().await, Some(TranscribeError::SessionEnded));
        };
        tokio::join!(meeting.end(), again);
    };
    let deleted = async {
        let (meeting, _host, _ann) = Meeting::with_hanging_provider(LITTLE).await;
        let meanwhile = async {
            meeting.is_ending().await;
        };
        let (gone, ()) = tokio::join!(meeting.sessions.delete(SLUG), meanwhile);
        gone.expect("it was there");
        assert_eq!(
            meeting.refused().await,
            Some(TranscribeError::UnknownSession)
        );
    };
    tokio::join!(ended, deleted);
}

#[tokio::test]
async fn a_server_that_stops_takes_no_session_up() {
    let (meeting, _host) = Meeting::begin("").await;
    // It is free now.
    meeting.drain().await;
    let other = meeting.other_process().await;
    let until = || Instant::now() + PATIENCE;
    assert_eq!(other.drain(until).await, None);
    let back = other.attach(SLUG, meeting.host, None).await;
    let code = back.err().map(|refusal| refusal.code);
    assert_eq!(code, Some(TranscribeError::Draining));
    let refused = other.create(NewSession::default()).await.err();
    assert_eq!(
        refused.map(|refusal| refusal.code),
        Some(TranscribeError::Draining)
    );
}
