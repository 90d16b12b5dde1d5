//! Messages between nodes: in order, bounded, and honest about what was lost.
//!
//! A link goes from one life of a node to one of another. Frames are gathered into batches, at once on a quiet bus and then at most
//! each 500 us; all links' batches go out in one write. Batches have numbers: the receiver asks for those that are missing, the sender
//! keeps the last ones in a ring, and what neither helps is told as a gap after a second.

mod incoming;
mod link;
mod receive;
mod send;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::engine::{Engine, Inbox, Publication};
use crate::frames::{self, Frame};
use crate::id::NodeId;
use crate::members::Members;
pub use link::{Link, NotTaken};

/// Links at once. More nodes than this are no cluster of ours.
const LINKS: usize = 1_024;

/// Links at once to senders that have no entry in the engine and no rooms with this node. Such a sender is a node whose first
/// beat has not come yet, an old life, or another program that may publish.
const STRANGERS: usize = 64;

/// So long they may have none.
const STRANGE: Duration = Duration::from_secs(5);

/// What comes in, in order for each node.
#[derive(Debug)]
pub enum Delivery<'a> {
    /// A frame, and for how long the oldest of its batch has been on its way, as far as that is known.
    Frame(NodeId, Frame<'a>, Duration),
    /// Something that this node sent is lost for good.
    Gap(NodeId),
    /// The XOR of the ids of the rooms that this node has with us. Different from ours for 2 s: compare.
    Rooms(NodeId, u64),
    /// What the engine knows of bans has changed.
    Bans,
    /// What it knows of blocks has.
    Blocks,
}

/// Is given what comes in, by the bus's one task, and must not block.
pub type Deliver = Box<dyn FnMut(Delivery<'_>) + Send>;

/// The bus. Clones are the same.
#[derive(Clone, Debug)]
pub struct Bus {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

#[derive(Debug)]
struct Tasks([AbortHandle; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    members: Members,
    flush: Duration,
    links: RwLock<Links>,
    outbox: Arc<Outbox>,
}

/// The links of one life of this node.
#[derive(Debug)]
struct Links {
    life: NodeId,
    of: HashMap<NodeId, Arc<Link>>,
    strangers: usize,
}

/// What is to be sent, by links.
#[derive(Debug, Default)]
struct Outbox {
    /// Links that have something new.
    ready: Mutex<Vec<Arc<Link>>>,
    /// Packets that are wanted once more, or at once.
    packets: Mutex<Vec<Publication>>,
    wake: Notify,
    /// A batch is full: no need to wait for more.
    full: Notify,
}

impl Bus {
    /// Begins to send and to receive. `flush` is the least time between two writes, 500 us unless there is a reason.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(
        engine: &Engine,
        members: &Members,
        inbox: Inbox,
        flush: Duration,
        deliver: Deliver,
    ) -> Self {
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            members: members.clone(),
            flush,
            links: RwLock::new(Links {
                life: members.me(),
                of: HashMap::new(),
                strangers: 0,
            }),
            outbox: Arc::default(),
        });
        let receive = receive::receive(Arc::clone(&shared), inbox, deliver);
        let _tasks = Arc::new(Tasks([
            engine.spawn("send", send::send(Arc::clone(&shared))),
            engine.spawn("receive", receive),
        ]));
        Self { shared, _tasks }
    }

    /// The link to a node's life: the same one, as long as both live. `None`: it is dead, there are 1,024 others,
    /// or 64 of which the engine knows nothing either.
    #[must_use]
    pub fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.shared.link(node).ok()
    }

    /// Tells all nodes, this one too, that what the engine knows of bans has changed. Who does not hear it reads them when it
    /// connects anew.
    pub fn tell_bans(&self) {
        self.shared
            .tell_all(frames::encode_bans(self.shared.members.me()));
    }

    /// The same of blocks.
    pub fn tell_blocks(&self) {
        self.shared
            .tell_all(frames::encode_blocks(self.shared.members.me()));
    }

    /// When the last packet of a node came.
    #[must_use]
    pub fn heard(&self, node: NodeId) -> Option<Instant> {
        let links = self
            .shared
            .links
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        links.of.get(&node)?.heard()
    }
}

impl Shared {
    /// The error is a reason for dropping what is from there.
    fn link(&self, node: NodeId) -> Result<Arc<Link>, &'static str> {
        {
            let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(link) = links.of.get(&node) {
                return Ok(Arc::clone(link));
            }
        }
        if self.members.is_dead(node) {
            return Err("dead");
        }
        let stranger = !self.members.knows(node);
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if links.life == node {
            return Err("own");
        }
        if links.of.len() >= LINKS {
            return Err("links");
        }
        if stranger && links.strangers >= STRANGERS {
            return Err("strangers");
        }
        links.strangers += usize::from(stranger);
        let channel = self.engine.scripts().inbox(node);
        let life = links.life;
        let dropped = self.engine.metrics().dropped.clone();
        let new = || {
            Arc::new(Link::new(
                life,
                node,
                channel,
                Arc::clone(&self.outbox),
                dropped,
            ))
        };
        Ok(Arc::clone(links.of.entry(node).or_insert_with(new)))
    }

    fn all(&self) -> Vec<Arc<Link>> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.of.values().cloned().collect()
    }

    /// Ends the links of lives that have ended, this node's or others', and of those that never were.
    fn bury(&self) {
        let me = self.members.me();
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let renewed = links.life != me;
        let mut strangers = 0;
        links.life = me;
        links.of.retain(|node, link| {
            let stranger = !self.members.knows(*node);
            let strange = stranger && !link.has_rooms() && link.since().elapsed() >= STRANGE;
            let over = renewed || strange || self.members.is_dead(*node);
            if over {
                link.close();
            }
            strangers += usize::from(stranger && !over);
            !over
        });
        links.strangers = strangers;
    }

    fn dropped(&self, reason: &str) {
        self.engine
            .metrics()
            .dropped
            .with_label_values(&[reason])
            .inc();
    }

    fn tell_all(&self, bytes: Vec<u8>) {
        let control = self.engine.scripts().control.clone();
        if !self.outbox.packet(control, bytes.into()) {
            self.dropped("packets");
        }
    }

    /// Sends a packet with the next write.
    fn packet(&self, node: NodeId, bytes: Vec<u8>) {
        let channel = self.engine.scripts().inbox(node);
        if !self.outbox.packet(channel, bytes.into()) {
            self.dropped("packets");
        }
    }
}

/// Packets that are wanted once more: at most so many, since a node that asks too often asks again.
const PACKETS: usize = 4_096;

impl Outbox {
    /// Whether there is room for it.
    fn packet(&self, channel: Vec<u8>, bytes: Arc<[u8]>) -> bool {
        let mut packets = crate::engine::lock(&self.packets);
        let fits = packets.len() < PACKETS;
        if fits {
            packets.push((channel, bytes));
        }
        drop(packets);
        self.wake.notify_one();
        fits
    }
}
