//! The end of a server: messages to the users, who may stay, and the exit code.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    RawSocket, TestServer, User, assert_within, eventually, pair, raw::handshake,
};

/// Sends `signal` and waits until the drain has begun.
async fn begin(server: &TestServer, signal: Signal) {
    server.process.signal(signal);
    eventually("the server is no longer ready", async || {
        server.admin("/readyz").await.status == 503
    })
    .await;
}

/// The code with which a draining server closes a user in a room. The user who is closed second hears first
/// that the other has left.
async fn last_word(user: &mut User) -> u16 {
    user.expect("draining").await;
    match user.next().await {
        Message::Text(text) => {
            let left: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(left["reason"], "draining", "{left}");
            user.expect_close().await
        }
        Message::Close(Some(frame)) => frame.code.into(),
        other => panic!("{other:?}"),
    }
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

    for (user, moments) in [
        (&mut first, 4000..=8000),
        (&mut second, 4000..=8000),
        (&mut waiting, 0..=0),
        (&mut idle, 2000..=2000),
    ] {
        let draining = user.expect("draining").await;
        let reconnect_in = draining["reconnect_in_ms"].as_u64().unwrap();
        assert!(moments.contains(&reconnect_in), "{draining}");
    }
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
        assert_eq!(last_word(user).await, 4000);
    }
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_draining_server_answers_503_to_newcomers_and_health_checks() {
    let server = TestServer::start(&["--drain-timeout", "1h"]).await;
    let (mut first, mut second) = pair(&server).await;
    begin(&server, Signal::TERM).await;
    let health = server.public("/health").await;
    assert_eq!(
        (health.status, &health.json()["status"]),
        (503, &json!("draining"))
    );
    let mut newcomer = RawSocket::connect(&server).await;
    newcomer.write(handshake(&server).as_bytes()).await;
    let refused = newcomer.response().await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("5"))
    );
    for user in [&mut first, &mut second] {
        user.expect("draining").await;
    }
    first
        .send(json!({"type": "message", "payload": "go on"}))
        .await;
    assert_eq!(second.expect("message").await["payload"], "go on");
}

#[tokio::test]
async fn users_who_do_not_read_do_not_delay_the_end() {
    let flags = ["--drain-timeout", "300ms", "--max-messages-per-second", "0"];
    let mut server = TestServer::start(&flags).await;
    let mut fast = User::connect(&server).await;
    let mut stuck = RawSocket::open_narrow(&server).await;
    stuck.meet(&mut fast).await;
    // A request without an end, and more messages than the socket of the partner takes.
    let mut silent = RawSocket::connect(&server).await;
    silent.write(b"GET /health HTTP/1.1\r\n").await;
    while server.metric("outbox_high_water_messages", "").await == 0.0 {
        let payload = "x".repeat(16_000);
        fast.send(json!({"type": "message", "payload": payload}))
            .await;
    }
    let begun = Instant::now();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
    // The drain, and the time for last words.
    assert_within(Duration::from_millis(1800), "the server ends", begun);
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_with_a_close_frame_for_everyone() {
    for second in [Signal::TERM, Signal::INT] {
        let mut server = TestServer::start(&["--drain-timeout", "1h"]).await;
        let (mut caller, mut callee) = pair(&server).await;
        begin(&server, Signal::TERM).await;
        assert!(!server.process.has_ended());
        let begun = Instant::now();
        server.process.signal(second);
        assert_eq!(last_word(&mut caller).await, 4000);
        assert_eq!(last_word(&mut callee).await, 4000);
        assert_eq!(server.process.exit_code().await, Some(130));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test]
async fn the_server_goes_on_after_sighup() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    server.process.signal(Signal::HUP);
    eventually("the log mentions the signal", async || {
        let log = server.process.stderr();
        log.iter().any(|line| line.contains("SIGHUP"))
    })
    .await;
    first
        .send(json!({"type": "message", "payload": "go on"}))
        .await;
    assert_eq!(second.expect("message").await["payload"], "go on");
    assert_eq!(server.public("/health").await.status, 200);
}

#[tokio::test]
async fn a_profile_that_is_being_taken_does_not_delay_the_end() {
    let mut server = TestServer::start(&["--drain-timeout", "0"]).await;
    let mut operator = TcpStream::connect(server.admin).await.unwrap();
    operator
        .write_all(b"GET /debug/pprof/profile?seconds=30 HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    server.admin("/livez").await;
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
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
    assert_eq!(user.expect_close().await, 4000);
}

#[tokio::test]
async fn those_who_ask_in_vain_go_at_once_and_their_partners_are_told() {
    let mut server = TestServer::start(&["--drain-timeout", "1h"]).await;
    let (mut first, mut second) = pair(&server).await;
    begin(&server, Signal::TERM).await;
    for user in [&mut first, &mut second] {
        user.expect("draining").await;
    }
    first.send(json!({"type": "next"})).await;
    first.expect_error("draining").await;
    assert_eq!(first.expect_close().await, 4000);
    assert_eq!(second.expect_peer_left().await, "next");
    assert_eq!(second.expect_close().await, 4000);
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_request_on_a_connection_kept_open_is_still_answered() {
    let server = TestServer::start(&["--drain-timeout", "1h"]).await;
    let (_first, _second) = pair(&server).await;
    let mut kept = RawSocket::connect(&server).await;
    let health = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.public);
    kept.write(health.as_bytes()).await;
    assert_eq!(kept.response().await.json()["status"], "ok");
    begin(&server, Signal::TERM).await;
    kept.write(health.as_bytes()).await;
    let response = kept.response().await;
    assert_eq!(
        (response.status, response.header("connection")),
        (503, Some("close"))
    );
    kept.expect_end().await;
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
