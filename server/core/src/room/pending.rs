//! Rooms of two that died with another process: the user who shows a ticket first waits for the other one.
//!
//! Lock order: a shard of the pending rooms, then seats, then shards of those that were opened or left.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use voicematch_protocol::{CloseReason, LeaveReason, RoomId, ServerMessage, SessionId};

use super::{Member, NO_TICKET, Place, Room, Shared, millis};

/// How long the first waits for the second.
pub const WAIT: Duration = Duration::from_secs(20);

/// The rooms of which one seat is taken.
pub struct PendingRooms {
    rooms: DashMap<RoomId, Waiting, ahash::RandomState>,
    /// Rooms that were opened again: their old tickets open no second one.
    opened: DashMap<RoomId, Weak<Room>, ahash::RandomState>,
    /// Rooms that one of the two has left before the other came, for as long as they would have waited.
    left: DashMap<RoomId, Left, ahash::RandomState>,
    max: usize,
    shared: Arc<Shared>,
}

struct Waiting {
    member: Arc<Member>,
    seat: u8,
}

struct Left {
    seat: u8,
    reason: LeaveReason,
    until: Instant,
}

/// What came of a ticket.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejoined {
    /// Both are there: the room is open, and they have been told.
    Opened,
    /// The user waits for the partner until then, and has been told.
    Waits { until: Instant },
    /// The partner came first and has left.
    Left(LeaveReason),
}

/// Why a user cannot rejoin.
#[derive(Debug, PartialEq, Eq)]
pub enum CannotRejoin {
    /// The user waits already, or is in a room.
    Elsewhere(Place),
    /// As many rooms are pending as may be.
    TooMany,
    /// Both have come back already.
    Opened,
    /// One of the two has blocked the other.
    Apart,
}

impl PendingRooms {
    /// No room is pending; `max` may be.
    pub fn new(max: usize, shared: Arc<Shared>) -> Self {
        Self {
            rooms: DashMap::with_hasher(ahash::RandomState::new()),
            opened: DashMap::with_hasher(ahash::RandomState::new()),
            left: DashMap::with_hasher(ahash::RandomState::new()),
            max,
            shared,
        }
    }

    /// Gives an idle user the seat back. A later user of the same seat takes it over: a retry whose answer got lost, or a
    /// second tab.
    pub fn rejoin(
        &self,
        member: &Arc<Member>,
        room: RoomId,
        seat: u8,
        now: Instant,
    ) -> Result<Rejoined, CannotRejoin> {
        let full = self.rooms.len() >= self.max;
        let entry = self.rooms.entry(room);
        if self.opened.contains_key(&room) {
            return Err(CannotRejoin::Opened);
        }
        if let Some((_, left)) = self.left.remove(&room)
            && left.seat != seat
            && now < left.until
        {
            return Ok(Rejoined::Left(left.reason));
        }
        let mut place = match entry {
            Entry::Vacant(_) if full => {
                self.shared.metrics.limit_hit("pending_rooms");
                return Err(CannotRejoin::TooMany);
            }
            Entry::Vacant(place) => {
                member
                    .start_waiting(NO_TICKET)
                    .map_err(CannotRejoin::Elsewhere)?;
                // Held until they are told: nobody finds them before that.
                let _place = place.insert(Waiting {
                    member: member.clone(),
                    seat,
                });
                return Ok(self.tell_waiting(member, room, now));
            }
            Entry::Occupied(place) => place,
        };
        let other = place.get().member.clone();
        if place.get().seat != seat && self.shared.are_apart(member, &other, now) {
            return Err(CannotRejoin::Apart);
        }
        member
            .start_waiting(NO_TICKET)
            .map_err(CannotRejoin::Elsewhere)?;
        if place.get().seat == seat {
            other.stop_waiting(NO_TICKET);
            other.outbox.close(CloseReason::Replaced);
        } else if self.open(room, [member, &other], seat, now) {
            place.remove();
            return Ok(Rejoined::Opened);
        }
        place.insert(Waiting {
            member: member.clone(),
            seat,
        });
        Ok(self.tell_waiting(member, room, now))
    }

    /// Opens the room; false: the other one has gone.
    fn open(
        &self,
        room: RoomId,
        [member, other]: [&Arc<Member>; 2],
        seat: u8,
        now: Instant,
    ) -> bool {
        let mut seats = [member, other];
        seats.rotate_left(usize::from(seat));
        let Some(opened) = Room::reopen(room, seats, &self.shared, now) else {
            return false;
        };
        if self.opened.len() >= self.max {
            self.opened.retain(|_, room| room.strong_count() > 0);
        }
        self.opened.insert(room, Arc::downgrade(&opened));
        true
    }

    fn tell_waiting(&self, member: &Member, room_id: RoomId, now: Instant) -> Rejoined {
        // A refusal means that the user's task is closing the connection.
        let _ = member.outbox.send(&ServerMessage::Rejoining {
            room_id,
            expires_in_ms: millis(WAIT),
        });
        Rejoined::Waits { until: now + WAIT }
    }

    /// Who waits for the partner of the other seat than this one.
    pub(crate) fn partner(&self, room: RoomId, seat: u8) -> Option<Arc<Member>> {
        let place = self.rooms.get(&room)?;
        (place.seat != seat).then(|| place.member.clone())
    }

    /// Whether this user waits for the partner.
    pub(crate) fn waits(&self, room: RoomId, id: SessionId) -> bool {
        let place = self.rooms.get(&room);
        place.is_some_and(|place| place.member.id == id)
    }

    /// One who waited is in the room: the partner is on another node, or was here all the time.
    pub(crate) fn went_on(&self, room: RoomId, id: SessionId) {
        let entry = self.rooms.entry(room);
        if let Entry::Occupied(place) = entry
            && place.get().member.id == id
        {
            place.remove();
        }
    }

    /// The user no longer waits for the partner, who is told why if they come. False: the room was opened first.
    pub fn give_up(
        &self,
        room: RoomId,
        id: SessionId,
        why: Option<LeaveReason>,
        now: Instant,
    ) -> bool {
        let entry = self.rooms.entry(room);
        let Entry::Occupied(place) = entry else {
            return false;
        };
        if place.get().member.id != id {
            return false;
        }
        let Waiting { member, seat } = place.get();
        member.stop_waiting(NO_TICKET);
        if self.left.len() >= self.max {
            self.left.retain(|_, left| now < left.until);
        }
        if let Some(reason) = why
            && self.left.len() < self.max
        {
            let until = now + WAIT;
            let seat = *seat;
            let left = Left {
                seat,
                reason,
                until,
            };
            self.left.insert(room, left);
        }
        place.remove();
        true
    }

    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}
