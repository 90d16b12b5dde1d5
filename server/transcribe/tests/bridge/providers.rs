//! Providers by their names, keys by their files, and sockets without an end.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{RootCertStore, ServerConfig, crypto::ring};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use voicematch_transcribe::provider::{
    Event, Input, LossReason, OpenError, Provider, Secret, StreamSpec, gladia::Gladia, parse,
    read_key, vosk::Vosk,
};

use crate::support::{
    PATIENCE, Rig, numbered,
    server::{Faults, Plan},
    vosk::VoskServer,
};

fn key() -> Option<Secret> {
    Secret::new("a-key")
}

fn error(text: &str, key: Option<Secret>) -> String {
    match parse(text, key) {
        Ok(provider) => panic!("{text} is {}", provider.name()),
        Err(error) => error,
    }
}

#[test]
fn providers_are_named() {
    for (text, name) in [
        ("fake", "fake"),
        ("fake:", "fake"),
        ("fake:?delay=80ms&partial=300ms&final=2s", "fake"),
        ("command:sh -c true", "command"),
        ("vosk:ws://127.0.0.1:2700", "vosk"),
        ("gladia:http://127.0.0.1:1", "gladia"),
    ] {
        match parse(text, key()) {
            Ok(provider) => assert_eq!(provider.name(), name),
            Err(error) => panic!("{text}: {error}"),
        }
    }
}

#[test]
fn what_is_wrong_is_named_and_what_is_nearest() {
    for (text, part) in [
        ("fkae", "\"fake\" is nearest"),
        ("whisper", "fake, command, vosk, gladia"),
        ("fake:?dleay=80ms", "\"delay\" is nearest"),
        ("fake:?delay=80", "80ms"),
        ("vosk", "vosk:ws://HOST:PORT"),
        ("vosk:http://127.0.0.1", "vosk:ws://HOST:PORT"),
        ("command:", "PROGRAM"),
        ("command:no-such-program-here", "no-such-program-here"),
        ("gladia:ftp://x", "https"),
    ] {
        let error = error(text, key());
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(error("gladia", None).contains("--gladia-key-file"));
}

fn file(folder: &Path, content: &[u8], mode: u32) -> PathBuf {
    let path = folder.join("key");
    let _ = fs::remove_file(&path);
    fs::write(&path, content).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    path
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().expect("there is a disk");
    for mode in [0o600, 0o400, 0o640] {
        assert!(
            read_key(&file(folder.path(), b"planted\n", mode)).is_ok(),
            "{mode:o}"
        );
    }
    for mode in [0o644, 0o604, 0o602, 0o601] {
        let error = read_key(&file(folder.path(), b"planted\n", mode))
            .err()
            .unwrap_or_default();
        assert!(
            error.contains("chmod 600") && !error.contains("planted"),
            "{mode:o}: {error}"
        );
    }
    for wrong in [
        &b""[..],
        b"\n",
        b"two words",
        b"\xff\xfe",
        "sch\u{fc}ssel".as_bytes(),
        &[b'x'; 5000],
    ] {
        let error = read_key(&file(folder.path(), wrong, 0o600))
            .err()
            .unwrap_or_default();
        assert!(error.contains("key"), "{error}");
        assert!(!error.contains("two words"), "{error}");
    }
    assert!(read_key(folder.path()).is_err());
    assert!(read_key(&folder.path().join("none")).is_err());
}

/// Accepts one WebSocket and reads and says nothing after that.
async fn silent_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("somebody comes");
        let ws = tokio_tungstenite::accept_async(tcp)
            .await
            .expect("a handshake");
        std::future::pending::<()>().await;
        drop(ws);
    });
    format!("ws://{address}")
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_half_open() {
    let provider = Vosk::parse(&silent_server().await).expect("it is right");
    let asked = Instant::now();
    let mut link = provider
        .open(StreamSpec::default())
        .await
        .expect("it is there");
    assert_eq!(link.events.recv().await, Some(Event::Ready));
    // No audio: only pings tell. It was opened between the two: the machine may be busy.
    tokio::time::pause();
    let open = Instant::now();
    assert_eq!(
        link.events.recv().await,
        Some(Event::Lost(LossReason::HalfOpen))
    );
    let after = (asked.elapsed(), open.elapsed());
    assert!(after.0 >= Duration::from_secs(20), "{after:?}");
    assert!(after.1 < Duration::from_secs(22), "{after:?}");
}

