//! More audio than the provider takes, and more tracks than it serves, on a paused clock.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use voicematch_transcribe::{
    bridge::{BridgeConfig, GapReason, Heard, ProviderState},
    provider::OpenError,
};

use crate::support::{Rig, Sequence, Step};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_provider_slower_than_real_time_is_slow_and_then_makes_gaps() {
    let rig = Rig::fake("?slow=2");
    let mut speaker = rig.speaker(1);
    let began = Instant::now();
    while !speaker.ledger.states.contains(&ProviderState::Slow) {
        speaker.talk(Duration::from_millis(100)).await;
        assert!(began.elapsed() < seconds(15));
    }
    assert_eq!(speaker.ledger.gaps, vec![], "it may still catch up");
    speaker.talk(seconds(60)).await;
    assert!(
        rig.metric("transcribe_lag_seconds") >= 60.0,
        "observed each second"
    );
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert!(
        ledger
            .gaps
            .iter()
            .all(|(_, reason)| *reason == GapReason::ProviderSlow),
        "{:?}",
        ledger.gaps
    );
    let heard = ledger.heard().len();
    assert!((300..450).contains(&heard), "half of it: {heard}");
    assert!(ledger.gaps.len() < 25, "few gaps: {}", ledger.gaps.len());
    assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_goes_at_four_times_its_speed() {
    let provider = Sequence::new([
        Step::Error(OpenError::Busy(Some(seconds(8)))),
        Step::fake("?delay=0ms"),
    ]);
    let rig = Rig::new(provider, BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(8)).await;
    speaker
        .hear(|heard| *heard == Heard::State(ProviderState::Ok))
        .await;
    let began = Instant::now();
    while speaker.ledger.finals.len() < 4 {
        speaker.hear_final().await;
    }
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(1700)..Duration::from_millis(2500)).contains(&took),
        "8 s of audio: {took:?}"
    );
    speaker.finish().await.assert_all_heard();
}

#[tokio::test(start_paused = true)]
async fn audio_that_was_held_back_and_comes_at_once_is_no_fault_of_the_provider() {
    let rig = Rig::fake("");
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(3)).await;
    // The network, or this machine, stood still meanwhile.
    sleep(seconds(9)).await;
    for _ in 0..90 {
        speaker.say();
    }
    speaker.talk(seconds(10)).await;
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    ledger.assert_never_silent();
    assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_tracks_make_few_attempts_when_a_provider_dies() {
    let provider = Sequence::new([Step::fake("")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    provider.switch(Step::Error(OpenError::Unreachable));
    let mut speakers: Vec<_> = (0..1000).map(|track| rig.speaker(track)).collect();
    for second in 0..60 {
        for speaker in &mut speakers {
            speaker.say();
        }
        sleep(seconds(1)).await;
        assert!(
            provider.opens() <= 64 + 10,
            "after {second} s: {} attempts",
            provider.opens()
        );
    }
    provider.switch(Step::fake(""));
    sleep(seconds(61)).await;
    assert_eq!(rig.metric("transcribe_breaker_open"), 0.0);
    assert!(
        provider.opens() >= 1000,
        "all are served again: {}",
        provider.opens()
    );
    for mut speaker in speakers {
        while let Ok(heard) = speaker.heard.try_recv() {
            speaker.ledger.note(heard);
        }
        assert_eq!(
            speaker.ledger.states.last(),
            Some(&ProviderState::Paused),
            "{:?}",
            speaker.ledger
        );
        assert!(!speaker.ledger.finals.is_empty());
    }
}
