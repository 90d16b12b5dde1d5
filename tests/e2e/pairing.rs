//! Two users who ask for a match get one.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Frame, RawSocket, TestServer, User, client_frame, pair};

#[tokio::test]
async fn the_first_message_says_what_a_client_must_know() {
    let server = TestServer::start(&[
        "--heartbeat",
        "7s",
        "--max-message-bytes",
        "4KiB",
        "--max-messages-per-second",
        "30",
        "--message-burst",
        "60",
        "--ice-server",
        "stun:stun.example.org:3478 stun:other.example.org",
        "--ice-server",
        r#"{"urls": "turn:turn.example.org", "username": "u", "credential": "c"}"#,
    ])
    .await;
    let user = User::connect(&server).await;
    assert_eq!(
        user.session,
        json!({
            "type": "session",
            "session_id": user.id,
            "heartbeat_ms": 7000,
            "ice_servers": [
                {"urls": ["stun:stun.example.org:3478"]},
                {"urls": ["stun:other.example.org"]},
                {"urls": ["turn:turn.example.org"], "username": "u", "credential": "c"},
            ],
            "limits": {
                "max_message_bytes": 4096,
                "max_messages_per_second": 30,
                "message_burst": 60,
            },
        })
    );
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    assert!(
        user.id.len() == 16 && user.id.bytes().all(is_hex),
        "{}",
        user.id
    );
}

#[tokio::test]
async fn two_users_who_ask_meet_in_one_room_and_one_makes_the_offer() {
    let server = TestServer::start(&[]).await;
    let mut first = User::connect(&server).await;
    let mut second = User::connect(&server).await;
    first.wait().await;
    // Input, not synchronisation: the wait that the server is to tell of.
    tokio::time::sleep(Duration::from_millis(300)).await;
    second.find().await;
    let (second_saw, first_saw) = (second.expect_match().await, first.expect_match().await);
    assert_eq!(first_saw.room, second_saw.room);
    assert_eq!((&first_saw.peer, &second_saw.peer), (&second.id, &first.id));
    assert_ne!(first_saw.initiator, second_saw.initiator);
    assert!(first_saw.waited_ms >= 300, "{first_saw:?}");
    assert!(second_saw.waited_ms < first_saw.waited_ms, "{second_saw:?}");
    assert_eq!(first_saw.shared_interests, json!([]));
    first.is_undisturbed().await;
    second.is_undisturbed().await;
}

#[tokio::test]
async fn those_who_have_waited_longest_meet_first() {
    let server = TestServer::start(&["--widen-anyone-after", "never"]).await;
    let topics: Vec<String> = (0..8).map(|i| format!("topic {i}")).collect();
    let mut waiting = Vec::new();
    for topic in &topics {
        let mut user = User::connect(&server).await;
        user.wait_with(json!({"interests": [topic]})).await;
        waiting.push(user);
    }
    // Everyone who comes now would fit anyone; what they name first must not matter.
    let reversed: Vec<&String> = topics.iter().rev().collect();
    for user in &mut waiting {
        let mut newcomer = User::connect(&server).await;
        newcomer.find_with(json!({"interests": reversed})).await;
        assert_eq!(newcomer.expect_match().await.peer, user.id);
        assert_eq!(user.expect_match().await.peer, newcomer.id);
    }
}

#[tokio::test]
async fn a_user_who_asks_twice_is_not_matched_with_themself() {
    let server = TestServer::start(&[]).await;
    let mut user = User::connect(&server).await;
    user.wait().await;
    user.find().await;
    user.expect_error("already_waiting").await;
    user.send(json!({"type": "next"})).await;
    user.expect_error("already_waiting").await;
    server.reaches("rooms_active", "", 0.0).await;
    let mut other = User::connect(&server).await;
    other.find().await;
    assert_eq!(other.expect_match().await.peer, user.id);
    assert_eq!(user.expect_match().await.peer, other.id);
    user.is_undisturbed().await;
    let mut third = User::connect(&server).await;
    third.wait().await;
}

