//! What is said while the host is away for long is not transcribed, and never missing in silence.

use bytes::Bytes;
use tokio::time::Instant;
use voicematch_protocol::transcribe::{EndReason, TranscribeError};
use voicematch_transcribe::record::SegmentKind;

use crate::support::{
    PATIENCE, becomes,
    sessions::{Gap, Guest, Meeting, SLUG},
};

/// Finals soon, so that tests are fast.
const FAKE: &str = "?delay=10ms&partial=200ms&final=1s";

impl Meeting {
    /// The host has left after so much audio of a speaker. What is said from second 70 to 71 is not passed on.
    async fn without_host(provider: &str, chunks: u32) -> (Self, Guest) {
        let (meeting, host) = Self::begin(provider).await;
        let mut ann = meeting.speaker("ann").await;
        ann.say(chunks, meeting.at(0));
        drop(host);
        meeting.sessions.tick(meeting.at(65));
        ann.expect_state("paused").await;
        ann.say(10, meeting.at(70));
        (meeting, ann)
    }

    /// While the host is away, no audio is passed on: neither Ann's, who was heard before, nor Ben's, who joins now and is told
    /// so at once. Then the host comes back, and asks for the segments after the first.
    async fn pause_and_come_back(&self, ann: &mut Guest) -> Guest {
        ann.say(10, self.at(70));
        let mut ben = self.speaker("ben").await;
        ben.say(1, self.at(71));
        ben.expect_state("paused").await;
        Guest::attach(&self.sessions, SLUG, self.host, Some(1)).await
    }

    fn missed() -> Vec<Gap> {
        vec![(69_900, 70_900, "host_away".to_owned())]
    }
}

/// The host is told what was said while nothing was passed on.
async fn expect_missed(host: &mut Guest) {
    let mut gaps = [host.expect("gap").await, host.expect("gap").await];
    gaps.sort_by_key(|gap| gap["from_ms"].as_i64());
    for (gap, [from, to]) in gaps.iter().zip([[69_900, 70_900], [70_900, 71_000]]) {
        assert_eq!(gap["reason"], "host_away");
        assert_eq!([&gap["from_ms"], &gap["to_ms"]], [from, to]);
    }
}

#[tokio::test]
async fn a_host_who_comes_back_is_told_of_what_nobody_heard() {
    let (meeting, mut host) = Meeting::begin(FAKE).await;
    let mut ann = meeting.speaker("ann").await;
    ann.say(10, meeting.at(0));
    assert_eq!(host.expect("final").await["seq"], 1);
    drop(host);
    // For a minute it goes on without them.
    meeting.sessions.tick(meeting.at(59));
    ann.say(10, meeting.at(59));
    meeting.sessions.tick(meeting.at(62));
    ann.expect_state("paused").await;
    // A minute passes at once here, and the provider needs a moment for its last words.
    becomes(2, "how many rows are stored", async || {
        meeting.rows().await.len()
    })
    .await;
    let mut host = meeting.pause_and_come_back(&mut ann).await;
    let meanwhile = host.expect("final").await;
    assert_eq!(meanwhile["start_ms"], 58_900);
    expect_missed(&mut host).await;
    // And it goes on.
    ann.say(10, meeting.at(80));
    let next = host.expect("final").await;
    assert_eq!(
        (&next["seq"], &next["start_ms"]),
        (&5.into(), &79_900.into())
    );
    host.expect_stored(5).await;
    let kinds: Vec<_> = meeting.rows().await.iter().map(|row| row.kind).collect();
    let (words, gap) = (SegmentKind::Final, SegmentKind::Gap);
    assert_eq!(kinds, [words, words, gap, gap, words]);
}

