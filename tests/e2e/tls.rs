//! TLS without a proxy: every transport, large messages, certificates that change, and clients that do not keep to it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::pki_types::ServerName;
#[cfg(feature = "transcribe")]
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[cfg(feature = "transcribe")]
use crate::support::talk::{Part, Talk, words};
use crate::support::{
    Client, RawSocket, TestServer, Via,
    client::pair_at,
    eventually,
    jwt::{Folder, certificate},
    run,
    tunnel::{Tunnel, connector},
    within,
};

/// How often the server looks at its files.
const LOOKS: Duration = Duration::from_secs(5);

/// A server with a certificate of its own, which is in this file.
async fn server_with(folder: &Folder, more: &[&str]) -> (TestServer, String) {
    let (chain, key) = certificate(folder, "first");
    let flags = ["--tls-cert", &chain, "--tls-key", &key];
    let server = TestServer::start(&[&flags[..], more].concat()).await;
    (server, chain)
}

#[tokio::test]
async fn users_meet_and_talk_over_any_two_transports() {
    let folder = Folder::new("tls-talk");
    let (server, chain) = server_with(&folder, &[]).await;
    let tunnel = Tunnel::to(server.public, &chain).await;
    for first in Via::ALL {
        for second in Via::ALL {
            let (mut one, mut other) = pair_at(tunnel.address, first, second).await;
            one.say("hello").await;
            other.hears("hello").await;
            // More than a TLS record, and than a socket takes at once.
            for n in 0..8 {
                let long = format!("{n}").repeat(60_000);
                other.say(long.clone()).await;
                one.hears(long).await;
            }
        }
    }
}

#[tokio::test]
async fn much_at_once_arrives_whole_and_in_order() {
    let folder = Folder::new("tls-much");
    let flags = ["--outbox-bytes", "16MiB", "--resume-log-bytes", "16MiB"];
    let (server, chain) = server_with(&folder, &flags).await;
    let tunnel = Tunnel::to(server.public, &chain).await;
    for via in [Via::WebSocket, Via::EventStream] {
        let (mut one, mut other) = pair_at(tunnel.address, via, Via::WebSocket).await;
        // Nobody reads meanwhile, so that the socket is full, and is written to by another's thread.
        for n in 0..150 {
            other.say(format!("{n} ").repeat(10_000)).await;
        }
        for n in 0..150 {
            one.hears(format!("{n} ").repeat(10_000)).await;
        }
    }
}

#[tokio::test]
async fn a_lost_connection_is_resumed() {
    let folder = Folder::new("tls-resume");
    let (server, chain) = server_with(&folder, &[]).await;
    let tunnel = Tunnel::to(server.public, &chain).await;
    for via in Via::ALL {
        let (mut one, mut other) = pair_at(tunnel.address, via, Via::WebSocket).await;
        one.cut();
        other.say("are you there?").await;
        one.resume(via).await.unwrap();
        one.hears("are you there?").await;
    }
}

