//! Cancelling, `next`, leaving, and partners who disappear.

use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{RawSocket, TestServer, User, becomes, client_frame, eventually, pair};

#[tokio::test]
async fn one_who_has_cancelled_is_not_matched() {
    let server = TestServer::start(&[]).await;
    let mut user = User::connect(&server).await;
    user.wait().await;
    user.send(json!({"type": "cancel_match", "id": 5})).await;
    assert_eq!(user.expect("ack").await["id"], 5);
    let mut other = User::connect(&server).await;
    other.wait().await;
    user.is_undisturbed().await;
    user.send(json!({"type": "cancel_match"})).await;
    user.expect_error("not_waiting").await;
    // They may ask again.
    user.find().await;
    assert_eq!(user.expect_match().await.peer, other.id);
}

#[tokio::test]
async fn next_leaves_the_room_and_waits_again() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    first.send(json!({"type": "next", "id": "n"})).await;
    assert_eq!(first.expect("waiting").await["id"], "n");
    let left = second.expect("peer_left").await;
    assert_eq!(
        (&left["reason"], &left["peer_id"]),
        (&json!("next"), &json!(first.id))
    );
    second.is_undisturbed().await;
    let mut third = User::connect(&server).await;
    third.find().await;
    assert_eq!(third.expect_match().await.peer, first.id);
    assert_eq!(first.expect_match().await.peer, third.id);
}

#[tokio::test]
async fn next_without_a_room_is_find_match() {
    let server = TestServer::start(&[]).await;
    let mut first = User::connect(&server).await;
    let mut second = User::connect(&server).await;
    first
        .send(json!({"type": "next", "criteria": {"interests": ["tea"]}}))
        .await;
    first.expect("waiting").await;
    second
        .send(json!({"type": "next", "criteria": {"interests": ["tea"]}}))
        .await;
    assert_eq!(second.expect_match().await.shared_interests, json!(["tea"]));
}

#[tokio::test]
async fn a_next_that_is_refused_leaves_the_room_as_it_was() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    let long = "x".repeat(65);
    first
        .send(json!({"type": "next", "criteria": {"language": long}}))
        .await;
    first.expect_error("invalid_criteria").await;
    first
        .send(json!({"type": "message", "payload": "still here"}))
        .await;
    second.expect("message").await;
}

#[tokio::test]
async fn the_partner_just_left_is_avoided_for_a_while() {
    let server = TestServer::start(&["--avoid-partner-for", "1h"]).await;
    let (mut first, mut second) = pair(&server).await;
    first.send(json!({"type": "next"})).await;
    first.expect("waiting").await;
    second.expect_peer_left().await;
    second.wait().await;
    let mut third = User::connect(&server).await;
    third.find().await;
    assert_eq!(third.expect_match().await.peer, first.id);
    first.expect_match().await;
    let mut fourth = User::connect(&server).await;
    fourth.find().await;
    assert_eq!(fourth.expect_match().await.peer, second.id);
    second.expect_match().await;
}

#[tokio::test]
async fn the_partner_just_left_is_a_stranger_again_later() {
    let server = TestServer::start(&["--avoid-partner-for", "800ms"]).await;
    let (mut first, mut second) = pair(&server).await;
    first.send(json!({"type": "next"})).await;
    first.expect("waiting").await;
    second.expect_peer_left().await;
    second.wait().await;
    let found = first.expect_match().await;
    assert_eq!(found.peer, second.id);
    assert!(found.waited_ms >= 800, "{found:?}");
    assert_eq!(second.expect_match().await.peer, first.id);
}

#[tokio::test]
async fn both_may_choose_next_at_the_same_time() {
    let server = TestServer::start(&["--avoid-partner-for", "1h"]).await;
    for _ in 0..20 {
        let (mut first, mut second) = pair(&server).await;
        let next = json!({"type": "next"});
        tokio::join!(first.send(next.clone()), second.send(next));
        // Who was second has heard of the other's leaving before their own request was read.
        for user in [&mut first, &mut second] {
            let mut message = user.next_json().await;
            if message["type"] == "peer_left" {
                message = user.next_json().await;
            }
            assert_eq!(message["type"], "waiting", "{message}");
            user.send(json!({"type": "cancel_match", "id": 1})).await;
            user.expect("ack").await;
        }
    }
    server.reaches("rooms_active", "", 0.0).await;
}

#[tokio::test]
async fn one_who_leaves_the_room_is_idle_and_so_is_the_partner() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    first.send(json!({"type": "leave_room", "id": [1]})).await;
    assert_eq!(first.expect("ack").await["id"], json!([1]));
    assert_eq!(second.expect_peer_left().await, "left");
    for user in [&mut first, &mut second] {
        user.send(json!({"type": "message", "payload": 1})).await;
        user.expect_error("not_in_room").await;
        user.send(json!({"type": "leave_room"})).await;
        user.expect_error("not_in_room").await;
    }
    // Nobody is avoided: this was no `next`.
    first.wait().await;
    second.find().await;
    assert_eq!(second.expect_match().await.peer, first.id);
}

