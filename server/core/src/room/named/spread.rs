//! Named rooms on several nodes. A room has one *home*, which gives the numbers and decides who is in it. Every other node
//! with members has a *mirror* of its roster; messages go from the sender's node straight to each node that has members.
//!
//! The home tells the mirrors the whole roster whenever it changes, so that a lost frame is made good by the next one, or by
//! comparing, see [`upkeep`]. A mirror tells the home who joins and leaves, and does what the home's roster says.
//! The engine remembers which node is home of a name, see [`Homes`]: the first node that asks becomes it. A mirror whose home is
//! dead asks again, and goes on with the roster that it has.
//!
//! A user who joins waits until their home has answered. Their seat has a number then, as each joining has one: a late roster
//! that still names somebody who has left, or has come again, is told from a new one by that.
//!
//! Lock order: [`Spread::judge`], a shard of the rooms, a roster, a seat, an outbox or a link.

mod admit;
mod frames;
mod home;
mod joining;
mod kept;
mod mirror;
mod put_out;
mod seats;
mod upkeep;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use serde_json::value::RawValue;
use voicematch_protocol::{CloseReason, LeaveReason, RoomId, ServerMessage, SessionId};

use super::{CannotJoin, EventKind, Former, JOINING, NamedRoom, NamedRooms};
use crate::{
    cluster::{Bus, Homes, NodeId, Nodes},
    memory::Memory,
    room::{Mate, Member},
};
use upkeep::Early;

/// Why members leave whom no user has led away.
const LOST: LeaveReason = LeaveReason::Ended(CloseReason::Lost);

/// How long a user waits to be let in: longer than it takes to see that a home is dead.
const PATIENCE: Duration = Duration::from_secs(8);

/// What makes a node one of several.
pub struct Cluster {
    pub bus: Arc<dyn Bus>,
    pub nodes: Arc<dyn Nodes>,
    pub homes: Arc<dyn Homes>,
    /// Members that stand for users of other nodes are counted in it.
    pub memory: Arc<Memory>,
}

/// The named rooms of all nodes, as this one knows them.
pub(super) struct Spread {
    cluster: Cluster,
    judge: Mutex<Judge>,
    rooms: DashMap<RoomId, Arc<NamedRoom>, ahash::RandomState>,
    /// Counts the joinings.
    seats: AtomicU64,
}

#[derive(Default)]
struct Judge {
    names: BTreeMap<Box<str>, Name>,
    /// The names that users of this node wait to be let into, by the number of the joining.
    joining: HashMap<u64, Box<str>>,
    /// Names for which somebody waits, or whose home is not known.
    restless: BTreeSet<Box<str>>,
    early: Early,
    compared: Option<Instant>,
    /// Where comparing goes on.
    next: Box<str>,
    /// For how long seats of a node that has died are kept.
    window: Duration,
    /// Until when, and in rooms of which names.
    kept: BTreeSet<(Instant, Box<str>)>,
}

/// A name that this node has to do with.
struct Name {
    room: Option<Arc<NamedRoom>>,
    home: Home,
    /// This node was home in its former life, and nobody has been since.
    was_home: bool,
    waiting: Vec<Joiner>,
    /// Whether the question which node is home is not answered yet.
    asking: bool,
    /// The id of a room that begins here.
    id: RoomId,
    /// When that, or the home, was asked last.
    asked: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Unknown,
    Here,
    There(NodeId),
}

/// Somebody who waits to be let in.
struct Joiner {
    seat: u64,
    /// The number that they want.
    n: Option<u32>,
    was: Option<SessionId>,
    since: Instant,
    who: Who,
}

enum Who {
    Here {
        member: Arc<Member>,
        id: Option<Box<RawValue>>,
        /// The room that has become another one: they have not asked for that.
        from: Option<RoomId>,
    },
    There {
        node: NodeId,
        session: SessionId,
        mate: Mate,
        /// They are in this room, and its home is gone.
        room: Option<RoomId>,
    },
}

/// Something that happens, and how this node carries it out.
struct Act<'a> {
    rooms: &'a NamedRooms,
    spread: &'a Spread,
    judge: &'a mut Judge,
    now: Instant,
}

impl Spread {
    fn lock(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn me(&self) -> NodeId {
        self.cluster.nodes.me()
    }
}

impl NamedRooms {
    /// The same, as one node of several. From now on the caller tells it which nodes are home, what the others say, and which
    /// of them die; and lets it [`Self::tick`].
    pub fn joined(self, cluster: Cluster) -> Self {
        let spread = Spread {
            cluster,
            judge: Mutex::default(),
            rooms: DashMap::with_hasher(ahash::RandomState::new()),
            seats: AtomicU64::new(0),
        };
        Self {
            spread: Some(spread),
            ..self
        }
    }

    /// Whether this is one node of several.
    pub fn is_spread(&self) -> bool {
        self.spread.is_some()
    }