#[cfg(feature = "transcribe")]
#[tokio::test]
async fn what_is_said_is_transcribed_and_a_drain_says_so() {
    let folder = Folder::new("tls-transcribe");
    let state = folder.path("state");
    let flags = ["--transcribe", "fake:?final=1s", "--state-dir", &state];
    let (mut server, chain) = server_with(&folder, &flags).await;
    let tunnel = Tunnel::to(server.public, &chain).await;
    let talk = Talk::create(&server, json!({})).await;
    let (_, token) = talk.let_in(&server, "ann", "speaker").await;
    let connect = async |token: &str| Part::connect_to(tunnel.address, token, "").await.unwrap();
    let (mut host, mut speaker) = (connect(&talk.host).await, connect(&token).await);
    assert_eq!(host.ready["role"], "host");
    speaker.send(json!({"type": "start", "live": false})).await;
    let said = speaker.say(1, 35).await;
    speaker.send(json!({"type": "stop"})).await;
    let mut heard = Vec::new();
    while heard.len() < said.len() {
        heard.extend(words(host.expect("final").await["text"].as_str()));
    }
    assert_eq!(heard, said);
    // More than a frame may have, and more than a record of TLS.
    assert!(speaker.audio(vec![0; 70_000]).await);
    assert_eq!(speaker.closed().await, Some(1009));
    server.process.signal(Signal::TERM);
    assert_eq!(host.closed().await, Some(4000));
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart() {
    let folder = Folder::new("tls-renew");
    let (server, chain) = server_with(&folder, &[]).await;
    let shows = async |certificate: &str| {
        let socket = TcpStream::connect(server.public).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connected = connector(certificate, &[]).connect(name, socket).await;
        connected.is_ok()
    };
    let first = folder.write("copy", &std::fs::read_to_string(&chain).unwrap());
    assert!(shows(&first).await);
    let tunnel = Tunnel::to(server.public, &first).await;
    let mut before = Client::begin_at(tunnel.address, Via::WebSocket).await;
    // A chain whose key has not come yet.
    let (other, key) = certificate(&folder, "second");
    folder.write("first.pem", &std::fs::read_to_string(&other).unwrap());
    eventually("the log says so", async || {
        server
            .process
            .stderr()
            .join("\n")
            .contains("the old one stays")
    })
    .await;
    assert!(shows(&first).await);
    folder.write("first.key", &std::fs::read_to_string(&key).unwrap());
    eventually("the new certificate", async || shows(&other).await).await;
    assert!(!shows(&first).await);
    before.is_heard().await;
}

/// Without the signal each would take half of that time, on average, until the files are looked at.
#[tokio::test]
async fn a_signal_brings_in_certificates_at_once() {
    let folder = Folder::new("tls-signal");
    let (server, _) = server_with(&folder, &[]).await;
    let mut waited = Duration::ZERO;
    for name in ["second", "third", "fourth", "fifth"] {
        let (chain, key) = certificate(&folder, name);
        // The key first: until the chain is there a look finds no pair, and keeps the former one.
        for (new, shown) in [(&key, "first.key"), (&chain, "first.pem")] {
            std::fs::copy(new, folder.path(shown)).unwrap();
        }
        server.process.signal(Signal::HUP);
        let begun = Instant::now();
        eventually("it is shown", async || {
            let socket = TcpStream::connect(server.public).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            connector(&chain, &[]).connect(name, socket).await.is_ok()
        })
        .await;
        waited += begun.elapsed();
    }
    assert!(waited < LOOKS, "{waited:?}");
}

#[tokio::test]
async fn who_does_not_speak_tls_costs_nothing() {
    let folder = Folder::new("tls-plain");
    let (server, chain) = server_with(&folder, &["--handshake-timeout", "500ms"]).await;
    let mut plain = RawSocket::connect(&server).await;
    plain
        .write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let mut said = Vec::new();
    // An alert of TLS, and no answer.
    within("the end", plain.stream.read_to_end(&mut said))
        .await
        .unwrap();
    assert_eq!(said.first(), Some(&0x15));
    let mut silent = RawSocket::connect(&server).await;
    silent.expect_end().await;
    server
        .reaches("connections_refused_total", r#"reason="tls""#, 1.0)
        .await;
    server.reaches("connections_open", "", 0.0).await;
    // HTTP/2 is the proxy's: of what this client offers only HTTP/1.1 is taken.
    let socket = TcpStream::connect(server.public).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector(&chain, &["h2", "http/1.1"])
        .connect(name, socket)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    // An end without a goodbye would be an error.
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn files_that_are_no_certificate_are_named() {
    let folder = Folder::new("tls-files");
    let (chain, key) = certificate(&folder, "one");
    let (_, other) = certificate(&folder, "two");
    let empty = folder.write("empty", "");
    for (chain, key, hint) in [
        (empty.as_str(), key.as_str(), "no certificate"),
        (&chain, &empty, "no private key"),
        (&chain, &other, "not the key of the certificate"),
        ("/nowhere", &key, "--tls-cert: /nowhere"),
    ] {
        let (code, said) = run(&["--tls-cert", chain, "--tls-key", key]).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(hint), "{said}");
    }
}

#[tokio::test]
async fn a_health_check_asks_where_users_do_not_speak_tls() {
    let folder = Folder::new("tls-health");
    let (server, chain) = server_with(&folder, &[]).await;
    let more = format!(
        "tls_cert = {chain:?}\nadmin_listen = \"{}\"\n",
        server.admin
    );
    let file = folder.write("voicematch.toml", &more);
    let args = ["healthcheck", "--config", &file];
    assert_eq!(run(&args).await.0, Some(0));
    server.process.signal(Signal::TERM);
    eventually("the end", async || run(&args).await.0 == Some(1)).await;
}

#[tokio::test]
async fn memory_for_tls_is_counted_and_handshakes_are_short() {
    let folder = Folder::new("tls-memory");
    let (server, chain) = server_with(&folder, &[]).await;
    let tunnel = Tunnel::to(server.public, &chain).await;
    let _user = Client::begin_at(tunnel.address, Via::WebSocket).await;
    eventually("what TLS uses", async || {
        server.metric("buffered_bytes", "").await >= 8192.0
    })
    .await;
    // A ClientHello that says it has 60,000 bytes.
    let mut greedy = RawSocket::connect(&server).await;
    let record = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60][..], &[0; 16_380]].concat();
    greedy.write(&record).await;
    let mut said = Vec::new();
    // Bytes that nobody has read make the end a reset.
    let _ = within("the end", greedy.stream.read_to_end(&mut said)).await;
    server
        .reaches("connections_refused_total", r#"reason="tls""#, 1.0)
        .await;
}
