//! Several nodes are one service: their users meet, talk and leave each other as on one.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    TestServer, User, assert_within, becomes,
    engine::{DEATH, Engine, LOCAL, REJOINED, knows, stands},
    eventually, run,
    user::text,
};

/// Two users of two nodes in one room; the second makes the offer.
pub(crate) async fn pair_of(a: &TestServer, b: &TestServer) -> (User, User) {
    let (mut first, mut second) = (User::connect(a).await, User::connect(b).await);
    meet(&mut first, &mut second).await;
    (first, second)
}

pub(crate) async fn meet(first: &mut User, second: &mut User) {
    first.wait().await;
    second.find().await;
    // Who looks in vain for a moment waits.
    let mut found = second.next_json().await;
    while found["type"] == "waiting" {
        found = second.next_json().await;
    }
    assert_eq!(
        (&found["type"], &found["peer_id"]),
        (&json!("match_found"), &json!(first.id))
    );
    assert_eq!(first.expect_match().await.peer, second.id);
}

/// Each says so much to the other, and all of it comes, in order.
pub(crate) async fn talk(first: &mut User, second: &mut User, count: u64) {
    for number in 0..count {
        first
            .send(json!({"type": "message", "payload": number}))
            .await;
        second
            .send(json!({"type": "message", "payload": number}))
            .await;
    }
    for number in 0..count {
        assert_eq!(second.expect("message").await["payload"], number);
        assert_eq!(first.expect("message").await["payload"], number);
    }
}

async fn reached(node: &TestServer, reach: &str) -> f64 {
    let metrics = node.metrics().await;
    let labels = format!(r#"reach="{reach}""#);
    let matches = metrics.all("matches_total");
    matches
        .filter(|(found, _)| found.contains(&labels))
        .map(|(_, count)| count)
        .sum()
}

/// The nodes that support sees.
async fn states(node: &TestServer) -> Vec<String> {
    let seen = node.admin("/support/nodes").await;
    let seen: Value = serde_json::from_str(seen.text()).unwrap();
    assert_eq!(seen["state"], "up", "{seen}");
    let nodes = seen["nodes"].as_array().unwrap().iter();
    nodes.map(|node| text(node, "state")).collect()
}

#[tokio::test]
async fn users_of_two_nodes_meet_talk_and_leave_each_other() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    talk(&mut first, &mut second, 40).await;
    for kind in ["offer", "answer", "ice_candidate"] {
        first.send(json!({"type": kind, "payload": kind})).await;
        let heard = second.expect(kind).await;
        assert_eq!(
            (&heard["payload"], &heard["from"]),
            (&json!(kind), &json!(first.id))
        );
    }
    // A match counts once, where the user is who makes the offer.
    let both = [&a, &b];
    let (mut matches, mut rooms) = (0.0, 0.0);
    for node in both {
        matches += reached(node, "remote").await;
        rooms += node.metric("rooms_active", "").await;
    }
    assert_eq!((matches, rooms), (1.0, 1.0));
    second.send(json!({"type": "next"})).await;
    second.expect("waiting").await;
    assert_eq!(first.expect_peer_left().await, "next");
    // Who waits is told before the engine knows, and it has to know them in this order.
    engine.holds_tickets(1).await;
    first.wait().await;
    engine.holds_tickets(2).await;
    // They have just left each other, so they wait; somebody else meets who has waited longest.
    let mut third = User::connect(&b).await;
    third.find().await;
    let met = loop {
        let found = third.next_json().await;
        if found["type"] == "match_found" {
            break found;
        }
    };
    assert_eq!(met["peer_id"], second.id);
    second.expect_match().await;
    third.close().await;
    assert_eq!(second.expect_peer_left().await, "closed");
    for node in both {
        node.reaches("rooms_active", "", 0.0).await;
    }
}

