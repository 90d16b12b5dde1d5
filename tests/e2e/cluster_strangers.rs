//! Nodes of another version, and programs that use the same names.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    cluster::{meet, pair_of, talk},
    support::{
        TestServer, User, becomes,
        engine::{Engine, knows, stands},
        eventually,
        user::text,
    },
};

/// What a node calls itself.
async fn id(node: &TestServer) -> String {
    let seen: Value = node.admin("/support/nodes").await.json();
    text(&seen["nodes"][0], "id")
}

/// A batch with one frame, whose body is `body`, from a node that nobody knows.
fn batch(version: u8, to: &str, frame: u8, number: u8, body: &[u8]) -> Vec<u8> {
    let to = u64::from_str_radix(to, 16).unwrap().to_be_bytes();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let head = [&[version, 1, 0, 1][..], &[7, 7, 7, 7, 7, 7, 0, 1], &to];
    let numbers = [[0, 0, 0, 0, 0, 0, 0, number], [0; 8]].concat();
    [
        &head.concat(),
        &numbers,
        &length[..],
        &[frame],
        &[0; 24],
        body,
    ]
    .concat()
}

async fn counted(node: &TestServer, name: &str, reason: &str) -> f64 {
    let labels = format!(r#"reason="{reason}""#);
    let metrics = node.metrics().await;
    let mut all = metrics.all(name);
    all.find(|(found, _)| *found == labels)
        .map_or(0.0, |(_, count)| count)
}

#[tokio::test]
async fn what_another_version_says_is_counted_and_skipped() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    let to = id(&b).await;
    for number in 1..=3 {
        assert_eq!(
            engine.publish(&to, &batch(1, &to, 200, number, b"new")),
            "1"
        );
    }
    becomes(3.0, "unknown frames", async || {
        counted(&b, "messages_dropped_total", "unknown_frame").await
    })
    .await;
    // Another bus: nothing of it is looked at, whatever it means there.
    for number in 1..=3 {
        engine.publish(&to, &batch(2, &to, 1, number, b"new"));
    }
    becomes(3.0, "another version", async || {
        counted(&b, "bus_dropped_total", "version").await
    })
    .await;
    talk(&mut first, &mut second, 20).await;
    let (mut third, mut fourth) = pair_of(&a, &b).await;
    talk(&mut third, &mut fourth, 20).await;
}

/// One that says more of itself, and beats.
#[tokio::test]
async fn a_newer_node_is_a_node() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    for beat in 0..3 {
        let value = format!("a{beat} voicematch 1 9.9.9 00000000 run more");
        let set = ["hset", "{vm:m}:1:n", "newnode1", &value];
        engine.ask_words(&set);
        knows(&a, "alive", 2.0).await;
    }
    let seen = a.admin("/support/nodes").await;
    assert!(seen.text().contains("9.9.9"), "{}", seen.text());
    // It beats no more, and dies like any.
    knows(&a, "dead", 1.0).await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    talk(&mut first, &mut second, 10).await;
}

/// Two clusters under one prefix: each goes on with its own.
#[tokio::test]
async fn nodes_that_speak_another_version_of_the_bus_are_told_and_left_alone() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let ready = async |node: &TestServer| node.admin("/readyz").await.json();
    assert_eq!(ready(&a).await.get("other_versions_of_the_bus"), None);
    for beat in 0..3 {
        let value = format!("a{beat} voicematch 2 9.9.9 00000000 run");
        engine.ask_words(&["hset", "{vm:m}:1:n", "newnode1", &value]);
        for node in [&a, &b] {
            knows(node, "strange", 1.0).await;
            knows(node, "alive", 1.0).await;
        }
    }
    let seen: Value = a.admin("/support/nodes").await.json();
    let strange = seen["nodes"].as_array().unwrap().iter();
    let strange: Vec<_> = strange.filter(|node| node["state"] == "strange").collect();
    assert_eq!(strange.len(), 1, "{seen}");
    let says = (&strange[0]["version"], &strange[0]["bus"]);
    assert_eq!(says, (&json!("9.9.9"), &json!(2)));
    assert_eq!(seen["other_versions_of_the_bus"], json!([2]));
    // One of which nothing but a message is known.
    let to = id(&a).await;
    for number in 1..=3 {
        engine.publish(&to, &batch(3, &to, 1, number, b"new"));
    }
    eventually("it says which", async || {
        let ready = ready(&a).await;
        ready["other_versions_of_the_bus"] == json!([2, 3])
            && (&ready["bus"], &ready["cluster"]) == (&json!(1), &json!("up"))
    })
    .await;
    let log = a.process.stderr();
    for version in ["version 2 of the bus", "version 3 of the bus"] {
        let lines = log.iter().filter(|line| line.contains(version)).count();
        assert_eq!(lines, 1, "{log:?}");
    }
    let (mut first, mut second) = pair_of(&a, &b).await;
    talk(&mut first, &mut second, 20).await;
}