#[tokio::test]
async fn a_connection_that_answers_pings_stays_open() {
    let server = VoskServer::start(Plan::default()).await;
    let provider = Vosk::parse(&server.url).expect("it is right");
    let mut link = provider
        .open(StreamSpec::default())
        .await
        .expect("it is there");
    assert_eq!(link.events.recv().await, Some(Event::Ready));
    tokio::time::pause();
    let nothing = timeout(Duration::from_secs(120), link.events.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    tokio::time::resume();
    link.audio
        .send(Input::Pcm(numbered(1, 0)))
        .await
        .expect("it listens");
    let answer = timeout(PATIENCE, link.events.recv())
        .await
        .expect("it answers");
    assert_eq!(answer, Some(Event::Accepted { bytes: 3200 }));
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let vosk = Vosk::parse(&format!("ws://{address}")).expect("it is right");
    assert!(matches!(
        vosk.open(StreamSpec::default()).await,
        Err(OpenError::Unreachable)
    ));
    let gladia = Gladia::parse(&format!("http://{address}"), key().expect("it is right"))
        .expect("it is right");
    assert!(matches!(
        gladia.open(StreamSpec::default()).await,
        Err(OpenError::Unreachable)
    ));
}

/// A server of HTTPS that answers 401 to one request, and what it was sent.
async fn secure_server() -> (String, RootCertStore, tokio::task::JoinHandle<String>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("it can be made");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("it is right");
    let key = rustls_pki_types::PrivateKeyDer::try_from(signing_key.serialize_der())
        .expect("it is right");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_no_client_auth();
    let config = config
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("it is right");
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback is there");
    let port = listener.local_addr().expect("it is bound").port();
    let served = tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (tcp, _) = listener.accept().await.expect("somebody comes");
            let Ok(mut tls) = acceptor.accept(tcp).await else {
                continue;
            };
            let mut bytes = vec![0; 8192];
            let length = tls.read(&mut bytes).await.expect("a request");
            let answer = b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n";
            tls.write_all(answer).await.expect("it is read");
            let _ = tls.shutdown().await;
            return String::from_utf8_lossy(&bytes[..length]).into_owned();
        }
    });
    (format!("https://localhost:{port}"), roots, served)
}

#[tokio::test]
async fn the_key_goes_only_to_a_server_whose_certificate_is_right() {
    let (url, roots, served) = secure_server().await;
    let stranger = Gladia::trusting(&url, key().expect("it is right"), RootCertStore::empty())
        .expect("it is right");
    assert!(matches!(
        stranger.open(StreamSpec::default()).await,
        Err(OpenError::Unreachable)
    ));
    let known = Gladia::trusting(&url, key().expect("it is right"), roots).expect("it is right");
    assert!(matches!(
        known.open(StreamSpec::default()).await,
        Err(OpenError::Refused(401))
    ));
    let request = served.await.expect("it ends");
    assert!(request.starts_with("POST /v2/live HTTP/1.1"), "{request}");
    assert!(request.contains("x-gladia-key: a-key"), "{request}");
}

#[tokio::test]
async fn a_vosk_that_fails_at_the_end_is_asked_once_more() {
    let fails = Faults {
        // It says nothing of the last words.
        close_at_end: Some(1011),
        ..Faults::default()
    };
    let server = VoskServer::start(Plan::new([fails, Faults::default()])).await;
    let provider = Vosk::parse(&server.url).expect("it is right");
    let rig = Rig::patient(Arc::new(provider));
    let mut speaker = rig.speaker(1);
    speaker.talk(Duration::from_millis(500)).await;
    speaker.finish().await.assert_all_heard();
    assert_eq!(server.seen.connections.load(SeqCst), 2);
}
