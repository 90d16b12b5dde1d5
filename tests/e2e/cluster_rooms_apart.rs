//! Named rooms while the engine is away, forgets, or is reached by one node only: users are let in at once, and all who gave
//! one name are in one room afterwards.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    cluster_rooms::{all_hear_all, ask, join, three_nodes, three_users, until},
    support::{
        TestServer, User,
        engine::{Engine, knows, stands},
        eventually,
        network::Network,
        within,
    },
};

#[tokio::test]
async fn an_engine_that_forgets_the_name_or_goes_away_is_not_noticed_in_the_room() {
    let mut engine = Engine::start().await;
    let nodes = three_nodes(&engine).await;
    let mut users = three_users(&nodes).await;
    let room = ask(&mut users[0], "tea").await["room_id"].clone();
    // A node without members knows of the room by the engine only.
    let mut third = users.pop().unwrap();
    third.send(json!({"type": "leave_room", "id": 2})).await;
    until(&mut third, "ack").await;
    engine.ask("flushall");
    all_hear_all(&mut users).await;
    eventually("the name is registered again", async || {
        engine.ask_words(&["exists", "{vm:r:746561}:1"]) == "1"
    })
    .await;
    let mut fourth = User::connect(&nodes[2]).await;
    let joined = join(&mut fourth, "tea").await;
    assert_eq!(
        (&joined["you"]["n"], &joined["room_id"]),
        (&json!(3), &room)
    );
    users.push(fourth);
    engine.kill();
    for node in &nodes {
        stands(node, "down").await;
    }
    // Its home still lets users in; where others are in it nobody can be.
    let mut here = User::connect(&nodes[0]).await;
    assert_eq!(join(&mut here, "tea").await["you"]["n"], 4);
    let refused = ask(&mut User::connect(&nodes[1]).await, "tea").await;
    assert_eq!(refused["code"], "room_unavailable", "{refused}");
    assert_eq!(refused["temporary"], true);
    engine.run().await;
    for node in &nodes {
        stands(node, "up").await;
    }
    users.push(here);
    for user in &mut users[1..3] {
        let mut told = until(user, "peer_joined").await;
        while told["n"] != 4 {
            told = until(user, "peer_joined").await;
        }
    }
    all_hear_all(&mut users).await;
    let mut last = User::connect(&nodes[2]).await;
    assert_eq!(join(&mut last, "tea").await["you"]["n"], 5);
}

/// What a user knows of the room that they are in now: its id, their number and how many others there are.
async fn knows_room(user: &mut User, others: usize) -> (String, u64) {
    let mut known = (String::new(), 0, BTreeSet::new());
    within("all are in one room", async {
        loop {
            let told = user.next_json().await;
            match told["type"].as_str().unwrap() {
                "room_joined" => {
                    let members = told["members"].as_array().unwrap();
                    known.0 = told["room_id"].as_str().unwrap().to_owned();
                    known.1 = told["you"]["n"].as_u64().unwrap();
                    known.2 = members
                        .iter()
                        .map(|it| it["peer_id"].clone().to_string())
                        .collect();
                }
                "peer_joined" => {
                    known.2.insert(told["peer_id"].to_string());
                }
                "peer_left" => {
                    known.2.remove(&told["peer_id"].to_string());
                }
                _ => {}
            }
            if !known.0.is_empty() && known.2.len() == others {
                return (known.0, known.1);
            }
        }
    })
    .await
}

/// Two rooms of one name have become one, and one of the two nodes has given way.
async fn are_one(nodes: [&TestServer; 2], rooms: [&Value; 2], mut users: [User; 2]) {
    // Who was there first may be told of the newcomer only; who moves is told of another room.
    eventually("one node has given way", async || {
        let mut conflicts = 0.0;
        for node in nodes {
            conflicts += node.metric("room_conflicts_total", "").await;
        }
        conflicts == 1.0
    })
    .await;
    let first_moves = nodes[0].metric("room_conflicts_total", "").await == 1.0;
    let (moves, stays) = if first_moves { (0, 1) } else { (1, 0) };
    let (room, n) = knows_room(&mut users[moves], 1).await;
    assert_eq!(rooms[stays]["room_id"], room);
    assert_eq!(
        (n, &rooms[stays]["you"]["n"]),
        (1, &json!(0)),
        "a new number"
    );
    let newcomer = until(&mut users[stays], "peer_joined").await;
    assert_eq!(newcomer["peer_id"], users[moves].id);
    all_hear_all(&mut users).await;
    nodes[stays].reaches("named_rooms_active", "", 1.0).await;
    nodes[moves].reaches("named_rooms_active", "", 0.0).await;
}

#[tokio::test]
async fn rooms_of_one_name_that_began_without_the_engine_become_one() {
    let mut engine = Engine::start().await;
    let (a, b) = engine.two().await;
    engine.kill();
    for node in [&a, &b] {
        stands(node, "down").await;
    }
    let (mut first, mut second) = (User::connect(&a).await, User::connect(&b).await);
    let rooms = [
        join(&mut first, "tea").await,
        join(&mut second, "tea").await,
    ];
    for room in &rooms {
        assert_eq!(
            (&room["you"]["n"], &room["members"]),
            (&json!(0), &json!([]))
        );
    }
    assert_ne!(rooms[0]["room_id"], rooms[1]["room_id"]);
    engine.run().await;
    are_one([&a, &b], [&rooms[0], &rooms[1]], [first, second]).await;
}

/// One is registered, the other cannot be.
async fn a_split_is_healed(is_taken_for_dead: bool) {
    let engine = Engine::start().await;
    let (a, b, network) = engine.two_and_a_network().await;
    network.becomes(Network::Hole);
    stands(&a, "down").await;
    let (mut first, mut second) = (User::connect(&a).await, User::connect(&b).await);
    let rooms = [
        join(&mut first, "tea").await,
        join(&mut second, "tea").await,
    ];
    if is_taken_for_dead {
        knows(&b, "dead", 1.0).await;
    }
    // What has disappeared does not come again: the connections are others.
    network.becomes(Network::Good);
    network.cut();
    are_one([&a, &b], [&rooms[0], &rooms[1]], [first, second]).await;
    let conflicts = b.metric("room_conflicts_total", "").await;
    assert_eq!(conflicts, 0.0, "who was registered stays");
}

#[tokio::test]
async fn rooms_of_one_name_on_the_two_sides_of_a_split_become_one() {
    a_split_is_healed(false).await;
}

#[tokio::test]
async fn the_room_of_a_node_that_was_taken_for_dead_becomes_that_of_the_others() {
    a_split_is_healed(true).await;
}

#[tokio::test]
async fn who_joins_while_the_engine_stands_still_is_let_in_at_once() {
    let engine = Engine::start().await;
    let (a, _b) = engine.two().await;
    engine.signal(Signal::STOP);
    let mut user = User::connect(&a).await;
    let began = Instant::now();
    let joined = join(&mut user, "tea").await;
    let took = began.elapsed();
    assert_eq!(joined["you"]["n"], 0);
    // 0.5 s until the engine counts as away; waiting for an answer would take 8 s.
    assert!(took < Duration::from_secs(5), "{took:?}");
    engine.signal(Signal::CONT);
}