/// A node that is nothing alone does not start beside them; it waits for what has only been left behind.
#[tokio::test]
async fn a_node_that_needs_the_others_ends_beside_another_bus() {
    let engine = Engine::start().await;
    let required = ["--cluster-required"];
    // Nobody beats there.
    engine.ask("hset {vm:m}:1:n strange1 theirs");
    let node = engine.node(&required).await;
    stands(&node, "up").await;
    knows(&node, "strange", 0.0).await;
    // This one beats.
    let engine = std::sync::Arc::new(engine);
    let theirs = engine.clone();
    let beats = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        for beat in 0.. {
            ticks.tick().await;
            let value = format!("a{beat} voicematch 2 9.9.9 00000000 run");
            theirs.ask_words(&["hset", "{vm:m}:1:n", "newnode1", &value]);
        }
    });
    knows(&node, "strange", 1.0).await;
    let mut late = engine.node(&required).await;
    assert_eq!(late.admin("/readyz").await.status, 503);
    assert_eq!(late.process.exit_code().await, Some(1));
    let said = late.process.stderr().join("\n");
    for word in ["9.9.9", "version 2 of the bus", "--cluster-prefix"] {
        assert!(said.contains(word), "{said}");
    }
    // Who runs goes on, and one that can be alone starts.
    let other = engine.node(&[]).await;
    for node in [&node, &other] {
        stands(node, "up").await;
        knows(node, "alive", 1.0).await;
    }
    let (mut first, mut second) = pair_of(&node, &other).await;
    talk(&mut first, &mut second, 10).await;
    beats.abort();
}

/// Users of a node on which nothing can be done together.
async fn serves_its_own(node: &TestServer) {
    let (mut first, mut second) = (User::connect(node).await, User::connect(node).await);
    meet(&mut first, &mut second).await;
    talk(&mut first, &mut second, 10).await;
}

/// What is said in three seconds.
async fn lines(node: &TestServer) -> usize {
    let before = node.process.stderr().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    node.process.stderr().len() - before
}

async fn calls(node: &TestServer) -> f64 {
    let metrics = node.metrics().await;
    metrics
        .all("cluster_calls_total")
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test]
async fn a_prefix_that_another_program_uses() {
    let engine = Engine::start().await;
    engine.ask("set {vm:m}:1:n theirs");
    let node = engine.node(&[]).await;
    serves_its_own(&node).await;
    eventually("it says why it is alone", async || {
        let ready = node.admin("/readyz").await;
        ready.status == 200 && ready.text().contains("--cluster-prefix")
    })
    .await;
    let (before, began) = (calls(&node).await, Instant::now());
    let lines = lines(&node).await;
    let rate = (calls(&node).await - before) / began.elapsed().as_secs_f64();
    println!("another program's key: {lines} lines in 3 s, {rate:.1} calls a second");
    assert!(lines <= 2, "{:?}", node.process.stderr());
    assert!(rate < 40.0);
    assert_eq!(engine.ask("get {vm:m}:1:n"), "theirs");
    // One that is nothing alone ends.
    let mut required = engine.node(&["--cluster-required"]).await;
    assert_eq!(required.process.exit_code().await, Some(1));
    // When it has gone the node joins.
    engine.ask("del {vm:m}:1:n");
    stands(&node, "up").await;
    let other = engine.node(&[]).await;
    knows(&node, "alive", 1.0).await;
    let (mut first, mut second) = pair_of(&node, &other).await;
    talk(&mut first, &mut second, 10).await;
}

#[tokio::test]
async fn nodes_that_are_none_and_tickets_that_are_none() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    engine.ask("hset {vm:m}:1:n strange1 theirs theirs 7");
    knows(&a, "strange", 1.0).await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    // Where the tickets were is something else: each node serves its own.
    engine.ask("del {vm:m}:1:t {vm:m}:1:p");
    engine.ask("set {vm:m}:1:t theirs");
    let before = (calls(&a).await, Instant::now());
    serves_its_own(&a).await;
    serves_its_own(&b).await;
    let lines = lines(&a).await;
    let rate = (calls(&a).await - before.0) / before.1.elapsed().as_secs_f64();
    println!("another program's tickets: {lines} lines in 3 s, {rate:.1} calls a second");
    assert!(lines <= 3, "{:?}", a.process.stderr());
    talk(&mut first, &mut second, 10).await;
    let mut waiting = User::connect(&a).await;
    waiting.wait_with(json!({"language": "en"})).await;
    engine.ask("del {vm:m}:1:t");
    let mut newcomer = User::connect(&b).await;
    newcomer.find_with(json!({"language": "en"})).await;
    assert_eq!(waiting.expect_match().await.peer, newcomer.id);
}
