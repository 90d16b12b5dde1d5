//! Nodes that come, go, freeze and return.

use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::runtime::{Builder, Runtime};
use voicematch_cluster::nodes::Change;
use voicematch_cluster::{Settings, Sought, State, TicketId};

use crate::cluster::{Node, PANIC, PANICS, frame};
use crate::proxy::{Network, Proxy};
use crate::server::{Server, settings_at};
use crate::support::{PATIENCE, eventually};

async fn changes_to(node: &mut Node, wanted: &Change) {
    let until = async {
        while let Some(change) = node.changes.next().await {
            if change == *wanted {
                return;
            }
        }
        panic!("no more changes");
    };
    tokio::time::timeout(PATIENCE, until)
        .await
        .unwrap_or_else(|_| panic!("never {wanted:?}"));
}

/// A thread of a node's own, on which all of it stands still.
struct Thread(Option<Runtime>);

impl Thread {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self(Some(runtime.expect("a thread")))
    }

    fn node(&self, settings: Settings, number: u8) -> Node {
        let _here = self.0.as_ref().map(Runtime::enter);
        Node::new(settings, number)
    }

    /// From when this is ready until the sender is dropped.
    async fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, frozen) = mpsc::channel();
        let (tell, freezes) = tokio::sync::oneshot::channel();
        let stand_still = async move {
            let _ = tell.send(());
            // Its error is what it waits for.
            let _ = frozen.recv();
        };
        self.0.as_ref().expect("a thread").spawn(stand_still);
        freezes.await.expect("it freezes");
        thaw
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How often.
fn posted(node: &Node, ticket: TicketId) -> usize {
    let told = node.told(ticket);
    told.iter().filter(|told| **told == Sought::Posted).count()
}

#[tokio::test]
async fn a_node_that_is_gone_is_buried_by_the_others() {
    let server = Server::start().await;
    let [mut a, mut b, c] = Node::some(&server.settings()).await;
    let gone = c.me();
    drop(c);
    changes_to(&mut a, &Change::Died(gone)).await;
    changes_to(&mut b, &Change::Died(gone)).await;
    assert!(a.members.is_dead(gone) && b.members.dead().contains(&gone));
    assert!(a.bus.link(gone).is_none());
    assert!(a.count("cluster_nodes", "dead") == 1.0 && a.count("cluster_nodes", "alive") == 1.0);
}

/// Each answer takes longer than a witness may be without one.
#[tokio::test]
async fn a_slow_engine_sees_deaths_late() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    let [mut a, b, c] = Node::some(&settings_at(proxy.port)).await;
    proxy.becomes(Network::Slow(Duration::from_millis(600)));
    // Longer than a death takes.
    a.beats(9).await;
    b.beats(1).await;
    assert!(a.members.dead().is_empty() && b.members.dead().is_empty());
    let gone = c.me();
    drop(c);
    changes_to(&mut a, &Change::Died(gone)).await;
    assert!(!a.members.is_dead(b.me()) && !b.members.is_dead(a.me()));
    assert_eq!(a.count("cluster_lives_total", "fenced"), 0.0);
    assert!(a.members.lease(), "it goes on");
}

#[tokio::test]
async fn a_node_that_leaves_is_seen_at_once_to_have_left() {
    let server = Server::start().await;
    let [mut a, b] = Node::some(&server.settings()).await;
    b.members.drain();
    changes_to(&mut a, &Change::Told(b.me())).await;
    assert!(
        a.members.others()[0]
            .1
            .as_ref()
            .is_some_and(|info| info.draining)
    );
    eventually("it has left", async || {
        b.members.leave().await.is_ok_and(|left| left)
    })
    .await;
    changes_to(&mut a, &Change::Died(b.me())).await;
}

#[tokio::test]
async fn a_node_cut_off_from_the_engine_returns_as_another_life() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port).await;
    let a = Node::new(server.settings(), 1);
    let mut b = Node::new(settings_at(proxy.port), 2);
    a.knows(1).await;
    b.knows(1).await;
    let ticket = b.seek(7, &[], Duration::from_secs(1));
    b.posted(ticket).await;
    let (old, link) = (b.me(), a.link(&b));
    proxy.becomes(Network::Hole);
    eventually("it is dead", async || a.members.is_dead(old)).await;
    assert!(!b.members.lease());
    proxy.becomes(Network::Good);
    changes_to(&mut b, &Change::NewLife(old.next_life())).await;
    assert_eq!(b.me(), old.next_life());
    a.knows(1).await;
    eventually("the old link has ended", async || {
        link.push(&frame(1, b"")).is_err()
    })
    .await;
    // Who waited there is put back, and found as the new life's.
    eventually("it is posted again", async || posted(&b, ticket) >= 2).await;
    let seeker = a.seek(8, &[], Duration::ZERO);
    assert_eq!(a.found(seeker).await, (ticket, old.next_life()));
    // Messages go between the new lives.
    let link = a.link(&b);
    link.push(&frame(5, b"hello")).expect("taken");
    eventually("it comes", async || b.frames(a.me()) == [5]).await;
}

