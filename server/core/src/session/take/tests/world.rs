//! Three nodes, with an index and links that are lists, and the clients of their users.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use voicematch_protocol::{RoomId, SessionId};

use super::super::{Taken, Taking};
use crate::{
    address::UserAddress,
    cluster::{Bus, BusLink, Frame, FrameKind, Full, Living, NodeId, Nodes, Seats, TicketId},
    matchmaker::{Cluster, Find, Index, PoolKind, Seeker},
    metrics::Transport,
    outbox::{Attach, text_frame},
    process::ProcessId,
    room::ticket::RoomKeys,
    session::{
        Arrival, CannotResume, Context, HeldAddress, Pending, Resumable, Token,
        model::{Wire, node_context},
        resume::Carrier,
    },
};

pub(super) const NODES: usize = 3;

pub(super) fn id_of(node: usize, life: u16) -> NodeId {
    NodeId {
        process: node as u64 + 1,
        life,
    }
}

struct Letter {
    kind: u8,
    room: RoomId,
    to: SessionId,
    from: SessionId,
    body: Vec<u8>,
}

struct Posted {
    ticket: TicketId,
    node: NodeId,
    since: i64,
}

/// What lies between the nodes.
#[derive(Default)]
pub(super) struct Between {
    now: i64,
    pub(super) lives: [u16; NODES],
    dead: Vec<NodeId>,
    links: BTreeMap<(NodeId, NodeId), VecDeque<Letter>>,
    sums: BTreeMap<(NodeId, NodeId), u64>,
    asked: VecDeque<(NodeId, Seeker, i64)>,
    posted: Vec<Posted>,
    /// Of each kind of frame so many are lost, the next ones.
    pub(super) loses: BTreeMap<u8, usize>,
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

impl Index for Side {
    fn seek(&self, seeker: Seeker, waited: Duration, _: bool) {
        let mut between = self.lock();
        let since = between.now - i64::try_from(waited.as_micros()).expect("short");
        let me = id_of(self.node, between.lives[self.node]);
        between.asked.push_back((me, seeker, since));
    }

    fn withdraw(&self, ticket: TicketId) {
        let mut between = self.lock();
        between.posted.retain(|posted| posted.ticket != ticket);
        between
            .asked
            .retain(|(_, seeker, _)| seeker.ticket != ticket);
    }

    fn is_up(&self) -> bool {
        true
    }
}

impl Nodes for Side {
    fn me(&self) -> NodeId {
        id_of(self.node, self.lock().lives[self.node])
    }

    fn engine_time(&self) -> Option<u64> {
        u64::try_from(self.lock().now).ok()
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.lock().dead.contains(&node)
    }

    fn living(&self, process: ProcessId) -> Option<Living> {
        let between = self.lock();
        let nodes = (0..NODES).map(|node| id_of(node, between.lives[node]));
        let node = nodes
            .into_iter()
            .find(|node| node.process_id() == process)?;
        let draining = false;
        Some(Living { node, draining })
    }

    fn suspect(&self, _: NodeId) {}
}

impl Seats for Side {
    fn offer(&self, _: RoomId, _: u8, _: SessionId) {}
}

impl crate::cluster::Blocks for Side {
    fn tell(&self, _: u64, _: u64) {
        unreachable!("the users of these tests are sessions");
    }
}

struct Way {
    side: Side,
    from: NodeId,
    to: NodeId,
}

impl Bus for Side {
    fn link(&self, to: NodeId) -> Option<Arc<dyn BusLink>> {
        let (from, side) = (self.me(), self.clone());
        let is_dead = self.lock().dead.contains(&to);
        (!is_dead).then(|| Arc::new(Way { side, from, to }) as Arc<dyn BusLink>)
    }
}

impl BusLink for Way {
    fn push(
        &self,
        room: RoomId,
        to: SessionId,
        from: SessionId,
        messages: &[u8],
    ) -> Result<(), Full> {
        self.tell(&Frame {
            kind: FrameKind::Relay as u8,
            room,
            to,
            from,
            body: messages,
            age: Duration::ZERO,
        })
    }

    fn push_frame(&self, frame: &Frame<'_>) -> Result<(), Full> {
        self.tell(frame)
    }

    fn reserve(&self, _: usize) -> Result<(), Full> {
        Ok(())
    }

