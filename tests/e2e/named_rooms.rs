//! Named rooms: who is in them, who offers to whom, and who hears what.

use serde_json::{Value, json};

use crate::support::{Client, TestServer, User, Via, user::text, within};

async fn join(user: &mut User, room: &str) -> Value {
    user.send(json!({"type": "join_room", "room": room, "id": 1}))
        .await;
    user.expect("room_joined").await
}

#[tokio::test]
async fn in_each_pair_the_newcomer_makes_the_offer() {
    let server = TestServer::start(&[]).await;
    let mut users: Vec<User> = Vec::new();
    for n in 0..5 {
        let mut user = User::connect(&server).await;
        let joined = join(&mut user, "tea").await;
        assert_eq!(joined["id"], 1);
        assert_eq!(joined["you"], json!({"peer_id": user.id, "n": n}));
        let members = joined["members"].as_array().unwrap();
        assert_eq!(members.len(), users.len());
        for (member, other) in members.iter().zip(&mut users) {
            assert_eq!(member["peer_id"], Value::from(other.id.clone()));
            assert_eq!(
                (&member["offer"], &member["polite"]),
                (&json!(true), &json!(true))
            );
            let told = other.expect("peer_joined").await;
            assert_eq!(told["peer_id"], Value::from(user.id.clone()));
            assert_eq!(told["room_id"], joined["room_id"]);
            assert_eq!(
                (&told["offer"], &told["polite"]),
                (&json!(false), &json!(false))
            );
        }
        users.push(user);
    }
    // Who leaves and comes back is a newcomer.
    let mut first = users.remove(0);
    first.send(json!({"type": "leave_room", "id": 2})).await;
    first.expect("ack").await;
    for other in &mut users {
        let left = other.expect("peer_left").await;
        assert_eq!(left["peer_id"], Value::from(first.id.clone()));
        assert_eq!(left["reason"], "left");
    }
    let joined = join(&mut first, "tea").await;
    assert_eq!(joined["you"]["n"], 5);
    for other in &mut users {
        other.expect("peer_joined").await;
    }
    // Joining again changes nothing.
    let again = join(&mut first, "tea").await;
    assert_eq!(again["you"], joined["you"]);
    users[0].is_undisturbed().await;
}

