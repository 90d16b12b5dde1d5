//! Clocks that are wrong, or set while users wait and talk: nobody notices.

use serde_json::{Value, json};

use crate::{
    cluster::{pair_of, talk},
    support::{
        TestServer, User, binary,
        clock::Clock,
        engine::{Engine, joined, knows},
        eventually,
    },
};

async fn lives(node: &TestServer) -> f64 {
    let labels = r#"reason="fenced""#;
    node.metric("cluster_lives_total", labels).await
}

#[tokio::test]
async fn a_node_with_a_clock_of_its_own() {
    let engine = Engine::start().await;
    let clock = Clock::new();
    clock.is_ahead(50);
    let mut command = binary();
    command.env("LD_PRELOAD", clock.library());
    let url = engine.url();
    let a = TestServer::start_command(command, "127.0.0.1:0", &["--cluster", &url]).await;
    let (a, b) = joined(a, engine.node(&[]).await).await;
    let day = |node: &TestServer| {
        node.process.stderr()[0]
            .split_once('T')
            .unwrap()
            .0
            .to_owned()
    };
    println!("clocks: {} and {}", day(&a), day(&b));
    assert_ne!(day(&a), day(&b));
    for (one, other) in [(&a, &b), (&b, &a)] {
        let (mut first, mut second) = pair_of(one, other).await;
        clock.is_ahead(100);
        talk(&mut first, &mut second, 10).await;
        clock.is_ahead(-100);
        talk(&mut first, &mut second, 10).await;
    }
    let mut waiting = User::connect(&a).await;
    waiting.wait().await;
    let mut newcomer = User::connect(&b).await;
    newcomer.find().await;
    let met = waiting.expect("match_found").await;
    assert_eq!(met["peer_id"], newcomer.id);
    assert!(
        met["waited_ms"]
            .as_u64()
            .is_some_and(|waited| waited < 60_000),
        "{met}"
    );
    for node in [&a, &b] {
        assert_eq!(lives(node).await, 0.0);
        let claims = r#"result="late""#;
        let metrics = node.metrics().await;
        let mut all = metrics.all("match_claims_total");
        assert!(all.all(|(found, count)| found != claims || count == 0.0));
    }
}

#[tokio::test]
async fn an_engine_whose_clock_is_set() {
    let clock = Clock::new();
    let engine = Engine::start_with_clock(&clock).await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    for hours in [50, -50, 0] {
        // Two who have just left each other wait side by side: who has waited longer on one node, and then the other one, on another node.
        let (mut other, mut oldest) = pair_of(&a, &b).await;
        oldest.send(json!({"type": "next"})).await;
        oldest.expect("waiting").await;
        other.expect_peer_left().await;
        engine.holds_tickets(1).await;
        clock.is_ahead(hours);
        other.wait().await;
        let oldest_first = async || {
            let path = format!("/support/sessions/{}", oldest.id);
            let seen = b.admin(&path).await.json();
            let all = &seen["waiting"]["pools"][0]["on_all_nodes"];
            let sessions = [0, 1].map(|number| all["first"][number]["session"].clone());
            sessions == [json!(oldest.id), json!(other.id)].map(Value::from)
        };
        eventually("who has waited longest is first", oldest_first).await;
        let mut newcomer = User::connect(&a).await;
        newcomer.find().await;
        let mut found = newcomer.next_json().await;
        while found["type"] == "waiting" {
            found = newcomer.next_json().await;
        }
        assert_eq!(found["peer_id"], oldest.id, "{hours} hours: {found}");
        assert_eq!(oldest.expect_match().await.peer, newcomer.id);
        for user in [other, newcomer] {
            user.close().await;
        }
        oldest.expect_peer_left().await;
        oldest.close().await;
        talk(&mut first, &mut second, 20).await;
    }
    for node in [&a, &b] {
        assert_eq!(lives(node).await, 0.0);
        knows(node, "dead", 0.0).await;
    }
}
