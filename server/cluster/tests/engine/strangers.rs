//! What comes over the bus and is not what a living node of this version says.

use std::time::Duration;

use voicematch_cluster::NodeId;
use voicematch_cluster::nodes::Change;

use crate::cluster::{Node, frame};
use crate::proxy::{Network, Proxy};
use crate::server::{Server, settings_at};
use crate::support::eventually;

async fn publish(server: &Server, to: &Node, bytes: &[u8]) {
    let channel = format!("vm:1:n:{{{}}}", to.me());
    let mut cmd = redis::cmd("SPUBLISH");
    let cmd = cmd.arg(channel).arg(bytes);
    server.run_cmd(cmd).await.expect("published");
}

/// A packet, with the number 1 in its link and nothing seen.
fn packet(kind: u8, frames: u16, [from, to]: [NodeId; 2], rest: &[u8]) -> Vec<u8> {
    let head = [1, kind, 0, frames.to_be_bytes()[1]];
    let numbers = [[0, 0, 0, 0, 0, 0, 0, 1], [0; 8]];
    [&head[..], &from.0, &to.0, &numbers.concat(), rest].concat()
}

const BATCH: u8 = 1;
const KEEP_ALIVE: u8 = 2;

#[tokio::test]
async fn what_is_not_understood_is_counted_and_skipped() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let way = [a.me(), b.me()];
    let good = packet(KEEP_ALIVE, 0, way, &[0; 8]);
    let mut other_version = good.clone();
    other_version[0] = 2;
    let old_life = packet(KEEP_ALIVE, 0, [a.me(), b.me().next_life()], &[0; 8]);
    for (bytes, reason) in [
        (other_version, "version"),
        (Vec::new(), "garbage"),
        (good[..30].to_vec(), "garbage"),
        (packet(KEEP_ALIVE, 0, way, &[0; 9]), "garbage"),
        (packet(BATCH, 1, way, &[0; 28]), "garbage"),
        (vec![1; 36], "garbage"),
        (old_life, "life"),
        (packet(KEEP_ALIVE, 0, [b.me(), b.me()], &[0; 8]), "own"),
    ] {
        let before = b.count("bus_dropped_total", reason);
        publish(&server, &b, &bytes).await;
        eventually(reason, async || {
            b.count("bus_dropped_total", reason) == before + 1.0
        })
        .await;
    }
    let dropped = b.count("bus_dropped_total", "");
    publish(&server, &b, &packet(9, 0, way, &[0; 8])).await;
    eventually("it is unknown", async || {
        b.count("bus_unknown_frames_total", "") == 1.0
    })
    .await;
    assert_eq!(b.count("bus_dropped_total", ""), dropped);
    a.link(&b).push(&frame(1, b"x")).expect("taken");
    eventually("the next is heard", async || b.frames(a.me()) == [1]).await;
}

#[tokio::test]
async fn the_same_batch_counts_once() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    a.link(&b).push(&frame(1, b"x")).expect("taken");
    eventually("it is heard", async || b.frames(a.me()) == [1]).await;
    publish(&server, &b, &packet(BATCH, 0, [a.me(), b.me()], &[])).await;
    eventually("it was there", async || {
        b.count("bus_dropped_total", "twice") == 1.0
    })
    .await;
}

#[tokio::test]
async fn who_is_no_node_is_forgotten() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let strangers: Vec<_> = (100..200).map(crate::support::node).collect();
    for stranger in &strangers {
        let packet = packet(KEEP_ALIVE, 0, [*stranger, b.me()], &[0; 8]);
        publish(&server, &b, &packet).await;
    }
    let held = || {
        let held = strangers
            .iter()
            .filter(|node| b.bus.heard(**node).is_some());
        held.count()
    };
    eventually("too many", async || {
        b.count("bus_dropped_total", "strangers") == 36.0
    })
    .await;
    assert_eq!(held(), 64);
    assert!(b.bus.link(strangers[99]).is_none());
    // Who lives is heard all the same.
    a.link(&b).push(&frame(1, b"x")).expect("taken");
    eventually("it is heard", async || b.frames(a.me()) == [1]).await;
    eventually("they are forgotten", async || held() == 0).await;
    assert!(b.bus.heard(a.me()).is_some());
    assert!(b.bus.link(strangers[99]).is_some(), "there is room again");
}

#[tokio::test]
async fn rooms_with_a_life_that_never_had_an_entry_end() {
    let server = Server::start().await;
    let [mut a] = Node::some(&server.settings()).await;
    let ghost = crate::support::node(200);
    let link = a.bus.link(ghost).expect("a link");
    link.set_rooms(Some(7));
    let died = async { while a.changes.next().await.expect("changes") != Change::Died(ghost) {} };
    tokio::time::timeout(crate::support::PATIENCE, died)
        .await
        .expect("it is missed");
    eventually("the link has ended", async || a.bus.link(ghost).is_none()).await;
    assert!(link.push(&frame(1, b"x")).is_err());
    assert_eq!(a.count("bus_dropped_total", "ended"), 1.0);
}

/// Only b has rooms: a answers, and so hears of what it has missed, and b of what a has sent.
#[tokio::test]
async fn who_has_no_rooms_answers_who_has() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    b.link(&a).set_rooms(Some(7));
    eventually("b says it", async || a.rooms(b.me()) == Some(7)).await;
    eventually("a says that it has none", async || {
        b.rooms(a.me()) == Some(0)
    })
    .await;
    // Not only while the link lingers after its last batch: there was none.
    let heard = b.bus.heard(a.me()).expect("heard");
    eventually("it goes on", async || {
        b.bus.heard(a.me()).expect("heard") > heard + Duration::from_secs(2)
    })
    .await;
    assert!(b.members.suspects().is_empty());
}

#[tokio::test]
async fn a_suspect_is_asked_until_it_is_heard() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    let a = Node::new(server.settings(), 1);
    let b = Node::new(settings_at(proxy.port), 2);
    a.knows(1).await;
    b.knows(1).await;
    // They have never spoken.
    proxy.becomes(Network::Slow(Duration::from_millis(100)));
    a.members.suspect(b.me());
    assert_eq!(a.members.suspects(), [b.me()]);
    eventually("it is heard", async || a.members.suspects().is_empty()).await;
    assert!(a.members.dead().is_empty());
}
