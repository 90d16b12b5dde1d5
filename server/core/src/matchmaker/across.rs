//! Matching and rooms across nodes: carries out what [`super::claims`] decides.
//!
//! A ticket stands in the pools here and in the index. While the index is up, only it is asked; it names a ticket of some
//! node, and that node claims it in one step ([`super::Claim`]). While it is down the pools here are searched.
//!
//! Lock order: [`Across::judge`], a claim, a seat, an outbox or a link. Nothing else is asked for while a seat is held.

mod frames;
mod host;
mod moved;
mod rejoin;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use dashmap::DashMap;
use voicematch_protocol::{CloseReason, LeaveReason, RoomId, SessionId};

use super::{
    Claim, Find, Index, Matchmaker, PoolKind, Ticket, Unpaired, claims::Claims, halves::HalfRooms,
};
use crate::{
    cluster::{Blocks, Bus, Frame, FrameKind, Full, Halves, NodeId, Nodes, Seats, TicketId},
    room::{Absent, Member, Room, pending::PendingRooms},
};
use frames::frame;
use host::Here;
pub(crate) use moved::Arrived;
use moved::Held;
use rejoin::Rejoins;
pub use rejoin::{Seat, Shown};

/// What makes a node one of several.
pub struct Cluster {
    pub index: Arc<dyn Index>,
    pub bus: Arc<dyn Bus>,
    pub nodes: Arc<dyn Nodes>,
    pub seats: Arc<dyn Seats>,
    pub blocks: Arc<dyn Blocks>,
}

/// A node's part in the cluster.
pub(super) struct Across {
    cluster: Cluster,
    /// Those that wait here.
    tickets: DashMap<TicketId, Arc<Ticket>, ahash::RandomState>,
    /// Users on their way here, whose sessions are not this node's yet.
    held: DashMap<SessionId, Held, ahash::RandomState>,
    judge: Mutex<Judge>,
    /// Those who wait for their former partner.
    pub(super) pending: Arc<PendingRooms>,
    started: Instant,
    /// Users are sent away: who met one of them now would lose them at once.
    drains: AtomicBool,
}

#[derive(Default)]
struct Judge {
    claims: Claims,
    halves: HalfRooms<Arc<Room>>,
    rejoins: Rejoins,
}

impl Across {
    fn new(cluster: Cluster, pending: Arc<PendingRooms>, started: Instant) -> Self {
        Self {
            cluster,
            tickets: DashMap::with_hasher(ahash::RandomState::new()),
            held: DashMap::with_hasher(ahash::RandomState::new()),
            judge: Mutex::default(),
            pending,
            started,
            drains: AtomicBool::new(false),
        }
    }

    pub(super) fn index(&self) -> &dyn Index {
        &*self.cluster.index
    }

    pub(super) fn tell_block(&self, by: u64, of: u64) {
        self.cluster.blocks.tell(by, of);
    }

    pub(super) fn drains(&self) -> bool {
        self.drains.load(Ordering::Relaxed)
    }

    pub(super) fn posted(&self, ticket: &Arc<Ticket>) {
        self.tickets.insert(ticket.id(), ticket.clone());
    }

    pub(super) fn withdrawn(&self, ticket: &Ticket) {
        self.tickets.remove(&ticket.id());
        self.index().withdraw(ticket.id());
    }

    /// One that waits here, or is offered.
    pub(super) fn ticket(&self, id: TicketId) -> Option<Arc<Ticket>> {
        self.tickets.get(&id).map(|ticket| ticket.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, node: NodeId, frame: &Frame<'_>) -> Result<(), Full> {
        let link = self.cluster.bus.link(node).ok_or(Full)?;
        link.tell(frame)
    }

    /// Says what is put right if it is lost: who is asked answers nothing, both compare their rooms, tickets are checked.
    fn say(&self, node: NodeId, frame: &Frame<'_>) {
        let _ = self.tell(node, frame);
    }

    fn show_rooms(&self, node: NodeId, halves: &HalfRooms<Arc<Room>>) {
        if let Some(link) = self.cluster.bus.link(node) {
            link.set_rooms(halves.sum(node));
        }
    }
}

impl Halves for Across {
    fn left(&self, room: RoomId, reason: LeaveReason) {
        let mut judge = self.lock();
        judge.rejoins.forget(room);
        if let Some(half) = judge.halves.end(room) {
            let node = half.node;
            self.say(
                node,
                &frame(FrameKind::Leave, room, reason.as_str().as_bytes()),
            );
            self.show_rooms(node, &judge.halves);
        }
    }
}

/// The user of a room who is here.
fn here(room: &Room) -> &Arc<Member> {
    let [first, second] = room.members();
    if first.is_there() { second } else { first }
}

impl Matchmaker {
    /// The same, as one node of several. From now on the caller tells it what the index has found, what other nodes say, and
    /// which of them die; and lets it [`Self::tick`].
    pub fn joined(self, cluster: Cluster, pending: Arc<PendingRooms>) -> Self {
        let metrics = &self.shared.metrics;
        for result in ["accepted", "busy", "gone", "late", "timeout"] {
            metrics.claims.with_label_values(&[result]);
        }
        let started = metrics.started;
        let across = Some(Arc::new(Across::new(cluster, pending, started)));
        Self { across, ..self }
    }

