//! Whole nodes: members, index and bus over one engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use voicematch_cluster::frames::Frame;
use voicematch_cluster::nodes::Info;
use voicematch_cluster::{
    Bus, Changes, ClusterMetrics, Delivery, Engine, Index, Link, Members, NodeId, Settings, Sought,
    TicketId, Wish,
};

use crate::support::{PATIENCE, count, eventually, node};

/// What came in over the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Frame(NodeId, u64, Vec<u8>),
    Gap(NodeId),
    Rooms(NodeId, u64),
    Bans,
    Blocks,
}

/// What makes a node's own function panic: the body of a frame, and the user of a search.
pub(crate) const PANIC: &[u8] = b"panic";
pub(crate) const PANICS: u8 = 255;

/// A node without users.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) members: Members,
    pub(crate) changes: Changes,
    pub(crate) index: Index,
    pub(crate) bus: Bus,
    pub(crate) registry: Registry,
    sought: Arc<Mutex<HashMap<TicketId, Vec<Sought>>>>,
    came: Arc<Mutex<Vec<Came>>>,
    age: Arc<Mutex<Duration>>,
}

impl Node {
    /// Begins to connect.
    pub(crate) fn new(settings: Settings, number: u8) -> Self {
        let metrics = ClusterMetrics::new().expect("metrics");
        let registry = Registry::new();
        metrics.register(&registry).expect("registered");
        let me = node(number);
        let (engine, inbox) = Engine::start(settings, me, metrics);
        let (members, changes) = Members::start(&engine, me, Info::new([1; 4]));
        let (sought, came) = <(Arc<Mutex<HashMap<_, Vec<_>>>>, Arc<Mutex<Vec<Came>>>)>::default();
        let told = {
            let sought = Arc::clone(&sought);
            Box::new(move |ticket: TicketId, what| {
                assert_ne!(ticket.session(), [PANICS; 8], "the test wants it");
                sought
                    .lock()
                    .expect("a map")
                    .entry(ticket)
                    .or_default()
                    .push(what)
            })
        };
        let index = Index::start(&engine, &members, Duration::from_millis(2), told);
        let age = Arc::<Mutex<Duration>>::default();
        let deliver = {
            let (came, oldest) = (Arc::clone(&came), Arc::clone(&age));
            Box::new(move |delivery: Delivery<'_>| {
                if let Delivery::Frame(_, frame, _) = &delivery {
                    assert_ne!(frame.body, PANIC, "the test wants it");
                }
                came.lock().expect("a list").push(match delivery {
                    Delivery::Frame(node, frame, age) => {
                        *oldest.lock().expect("a time") = age;
                        Came::Frame(node, frame.room, frame.body.to_vec())
                    }
                    Delivery::Gap(node) => Came::Gap(node),
                    Delivery::Rooms(node, rooms) => Came::Rooms(node, rooms),
                    Delivery::Bans => Came::Bans,
                    Delivery::Blocks => Came::Blocks,
                });
            })
        };
        let bus = Bus::start(
            &engine,
            &members,
            inbox,
            Duration::from_micros(500),
            deliver,
        );
        Self {
            engine,
            members,
            changes,
            index,
            bus,
            registry,
            sought,
            came,
            age,
        }
    }

    /// Nodes that know each other.
    pub(crate) async fn some<const COUNT: usize>(settings: &Settings) -> [Self; COUNT] {
        let nodes = std::array::from_fn(|at| {
            Self::new(settings.clone(), u8::try_from(at + 1).expect("few"))
        });
        for node in &nodes {
            node.knows(COUNT - 1).await;
        }
        nodes
    }

    /// It lives, and knows so many others.
    pub(crate) async fn knows(&self, others: usize) {
        eventually("they know each other", async || {
            self.members.others().len() == others && self.members.lease() && self.index.is_up()
        })
        .await;
    }

    /// Waits for so many more good beats: one each half second, as long as there is no news.
    pub(crate) async fn beats(&self, count: u64) {
        let mut beats = self.members.beats();
        let first = *beats.borrow_and_update();
        let more = beats.wait_for(|now| *now >= first + count);
        let waited = tokio::time::timeout(PATIENCE, more).await;
        assert!(
            waited.is_ok_and(|waited| waited.is_ok()),
            "it does not beat"
        );
    }

    pub(crate) fn me(&self) -> NodeId {
        self.members.me()
    }

    pub(crate) fn link(&self, to: &Self) -> Arc<Link> {
        self.try_link(to).expect("a link")
    }

    /// None, if the other node's life has ended.
    pub(crate) fn try_link(&self, to: &Self) -> Option<Arc<Link>> {
        self.bus.link(to.me())
    }

    /// Looks for anyone, as a user of this node who avoids some.
    pub(crate) fn seek(&self, user: u8, avoided: &[u8], waited: Duration) -> TicketId {
        let ticket = TicketId::new([user; 8], 1);
        let avoided: Vec<_> = avoided.iter().map(|user| [*user; 8]).collect();
        let wish = Wish::new(ticket, [user; 8], &avoided, &[[3; 17]]).expect("a wish");
        self.index.seek(wish, waited, false);
        ticket
    }

    /// What this node was told of a search, so far.
    pub(crate) fn told(&self, ticket: TicketId) -> Vec<Sought> {
        self.sought
            .lock()
            .expect("a map")
            .get(&ticket)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) async fn posted(&self, ticket: TicketId) {
        eventually("it is posted", async || {
            self.told(ticket).last() == Some(&Sought::Posted)
        })
        .await;
    }

    /// Who was found for it, and where.
    pub(crate) async fn found(&self, ticket: TicketId) -> (TicketId, NodeId) {
        let mut found = None;
        eventually("somebody is found", async || {
            found = self.told(ticket).iter().find_map(|told| match told {
                Sought::Found(found) => Some((found.ticket, found.node)),
                _ => None,
            });
            found.is_some()
        })
        .await;
        found.expect("found")
    }

    /// How long the last frame was on its way.
    pub(crate) fn age(&self) -> Duration {
        *self.age.lock().expect("a time")
    }

    /// Frames from a node, by what their room says, and gaps as zero.
    pub(crate) fn frames(&self, from: NodeId) -> Vec<u64> {
        let came = self.came.lock().expect("a list");
        let one = |came: &Came| match came {
            Came::Frame(node, room, _) if *node == from => Some(*room),
            Came::Gap(node) if *node == from => Some(0),
            _ => None,
        };
        came.iter().filter_map(one).collect()
    }

    /// Whether this has come.
    pub(crate) fn hears(&self, what: &Came) -> bool {
        self.came.lock().expect("a list").contains(what)
    }

    pub(crate) fn rooms(&self, from: NodeId) -> Option<u64> {
        let came = self.came.lock().expect("a list");
        came.iter().rev().find_map(|came| match came {
            Came::Rooms(node, rooms) if *node == from => Some(*rooms),
            _ => None,
        })
    }

    pub(crate) fn count(&self, name: &str, label: &str) -> f64 {
        count(&self.registry, name, label)
    }
}

pub(crate) fn frame(number: u64, body: &[u8]) -> Frame<'_> {
    Frame {
        kind: 1,
        room: number,
        to: 2,
        from: 3,
        body,
    }
}
