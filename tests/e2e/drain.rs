//! The end of a server: who is told what, who may stay, and the exit code.

use std::{io::ErrorKind, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{TestServer, User, eventually, pair};

/// Sends `signal` and waits until the server has stopped accepting.
async fn begin(server: &TestServer, signal: Signal) {
    server.process.signal(signal);
    eventually("the server is no longer ready", async || {
        server.admin("/readyz").await.status == 503
    })
    .await;
}

#[tokio::test]
async fn an_idle_server_ends_at_once_with_success() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = TestServer::start(&["--drain-timeout", "1h"]).await;
        server.process.signal(signal);
        assert_eq!(server.process.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn draining_lets_rooms_finish_and_sends_the_others_away() {
    let mut server = TestServer::start(&["--drain-timeout", "8s"]).await;
    let (mut first, mut second) = pair(&server).await;
    let mut idle = User::connect(&server).await;
    let mut waiting = User::connect(&server).await;
    waiting.wait().await;
    assert_eq!(server.admin("/readyz").await.status, 200);
    begin(&server, Signal::TERM).await;
    assert_eq!(server.admin("/livez").await.status, 200);

    for user in [&mut first, &mut second, &mut idle, &mut waiting] {
        let draining = user.expect("draining").await;
        let reconnect_in = draining["reconnect_in_ms"].as_u64().unwrap();
        assert!(reconnect_in < 4000, "{draining}");
    }
    eventually("nobody can connect any more", async || {
        TcpStream::connect(server.public)
            .await
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
    assert_eq!(idle.expect_close().await, 4000);
    assert_eq!(waiting.expect_close().await, 4000);

    first
        .send(json!({"type": "message", "payload": "go on"}))
        .await;
    assert_eq!(second.expect("message").await["payload"], "go on");
    assert!(!server.process.has_ended());
    second.close().await;
    assert_eq!(first.expect_peer_left().await, "closed");
    assert_eq!(first.expect_close().await, 4000);
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_server_ends_as_soon_as_the_last_room_does() {
    let mut server = TestServer::start(&["--drain-timeout", "1h"]).await;
    let (mut first, second) = pair(&server).await;
    begin(&server, Signal::INT).await;
    second.reset();
    first.expect("draining").await;
    assert_eq!(first.expect_peer_left().await, "lost");
    first.close().await;
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn rooms_are_closed_when_the_time_is_over() {
    let mut server = TestServer::start(&["--drain-timeout", "500ms"]).await;
    let (mut first, mut second) = pair(&server).await;
    server.process.signal(Signal::TERM);
    for user in [&mut first, &mut second] {
        user.expect("draining").await;
        // The one who is closed second hears of the other's leaving.
        let close = match user.next().await {
            tokio_tungstenite::tungstenite::Message::Text(text) => {
                let left: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(left["reason"], "draining", "{left}");
                user.expect_close().await
            }
            tokio_tungstenite::tungstenite::Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("{other:?}"),
        };
        assert_eq!(close, 4000);
    }
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn one_who_does_not_read_the_close_does_not_hold_the_end_up() {
    let mut server = TestServer::start(&["--drain-timeout", "300ms"]).await;
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(crate::support::RawSocket::open(&server).await);
    }
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut server = TestServer::start(&["--drain-timeout", "1h"]).await;
    let (_first, _second) = pair(&server).await;
    begin(&server, Signal::TERM).await;
    assert!(!server.process.has_ended());
    server.process.signal(Signal::INT);
    assert_eq!(server.process.exit_code().await, Some(130));
}

#[tokio::test]
async fn nobody_is_matched_while_draining() {
    let server = TestServer::start(&["--drain-timeout", "1h"]).await;
    let mut users = Vec::new();
    for _ in 0..8 {
        users.push(User::connect(&server).await);
    }
    begin(&server, Signal::TERM).await;
    let mut advice = Vec::new();
    for user in &mut users {
        let draining = user.expect("draining").await;
        advice.push(draining["reconnect_in_ms"].as_u64().unwrap());
    }
    let spread = advice.iter().max().unwrap() - advice.iter().min().unwrap();
    assert!(spread > 100, "{advice:?}");
    // The one who may stay longest is surely still there.
    let last = (0..users.len()).max_by_key(|&i| advice[i]).unwrap();
    let user = &mut users[last];
    user.find().await;
    user.expect_error("draining").await;
    user.is_undisturbed().await;
}

#[tokio::test]
async fn a_request_on_a_connection_kept_open_is_still_answered() {
    let server = TestServer::start(&["--drain-timeout", "1h"]).await;
    let (_first, _second) = pair(&server).await;
    let mut kept = crate::support::RawSocket::connect(&server).await;
    let health = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.public);
    kept.write(health.as_bytes()).await;
    assert_eq!(kept.response().await.json()["status"], "ok");
    begin(&server, Signal::TERM).await;
    // An idle connection is closed; nothing is left hanging.
    kept.expect_end().await;
    tokio::time::timeout(Duration::from_secs(5), server.admin("/livez"))
        .await
        .unwrap();
}

#[tokio::test]
async fn those_who_wait_are_not_matched_any_more_while_draining() {
    let flags = ["--drain-timeout", "6s", "--widen-anyone-after", "500ms"];
    let server = TestServer::start(&flags).await;
    let mut users = Vec::new();
    for language in ["ar", "de", "en", "es", "fr", "sw"] {
        let mut user = User::connect(&server).await;
        user.find_with(json!({"language": language})).await;
        user.expect("waiting").await;
        users.push(user);
    }
    begin(&server, Signal::TERM).await;
    for user in &mut users {
        user.expect("draining").await;
        assert_eq!(user.expect_close().await, 4000);
    }
}
