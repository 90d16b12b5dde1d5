//! The engine answers, and does not do what a node asks for: a node that counts on it would be deaf.

use serde_json::json;

use crate::{
    cluster::{meet, pair_of, talk},
    support::{
        TestServer, User,
        engine::{Engine, stands},
        eventually,
    },
};

/// Waits until a node is down, says why, and shows that to an alert.
async fn is_down_because_of(node: &TestServer, code: &str) {
    eventually("it says why it is down", async || {
        let ready = node.admin("/readyz").await;
        let body = ready.json();
        let why = body["reason"].as_str().unwrap_or_default();
        ready.status == 200 && body["cluster"] == "down" && why.contains(code)
    })
    .await;
    for part in ["index", "bus"] {
        let labels = format!(r#"part="{part}""#);
        node.reaches("cluster_state", &labels, 0.0).await;
    }
    let log = node.process.stderr();
    let lines = log.iter().filter(|line| line.contains(code)).count();
    assert!((1..=4).contains(&lines), "{log:?}");
}

async fn serves_its_own(node: &TestServer) {
    let (mut first, mut second) = (User::connect(node).await, User::connect(node).await);
    meet(&mut first, &mut second).await;
    talk(&mut first, &mut second, 10).await;
}

/// A primary that has lost its replicas refuses whatever writes, as one whose disk is full does, and goes on to publish.
#[tokio::test]
async fn an_engine_that_refuses_writes_is_away() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    engine.ask("config set min-replicas-to-write 1");
    for node in [&a, &b] {
        is_down_because_of(node, "NOREPLICAS").await;
        serves_its_own(node).await;
    }
    first
        .send(json!({"type": "message", "payload": "meanwhile"}))
        .await;
    engine.ask("config set min-replicas-to-write 0");
    stands(&a, "up").await;
    stands(&b, "up").await;
    assert_eq!(second.expect("message").await["payload"], "meanwhile");
    talk(&mut first, &mut second, 20).await;
    let (mut third, mut fourth) = pair_of(&a, &b).await;
    talk(&mut third, &mut fourth, 20).await;
}

#[tokio::test]
async fn rooms_do_not_wait_longer_for_an_engine_that_refuses() {
    let engine = Engine::start().await;
    let (a, b) = engine.two_with(&["--cluster-hold", "1s"]).await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    engine.ask("config set min-replicas-to-write 1");
    assert_eq!(first.expect_peer_left().await, "lost");
    assert_eq!(second.expect_peer_left().await, "lost");
}

/// Its channels are allowed, its keys are not: it connects, and can do nothing.
#[tokio::test]
async fn a_user_without_a_right_on_keys_is_told_so() {
    let engine = Engine::start().await;
    let allow = |rights: &[&str]| {
        let user = ["acl", "setuser", "vm", "on", ">s3cr3t", "+@all", "&vm:*"];
        assert_eq!(engine.ask_words(&[&user, rights].concat()), "OK");
    };
    allow(&["resetkeys"]);
    let url = format!("redis://vm:s3cr3t@127.0.0.1:{}", engine.port);
    let node = TestServer::start(&["--cluster", &url]).await;
    is_down_because_of(&node, "NOPERM").await;
    serves_its_own(&node).await;
    allow(&["~{vm:*"]);
    stands(&node, "up").await;
    let ready = node.admin("/readyz").await.json();
    assert_eq!(ready.get("reason"), None);
    // The same when it is taken away later.
    allow(&["resetkeys"]);
    is_down_because_of(&node, "NOPERM").await;
    serves_its_own(&node).await;
}
