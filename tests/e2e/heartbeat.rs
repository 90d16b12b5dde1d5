//! Pings find dead connections, and only those.

use std::time::{Duration, Instant};

use crate::support::{Frame, RawSocket, TestServer, User, client_frame};

const QUICK: [&str; 4] = ["--heartbeat", "300ms", "--heartbeat-deadline", "300ms"];

/// For those who talk all the time: a test that is held up for half as long must not count as silent.
const LESS_QUICK: [&str; 4] = ["--heartbeat", "600ms", "--heartbeat-deadline", "600ms"];

async fn expect_ping(socket: &mut RawSocket) {
    let frame = socket.frame().await.expect("the connection ended");
    assert_eq!(frame.first, Frame::PING, "{frame:?}");
}

#[tokio::test]
async fn a_ping_comes_with_every_heartbeat() {
    let server = TestServer::start(&QUICK).await;
    let mut socket = RawSocket::open(&server).await;
    let begun = Instant::now();
    for _ in 0..4 {
        expect_ping(&mut socket).await;
        socket.write(&client_frame(Frame::PONG, b"")).await;
    }
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_millis(1000), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(8), "{elapsed:?}");
}

#[tokio::test]
async fn one_who_talks_but_answers_no_ping_stays() {
    let server = TestServer::start(&LESS_QUICK).await;
    let mut socket = RawSocket::open(&server).await;
    let mut partner = User::connect(&server).await;
    socket.meet(&mut partner).await;
    let begun = Instant::now();
    let mut said = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        let text = format!(r#"{{"type":"message","payload":{said}}}"#);
        socket.send(&text).await;
        assert_eq!(partner.expect("message").await["payload"], said);
        said += 1;
        // Input, not synchronisation: the pace of one who talks.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    partner.is_undisturbed().await;
    // Pings came, and nothing else.
    for _ in 0..3 {
        expect_ping(&mut socket).await;
    }
    socket.write(&client_frame(Frame::PING, b"alive")).await;
    loop {
        let frame = socket.frame().await.expect("the connection ended");
        match frame.first {
            Frame::PING => {}
            Frame::PONG => break assert_eq!(frame.payload, b"alive"),
            _ => panic!("{frame:?}"),
        }
    }
}

#[tokio::test]
async fn one_who_is_silent_is_closed_and_the_partner_hears_why() {
    let server = TestServer::start(&QUICK).await;
    let mut socket = RawSocket::open(&server).await;
    let mut partner = User::connect(&server).await;
    socket.meet(&mut partner).await;
    let begun = Instant::now();
    assert_eq!(partner.expect_peer_left().await, "heartbeat_timeout");
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_millis(200), "{elapsed:?}");
    expect_ping(&mut socket).await;
    assert_eq!(socket.expect_close().await, 4001);
    let label = r#"reason="heartbeat_timeout""#;
    server.reaches("sessions_closed_total", label, 1.0).await;
    partner.is_undisturbed().await;
}

#[tokio::test]
async fn part_of_a_frame_is_a_sign_of_life() {
    let server = TestServer::start(&LESS_QUICK).await;
    let mut socket = RawSocket::open(&server).await;
    let frame = client_frame(
        Frame::TEXT,
        br#"{"type":"ping","id":"slow","more":"of the same"}"#,
    );
    for byte in frame {
        socket.write(&[byte]).await;
        // Input, not synchronisation: the pace of a slow line.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut pings = 0;
    let pong = loop {
        let frame = socket.frame().await.expect("the connection ended");
        if frame.first != Frame::PING {
            break frame.json();
        }
        pings += 1;
    };
    assert_eq!(pong["id"], "slow");
    assert!(pings >= 3, "{pings}");
}
