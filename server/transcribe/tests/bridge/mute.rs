//! A recogniser that takes all audio and says nothing of it.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use voicematch_transcribe::{
    bridge::{BridgeConfig, GapReason, Heard, ProviderState},
    provider::{
        AUDIO_DEPTH, BoxFuture, EVENT_DEPTH, Event, Input, Link, OpenError, Provider, StreamSpec,
    },
};

use crate::support::Rig;

/// A provider that accepts all audio, says no word, and ends in order.
struct Mute {
    /// It says that it is able to hear.
    is_ready: bool,
}

impl Provider for Mute {
    fn name(&self) -> &'static str {
        "command"
    }

    fn open(&self, _spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>> {
        let (audio, mut heard) = mpsc::channel(AUDIO_DEPTH);
        let (said, events) = mpsc::channel(EVENT_DEPTH);
        let is_ready = self.is_ready;
        tokio::spawn(async move {
            if is_ready {
                let _ = said.send(Event::Ready).await;
            }
            let mut bytes = 0;
            while let Some(Input::Pcm(pcm)) = heard.recv().await {
                bytes += pcm.len() as u64;
                let _ = said.send(Event::Accepted { bytes }).await;
            }
        });
        Box::pin(async {
            Ok(Link {
                audio,
                events,
                job: None,
                resume: None,
                already: 0,
            })
        })
    }
}

fn rig(is_ready: bool) -> Rig {
    Rig::new(Arc::new(Mute { is_ready }), BridgeConfig::default())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_recogniser_that_is_not_even_ready_is_never_well_and_what_it_takes_is_a_gap() {
    let rig = rig(false);
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(29)).await;
    assert_eq!(speaker.ledger.states, []);
    speaker.talk(seconds(60)).await;
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert_eq!(ledger.states[0], ProviderState::Silent);
    assert!(
        !ledger.states.contains(&ProviderState::Ok),
        "{:?}",
        ledger.states
    );
    assert!(rig.series("transcribe_provider_reconnects_total", "silent") >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_recogniser_that_says_no_word_to_half_a_minute_of_speech_is_silent() {
    let rig = rig(true);
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(29)).await;
    assert_eq!(speaker.ledger.states, [ProviderState::Ok]);
    speaker.talk(seconds(300)).await;
    let states = [ProviderState::Ok, ProviderState::Silent];
    assert_eq!(speaker.ledger.states, states);
    speaker.bridge.pause();
    speaker
        .hear(|heard| *heard == Heard::State(ProviderState::Paused))
        .await;
    // Another stream does not make it well.
    speaker.talk(seconds(2)).await;
    assert_eq!(
        speaker.ledger.states.last(),
        Some(&ProviderState::Silent),
        "{:?}",
        speaker.ledger.states
    );
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    let lost = GapReason::ProviderLost;
    assert_eq!(ledger.gaps, [(0..329_000, lost), (329_000..331_000, lost)]);
    // It may be noise: a new stream for it would cost the provider more than it helps.
    assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn to_silence_and_a_little_noise_nothing_need_be_said() {
    for is_ready in [true, false] {
        let rig = rig(is_ready);
        let mut speaker = rig.speaker(1);
        speaker.be_silent(seconds(600)).await;
        if is_ready {
            speaker.talk(seconds(20)).await;
            for _ in 0..10 {
                speaker.be_silent(seconds(60)).await;
                speaker.talk(seconds(4)).await;
            }
        }
        let ledger = speaker.finish().await;
        assert_eq!(ledger.gaps, []);
        let states: &[_] = if is_ready { &[ProviderState::Ok] } else { &[] };
        assert_eq!(ledger.states, states);
        assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_loud_noise_is_no_gap_and_no_reason_for_another_stream() {
    let rig = rig(true);
    let mut speaker = rig.speaker(1);
    speaker.make_noise(seconds(3_600)).await;
    // It goes on, and so does the speaker.
    speaker.talk(seconds(20)).await;
    speaker.make_noise(seconds(600)).await;
    let ledger = speaker.finish().await;
    assert_eq!(ledger.gaps, []);
    assert_eq!(ledger.words(), Vec::<&str>::new());
    assert_eq!(ledger.states, [ProviderState::Ok]);
    assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);
    assert_eq!(rig.metric("transcribe_gap_seconds_total"), 0.0);
    // Nothing of it was sent twice.
    assert_eq!(rig.metric("transcribe_audio_seconds_total"), 4_220.0);
}

#[tokio::test(start_paused = true)]
async fn who_speaks_beside_a_fan_and_is_not_heard_is_told_so() {
    let rig = rig(true);
    let mut speaker = rig.speaker(1);
    for _ in 0..10 {
        speaker.make_noise(seconds(10)).await;
        speaker.talk(seconds(10)).await;
    }
    let (ok, silent) = (ProviderState::Ok, ProviderState::Silent);
    assert_eq!(speaker.ledger.states, [ok, silent]);
    let ledger = speaker.finish().await;
    ledger.assert_complete();
}

#[tokio::test(start_paused = true)]
async fn a_word_makes_it_well_again() {
    let rig = Rig::fake("?partial=40s&final=40s");
    let mut speaker = rig.speaker(1);
    speaker.talk(seconds(50)).await;
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    let (ok, silent) = (ProviderState::Ok, ProviderState::Silent);
    assert_eq!(ledger.states, [ok, silent, ok]);
}
