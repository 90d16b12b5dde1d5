//! The engine forgets, drops connections, or evicts, again and again, while users come, meet and talk.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    cluster::{pair_of, talk},
    support::{
        TestServer, User, becomes,
        engine::{Engine, knows},
        eventually,
        user::text,
    },
};

/// Asks the engine for these, one after the other, with a pause after each, for so long.
async fn trouble(engine: &Engine, commands: &[&str], pause: Duration, time: Duration) {
    let began = Instant::now();
    for command in commands.iter().cycle() {
        if began.elapsed() >= time {
            return;
        }
        engine.ask(command);
        tokio::time::sleep(pause).await;
    }
}

/// A user who meets somebody, talks with them, and goes; how long they waited.
async fn visit(mut user: User) -> Duration {
    let began = Instant::now();
    user.find().await;
    let mut found = user.next_json().await;
    while found["type"] == "waiting" {
        found = user.next_json().await;
    }
    assert_eq!(found["type"], "match_found", "{found}");
    let (waited, peer) = (began.elapsed(), text(&found, "peer_id"));
    for number in 0..5 {
        user.send(json!({"type": "message", "payload": number}))
            .await;
    }
    // A second room would be told here, and a room that was lost.
    for number in 0..5 {
        let heard = user.expect("message").await;
        assert_eq!(
            (&heard["payload"], &heard["from"]),
            (&json!(number), &json!(peer))
        );
    }
    if found["initiator"] == true {
        // It has all been heard: the other one goes then.
        assert_eq!(user.expect_peer_left().await, "closed");
    }
    user.close().await;
    waited
}