#[tokio::test]
async fn one_who_hung_up_while_waiting_is_never_matched() {
    let server = TestServer::start(&[]).await;
    let mut leaving = User::connect(&server).await;
    leaving.wait().await;
    leaving.close().await;
    let mut resetting = User::connect(&server).await;
    resetting.wait().await;
    resetting.reset();
    becomes(0.0, "users who wait", async || {
        let label = r#"pool="anyone""#;
        server.metric("matchmaking_waiting_users", label).await
    })
    .await;
    let mut survivor = User::connect(&server).await;
    survivor.wait().await;
    let mut other = User::connect(&server).await;
    other.find().await;
    assert_eq!(other.expect_match().await.peer, survivor.id);
    assert_eq!(survivor.expect_match().await.peer, other.id);
}

#[tokio::test]
async fn a_survivor_finds_a_living_partner_however_close_the_death_was() {
    let server = TestServer::start(&[]).await;
    for round in 0..50 {
        let mut dying = User::connect(&server).await;
        let mut survivor = User::connect(&server).await;
        dying.wait().await;
        if round % 2 == 0 {
            dying.reset();
        } else {
            drop(dying);
        }
        survivor.find().await;
        // Matched in the very moment of the death, or not at all.
        let message = survivor.next_json().await;
        if message["type"] == "match_found" {
            assert_eq!(survivor.expect_peer_left().await, "lost");
            survivor.wait().await;
        } else {
            assert_eq!(message["type"], "waiting", "{message}");
        }
        let mut other = User::connect(&server).await;
        other.find().await;
        assert_eq!(other.expect_match().await.peer, survivor.id);
        assert_eq!(survivor.expect_match().await.peer, other.id);
        other.close().await;
        assert_eq!(survivor.expect_peer_left().await, "closed");
    }
}

#[tokio::test]
async fn a_partner_who_closes_is_told_from_one_who_is_lost() {
    let server = TestServer::start(&[]).await;

    let (leaving, mut staying) = pair(&server).await;
    leaving.close().await;
    assert_eq!(staying.expect_peer_left().await, "closed");

    let (resetting, mut staying) = pair(&server).await;
    resetting.reset();
    assert_eq!(staying.expect_peer_left().await, "lost");

    // The end of the stream without a close frame is no goodbye either.
    let mut ending = RawSocket::open(&server).await;
    let mut staying = User::connect(&server).await;
    ending.meet(&mut staying).await;
    drop(ending);
    assert_eq!(staying.expect_peer_left().await, "lost");

    // A close frame without a code is.
    let mut ending = RawSocket::open(&server).await;
    ending.meet(&mut staying).await;
    ending.write(&client_frame(0x88, b"")).await;
    assert_eq!(staying.expect_peer_left().await, "closed");

    let closed = async |reason: &str| {
        let label = format!(r#"reason="{reason}""#);
        server.metric("sessions_closed_total", &label).await
    };
    becomes((2.0, 2.0), "closed and lost", async || {
        (closed("closed").await, closed("lost").await)
    })
    .await;
}

#[tokio::test]
async fn a_user_who_has_gone_leaves_nothing_behind() {
    let server = TestServer::start(&[]).await;
    let files = server.metric("process_open_fds", "").await;
    let mut users = Vec::new();
    for _ in 0..10 {
        let (first, second) = pair(&server).await;
        users.extend([first, second]);
    }
    for topic in ["a", "b", "c"] {
        let mut user = User::connect(&server).await;
        user.wait_with(json!({"language": topic, "interests": [topic]}))
            .await;
        users.push(user);
    }
    server
        .reaches("websocket_active_connections", "", 23.0)
        .await;
    for user in users {
        user.reset();
    }
    eventually("everything is as at the start", async || {
        let metrics = server.metrics().await;
        let gone = [
            "websocket_active_connections",
            "rooms_active",
            "connections_open",
        ];
        gone.iter().all(|name| metrics.get(name, "") == 0.0)
            && metrics.get("process_open_fds", "") <= files
            && metrics
                .all("matchmaking_waiting_users")
                .all(|(_, count)| count == 0.0)
            && metrics.all("sessions").all(|(_, count)| count == 0.0)
    })
    .await;
}

#[tokio::test]
async fn who_leaves_with_a_last_word_is_heard_and_has_left() {
    let server = TestServer::start(&[]).await;
    let mut hearer = User::connect(&server).await;
    let mut speaker = RawSocket::open(&server).await;
    speaker.meet(&mut hearer).await;
    // The server finds the word and the end of the connection in one look.
    server.process.signal(Signal::STOP);
    speaker.send(r#"{"type":"message","payload":"bye"}"#).await;
    speaker.stream.shutdown().await.expect("an end");
    server.process.signal(Signal::CONT);
    assert_eq!(hearer.expect("message").await["payload"], "bye");
    assert_eq!(hearer.expect_peer_left().await, "lost");
}