    fn judge(
        &self,
        now: Instant,
        reason: LeaveReason,
        event: impl FnOnce(&mut Claims, &mut Here<'_>),
    ) {
        if let Some(across) = &self.across {
            let mut judge = across.lock();
            let Judge {
                claims,
                halves,
                rejoins,
            } = &mut *judge;
            let mut here = Here {
                matchmaker: self,
                across,
                halves,
                rejoins,
                kind: PoolKind::Anyone,
                reason,
                now,
            };
            event(claims, &mut here);
        }
    }

    /// What has become of a search in the index.
    pub fn found(&self, ticket: TicketId, found: Find, now: Instant) {
        let Some(across) = &self.across else { return };
        match found {
            Find::Posted => {}
            Find::Unknown => {
                if let Some(ticket) = across.ticket(ticket) {
                    self.search_posted(&ticket, now);
                }
            }
            Find::Found {
                ticket: partner,
                node,
                kind,
            } => self.judge(now, LOST, |claims, here| {
                here.kind = kind;
                claims.found(here, ticket, (partner, node), RoomId(rand::random()));
            }),
        }
    }

    /// The index answers no more: all who wait here are searched, the oldest first.
    pub fn index_down(&self, now: Instant) {
        for ticket in self.all_waiting() {
            self.search_posted(&ticket, now);
        }
    }

    /// There is an index now: all who wait here look there, the oldest first.
    pub fn index_joined(&self, now: Instant) {
        for ticket in self.all_waiting() {
            self.look(&ticket, now);
        }
    }

    /// Nobody who waits here is matched any more, with anybody: they are about to be sent to another node, where they go on
    /// waiting.
    pub fn drain(&self) {
        let Some(across) = &self.across else { return };
        across.drains.store(true, Ordering::Relaxed);
        for ticket in self.all_waiting() {
            across.index().withdraw(ticket.id());
        }
    }

    fn all_waiting(&self) -> Vec<Arc<Ticket>> {
        let Some(across) = &self.across else {
            return Vec::new();
        };
        let mut waiting: Vec<_> = across.tickets.iter().map(|ticket| ticket.clone()).collect();
        waiting.sort_unstable_by_key(|ticket| ticket.claim.sequence);
        waiting
    }

    /// The other nodes have not been reached for too long: all rooms with them end. This node's life goes on.
    pub fn bus_lost(&self, now: Instant) {
        self.judge(now, LOST, |_, here| here.end_all());
    }

    /// The user of a ticket that was offered no longer waits.
    pub(super) fn offer_withdrawn(&self, ticket: &Ticket) {
        self.judge(Instant::now(), LOST, |claims, here| {
            claims.withdrawn(here, ticket.id());
        });
    }

    /// Something that another node has sent is lost for good: users whose partners are there are told. If it was a claim or
    /// a leaving, comparing the rooms puts it right.
    pub fn gap(&self, node: NodeId, now: Instant) {
        self.judge(now, LOST, |_, there| {
            for room in there.halves.with(node) {
                here(room).miss(room);
            }
        });
    }

    /// Another node has died: its rooms with this one end, or keep the seat of the user who was there for a while.
    pub fn node_died(&self, node: NodeId, now: Instant) {
        self.judge(now, LOST, |claims, here| {
            here.halves.forget(node);
            for (room, half) in here.halves.end_all(|half| half.node == node) {
                here.lose(room, half);
            }
            here.seats_of_the_dead(node);
            claims.died(here, node);
        });
    }

    /// The others have taken this node for dead, and it begins a new life: all rooms with other nodes end.
    pub fn begin_life(&self, now: Instant) {
        self.judge(now, LOST, |claims, here| {
            here.end_all();
            claims.begin_life(here);
        });
    }

    /// Gives up on nodes that do not answer. Returns when there is something to do again, if there is.
    pub fn tick(&self, now: Instant) -> Option<Instant> {
        let mut next = None;
        self.judge(now, LOST, |claims, here| {
            claims.tick(here);
            here.tick_rejoins();
            let at = [claims.next_tick(), here.rejoins.next_tick()];
            let at = at.into_iter().flatten().min();
            next = at.map(|at| here.across.started + at);
        });
        next
    }

    /// Looks for a partner of a ticket that stands in pools: in the index, or here while that is down.
    pub(super) fn look(&self, ticket: &Arc<Ticket>, now: Instant) {
        let Some(across) = &self.across else {
            return self.search_posted(ticket, now);
        };
        if ticket.is_waiting() && !across.drains() {
            let waited = now.saturating_duration_since(ticket.since);
            let seeker = ticket.seeker(&self.shared, now);
            across.index().seek(seeker, waited, true);
        }
        if !across.index().is_up() {
            self.search_posted(ticket, now);
        } else if !ticket.is_open() {
            // Claimed or cancelled before it stood where it was taken out.
            self.withdraw(ticket);
        }
    }

    /// The user of a matched ticket has gone. Where another task was making the match, it may have come to nothing since, and
    /// nobody else would cancel the ticket.
    pub(crate) fn bury(&self, ticket: &Arc<Ticket>) {
        if self.across.is_some() {
            self.cancel(ticket);
        }
    }

    /// The index has found a ticket of this node for another one.
    fn pair_found(
        &self,
        mine: &Arc<Ticket>,
        theirs: &Arc<Ticket>,
        kind: PoolKind,
        now: Instant,
    ) -> bool {
        let may_not =
            || theirs.avoids(mine, now) || !mine.may_meet(&theirs.member, &self.shared, now);
        let paired: Result<(), Unpaired> = Claim::pair(&mine.claim, &theirs.claim, may_not);
        if paired.is_err() {
            return false;
        }
        self.withdraw(theirs);
        self.withdraw(mine);
        let left = match self.open_room(theirs, mine, kind, now) {
            Ok(()) => return true,
            Err(Absent::Waiter) => mine,
            Err(Absent::Newcomer) => theirs,
        };
        self.reopen(left, true);
        self.look(left, now);
        true
    }
}

/// Why rooms end that no user has left.
const LOST: LeaveReason = LeaveReason::Ended(CloseReason::Lost);
