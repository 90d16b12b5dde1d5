//! Named rooms: up to twenty who have given the same name. A room exists from the first who joins to the last who leaves.
//!
//! In each pair the newcomer makes the offer: it knows all others from one message, and can pace itself. Both are told, so
//! that no two offers cross.
//!
//! Lock order: a shard of the rooms, a roster, then seats and outboxes.

mod roster;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use serde_json::value::RawValue;
use voicematch_protocol::{LeaveReason, RoomId, ServerMessage, SessionId};

use super::{Member, Place, Seat, Shared, millis};
use crate::{
    events::{Data, EventKind},
    outbox::{Batch, Refused},
};
pub use roster::Former;
use roster::Roster;

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
    /// The user is elsewhere: waiting, or in another room.
    Elsewhere(Place),
}

/// The named rooms of this process.
pub struct NamedRooms {
    rooms: DashMap<Box<str>, Arc<NamedRoom>, ahash::RandomState>,
    max: usize,
    shared: Arc<Shared>,
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
        }
    }

    /// Puts an idle user into the room of this name, and tells all. Who is in it already is told of it again. Who
    /// comes back gets the `former` number again if it is free.
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
        let is_new = !self.rooms.contains_key(name);
        if is_new && self.rooms.len() >= self.max {
            self.shared.metrics.limit_hit("max_rooms");
            return Err(CannotJoin::TooManyRooms);
        }
        // The shard is held until the user is in the room, so that no room is joined that is being forgotten.
        let entry = self.rooms.entry(name.into());
        let room = match &entry {
            Entry::Occupied(room) => room.get().clone(),
            Entry::Vacant(_) => Arc::new(NamedRoom {
                id: RoomId(rand::random()),
                name: name.into(),
                opened: Instant::now(),
                roster: RwLock::default(),
            }),
        };
        let mut roster = room.roster_mut();
        if roster.members.len() >= MAX_MEMBERS {
            return Err(CannotJoin::Full);
        }
        member.take_seat(&room).map_err(CannotJoin::Elsewhere)?;
        if let Entry::Vacant(place) = entry {
            place.insert(room.clone());
            self.shared.metrics.named_rooms.inc();
            self.shared.tell(EventKind::RoomOpened, || Data::Room {
                room_id: room.id,
                room: room.name.clone(),
            });
        }
        self.shared.metrics.named_members.inc();
        roster.admit(&room, member, former, &self.shared.keys, id);
        self.tell(EventKind::RoomJoined, &room, member, None);
        Ok(())
    }

    /// Takes a user out of the room, and tells the others. False: they were not in it.
    pub fn leave(&self, room: &Arc<NamedRoom>, id: SessionId, reason: LeaveReason) -> bool {
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
            self.shared.metrics.named_rooms.dec();
            self.shared
                .tell(EventKind::RoomClosed, || Data::RoomClosed {
                    room_id: room.id,
                    room: room.name.clone(),
                    lasted_ms: millis(room.opened.elapsed()),
                });
        }
        let left = ServerMessage::PeerLeft {
            room_id: room.id,
            peer_id: id,
            reason,
        };
        for other in &roster.members {
            // A refusal means that they are leaving too.
            let _ = other.member.outbox.send(&left);
        }
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
    /// any more. One who takes no more is closed alone. Returns how many have it.
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
        let others = roster.members.iter().map(|other| &other.member);
        let mut others = others.filter(|member| member.id != from);
        match to {
            To::One(id) => {
                let one = others.find(|member| id.as_bytes() == member.id.digits());
                let outbox = &one.ok_or(NotSent::UnknownPeer)?.outbox;
                let sent = outbox.send_batch(batch, Some(read_at));
                sent.map(|()| 1).map_err(NotSent::Refused)
            }
            To::All => Ok(others
                .filter(|member| member.outbox.send_batch(batch, Some(read_at)).is_ok())
                .count()),
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