#[tokio::test]
async fn a_message_is_for_all_or_for_one() {
    let server = TestServer::start(&[]).await;
    let mut users = Vec::new();
    for _ in 0..4 {
        let mut user = User::connect(&server).await;
        join(&mut user, "tea").await;
        for other in &mut users {
            User::expect(other, "peer_joined").await;
        }
        users.push(user);
    }
    let [mut a, mut b, mut c, mut d] = <[User; 4]>::try_from(users).ok().unwrap();
    a.send(json!({"type": "message", "payload": "all", "id": 7}))
        .await;
    a.expect("ack").await;
    for user in [&mut b, &mut c, &mut d] {
        let message = user.expect("message").await;
        assert_eq!(
            (&message["payload"], &message["from"]),
            (&json!("all"), &json!(a.id))
        );
    }
    for kind in ["offer", "answer", "ice_candidate", "message"] {
        a.send(json!({"type": kind, "payload": kind, "to": c.id}))
            .await;
        assert_eq!(c.expect(kind).await["payload"], kind);
    }
    a.send(json!({"type": "offer", "payload": 1})).await;
    a.expect_error("bad_message").await;
    for stranger in [&a.id.clone(), "x"] {
        a.send(json!({"type": "offer", "payload": 1, "to": stranger}))
            .await;
        a.expect_error("unknown_peer").await;
    }
    for user in [&mut b, &mut d] {
        user.is_undisturbed().await;
    }
    server
        .reaches("messages_relayed_total", r#"type="message""#, 4.0)
        .await;
}

#[tokio::test]
async fn a_room_ends_with_its_last_member_and_a_lost_one_is_told() {
    let server = TestServer::start(&[]).await;
    let mut a = User::connect(&server).await;
    let mut b = User::connect(&server).await;
    let first = join(&mut a, "tea").await;
    join(&mut b, "tea").await;
    a.expect("peer_joined").await;
    server.reaches("named_rooms_active", "", 1.0).await;
    server.reaches("sessions", r#"state="in_room""#, 2.0).await;
    b.reset();
    assert_eq!(a.expect("peer_left").await["reason"], "lost");
    a.send(json!({"type": "find_match"})).await;
    a.expect_error("already_in_room").await;
    a.send(json!({"type": "join_room", "room": "other"})).await;
    a.expect_error("already_in_room").await;
    // `next` leaves a named room too.
    a.send(json!({"type": "next"})).await;
    a.expect("waiting").await;
    server.reaches("named_rooms_active", "", 0.0).await;
    server.reaches("named_room_members", "", 0.0).await;
    let mut c = User::connect(&server).await;
    let second = join(&mut c, "tea").await;
    assert_ne!(first["room_id"], second["room_id"]);
}

#[tokio::test]
async fn a_member_comes_back_and_knows_who_is_there() {
    let server = TestServer::start(&[]).await;
    for via in Via::ALL {
        let mut stays = User::connect(&server).await;
        join(&mut stays, "tea").await;
        let mut goes = User::connect(&server).await;
        join(&mut goes, "tea").await;
        let mut user = Client::begin(&server, via).await;
        user.send(json!({"type": "join_room", "room": "tea"})).await;
        let joined = user.expect("room_joined").await;
        user.cut();
        for other in [&mut stays, &mut goes] {
            while text(&other.expect("peer_joined").await, "peer_id") != user.id {}
        }
        // Somebody leaves and somebody comes meanwhile.
        goes.close().await;
        let mut comes = User::connect(&server).await;
        let seen = join(&mut comes, "tea").await;
        let member = seen["members"].as_array().unwrap().last().unwrap();
        assert_eq!(member["peer_id"], Value::from(user.id.clone()));
        assert_eq!(member["batch"], true);
        user.resume(Via::WebSocket).await.unwrap();
        assert_eq!(user.first["room"]["room_id"], joined["room_id"]);
        assert_eq!(user.first["room"]["room"], "tea");
        assert_eq!(user.first["room"]["peers"], json!([stays.id, comes.id]));
        user.expect("peer_left").await;
        user.expect("peer_joined").await;
        for other in [stays, comes] {
            other.reset();
        }
        user.write(&json!({"type": "leave"})).await;
        server.reaches("named_rooms_active", "", 0.0).await;
    }
}

#[tokio::test]
async fn the_twentieth_sets_up_all_calls_within_the_default_limits() {
    let server = TestServer::start(&[]).await;
    let mut users = Vec::new();
    for _ in 0..19 {
        let mut user = User::connect(&server).await;
        join(&mut user, "full").await;
        users.push(user);
    }
    let mut last = User::connect(&server).await;
    let joined = join(&mut last, "full").await;
    let members = joined["members"].as_array().unwrap().clone();
    assert_eq!(members.len(), 19);
    // Four peers at a time, candidates in one list.
    for four in members.chunks(4) {
        for member in four {
            for kind in ["offer", "ice_candidate"] {
                last.send(json!({"type": kind, "payload": [1, 2, 3], "to": member["peer_id"]}))
                    .await;
            }
        }
    }
    last.is_undisturbed().await;
    for user in &mut users {
        let heard = within("the offer", async {
            loop {
                let message = user.next_json().await;
                if message["type"] == "ice_candidate" {
                    return message;
                }
                assert!(["peer_joined", "offer"].contains(&message["type"].as_str().unwrap()));
            }
        });
        assert_eq!(heard.await["from"], Value::from(last.id.clone()));
    }
}

#[tokio::test]
async fn who_does_not_read_is_closed_alone() {
    let server = TestServer::start(&["--outbox-bytes", "100KiB"]).await;
    let mut slow = User::connect(&server).await;
    join(&mut slow, "tea").await;
    let mut reads = User::connect(&server).await;
    join(&mut reads, "tea").await;
    let mut talks = User::connect(&server).await;
    join(&mut talks, "tea").await;
    reads.expect("peer_joined").await;
    let payload = "x".repeat(60_000);
    let mut heard = 0;
    loop {
        talks
            .send(json!({"type": "message", "payload": payload, "id": 1}))
            .await;
        loop {
            let message = reads.next_json().await;
            match message["type"].as_str() {
                Some("message") => break heard += 1,
                other => assert_eq!(other, Some("peer_left")),
            }
        }
        let message = talks.next_json().await;
        if message["type"] == "peer_left" {
            assert_eq!(message["reason"], "slow_consumer");
            break;
        }
        assert_eq!(message["type"], "ack");
        // Below the rate: the kernel's buffers must fill first.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(heard > 1);
    server
        .reaches("sessions_closed_total", r#"reason="slow_consumer""#, 1.0)
        .await;
}
