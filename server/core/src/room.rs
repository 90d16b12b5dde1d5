//! Rooms: which users are in a room together, and which messages they hear. Here are the rooms of two who were matched; see [`named`]
//! for the others.
//!
//! Matched users hold each other: a member's seat points to the room, and the room to its members, so a
//! relay looks nothing up. Lock order: a seat, then an outbox; two seats only when a room is opened, the
//! lower id first.

mod half;
mod member;
mod moved;
pub mod named;
pub mod pending;
mod shared;
pub mod ticket;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use voicematch_protocol::{LeaveReason, RoomId, ServerMessage, SessionId};

use crate::{
    events::{Data, EventKind, Party},
    outbox::Refused,
};

pub use half::{Again, Half, Mate, NoHalf};
use member::Seat;
pub use member::{Member, NO_TICKET, Place, Standing};
pub use shared::Shared;
use ticket::{RoomKeys, TicketSeat};

/// Two matched users. It ends when one of them leaves. With the two counts of the `Arc` it is one cache line.
pub struct Room {
    pub id: RoomId,
    members: [Arc<Member>; 2],
    /// In milliseconds since the server's start.
    opened_ms: u64,
    /// The same; 0: it has not ended.
    ended_ms: AtomicU64,
    shared: Arc<Shared>,
}

const _: () = assert!(size_of::<Room>() <= 48);

/// One of the two users of a match that is about to be made.
pub struct Side<'a> {
    pub member: &'a Arc<Member>,
    /// The number of their ticket.
    pub ticket: u64,
    /// How long they waited.
    pub waited: Duration,
    /// The `id` of their request.
    pub request_id: Option<&'a RawValue>,
}

/// One of the two had gone before they could be told of the match.
#[derive(Debug, PartialEq, Eq)]
pub enum Absent {
    /// The one who waited.
    Waiter,
    /// The one who came later. Only where another task than the user's own makes the match.
    Newcomer,
}

/// Why a relay did not go out.
#[derive(Debug, PartialEq, Eq)]
pub enum NotRelayed {
    /// The sender is not, or no longer, in that room.
    NotInRoom,
    /// The partner takes no more.
    Refused(Refused),
}

impl Room {
    /// Puts both into a new room and tells them. Both seats are held meanwhile: neither can speak to the
    /// other, or leave, before the other knows of the match. The newcomer makes the offer.
    pub fn open(
        waiter: &Side<'_>,
        newcomer: &Side<'_>,
        shared_interests: &[String],
        shared: &Arc<Shared>,
        now: Instant,
        matched: impl FnOnce(&Self),
    ) -> Result<Arc<Self>, Absent> {
        let members = [waiter.member, newcomer.member].map(Arc::clone);
        let room = Arc::new(Self::new(RoomId(rand::random()), members, shared, now));
        let (mut waiters_seat, mut newcomers_seat);
        if waiter.member.id < newcomer.member.id {
            waiters_seat = waiter.member.lock();
            newcomers_seat = newcomer.member.lock();
        } else {
            newcomers_seat = newcomer.member.lock();
            waiters_seat = waiter.member.lock();
        }
        if !waiters_seat.waits_with(waiter.ticket) {
            return Err(Absent::Waiter);
        }
        if !newcomers_seat.waits_with(newcomer.ticket) {
            return Err(Absent::Newcomer);
        }
        let tell = |side: &Side<'_>, peer: &Side<'_>, initiator| {
            let keys = &shared.keys;
            let ticket = ticket(keys, room.id, side.member, peer.member, initiator);
            side.member.outbox.send(&ServerMessage::MatchFound {
                room_id: room.id,
                peer_id: peer.member.id,
                peer_name: peer.member.name(),
                batch: side
                    .member
                    .is_resumable()
                    .then_some(peer.member.is_resumable()),
                initiator,
                waited_ms: millis(side.waited),
                shared_interests,
                room_ticket: ticket.as_deref(),
                id: side.request_id,
            })
        };
        tell(waiter, newcomer, false).map_err(|_| Absent::Waiter)?;
        // A refusal means that the newcomer's task is closing the connection; the waiter then gets peer_left.
        let _ = tell(newcomer, waiter, true);
        *waiters_seat = Seat::InRoom(room.clone());
        *newcomers_seat = Seat::InRoom(room.clone());
        room.begins([waiter.waited, newcomer.waited], false);
        matched(&room);
        drop((waiters_seat, newcomers_seat));
        Ok(room)
    }

    /// Opens a room of another process again, for its two members, who wait for each other; the first made the offer.
    /// `None`: one of them waits no longer.
    fn reopen(
        id: RoomId,
        members: [&Arc<Member>; 2],
        shared: &Arc<Shared>,
        now: Instant,
    ) -> Option<Arc<Self>> {
        let room = Arc::new(Self::new(id, members.map(Arc::clone), shared, now));
        let [first, second] = members;
        let (mut low, mut high) = match first.id < second.id {
            true => (first.lock(), second.lock()),
            false => (second.lock(), first.lock()),
        };
        if !low.waits_with(NO_TICKET) || !high.waits_with(NO_TICKET) {
            return None;
        }
        for (member, peer, initiator) in [(first, second, true), (second, first, false)] {
            member.tell_rejoined(id, peer, initiator, &shared.keys);
        }
        *low = Seat::InRoom(room.clone());
        *high = Seat::InRoom(room.clone());
        room.begins([Duration::ZERO; 2], true);
        Some(room)
    }

