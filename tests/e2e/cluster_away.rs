//! The engine is away, stands still, is slow or far: what users see of it.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    cluster::{meet, pair_of, talk},
    support::{
        TestServer, User, assert_within, becomes,
        engine::{Engine, LOCAL, REJOINED, knows, stands},
        eventually,
        network::Network,
    },
};

/// Longer than any patience of the nodes with an engine.
const LONG: Duration = Duration::from_secs(20);

/// Two users of each node, in a room.
async fn local_pairs(a: &TestServer, b: &TestServer) -> [(User, User); 2] {
    let mut pairs = Vec::new();
    for node in [a, b] {
        let (mut first, mut second) = (User::connect(node).await, User::connect(node).await);
        meet(&mut first, &mut second).await;
        pairs.push((first, second));
    }
    let [one, other] = pairs.try_into().ok().unwrap();
    [one, other]
}

/// They talk for so long; returns the longest that a message and its answer took.
async fn talk_for(pairs: &mut [(User, User)], time: Duration) -> Duration {
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < time {
        for (first, second) in &mut *pairs {
            let asked = Instant::now();
            talk(first, second, 1).await;
            longest = longest.max(asked.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    longest
}

/// Processor time that a server has used.
fn used(node: &TestServer) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.process.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// The changes of `cluster_state` of a part that are seen until `until` is over.
async fn changes(node: &TestServer, part: &str, until: Instant) -> Vec<f64> {
    let labels = format!(r#"part="{part}""#);
    let mut seen = vec![node.metric("cluster_state", &labels).await];
    while Instant::now() < until {
        let now = node.metric("cluster_state", &labels).await;
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    seen
}

#[tokio::test]
async fn an_engine_that_stands_still_for_long() {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    let mut waiting = User::connect(&a).await;
    waiting.wait_with(json!({"language": "en"})).await;
    let stopped = Instant::now();
    engine.signal(Signal::STOP);
    stands(&a, "down").await;
    assert_within(LOCAL, "stands still: it was noticed", stopped);
    let noticed = Instant::now();
    let mut pairs = local_pairs(&a, &b).await;
    assert_within(LOCAL, "stands still: users of each node met", noticed);
    first
        .send(json!({"type": "message", "payload": "meanwhile"}))
        .await;
    let longest = talk_for(&mut pairs, LONG).await;
    println!("stands still: longest round of a local pair {longest:?}");
    engine.signal(Signal::CONT);
    let awake = Instant::now();
    assert_eq!(second.expect("message").await["payload"], "meanwhile");
    assert_within(REJOINED, "stands still: the message came", awake);
    talk(&mut first, &mut second, 20).await;
    for (first, second) in &mut pairs {
        first.is_undisturbed().await;
        second.is_undisturbed().await;
    }
    knows(&a, "dead", 0.0).await;
    let mut newcomer = User::connect(&b).await;
    newcomer.find_with(json!({"language": "en"})).await;
    assert_eq!(waiting.expect_match().await.peer, newcomer.id);
}

/// All dials are refused meanwhile.
#[tokio::test]
async fn an_engine_that_is_away_for_long_costs_next_to_nothing() {
    let mut engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    engine.kill();
    let killed = Instant::now();
    stands(&a, "down").await;
    let mut pairs = local_pairs(&a, &b).await;
    assert_within(LOCAL, "away: users of each node met", killed);
    let (before, lines) = (used(&a), a.process.stderr().len());
    let asleep = Instant::now();
    tokio::time::sleep(LONG - Duration::from_secs(4)).await;
    let (used, asleep) = (used(&a) - before, asleep.elapsed());
    let lines = a.process.stderr().len() - lines;
    let refused = a
        .metric("cluster_reconnects_total", r#"reason="closed""#)
        .await;
    println!(
        "away: {:.2} % of a core, {lines} lines, {refused} dials refused",
        100.0 * used.as_secs_f64() / asleep.as_secs_f64()
    );
    assert!(
        used.as_secs_f64() < 0.03 * asleep.as_secs_f64(),
        "{used:?} of {asleep:?}"
    );
    assert!(lines <= 2, "{:?}", a.process.stderr());
    assert!(refused >= 10.0);
    talk_for(&mut pairs, Duration::from_secs(1)).await;
    first
        .send(json!({"type": "message", "payload": "meanwhile"}))
        .await;
    engine.run().await;
    let back = Instant::now();
    assert_eq!(second.expect("message").await["payload"], "meanwhile");
    let (mut third, mut fourth) = pair_of(&a, &b).await;
    assert_within(REJOINED, "away: users of both met", back);
    talk(&mut third, &mut fourth, 20).await;
}

#[tokio::test]
async fn a_slow_engine_relays_and_does_not_match() {
    let engine = Engine::start().await;
    let (a, b, network) = engine.two_behind_a_network().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    // A call takes twice that: too long for users who wait.
    network.becomes(Network::Slow(Duration::from_millis(500)));
    let until = Instant::now() + Duration::from_secs(6);
    let (index, bus, ()) = tokio::join!(
        changes(&a, "index", until),
        changes(&a, "bus", until),
        async {
            stands(&a, "down").await;
            local_pairs(&a, &b).await;
            let asked = Instant::now();
            talk(&mut first, &mut second, 1).await;
            println!("slow: a message of each took {:?}", asked.elapsed());
            let before = b.metric("relay_duration_seconds_sum", "").await;
            talk(&mut first, &mut second, 20).await;
            // The time of a relay has the way through the engine in it, a second.
            let took = b.metric("relay_duration_seconds_sum", "").await - before;
            assert!((14.0..60.0).contains(&took), "20 messages took {took} s");
            let late = b.metric("bus_message_seconds_count", "").await
                - b.metric("bus_message_seconds_bucket", r#"le="0.5""#).await;
            assert!(late >= 1.0, "{late} batches");
        }
    );
    println!("slow: index {index:?}, bus {bus:?}");
    assert_eq!((index, bus), (vec![1.0, 0.0], vec![1.0]));
    network.becomes(Network::Good);
    stands(&a, "up").await;
    stands(&b, "up").await;
    talk(&mut first, &mut second, 20).await;
    let (mut third, mut fourth) = pair_of(&a, &b).await;
    talk(&mut third, &mut fourth, 20).await;
    for (reason, count) in [("closed", 0.0), ("silent", 0.0)] {
        let labels = format!(r#"reason="{reason}""#);
        assert_eq!(a.metric("cluster_reconnects_total", &labels).await, count);
    }
}

/// Three seconds for a node that is asked all the time, and some ways there and back.
#[tokio::test]
async fn a_slow_engine_tells_of_deaths_late() {
    let engine = Engine::start().await;
    let (a, b, network) = engine.two_behind_a_network().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    network.becomes(Network::Slow(Duration::from_millis(600)));
    stands(&a, "down").await;
    talk(&mut first, &mut second, 1).await;
    drop(b);
    let died = Instant::now();
    assert_eq!(first.expect_peer_left().await, "lost");
    assert_within(
        Duration::from_secs(12),
        "slow: the partner was told of the death",
        died,
    );
}

/// Both connections of both nodes are half open.
#[tokio::test]
async fn a_black_hole_before_the_engine_is_noticed_and_left() {
    let engine = Engine::start().await;
    let (a, b, network) = engine.two_behind_a_network().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    network.becomes(Network::Hole);
    let began = Instant::now();
    for number in 0..5 {
        first
            .send(json!({"type": "message", "payload": number}))
            .await;
    }
    stands(&a, "down").await;
    assert_within(LOCAL, "black hole: it was noticed", began);
    local_pairs(&a, &b).await;
    for node in [&a, &b] {
        becomes(1.0, "silent", async || {
            let labels = r#"reason="silent""#;
            node.metric("cluster_reconnects_total", labels).await
        })
        .await;
    }
    network.becomes(Network::Good);
    let healed = Instant::now();
    for number in 0..5 {
        assert_eq!(second.expect("message").await["payload"], number);
    }
    assert_within(REJOINED, "black hole: what was said came", healed);
    talk(&mut first, &mut second, 20).await;
    let (mut third, mut fourth) = pair_of(&a, &b).await;
    talk(&mut third, &mut fourth, 20).await;
    knows(&a, "dead", 0.0).await;
}

/// Two thousand wait who fit nobody of their own node, and come back all at once.
#[tokio::test]
async fn all_who_wait_return_at_once() {
    const PAIRS: usize = 1_000;
    let mut engine = Engine::start().await;
    let flags = [
        "--widen-language-after",
        "1h",
        "--widen-region-after",
        "1h",
        "--widen-anyone-after",
        "1h",
        "--max-connections",
        "4000",
        // Who waits here reads nothing, and so answers no ping, while the others come.
        "--heartbeat",
        "10m",
    ];
    let (a, b) = engine.two_with(&flags).await;
    engine.kill();
    stands(&a, "down").await;
    stands(&b, "down").await;
    let mut users = Vec::new();
    for number in 0..PAIRS {
        for node in [&a, &b] {
            let mut user = User::connect(node).await;
            let interest = format!("interest {number}");
            user.wait_with(json!({"interests": [interest]})).await;
            users.push(user);
        }
    }
    let calls = async || {
        let mut sum = 0.0;
        for node in [&a, &b] {
            let metrics = node.metrics().await;
            let seeks = metrics.all("cluster_calls_total");
            sum += seeks
                .filter(|(labels, _)| labels.contains(r#"script="seek""#))
                .map(|(_, count)| count)
                .sum::<f64>();
        }
        sum
    };
    let before = calls().await;
    engine.run().await;
    let began = Instant::now();
    eventually("all are matched", async || {
        let mut waiting = 0.0;
        for node in [&a, &b] {
            let metrics = node.metrics().await;
            let all = metrics.all("matchmaking_waiting_users");
            waiting += all.map(|(_, count)| count).sum::<f64>();
        }
        waiting == 0.0
    })
    .await;
    assert_within(REJOINED, "all return: they were matched", began);
    let calls = calls().await - before;
    println!("all return: {PAIRS} pairs in {calls} calls");
    // Each looks, and tells the index when it has gone: one by one that would be four thousand.
    assert!(calls < 1_000.0, "{calls} calls");
    for pair in users.chunks_exact_mut(2) {
        let [first, second] = pair else { panic!("two") };
        assert_eq!(first.expect_match().await.peer, second.id);
        assert_eq!(second.expect_match().await.peer, first.id);
    }
    assert_eq!(engine.ask("hlen {vm:m}:1:t"), "0");
}
