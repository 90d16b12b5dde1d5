//! The limits of the machine: memory, file descriptors, and pauses of the process.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::json;

use crate::support::{
    Frame, RawSocket, TestServer, User, client_frame, eventually, http, pair, raw::handshake,
};

const HITS: &str = "limit_hits_total";

#[tokio::test]
async fn a_pause_of_the_server_is_not_charged_to_users() {
    let flags = ["--max-messages-per-second", "20", "--message-burst", "10"];
    let server = TestServer::start(&flags).await;
    let (mut first, mut second) = pair(&server).await;
    server.process.signal(Signal::STOP);
    let begun = Instant::now();
    // Input, not synchronisation: half of what is allowed in this time, and more than at once.
    for i in 0..30 {
        first.send(json!({"type": "message", "payload": i})).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "too slow to judge"
    );
    server.process.signal(Signal::CONT);
    for i in 0..30 {
        assert_eq!(second.expect("message").await["payload"], i);
    }
    first.is_undisturbed().await;
}

#[tokio::test]
async fn connections_that_use_the_most_memory_are_closed_when_all_use_too_much() {
    let flags = ["--max-buffered-bytes", "2MiB", "--heartbeat", "1h"];
    let server = TestServer::start(&flags).await;
    let (mut first, mut second) = pair(&server).await;
    let small = client_frame(Frame::TEXT, &[b' '; 2000]);
    let large = client_frame(Frame::TEXT, &[b' '; 60_000]);
    let mut modest = RawSocket::open(&server).await;
    modest.write(&small[..1000]).await;
    let mut greedy = Vec::new();
    // Half a message each, 2.9 MiB together.
    for _ in 0..50 {
        let mut socket = RawSocket::connect(&server).await;
        socket.write(handshake(&server).as_bytes()).await;
        if socket.response().await.status != 101 {
            continue;
        }
        socket.expect("session").await;
        socket.write(&large[..large.len() - 1]).await;
        greedy.push(socket);
    }
    eventually(
        "some are closed, and the rest is within the limit",
        async || {
            let metrics = server.metrics().await;
            metrics.get(HITS, r#"limit="max_buffered_bytes""#) > 0.0
                && metrics.get("buffered_bytes", "") <= 2.0 * 1024.0 * 1024.0
        },
    )
    .await;
    let closed = server
        .metric("sessions_closed_total", r#"reason="memory_limit""#)
        .await;
    assert!((1.0..40.0).contains(&closed), "{closed}");
    let mut codes = Vec::new();
    for socket in &mut greedy {
        socket.write(&large[large.len() - 1..]).await;
        match socket.frame().await.unwrap() {
            frame if frame.first == Frame::CLOSE => codes.push(frame.payload[..2].to_vec()),
            // Whole now, and not JSON.
            frame => assert_eq!(frame.json()["code"], "bad_json"),
        }
    }
    assert_eq!(codes.len() as f64, closed);
    assert!(
        codes.iter().all(|code| *code == 4004u16.to_be_bytes()),
        "{codes:?}"
    );
    modest.write(&small[1000..]).await;
    modest.expect("error").await;
    first.send(json!({"type": "message", "payload": 1})).await;
    second.expect("message").await;
    server.reaches("buffered_bytes", "", 0.0).await;
}

#[tokio::test]
async fn outboxes_count_as_memory_and_newcomers_wait_until_there_is_some() {
    let flags = [
        "--max-buffered-bytes",
        "1MiB",
        "--outbox-bytes",
        "64MiB",
        "--outbox-messages",
        "100000",
        "--max-messages-per-second",
        "0",
    ];
    let server = TestServer::start(&flags).await;
    let mut stuck = RawSocket::open_narrow(&server).await;
    let mut fast = User::connect(&server).await;
    stuck.meet(&mut fast).await;
    let payload = "x".repeat(16_000);
    let left = loop {
        fast.send(json!({"type": "message", "payload": payload}))
            .await;
        let next = tokio::time::timeout(Duration::from_millis(1), fast.next_json());
        match next.await {
            Ok(message) if message["type"] == "peer_left" => break message,
            // The last message may meet somebody who is being closed.
            Ok(message) => assert_eq!(message["code"], "not_in_room"),
            Err(_) => {}
        }
    };
    assert_eq!(left["reason"], "memory_limit");
    server.reaches("buffered_bytes", "", 0.0).await;
    User::connect(&server).await;
}

#[tokio::test]
async fn newcomers_are_refused_and_counted_while_no_memory_is_left() {
    let flags = ["--max-buffered-bytes", "1MiB", "--outbox-bytes", "256KiB"];
    let server = TestServer::start(&flags).await;
    let mut silent = Vec::new();
    let refused = loop {
        // 8 KiB each, until they are asked to make room.
        for _ in 0..50 {
            silent.push(RawSocket::connect(&server).await);
        }
        let mut newcomer = RawSocket::connect(&server).await;
        newcomer.write(handshake(&server).as_bytes()).await;
        let response = newcomer.response().await;
        if response.status != 101 {
            break response;
        }
        assert!(silent.len() < 5_000, "nobody is refused");
    };
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["code"], "server_full");
    let reason = r#"reason="max_buffered_bytes""#;
    server
        .reaches("connections_refused_total", reason, 1.0)
        .await;
    // Those who ask for nothing have to go.
    eventually("there is room", async || {
        http::get(server.public, "/poll?wait=0").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn operators_are_answered_and_newcomers_refused_when_descriptors_run_out() {
    let flags = ["--handshake-timeout", "1h"];
    let server = TestServer::start_with_open_files(256, 256, &flags).await;
    let (mut first, mut second) = pair(&server).await;
    // Fewer than at the start, as if something else had taken them.
    let descriptors = format!("/proc/{}/fd", server.process.id());
    let used = std::fs::read_dir(descriptors).unwrap().count() as u64;
    let limit = Rlimit {
        current: Some(used + 10),
        maximum: Some(256),
    };
    let pid = Pid::from_raw(i32::try_from(server.process.id()).unwrap());
    prlimit(pid, Resource::Nofile, limit).unwrap();
    // They take all that is left, and say nothing.
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(RawSocket::connect(&server).await);
    }
    // At the peak there may be no descriptor left to read /proc with.
    eventually("the metrics show the lower limit", async || {
        let metrics = server.metrics().await;
        metrics
            .all("process_max_fds")
            .any(|(_, limit)| limit == (used + 10) as f64)
    })
    .await;
    eventually("newcomers are refused", async || {
        User::try_connect(&server).await.err() == Some(503)
    })
    .await;
    assert_eq!(server.admin("/readyz").await.status, 200);
    for i in 0..100 {
        first.send(json!({"type": "message", "payload": i})).await;
        assert_eq!(second.expect("message").await["payload"], i);
    }
    let log = server.process.stderr();
    let lines = log
        .iter()
        .filter(|line| line.contains("out of descriptors"));
    assert!((1..=4).contains(&lines.count()), "{log:#?}");
    drop(crowd);
    let mut third = loop {
        if let Ok(user) = User::try_connect(&server).await {
            break user;
        }
    };
    third.wait().await;
    first.send(json!({"type": "next"})).await;
    assert_eq!(first.expect_match().await.peer, third.id);
}

#[tokio::test]
async fn a_low_limit_on_open_files_lowers_the_limit_on_connections() {
    // Half of them are for other uses.
    let server = TestServer::start_with_open_files(120, 120, &[]).await;
    let mut users = Vec::new();
    let refused = loop {
        match User::try_connect(&server).await {
            Ok(user) => users.push(user),
            Err(status) => break status,
        }
    };
    assert_eq!((refused, users.len()), (503, 60));
    for _ in 0..100 {
        assert_eq!(User::try_connect(&server).await.err(), Some(503));
    }
    assert_eq!(server.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn the_limit_on_open_files_is_raised_and_a_warning_says_if_it_is_too_low() {
    // 128 are for everything that is not a connection.
    for (connections, fits) in [("873", false), ("872", true)] {
        let flags = ["--max-connections", connections];
        let server = TestServer::start_with_open_files(64, 1000, &flags).await;
        assert_eq!(server.metric("process_max_fds", "").await, 1000.0);
        let mut log = Vec::new();
        eventually("the log says that the server listens", async || {
            log = server.process.stderr();
            log.iter().any(|line| line.contains("listening"))
        })
        .await;
        let warned = log
            .iter()
            .any(|line| line.contains("WARN") && line.contains("--max-connections"));
        assert_eq!(warned, !fits, "{connections} {log:#?}");
    }
}
