//! A named room spans the nodes of a cluster: one home, one list of members.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Client, TestServer, User, Via, assert_within,
    engine::{DEATH, Engine, knows},
    eventually, within,
};

pub(crate) async fn ask(user: &mut User, room: &str) -> Value {
    user.send(json!({"type": "join_room", "room": room, "id": 1}))
        .await;
    loop {
        let answer = user.next_json().await;
        if answer["id"] == 1 {
            return answer;
        }
    }
}

pub(crate) async fn join(user: &mut User, room: &str) -> Value {
    let joined = ask(user, room).await;
    assert_eq!(joined["type"], "room_joined", "{joined}");
    joined
}

/// The first message of this type; others are skipped.
pub(crate) async fn until(user: &mut User, kind: &str) -> Value {
    within(kind, async {
        loop {
            let message = user.next_json().await;
            if message["type"] == kind {
                return message;
            }
        }
    })
    .await
}

pub(crate) async fn three_nodes(engine: &Engine) -> Vec<TestServer> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(engine.node(&[]).await);
    }
    for node in &nodes {
        knows(node, "alive", 2.0).await;
    }
    nodes
}

/// One user of each node in one room; the first node is home.
pub(crate) async fn three_users(nodes: &[TestServer]) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    for (n, node) in nodes.iter().enumerate() {
        let mut user = User::connect(node).await;
        let joined = join(&mut user, "tea").await;
        assert_eq!(joined["you"], json!({"peer_id": user.id, "n": n}));
        let members = joined["members"].as_array().unwrap();
        let ids: Vec<_> = members.iter().map(|member| &member["peer_id"]).collect();
        let before: Vec<_> = users
            .iter()
            .map(|user| Value::from(user.id.clone()))
            .collect();
        assert_eq!(ids, before.iter().collect::<Vec<_>>());
        for other in &mut users {
            let told = other.expect("peer_joined").await;
            assert_eq!((&told["peer_id"], &told["n"]), (&json!(user.id), &json!(n)));
            assert_eq!(told["room_id"], joined["room_id"]);
        }
        users.push(user);
    }
    users
}

pub(crate) async fn all_hear_all(users: &mut [User]) {
    for from in 0..users.len() {
        let id = users[from].id.clone();
        users[from]
            .send(json!({"type": "message", "payload": from, "id": 7}))
            .await;
        until(&mut users[from], "ack").await;
        for to in (0..users.len()).filter(|to| *to != from) {
            let heard = until(&mut users[to], "message").await;
            assert_eq!(
                (&heard["from"], &heard["payload"]),
                (&json!(id), &json!(from))
            );
        }
    }
}

#[tokio::test]
async fn users_of_three_nodes_are_in_one_room() {
    let engine = Engine::start().await;
    let nodes = three_nodes(&engine).await;
    let mut users = three_users(&nodes).await;
    all_hear_all(&mut users).await;
    for kind in ["offer", "answer", "ice_candidate", "message"] {
        let (from, to) = (users[1].id.clone(), users[2].id.clone());
        users[1]
            .send(json!({"type": kind, "payload": kind, "to": to}))
            .await;
        let heard = users[2].expect(kind).await;
        assert_eq!(
            (&heard["payload"], &heard["from"]),
            (&json!(kind), &json!(from))
        );
    }
    users[0].is_undisturbed().await;
    // One room, counted by its home.
    nodes[0].reaches("named_rooms_active", "", 1.0).await;
    nodes[1].reaches("named_rooms_active", "", 0.0).await;
    nodes[1].reaches("named_room_members", "", 1.0).await;
    // The home's own user leaves: the room stays.
    let mut first = users.remove(0);
    first.send(json!({"type": "leave_room", "id": 2})).await;
    first.expect("ack").await;
    for user in &mut users {
        let left = user.expect("peer_left").await;
        assert_eq!(
            (&left["peer_id"], &left["reason"]),
            (&json!(first.id), &json!("left"))
        );
    }
    assert_eq!(join(&mut first, "tea").await["you"]["n"], 3);
    users.push(first);
    // The last one leaves: the name is free at once.
    for mut user in users {
        user.send(json!({"type": "leave_room", "id": 2})).await;
        until(&mut user, "ack").await;
    }
    nodes[0].reaches("named_rooms_active", "", 0.0).await;
    let mut again = User::connect(&nodes[2]).await;
    let joined = join(&mut again, "tea").await;
    assert_eq!(
        (&joined["you"]["n"], &joined["members"]),
        (&json!(0), &json!([]))
    );
}

