//! Whom a user has blocked on one node they meet on none.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, TestServer, User, Via,
    engine::{Engine, knows, stands},
    eventually,
    jwt::{Folder, SECRET, Signer, claims},
    matched,
};

/// Flags of nodes whose users the app names. Former partners are matched again at once, unless one has blocked the other.
fn flags(folder: &Folder) -> [String; 4] {
    let (secret, _) = folder.secret();
    ["--jwt-secret-file", &secret, "--avoid-partner-for", "0s"].map(str::to_owned)
}

fn words(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

async fn connect(node: &TestServer, user: &str) -> User {
    let token = Signer::Secret(SECRET).token(&claims(user));
    let path = format!("/ws?token={token}");
    User::connect_to(node, &path).await.unwrap()
}

async fn found(user: &mut User) -> Value {
    let found = user.next_json().await;
    match found["type"] == "waiting" {
        true => user.next_json().await,
        false => found,
    }
}

async fn leave(mut user: User) {
    user.send(json!({"type": "leave_room", "id": 1})).await;
    user.expect("ack").await;
    user.close().await;
}

/// The two meet, and the first blocks the second.
async fn block([a, b]: [&TestServer; 2], [first, second]: [&str; 2]) {
    let (mut one, mut other) = (connect(a, first).await, connect(b, second).await);
    one.wait().await;
    other.find().await;
    assert_eq!(found(&mut other).await["peer_id"], one.id);
    one.expect_match().await;
    one.send(json!({"type": "block", "id": 7})).await;
    assert_eq!(one.expect("ack").await["id"], 7);
    assert_eq!(other.expect_peer_left().await, "left");
    one.close().await;
    other.close().await;
}

/// New sessions of the two wait side by side, and a third user meets who has waited longer.
async fn stay_apart(engine: &Engine, [a, b]: [&TestServer; 2], [first, second]: [&str; 2]) {
    let (mut one, mut other) = (connect(a, first).await, connect(b, second).await);
    engine.holds_tickets(0).await;
    one.wait().await;
    engine.holds_tickets(1).await;
    other.wait().await;
    engine.holds_tickets(2).await;
    let mut third = connect(b, "somebody else").await;
    third.find().await;
    assert_eq!(found(&mut third).await["peer_id"], one.id);
    one.expect_match().await;
    other.is_undisturbed().await;
    leave(third).await;
    one.expect_peer_left().await;
    other.send(json!({"type": "cancel_match", "id": 2})).await;
    other.expect("ack").await;
    one.close().await;
    other.close().await;
}

async fn remembers(node: &TestServer, count: f64) {
    node.reaches("blocks_remembered", "", count).await;
}

#[tokio::test]
async fn who_was_blocked_on_one_node_is_met_on_none() {
    let engine = Engine::start().await;
    let folder = Folder::new("cluster-blocks");
    let flags = flags(&folder);
    let (a, mut b) = engine.two_with(&words(&flags)).await;
    block([&a, &b], ["ann", "bob"]).await;
    remembers(&b, 1.0).await;
    // The node where it was said is asked by nobody.
    stay_apart(&engine, [&b, &b], ["ann", "bob"]).await;
    stay_apart(&engine, [&b, &a], ["bob", "ann"]).await;
    let made = a.metric("blocks_total", "").await + b.metric("blocks_total", "").await;
    assert_eq!(made, 1.0);
    // One that starts later.
    let c = engine.node(&words(&flags)).await;
    remembers(&c, 1.0).await;
    knows(&c, "alive", 2.0).await;
    stay_apart(&engine, [&b, &c], ["ann", "bob"]).await;
    // A node takes nothing along when it dies.
    block([&b, &c], ["cid", "dan"]).await;
    for node in [&a, &c] {
        remembers(node, 2.0).await;
    }
    b.process.signal(Signal::KILL);
    b.process.exit_code().await;
    knows(&c, "dead", 1.0).await;
    stay_apart(&engine, [&c, &c], ["dan", "cid"]).await;
    stay_apart(&engine, [&a, &c], ["cid", "dan"]).await;
    // Others meet.
    let (mut ann, mut dan) = (connect(&a, "ann").await, connect(&c, "dan").await);
    ann.wait().await;
    dan.find().await;
    assert_eq!(found(&mut dan).await["peer_id"], ann.id);
}

#[tokio::test]
async fn blocks_outlive_the_engine_and_what_it_knows() {
    let mut engine = Engine::start().await;
    let folder = Folder::new("cluster-blocks-lost");
    let flags = flags(&folder);
    let (a, b) = engine.two_with(&words(&flags)).await;
    block([&a, &b], ["ann", "bob"]).await;
    remembers(&b, 1.0).await;
    let is_written = async |engine: &Engine, count: &str| {
        eventually("they say it again", async || {
            engine.ask("hget {vm:m}:1:w count") == count
        })
        .await;
    };
    engine.ask("flushall");
    is_written(&engine, "1").await;
    // What is said while it is away is told when it is back; it has forgotten the rest.
    engine.kill();
    for node in [&a, &b] {
        stands(node, "down").await;
    }
    block([&a, &a], ["cid", "dan"]).await;
    engine.run().await;
    is_written(&engine, "2").await;
    remembers(&b, 2.0).await;
    let c = engine.node(&words(&flags)).await;
    remembers(&c, 2.0).await;
    knows(&c, "alive", 2.0).await;
    stay_apart(&engine, [&c, &b], ["cid", "dan"]).await;
    stay_apart(&engine, [&b, &c], ["bob", "ann"]).await;
}

#[tokio::test]
async fn the_oldest_is_forgotten_on_all_nodes() {
    let engine = Engine::start().await;
    let folder = Folder::new("cluster-blocks-most");
    let flags = flags(&folder);
    let flags = [&words(&flags)[..], &["--max-blocks", "2"]].concat();
    let (a, b) = engine.two_with(&flags).await;
    for (number, other) in ["bob", "cid", "dan"].into_iter().enumerate() {
        block([&a, &b], ["ann", other]).await;
        remembers(&b, if number == 0 { 1.0 } else { 2.0 }).await;
    }
    eventually("it has heard of the last", async || {
        let hits = b.metric("limit_hits_total", r#"limit="max_blocks""#);
        hits.await == 1.0
    })
    .await;
    assert_eq!(engine.ask("hget {vm:m}:1:w count"), "2");
    stay_apart(&engine, [&b, &a], ["dan", "ann"]).await;
    stay_apart(&engine, [&b, &b], ["ann", "cid"]).await;
    let (mut ann, mut bob) = (connect(&b, "ann").await, connect(&b, "bob").await);
    ann.wait().await;
    bob.find().await;
    assert_eq!(found(&mut bob).await["peer_id"], ann.id);
}

#[tokio::test]
async fn another_programs_value_in_their_place_is_told_and_blocks_wait() {
    let engine = Engine::start().await;
    let folder = Folder::new("cluster-blocks-foreign");
    let flags = flags(&folder);
    let (a, b) = engine.two_with(&words(&flags)).await;
    engine.ask_words(&["set", "{vm:m}:1:w", "theirs"]);
    block([&a, &a], ["ann", "bob"]).await;
    eventually("it says so", async || {
        a.admin("/readyz").await.text().contains("--cluster-prefix")
    })
    .await;
    engine.ask_words(&["del", "{vm:m}:1:w"]);
    remembers(&b, 1.0).await;
    stay_apart(&engine, [&b, &b], ["ann", "bob"]).await;
}

/// Sessions that nobody has named: what one of them has said goes with it, and is known where the other one comes.
#[tokio::test]
async fn a_block_of_a_session_counts_wherever_the_two_come() {
    for mover in [0, 1] {
        let mut engine = Engine::start().await;
        let nodes = <[TestServer; 2]>::from(engine.two().await);
        let met = matched::meet([&nodes[0], &nodes[1]], [Via::WebSocket; 2]).await;
        let mut users = met.map(|(user, _)| user);
        users[0].send(json!({"type": "block", "id": 1})).await;
        users[0].expect("ack").await;
        users[1].expect("peer_left").await;
        // Both are on one node then, which matches them by itself.
        let place = &nodes[1 - mover];
        users[mover].resume_at(place, Via::WebSocket).await.unwrap();
        engine.kill();
        stands(place, "down").await;
        for user in &mut users {
            user.send(json!({"type": "find_match"})).await;
            user.expect("waiting").await;
        }
        let mut third = Client::begin(place, Via::WebSocket).await;
        let found = third.find().await;
        assert_eq!(found["peer_id"], users[0].id, "{mover}");
        users[0].expect("match_found").await;
        users[1].is_heard().await;
    }
}
