//! What can go wrong with a provider, played by the fake on a paused clock.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use voicematch_transcribe::{
    bridge::{BridgeConfig, Failure, GapReason, Heard, ProviderState},
    provider::OpenError,
};

use crate::support::{Rig, Sequence, Step};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn every_chunk_is_a_word_once_and_in_time() {
    let rig = Rig::fake("?jitter=20ms");
    let mut speaker = rig.speaker(17);
    speaker.talk(seconds(30)).await;
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    assert_eq!(ledger.heard().len(), 300);
    assert_eq!(ledger.states, [ProviderState::Ok]);
    assert!(
        ledger.partials >= 15 * 5,
        "a partial each 300 ms: {}",
        ledger.partials
    );
    assert_eq!(rig.metric("transcribe_audio_seconds_total"), 30.0);
    assert_eq!(rig.metric("transcribe_finals_total"), 15.0);
    assert_eq!(rig.metric("transcribe_final_latency_seconds"), 15.0);
    assert_eq!(rig.metric("transcribe_provider_latency_seconds"), 300.0);
    assert_eq!(rig.metric("transcribe_gap_seconds_total"), 0.0);
    assert_eq!(rig.metric("transcribe_active_bridges"), 0.0);
    assert_eq!(rig.bridges.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_at_the_start() {
    let provider = Sequence::new([Step::fake("?open_fails=100%")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    let began = Instant::now();
    speaker.say();
    speaker
        .hear(|heard| *heard == Heard::State(ProviderState::Down))
        .await;
    assert!(began.elapsed() <= seconds(10), "{:?}", began.elapsed());
    speaker.talk(seconds(30)).await;
    assert_eq!(
        speaker.ledger.failures,
        [Failure::ProviderDown],
        "told once"
    );
    assert_eq!(rig.metric("transcribe_breaker_open"), 1.0);
    assert!(
        provider.opens() < 10,
        "the breaker is open: {}",
        provider.opens()
    );
    provider.switch(Step::fake(""));
    let back = Instant::now();
    while speaker.ledger.finals.is_empty() {
        speaker.talk(Duration::from_millis(100)).await;
        assert!(
            back.elapsed() < seconds(62),
            "2 s after its return, and 60 s of the breaker"
        );
    }
    speaker.talk(seconds(20)).await;
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert!(
        ledger
            .gaps
            .iter()
            .all(|(_, reason)| *reason != GapReason::ProviderBusy)
    );
    assert_eq!(ledger.gaps[0].0.start, 0, "the oldest went first");
    assert_eq!(rig.metric("transcribe_breaker_open"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_buffer_loses_nothing() {
    let provider = Sequence::new([
        Step::fake("?close_after=3s"),
        Step::Error(OpenError::Unreachable),
        Step::Error(OpenError::Unreachable),
        Step::Error(OpenError::Unreachable),
        Step::fake(""),
    ]);
    let rig = Rig::new(provider, BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(20)).await;
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    assert_eq!(ledger.states.first(), Some(&ProviderState::Ok));
    assert_eq!(ledger.states.last(), Some(&ProviderState::Ok));
    let reconnecting: Vec<_> = ledger
        .states
        .iter()
        .filter_map(|state| match state {
            ProviderState::Reconnecting { retry_in_ms } => Some(*retry_in_ms),
            _ => None,
        })
        .collect();
    assert_eq!(reconnecting.len(), 4, "{reconnecting:?}");
    for (retry, doubled) in reconnecting.iter().zip([300, 600, 1200, 2000]) {
        assert!(
            (doubled * 8 / 10..=doubled * 12 / 10).contains(retry),
            "{reconnecting:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_buffer_is_a_gap_of_what_is_too_much() {
    let provider = Sequence::new([
        Step::fake("?close_after=4s"),
        Step::Error(OpenError::Unreachable),
    ]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(20)).await;
    provider.switch(Step::fake(""));
    speaker.talk(seconds(60)).await;
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert_eq!(
        rig.metric("transcribe_gap_seconds_total") * 1000.0,
        ledger.missed_ms() as f64
    );
    // The breaker opened after about 10 s, and its probes came after 10 and 20 s more.
    assert!(
        (5000..40_000).contains(&ledger.missed_ms()),
        "{:?}",
        ledger.gaps
    );
    let back = u64::from(ledger.heard()[40]) * 100;
    assert_eq!(
        ledger.gaps.first().map(|(gap, _)| gap.start),
        Some(4000),
        "all before it was heard"
    );
    assert_eq!(
        ledger.gaps.last().map(|(gap, _)| gap.end),
        Some(back),
        "and all behind it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_refuses_is_asked_once() {
    for status in [401, 402, 403] {
        let provider = Sequence::new([Step::fake(&format!("?refuse={status}"))]);
        let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
        let mut speakers: Vec<_> = (0..100).map(|track| rig.speaker(track)).collect();
        for speaker in &mut speakers {
            speaker.say();
        }
        for speaker in &mut speakers {
            speaker
                .hear(|heard| *heard == Heard::Failed(Failure::ProviderDown))
                .await;
            assert_eq!(speaker.ledger.states.last(), Some(&ProviderState::Down));
        }
        // The clock of the test goes on by that: time for more attempts, if there were any.
        sleep(seconds(9)).await;
        // The first five may have begun at the same time, before the first answer.
        assert!(
            provider.opens() <= 64,
            "100 tracks made {} attempts",
            provider.opens()
        );
        assert_eq!(rig.series("transcribe_breaker_open", "fake"), 1.0);
        provider.switch(Step::fake(""));
        let key = voicematch_transcribe::provider::Secret::new("another").expect("it is right");
        rig.bridges.set_key(key);
        for speaker in &mut speakers {
            speaker.talk(Duration::from_millis(100)).await;
        }
        for speaker in speakers {
            speaker.finish().await.assert_all_heard();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_provider_is_no_failure() {
    let provider = Sequence::new([Step::fake("?busy=429")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    let began = Instant::now();
    speaker.say();
    speaker
        .hear(|heard| *heard == Heard::State(ProviderState::Busy))
        .await;
    assert_eq!(rig.metric("transcribe_streams_waiting"), 1.0);
    speaker
        .hear(|heard| *heard == Heard::Failed(Failure::ProviderBusy))
        .await;
    let after = began.elapsed();
    assert!((seconds(10)..seconds(12)).contains(&after), "{after:?}");
    speaker.talk(seconds(30)).await;
    assert_eq!(speaker.ledger.failures, [Failure::ProviderBusy]);
    assert_eq!(rig.metric("transcribe_breaker_open"), 0.0);
    assert_eq!(rig.metric("transcribe_provider_errors_total"), 0.0);
    assert!(
        provider.opens() < 30,
        "it is asked each 2 s: {}",
        provider.opens()
    );
    provider.switch(Step::fake(""));
    speaker.talk(seconds(20)).await;
    assert_eq!(rig.metric("transcribe_streams_waiting"), 0.0);
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert!(
        ledger
            .gaps
            .iter()
            .all(|(_, reason)| *reason == GapReason::ProviderBusy),
        "{:?}",
        ledger.gaps
    );
    assert!(
        ledger.missed_ms() > 20_000 && ledger.missed_ms() < 35_000,
        "{:?}",
        ledger.gaps
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_provider_that_says_how_long_is_not_asked_before() {
    let provider = Sequence::new([
        Step::Error(OpenError::Busy(Some(seconds(5)))),
        Step::fake(""),
    ]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    let began = Instant::now();
    speaker.talk(seconds(2)).await;
    speaker
        .hear(|heard| *heard == Heard::State(ProviderState::Ok))
        .await;
    assert!(began.elapsed() >= seconds(5), "{:?}", began.elapsed());
    assert_eq!(provider.opens(), 2);
    speaker.finish().await.assert_all_heard();
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reconnects_in_the_middle_of_utterances_lose_nothing() {
    let rig = Rig::fake("?close_after=2700ms&jitter=40ms");
    let mut speaker = rig.speaker(3);
    let began = Instant::now();
    while rig.metric("transcribe_provider_reconnects_total") < 100.0 {
        speaker.talk(seconds(5)).await;
        assert!(
            began.elapsed() < seconds(1000),
            "{} s",
            began.elapsed().as_secs()
        );
    }
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    assert!(rig.series("transcribe_provider_reconnects_total", "closed") >= 100.0);
    assert_eq!(
        rig.metric("transcribe_breaker_open"),
        0.0,
        "each stream was of use"
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_stalls_is_silent_and_left() {
    for options in ["?stall_after=5s", "?stall_after=5s&slow=0.5"] {
        let provider = Sequence::new([Step::fake(options), Step::fake("")]);
        let rig = Rig::new(provider, BridgeConfig::default());
        let mut speaker = rig.speaker(1);
        speaker.talk(seconds(5)).await;
        let stalled = Instant::now();
        while !speaker.ledger.states.contains(&ProviderState::Silent) {
            speaker.talk(Duration::from_millis(100)).await;
            assert!(stalled.elapsed() < seconds(20));
        }
        assert_eq!(
            rig.series("transcribe_provider_reconnects_total", "silent"),
            1.0
        );
        speaker.talk(seconds(10)).await;
        let ledger = speaker.finish().await;
        ledger.assert_all_heard();
        assert_eq!(ledger.states.last(), Some(&ProviderState::Ok));
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_stalls_in_silence_is_left_too() {
    let provider = Sequence::new([Step::fake("?stall_after=5s"), Step::fake("")]);
    let rig = Rig::new(provider, BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(2)).await;
    speaker.be_silent(seconds(30)).await;
    assert_eq!(
        rig.series("transcribe_provider_reconnects_total", "half_open"),
        1.0
    );
    speaker.talk(seconds(5)).await;
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert_eq!(
        ledger.heard().len(),
        70,
        "only silence was too much for the buffer: {:?}",
        ledger.gaps
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_ignores_the_end_is_closed_after_five_seconds() {
    let rig = Rig::fake("?finish=ignore&final=1m");
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(3)).await;
    let began = Instant::now();
    let ledger = speaker.finish().await;
    assert!(began.elapsed() <= seconds(6), "{:?}", began.elapsed());
    ledger.assert_complete();
    assert_eq!(ledger.cut, 0, "its final came");

    let provider = Sequence::new([Step::fake("?stall_after=3150ms&final=1m&delay=0ms")]);
    let rig = Rig::new(provider, BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(Duration::from_millis(3200)).await;
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert_eq!(ledger.cut, 1, "its last partial is kept");
    assert!(ledger.heard().len() >= 25, "{ledger:?}");
    assert!(
        ledger.missed_ms() <= 300 && ledger.missed_ms() > 0,
        "what no partial covers is a gap: {ledger:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn garbage_is_ignored_and_too_much_of_it_is_left() {
    let rig = Rig::fake("?garbage=1%&seed=7");
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(60)).await;
    speaker.finish().await.assert_all_heard();
    assert!(rig.metric("transcribe_provider_errors_total") > 0.0);
    assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);

    let rig = Rig::fake("?garbage=20%&seed=7");
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(60)).await;
    speaker.finish().await.assert_all_heard();
    assert!(rig.series("transcribe_provider_reconnects_total", "garbage") >= 1.0);
}