    fn push_reserved(&self, _: &Frame<'_>) {}

    fn release(&self, _: usize) {}

    fn tell(&self, frame: &Frame<'_>) -> Result<(), Full> {
        let mut between = self.side.lock();
        let link = between.links.entry((self.from, self.to)).or_default();
        link.push_back(Letter {
            kind: frame.kind,
            room: frame.room,
            to: frame.to,
            from: frame.from,
            body: frame.body.to_vec(),
        });
        Ok(())
    }

    fn set_rooms(&self, rooms: Option<u64>) {
        let mut between = self.side.lock();
        let key = (self.from, self.to);
        between.sums.insert(key, rooms.unwrap_or(0));
    }
}

pub(super) struct World {
    pub(super) between: Arc<Mutex<Between>>,
    pub(super) nodes: Vec<Arc<Context>>,
    start: Instant,
    /// xorshift64.
    pub(super) random: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let between = Arc::new(Mutex::new(Between::default()));
        let node = |node: usize| {
            let side = Side {
                node,
                between: between.clone(),
            };
            let cluster = Cluster {
                index: Arc::new(side.clone()),
                bus: Arc::new(side.clone()),
                nodes: Arc::new(side.clone()),
                seats: Arc::new(side.clone()),
                blocks: Arc::new(side),
            };
            let keys = RoomKeys::random(id_of(node, 0).process_id());
            node_context(keys, 10, Some(cluster))
        };
        Self {
            nodes: (0..NODES).map(node).collect(),
            between,
            start: Instant::now(),
            random: seed.max(1),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Between> {
        self.between.lock().expect("not poisoned")
    }

    pub(super) fn now(&self) -> Instant {
        let passed = u64::try_from(self.lock().now).expect("forward");
        self.start + Duration::from_micros(passed)
    }

    pub(super) fn dice(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) % n
    }

    pub(super) fn pass(&self, time: Duration) {
        self.lock().now += i64::try_from(time.as_micros()).expect("short");
        let now = self.now();
        for (node, context) in self.nodes.iter().enumerate() {
            context.matchmaker.tick(now);
            context.tick_takes(now);
            context.takes.unkept();
            for other in (0..NODES).filter(|other| *other != node) {
                let (sum, other) = {
                    let between = self.lock();
                    let ids = [other, node].map(|node| id_of(node, between.lives[node]));
                    let sum = between.sums.get(&(ids[0], ids[1])).copied();
                    (sum.unwrap_or(0), ids[0])
                };
                context.matchmaker.rooms_of(other, sum, now);
            }
        }
    }

    /// Answers one call of the index.
    fn ask(&self) -> bool {
        let (node, ticket, found) = {
            let mut between = self.lock();
            let Some((node, seeker, since)) = between.asked.pop_front() else {
                return false;
            };
            let ticket = seeker.ticket;
            between.posted.retain(|posted| posted.ticket != ticket);
            let oldest = between.posted.iter().enumerate();
            let oldest = oldest.filter(|(_, posted)| posted.ticket.session != ticket.session);
            let oldest = oldest.min_by_key(|(_, posted)| posted.since);
            let found = match oldest.map(|(at, _)| at) {
                Some(at) => {
                    let posted = between.posted.remove(at);
                    Find::Found {
                        ticket: posted.ticket,
                        node: posted.node,
                        kind: PoolKind::Anyone,
                    }
                }
                None => {
                    between.posted.push(Posted {
                        ticket,
                        node,
                        since,
                    });
                    Find::Posted
                }
            };
            (node, ticket, found)
        };
        let at = usize::try_from(node.process - 1).expect("a node");
        self.nodes[at].matchmaker.found(ticket, found, self.now());
        true
    }

    /// Hands over one frame of the link that `which` chooses. False: there is none.
    fn deliver(&self, which: usize) -> bool {
        let (from, to, letter, is_lost) = {
            let mut between = self.lock();
            let waiting = between.links.iter_mut();
            let mut waiting: Vec<_> = waiting.filter(|(_, link)| !link.is_empty()).collect();
            if waiting.is_empty() {
                return false;
            }
            let at = which % waiting.len();
            let ((from, to), link) = &mut waiting[at];
            let (from, to) = (*from, *to);
            let letter = link.pop_front().expect("not empty");
            let is_over = between.dead.contains(&from) || between.dead.contains(&to);
            let loses = between
                .loses
                .get_mut(&letter.kind)
                .filter(|left| **left > 0);
            let is_lost = is_over || loses.map(|left| *left -= 1).is_some();
            (from, to, letter, is_lost)
        };
        if !is_lost {
            let frame = Frame {
                kind: letter.kind,
                room: letter.room,
                to: letter.to,
                from: letter.from,
                body: &letter.body,
                age: Duration::ZERO,
            };
            let node = usize::try_from(to.process - 1).expect("a node");
            self.nodes[node].frame(from, &frame, self.now());
        }
        true
    }

    pub(super) fn settle(&self) {
        while self.ask() || self.deliver(0) {}
    }

