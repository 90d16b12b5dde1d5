//! Three nodes, what lies between them, and what happens to them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard},
};

use super::super::*;
mod faults;
mod known;

use crate::{
    cluster::{Bus, BusLink, Frame, Full, Homes, Living, NodeId, Nodes},
    metrics::Metrics,
    process::ProcessId,
    room::{Shared, ticket::RoomKeys},
};

pub(super) const NODES: usize = 3;

/// For how long seats of a node that has died are kept.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

pub(super) fn id_of(node: usize, life: u16) -> NodeId {
    NodeId {
        process: node as u64 + 1,
        life,
    }
}

fn node_of(id: NodeId) -> usize {
    usize::try_from(id.process).expect("a few nodes") - 1
}

pub(super) struct Owned {
    kind: u8,
    room: RoomId,
    to: SessionId,
    from: SessionId,
    body: Vec<u8>,
}

enum Asked {
    Find(usize, Box<str>, RoomId),
    GiveUp(usize, Box<str>),
}

/// What lies between the nodes.
#[derive(Default)]
pub(super) struct Between {
    now: Duration,
    pub(super) is_down: bool,
    /// Questions stay without an answer.
    pub(super) is_silent: bool,
    pub(super) is_full: bool,
    /// Only the ways to this node are.
    pub(super) full_to: Option<usize>,
    /// Frames for which room is kept.
    reserved: usize,
    lives: [u16; NODES],
    dead: BTreeSet<NodeId>,
    asked: VecDeque<Asked>,
    pub(super) engine: BTreeMap<Box<str>, (NodeId, RoomId)>,
    /// What each node registers again.
    kept: [BTreeMap<Box<str>, RoomId>; NODES],
    pub(super) links: BTreeMap<(NodeId, NodeId), VecDeque<Owned>>,
}

#[derive(Clone)]
struct Side {
    node: usize,
    between: Arc<Mutex<Between>>,
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, Between> {
        self.between.lock().expect("not poisoned")
    }
}

impl Homes for Side {
    fn find(&self, name: &str, room: RoomId) {
        let asked = Asked::Find(self.node, name.into(), room);
        self.lock().asked.push_back(asked);
    }

    fn keep(&self, name: &str, room: RoomId) {
        self.lock().kept[self.node].insert(name.into(), room);
    }

    fn give_up(&self, name: &str) {
        let mut between = self.lock();
        between.kept[self.node].remove(name);
        between
            .asked
            .push_back(Asked::GiveUp(self.node, name.into()));
    }

    fn is_up(&self) -> bool {
        !self.lock().is_down
    }
}

impl Nodes for Side {
    fn me(&self) -> NodeId {
        id_of(self.node, self.lock().lives[self.node])
    }

    fn engine_time(&self) -> Option<u64> {
        None
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.lock().dead.contains(&node)
    }

    fn living(&self, _: ProcessId) -> Option<Living> {
        None
    }

    fn suspect(&self, _: NodeId) {}
}

struct Way {
    side: Side,
    from: NodeId,
    to: NodeId,
}

impl Way {
    fn is_full(&self) -> bool {
        let between = self.side.lock();
        between.is_full || between.full_to == Some(node_of(self.to))
    }
}

impl Bus for Side {
    fn link(&self, to: NodeId) -> Option<Arc<dyn BusLink>> {
        let from = self.me();
        let is_dead = self.lock().dead.contains(&to);
        let side = self.clone();
        (!is_dead).then(|| Arc::new(Way { side, from, to }) as Arc<dyn BusLink>)
    }

    fn is_up(&self) -> bool {
        !self.lock().is_down
    }
}

impl BusLink for Way {
    fn push(&self, _: RoomId, _: SessionId, _: SessionId, _: &[u8]) -> Result<(), Full> {
        Err(Full)
    }

    fn push_frame(&self, frame: &Frame<'_>) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full);
        }
        self.tell(frame)
    }

    fn reserve(&self, _: usize) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full);
        }
        self.side.lock().reserved += 1;
        Ok(())
    }

    fn push_reserved(&self, frame: &Frame<'_>) {
        self.release(frame.body.len());
        self.tell(frame).expect("taken");
    }

    fn release(&self, _: usize) {
        self.side.lock().reserved -= 1;
    }

    fn tell(&self, frame: &Frame<'_>) -> Result<(), Full> {
        let mut between = self.side.lock();
        let link = between.links.entry((self.from, self.to)).or_default();
        link.push_back(Owned {
            kind: frame.kind,
            room: frame.room,
            to: frame.to,
            from: frame.from,
            body: frame.body.to_vec(),
        });
        Ok(())
    }

    fn set_rooms(&self, _: Option<u64>) {}
}

pub(super) struct World {
    between: Arc<Mutex<Between>>,
    pub(super) nodes: Vec<(NamedRooms, Arc<Metrics>)>,
    start: Instant,
    /// xorshift64; 0: no faults.
    random: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let between = Arc::new(Mutex::new(Between::default()));
        let node = |node: usize| {
            let metrics = Arc::new(Metrics::new(1, &["anyone"]).expect("names are unique"));
            let keys = Arc::new(RoomKeys::random(ProcessId::random()));
            let shared = Shared::new(metrics.clone(), keys, 100, None, None);
            let side = Side {
                node,
                between: between.clone(),
            };
            let cluster = Cluster {
                bus: Arc::new(side.clone()),
                nodes: Arc::new(side.clone()),
                homes: Arc::new(side),
                memory: Memory::new(1 << 20, metrics.buffered_bytes.clone()),
            };
            (NamedRooms::new(100, shared).joined(cluster), metrics)
        };
        let world = Self {
            nodes: (0..NODES).map(node).collect(),
            between,
            start: Instant::now(),
            random: seed,
        };
        world.tick();
        world
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Between> {
        self.between.lock().expect("not poisoned")
    }

