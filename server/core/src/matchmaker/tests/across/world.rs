//! Two nodes, and what happens to them.

use std::{collections::BTreeSet, sync::MutexGuard};

use super::{
    super::*,
    between::{Asked, Between, NODES, Side, id_of},
};
use crate::{cluster::Frame, room::pending::PendingRooms};

pub(super) struct World {
    pub(super) between: Arc<Mutex<Between>>,
    pub(super) nodes: Vec<(Arc<Matchmaker>, Arc<Metrics>)>,
    pub(super) start: Instant,
    /// xorshift64; 0: no faults.
    pub(super) random: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let between = Arc::new(Mutex::new(Between::default()));
        let node = |node: usize| {
            let metrics = Arc::new(Metrics::new(1, &PoolKind::LABELS).expect("names are unique"));
            let keys = Arc::new(RoomKeys::random(ProcessId::random()));
            let remembered = metrics.blocks_remembered.clone();
            let shared = Shared {
                metrics: metrics.clone(),
                keys,
                blocks: Blocks::new(1000, REMEMBERED * SECOND, remembered).keyed([7; 32]),
                listener: None,
            };
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
            let shared = Arc::new(shared);
            let pending = Arc::new(PendingRooms::new(10, shared.clone()));
            let matchmaker = Matchmaker::new(config(), shared);
            (Arc::new(matchmaker.joined(cluster, pending)), metrics)
        };
        Self {
            nodes: (0..NODES).map(node).collect(),
            between,
            start: Instant::now(),
            random: seed,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Between> {
        self.between.lock().expect("not poisoned")
    }

    pub(super) fn users(&self) -> Vec<User> {
        let metrics = |id: u64| &self.nodes[id as usize % NODES].1;
        (0..USERS as u64)
            .map(|id| User::new(id, metrics(id)))
            .collect()
    }

    pub(super) fn of(&self, user: usize) -> &Matchmaker {
        &self.nodes[user % NODES].0
    }

    pub(super) fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.lock().now as u64)
    }

    /// One of `n`; 0 without faults.
    pub(super) fn dice(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) % n
    }

    pub(super) fn is_faulty(&self) -> bool {
        self.random != 0
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.lock().now += time.as_micros() as i64;
        let now = self.now();
        self.nodes.iter().for_each(|(matchmaker, _)| {
            matchmaker.tick(now);
        });
    }

    /// Answers one call of the index. False: there is none.
    pub(super) fn ask(&mut self) -> bool {
        let now = self.now();
        let loses = self.is_faulty() && self.dice(10) == 0;
        let (node, ticket, found) = {
            let mut between = self.lock();
            match between.asked.pop_front() {
                None => return false,
                Some(Asked::Withdraw(ticket)) => {
                    between
                        .posted
                        .retain(|posted| posted.seeker.ticket != ticket);
                    return true;
                }
                Some(Asked::Seek(node, seeker, since)) => {
                    let ticket = seeker.ticket;
                    let slot = node.process as usize - 1;
                    if !between.standing[slot].contains_key(&ticket) {
                        return true;
                    }
                    let found = between.seek(node, seeker, since);
                    if found != Find::Posted && !loses {
                        between.standing[slot].remove(&ticket);
                    }
                    (slot, ticket, found)
                }
            }
        };
        // A lost answer: the partner is out of the index, and found missing later.
        if !loses {
            self.nodes[node].0.found(ticket, found, now);
        }
        true
    }

    /// Hands over one frame. False: there is none.
    pub(super) fn deliver(&mut self) -> bool {
        let now = self.now();
        let loses = self.is_faulty() && self.dice(12) == 0;
        let skips = if self.is_faulty() {
            self.dice(2) as usize
        } else {
            0
        };
        let (from, to, frame) = {
            let mut between = self.lock();
            let waiting = between
                .links
                .iter_mut()
                .filter(|(_, link)| !link.is_empty());
            let mut waiting: Vec<_> = waiting.collect();
            let at = skips.min(waiting.len().saturating_sub(1));
            let Some(((from, to), link)) = waiting.get_mut(at) else {
                return false;
            };
            let frame = link.pop_front().expect("not empty");
            (*from, *to, frame)
        };
        let is_over = {
            let between = self.lock();
            let slot = to.process as usize - 1;
            between.dead.contains(&from) || between.lives.get(slot) != Some(&to.life)
        };
        if !loses && !is_over {
            let node = to.process as usize - 1;
            let frame = Frame {
                kind: frame.kind,
                room: frame.room,
                to: frame.to,
                from: frame.from,
                body: &frame.body,
                age: Duration::ZERO,
            };
            self.nodes[node].0.frame(from, &frame, now);
        }
        true
    }

    /// All nodes hear of the blocks of all.
    fn tell_blocks(&self) {
        let now = self.now();
        let blocks = std::mem::take(&mut self.lock().blocks);
        for (by, of) in blocks {
            let left = REMEMBERED * SECOND;
            for (matchmaker, _) in &self.nodes {
                matchmaker.shared.hear_block(&Told { by, of, left }, now);
            }
        }
    }

    pub(super) fn settle(&mut self) {
        self.tell_blocks();
        while self.ask() || self.deliver() {}
    }

    /// Some of what waits, in some order.
    pub(super) fn jostle(&mut self) {
        for _ in 0..self.dice(6) {
            if self.dice(4) == 0 {
                self.tell_blocks();
            }
            if self.dice(2) == 0 {
                self.ask();
            } else {
                self.deliver();
            }
        }
    }

    /// What the cluster's crate does all the time: it looks for those who are missing, and both sides compare their rooms.
    pub(super) fn put_right(&mut self) {
        for node in 0..NODES {
            let mut between = self.lock();
            if between.is_down {
                return;
            }
            let me = id_of(node, between.lives[node]);
            let posted: BTreeSet<_> = between.posted.iter().map(|p| p.seeker.ticket).collect();
            let standing = between.standing[node].values().cloned();
            let missing: Vec<_> = standing
                .filter(|(s, _)| !posted.contains(&s.ticket))
                .collect();
            for (seeker, since) in missing {
                between.asked.push_back(Asked::Seek(me, seeker, since));
            }
            let them = id_of(1 - node, between.lives[1 - node]);
            let sum = between.sums.get(&(me, them)).copied().unwrap_or(0);
            drop(between);
            let now = self.now();
            self.nodes[1 - node].0.rooms_of(me, sum, now);
        }
    }

    /// Whom somebody avoids runs out at some second for the model; the index learns of it when they look again, and of a block
    /// (30 days) only then.
    pub(super) fn forget_avoided(&self, users: &[User]) {
        let now = self.now();
        let mut between = self.lock();
        for (node, ticket) in users.iter().enumerate() {
            if let Some(ticket) = &ticket.ticket {
                let now = ticket.seeker(&self.of(node).shared, now);
                let mut posted = between.posted.iter_mut();
                if let Some(posted) = posted.find(|p| p.seeker.ticket == ticket.id()) {
                    (posted.seeker.avoided, posted.seeker.apart) = (now.avoided, now.apart);
                }
            }
        }
    }

    pub(super) fn fault(&mut self) {
        let now = self.now();
        match self.dice(40) {
            0 => {
                let keeps = self.dice(3) == 0;
                let mut between = self.lock();
                between
                    .posted
                    .retain(|posted| keeps && posted.place.1 % 2 == 0);
            }
            1 => {
                let is_down = !std::mem::replace(&mut self.lock().is_down, true);
                if is_down {
                    self.nodes.iter().for_each(|(m, _)| m.index_down(now));
                } else {
                    self.lock().is_down = false;
                }
            }
            2 => {
                let node = self.dice(NODES as u64) as usize;
                self.bury(node);
            }
            3 => {
                let mut between = self.lock();
                between.is_full = !between.is_full;
            }
            4 | 5 => {
                let mut between = self.lock();
                between.is_jammed = !between.is_jammed;
            }
            _ => {}
        }
    }

    /// The others take a node for dead, and it begins a new life.
    pub(super) fn bury(&mut self, node: usize) {
        let now = self.now();
        let dead = {
            let mut between = self.lock();
            let dead = id_of(node, between.lives[node]);
            between.dead.insert(dead);
            between.lives[node] += 1;
            between.posted.retain(|posted| posted.node != dead);
            dead
        };
        for (at, (matchmaker, _)) in self.nodes.iter().enumerate() {
            if at == node {
                matchmaker.begin_life(now);
            } else {
                matchmaker.node_died(dead, now);
            }
        }
    }

    pub(super) fn rooms(&self) -> i64 {
        let rooms = self.nodes.iter().map(|(_, m)| m.rooms_active.get());
        rooms.sum()
    }

    pub(super) fn play(&mut self, users: &mut [User], step: &Step) {
        let wishes = wishes();
        let now = self.now();
        match *step {
            Step::Find(user, wish) => users[user].find(self.of(user), wishes[wish].clone(), now),
            Step::Cancel(user) => users[user].cancel(self.of(user)),
            Step::Next(user, wish) => users[user].next(self.of(user), wishes[wish].clone(), now),
            Step::Leave(user) => drop(users[user].member.leave_room(LeaveReason::Left)),
            Step::Block(user, other) => {
                let other = users[other].member.clone();
                users[user].block(self.of(user), &other, now);
            }
            Step::Die(user) => users[user].die(self.of(user)),
            Step::Vanish(user) => users[user].vanish(),
            Step::Park(user) => {
                if let Some(ticket) = &users[user].ticket
                    && !self.of(user).park(ticket)
                {
                    self.of(user).unpark(ticket, now);
                }
            }
            Step::Pass(seconds) => {
                for _ in 0..seconds {
                    self.pass(SECOND);
                    self.forget_avoided(users);
                    let now = self.now();
                    for (user, ticket) in users.iter().enumerate() {
                        if let Some(ticket) = &ticket.ticket {
                            self.of(user).advance(ticket, now);
                        }
                        if !self.is_faulty() {
                            self.settle();
                        }
                    }
                    self.put_right();
                }
            }
        }
    }
}