#[tokio::test]
async fn a_hundred_users_who_ask_at_once_are_all_matched_once() {
    let server = TestServer::start(&[]).await;
    let mut users = join_all((0..100).map(|_| User::connect(&server))).await;
    let found = join_all(users.iter_mut().map(async |user| {
        user.find().await;
        let mut message = user.next_json().await;
        if message["type"] == "waiting" {
            message = user.next_json().await;
        }
        assert_eq!(message["type"], "match_found", "{message}");
        (user.id.clone(), message)
    }))
    .await;
    let by_id: HashMap<_, _> = found
        .iter()
        .map(|(id, found)| (id.as_str(), found))
        .collect();
    assert_eq!(by_id.len(), 100);
    let rooms: BTreeSet<_> = found
        .iter()
        .map(|(_, found)| found["room_id"].as_str())
        .collect();
    assert_eq!(rooms.len(), 50);
    for (id, mine) in &found {
        let peer = mine["peer_id"].as_str().unwrap();
        let theirs = by_id[peer];
        assert_ne!(peer, id);
        assert_eq!(theirs["peer_id"], *id);
        assert_eq!(theirs["room_id"], mine["room_id"]);
        assert_ne!(theirs["initiator"], mine["initiator"]);
    }
    for user in &mut users {
        user.is_undisturbed().await;
    }
    server.reaches("rooms_active", "", 50.0).await;
    server
        .reaches("matches_total", r#"pool="anyone",reach="local""#, 50.0)
        .await;
}

#[tokio::test]
async fn an_id_comes_back_byte_for_byte_on_what_answers_it() {
    let server = TestServer::start(&[]).await;
    let mut first = User::connect(&server).await;
    let mut second = User::connect(&server).await;
    let odd = r#"{ "n":1.50,  "e":"\u0041\/", "deep":[ [ null ] ] }"#;
    let ends_with_id = |text: &str, id: &str| {
        let field = format!(r#""id":{id}}}"#);
        assert!(text.ends_with(&field), "{text} should end with {field}");
    };
    let request = |rest: &str, id: &str| format!(r#"{{ "id" : {id} , {rest} }}"#);

    first
        .send_text(request(r#""type":"find_match""#, odd))
        .await;
    ends_with_id(&first.next_text().await, odd);
    second
        .send_text(request(r#""type":"find_match""#, "-0.0e2"))
        .await;
    ends_with_id(&second.next_text().await, "-0.0e2");
    // The match is what answers the first one's request in the end.
    ends_with_id(&first.next_text().await, odd);
    for id in [odd, "17", r#""\u00e9""#, "[1, 2]", "false"] {
        let cases = [
            (r#""type":"ping""#, "pong"),
            (r#""type":"message","payload":1"#, "ack"),
            (r#""type":"find_match""#, "error"),
            (r#""type":"dance""#, "error"),
            (r#""type":"offer""#, "error"),
            (r#""type":7"#, "error"),
        ];
        for (rest, kind) in cases {
            first.send_text(request(rest, id)).await;
            let answer = first.next_text().await;
            assert!(
                answer.starts_with(&format!(r#"{{"type":"{kind}""#)),
                "{answer}"
            );
            ends_with_id(&answer, id);
        }
    }
    first
        .send_text(request(r#""type":"leave_room""#, odd))
        .await;
    ends_with_id(&first.next_text().await, odd);
    first.wait().await;
    first
        .send_text(request(r#""type":"cancel_match""#, odd))
        .await;
    ends_with_id(&first.next_text().await, odd);
}

#[tokio::test]
async fn what_has_no_id_is_answered_without_one() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = pair(&server).await;
    first.send(json!({"type": "ping"})).await;
    assert_eq!(first.next_text().await, r#"{"type":"pong"}"#);
    first.send(json!({"type": "message", "payload": 1})).await;
    second.expect("message").await;
    first.send(json!({"type": "leave_room"})).await;
    assert_eq!(second.expect_peer_left().await, "left");
    first.is_undisturbed().await;
}

#[tokio::test]
async fn who_asks_for_more_at_once_is_told_in_the_order_of_asking() {
    let server = TestServer::start(&[]).await;
    let mut socket = RawSocket::open(&server).await;
    let asked = [
        r#"{"type":"ping","id":1}"#,
        r#"{"type":"find_match","id":2}"#,
        r#"{"type":"ping","id":3}"#,
        r#"{"type":"cancel_match","id":4}"#,
        r#"{"type":"find_match","id":5}"#,
    ];
    let frames = asked.map(|text| client_frame(Frame::TEXT, text.as_bytes()));
    socket.write(&frames.concat()).await;
    for (kind, id) in [
        ("pong", 1),
        ("waiting", 2),
        ("pong", 3),
        ("ack", 4),
        ("waiting", 5),
    ] {
        assert_eq!(socket.expect(kind).await["id"], id);
    }
}
