//! Nodes that are cut off, frozen, or on the other side of a split: nobody is in two rooms, and nobody is left
//! alone in half of one.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    cluster::{meet, pair_of, talk},
    support::{
        TestServer, User, assert_within, becomes,
        engine::{DEATH, Engine, REJOINED, joined, knows, stands},
        machine::Machine,
        network::Network,
    },
};

async fn lives(node: &TestServer) -> f64 {
    let labels = r#"reason="fenced""#;
    node.metric("cluster_lives_total", labels).await
}

/// Two who look for anybody are matched with each other, whatever they were told before.
async fn find_each_other(first: &mut User, second: &mut User) {
    let mut rooms = Vec::new();
    let others = [second.id.clone(), first.id.clone()];
    for (user, other) in [first, second].into_iter().zip(others) {
        let mut found = user.next_json().await;
        while found["type"] == "waiting" {
            found = user.next_json().await;
        }
        assert_eq!(
            (&found["type"], &found["peer_id"]),
            (&json!("match_found"), &json!(other)),
            "{found}"
        );
        rooms.push(found["room_id"].clone());
    }
    assert_eq!(rooms[0], rooms[1]);
}

/// Whether they are still in one room. Both are, or both have been told.
async fn still_together(first: &mut User, second: &mut User) -> bool {
    for user in [&mut *first, &mut *second] {
        user.send(json!({"type": "message", "payload": "still there?"}))
            .await;
    }
    let mut heard = Vec::new();
    for user in [&mut *first, &mut *second] {
        // Who is in no room any more is told that, too, and perhaps after the message.
        let mut next = user.next_json().await;
        while next["type"] == "error" {
            next = user.next_json().await;
        }
        heard.push(next["type"].clone());
    }
    assert_eq!(heard[0], heard[1], "half a room");
    heard[0] == "message"
}

/// The first node is cut off from the engine for ten seconds.
async fn is_cut_off(a: TestServer, b: TestServer, cut: impl FnOnce(), heal: impl FnOnce()) {
    let (mut first, mut second) = pair_of(&a, &b).await;
    let (third, mut fourth) = pair_of(&a, &b).await;
    let mut waiting = User::connect(&a).await;
    waiting.wait_with(json!({"language": "en"})).await;
    cut();
    let cut = Instant::now();
    // A user of the cut-off node leaves: the other node cannot be told.
    third.close().await;
    assert_eq!(second.expect_peer_left().await, "lost");
    assert_eq!(fourth.expect_peer_left().await, "lost");
    assert_within(DEATH, "cut off: the remote partners were told", cut);
    stands(&a, "down").await;
    for node in [&a, &b] {
        let (mut fifth, mut sixth) = (User::connect(node).await, User::connect(node).await);
        meet(&mut fifth, &mut sixth).await;
        talk(&mut fifth, &mut sixth, 10).await;
    }
    first.is_undisturbed().await;
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(cut.elapsed())).await;
    heal();
    let healed = Instant::now();
    assert_eq!(first.expect_peer_left().await, "lost");
    println!(
        "cut off: its own user was told {:?} after it was healed",
        healed.elapsed()
    );
    becomes(1.0, "lives", async || lives(&a).await).await;
    let mut newcomer = User::connect(&b).await;
    newcomer.find_with(json!({"language": "en"})).await;
    assert_eq!(waiting.expect_match().await.peer, newcomer.id);
    assert_within(REJOINED, "cut off: who waited is matched", healed);
    for node in [&a, &b] {
        let rooms = node.metric("rooms_active", "").await;
        assert!(rooms <= 1.0, "{rooms}");
    }
    // Those who lost each other are matched with others.
    meet(&mut first, &mut fourth).await;
    talk(&mut first, &mut fourth, 10).await;
}

#[tokio::test]
async fn a_node_whose_connections_say_nothing_any_more() {
    let engine = Engine::start().await;
    let (a, b, network) = engine.two_and_a_network().await;
    let cut = || network.becomes(Network::Hole);
    is_cut_off(a, b, cut, || network.becomes(Network::Good)).await;
}