    fn act<T>(&self, now: Instant, act: impl FnOnce(&mut Act<'_>) -> T) -> Option<T> {
        let spread = self.spread.as_ref()?;
        let mut judge = spread.lock();
        Some(act(&mut Act {
            rooms: self,
            spread,
            judge: &mut judge,
            now,
        }))
    }

    pub(super) fn join_across(
        &self,
        spread: &Spread,
        member: &Arc<Member>,
        name: &str,
        former: Option<Former>,
        id: Option<&RawValue>,
    ) -> Result<(), CannotJoin> {
        let now = Instant::now();
        let seat = spread.seats.fetch_add(1, Ordering::Relaxed);
        let joiner = Joiner {
            seat,
            n: former.map(|former| former.n),
            was: former.map(|former| former.session),
            since: now,
            who: Who::Here {
                member: member.clone(),
                id: id.map(RawValue::to_owned),
                from: None,
            },
        };
        let promised = member.start_waiting(JOINING | seat);
        promised.map_err(CannotJoin::Elsewhere)?;
        let joined = self.act(now, |act| act.join(name, joiner));
        let joined = joined.unwrap_or(Err(CannotJoin::Unavailable));
        if joined.is_err() {
            member.stop_waiting(JOINING | seat);
        }
        joined
    }

    /// The user of a joining no longer waits.
    pub(super) fn gave_up(&self, seat: u64, session: SessionId) {
        self.act(Instant::now(), |act| act.gave_up(seat, session));
    }

    pub(super) fn leave_across(
        &self,
        room: &Arc<NamedRoom>,
        id: SessionId,
        reason: LeaveReason,
    ) -> bool {
        let left = self.act(Instant::now(), |act| act.leave(room, id, reason));
        left.unwrap_or(false)
    }

    /// Which node is home of a name, and the id of the room; `None`: that cannot be found out now.
    pub fn found(&self, name: &str, home: Option<(NodeId, RoomId)>, now: Instant) {
        self.act(now, |act| act.found(name, home));
    }

    /// Another node has died: its members leave, but for the resumable ones, whose seats are kept for a time; and rooms whose
    /// home it was find another.
    pub fn node_died(&self, node: NodeId, now: Instant) {
        self.act(now, |act| {
            let keep_until = act.keep_until();
            act.lose(|other| other == node, false, keep_until);
        });
    }

    /// The other nodes have not been reached for too long: their members leave.
    pub fn bus_lost(&self, now: Instant) {
        self.act(now, |act| act.lose(|_| true, false, None));
    }

    /// The others have taken this node for dead, and it begins a new life: their members leave, and it is home of nothing.
    pub fn begin_life(&self, now: Instant) {
        self.act(now, |act| act.lose(|_| true, true, None));
    }

    /// Something that another node has sent is lost for good: users in rooms with its users are told, if they can do something
    /// about it.
    pub fn gap(&self, node: NodeId, now: Instant) {
        self.act(now, |act| {
            let rooms = act
                .judge
                .names
                .values()
                .filter_map(|name| name.room.as_ref());
            rooms.for_each(|room| room.miss(node));
        });
    }
}

impl NamedRoom {
    /// Tells resumable members of all peers of a node that some of what these have said is lost.
    fn miss(&self, node: NodeId) {
        let roster = self.roster();
        let of_node = |there: &super::roster::There| there.node == node;
        let peers = roster.members.iter();
        for peer in peers.filter(|peer| peer.there.as_ref().is_some_and(of_node)) {
            let gap = ServerMessage::RelayGap {
                room_id: self.id,
                peer_id: peer.member.id,
            };
            for member in roster.here().filter(|here| here.member.is_resumable()) {
                // A refusal means that this user is leaving.
                let _ = member.member.outbox.send(&gap);
            }
        }
    }
}

impl Act<'_> {
    /// A user of this node leaves.
    fn leave(&mut self, room: &Arc<NamedRoom>, id: SessionId, reason: LeaveReason) -> bool {
        let (seat, is_empty) = {
            let mut roster = room.roster_mut();
            let Some(at) = roster.position(id) else {
                return false;
            };
            let left = roster.members.remove(at);
            self.rooms.shared.metrics.named_members.dec();
            self.rooms
                .tell(EventKind::RoomLeft, room, &left.member, Some(reason));
            roster.tell_left(room, id, reason);
            (left.seat, roster.here().next().is_none())
        };
        let home = self.judge.names.get(&room.name).map(|name| name.home);
        match home {
            Some(Home::Here) => self.changed(room, &[(id, reason)]),
            Some(Home::There(node)) => {
                self.say_left(node, room.id, &room.name, (id, seat), reason);
            }
            Some(Home::Unknown) | None => {}
        }
        if is_empty && home != Some(Home::Here) {
            self.drop_mirror(room);
        }
        true
    }

    /// The members of some nodes leave, as these cannot be reached any more; who was home of a room there, is no longer.
    /// `everywhere`: nor is this node. `keep_until`: until then resumable ones keep their seats.
    fn lose(
        &mut self,
        fits: impl Fn(NodeId) -> bool,
        everywhere: bool,
        keep_until: Option<Instant>,
    ) {
        let names: Vec<_> = self.judge.names.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.judge.names.get_mut(&name) else {
                continue;
            };
            entry
                .waiting
                .retain(|joiner| !matches!(joiner.who, Who::There { node, .. } if fits(node)));
            let is_over = match entry.home {
                Home::There(node) => fits(node),
                Home::Here => everywhere,
                Home::Unknown => false,
            };
            let room = entry.room.clone();
            if is_over && entry.home == Home::Here {
                self.rooms.shared.metrics.named_rooms.dec();
                entry.was_home = true;
            }
            if is_over {
                entry.home = Home::Unknown;
                entry.asking = false;
            }
            let home = entry.home;
            if let Some(room) = room {
                let (gone, keeps) = room.lose(&fits, keep_until, &*self.spread.cluster.bus);
                if keeps {
                    self.note_kept(&name);
                }
                if home == Home::Here && !gone.is_empty() {
                    let left: Vec<_> = gone.into_iter().map(|id| (id, LOST)).collect();
                    self.changed(&room, &left);
                } else if home != Home::Here && room.roster().here().next().is_none() {
                    self.drop_mirror(&room);
                }
            }
            self.forget(&name);
            if is_over {
                self.ask(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
