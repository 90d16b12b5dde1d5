//! Bounds: memory, streams, seconds of a day, the length of a track.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use voicematch_transcribe::{
    bridge::{BridgeConfig, Failure, GapReason, Heard, ProviderState},
    provider::{OpenError, Provider},
};

use crate::support::{Rig, Sequence, Step, fake, numbered};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rig(options: &str, config: BridgeConfig) -> Rig {
    Rig::new(Arc::new(fake(options)), config)
}

#[tokio::test(start_paused = true)]
async fn all_tracks_together_hold_so_much_and_no_more() {
    let most = 1_000_000;
    let provider = Sequence::new([Step::Error(OpenError::Unreachable)]);
    let config = BridgeConfig {
        memory_bytes: most,
        ..BridgeConfig::default()
    };
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), config);
    let mut speakers: Vec<_> = (0..20).map(|track| rig.speaker(track)).collect();
    for _ in 0..90 {
        for speaker in &mut speakers {
            speaker.say();
        }
        // The length of what was said, by the clock of the test: they speak in real time.
        sleep(Duration::from_millis(100)).await;
        assert!(
            rig.bridges.held_bytes() <= most,
            "{}",
            rig.bridges.held_bytes()
        );
    }
    assert!(rig.bridges.held_bytes() > most / 2);
    provider.switch(Step::fake(""));
    for speaker in &mut speakers {
        speaker
            .hear(|heard| *heard == Heard::State(ProviderState::Ok))
            .await;
    }
    for speaker in speakers {
        let ledger = speaker.finish().await;
        ledger.assert_complete();
        assert!(
            ledger
                .gaps
                .iter()
                .any(|(_, reason)| *reason == GapReason::Memory),
            "{:?}",
            ledger.gaps
        );
    }
    assert!(rig.series("transcribe_audio_dropped_seconds_total", "memory") > 60.0);
    assert_eq!(rig.bridges.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_beyond_the_limit_queue_in_order() {
    let config = BridgeConfig {
        max_streams: Some(2),
        ..BridgeConfig::default()
    };
    let rig = rig("", config);
    let mut first = rig.speaker(1);
    let mut second = rig.speaker(2);
    first.talk(seconds(1)).await;
    second.talk(seconds(1)).await;
    let mut third = rig.speaker(3);
    let began = Instant::now();
    third.say();
    third
        .hear(|heard| *heard == Heard::State(ProviderState::Busy))
        .await;
    assert_eq!(rig.metric("transcribe_streams_waiting"), 1.0);
    let keep_talking = async {
        first.talk(seconds(15)).await;
        second.talk(seconds(1)).await;
        first.talk(seconds(1)).await;
    };
    let wait = third.hear(|heard| *heard == Heard::Failed(Failure::ProviderBusy));
    tokio::join!(keep_talking, wait);
    assert!(began.elapsed() >= seconds(10));
    second.finish().await.assert_complete();
    third.talk(seconds(1)).await;
    assert_eq!(
        third.ledger.states,
        [ProviderState::Busy, ProviderState::Ok]
    );
    assert_eq!(rig.metric("transcribe_streams_waiting"), 0.0);
    third.finish().await.assert_all_heard();
    first.finish().await.assert_complete();
}

#[tokio::test(start_paused = true)]
async fn a_paused_track_gives_its_place_to_another() {
    let config = BridgeConfig {
        max_streams: Some(1),
        ..BridgeConfig::default()
    };
    let rig = rig("", config);
    let mut first = rig.speaker(1);
    first.talk(seconds(1)).await;
    let mut second = rig.speaker(2);
    second.talk(seconds(1)).await;
    first.bridge.pause();
    second
        .hear(|heard| *heard == Heard::State(ProviderState::Ok))
        .await;
    second.finish().await.assert_all_heard();
    first.talk(seconds(1)).await;
    first.finish().await.assert_all_heard();
}

#[tokio::test(start_paused = true)]
async fn the_seconds_of_a_day_are_counted_over_all_tracks() {
    let config = BridgeConfig {
        max_seconds_per_day: Some(10),
        ..BridgeConfig::default()
    };
    let rig = rig("", config);
    let mut first = rig.speaker(1);
    first.talk(seconds(6)).await;
    let mut second = rig.speaker(2);
    second.talk(seconds(6)).await;
    assert_eq!(second.ledger.failures, [Failure::Budget]);
    second.talk(seconds(30)).await;
    assert_eq!(second.ledger.failures, [Failure::Budget], "told once");
    assert_eq!(rig.metric("transcribe_audio_seconds_total"), 10.0);
    let second = second.finish().await;
    second.assert_complete();
    assert_eq!(second.missed_ms(), 32_000);
    assert!(
        second
            .gaps
            .iter()
            .all(|(_, reason)| *reason == GapReason::Budget),
        "{:?}",
        second.gaps
    );
    assert_eq!(second.heard().len(), 40);
    // Another day.
    sleep(seconds(24 * 3600)).await;
    first.talk(seconds(3)).await;
    first.finish().await.assert_all_heard();
}

#[tokio::test(start_paused = true)]
async fn a_track_ends_when_it_is_as_long_as_it_may_be() {
    let config = BridgeConfig {
        max_duration: Duration::from_millis(5050),
        ..BridgeConfig::default()
    };
    let rig = rig("", config);
    let mut speaker = rig.speaker(1);
    for _ in 0..60 {
        speaker.say();
        sleep(Duration::from_millis(100)).await;
    }
    speaker
        .hear(|heard| *heard == Heard::Failed(Failure::MaxDuration))
        .await;
    speaker.hear(|heard| *heard == Heard::Ended).await;
    assert_eq!(speaker.bridge.audio_ms(), 5050);
    assert!(speaker.ledger.heard().len() >= 50);
}

#[tokio::test(start_paused = true)]
async fn odd_bytes_and_frames_after_the_end_are_ignored() {
    let rig = rig("", BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.bridge.push(Bytes::new());
    // So many that they would be two milliseconds.
    for _ in 0..64 {
        speaker.bridge.push(Bytes::from_static(&[7]));
    }
    assert_eq!(speaker.bridge.audio_ms(), 0);
    let mut odd = numbered(1, 0).to_vec();
    odd.push(7);
    speaker.bridge.push(odd.into());
    speaker.next = 1;
    assert_eq!(speaker.bridge.audio_ms(), 100);
    speaker.talk(seconds(1)).await;
    speaker.bridge.finish();
    speaker.bridge.push(numbered(1, 99));
    assert_eq!(speaker.bridge.audio_ms(), 1100);
    speaker.finish().await.assert_all_heard();
}

#[tokio::test(start_paused = true)]
async fn a_listener_who_does_not_listen_costs_bounded_memory() {
    let rig = rig("?partial=100ms&final=200ms", BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    for _ in 0..3000 {
        speaker.say();
        sleep(Duration::from_millis(100)).await;
    }
    assert!(rig.bridges.held_bytes() <= 10 * 32_000);
    assert!(speaker.heard.len() <= 256);
    speaker.listen(seconds(30)).await;
    speaker.talk(seconds(5)).await;
    speaker.finish().await.assert_complete();
}

#[tokio::test(start_paused = true)]
async fn one_track_with_wishes_that_are_not_taken_keeps_nobody_else_out() {
    let provider = Sequence::new([
        Step::Error(OpenError::BadConfig("no such language".to_owned())),
        Step::fake(""),
    ]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut odd = rig.speaker(1);
    odd.say();
    odd.hear(|heard| *heard == Heard::Failed(Failure::ProviderDown))
        .await;
    let mut other = rig.speaker(2);
    other.talk(seconds(1)).await;
    other.finish().await.assert_all_heard();
    odd.hear(|heard| *heard == Heard::State(ProviderState::Ok))
        .await;
    odd.finish().await.assert_all_heard();
    assert_eq!(provider.name(), "fake");
}
