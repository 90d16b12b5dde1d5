//! A speaker who stops, or leaves, and goes on before the provider has said the last words: nothing is lost.

use std::{sync::Arc, time::Duration};

use voicematch_protocol::transcribe::EndReason;
use voicematch_transcribe::bridge::BridgeConfig;

use crate::support::{
    Rig, fake,
    sessions::{Guest, Meeting, SLUG},
    silence,
};

/// Its last words take a moment, in which the speaker goes on.
const FAKE: &str = "?delay=400ms&partial=1m&final=1s";

const STOP: &str = r#"{"type":"stop"}"#;

impl Meeting {
    /// All that Ann has said is text.
    async fn assert_text(&self, chunks: u32) {
        let ended = self.sessions.end(SLUG, EndReason::App).await;
        ended.expect("it went on");
        self.assert_complete(chunks).await;
        let gaps = self.gaps().await;
        assert!(gaps.is_empty(), "{gaps:?}");
    }
}

#[tokio::test]
async fn who_goes_on_at_once_after_a_stop_is_heard() {
    let rig = Rig::fake(FAKE);
    let (meeting, _host) = Meeting::begin_with(&rig).await;
    let mut ann = meeting.speaker("ann").await;
    for turn in 0..4 {
        ann.say(10, meeting.at(turn));
        ann.attachment.text(STOP, meeting.at(turn));
        assert!(
            rig.bridges.open_tracks() <= 2,
            "one may end while they go on"
        );
    }
    ann.say(10, meeting.at(4));
    meeting.assert_text(50).await;
}

#[tokio::test]
async fn who_comes_back_just_too_late_for_their_track_is_heard() {
    let (meeting, _host) = Meeting::begin(FAKE).await;
    let mut ann = meeting.speaker("ann").await;
    let who = ann.who;
    ann.say(10, meeting.at(0));
    drop(ann);
    meeting.sessions.tick(meeting.at(20));
    let mut ann = Guest::attach(&meeting.sessions, SLUG, who, None).await;
    ann.next = 10;
    ann.say(10, meeting.at(20));
    meeting.assert_text(20).await;
}

#[tokio::test]
async fn a_track_that_is_as_long_as_one_may_be_is_followed_by_another() {
    let config = BridgeConfig {
        max_duration: Duration::from_millis(1_250),
        ..BridgeConfig::default()
    };
    let rig = Rig::new(Arc::new(fake(FAKE)), config);
    let (meeting, _host) = Meeting::begin_with(&rig).await;
    let mut ann = meeting.speaker("ann").await;
    // What is cut in two is no word.
    ann.say(12, meeting.at(0));
    ann.attachment.audio(silence(), meeting.at(2));
    ann.say(20, meeting.at(2));
    meeting.assert_text(32).await;
}

#[tokio::test]
async fn what_start_has_said_holds_after_a_stop() {
    let (meeting, _host) = Meeting::begin(FAKE).await;
    let mut ann = meeting.speaker("ann").await;
    let start = r#"{"type":"start","sample_rate":48000,"ack":"each"}"#;
    ann.attachment.text(start, meeting.at(0));
    // 100 ms at that rate, but for a sample that the filter keeps; they would be 300 ms at another.
    let frame = silence().repeat(3);
    for second in 0..2 {
        ann.attachment
            .audio(frame.clone().into(), meeting.at(second));
        assert_eq!(ann.expect("audio_ack").await["ms"], 99);
        ann.attachment.text(STOP, meeting.at(second));
    }
}