#[tokio::test]
async fn who_has_waited_longest_on_any_node_is_met_first() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let criteria =
        |language: &str, interest: &str| json!({"language": language, "interests": [interest]});
    let mut waiting = Vec::new();
    for (node, interest) in [(&a, "chess"), (&b, "tea"), (&a, "jazz")] {
        let mut user = User::connect(node).await;
        user.wait_with(criteria("en", interest)).await;
        waiting.push(user);
    }
    // A shared interest counts more than a longer wait.
    let mut fan = User::connect(&b).await;
    fan.find_with(criteria("en", "jazz")).await;
    let found = fan.next_json().await;
    let found = if found["type"] == "waiting" {
        fan.next_json().await
    } else {
        found
    };
    assert_eq!(found["peer_id"], waiting[2].id);
    assert_eq!(found["shared_interests"], json!(["jazz"]));
    let met = waiting[2].expect_match().await;
    assert_eq!(met.shared_interests, json!(["jazz"]));
    // Those who are left widen: the same language will do.
    let [first, second, _] = &mut waiting[..] else {
        panic!("three")
    };
    assert_eq!(first.expect_match().await.peer, second.id);
    assert_eq!(second.expect_match().await.peer, first.id);
}

#[tokio::test]
async fn support_sees_who_waits_on_all_nodes() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    // Two who have just left each other wait side by side.
    let (mut first, mut second) = pair_of(&a, &b).await;
    second.send(json!({"type": "next"})).await;
    first.expect_peer_left().await;
    let pool = async |node: &TestServer, user: &User| {
        let path = format!("/support/sessions/{}", user.id);
        let seen = node.admin(&path).await.json();
        seen["waiting"]["pools"][0].clone()
    };
    let posted = async |node: &TestServer, user: &User| {
        pool(node, user).await["on_all_nodes"]["waiting"].clone()
    };
    eventually("the second is posted", async || {
        posted(&b, &second).await == 1
    })
    .await;
    first.wait().await;
    eventually("both are posted", async || posted(&a, &first).await == 2).await;
    let seen = pool(&a, &first).await;
    assert_eq!(seen["waiting"], 1, "on this node");
    let nodes = a.admin("/support/nodes").await.json();
    for (index, user) in [&second, &first].into_iter().enumerate() {
        let one = &seen["on_all_nodes"]["first"][index];
        let node = &nodes["nodes"][1 - index]["id"];
        let because = [json!("former_partner"), Value::Null][index].clone();
        let expected = json!({"session": user.id, "node": node, "not_matched_because": because});
        assert_eq!(*one, expected);
    }
}

