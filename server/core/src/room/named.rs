//! Named rooms: up to twenty who have given the same name. A room exists from the first who joins to the last who leaves.
//!
//! In each pair the newcomer makes the offer: it knows all others from one message, and can pace itself. Both are told, so
//! that no two offers cross.
//!
//! On several nodes a room has one home, which gives the numbers and decides, see `spread.rs`.
//!
//! Lock order: who decides across nodes, a shard of the rooms, a roster, then seats, outboxes and links.

mod roster;
mod spread;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use serde_json::value::RawValue;
use voicematch_protocol::{ErrorCode, LeaveReason, RoomId, SessionId};

use super::{Member, Place, Seat, Shared, member::JOINING, millis};
use crate::{
    events::{Data, EventKind},
    outbox::{Batch, Refused},
};
pub use roster::Former;
use roster::{Numbered, Roster};
pub use spread::Cluster;
use spread::Spread;

/// The most members of a room: each sends its voice to all others.
pub const MAX_MEMBERS: usize = 20;

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// A room with a name.
pub struct NamedRoom {
    pub id: RoomId,
    pub name: Box<str>,
    opened: Instant,
    roster: RwLock<Roster>,
}

/// Why a user cannot join.
#[derive(Debug, PartialEq, Eq)]
pub enum CannotJoin {
    BadName,
    /// The room has `MAX_MEMBERS`.
    Full,
    /// There are as many rooms as may be.
    TooManyRooms,
    /// The room may be on another node, which cannot be reached.
    Unavailable,
    /// The session whose seat the user wants back is still in the room.
    UseResume,
    /// The user is elsewhere: waiting, or in another room.
    Elsewhere(Place),
}

impl CannotJoin {
    /// As the user is told.
    pub fn error(&self) -> (ErrorCode, &'static str) {
        match self {
            Self::BadName => (
                ErrorCode::BadRoomName,
                "`room` is 1 to 64 characters of A-Z, a-z, 0-9, _ and -",
            ),
            Self::Full => (
                ErrorCode::RoomFull,
                "the room has 20 members; try again later",
            ),
            Self::TooManyRooms => (
                ErrorCode::TooManyRooms,
                "this server has as many rooms as it may have; try again later",
            ),
            Self::Unavailable => (
                ErrorCode::RoomUnavailable,
                "the server of this room cannot be reached; try again in a moment",
            ),
            Self::UseResume => (
                ErrorCode::UseResume,
                "the session of this ticket is still in the room; it goes on with its resume token",
            ),
            Self::Elsewhere(Place::Waiting) => (
                ErrorCode::AlreadyWaiting,
                "you wait for a match or a room; cancel_match first",
            ),
            Self::Elsewhere(_) => (
                ErrorCode::AlreadyInRoom,
                "you are in another room; leave_room first",
            ),
        }
    }
}

/// The named rooms of this process.
pub struct NamedRooms {
    rooms: DashMap<Box<str>, Arc<NamedRoom>, ahash::RandomState>,
    max: usize,
    shared: Arc<Shared>,
    /// `None`: there are no other nodes.
    spread: Option<Spread>,
}

/// Whom a message in a named room is for.
pub enum To<'a> {
    All,
    /// The member with this id.
    One(&'a str),
}

/// Why a message did not go out.
#[derive(Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The sender is not in the room.
    NotInRoom,
    /// Nobody of that id is.
    UnknownPeer,
    /// The one it was for takes no more.
    Refused(Refused),
}

/// Whether a room may have this name.
pub fn is_name(name: &str) -> bool {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    fits && name.bytes().all(is_sign)
}

impl NamedRooms {
    /// No room yet, and at the most `max`.
    pub fn new(max: usize, shared: Arc<Shared>) -> Self {
        Self {
            rooms: DashMap::with_hasher(ahash::RandomState::new()),
            max,
            shared,
            spread: None,
        }
    }

