//! One who does not read is closed, at nobody else's cost.

use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};

use crate::support::{Frame, RawSocket, TestServer, User, pair};

/// Sends `text` again and again until the partner is gone; returns why. In the moment before that, a
/// relay may be refused because the partner takes no more.
async fn send_until_left(user: &mut User, text: &str) -> String {
    for sent in 0..100_000 {
        user.send_text(text).await;
        while let Some(message) = user.socket.next().now_or_never() {
            let message = message.unwrap().unwrap().into_text().unwrap();
            let told: Value = serde_json::from_str(&message).unwrap();
            if told["type"] == "peer_left" {
                return told["reason"].as_str().unwrap().to_owned();
            }
            assert_eq!(told["code"], "not_in_room", "{told}");
        }
        if sent % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    panic!("one who does not read was never closed");
}

/// Reads what was sent to a slow consumer to its end: whole frames, and a close as the last one.
async fn read_to_the_close(slow: &mut RawSocket) {
    loop {
        let frame = slow
            .frame()
            .await
            .expect("the connection ended without a close");
        match frame.first {
            Frame::TEXT => {
                frame.json();
            }
            Frame::CLOSE => {
                assert_eq!(frame.payload[..2], 4002u16.to_be_bytes());
                return slow.expect_end().await;
            }
            _ => panic!("{:x}", frame.first),
        }
    }
}

#[tokio::test]
async fn one_who_does_not_read_is_closed_and_memory_stays_bounded() {
    let server = TestServer::start(&["--max-messages-per-second", "0"]).await;
    let mut slow = RawSocket::open_narrow(&server).await;
    let mut fast = User::connect(&server).await;
    slow.meet(&mut fast).await;
    let before = server.resident_bytes().await;
    let text = json!({"type": "message", "payload": "x".repeat(60_000)}).to_string();
    assert_eq!(send_until_left(&mut fast, &text).await, "slow_consumer");
    read_to_the_close(&mut slow).await;

    let metrics = server.metrics().await;
    let grown = metrics.get("process_resident_memory_bytes", "") - before;
    assert!(grown < 16e6, "{grown}");
    assert_eq!(
        metrics.get("limit_hits_total", r#"limit="outbox_bytes""#),
        1.0
    );
    let label = r#"reason="slow_consumer""#;
    assert_eq!(metrics.get("sessions_closed_total", label), 1.0);
    assert!(metrics.get("messages_dropped_total", r#"reason="outbox_full""#) >= 1.0);
    assert!(metrics.get("outbox_high_water_bytes", "") > 900e3);
}

#[tokio::test]
async fn many_small_messages_fill_an_outbox_too() {
    let flags = ["--max-messages-per-second", "0", "--outbox-messages", "20"];
    let server = TestServer::start(&flags).await;
    let mut slow = RawSocket::open_narrow(&server).await;
    let mut fast = User::connect(&server).await;
    slow.meet(&mut fast).await;
    let text = json!({"type": "message", "payload": "x".repeat(2000)}).to_string();
    assert_eq!(send_until_left(&mut fast, &text).await, "slow_consumer");
    read_to_the_close(&mut slow).await;
    let label = r#"limit="outbox_messages""#;
    server.reaches("limit_hits_total", label, 1.0).await;
}

#[tokio::test]
async fn one_who_asks_and_reads_no_answer_is_closed_too() {
    let server = TestServer::start(&["--max-messages-per-second", "0"]).await;
    let mut slow = RawSocket::open_narrow(&server).await;
    let before = server.resident_bytes().await;
    let text = json!({"type": "ping", "id": "x".repeat(60_000)}).to_string();
    for _ in 0..150 {
        slow.send(&text).await;
    }
    let label = r#"reason="slow_consumer""#;
    server.reaches("sessions_closed_total", label, 1.0).await;
    read_to_the_close(&mut slow).await;
    let grown = server.resident_bytes().await - before;
    assert!(grown < 16e6, "{grown}");
}

#[tokio::test]
async fn other_pairs_are_undisturbed_by_slow_consumers() {
    let server = TestServer::start(&["--max-messages-per-second", "0", "--workers", "1"]).await;
    let (mut one, mut other) = pair(&server).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut socket = RawSocket::open_narrow(&server).await;
        let mut fast = User::connect(&server).await;
        socket.meet(&mut fast).await;
        slow.push((socket, fast));
    }
    let text = json!({"type": "message", "payload": "x".repeat(30_000)}).to_string();
    let flood = async {
        for (_, fast) in &mut slow {
            assert_eq!(send_until_left(fast, &text).await, "slow_consumer");
        }
    };
    let mut worst = Duration::ZERO;
    let talk = async {
        for i in 0.. {
            let begun = Instant::now();
            one.send(json!({"type": "message", "payload": i})).await;
            assert_eq!(other.expect("message").await["payload"], i);
            worst = worst.max(begun.elapsed());
        }
    };
    tokio::select! {
        () = flood => {}
        () = talk => {}
    }
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    one.is_undisturbed().await;
}