/// Users come to both nodes for so long, and all of them meet; how many, and the longest wait.
async fn visits(nodes: [&TestServer; 2], time: Duration) -> (usize, Duration) {
    let began = Instant::now();
    let mut visits = JoinSet::new();
    while began.elapsed() < time {
        for node in nodes {
            visits.spawn(visit(User::connect(node).await));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let waits = visits.join_all().await;
    (waits.len(), waits.into_iter().max().unwrap_or_default())
}

/// Where support sees two users of two nodes.
async fn one_room(a: &TestServer, first: &User, b: &TestServer, second: &User) -> Value {
    let mut rooms = Vec::new();
    for (node, user) in [(a, first), (b, second)] {
        let session = crate::support_api::session(node, &user.id).await;
        assert_eq!(session["state"], "in_room", "{session}");
        rooms.push(session["room"]["room"].clone());
    }
    assert!(rooms[0].is_string(), "{rooms:?}");
    assert_eq!(rooms[0], rooms[1]);
    rooms[0].clone()
}

/// Nobody waits, nobody is in a room, and the engine knows nothing else.
async fn all_have_gone(engine: &Engine, nodes: [&TestServer; 2]) {
    for node in nodes {
        node.reaches("rooms_active", "", 0.0).await;
        node.reaches("cluster_waiting", "", 0.0).await;
    }
    becomes("0".to_owned(), "tickets", async || {
        engine.ask("hlen {vm:m}:1:t")
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_forgets_all_each_two_seconds() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    let room = one_room(&a, &first, &b, &second).await;
    let time = Duration::from_secs(12);
    let (_, (came, waited)) = tokio::join!(
        trouble(&engine, &["flushall"], Duration::from_secs(2), time),
        visits([&a, &b], time),
    );
    println!("forgets all: {came} users, the longest wait {waited:?}");
    assert_eq!(one_room(&a, &first, &b, &second).await, room);
    talk(&mut first, &mut second, 20).await;
    // Who is alone in a node with an empty view may go like anybody.
    engine.ask("flushall");
    second.send(json!({"type": "leave_room"})).await;
    assert_eq!(first.expect_peer_left().await, "left");
    all_have_gone(&engine, [&a, &b]).await;
    knows(&a, "dead", 0.0).await;
}

#[tokio::test]
async fn an_engine_that_forgets_its_scripts_each_half_second() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let time = Duration::from_secs(6);
    let (_, (came, waited)) = tokio::join!(
        trouble(&engine, &["script flush"], Duration::from_millis(500), time),
        visits([&a, &b], time),
    );
    println!("forgets its scripts: {came} users, the longest wait {waited:?}");
    let labels = r#"script="seek",result="noscript""#;
    let labels = [labels, r#"result="noscript",script="seek""#];
    let metrics = a.metrics().await;
    let mut calls = metrics.all("cluster_calls_total");
    assert!(calls.any(|(found, count)| labels.contains(&found) && count > 0.0));
    assert_eq!(
        a.metric("cluster_reconnects_total", r#"reason="closed""#)
            .await,
        0.0
    );
    all_have_gone(&engine, [&a, &b]).await;
}

#[tokio::test]
async fn connections_that_are_cut_each_second() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    let time = Duration::from_secs(10);
    let kills = ["client kill type normal", "client kill type pubsub"];
    let (_, (longest, count)) = tokio::join!(
        trouble(&engine, &kills, Duration::from_millis(500), time),
        async {
            let (began, mut longest, mut count) = (Instant::now(), Duration::ZERO, 0);
            while began.elapsed() < time {
                let asked = Instant::now();
                talk(&mut first, &mut second, 10).await;
                longest = longest.max(asked.elapsed());
                count += 20;
                // No user may say more than a hundred a second.
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            (longest, count)
        }
    );
    println!("cut each second: {count} messages, all in order, the longest round {longest:?}");
    first.is_undisturbed().await;
    second.is_undisturbed().await;
    for node in [&a, &b] {
        assert_eq!(node.metric("bus_gaps_total", r#"result="lost""#).await, 0.0);
        assert!(
            node.metric("cluster_reconnects_total", r#"reason="closed""#)
                .await
                >= 5.0
        );
    }
}

#[tokio::test]
async fn tickets_that_were_evicted_are_put_back() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    for way in ["all of it", "the tickets"] {
        let mut waiting = User::connect(&a).await;
        waiting.wait().await;
        becomes("1".to_owned(), "tickets", async || {
            engine.ask("hlen {vm:m}:1:t")
        })
        .await;
        if way == "all of it" {
            engine.ask("config set maxmemory-policy allkeys-random");
            engine.ask("config set maxmemory 1");
            eventually("it is evicted", async || {
                // A write makes it look at its memory.
                engine.ask("set other x");
                engine.ask("hlen {vm:m}:1:t") == "0"
            })
            .await;
            engine.ask("config set maxmemory 0");
        } else {
            // The policy takes any keys: here those two, with the nodes' left.
            assert_eq!(engine.ask("del {vm:m}:1:t {vm:m}:1:p"), "2");
        }
        let began = Instant::now();
        becomes("1".to_owned(), "tickets", async || {
            engine.ask("hlen {vm:m}:1:t")
        })
        .await;
        println!("evicted {way}: put back after {:?}", began.elapsed());
        let mut newcomer = User::connect(&b).await;
        newcomer.find().await;
        assert_eq!(waiting.expect_match().await.peer, newcomer.id);
    }
    assert_eq!(
        a.metric("match_put_back_total", r#"reason="missing""#)
            .await,
        1.0
    );
}

/// A user who waits goes on: also if a match was undone, because its other user had taken back the search when the news came.
/// Whether that was so.
async fn waits_on(user: &mut User) -> bool {
    user.send(json!({"type": "ping", "id": "now?"})).await;
    let (mut undone, mut in_room, mut asked) = (false, false, true);
    while asked || in_room {
        let told = user.next_json().await;
        match told["type"].as_str() {
            Some("pong") => asked = false,
            Some("match_found") => in_room = true,
            Some("peer_left") => (in_room, undone) = (false, true),
            _ => panic!("{told}"),
        }
    }
    if undone {
        user.wait().await;
    }
    undone
}

/// Whatever step a claim has reached when its user takes it back.
#[tokio::test]
async fn who_waits_no_more_leaves_nothing_in_the_engine() {
    const ROUNDS: u64 = 60;
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let mut waiting = User::connect(&b).await;
    waiting.wait().await;
    let (mut met, mut undone) = (0, 0);
    for round in 0..ROUNDS {
        let mut seeking = User::connect(&a).await;
        seeking.find().await;
        tokio::time::sleep(Duration::from_micros(round * 200)).await;
        seeking
            .send(json!({"type": "cancel_match", "id": "cancel"}))
            .await;
        let mut told = seeking.next_json().await;
        while told["type"] == "waiting" {
            told = seeking.next_json().await;
        }
        if told["type"] == "error" {
            // The match was being made: its news follows.
            assert_eq!(told["code"], "not_waiting", "{told}");
            told = seeking.next_json().await;
            assert_eq!(told["type"], "match_found", "{told}");
        }
        if told["type"] == "match_found" {
            met += 1;
        } else {
            assert_eq!(
                (&told["type"], &told["id"]),
                (&json!("ack"), &json!("cancel"))
            );
        }
        drop(seeking);
        undone += u64::from(waits_on(&mut waiting).await);
    }
    eventually("one waits", async || {
        undone += u64::from(waits_on(&mut waiting).await);
        engine.ask("hlen {vm:m}:1:t") == "1"
    })
    .await;
    println!("cancelled: of {ROUNDS} searches {met} have met, {undone} rooms were seen to end");
    let mut newcomer = User::connect(&a).await;
    newcomer.find().await;
    assert_eq!(waiting.expect_match().await.peer, newcomer.id);
    assert_eq!(engine.ask("hlen {vm:m}:1:t"), "0");
}
