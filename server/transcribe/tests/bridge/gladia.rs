//! What only Gladia has: sessions that go on after a lost connection, statuses, a key.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use voicematch_transcribe::{
    bridge::{Failure, Heard},
    provider::{OpenError, Secret, gladia::Gladia},
};

use crate::{
    log::Log,
    support::{
        Rig, Speaker, eventually,
        gladia::{GladiaServer, KEY, TOKEN},
        server::{Faults, Plan},
    },
};

fn key() -> Secret {
    Secret::new(KEY).expect("it is right")
}

async fn rig(faults: impl IntoIterator<Item = Faults>) -> (Rig, GladiaServer) {
    let server = GladiaServer::start(Plan::new(faults)).await;
    let provider = Gladia::parse(&server.url, key()).expect("it is right");
    (Rig::patient(Arc::new(provider)), server)
}

async fn talk_fast(speaker: &mut Speaker, chunks: u32) {
    for _ in 0..chunks {
        speaker.say();
        speaker.listen(Duration::from_millis(25)).await;
    }
}

async fn talk_slowly(speaker: &mut Speaker, chunks: u32) {
    for _ in 0..chunks {
        speaker.say();
        speaker.listen(Duration::from_millis(60)).await;
    }
}

#[tokio::test]
async fn a_lost_connection_goes_on_in_the_same_session() {
    let lost = Faults {
        close_after: Some((27, 1006)),
        ..Faults::default()
    };
    // The last acknowledgments are lost: audio that was heard is not sent again.
    let unacknowledged = Faults {
        close_after: Some((27, 4900)),
        unacknowledged_after: Some(21),
        ..Faults::default()
    };
    let (rig, server) = rig([
        lost.clone(),
        unacknowledged.clone(),
        lost,
        unacknowledged,
        Faults::default(),
    ])
    .await;
    let mut speaker = rig.speaker(9);
    talk_slowly(&mut speaker, 150).await;
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    assert_eq!(ledger.cut, 0);
    assert_eq!(
        (
            server.state.posts.load(SeqCst),
            server.state.connections.load(SeqCst)
        ),
        (1, 5)
    );
    assert_eq!(ledger.jobs, ["job-1"]);
    // Each time 20 ms are sent to find out what has arrived.
    let probes: Vec<_> = ledger
        .pieces
        .iter()
        .map(|(job, track)| job.checked_sub(*track))
        .collect();
    assert_eq!(probes, [20, 40, 60, 80].map(Some));
}

#[tokio::test]
async fn what_was_said_while_the_connection_was_lost_is_a_gap() {
    let mute = Faults {
        close_after: Some((27, 1011)),
        mute_after: Some(13),
        ..Faults::default()
    };
    let (rig, server) = rig([mute.clone(), mute, Faults::default()]).await;
    let mut speaker = rig.speaker(9);
    talk_slowly(&mut speaker, 90).await;
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert!(ledger.cut >= 1, "{ledger:?}");
    assert!((600..4000).contains(&ledger.missed_ms()), "{ledger:?}");
    assert_eq!(server.state.posts.load(SeqCst), 1);
    assert_eq!(ledger.heard().last(), Some(&89));
}

#[tokio::test]
async fn a_session_that_is_gone_is_begun_anew() {
    for code in [1000, 1001, 4408] {
        let closed = Faults {
            close_after: Some((27, code)),
            ..Faults::default()
        };
        let (rig, server) = rig([closed, Faults::default()]).await;
        let mut speaker = rig.speaker(9);
        talk_fast(&mut speaker, 50).await;
        let ledger = speaker.finish().await;
        ledger.assert_all_heard();
        assert_eq!(server.state.posts.load(SeqCst), 2, "{code}");
        assert_eq!(ledger.jobs, ["job-1", "job-2"]);
    }
    // It says so only when the connection comes back.
    let closed = Faults {
        close_after: Some((27, 1011)),
        ..Faults::default()
    };
    let (rig, server) = rig([closed, Faults::default()]).await;
    let mut speaker = rig.speaker(9);
    talk_fast(&mut speaker, 27).await;
    while rig.metric("transcribe_provider_reconnects_total") < 1.0 {
        speaker.listen(Duration::from_millis(5)).await;
    }
    server.state.forget();
    talk_fast(&mut speaker, 30).await;
    speaker.finish().await.assert_all_heard();
    assert_eq!(server.state.posts.load(SeqCst), 2);
}

#[tokio::test]
async fn another_language_is_another_session_also_after_a_loss() {
    let lost = Faults {
        close_after: Some((27, 1006)),
        ..Faults::default()
    };
    let (rig, server) = rig([lost, Faults::default()]).await;
    let mut speaker = rig.speaker(9);
    talk_fast(&mut speaker, 27).await;
    while rig.metric("transcribe_provider_reconnects_total") < 1.0 {
        speaker.listen(Duration::from_millis(5)).await;
    }
    speaker.bridge.speak(Some("de".to_owned()));
    talk_fast(&mut speaker, 30).await;
    speaker.bridge.speak(Some("fr".to_owned()));
    talk_fast(&mut speaker, 10).await;
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    assert_eq!(ledger.jobs, ["job-1", "job-2", "job-3"]);
    let languages = server
        .state
        .languages
        .lock()
        .expect("nobody panics with it");
    let expected = ["en", "de", "fr"].map(|name| serde_json::json!([name]));
    assert_eq!(*languages, expected);
}