#[tokio::test]
async fn an_engine_that_comes_late_joins_those_who_wait() {
    let mut engine = Engine::stopped();
    let (a, b) = (engine.node(&[]).await, engine.node(&[]).await);
    let ready = a.admin("/readyz").await;
    assert_eq!(
        (ready.status, ready.text().contains(r#""cluster":"down""#)),
        (200, true)
    );
    let (mut first, mut second) = (User::connect(&a).await, User::connect(&a).await);
    meet(&mut first, &mut second).await;
    becomes(1.0, "it counts as that", async || {
        reached(&a, "fallback").await
    })
    .await;
    let (mut third, mut fourth) = (User::connect(&a).await, User::connect(&b).await);
    third.wait().await;
    fourth.wait().await;
    engine.run().await;
    assert_eq!(third.expect_match().await.peer, fourth.id);
    assert_eq!(fourth.expect_match().await.peer, third.id);
    talk(&mut third, &mut fourth, 10).await;
    talk(&mut first, &mut second, 10).await;
}

#[tokio::test]
async fn where_the_others_are_required_a_node_alone_is_not_ready() {
    let mut engine = Engine::stopped();
    let node = engine.node(&["--cluster-required"]).await;
    assert_eq!(node.admin("/readyz").await.status, 503);
    assert_eq!(node.admin("/livez").await.status, 200);
    engine.run().await;
    eventually("it is ready", async || {
        node.admin("/readyz").await.status == 200
    })
    .await;
    engine.kill();
    eventually("it is not", async || {
        node.admin("/readyz").await.status == 503
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_killed_takes_only_its_own_users_with_it() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, _second) = pair_of(&a, &b).await;
    let (mut third, mut fourth) = (User::connect(&a).await, User::connect(&a).await);
    meet(&mut third, &mut fourth).await;
    let mut waiting = User::connect(&b).await;
    waiting.wait_with(json!({"language": "en"})).await;
    assert_eq!(states(&a).await, ["self", "alive"]);
    drop(b);
    let died = Instant::now();
    assert_eq!(first.expect_peer_left().await, "lost");
    assert_within(DEATH, "killed: the partner was told", died);
    knows(&a, "dead", 1.0).await;
    assert_eq!(states(&a).await, ["self", "dead"]);
    assert!(a.admin("/").await.text().contains("dead"));
    talk(&mut third, &mut fourth, 10).await;
    // Nobody of the dead node is found.
    let mut newcomer = User::connect(&a).await;
    newcomer.wait_with(json!({"language": "en"})).await;
    newcomer.is_undisturbed().await;
    first.find().await;
    first.expect("waiting").await;
    a.reaches("rooms_active", "", 1.0).await;
}

#[tokio::test]
async fn a_node_that_ends_says_so() {
    let engine = Engine::start().await;
    let (a, mut b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    b.process.signal(Signal::TERM);
    second.expect("draining").await;
    talk(&mut first, &mut second, 10).await;
    second.close().await;
    assert_eq!(first.expect_peer_left().await, "closed");
    assert_eq!(b.process.exit_code().await, Some(0));
    // It has buried itself: nobody waits for its death.
    knows(&a, "dead", 1.0).await;
    let mut other = User::connect(&a).await;
    meet(&mut first, &mut other).await;
}

#[tokio::test]
async fn a_node_that_was_frozen_begins_anew_and_its_users_wait_again() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    let mut waiting = User::connect(&b).await;
    waiting.wait().await;
    b.process.signal(Signal::STOP);
    assert_eq!(first.expect_peer_left().await, "lost");
    b.process.signal(Signal::CONT);
    assert_eq!(second.expect_peer_left().await, "lost");
    becomes(1.0, "lives", async || {
        let metrics = b.metrics().await;
        let mut lives = metrics.all("cluster_lives_total");
        lives
            .find(|(labels, _)| labels.contains("fenced"))
            .map_or(0.0, |(_, count)| count)
    })
    .await;
    let mut newcomer = User::connect(&a).await;
    newcomer.find().await;
    assert_eq!(waiting.expect_match().await.peer, newcomer.id);
}

#[tokio::test]
async fn a_lost_engine_is_not_noticed_in_a_call() {
    let mut engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    engine.kill();
    let killed = Instant::now();
    stands(&a, "down").await;
    // Users of one node are matched.
    let (mut third, mut fourth) = (User::connect(&a).await, User::connect(&a).await);
    meet(&mut third, &mut fourth).await;
    assert_within(LOCAL, "lost: users of one node met", killed);
    // What is said meanwhile waits.
    first
        .send(json!({"type": "message", "payload": "meanwhile"}))
        .await;
    engine.run().await;
    let back = Instant::now();
    assert_eq!(second.expect("message").await["payload"], "meanwhile");
    talk(&mut first, &mut second, 40).await;
    let (mut fifth, mut sixth) = pair_of(&a, &b).await;
    assert_within(REJOINED, "lost: users of two nodes met again", back);
    talk(&mut fifth, &mut sixth, 10).await;
}

#[tokio::test]
async fn rooms_are_held_for_as_long_as_the_operator_says() {
    let mut engine = Engine::start().await;
    let flags = ["--cluster-hold", "1s"];
    let (a, b) = (engine.node(&flags).await, engine.node(&flags).await);
    knows(&a, "alive", 1.0).await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    engine.kill();
    assert_eq!(first.expect_peer_left().await, "lost");
    assert_eq!(second.expect_peer_left().await, "lost");
    meet(&mut first, &mut User::connect(&a).await).await;
}

#[tokio::test]
async fn an_engine_that_forgets_all_and_its_scripts_costs_a_moment() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    for round in 0..5 {
        let mut waiting = User::connect(&a).await;
        waiting.wait().await;
        let forget = [
            "flushall",
            "script flush",
            "client kill type normal",
            "client kill type pubsub",
            "flushall",
        ];
        engine.ask(forget[round]);
        let mut newcomer = User::connect(&b).await;
        newcomer.find().await;
        assert_eq!(
            waiting.expect_match().await.peer,
            newcomer.id,
            "{}",
            forget[round]
        );
        talk(&mut first, &mut second, 20).await;
    }
}

#[tokio::test]
async fn a_full_engine_goes_on() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    engine.ask("config set maxmemory 1");
    let (mut first, mut second) = pair_of(&a, &b).await;
    talk(&mut first, &mut second, 40).await;
    let mut third = User::connect(&a).await;
    third.wait().await;
    third.send(json!({"type": "cancel_match"})).await;
}

#[tokio::test]
async fn an_engine_that_stands_still_is_left_alone() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    engine.signal(Signal::STOP);
    stands(&a, "down").await;
    let (mut third, mut fourth) = (User::connect(&b).await, User::connect(&b).await);
    meet(&mut third, &mut fourth).await;
    first
        .send(json!({"type": "message", "payload": "meanwhile"}))
        .await;
    // Longer than a node may be silent.
    tokio::time::sleep(Duration::from_secs(4)).await;
    engine.signal(Signal::CONT);
    assert_eq!(second.expect("message").await["payload"], "meanwhile");
    talk(&mut first, &mut second, 20).await;
    // Nobody is matched twice, and nobody was taken for dead.
    third.is_undisturbed().await;
    fourth.is_undisturbed().await;
    knows(&a, "alive", 1.0).await;
}

