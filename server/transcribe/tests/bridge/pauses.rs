//! Silence, pauses and muted microphones: they cost nothing, and the first word after them is there.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use voicematch_transcribe::bridge::{BridgeConfig, Heard, ProviderState};

use crate::support::{Rig, Sequence, Step};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_opened_without_audio() {
    let provider = Sequence::new([Step::fake("")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.listen(seconds(3600)).await;
    assert_eq!(provider.opens(), 0);
    speaker.finish().await.assert_all_heard();
    assert_eq!(provider.opens(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_of_a_minute_the_first_word_is_there() {
    let provider = Sequence::new([Step::fake("")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(Duration::from_millis(2500)).await;
    speaker.bridge.pause();
    let paused = Instant::now();
    speaker
        .hear(|heard| *heard == Heard::State(ProviderState::Paused))
        .await;
    assert!(paused.elapsed() < seconds(2), "nobody waits for it");
    assert_eq!(
        speaker.ledger.heard().len(),
        25,
        "the last word before it is there"
    );
    speaker.listen(seconds(60)).await;
    assert_eq!(provider.opens(), 1);
    speaker.talk(seconds(3)).await;
    assert_eq!(provider.opens(), 2);
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    assert_eq!(
        ledger.states,
        [ProviderState::Ok, ProviderState::Paused, ProviderState::Ok]
    );
    assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_muted_microphone_costs_nothing() {
    let provider = Sequence::new([Step::fake("")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(1)).await;
    // No `pause`: frames just stop.
    speaker.listen(seconds(19)).await;
    assert_eq!(speaker.ledger.states, [ProviderState::Ok]);
    speaker.listen(seconds(41)).await;
    assert_eq!(
        speaker.ledger.states,
        [ProviderState::Ok, ProviderState::Paused]
    );
    assert_eq!(speaker.ledger.heard().len(), 10);
    speaker.talk(seconds(2)).await;
    speaker.finish().await.assert_all_heard();
    assert_eq!(rig.metric("transcribe_audio_seconds_total"), 3.0);
}

#[tokio::test(start_paused = true)]
async fn audio_that_comes_while_a_stream_ends_is_heard_by_the_next_one() {
    let provider = Sequence::new([Step::fake("?delay=3s"), Step::fake("")]);
    let rig = Rig::new(provider, BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(2)).await;
    speaker.bridge.pause();
    speaker.listen(Duration::from_millis(500)).await;
    speaker.talk(seconds(4)).await;
    speaker.finish().await.assert_all_heard();
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_over_at_once_is_none() {
    let provider = Sequence::new([Step::fake("")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(1)).await;
    speaker.bridge.pause();
    speaker.say();
    speaker.talk(seconds(1)).await;
    speaker.finish().await.assert_all_heard();
    assert_eq!(provider.opens(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_silence_is_passed_on_and_nothing_is_heard() {
    let rig = Rig::fake("");
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(1)).await;
    speaker.be_silent(seconds(3600)).await;
    speaker.talk(seconds(1)).await;
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    assert_eq!(ledger.heard().len(), 20);
    assert_eq!(ledger.states, [ProviderState::Ok]);
    assert_eq!(rig.metric("transcribe_audio_seconds_total"), 3602.0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_lost_in_a_pause_needs_no_other() {
    let provider = Sequence::new([Step::fake("?close_after=12s&final=500ms"), Step::fake("")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(1)).await;
    speaker.listen(seconds(60)).await;
    assert_eq!(
        speaker.ledger.states.last(),
        Some(&ProviderState::Paused),
        "{:?}",
        speaker.ledger
    );
    let opens = provider.opens();
    speaker.listen(seconds(600)).await;
    assert_eq!(provider.opens(), opens);
    speaker.talk(seconds(1)).await;
    speaker.finish().await.assert_all_heard();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_lost_while_it_ends_with_silence_needs_no_other() {
    // Its last answers would come a second after the pause, and it closes before.
    let options = "?close_after=3500ms&final=500ms&delay=1s";
    let provider = Sequence::new([Step::fake(options), Step::fake("")]);
    let rig = Rig::new(Arc::<Sequence>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(1)).await;
    speaker.be_silent(seconds(2)).await;
    speaker.bridge.pause();
    speaker.listen(seconds(60)).await;
    assert_eq!(speaker.ledger.heard().len(), 10);
    assert_eq!(provider.opens(), 1);
    assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);
    speaker.talk(seconds(1)).await;
    speaker.finish().await.assert_all_heard();
}

#[tokio::test(start_paused = true)]
async fn the_first_and_the_last_word_of_each_utterance_are_there() {
    let rig = Rig::fake("?final=10s");
    let mut speaker = rig.speaker(1);
    for _ in 0..20 {
        speaker.talk(seconds(3)).await;
        speaker.be_silent(seconds(2)).await;
    }
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    assert_eq!(ledger.finals.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_is_dropped_ends_its_track() {
    let rig = Rig::fake("");
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(3)).await;
    let crate::support::Speaker {
        bridge,
        mut heard,
        mut ledger,
        next,
        ..
    } = speaker;
    drop(bridge);
    while let Some(heard) = heard.recv().await {
        ledger.note(heard);
    }
    ledger.chunks = next;
    ledger.assert_all_heard();

    let mut speaker = rig.speaker(2);
    speaker.talk(seconds(3)).await;
    let crate::support::Speaker { bridge, heard, .. } = speaker;
    assert_eq!(rig.metric("transcribe_active_bridges"), 1.0);
    drop(heard);
    sleep(seconds(2)).await;
    assert_eq!(
        rig.metric("transcribe_active_bridges"),
        0.0,
        "nobody hears it"
    );
    drop(bridge);
    assert_eq!(rig.bridges.held_bytes(), 0);
}