/// As the machines of a partition see it: the link is down, and what is on its way is lost.
#[tokio::test]
async fn a_node_whose_machine_is_partitioned_from_the_engine() {
    let Some(machine) = Machine::start() else {
        eprintln!("not run: networks of one's own need root");
        return;
    };
    let flags = format!("--bind 127.0.0.1 {} --protected-mode no", machine.engine);
    let mut engine = Engine::stopped_with(&flags);
    engine.run().await;
    let url = format!("redis://{}:{}", machine.engine, engine.port);
    let a = machine.server(&["--cluster", &url]).await;
    let (a, b) = joined(a, engine.node(&[]).await).await;
    is_cut_off(a, b, || machine.cut(), || machine.heal()).await;
}

#[tokio::test]
async fn two_primaries_are_two_clusters_until_they_are_mended() {
    let (one, other) = (Engine::start().await, Engine::start().await);
    let (a, b, network) = one.two_and_a_network().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    let (mut on_a, mut on_b) = (User::connect(&a).await, User::connect(&b).await);
    network.leads_to(other.port);
    let split = Instant::now();
    for (node, user) in [(&a, &mut first), (&b, &mut second)] {
        // The other one is gone from here.
        assert_eq!(user.expect_peer_left().await, "lost");
        println!("two primaries: told after {:?}", split.elapsed());
        stands(node, "up").await;
        knows(node, "alive", 0.0).await;
    }
    on_a.wait().await;
    on_b.wait().await;
    for (node, user) in [(&a, &mut on_a), (&b, &mut on_b)] {
        let mut newcomer = User::connect(node).await;
        newcomer.find().await;
        assert_eq!(user.expect_match().await.peer, newcomer.id);
        let met = newcomer.next_json().await;
        let met = if met["type"] == "waiting" {
            newcomer.next_json().await
        } else {
            met
        };
        assert_eq!(met["peer_id"], user.id);
        talk(user, &mut newcomer, 5).await;
        newcomer.close().await;
        assert_eq!(user.expect_peer_left().await, "closed");
    }
    // One waits on each side when it is mended.
    on_a.wait().await;
    on_b.wait().await;
    network.leads_to(one.port);
    let mended = Instant::now();
    find_each_other(&mut on_a, &mut on_b).await;
    println!(
        "two primaries: matched across {:?} after it was mended",
        mended.elapsed()
    );
    talk(&mut on_a, &mut on_b, 20).await;
    assert_eq!(lives(&a).await, 1.0);
    first.is_undisturbed().await;
    second.is_undisturbed().await;
}

/// Somebody of another node proposes to one of its users meanwhile.
async fn frozen(time: Duration) {
    let engine = Engine::start().await;
    let (a, b) = engine.two().await;
    let (mut first, mut second) = pair_of(&a, &b).await;
    let (mut seeking, mut waiting) = (User::connect(&a).await, User::connect(&b).await);
    waiting.wait().await;
    b.process.signal(Signal::STOP);
    let began = Instant::now();
    seeking.find().await;
    tokio::time::sleep(time.saturating_sub(began.elapsed())).await;
    b.process.signal(Signal::CONT);
    let awake = Instant::now();
    find_each_other(&mut seeking, &mut waiting).await;
    let matched = awake.elapsed();
    talk(&mut seeking, &mut waiting, 10).await;
    let together = still_together(&mut first, &mut second).await;
    println!(
        "frozen {time:?}: matched {matched:?} after, lives begun {}, the room over nodes {}",
        lives(&b).await,
        if together {
            "goes on"
        } else {
            "has ended on both sides"
        }
    );
    assert_eq!(together, lives(&b).await == 0.0);
    if time > Duration::from_secs(5) {
        assert!(!together);
    }
    for user in [&mut seeking, &mut waiting] {
        user.is_undisturbed().await;
    }
    // It counts where the user is who makes the offer.
    let mut rooms = 0.0;
    for node in [&a, &b] {
        rooms += node.metric("rooms_active", "").await;
    }
    assert_eq!(rooms, 1.0 + f64::from(u8::from(together)));
}

#[tokio::test]
async fn nodes_that_freeze_while_they_are_asked() {
    let times = [2_400, 2_900, 3_100, 10_000].map(Duration::from_millis);
    let [a, b, c, d] = times.map(frozen);
    tokio::join!(a, b, c, d);
}