#[tokio::test]
async fn a_host_who_comes_back_before_the_last_words_are_text_is_told_them_later() {
    let (meeting, host) = Meeting::begin("?delay=300ms&partial=1m&final=1s").await;
    let mut ann = meeting.speaker("ann").await;
    ann.say(10, meeting.at(0));
    drop(host);
    meeting.sessions.tick(meeting.at(62));
    ann.expect_state("paused").await;
    let mut host = meeting.pause_and_come_back(&mut ann).await;
    // The numbers are those of the order in which it is known; the times say when it was.
    expect_missed(&mut host).await;
    let last_words = host.expect("final").await;
    assert_eq!(
        (&last_words["seq"], &last_words["end_ms"]),
        (&3.into(), &1_000.into())
    );
    host.expect_stored(3).await;
}

#[tokio::test]
async fn what_nobody_heard_is_stored_although_the_host_stays_away() {
    // The speaker says that this was all.
    let (meeting, ann) = Meeting::without_host(FAKE, 10).await;
    ann.attachment.text(r#"{"type":"stop"}"#, meeting.at(71));
    becomes(Meeting::missed(), "what is stored", async || {
        meeting.gaps().await
    })
    .await;

    // The speaker leaves, and does not come back.
    let (meeting, ann) = Meeting::without_host(FAKE, 10).await;
    drop(ann);
    meeting.sessions.tick(meeting.at(90));
    becomes(Meeting::missed(), "what is stored", async || {
        meeting.gaps().await
    })
    .await;
}

#[tokio::test]
async fn it_is_stored_before_the_end_although_the_provider_hangs() {
    let stalls = "?stall_after=100ms";
    // What the provider has not said is another gap.
    let assert_stored = async |meeting: &Meeting| {
        meeting.assert_complete(50).await;
        let gaps = meeting.gaps().await;
        let missed = gaps.iter().filter(|(_, _, why)| why == "host_away");
        assert_eq!(missed.cloned().collect::<Vec<_>>(), Meeting::missed());
    };
    let ended = async {
        let (meeting, _ann) = Meeting::without_host(stalls, 50).await;
        let end = meeting.sessions.end(SLUG, EndReason::App).await;
        end.expect("it went on");
        assert_stored(&meeting).await;
    };
    let drained = async {
        let (meeting, _ann) = Meeting::without_host(stalls, 50).await;
        let until = || Instant::now() + PATIENCE;
        assert_eq!(meeting.sessions.drain(until).await, None);
        assert_stored(&meeting).await;
    };
    tokio::join!(ended, drained);
}

#[tokio::test]
async fn hours_without_a_host_are_stored_by_the_minute() {
    let (meeting, mut ann) = Meeting::without_host(FAKE, 10).await;
    for second in 71..200 {
        ann.say(10, meeting.at(second));
    }
    // A crash now would forget less than a minute.
    let minutes = [(69_900, 129_900), (129_900, 189_900)];
    let minutes = minutes.map(|(from, to)| (from, to, "host_away".to_owned()));
    becomes(minutes.to_vec(), "what is stored", async || {
        meeting.gaps().await
    })
    .await;
}

#[tokio::test]
async fn a_session_in_which_nothing_is_said_for_ten_minutes_ends() {
    let (meeting, mut host) = Meeting::begin(FAKE).await;
    meeting.sessions.tick(meeting.at(599));
    let mut ann = meeting.speaker("ann").await;
    ann.say(1, meeting.at(599));
    meeting.sessions.tick(meeting.at(600));
    // A frame that is refused does not count as audio.
    for second in [700, 1_000, 1_198] {
        let odd = Bytes::from_static(b"odd");
        ann.attachment.audio(odd, meeting.at(second));
        assert_eq!(ann.expect("error").await["code"], "bad_audio");
        meeting.sessions.tick(meeting.at(second));
    }
    // It goes on, for those who come too.
    meeting.speaker("ben").await;
    meeting.sessions.tick(meeting.at(599 + 600));
    let ended = host.expect("ended").await;
    assert_eq!(
        (&ended["reason"], &ended["audio_ms"]),
        (&"idle".into(), &100.into())
    );
    let again = meeting.sessions.attach(SLUG, meeting.host, None).await;
    let refused = again.err().expect("it has ended");
    assert_eq!(refused.code, TranscribeError::SessionEnded);
}