/// What was said to it while it stood still is for a life that has ended, although it does not know that when it wakes.
#[tokio::test]
async fn a_node_that_was_frozen_asks_first_whether_it_lives() {
    let server = Server::start().await;
    let a = Node::new(server.settings(), 1);
    let thread = Thread::new();
    let b = thread.node(server.settings(), 2);
    a.knows(1).await;
    b.knows(1).await;
    let (old, link) = (b.me(), a.link(&b));
    link.push(&frame(1, b"x")).expect("taken");
    eventually("it comes", async || b.frames(a.me()) == [1]).await;
    let thaw = thread.freeze().await;
    link.push(&frame(2, b"x")).expect("taken");
    eventually("it is dead", async || a.members.is_dead(old)).await;
    drop(thaw);
    eventually("it has a new life", async || b.me() != old).await;
    eventually("what came is of the old one", async || {
        b.count("bus_dropped_total", "life") >= 1.0
    })
    .await;
    assert_eq!(b.frames(a.me()), [1]);
}

/// It would be deaf, and say that it is well.
#[tokio::test]
async fn a_node_of_which_a_task_has_ended_is_down() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    let [c, _d] = [3, 4].map(|number| Node::new(server.settings(), number));
    c.knows(3).await;
    a.link(&b).push(&frame(1, PANIC)).expect("taken");
    c.seek(PANICS, &[], Duration::ZERO);
    for broken in [&b, &c] {
        let ended = tokio::time::timeout(PATIENCE, broken.engine.ended()).await;
        ended.expect("it has ended");
        // It stays so, whatever the engine answers.
        broken.beats(3).await;
        assert_eq!(*broken.engine.state().borrow(), State::default());
        assert!(!broken.index.is_up());
        assert_eq!(broken.count("cluster_state", "bus"), 0.0);
    }
    assert!(a.index.is_up() && a.engine.state().borrow().bus);
}

#[tokio::test]
async fn an_outage_of_the_engine_buries_nobody() {
    let mut server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    server.signal(Signal::STOP);
    eventually("no lease", async || {
        !a.members.lease() && !b.members.lease()
    })
    .await;
    // The time is what is tested: with the 2.5 s of the lease it is longer than a death takes, and nothing happens meanwhile.
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.signal(Signal::CONT);
    eventually("both are back", async || {
        a.members.lease() && b.members.lease()
    })
    .await;
    server.kill();
    eventually("no lease", async || {
        !a.members.lease() && !b.members.lease()
    })
    .await;
    server.run().await;
    eventually("both are back", async || {
        a.members.lease() && b.members.lease()
    })
    .await;
    // Longer than a death takes.
    a.beats(9).await;
    b.beats(1).await;
    assert!(a.members.dead().is_empty() && b.members.dead().is_empty());
    assert_eq!(a.count("cluster_lives_total", "fenced"), 0.0);
}

#[tokio::test]
async fn lost_data_are_noticed() {
    let server = Server::start().await;
    let [mut a, b] = Node::some(&server.settings()).await;
    let ticket = b.seek(7, &[], Duration::from_secs(1));
    b.posted(ticket).await;
    server.ask("FLUSHALL").await.expect("flushed");
    changes_to(&mut a, &Change::Generation).await;
    eventually("it is posted again", async || posted(&b, ticket) >= 2).await;
    assert!(b.count("match_put_back_total", "nodes") >= 1.0);
    let seeker = a.seek(8, &[], Duration::ZERO);
    assert_eq!(a.found(seeker).await, (ticket, b.me()));
}

#[tokio::test]
async fn another_program_on_the_same_prefix_is_seen() {
    let server = Server::start().await;
    let a = Node::new(server.settings(), 1);
    a.knows(0).await;
    server
        .ask("HSET {vm:m}:1:n 12345678 something")
        .await
        .expect("set");
    eventually("it is strange", async || {
        a.members.others().iter().any(|(_, info)| info.is_none())
    })
    .await;
    eventually("it is counted", async || {
        a.count("cluster_nodes", "strange") == 1.0
    })
    .await;
}