#[tokio::test]
async fn a_refused_key_is_told_once_and_stands_nowhere() {
    let (log, _guard) = Log::capture();
    let mut seen = String::new();
    for status in [401, 402, 403] {
        let (rig, server) = rig([]).await;
        server
            .state
            .refusals
            .lock()
            .expect("nobody panics with it")
            .push_back(status);
        let mut speakers: Vec<_> = (0..5).map(|track| rig.speaker(track)).collect();
        speakers[0].say();
        speakers[0]
            .hear(|heard| *heard == Heard::Failed(Failure::ProviderDown))
            .await;
        for speaker in &mut speakers[1..] {
            speaker.say();
            speaker
                .hear(|heard| *heard == Heard::Failed(Failure::ProviderDown))
                .await;
        }
        assert_eq!(server.state.posts.load(SeqCst), 1, "the others do not try");
        rig.bridges.set_key(key());
        for mut speaker in speakers {
            talk_fast(&mut speaker, 2).await;
            let ledger = speaker.finish().await;
            ledger.assert_all_heard();
            seen += &format!("{ledger:?}");
        }
        seen += &prometheus::TextEncoder::new()
            .encode_to_string(&rig.registry.gather())
            .expect("it can be written");
    }
    assert_eq!(log.text().matches("the provider refuses").count(), 3);
    for secret in [KEY, TOKEN] {
        assert!(!log.text().contains(secret), "{}", log.text());
        assert!(!seen.contains(secret), "{seen}");
    }
}

#[tokio::test]
async fn a_key_that_the_service_repeats_and_a_refused_websocket_stand_nowhere() {
    let (log, _guard) = Log::capture();
    // A wrong key that the service repeats, and a WebSocket that is refused.
    let (rig, _server) = rig([
        Faults {
            refuse: Some(403),
            ..Faults::default()
        },
        Faults::default(),
    ])
    .await;
    rig.bridges
        .set_key(Secret::new("wrong-planted-key").expect("it is right"));
    let mut speaker = rig.speaker(1);
    speaker.say();
    speaker
        .hear(|heard| *heard == Heard::Failed(Failure::ProviderDown))
        .await;
    rig.bridges.set_key(key());
    talk_fast(&mut speaker, 21).await;
    speaker.hear_final().await;
    speaker.finish().await.assert_complete();
    let log = log.text();
    assert_eq!(log.matches("the provider refuses").count(), 1, "{log}");
    for secret in [KEY, TOKEN, "wrong-planted-key", "c1-00000"] {
        assert!(!log.contains(secret), "the log has {secret}: {log}");
    }
}

#[tokio::test]
async fn each_status_is_answered_as_it_should_be() {
    let (rig, server) = rig([]).await;
    for status in [429, 500, 408, 503] {
        server
            .state
            .refusals
            .lock()
            .expect("nobody panics with it")
            .push_back(status);
    }
    let mut speaker = rig.speaker(1);
    talk_fast(&mut speaker, 10).await;
    speaker.finish().await.assert_all_heard();
    assert_eq!(server.state.posts.load(SeqCst), 5);
    assert_eq!(rig.metric("transcribe_breaker_open"), 0.0);
}

#[tokio::test]
async fn the_result_of_a_job_can_be_fetched_and_deleted() {
    let (rig, server) = rig([]).await;
    let mut speaker = rig.speaker(1);
    talk_fast(&mut speaker, 30).await;
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    let provider = rig.bridges.provider();
    let stored = provider
        .transcript("job-1")
        .await
        .expect("it is there")
        .expect("it is kept");
    let texts: Vec<_> = stored
        .iter()
        .map(|said| (said.start_ms, said.end_ms, said.text.as_str()))
        .collect();
    let told: Vec<_> = ledger
        .finals
        .iter()
        .map(|said| (said.start_ms, said.end_ms, said.text.as_str()))
        .collect();
    assert_eq!(texts, told);
    assert_eq!(provider.delete("job-1").await, Ok(()));
    assert_eq!(provider.transcript("job-1").await, Ok(None));
    assert_eq!(provider.delete("job-1").await, Ok(()), "again is no error");
    assert!(matches!(
        provider.transcript("../x").await,
        Err(OpenError::BadConfig(_))
    ));
    assert_eq!(
        server.state.deleted.lock().expect("unshared").as_slice(),
        ["job-1", "job-1"]
    );
    rig.bridges
        .set_key(Secret::new("wrong").expect("it is right"));
    assert_eq!(
        provider.transcript("job-1").await,
        Err(OpenError::Refused(401))
    );
}

#[tokio::test]
async fn loud_noise_of_which_it_makes_no_word_is_no_gap() {
    let (rig, server) = rig([]).await;
    let mut speaker = rig.speaker(1);
    talk_fast(&mut speaker, 20).await;
    speaker.hear_final().await;
    tokio::time::pause();
    speaker.make_noise(Duration::from_secs(300)).await;
    tokio::time::resume();
    talk_fast(&mut speaker, 20).await;
    speaker.hear_final().await;
    tokio::time::pause();
    speaker.make_noise(Duration::from_secs(120)).await;
    tokio::time::resume();
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    ledger.assert_never_silent();
    assert_eq!(ledger.heard().len(), 40);
    let state = &server.state;
    assert_eq!(
        (state.posts.load(SeqCst), state.connections.load(SeqCst)),
        (1, 1)
    );
    assert_eq!(rig.metric("transcribe_provider_reconnects_total"), 0.0);
}

#[tokio::test]
async fn long_frames_are_sent_in_parts() {
    let (rig, server) = rig([]).await;
    let speaker = rig.speaker(1);
    speaker.bridge.push(vec![1; 32_000].into());
    eventually("all of it is heard", || {
        server.state.heard_bytes("job-1") == 32_000
    })
    .await;
    let ledger = speaker.finish().await;
    assert_eq!(ledger.words(), Vec::<&str>::new());
    assert_eq!(
        server.state.mistakes.lock().expect("unshared").as_slice(),
        Vec::<String>::new().as_slice()
    );
}