    pub(super) fn now(&self) -> Instant {
        self.start + self.lock().now
    }

    /// Frames for which room is kept on any way.
    pub(super) fn reserved(&self) -> usize {
        self.lock().reserved
    }

    /// Rooms in all, each counted by its home.
    pub(super) fn rooms(&self) -> i64 {
        let rooms = self
            .nodes
            .iter()
            .map(|(_, metrics)| metrics.named_rooms.get());
        rooms.sum()
    }

    /// One of `n`; 0 without faults.
    fn dice(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from((self.random >> 20) % n as u64).expect("below `n`")
    }

    fn tick(&self) {
        let now = self.now();
        for (rooms, _) in &self.nodes {
            rooms.tick(WINDOW, now);
        }
    }

    /// Seconds pass, and each node does what it does from time to time.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.lock().now += Duration::from_secs(1);
            self.register();
            self.tick();
        }
    }

    /// Each node registers again what is its own.
    fn register(&mut self) {
        let now = self.now();
        for node in 0..NODES {
            let mut lost = Vec::new();
            {
                let mut guard = self.lock();
                let between = &mut *guard;
                if between.is_down {
                    return;
                }
                let me = id_of(node, between.lives[node]);
                for (name, room) in &between.kept[node] {
                    let home = between.engine.entry(name.clone()).or_insert((me, *room));
                    if between.dead.contains(&home.0) {
                        home.0 = me;
                    }
                    if home.0 != me {
                        lost.push((name.clone(), *home));
                    }
                }
                for (name, _) in &lost {
                    between.kept[node].remove(name);
                }
            }
            for (name, home) in lost {
                self.nodes[node].0.found(&name, Some(home), now);
            }
        }
    }

    /// Answers one question. False: there is none.
    pub(super) fn ask(&mut self) -> bool {
        let loses = self.random != 0 && self.dice(10) == 0;
        let now = self.now();
        let (node, name, found) = {
            let mut guard = self.lock();
            let between = &mut *guard;
            if between.is_silent {
                return false;
            }
            match between.asked.pop_front() {
                None => return false,
                Some(Asked::GiveUp(node, name)) => {
                    let me = id_of(node, between.lives[node]);
                    let is_mine = between.engine.get(&name).is_some_and(|home| home.0 == me);
                    if is_mine && !between.is_down && !loses {
                        between.engine.remove(&name);
                    }
                    return true;
                }
                Some(Asked::Find(node, name, room)) => {
                    let me = id_of(node, between.lives[node]);
                    let found = (!between.is_down).then(|| {
                        let home = between.engine.entry(name.clone()).or_insert((me, room));
                        if between.dead.contains(&home.0) {
                            home.0 = me;
                        }
                        *home
                    });
                    if let Some((_, room)) = found.filter(|home| home.0 == me && !loses) {
                        between.kept[node].insert(name.clone(), room);
                    }
                    (node, name, found)
                }
            }
        };
        let found = found.filter(|_| !loses);
        self.nodes[node].0.found(&name, found, now);
        true
    }

    /// Hands over one frame. False: there is none.
    pub(super) fn deliver(&mut self) -> bool {
        let skips = match self.random {
            0 => 0,
            _ => self.dice(4),
        };
        let waiting: Vec<_> = {
            let between = self.lock();
            let links = between.links.iter().filter(|(_, link)| !link.is_empty());
            links.map(|(ends, _)| *ends).collect()
        };
        let at = skips.min(waiting.len().saturating_sub(1));
        let Some(&(from, to)) = waiting.get(at) else {
            return false;
        };
        self.deliver_one(from, to);
        true
    }

    fn deliver_one(&mut self, from: NodeId, to: NodeId) {
        let loses = self.random != 0 && self.dice(12) == 0;
        let now = self.now();
        let node = node_of(to);
        let (frame, is_over) = {
            let mut between = self.lock();
            let link = between.links.get_mut(&(from, to));
            let Some(frame) = link.and_then(VecDeque::pop_front) else {
                return;
            };
            let is_over = between.dead.contains(&from) || between.lives.get(node) != Some(&to.life);
            (frame, is_over)
        };
        if !loses && !is_over {
            let frame = Frame {
                kind: frame.kind,
                room: frame.room,
                to: frame.to,
                from: frame.from,
                body: &frame.body,
                age: Duration::ZERO,
            };
            assert!(self.nodes[node].0.frame(from, &frame, now));
        }
    }

    /// All that one node has said to another one.
    pub(super) fn deliver_between(&mut self, from: usize, to: usize) {
        let lives = self.lock().lives;
        let (from, to) = (id_of(from, lives[from]), id_of(to, lives[to]));
        while self
            .lock()
            .links
            .get(&(from, to))
            .is_some_and(|link| !link.is_empty())
        {
            self.deliver_one(from, to);
        }
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..20_000 {
            if !self.ask() && !self.deliver() {
                return;
            }
        }
        panic!("they never come to an end\n{}", self.describe());
    }

    /// Some of what waits, in some order.
    pub(super) fn jostle(&mut self) {
        for _ in 0..self.dice(8) {
            if self.dice(2) == 0 {
                self.ask();
            } else {
                self.deliver();
            }
        }
    }
}