#[tokio::test]
async fn nodes_that_were_given_different_keys_stay_apart() {
    let engine = Engine::start().await;
    let folder = TempDir::new().unwrap();
    let key = |name: &str, byte: u8| {
        let path = folder.path().join(name);
        std::fs::write(&path, [byte; 32]).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (one, other) = (key("one", b'1'), key("other", b'2'));
    let first = engine.node(&["--room-key-file", &one]).await;
    stands(&first, "up").await;
    let same = engine.node(&["--room-key-file", &one]).await;
    stands(&same, "up").await;
    for flags in [&["--room-key-file", &other][..], &[]] {
        let refused = engine.node(flags).await;
        stands(&refused, "refused").await;
        let ready = refused.admin("/readyz").await;
        assert!(
            ready.status == 200 && ready.text().contains("--room-key-file"),
            "{}",
            ready.text()
        );
    }
    let mut required = engine
        .node(&["--room-key-file", &other, "--cluster-required"])
        .await;
    assert_eq!(required.process.exit_code().await, Some(1));
}

#[tokio::test]
async fn nodes_without_a_key_of_the_operators_have_one_key() {
    let engine = Engine::start().await;
    let folders = [(); 2].map(|()| TempDir::new().unwrap());
    let state = |index: usize| folders[index].path().to_str().unwrap();
    let a = engine.node(&["--state-dir", state(0)]).await;
    stands(&a, "up").await;
    let b = engine.node(&["--state-dir", state(1)]).await;
    stands(&b, "up").await;
    // It is the first one's.
    let own = [0, 1].map(|index| std::fs::read(folders[index].path().join("room.key")).unwrap());
    assert_ne!(own[0], own[1]);
}

#[tokio::test]
async fn the_engines_password_is_in_a_file() {
    let engine = Engine::start().await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("password");
    let flags = ["--cluster-password-file", path.to_str().unwrap()];
    let url = engine.url();
    let starting = [
        &[
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--cluster",
            &url,
        ],
        &flags[..],
    ]
    .concat();
    let (code, said) = run(&starting).await;
    assert!(
        code == Some(2) && said.contains("--cluster-password-file"),
        "{code:?} {said}"
    );
    std::fs::write(&path, "s3cr3t\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    engine.ask("config set requirepass s3cr3t");
    let node = engine.node(&flags).await;
    stands(&node, "up").await;
    let outside = engine.node(&[]).await;
    eventually("it is not let in", async || {
        let metrics = outside.metrics().await;
        metrics.get("cluster_reconnects_total", r#"reason="refused""#) > 0.0
    })
    .await;
    let log = [&node, &outside].map(|node| node.process.stderr().join("\n"));
    assert!(log.iter().all(|log| !log.contains("s3cr3t")), "{log:?}");
}

#[tokio::test]
async fn clusters_with_different_prefixes_know_nothing_of_each_other() {
    let engine = Engine::start().await;
    let (a, b) = (
        engine.node(&[]).await,
        engine.node(&["--cluster-prefix", "other"]).await,
    );
    stands(&a, "up").await;
    stands(&b, "up").await;
    let (mut first, mut second) = (User::connect(&a).await, User::connect(&b).await);
    first.wait().await;
    second.wait().await;
    let mut third = User::connect(&a).await;
    third.find().await;
    assert_eq!(first.expect_match().await.peer, third.id);
    second.is_undisturbed().await;
}