    /// Puts an idle user into the room of this name, and tells all. Who is in it already is told of it again. Who
    /// comes back gets the `former` number again if it is free. On several nodes the user may have to wait, and is told later
    /// what came of it.
    pub fn join(
        &self,
        member: &Arc<Member>,
        name: &str,
        former: Option<Former>,
        id: Option<&RawValue>,
    ) -> Result<(), CannotJoin> {
        if !is_name(name) {
            return Err(CannotJoin::BadName);
        }
        if let Some(room) = member.named_room()
            && &*room.name == name
        {
            room.roster()
                .tell_joined(&room, member, &self.shared.keys, id);
            return Ok(());
        }
        if let Some(spread) = &self.spread {
            return self.join_across(spread, member, name, former, id);
        }
        let is_new = !self.rooms.contains_key(name);
        if is_new && self.rooms.len() >= self.max {
            self.shared.metrics.limit_hit("max_rooms");
            return Err(CannotJoin::TooManyRooms);
        }
        // The shard is held until the user is in the room, so that no room is joined that is being forgotten.
        let entry = self.rooms.entry(name.into());
        let room = match &entry {
            Entry::Occupied(room) => room.get().clone(),
            Entry::Vacant(_) => NamedRoom::new(RoomId(rand::random()), name, Instant::now()),
        };
        let mut roster = room.roster_mut();
        if roster.members.len() >= MAX_MEMBERS {
            return Err(CannotJoin::Full);
        }
        member.take_seat(&room).map_err(CannotJoin::Elsewhere)?;
        if let Entry::Vacant(place) = entry {
            place.insert(room.clone());
            self.opened(&room);
        }
        self.shared.metrics.named_members.inc();
        roster.admit(
            &room,
            Numbered::here(member, former, 0),
            former.map(|former| former.n),
        );
        roster.tell_joined(&room, member, &self.shared.keys, id);
        self.tell(EventKind::RoomJoined, &room, member, None);
        Ok(())
    }

    fn opened(&self, room: &NamedRoom) {
        self.shared.metrics.named_rooms.inc();
        self.shared.tell(EventKind::RoomOpened, || Data::Room {
            room_id: room.id,
            room: room.name.clone(),
        });
    }

    fn closed(&self, room: &NamedRoom) {
        self.shared.metrics.named_rooms.dec();
        self.shared
            .tell(EventKind::RoomClosed, || Data::RoomClosed {
                room_id: room.id,
                room: room.name.clone(),
                lasted_ms: millis(room.opened.elapsed()),
            });
    }

    /// The user no longer waits to be let into a room. False: they did not wait, or are in it.
    pub fn give_up_joining(&self, member: &Member) -> bool {
        let seat = self.spread.as_ref().and_then(|_| member.stop_joining());
        if let Some(seat) = seat {
            self.gave_up(seat, member.id);
        }
        seat.is_some()
    }

    /// Takes a user out of the room, and tells the others. False: they were not in it.
    pub fn leave(&self, room: &Arc<NamedRoom>, id: SessionId, reason: LeaveReason) -> bool {
        if self.spread.is_some() {
            return self.leave_across(room, id, reason);
        }
        let Entry::Occupied(entry) = self.rooms.entry(room.name.clone()) else {
            return false;
        };
        if !Arc::ptr_eq(entry.get(), room) {
            return false;
        }
        let mut roster = room.roster_mut();
        let Some(at) = roster.position(id) else {
            return false;
        };
        let member = roster.members.remove(at).member;
        self.shared.metrics.named_members.dec();
        self.tell(EventKind::RoomLeft, room, &member, Some(reason));
        if roster.members.is_empty() {
            entry.remove();
            self.closed(room);
        }
        roster.tell_left(room, id, reason);
        true
    }

    /// The room of this name, if somebody is in it.
    pub fn get(&self, name: &str) -> Option<Arc<NamedRoom>> {
        self.rooms.get(name).map(|room| room.value().clone())
    }

    /// For how long a room has been there, to the second.
    pub fn age(&self, room: &NamedRoom) -> Duration {
        room.opened.elapsed()
    }

