//! A room of two goes on while the session of one of its users goes to another node. Nobody is told anything: the room, its id
//! and the roles stay.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use voicematch_protocol::{LeaveReason, RoomId, SessionId};

use super::{Member, Place, Room, Shared, member::Seat};

impl Room {
    /// Puts `there`, who stands for the partner of `here` on another node, in that one's place: they are there now. `None`:
    /// the user has left this room.
    pub(crate) fn rehome(self: &Arc<Self>, here: &Arc<Member>, there: Member) -> Option<Arc<Self>> {
        let room = self.with(Arc::new(there));
        let mut seat = here.lock();
        if !seat.is_in(self) {
            return None;
        }
        room.replaces(self);
        *seat = Seat::InRoom(room.clone());
        Some(room)
    }

    /// Puts the idle user `came`, who was on another node, in the place of the member that stood for them: both are here now.
    /// `None`: one of them is elsewhere.
    pub(crate) fn unite(
        self: &Arc<Self>,
        here: &Arc<Member>,
        came: &Arc<Member>,
    ) -> Option<Arc<Self>> {
        let room = self.with(came.clone());
        let [mut seat, mut came_seat] = match here.id < came.id {
            true => [here.lock(), came.lock()],
            false => {
                let came_seat = came.lock();
                [here.lock(), came_seat]
            }
        };
        if !seat.is_in(self) || came_seat.place() != Place::Idle {
            return None;
        }
        room.replaces(self);
        *seat = Seat::InRoom(room.clone());
        *came_seat = Seat::InRoom(room.clone());
        Some(room)
    }

    /// The half of an idle user who has come from another node; the partner is `there`. `offers`: the seat is that of who made the
    /// offer. `age`: how long there has been the room. `None`: the user is not idle.
    pub(crate) fn arrive(
        id: RoomId,
        here: &Arc<Member>,
        there: Member,
        (offers, age): (bool, Duration),
        shared: &Arc<Shared>,
        now: Instant,
    ) -> Option<Arc<Self>> {
        let mut members = [Arc::new(there), here.clone()];
        if !offers {
            members.reverse();
        }
        let room = Arc::new(Self::aged(id, members, age, shared, now));
        let mut seat = here.lock();
        if seat.place() != Place::Idle {
            return None;
        }
        *seat = Seat::InRoom(room.clone());
        room.count(None);
        Some(room)
    }

    /// The same where the idle `partner` has come from another node, too.
    pub(crate) fn gather(
        id: RoomId,
        here: &Arc<Member>,
        partner: &Arc<Member>,
        (offers, age): (bool, Duration),
        shared: &Arc<Shared>,
        now: Instant,
    ) -> Option<Arc<Self>> {
        let mut members = [partner.clone(), here.clone()];
        if !offers {
            members.reverse();
        }
        let room = Arc::new(Self::aged(id, members, age, shared, now));
        let [mut seat, mut partners_seat] = match here.id < partner.id {
            true => [here.lock(), partner.lock()],
            false => {
                let partners_seat = partner.lock();
                [here.lock(), partners_seat]
            }
        };
        if seat.place() != Place::Idle || partners_seat.place() != Place::Idle {
            return None;
        }
        *seat = Seat::InRoom(room.clone());
        *partners_seat = Seat::InRoom(room.clone());
        room.count(None);
        Some(room)
    }

    fn aged(
        id: RoomId,
        members: [Arc<Member>; 2],
        age: Duration,
        shared: &Arc<Shared>,
        now: Instant,
    ) -> Self {
        let mut room = Self::new(id, members, shared, now);
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        room.opened_ms = room.opened_ms.saturating_sub(age_ms).max(1);
        room
    }

    /// This node's half is no more: its user has gone on, or goes back, with the other half.
    pub(crate) fn retire(&self) {
        if self.end_silently() && self.is_counted_here() {
            self.shared.metrics.rooms_active.dec();
        }
    }

    /// Whether the user of this id made the offer.
    pub(crate) fn offers(&self, id: SessionId) -> bool {
        self.members[1].id == id
    }

    /// The same room with another member for the user of that one's id.
    fn with(&self, member: Arc<Member>) -> Arc<Self> {
        let members = self.members.each_ref().map(|before| match before.id {
            id if id == member.id => member.clone(),
            _ => before.clone(),
        });
        let mut room = Self::new(self.id, members, &self.shared, Instant::now());
        room.opened_ms = self.opened_ms;
        Arc::new(room)
    }

    /// Ends the old room without a word to its users, and counts this one in its place.
    fn replaces(&self, before: &Self) {
        before.end_silently();
        self.count(Some(before));
    }

    fn end_silently(&self) -> bool {
        let now = self.shared.ms(Instant::now());
        let ended = &self.ended_ms;
        ended
            .compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Counts it here in place of that of before.
    fn count(&self, before: Option<&Self>) {
        let rooms = &self.shared.metrics.rooms_active;
        let counted = before.is_some_and(Self::is_counted_here);
        match (counted, self.is_counted_here()) {
            (false, true) => rooms.inc(),
            (true, false) => rooms.dec(),
            _ => {}
        }
    }
}

impl Seat {
    fn is_in(&self, room: &Arc<Room>) -> bool {
        matches!(self, Self::InRoom(current) if Arc::ptr_eq(current, room))
    }
}

impl Member {
    /// The room that `before` has become, if the partner has only gone to another node.
    #[cold]
    pub(crate) fn room_after(&self, before: &Room) -> Option<Arc<Room>> {
        let peer = before.peer_of(self.id).id;
        let room = self.room()?;
        (room.id == before.id && room.peer_of(self.id).id == peer).then_some(room)
    }

    /// The user has blocked somebody, or was blocked.
    pub(crate) fn mark_blocks(&self) {
        self.outbox
            .marks()
            .has_blocks
            .store(true, Ordering::Release);
    }

    /// The user is on another node from now on; nobody is told.
    pub(crate) fn depart(&self) {
        *self.lock() = Seat::Gone;
    }

    /// Leaves `room` without a word of who: the partner is on a node that has died.
    pub(crate) fn lose_partner(&self, room: &Arc<Room>, reason: LeaveReason) {
        self.peer_there_left(room, reason);
    }
}