#[tokio::test]
async fn a_home_that_is_killed_takes_only_its_own_users_with_it() {
    let engine = Engine::start().await;
    let mut nodes = three_nodes(&engine).await;
    let mut users = three_users(&nodes).await;
    let lost = users.remove(0);
    drop(nodes.remove(0));
    let died = Instant::now();
    for user in &mut users {
        let left = until(user, "peer_left").await;
        assert_eq!(
            (&left["peer_id"], &left["reason"]),
            (&json!(lost.id), &json!("lost"))
        );
    }
    assert_within(DEATH, "killed: the others were told", died);
    all_hear_all(&mut users).await;
    for (n, node) in nodes.iter().enumerate() {
        let mut newcomer = User::connect(node).await;
        let joined = join(&mut newcomer, "tea").await;
        assert_eq!(joined["you"]["n"], 3 + n);
        assert_eq!(joined["members"].as_array().unwrap().len(), 2 + n);
        users.push(newcomer);
    }
    all_hear_all(&mut users).await;
}

#[tokio::test]
async fn a_room_that_all_have_left_is_nowhere() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let mut users = [User::connect(&a).await, User::connect(&b).await];
    for user in &mut users {
        join(user, "tea").await;
    }
    // The name in hexadecimal.
    let key = ["exists", "{vm:r:746561}:1"];
    assert_eq!(engine.ask_words(&key), "1");
    for user in &mut users {
        user.send(json!({"type": "leave_room", "id": 2})).await;
        until(user, "ack").await;
    }
    for node in [&a, &b] {
        for gauge in ["named_rooms_active", "named_room_members"] {
            node.reaches(gauge, "", 0.0).await;
        }
    }
    eventually("the engine has forgotten the name", async || {
        engine.ask_words(&key) == "0"
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_to_another_node_with_a_ticket_has_the_old_number() {
    let engine = Engine::start().await;
    let mut nodes = three_nodes(&engine).await;
    let mut users = three_users(&nodes).await;
    let mut at_once = Client::begin(&nodes[2], Via::WebSocket).await;
    let mut later = Client::begin(&nodes[2], Via::WebSocket).await;
    let mut tickets = Vec::new();
    for (n, client) in [&mut at_once, &mut later].into_iter().enumerate() {
        client
            .send(json!({"type": "join_room", "room": "tea"}))
            .await;
        let joined = client.expect("room_joined").await;
        assert_eq!(joined["you"]["n"], 3 + n);
        tickets.push(joined["room_ticket"].clone());
    }
    // While their session lives it goes on with its resume token.
    let mut thief = Client::begin(&nodes[1], Via::WebSocket).await;
    thief
        .send(json!({"type": "rejoin", "ticket": tickets[0], "id": 7}))
        .await;
    let refused = thief.expect("error").await;
    assert_eq!(
        (&refused["code"], &refused["id"]),
        (&json!("use_resume"), &json!(7))
    );
    let gone = [at_once.id.clone(), later.id.clone(), users[2].id.clone()];
    // SIGKILL.
    drop(nodes.remove(2));
    let mut back = Client::begin(&nodes[1], Via::WebSocket).await;
    back.send(json!({"type": "rejoin", "ticket": tickets[0], "id": 8}))
        .await;
    let joined = back.expect("room_joined").await;
    assert_eq!((&joined["you"]["n"], &joined["id"]), (&json!(3), &json!(8)));
    users.truncate(2);
    for user in &mut users {
        for _ in [&at_once, &later] {
            until(user, "peer_joined").await;
        }
        // In either order: the plain member of the dead node is gone, and nobody has seen the one who is back go.
        let mut told = [user.next_json().await, user.next_json().await];
        told.sort_by_key(|told| told["type"].to_string());
        let [joined, left] = &told;
        assert_eq!(
            (&joined["peer_id"], &joined["n"], &joined["was"]),
            (&json!(back.id), &json!(3), &json!(gone[0])),
            "{joined}"
        );
        assert_eq!(
            (&left["peer_id"], &left["reason"]),
            (&json!(gone[2]), &json!("lost")),
            "{left}"
        );
    }
    // The other resumable one still has the seat.
    let mut back = Client::begin(&nodes[0], Via::WebSocket).await;
    back.send(json!({"type": "rejoin", "ticket": tickets[1], "id": 9}))
        .await;
    let joined = back.expect("room_joined").await;
    assert_eq!(joined["you"]["n"], 4);
    for user in &mut users {
        let told = user.next_json().await;
        assert_eq!(
            (&told["type"], &told["n"], &told["was"]),
            (&json!("peer_joined"), &json!(4), &json!(gone[1]))
        );
    }
}

#[tokio::test]
async fn the_seat_of_a_resumable_member_is_kept_for_the_window() {
    let engine = Engine::start().await;
    let flags = ["--resume-window", "8s"];
    let [a, b] = [engine.node(&flags).await, engine.node(&flags).await];
    knows(&a, "alive", 1.0).await;
    let mut user = User::connect(&a).await;
    join(&mut user, "tea").await;
    let mut resumable = Client::begin(&b, Via::WebSocket).await;
    let mut plain = User::connect(&b).await;
    resumable
        .send(json!({"type": "join_room", "room": "tea"}))
        .await;
    let joined = resumable.expect("room_joined").await;
    join(&mut plain, "tea").await;
    let (gone, died) = (plain.id.clone(), Instant::now());
    // SIGKILL.
    drop(b);
    let left = until(&mut user, "peer_left").await;
    let told_after = died.elapsed();
    assert_eq!(left["peer_id"], gone);
    // A user who joins now sees that the member is away.
    let mut third = User::connect(&a).await;
    let third_joined = join(&mut third, "tea").await;
    let members = third_joined["members"].as_array().unwrap();
    let away: Vec<_> = members
        .iter()
        .map(|member| member["away"] == true)
        .collect();
    assert_eq!(away, [false, true], "{members:?}");
    let left = until(&mut user, "peer_left").await;
    assert_eq!(
        (&left["peer_id"], &left["reason"]),
        (&joined["you"]["peer_id"], &json!("lost"))
    );
    let kept = died.elapsed() - told_after;
    assert!(kept >= Duration::from_millis(7500), "{kept:?}");
    // After that the number is free: the ticket brings it back all the same.
    let mut back = Client::begin(&a, Via::WebSocket).await;
    back.send(json!({"type": "rejoin", "ticket": joined["room_ticket"]}))
        .await;
    let again = back.expect("room_joined").await;
    assert_eq!(again["you"]["n"], 1);
}

#[tokio::test]
async fn what_a_member_says_comes_in_order_on_all_nodes() {
    let engine = Engine::start().await;
    let nodes = three_nodes(&engine).await;
    let mut users = three_users(&nodes).await;
    // Fewer than a user may say at once.
    const MESSAGES: usize = 100;
    for number in 0..MESSAGES {
        for user in &mut users {
            user.send(json!({"type": "message", "payload": number}))
                .await;
        }
    }
    for user in &mut users {
        let mut next = std::collections::BTreeMap::new();
        for _ in 0..2 * MESSAGES {
            let heard = user.expect("message").await;
            let next = next.entry(heard["from"].to_string()).or_insert(0);
            assert_eq!(heard["payload"], *next);
            *next += 1;
        }
        assert_eq!(next.len(), 2);
    }
}

#[tokio::test]
async fn twenty_users_fill_a_room_of_three_nodes() {
    let engine = Engine::start().await;
    let nodes = three_nodes(&engine).await;
    let mut users = Vec::new();
    for n in 0..20 {
        let mut user = User::connect(&nodes[n % 3]).await;
        assert_eq!(join(&mut user, "full").await["you"]["n"], n);
        users.push(user);
    }
    for node in &nodes {
        let refused = ask(&mut User::connect(node).await, "full").await;
        assert_eq!(refused["code"], "room_full", "{refused}");
    }
}

/// Says something that is `number`, and how the server answers.
async fn say(user: &mut User, number: usize) -> Value {
    let payload = json!([number, "x".repeat(60_000)]);
    user.send(json!({"type": "message", "payload": payload, "id": number}))
        .await;
    let answer = user.next_json().await;
    assert_eq!(answer["id"], number, "{answer}");
    answer
}

/// More is said than may wait on the way to the other node.
#[tokio::test]
async fn who_says_again_what_was_lost_says_it_to_nobody_twice() {
    const MESSAGES: usize = 24;
    let mut engine = Engine::start().await;
    let (a, b) = engine.two_with(&["--outbox-bytes", "8MiB"]).await;
    let mut sender = User::connect(&a).await;
    let (mut here, mut there) = (User::connect(&a).await, User::connect(&b).await);
    for user in [&mut sender, &mut here, &mut there] {
        join(user, "tea").await;
    }
    until(&mut here, "peer_joined").await;
    for _ in 0..2 {
        until(&mut sender, "peer_joined").await;
    }
    engine.kill();
    a.reaches("cluster_state", r#"part="bus""#, 0.0).await;
    let mut lost = Vec::new();
    for number in 0..MESSAGES {
        let answer = say(&mut sender, number).await;
        if answer["type"] == "ack" {
            assert_eq!(here.expect("message").await["payload"][0], number);
            continue;
        }
        assert_eq!(
            (&answer["code"], &answer["temporary"]),
            (&json!("relay_lost"), &json!(true))
        );
        lost.push(number);
    }
    assert!((1..MESSAGES).contains(&lost.len()), "{lost:?}");
    engine.run().await;
    for number in (0..MESSAGES).filter(|number| !lost.contains(number)) {
        assert_eq!(there.expect("message").await["payload"][0], number);
    }
    for number in lost {
        assert_eq!(say(&mut sender, number).await["type"], "ack");
        for user in [&mut here, &mut there] {
            assert_eq!(user.expect("message").await["payload"][0], number);
        }
    }
}