    fn tell(
        &self,
        kind: EventKind,
        room: &NamedRoom,
        member: &Member,
        reason: Option<LeaveReason>,
    ) {
        self.shared.tell(kind, || Data::Member {
            room_id: room.id,
            room: room.name.clone(),
            user: member.party(),
            reason,
        });
    }

    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl NamedRoom {
    fn new(id: RoomId, name: &str, opened: Instant) -> Arc<Self> {
        Arc::new(Self {
            id,
            name: name.into(),
            opened,
            roster: RwLock::default(),
        })
    }

    fn roster(&self) -> RwLockReadGuard<'_, Roster> {
        self.roster.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn roster_mut(&self) -> RwLockWriteGuard<'_, Roster> {
        self.roster.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All in the room, with their numbers.
    pub fn members(&self) -> Vec<(u32, Arc<Member>)> {
        let roster = self.roster();
        let members = roster.members.iter();
        members
            .map(|other| (other.n, other.member.clone()))
            .collect()
    }

    /// The others in the room.
    pub fn peers(&self, of: SessionId) -> Vec<SessionId> {
        let roster = self.roster();
        let members = roster.members.iter().map(|other| other.member.id);
        members.filter(|&id| id != of).collect()
    }

    /// The member of this id.
    pub fn member(&self, id: &str) -> Option<Arc<Member>> {
        let roster = self.roster();
        let mut members = roster.members.iter().map(|other| &other.member);
        let found = members.find(|member| id.as_bytes() == member.id.digits());
        found.cloned()
    }

    /// Sends a batch from one member to another, or to all others. The roster is held meanwhile: who has left hears nothing
    /// any more. One who takes no more is closed alone. Returns how many have it; lost: nobody has.
    pub fn send(
        &self,
        from: SessionId,
        to: &To<'_>,
        batch: &Batch,
        read_at: Instant,
    ) -> Result<usize, NotSent> {
        let roster = self.roster();
        if roster.position(from).is_none() {
            return Err(NotSent::NotInRoom);
        }
        let mut others = roster
            .members
            .iter()
            .filter(|other| other.member.id != from);
        match to {
            To::One(id) => {
                let one = others.find(|other| id.as_bytes() == other.member.id.digits());
                let one = one.ok_or(NotSent::UnknownPeer)?;
                let sent = match &one.there {
                    None => one.member.outbox.send_batch(batch, Some(read_at)),
                    Some(there) => roster.send_there(self.id, from, one.member.id, there, batch),
                };
                sent.map(|()| 1).map_err(NotSent::Refused)
            }
            To::All => {
                // All other nodes take it, or nobody gets it, here neither: else who says it again would say it to some twice.
                roster.reserve_there(batch).map_err(NotSent::Refused)?;
                let here = others.filter(|other| other.there.is_none());
                let sent = here.filter(|other| {
                    let outbox = &other.member.outbox;
                    outbox.send_batch(batch, Some(read_at)).is_ok()
                });
                Ok(sent.count() + roster.send_all_there(self.id, from, batch))
            }
        }
    }
}

impl Member {
    /// The named room the user is in.
    pub fn named_room(&self) -> Option<Arc<NamedRoom>> {
        match &*self.lock() {
            Seat::InNamedRoom(room) => Some(room.clone()),
            _ => None,
        }
    }

    /// Puts an idle user into a room.
    fn take_seat(&self, room: &Arc<NamedRoom>) -> Result<(), Place> {
        let mut seat = self.lock();
        match seat.place() {
            Place::Idle => {
                *seat = Seat::InNamedRoom(room.clone());
                Ok(())
            }
            elsewhere => Err(elsewhere),
        }
    }

    /// Puts a user who waits to be let in into the room. False: they wait no longer.
    fn take_promised_seat(&self, room: &Arc<NamedRoom>, joining: u64) -> bool {
        let mut seat = self.lock();
        let waits = seat.waits_with(JOINING | joining);
        if waits {
            *seat = Seat::InNamedRoom(room.clone());
        }
        waits
    }

    /// Puts a member of a room into the one that takes its place. False: they have left.
    fn change_seat(&self, from: &Arc<NamedRoom>, to: &Arc<NamedRoom>) -> bool {
        let mut seat = self.lock();
        let here = matches!(&*seat, Seat::InNamedRoom(room) if Arc::ptr_eq(room, from));
        if here {
            *seat = Seat::InNamedRoom(to.clone());
        }
        here
    }

    /// A member of a room waits to be let into the one that takes its place. False: they have left.
    fn wait_again(&self, from: &Arc<NamedRoom>, joining: u64) -> bool {
        let mut seat = self.lock();
        let here = matches!(&*seat, Seat::InNamedRoom(room) if Arc::ptr_eq(room, from));
        if here {
            *seat = Seat::Waiting(JOINING | joining);
        }
        here
    }

    /// Takes the seat in this room away.
    fn lose_seat(&self, room: &Arc<NamedRoom>) {
        let mut seat = self.lock();
        if matches!(&*seat, Seat::InNamedRoom(current) if Arc::ptr_eq(current, room)) {
            *seat = Seat::idle();
        }
    }

    /// Gives up the seat in a named room. The roster still has the user.
    pub fn give_up_seat(&self) -> Option<Arc<NamedRoom>> {
        let mut seat = self.lock();
        let room = match &*seat {
            Seat::InNamedRoom(room) => room.clone(),
            _ => return None,
        };
        *seat = Seat::idle();
        Some(room)
    }
}
