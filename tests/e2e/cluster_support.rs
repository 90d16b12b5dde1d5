//! Why a user is not matched with those who wait on other nodes.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    cluster::pair_of,
    support::{
        TestServer, User,
        engine::{Engine, knows},
        eventually,
        jwt::{Folder, SECRET, Signer, claims},
    },
};

async fn connect(node: &TestServer, user: &str) -> User {
    let token = Signer::Secret(SECRET).token(&claims(user));
    let path = format!("/ws?token={token}");
    User::connect_to(node, &path).await.unwrap()
}

/// Why `user` of this node is not matched with the other one, who stands in the same pool on some node. `None`: they do not.
async fn why(node: &TestServer, user: &User, other: &User) -> Option<Value> {
    let path = format!("/support/sessions/{}", user.id);
    let mut seen = node.admin(&path).await.json();
    let first = seen["waiting"]["pools"][0]["on_all_nodes"]["first"].take();
    let first = first.as_array()?.iter();
    let mut there = first.filter(|there| there["session"] == *other.id);
    Some(there.next()?["not_matched_because"].clone())
}

/// The same from either side, once both are posted.
#[track_caller]
fn is_because<'a>(
    [a, b]: [&'a TestServer; 2],
    [one, other]: [&'a User; 2],
    reason: &'a str,
) -> impl Future<Output = ()> + 'a {
    eventually(reason, async move || {
        let whys = [why(a, one, other).await, why(b, other, one).await];
        whys.into_iter()
            .all(|why| why.is_some_and(|why| why == reason))
    })
}

#[tokio::test]
async fn the_reason_is_told_from_either_side() {
    let engine = Engine::start().await;
    let folder = Folder::new("cluster-support");
    let (secret, _) = folder.secret();
    let (a, b) = engine.two_with(&["--jwt-secret-file", &secret]).await;
    let (mut first, mut second) = (connect(&a, "ann").await, connect(&b, "ann").await);
    first.wait().await;
    second.wait().await;
    is_because([&a, &b], [&first, &second], "same_person").await;
    // Somebody else is met, left, and blocked.
    let mut bob = connect(&b, "bob").await;
    bob.find().await;
    while bob.next_json().await["type"] != "match_found" {}
    first.expect_match().await;
    second.send(json!({"type": "cancel_match", "id": 1})).await;
    second.expect("ack").await;
    bob.send(json!({"type": "next"})).await;
    first.expect_peer_left().await;
    bob.expect("waiting").await;
    first.wait().await;
    is_because([&a, &b], [&first, &bob], "former_partner").await;
    first
        .send(json!({"type": "block", "to": bob.id, "id": 1}))
        .await;
    first.expect("ack").await;
    is_because([&a, &b], [&first, &bob], "blocked").await;
}

#[tokio::test]
async fn who_waits_on_a_node_that_does_not_answer_is_passed_over() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    // Nodes that share a room listen to each other all the time.
    let _pair = pair_of(&a, &b).await;
    let mut bob = User::connect(&b).await;
    bob.wait().await;
    engine.holds_tickets(1).await;
    // It is dead after three seconds, and then what it has posted is taken out.
    b.process.signal(Signal::STOP);
    knows(&a, "suspect", 1.0).await;
    let mut ann = User::connect(&a).await;
    ann.wait().await;
    eventually("bob's node is away", async || {
        why(&a, &ann, &bob).await == Some(json!("node_away"))
    })
    .await;
    b.process.signal(Signal::CONT);
}