    fn new(id: RoomId, members: [Arc<Member>; 2], shared: &Arc<Shared>, now: Instant) -> Self {
        Self {
            id,
            members,
            opened_ms: shared.ms(now),
            ended_ms: AtomicU64::new(0),
            shared: shared.clone(),
        }
    }

    /// Counts and tells that it begins, while no member can leave.
    #[inline]
    fn begins(&self, waited: [Duration; 2], rejoined: bool) {
        if !self.is_counted_here() {
            return;
        }
        self.shared.metrics.rooms_active.inc();
        self.shared.tell(EventKind::MatchMade, || Data::MatchMade {
            room_id: self.id,
            users: self.parties(),
            waited_ms: waited.map(millis),
            rejoined,
        });
    }

    /// Ends it, and counts and tells that, if no other member has done so.
    fn end(&self, left: &Member, reason: LeaveReason) {
        let now = self.shared.ms(Instant::now());
        let ended = &self.ended_ms;
        let is_first = ended.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
        if is_first.is_err() || !self.is_counted_here() {
            return;
        }
        self.shared.metrics.rooms_active.dec();
        self.shared
            .tell(EventKind::MatchEnded, || Data::MatchEnded {
                room_id: self.id,
                users: self.parties(),
                lasted_ms: now.saturating_sub(self.opened_ms),
                left: left.id,
                reason,
            });
    }

    /// A room on two nodes counts where the user is who made the offer, and that node tells of it.
    #[inline]
    fn is_counted_here(&self) -> bool {
        !self.members[1].is_there()
    }

    fn parties(&self) -> [Party; 2] {
        self.members.each_ref().map(|member| member.party())
    }

    /// Gives the seat of `from`, who does not come back, to the idle user `to`, and tells both; `offers`: the seat is that
    /// of who made the offer. False: the partner has left.
    pub fn hand_over(self: &Arc<Self>, from: &Member, to: &Arc<Member>, offers: bool) -> bool {
        if !from.vacate(self) {
            return false;
        }
        let peer = self.peer_of(from.id);
        let room = Arc::new(Self {
            id: self.id,
            members: [peer.clone(), to.clone()],
            opened_ms: self.opened_ms,
            ended_ms: AtomicU64::new(0),
            shared: self.shared.clone(),
        });
        let [mut peers_seat, mut seat] = match peer.id < to.id {
            true => [peer.lock(), to.lock()],
            false => {
                let seat = to.lock();
                [peer.lock(), seat]
            }
        };
        let here = matches!(&*peers_seat, Seat::InRoom(room) if Arc::ptr_eq(room, self));
        if !here || seat.place() != Place::Idle {
            return false;
        }
        // It goes on under the same id, and counts as one.
        let now = self.shared.ms(Instant::now());
        self.ended_ms.store(now, Ordering::Release);
        for (member, peer, initiator) in [(to, peer, offers), (peer, to, !offers)] {
            member.tell_rejoined(self.id, peer, initiator, &self.shared.keys);
        }
        *peers_seat = Seat::InRoom(room.clone());
        *seat = Seat::InRoom(room.clone());
        room.follows(Some(self));
        true
    }

    /// Counts it in place of the one that it goes on from, while no member can leave; `None`: that was another process's.
    fn follows(&self, before: Option<&Self>) {
        match (
            before.is_some_and(Self::is_counted_here),
            self.is_counted_here(),
        ) {
            (false, true) => self.begins([Duration::ZERO; 2], true),
            (true, false) => self.shared.metrics.rooms_active.dec(),
            _ => {}
        }
    }

    /// Whether a member has left. True before the other member is told of it or matched again.
    pub fn is_closed(&self) -> bool {
        self.ended_ms.load(Ordering::Acquire) != 0
    }

    /// How long ago it ended; nothing if it goes on.
    pub fn ended_since(&self) -> Duration {
        match self.ended_ms.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            ended => {
                let now = self.shared.ms(Instant::now());
                Duration::from_millis(now.saturating_sub(ended))
            }
        }
    }

    /// Who was in it when it was opened.
    pub fn members(&self) -> &[Arc<Member>; 2] {
        &self.members
    }

    /// For how long it has been open.
    pub fn age(&self) -> Duration {
        let now = self.shared.ms(Instant::now());
        Duration::from_millis(now.saturating_sub(self.opened_ms))
    }

    /// The partner of a member, found without a look at either.
    #[inline]
    fn peer(&self, member: &Member) -> &Arc<Member> {
        let [first, second] = &self.members;
        if std::ptr::eq(&**first, member) {
            second
        } else {
            first
        }
    }

    pub fn peer_of(&self, id: SessionId) -> &Arc<Member> {
        if self.members[0].id == id {
            &self.members[1]
        } else {
            &self.members[0]
        }
    }
}

/// What brings a user back into a room after the server has died; only who outlives a connection needs it.
fn ticket(
    keys: &RoomKeys,
    room: RoomId,
    member: &Member,
    peer: &Member,
    initiator: bool,
) -> Option<String> {
    let seat = TicketSeat::Match {
        partner: peer.id,
        process: peer.process_there().unwrap_or(keys.process),
        seat: u8::from(!initiator),
    };
    member
        .is_resumable()
        .then(|| keys.sign(room, member.id, member.user(), &seat))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
