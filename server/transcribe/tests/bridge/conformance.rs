//! What all providers must do alike: the same suite over all four, over real sockets and pipes.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use voicematch_transcribe::{
    bridge::{Heard, ProviderState},
    provider::{Event, Input, StreamSpec},
};

use crate::support::{
    PATIENCE, Rig, Speaker, eventually, numbered,
    server::Faults,
    silence,
    subjects::{Fault, Subject, subjects},
};

/// Speaks two and a half times as fast as people do.
async fn talk_fast(speaker: &mut Speaker, chunks: u32) {
    for _ in 0..chunks {
        speaker.say();
        speaker.listen(Duration::from_millis(40)).await;
    }
}

async fn be_silent_fast(speaker: &mut Speaker, chunks: u32) {
    for _ in 0..chunks {
        speaker.bridge.push(silence());
        speaker.ledger.silent.insert(speaker.next);
        speaker.next += 1;
        speaker.listen(Duration::from_millis(40)).await;
    }
}

/// Runs the same for all providers at the same time.
async fn for_all<F: Future<Output = ()>>(fault: Fault, run: impl Fn(Rig, &'static str) -> F) {
    let subjects = subjects(fault).await;
    let runs = subjects.iter().map(|subject| {
        let rig = Rig::patient(Arc::clone(&subject.provider));
        run(rig, subject.provider.name())
    });
    join_all(runs).await;
    subjects.iter().for_each(Subject::check);
}

#[tokio::test]
async fn every_word_comes_once_in_order_and_in_time() {
    for_all(Fault::default(), |rig, name| async move {
        let mut speaker = rig.speaker(5);
        talk_fast(&mut speaker, 95).await;
        let ledger = speaker.finish().await;
        ledger.assert_all_heard();
        assert!(ledger.partials > 0, "{name}");
        assert_eq!(ledger.finals.len(), 5, "{name}: {ledger:?}");
        assert_eq!(ledger.cut, 0, "{name}");
        assert!(
            ledger
                .finals
                .iter()
                .all(|said| said.words.len() == said.text.split(' ').count()),
            "{name}"
        );
        assert!(
            ledger
                .finals
                .iter()
                .all(|said| said.confidence.is_some_and(|confidence| confidence > 0.8)),
            "{name}"
        );
        assert_eq!(
            rig.metric("transcribe_provider_reconnects_total"),
            0.0,
            "{name}"
        );
        assert_eq!(
            rig.metric("transcribe_provider_errors_total"),
            0.0,
            "{name}"
        );
        assert_eq!(ledger.jobs.len(), usize::from(name == "gladia"));
    })
    .await;
}

#[tokio::test]
async fn silence_between_utterances_and_pauses_lose_no_word() {
    for_all(Fault::default(), |rig, name| async move {
        let mut speaker = rig.speaker(5);
        talk_fast(&mut speaker, 7).await;
        be_silent_fast(&mut speaker, 8).await;
        talk_fast(&mut speaker, 13).await;
        speaker.bridge.pause();
        speaker
            .hear(|heard| *heard == Heard::State(ProviderState::Paused))
            .await;
        assert_eq!(
            speaker.ledger.heard().len(),
            20,
            "{name}: the last word before the pause is there"
        );
        talk_fast(&mut speaker, 11).await;
        be_silent_fast(&mut speaker, 3).await;
        let ledger = speaker.finish().await;
        ledger.assert_all_heard();
        assert_eq!(ledger.finals.len(), 3, "{name}: {ledger:?}");
        assert_eq!(
            rig.metric("transcribe_provider_reconnects_total"),
            0.0,
            "{name}"
        );
    })
    .await;
}

#[tokio::test]
async fn streams_lost_in_mid_utterance_lose_nothing() {
    let close = Faults {
        close_after: Some((27, 1011)),
        ..Faults::default()
    };
    let fault = Fault {
        fake: "?close_after=2s",
        program: "exit_after=27",
        server: vec![close],
    };
    for_all(fault, |rig, name| async move {
        let mut speaker = rig.speaker(5);
        let began = Instant::now();
        while rig.metric("transcribe_provider_reconnects_total") < 10.0 {
            assert!(began.elapsed() < 3 * PATIENCE, "{name}");
            // Slower than others: a third of it is heard twice, and new streams take their time.
            speaker.say();
            speaker.listen(Duration::from_millis(75)).await;
        }
        let ledger = speaker.finish().await;
        ledger.assert_all_heard();
        let reason = if name == "command" {
            "crashed"
        } else {
            "closed"
        };
        assert!(
            rig.series("transcribe_provider_reconnects_total", reason) >= 10.0,
            "{name}"
        );
    })
    .await;
}

#[tokio::test]
async fn connections_that_break_lose_nothing() {
    let faults = vec![
        Faults {
            drop_after: Some(33),
            ..Faults::default()
        },
        Faults::default(),
    ];
    let fault = Fault {
        server: faults,
        ..Fault::default()
    };
    for_all(fault, |rig, name| async move {
        let mut speaker = rig.speaker(5);
        talk_fast(&mut speaker, 60).await;
        speaker.finish().await.assert_all_heard();
        if ["vosk", "gladia"].contains(&name) {
            assert_eq!(
                rig.metric("transcribe_provider_reconnects_total"),
                1.0,
                "{name}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_stops_reading_is_noticed() {
    let faults = vec![
        Faults {
            stall_after: Some(15),
            ..Faults::default()
        },
        Faults::default(),
    ];
    let fault = Fault {
        fake: "?stall_after=400ms",
        program: "stall_after=15",
        server: faults,
    };
    for_all(fault, |rig, name| async move {
        let mut speaker = rig.speaker(5);
        let began = Instant::now();
        while !speaker.ledger.states.contains(&ProviderState::Silent) {
            talk_fast(&mut speaker, 1).await;
            assert!(began.elapsed() < PATIENCE, "{name}");
        }
        assert_eq!(
            rig.series("transcribe_provider_reconnects_total", "silent"),
            1.0,
            "{name}"
        );
        // Two seconds of audio later: each next stream of these stalls too.
        talk_fast(&mut speaker, 20).await;
        speaker.finish().await.assert_complete();
    })
    .await;
}

#[tokio::test]
async fn garbage_and_long_lines_are_ignored_and_too_many_are_left() {
    let faults = Faults {
        garbage_each: Some(7),
        ..Faults::default()
    };
    let fault = Fault {
        fake: "?garbage=8%&seed=3",
        program: "garbage_each=7",
        server: vec![faults],
    };
    for_all(fault, |rig, name| async move {
        let mut speaker = rig.speaker(5);
        talk_fast(&mut speaker, 60).await;
        assert_eq!(
            rig.metric("transcribe_provider_reconnects_total"),
            0.0,
            "{name}"
        );
        let began = Instant::now();
        while rig.metric("transcribe_provider_errors_total") < 1.0 {
            speaker.listen(Duration::from_millis(20)).await;
            assert!(began.elapsed() < PATIENCE, "{name}");
        }
        while rig.metric("transcribe_provider_reconnects_total") < 1.0 {
            assert!(began.elapsed() < 3 * PATIENCE, "{name}");
            talk_fast(&mut speaker, 5).await;
        }
        assert_eq!(
            rig.series("transcribe_provider_reconnects_total", "garbage"),
            1.0,
            "{name}"
        );
        speaker.finish().await.assert_all_heard();
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_does_not_end_is_closed() {
    let faults = Faults {
        ignores_end: true,
        ..Faults::default()
    };
    let fault = Fault {
        fake: "?finish=ignore",
        program: "hang=1 swallow=1",
        server: vec![faults],
    };
    for_all(fault, |rig, name| async move {
        let mut speaker = rig.speaker(5);
        talk_fast(&mut speaker, 28).await;
        let is_late = |heard: &Heard| matches!(heard, Heard::Partial { utterance, .. } if utterance.end_ms >= 2600);
        if !speaker.ledger.has_partial_at(2600) {
            speaker.hear(is_late).await;
        }
        let ledger = speaker.finish().await;
        ledger.assert_complete();
        // The last words come as a partial that is kept; what was said after it is a gap.
        let expected = if name == "fake" { 0 } else { 1 };
        assert_eq!(ledger.cut, expected, "{name}: {ledger:?}");
        assert!(ledger.missed_ms() <= 200, "{name}: {ledger:?}");
    })
    .await;
}

#[tokio::test]
async fn a_link_accepts_all_and_ends_by_itself_and_goes_when_it_is_dropped() {
    let subjects = subjects(Fault::default()).await;
    for subject in &subjects {
        let name = subject.provider.name();
        let spec = StreamSpec {
            language: Some("en-GB".to_owned()),
            resume: None,
        };
        let mut link = subject.provider.open(spec).await.expect("it is there");
        let (mut accepted, mut finals) = (0, 0);
        for chunk in 0..30 {
            link.audio
                .send(Input::Pcm(numbered(1, chunk)))
                .await
                .expect("it listens");
        }
        link.audio.send(Input::Finish).await.expect("it listens");
        while let Some(event) = timeout(PATIENCE, link.events.recv())
            .await
            .expect("it ends")
        {
            match event {
                Event::Accepted { bytes } => {
                    assert!(bytes >= accepted, "{name}");
                    accepted = bytes;
                }
                Event::Final(said) => {
                    finals += 1;
                    assert!(
                        said.start_ms >= 0 && said.end_ms <= 3000,
                        "{name}: {said:?}"
                    );
                }
                Event::Ready | Event::Partial(_) => {}
                Event::Garbage(_) | Event::Lost(_) => panic!("{name}: {event:?}"),
            }
        }
        assert_eq!((accepted, finals), (30 * 3200, 2), "{name}");

        let link = subject
            .provider
            .open(StreamSpec::default())
            .await
            .expect("it is there");
        link.audio
            .send(Input::Pcm(numbered(1, 0)))
            .await
            .expect("it listens");
        drop(link);
        if let Some(server) = &subject.vosk {
            let seen = &server.seen;
            eventually("both connections have come and gone", || {
                seen.connections.load(SeqCst) == 2 && seen.open.load(SeqCst) == 0
            })
            .await;
        }
    }
}

#[tokio::test]
async fn gladia_is_told_the_language() {
    let subjects = subjects(Fault::default()).await;
    for language in [Some("en-GB".to_owned()), None] {
        let spec = StreamSpec {
            language,
            resume: None,
        };
        drop(subjects[3].provider.open(spec).await.expect("it is there"));
    }
    let languages = subjects[3]
        .gladia
        .as_ref()
        .map(|server| server.state.languages.lock().expect("unshared").clone());
    assert_eq!(
        languages,
        Some(vec![serde_json::json!(["en"]), serde_json::json!([])])
    );
}
