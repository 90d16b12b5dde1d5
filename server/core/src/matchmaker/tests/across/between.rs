//! What lies between the nodes: an index and links that are lists.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::MutexGuard,
};

use voicematch_protocol::RoomId;

use super::super::*;
use crate::{
    cluster::{Bus, BusLink, Frame, Full, Living, NodeId, Nodes, Seats, TicketId},
    process::ProcessId,
};

pub(super) const NODES: usize = 2;

pub(super) fn id_of(node: usize, life: u16) -> NodeId {
    NodeId {
        process: node as u64 + 1,
        life,
    }
}

pub(super) struct Owned {
    pub(super) kind: u8,
    pub(super) room: RoomId,
    pub(super) to: SessionId,
    pub(super) from: SessionId,
    pub(super) body: Vec<u8>,
}

/// Somebody in the index.
#[derive(Clone)]
pub(super) struct Posted {
    pub(super) seeker: Seeker,
    pub(super) node: NodeId,
    /// Microseconds of the engine's clock, and then by arrival.
    pub(super) place: (i64, u64),
}

pub(super) enum Asked {
    Seek(NodeId, Seeker, i64),
    Withdraw(TicketId),
}

/// What lies between the nodes.
#[derive(Default)]
pub(super) struct Between {
    pub(super) now: i64,
    pub(super) is_down: bool,
    pub(super) lives: [u16; NODES],
    pub(super) dead: BTreeSet<NodeId>,
    pub(super) asked: VecDeque<Asked>,
    pub(super) posted: Vec<Posted>,
    /// Those that each node wants to be posted.
    pub(super) standing: [BTreeMap<TicketId, (Seeker, i64)>; NODES],
    pub(super) arrivals: HashMap<TicketId, u64>,
    pub(super) links: BTreeMap<(NodeId, NodeId), VecDeque<Owned>>,
    pub(super) sums: BTreeMap<(NodeId, NodeId), u64>,
    /// Who has blocked whom, for all nodes.
    pub(super) blocks: Vec<(u64, u64)>,
    /// The links take no more messages.
    pub(super) is_full: bool,
    /// Nor of claims and leaves.
    pub(super) is_jammed: bool,
}

impl Between {
    pub(super) fn seek(&mut self, node: NodeId, seeker: Seeker, since: i64) -> Find {
        let mine = seeker.ticket;
        let next = self.arrivals.len() as u64;
        let arrival = *self.arrivals.entry(mine).or_insert(next);
        self.posted.retain(|posted| posted.seeker.ticket != mine);
        let avoids = |a: &Seeker, b: &Seeker| {
            a.person == b.person
                || a.ticket.session == b.ticket.session
                || a.apart.contains(&b.person)
                || a.avoided.contains(&b.ticket.session.0)
        };
        let fitting = self.posted.iter().filter(|posted| {
            let other = &posted.seeker;
            let is_dead = self.dead.contains(&posted.node);
            !is_dead && !avoids(&seeker, other) && !avoids(other, &seeker)
        });
        let shared = fitting.filter_map(|posted| {
            let theirs = &posted.seeker.pools;
            let mut pools = seeker.pools.iter().filter(|pool| theirs.contains(pool));
            let (kind, _) = pools.next()?;
            Some((*kind, posted.place, posted.seeker.ticket, posted.node))
        });
        let found = shared.min_by_key(|&(kind, place, ..)| (kind, place));
        let Some((kind, _, ticket, node)) = found else {
            let place = (since, arrival);
            self.posted.push(Posted {
                seeker,
                node,
                place,
            });
            return Find::Posted;
        };
        self.posted.retain(|posted| posted.seeker.ticket != ticket);
        Find::Found { ticket, node, kind }
    }
}

/// What a node sees of it.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) node: usize,
    pub(super) between: Arc<Mutex<Between>>,
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, Between> {
        self.between.lock().expect("not poisoned")
    }
}

impl Index for Side {
    fn seek(&self, seeker: Seeker, waited: Duration, _: bool) {
        let mut between = self.lock();
        let since = between.now - waited.as_micros() as i64;
        let me = id_of(self.node, between.lives[self.node]);
        between.standing[self.node].insert(seeker.ticket, (seeker.clone(), since));
        if !between.is_down {
            between.asked.push_back(Asked::Seek(me, seeker, since));
        }
    }

    fn withdraw(&self, ticket: TicketId) {
        let mut between = self.lock();
        between.standing[self.node].remove(&ticket);
        between.asked.push_back(Asked::Withdraw(ticket));
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
        Some(self.lock().now as u64)
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.lock().dead.contains(&node)
    }

    fn living(&self, process: ProcessId) -> Option<Living> {
        let between = self.lock();
        let lives = between.lives.iter().enumerate();
        let mut nodes = lives.map(|(node, &life)| id_of(node, life));
        let node = nodes.find(|node| node.process_id() == process)?;
        let draining = false;
        Some(Living { node, draining })
    }

    fn suspect(&self, _: NodeId) {}
}

impl Seats for Side {
    fn offer(&self, _: RoomId, _: u8, _: SessionId) {}
}

impl crate::cluster::Blocks for Side {
    fn tell(&self, by: u64, of: u64) {
        self.lock().blocks.push((by, of));
    }
}

pub(super) struct Way {
    pub(super) side: Side,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
}

impl Bus for Side {
    fn link(&self, to: NodeId) -> Option<Arc<dyn BusLink>> {
        let from = self.me();
        let is_dead = self.lock().dead.contains(&to);
        let side = self.clone();
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
        self.push_frame(&Frame {
            kind: crate::cluster::FrameKind::Relay as u8,
            room,
            to,
            from,
            body: messages,
            age: Duration::ZERO,
        })
    }

    fn push_frame(&self, frame: &Frame<'_>) -> Result<(), Full> {
        if self.side.lock().is_full {
            return Err(Full);
        }
        self.tell(frame)
    }

    fn reserve(&self, _: usize) -> Result<(), Full> {
        Ok(())
    }

    fn push_reserved(&self, _: &Frame<'_>) {}

    fn release(&self, _: usize) {}

    fn tell(&self, frame: &Frame<'_>) -> Result<(), Full> {
        let mut between = self.side.lock();
        if between.is_jammed {
            return Err(Full);
        }
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

    fn set_rooms(&self, rooms: Option<u64>) {
        let mut between = self.side.lock();
        between
            .sums
            .insert((self.from, self.to), rooms.unwrap_or(0));
    }
}
