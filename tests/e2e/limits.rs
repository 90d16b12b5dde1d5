//! Every limit: the answer to a user who goes past it, and the metric that counts it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    Frame, RawSocket, TestServer, User, client_frame, eventually, http, pair, raw::handshake,
};

const HITS: &str = "limit_hits_total";
const REFUSED: &str = "connections_refused_total";

#[tokio::test]
async fn one_over_the_rate_is_told_and_one_who_goes_on_is_closed() {
    let flags = ["--max-messages-per-second", "1", "--message-burst", "8"];
    let server = TestServer::start(&flags).await;
    let (mut user, mut partner) = pair(&server).await;
    // Seven are left of the burst, and a few may come back while this runs.
    for i in 0..40 {
        user.send(json!({"type": "message", "payload": i})).await;
    }
    let refused = user.expect_error("rate_limited").await;
    assert_eq!(refused["temporary"], true);
    let mut told = 1;
    let close = loop {
        match user.next().await {
            tokio_tungstenite::tungstenite::Message::Text(text) => {
                assert!(text.contains("rate_limited"), "{text}");
                told += 1;
            }
            tokio_tungstenite::tungstenite::Message::Close(Some(frame)) => {
                break u16::from(frame.code);
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(close, 4500);
    assert_eq!(told, 8, "as many warnings as the burst is long");
    let mut heard = 0;
    let left = loop {
        let message = partner.next_json().await;
        if message["type"] == "peer_left" {
            break message;
        }
        assert_eq!(message["payload"], heard);
        heard += 1;
    };
    assert_eq!(left["reason"], "rate_limited");
    assert!((7..=15).contains(&heard), "{heard}");
    server
        .reaches(HITS, r#"limit="max_messages_per_second""#, 9.0)
        .await;
    server
        .reaches("messages_dropped_total", r#"reason="rate_limited""#, 9.0)
        .await;
}

#[tokio::test]
async fn one_who_listens_to_the_warning_may_go_on() {
    let flags = ["--max-messages-per-second", "10", "--message-burst", "5"];
    let server = TestServer::start(&flags).await;
    let mut user = User::connect(&server).await;
    for _ in 0..4 {
        for _ in 0..8 {
            user.send(json!({"type": "ping"})).await;
        }
        let mut refused = 0;
        for _ in 0..8 {
            let answer = user.next_json().await;
            refused += u32::from(answer["type"] == "error");
        }
        assert!(refused > 0);
        // Input, not synchronisation: the time in which the budget fills up again.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    user.is_undisturbed().await;
}

#[tokio::test]
async fn a_rate_of_zero_is_no_limit() {
    let server = TestServer::start(&["--max-messages-per-second", "0"]).await;
    let mut user = User::connect(&server).await;
    for _ in 0..20 {
        for i in 0..100 {
            user.send(json!({"type": "ping", "id": i})).await;
        }
        for i in 0..100 {
            assert_eq!(user.expect("pong").await["id"], i);
        }
    }
}

#[tokio::test]
async fn a_full_server_refuses_until_somebody_leaves() {
    let server = TestServer::start(&["--max-connections", "2"]).await;
    let first = User::connect(&server).await;
    let _second = User::connect(&server).await;
    assert_eq!(User::try_connect(&server).await.err(), Some(503));
    let refused = server.public("/ws").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.json()["code"], "server_full");
    assert!(
        refused.json()["error"].as_str().unwrap().contains("full"),
        "{refused:?}"
    );
    server
        .reaches(REFUSED, r#"reason="max_connections""#, 2.0)
        .await;
    server
        .reaches(HITS, r#"limit="max_connections""#, 2.0)
        .await;
    first.close().await;
    eventually("there is room again", async || {
        User::try_connect(&server).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn one_address_may_only_have_so_many_connections() {
    let flags = ["--max-connections-per-address", "3", "--limit-loopback"];
    let server = TestServer::start(&flags).await;
    let mut users = join_all((0..3).map(|_| User::connect(&server))).await;
    assert_eq!(User::try_connect(&server).await.err(), Some(429));
    let label = "max_connections_per_address";
    server
        .reaches(REFUSED, &format!(r#"reason="{label}""#), 1.0)
        .await;
    server
        .reaches(HITS, &format!(r#"limit="{label}""#), 1.0)
        .await;
    users.pop().unwrap().reset();
    eventually("there is room again", async || {
        User::try_connect(&server).await.is_ok()
    })
    .await;
    for user in &mut users {
        user.is_undisturbed().await;
    }
}

#[tokio::test]
async fn beyond_the_limits_the_server_still_says_that_it_is_well() {
    let of_address = ["--max-connections-per-address", "2", "--limit-loopback"];
    for flags in [&["--max-connections", "2"][..], &of_address] {
        let server = TestServer::start(flags).await;
        let _users = join_all((0..2).map(|_| User::connect(&server))).await;
        assert!(User::try_connect(&server).await.is_err());
        for path in ["/health", "/stats"] {
            assert_eq!(server.public(path).await.status, 200, "{flags:?} {path}");
        }
        assert!(server.public("/nowhere").await.status >= 429);
    }
}

#[tokio::test]
async fn a_refused_connection_does_not_hold_its_place_for_long() {
    let flags = ["--max-connections", "1", "--handshake-timeout", "1h"];
    let server = TestServer::start(&flags).await;
    let _user = User::connect(&server).await;
    let mut silent = RawSocket::connect(&server).await;
    silent.expect_end().await;
}

#[tokio::test]
async fn loopback_is_exempt_from_the_limit_of_an_address() {
    let server = TestServer::start(&["--max-connections-per-address", "1"]).await;
    let mut users = join_all((0..5).map(|_| User::connect(&server))).await;
    for user in &mut users {
        user.is_undisturbed().await;
    }
}

#[tokio::test]
async fn a_switch_is_set_in_the_environment_by_any_usual_word() {
    for (word, limited) in [("1", true), ("true", true), ("0", false), ("off", false)] {
        let variables = [
            ("VOICEMATCH_LIMIT_LOOPBACK", word),
            ("VOICEMATCH_MAX_CONNECTIONS_PER_ADDRESS", "1"),
        ];
        let server = TestServer::start_with_env(&variables).await;
        let _user = User::connect(&server).await;
        let second = User::try_connect(&server).await;
        assert_eq!(second.err(), limited.then_some(429), "{word}");
    }
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_closed() {
    let server = TestServer::start(&["--handshake-timeout", "400ms"]).await;
    let mut silent = RawSocket::connect(&server).await;
    let mut half = RawSocket::connect(&server).await;
    half.write(b"GET /ws HTTP/1.1\r\nHost: x\r\n").await;
    let mut slow = RawSocket::connect(&server).await;
    let begun = Instant::now();
    let trickle = async {
        for byte in handshake(&server).bytes() {
            use tokio::io::AsyncWriteExt;
            if slow.stream.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        panic!("a whole header passed, a byte at a time");
    };
    tokio::join!(trickle, silent.expect_end(), half.expect_end());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    server
        .reaches(HITS, r#"limit="handshake_timeout""#, 3.0)
        .await;
    server.reaches("connections_open", "", 0.0).await;
    // One whose handshake is done is past it.
    let mut user = User::connect(&server).await;
    let mut later = RawSocket::connect(&server).await;
    later.expect_end().await;
    user.is_undisturbed().await;
}

#[tokio::test]
async fn a_header_that_is_too_long_is_refused() {
    let server = TestServer::start(&["--max-header-bytes", "8KiB"]).await;
    let mut socket = RawSocket::connect(&server).await;
    let filler = "x".repeat(9000);
    let request =
        handshake(&server).replace("\r\n\r\n", &format!("\r\nX-Filler: {filler}\r\n\r\n"));
    socket.write(request.as_bytes()).await;
    assert_eq!(socket.response().await.status, 431);
    server
        .reaches(HITS, r#"limit="max_header_bytes""#, 1.0)
        .await;
    let mut socket = RawSocket::connect(&server).await;
    let request = request.replace(&filler, &filler[..6000]);
    socket.write(request.as_bytes()).await;
    assert_eq!(socket.response().await.status, 101);
}

#[tokio::test]
async fn one_who_is_idle_for_too_long_is_closed() {
    let flags = ["--idle-timeout", "1s", "--widen-anyone-after", "never"];
    let server = TestServer::start(&flags).await;
    let (mut first, mut second) = pair(&server).await;
    let mut waiting = User::connect(&server).await;
    waiting.wait_with(json!({"language": "en"})).await;
    let begun = Instant::now();
    let mut idle = User::connect(&server).await;
    assert_eq!(idle.expect_close().await, 4003);
    assert!(begun.elapsed() >= Duration::from_millis(900));
    server.reaches(HITS, r#"limit="idle_timeout""#, 1.0).await;
    server
        .reaches("sessions_closed_total", r#"reason="idle_timeout""#, 1.0)
        .await;
    // Those who wait or are in a room are not idle, however silent.
    waiting.is_undisturbed().await;
    first.is_undisturbed().await;
    first.send(json!({"type": "leave_room"})).await;
    assert_eq!(second.expect_peer_left().await, "left");
    assert_eq!(second.expect_close().await, 4003);
    assert_eq!(first.expect_close().await, 4003);
    server.reaches(HITS, r#"limit="idle_timeout""#, 3.0).await;
}

#[tokio::test]
async fn idle_time_begins_with_the_end_of_the_room() {
    let server = TestServer::start(&["--idle-timeout", "2s"]).await;
    let (first, mut second) = pair(&server).await;
    // Input, not synchronisation: a call in which nobody needs the server for most of that time.
    tokio::time::sleep(Duration::from_millis(1700)).await;
    first.close().await;
    assert_eq!(second.expect_peer_left().await, "closed");
    let begun = Instant::now();
    assert_eq!(second.expect_close().await, 4003);
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_millis(1800), "{elapsed:?}");
}

#[tokio::test]
async fn accepts_are_spread_over_time() {
    let server = TestServer::start(&["--max-accepts-per-second", "20"]).await;
    let begun = Instant::now();
    let users = join_all((0..20).map(|_| User::connect(&server))).await;
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_millis(700), "{elapsed:?}");
    assert_eq!(users.len(), 20);
    let paced = server
        .metric(HITS, r#"limit="max_accepts_per_second""#)
        .await;
    assert!(paced >= 5.0, "{paced}");
}

#[tokio::test]
async fn who_never_stops_talking_holds_nobody_up() {
    let flags = ["--workers", "1", "--max-messages-per-second", "0"];
    let server = TestServer::start(&flags).await;
    let mut talker = RawSocket::open(&server).await;
    // Nobody answers these.
    let words = client_frame(Frame::PONG, &[0; 125]).repeat(1000);
    let talking = tokio::spawn(async move {
        loop {
            talker.write(&words).await;
        }
    });
    assert_eq!(http::get(server.public, "/health").await.status, 200);
    let (mut first, mut second) = pair(&server).await;
    first.send(json!({"type": "message", "payload": 1})).await;
    second.expect("message").await;
    assert!(!talking.is_finished());
    talking.abort();
}