    /// Some of what waits, in some order.
    pub(super) fn jostle(&mut self) {
        for _ in 0..self.dice(8) {
            let which = self.dice(6);
            match which {
                0 => self.ask(),
                _ => self.deliver(usize::try_from(which).expect("small")),
            };
        }
    }

    /// The others take a node for dead, and it begins a new life.
    pub(super) fn bury(&self, node: usize) {
        let now = self.now();
        let dead = {
            let mut between = self.lock();
            let dead = id_of(node, between.lives[node]);
            between.dead.push(dead);
            between.lives[node] += 1;
            between.posted.retain(|posted| posted.node != dead);
            dead
        };
        for (at, context) in self.nodes.iter().enumerate() {
            match at == node {
                true => context.matchmaker.begin_life(now),
                false => context.matchmaker.node_died(dead, now),
            }
        }
    }

    pub(super) fn rooms(&self) -> i64 {
        let nodes = self.nodes.iter();
        nodes.map(|node| node.metrics.rooms_active.get()).sum()
    }

    /// On how many nodes a connection carries a session of this id.
    pub(super) fn attached(&self, id: SessionId) -> usize {
        let nodes = self.nodes.iter();
        let sessions = nodes.filter_map(|node| node.resumables.get(id));
        let attached = sessions.filter(|session| {
            let locked = session.lock_any();
            let resume = locked.resume.as_ref().expect("resumable");
            resume.carrier == Carrier::Connection
        });
        attached.count()
    }

    /// Nothing is left of anybody.
    pub(super) fn assert_empty(&self) {
        for node in &self.nodes {
            let metrics = &node.metrics;
            let counts = [
                metrics.sessions_open.get(),
                metrics.sessions_detached.get(),
                metrics.parked.get(),
                metrics.waiting_users(),
                metrics.rooms_active.get(),
                metrics.resume_log_bytes.get(),
                metrics.buffered_bytes.get(),
            ];
            assert_eq!(counts, [0; 7]);
            let detached = node.detached.load(std::sync::atomic::Ordering::Relaxed);
            let left = (node.directory.len(), node.resumables.len(), detached);
            assert_eq!(left, (0, 0, 0));
            assert!(node.takes.is_idle());
        }
        let between = self.lock();
        let lives = |node: &NodeId| !between.dead.contains(node);
        let sums = between.sums.iter();
        let mut living = sums.filter(|((from, to), _)| lives(from) && lives(to));
        assert!(living.all(|(_, sum)| *sum == 0));
        assert!(between.posted.is_empty());
    }
}

/// One user's client.
pub(super) struct Client {
    pub(super) id: SessionId,
    /// Where its connection is; `None`: it has none.
    pub(super) node: Option<usize>,
    session: Arc<Resumable>,
    epoch: u32,
    wire: Wire,
    pub(super) token: String,
    /// What the next answer of a take is waited for at.
    taking: Option<(usize, Taking)>,
    pub(super) arrived: u64,
    sent: u64,
    unconfirmed: Vec<(u64, String)>,
    pub(super) said: u64,
    pub(super) heard: Vec<u64>,
    pub(super) others: Vec<Value>,
    /// `resume_refused`.
    pub(super) is_refused: bool,
    /// What takes have come to.
    pub(super) refusals: Vec<(usize, Taken)>,
    pending: Pending,
}

fn wire() -> Wire {
    let wire = Wire::default();
    wire.0.lock().expect("not poisoned").room = usize::MAX;
    wire
}

impl Client {
    pub(super) fn begin(world: &World, node: usize) -> Self {
        let wire = wire();
        let attach = Attach {
            link: Box::new(wire.clone()),
            preface: &[],
        };
        let (transport, arrival) = (Transport::WebSocket, Arrival::default());
        let attached = Resumable::open(
            &world.nodes[node],
            transport,
            Some(attach),
            arrival,
            world.now(),
        );
        let first: Value = serde_json::from_slice(&attached.first).expect("JSON");
        let mut client = Self {
            id: attached.session.member.id,
            node: Some(node),
            session: attached.session,
            epoch: attached.epoch,
            wire,
            token: first["resume_token"].as_str().expect("a token").to_owned(),
            taking: None,
            arrived: 0,
            sent: 0,
            unconfirmed: Vec::new(),
            said: 0,
            heard: Vec::new(),
            others: Vec::new(),
            is_refused: false,
            refusals: Vec::new(),
            pending: Pending::default(),
        };
        client.read();
        client
    }

    pub(super) fn ask(&mut self, world: &World, message: Value) {
        let mut message = message;
        self.sent += 1;
        message["seq"] = self.sent.into();
        self.unconfirmed.push((self.sent, message.to_string()));
        self.send(world);
    }

