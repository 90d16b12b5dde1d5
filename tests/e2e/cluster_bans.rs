//! A ban of one node keeps the user out of all.

use serde_json::{Value, json};

use super::support_api::{ask, get};
use crate::support::{
    Client, End, TestServer, Via,
    engine::{Engine, knows, stands},
    eventually,
    jwt::{Folder, SECRET, Signer, begin, claims},
};

async fn bans(node: &TestServer) -> Vec<Value> {
    let listed = get(node, "/support/bans").await;
    listed["bans"].as_array().unwrap().clone()
}

async fn has(node: &TestServer, count: usize) {
    eventually("so many bans", async || bans(node).await.len() == count).await;
}

async fn ban(node: &TestServer, ban: Value) {
    let response = ask(node, "POST", "/support/bans", &ban.to_string()).await;
    assert_eq!(response.status, 201, "{}", response.text());
}

async fn lift(node: &TestServer) {
    let path = format!("/support/bans/{}", bans(node).await[0]["id"]);
    assert_eq!(ask(node, "DELETE", &path, "").await.status, 200);
}

fn token(user: &str) -> String {
    Signer::Secret(SECRET).token(&claims(user))
}

async fn refuses(node: &TestServer, user: &str) {
    let path = format!("/poll?wait=0&token={}", token(user));
    assert_eq!(Client::refused(node, &path).await, 403);
}

#[tokio::test]
async fn a_ban_and_its_lifting_reach_all_nodes() {
    let engine = Engine::start().await;
    let folder = Folder::new("cluster-bans");
    let (file, _) = folder.secret();
    let flags = ["--jwt-secret-file", &file];
    let (a, b) = engine.two_with(&flags).await;
    let mut ann = begin(&b, Via::EventStream, &token("ann")).await;
    let mut bob = begin(&b, Via::EventStream, &token("bob")).await;
    let spam = json!({"user": "ann", "seconds": 3600, "reason": "spam"});
    ban(&a, spam.clone()).await;
    assert_eq!(ann.end().await, End::Closed(Some(4506)));
    refuses(&b, "ann").await;
    let there = &bans(&b).await[0];
    assert_eq!(
        (&there["user"], &there["reason"]),
        (&json!("ann"), &json!("spam"))
    );
    bob.is_heard().await;
    // One that starts later.
    let c = engine.node(&flags).await;
    has(&c, 1).await;
    refuses(&c, "ann").await;
    lift(&b).await;
    for node in [&a, &c] {
        has(node, 0).await;
        begin(node, Via::Polling, &token("ann")).await;
    }
    // It is not forgotten that it was lifted, and may be said again.
    let d = engine.node(&flags).await;
    stands(&d, "up").await;
    knows(&d, "alive", 3.0).await;
    ban(&a, spam).await;
    for node in [&b, &c, &d] {
        has(node, 1).await;
    }
    // A network, for a time that ends by itself.
    ban(&c, json!({"address": "203.0.113.0/24", "seconds": 4})).await;
    for node in [&a, &b, &d] {
        has(node, 2).await;
    }
    for node in [&a, &b, &c, &d] {
        has(node, 1).await;
        refuses(node, "ann").await;
    }
}

#[tokio::test]
async fn bans_outlive_the_engine_and_what_it_knows() {
    let mut engine = Engine::start().await;
    let folder = Folder::new("cluster-bans-lost");
    let (file, _) = folder.secret();
    let flags = ["--jwt-secret-file", &file];
    let (a, b) = engine.two_with(&flags).await;
    ban(&a, json!({"user": "ann", "seconds": 3600})).await;
    has(&b, 1).await;
    engine.ask("flushall");
    eventually("they say it again", async || {
        engine.ask("hlen {vm:m}:1:b") == "1"
    })
    .await;
    let c = engine.node(&flags).await;
    has(&c, 1).await;
    // What is said while it is away is told when it is back.
    engine.kill();
    stands(&a, "down").await;
    ban(&a, json!({"user": "bob", "seconds": 3600})).await;
    let path = format!("/support/bans/{}", bans(&b).await[0]["id"]);
    assert_eq!(ask(&b, "DELETE", &path, "").await.status, 200);
    engine.run().await;
    for node in [&a, &b, &c] {
        eventually("the ban of bob alone", async || {
            let bans = bans(node).await;
            bans.len() == 1 && bans[0]["user"] == "bob"
        })
        .await;
        refuses(node, "bob").await;
    }
}

#[tokio::test]
async fn what_is_no_ban_is_passed_over() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    for (whom, value) in [
        ("x", "b9999999999999999 "),
        ("uann", "garbage"),
        ("n0.0.0.0/0", "b9999999999999999 "),
    ] {
        engine.ask_words(&["hset", "{vm:m}:1:b", whom, value]);
    }
    ban(&a, json!({"address": "203.0.113.7", "seconds": 60})).await;
    has(&b, 1).await;
    engine.ask_words(&["del", "{vm:m}:1:b"]);
    engine.ask_words(&["set", "{vm:m}:1:b", "theirs"]);
    ban(&a, json!({"address": "203.0.113.8", "seconds": 60})).await;
    eventually("it says so", async || {
        a.admin("/readyz").await.text().contains("--cluster-prefix")
    })
    .await;
    engine.ask_words(&["del", "{vm:m}:1:b"]);
    has(&b, 2).await;
}
