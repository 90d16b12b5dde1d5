//! Providers over TLS: whose certificate is known, and whose is not.

use std::{sync::Arc, time::Duration};

use rustls::RootCertStore;
use voicematch_transcribe::{
    bridge::{BridgeConfig, Failure, Heard},
    provider::{Provider, Secret, gladia::Gladia, vosk::Vosk},
};

use crate::{
    log::Log,
    support::{Rig, server::Plan, tls::TlsFront, vosk::VoskServer},
};

async fn vosk() -> (VoskServer, TlsFront) {
    let vosk = VoskServer::start(Plan::default()).await;
    let front = TlsFront::start(vosk.url.trim_start_matches("ws://")).await;
    (vosk, front)
}

#[tokio::test]
async fn vosk_over_tls_hears_every_word() {
    let (vosk, front) = vosk().await;
    let url = format!("wss://localhost:{}", front.port);
    let provider = Vosk::trusting(&url, front.roots()).expect("it is right");
    let rig = Rig::patient(Arc::new(provider));
    let mut speaker = rig.speaker(1);
    for _ in 0..50 {
        speaker.say();
        speaker.listen(Duration::from_millis(25)).await;
    }
    speaker.finish().await.assert_all_heard();
    assert_eq!(
        *vosk.seen.mistakes.lock().expect("nobody panics with it"),
        [""; 0]
    );
}

#[tokio::test]
async fn an_unknown_certificate_is_told_counted_and_logged_once() {
    let (_vosk, front) = vosk().await;
    let key = Secret::new("planted-key").expect("it is right");
    let nobody = RootCertStore::empty;
    let (vosk, gladia) = (
        Vosk::trusting(&format!("wss://localhost:{}", front.port), nobody()),
        Gladia::trusting(&format!("https://localhost:{}", front.port), key, nobody()),
    );
    let providers: [Arc<dyn Provider>; 2] = [
        Arc::new(vosk.expect("it is right")),
        Arc::new(gladia.expect("it is right")),
    ];
    for provider in providers {
        let (log, _guard) = Log::capture();
        let rig = Rig::new(provider, BridgeConfig::default());
        let mut speaker = rig.speaker(1);
        speaker.say();
        speaker
            .hear(|heard| *heard == Heard::Failed(Failure::ProviderDown))
            .await;
        assert_eq!(rig.metric("transcribe_breaker_open"), 1.0);
        assert!(rig.metric("transcribe_provider_errors_total") >= 5.0);
        let text = log.text();
        let why: Vec<_> = text
            .lines()
            .filter(|line| line.contains("the provider cannot be reached"))
            .collect();
        assert_eq!(why.len(), 1, "{text}");
        assert!(
            why[0].contains("WARN") && why[0].contains("UnknownIssuer"),
            "{why:?}"
        );
        assert!(!why[0].contains("planted"), "{why:?}");
        let ledger = speaker.finish().await;
        ledger.assert_complete();
    }
}