    pub(super) fn say(&mut self, world: &World) {
        self.said += 1;
        let payload = self.said;
        self.ask(world, json!({"type": "message", "payload": payload}));
    }

    /// Sends what is not sent, if there is a connection.
    fn send(&mut self, world: &World) {
        if self.node.is_none() {
            return;
        }
        let Some(mut session) = self.session.lock(self.epoch) else {
            return;
        };
        for (_, message) in std::mem::take(&mut self.unconfirmed) {
            let received = session.receive(&message, world.now(), &mut self.pending);
            assert_eq!(received, Ok(()));
            session.flush(world.now(), &mut self.pending);
        }
        session.tell_waiting();
    }

    pub(super) fn read(&mut self) {
        let bytes = std::mem::take(&mut self.wire.0.lock().expect("not poisoned").bytes);
        let mut rest = &bytes[..];
        while let Some((message, behind)) = text_frame(rest) {
            rest = behind;
            let message: Value = serde_json::from_slice(message).expect("JSON");
            let Some(seq) = message["seq"].as_u64() else {
                continue;
            };
            assert_eq!(seq, self.arrived + 1, "{message}");
            self.arrived = seq;
            match message["type"].as_str() {
                Some("message") => self
                    .heard
                    .push(message["payload"].as_u64().expect("a number")),
                _ => self.others.push(message),
            }
        }
    }

    /// The connection breaks; what was not read is lost.
    pub(super) fn cut(&mut self, world: &World) {
        if self.node.take().is_some()
            && let Some(mut session) = self.session.lock(self.epoch)
        {
            session.lose(voicematch_protocol::CloseReason::Lost, world.now());
        }
        self.wire = wire();
    }

    /// Comes to this node, without leaving the one before: its connection may still be there.
    pub(super) fn go(&mut self, world: &World, node: usize) {
        let token = Token::parse(&self.token).expect("a token");
        (self.node, self.taking) = (None, None);
        self.wire = wire();
        let none = || None::<Box<dyn HeldAddress>>;
        let context = &world.nodes[node];
        let (after, address) = (Some(self.arrived), UserAddress::default());
        match context.begin_take(&token, after, (none, address), world.now()) {
            Some(taking) => self.taking = Some((node, taking)),
            None => self.attach(world, node),
        }
    }

    /// Whether the session is on its way.
    pub(super) fn is_going(&self) -> bool {
        self.taking.is_some()
    }

    /// Looks whether the session has come. True: it has, or does not.
    pub(super) fn look(&mut self, world: &World) -> Option<Taken> {
        let (node, taking) = self.taking.as_mut()?;
        let (node, taken) = (*node, taking.answer.try_recv().ok()?);
        self.taking = None;
        self.refusals.push((node, taken));
        self.attach(world, node);
        Some(taken)
    }

    fn attach(&mut self, world: &World, node: usize) {
        let token = Token::parse(&self.token).expect("a token");
        let wire = wire();
        let mut attach = Some(Attach {
            link: Box::new(wire.clone()),
            preface: &[],
        });
        let (after, transport) = (Some(self.arrived), Transport::WebSocket);
        let resumed =
            world.nodes[node].resume(Some(&token), after, transport, &mut attach, world.now());
        let attached = match resumed {
            Ok(attached) => attached,
            Err(CannotResume::Refused { .. } | CannotResume::TooOld | CannotResume::Moved) => {
                self.is_refused = true;
                return;
            }
        };
        let first: Value = serde_json::from_slice(&attached.first).expect("JSON");
        assert_eq!(first["session_id"], json!(self.id));
        self.token = first["resume_token"].as_str().expect("a token").to_owned();
        let process = Token::parse(&self.token).expect("a token").process;
        assert_eq!(process, world.nodes[node].room_keys.process);
        let received = first["received"].as_u64().expect("a number");
        self.unconfirmed.retain(|(seq, _)| *seq > received);
        // What was sent before is known to have arrived, or is sent again.
        assert!(received + self.unconfirmed.len() as u64 == self.sent);
        (self.epoch, self.wire, self.node) = (attached.epoch, wire, Some(node));
        self.session = attached.session;
        self.read();
        self.send(world);
    }

    pub(super) fn types(&self) -> Vec<&str> {
        let others = self.others.iter();
        others
            .map(|message| message["type"].as_str().expect("a type"))
            .collect()
    }

    pub(super) fn leave(&mut self, world: &World) {
        for node in &world.nodes {
            if let Some(session) = node.resumables.get(self.id) {
                session
                    .lock_any()
                    .leave(voicematch_protocol::CloseReason::Closed);
            }
        }
    }

    /// What holds the session lets it go.
    pub(super) fn end(self) {
        drop(self);
    }
}
