//! Rooms: which users are in a room together, and which messages they hear. Here are members, their seats and the rooms of
//! two who were matched; see [`named`] for the others.
//!
//! Matched users hold each other: a member's seat points to the room, and the room to its members, so a
//! relay looks nothing up. Lock order: a seat, then an outbox; two seats only when a room is opened, the
//! lower id first.

pub mod named;
pub mod pending;
pub mod ticket;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use serde_json::value::RawValue;
use voicematch_protocol::{CloseReason, LeaveReason, RoomId, ServerMessage, SessionId};

use crate::{
    address::UserAddress,
    blocks::{self, Blocks, Person},
    events::{Data, Event, EventKind, Listener, Party},
    identity::Identity,
    metrics::Metrics,
    outbox::{Batch, Outbox, Refused},
};

use named::NamedRoom;
use ticket::{RoomKeys, TicketSeat};

/// What all rooms share.
pub struct Shared {
    pub metrics: Arc<Metrics>,
    /// They sign the room tickets of those who are in a room.
    pub keys: Arc<RoomKeys>,
    /// Who does not meet whom.
    pub blocks: Blocks,
    /// Who hears of rooms, if anybody does.
    pub listener: Option<Arc<dyn Listener>>,
}

impl Shared {
    /// At the most so many blocks are remembered.
    pub fn new(
        metrics: Arc<Metrics>,
        keys: Arc<RoomKeys>,
        max_blocks: usize,
        listener: Option<Arc<dyn Listener>>,
    ) -> Arc<Self> {
        let remembered = metrics.blocks_remembered.clone();
        Arc::new(Self {
            blocks: Blocks::new(max_blocks, blocks::REMEMBERED_FOR, remembered),
            metrics,
            keys,
            listener,
        })
    }

    /// Tells of an event, if somebody wants to hear of it.
    #[inline]
    pub fn tell(&self, kind: EventKind, data: impl FnOnce() -> Data) {
        if let Some(listener) = &self.listener
            && listener.wants(kind)
        {
            let (at, data) = (SystemTime::now(), data());
            listener.hear(Event { kind, at, data });
        }
    }

    /// Whether one of the two has blocked the other. For a user whom the app has not named, and who has no part in any
    /// block, that is one look at the user.
    #[inline]
    pub fn are_apart(&self, one: &Member, other: &Member, now: Instant) -> bool {
        let may_be = match one.identity {
            None => one.outbox.marks().has_blocks.load(Ordering::Acquire),
            Some(_) => !self.blocks.is_empty(),
        };
        may_be
            && self
                .blocks
                .are_apart(self.person(one), self.person(other), now)
    }

    /// From now on the two are not to meet. False: the one had blocked the other before.
    pub fn block(&self, by: &Member, of: &Member, now: Instant) -> bool {
        let blocked = self.blocks.block(self.person(by), self.person(of), now);
        if blocked.pushes_out {
            self.metrics.limit_hit("max_blocks");
        }
        for member in [by, of] {
            member
                .outbox
                .marks()
                .has_blocks
                .store(true, Ordering::Release);
        }
        blocked.is_new
    }

    /// The session ends, and so do its blocks, unless the app knows the user.
    pub fn forget_blocks(&self, member: &Member) {
        if member.identity.is_none() && member.outbox.marks().has_blocks.load(Ordering::Acquire) {
            self.blocks.forget_person(self.person(member));
        }
    }

    fn person(&self, member: &Member) -> Person {
        self.blocks.person(member.user(), member.id)
    }

    /// Milliseconds since the start, and never 0.
    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.metrics.started);
        (since.as_secs() * 1000 + u64::from(since.subsec_millis())).max(1)
    }
}

/// The part of a session that others hold: the user's outbox and seat.
pub struct Member {
    pub id: SessionId,
    pub outbox: Outbox,
    /// Who the user is, if the app has said.
    pub identity: Option<Box<Identity>>,
    /// Where the user is, as [`UserAddress`] writes it.
    address: AtomicU64,
    seat: Mutex<Seat>,
}

/// In place of a ticket's number: the user waits for a former partner.
pub const NO_TICKET: u64 = u64::MAX;

/// Where a user is, with the details.
enum Seat {
    Idle {
        since: Instant,
    },
    /// Idle since the partner has left this room.
    Left(Arc<Room>),
    /// With the ticket of this number, or for a former partner.
    Waiting(u64),
    InRoom(Arc<Room>),
    InNamedRoom(Arc<NamedRoom>),
    Gone,
}

/// Where a user is, with what operators may see.
pub enum Standing {
    /// Neither waiting nor in a room, since then.
    Idle {
        since: Instant,
    },
    /// Waiting, by the ticket of this number, or for a former partner.
    Waiting(Option<u64>),
    InRoom(Arc<Room>),
    InNamedRoom(Arc<NamedRoom>),
    /// Has left the server.
    Gone,
}

impl Seat {
    fn idle() -> Self {
        Self::Idle {
            since: Instant::now(),
        }
    }

    fn waits_with(&self, ticket: u64) -> bool {
        matches!(self, Self::Waiting(own) if *own == ticket)
    }

    fn place(&self) -> Place {
        match self {
            Self::Idle { .. } | Self::Left(_) => Place::Idle,
            Self::Waiting(_) => Place::Waiting,
            Self::InRoom(_) | Self::InNamedRoom(_) => Place::InRoom,
            Self::Gone => Place::Gone,
        }
    }
}

/// Where a user is, without the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Connected, neither waiting nor in a room.
    Idle,
    Waiting,
    InRoom,
    /// Has left the server.
    Gone,
}

/// Two matched users. It ends when one of them leaves.
pub struct Room {
    pub id: RoomId,
    members: [Arc<Member>; 2],
    /// In milliseconds since the server's start.
    opened_ms: u64,
    /// The same; 0: it has not ended.
    ended_ms: AtomicU64,
    shared: Arc<Shared>,
}

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

/// The waiting user had gone before they could be told of the match.
#[derive(Debug, PartialEq, Eq)]
pub struct WaiterGone;

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
    ) -> Result<Arc<Self>, WaiterGone> {
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
        debug_assert!(
            newcomers_seat.waits_with(newcomer.ticket),
            "only its own task moves a newcomer"
        );
        if !waiters_seat.waits_with(waiter.ticket) {
            return Err(WaiterGone);
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
        tell(waiter, newcomer, false).map_err(|_| WaiterGone)?;
        // A refusal means that the newcomer's task is closing the connection; the waiter then gets peer_left.
        let _ = tell(newcomer, waiter, true);
        *waiters_seat = Seat::InRoom(room.clone());
        *newcomers_seat = Seat::InRoom(room.clone());
        room.begins([waiter.waited, newcomer.waited], false);
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
        if is_first.is_err() {
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
        *seat = Seat::InRoom(room);
        true
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
        seat: u8::from(!initiator),
    };
    member
        .is_resumable()
        .then(|| keys.sign(room, member.id, member.user(), &seat))
}

impl Member {
    /// An idle user.
    pub fn new(
        id: SessionId,
        outbox: Outbox,
        resumable: bool,
        identity: Option<Box<Identity>>,
    ) -> Self {
        let marks = outbox.marks();
        marks.resumable.store(resumable, Ordering::Relaxed);
        Self {
            id,
            outbox,
            identity,
            address: AtomicU64::new(0),
            seat: Mutex::new(Seat::idle()),
        }
    }

    /// Whether the session outlives its connections.
    pub fn is_resumable(&self) -> bool {
        self.outbox.marks().resumable.load(Ordering::Relaxed)
    }

    /// Where the user is.
    pub fn address(&self) -> UserAddress {
        UserAddress(self.address.load(Ordering::Relaxed))
    }

    /// The user's connection is from this address now.
    pub fn set_address(&self, address: UserAddress) {
        self.address.store(address.0, Ordering::Relaxed);
    }

    /// Where the user is, with what operators may see.
    pub fn standing(&self) -> Standing {
        match &*self.lock() {
            Seat::Idle { since } => Standing::Idle { since: *since },
            Seat::Left(room) => {
                let now = Instant::now();
                let since = now.checked_sub(room.ended_since()).unwrap_or(now);
                Standing::Idle { since }
            }
            Seat::Waiting(ticket) => Standing::Waiting((*ticket != NO_TICKET).then_some(*ticket)),
            Seat::InRoom(room) => Standing::InRoom(room.clone()),
            Seat::InNamedRoom(room) => Standing::InNamedRoom(room.clone()),
            Seat::Gone => Standing::Gone,
        }
    }

    /// What other users may call this one.
    pub fn name(&self) -> Option<&str> {
        self.identity.as_deref()?.name.as_deref()
    }

    /// Whether both are sessions of one person.
    pub fn is_same_person(&self, other: &Self) -> bool {
        match (&self.identity, &other.identity) {
            (Some(own), Some(other)) => own.user == other.user,
            _ => self.id == other.id,
        }
    }

    /// The app's id of the user, if it has named one.
    pub fn user(&self) -> Option<&str> {
        self.identity.as_deref().map(|identity| &*identity.user)
    }

    /// The user as events name them.
    pub fn party(&self) -> Party {
        Party {
            session_id: self.id,
            user: self.user().map(Into::into),
        }
    }

    pub fn place(&self) -> Place {
        self.lock().place()
    }

    /// Whether the user has no connection now.
    pub fn is_away(&self) -> bool {
        self.outbox.marks().away.load(Ordering::Relaxed)
    }

    pub fn set_away(&self, away: bool) {
        self.outbox.marks().away.store(away, Ordering::Relaxed);
    }

    /// Since when the user has been idle, if they are.
    pub fn idle_since(&self) -> Option<Instant> {
        match &*self.lock() {
            Seat::Idle { since } => Some(*since),
            Seat::Left(room) => Instant::now().checked_sub(room.ended_since()),
            _ => None,
        }
    }

    /// The room the user is in.
    pub fn room(&self) -> Option<Arc<Room>> {
        match &*self.lock() {
            Seat::InRoom(room) => Some(room.clone()),
            _ => None,
        }
    }

    /// The room of two that the user is in, or that the partner has left.
    pub fn last_room(&self) -> Option<Arc<Room>> {
        match &*self.lock() {
            Seat::InRoom(room) | Seat::Left(room) => Some(room.clone()),
            _ => None,
        }
    }

    /// From idle to waiting, with the ticket of this number or [`NO_TICKET`]; returns the room that the partner had left.
    /// A user who is not idle gets their place as the error.
    #[inline]
    pub fn start_waiting(&self, ticket: u64) -> Result<Option<Arc<Room>>, Place> {
        let mut seat = self.lock();
        if !matches!(&*seat, Seat::Idle { .. } | Seat::Left(_)) {
            return Err(seat.place());
        }
        match std::mem::replace(&mut *seat, Seat::Waiting(ticket)) {
            Seat::Left(room) => Ok(Some(room)),
            _ => Ok(None),
        }
    }

    /// From waiting to idle. False: the user was not waiting with this ticket.
    pub fn stop_waiting(&self, ticket: u64) -> bool {
        let mut seat = self.lock();
        let waited = seat.waits_with(ticket);
        if waited {
            *seat = Seat::idle();
        }
        waited
    }

    /// Sends `waiting`, unless the user has been matched meanwhile.
    pub fn confirm_waiting(&self, id: Option<&RawValue>) {
        let seat = self.lock();
        if seat.place() == Place::Waiting {
            // A refusal means that the user's task is closing the connection already.
            let _ = self.outbox.send(&ServerMessage::Waiting { id });
        }
    }

    /// Sends a batch to the partner in `room`. The seat is held meanwhile, so that nothing reaches a
    /// partner after they have left for another room.
    pub fn relay(
        &self,
        room: &Arc<Room>,
        batch: &Batch,
        read_at: Instant,
    ) -> Result<(), NotRelayed> {
        let seat = self.lock();
        match &*seat {
            Seat::InRoom(current) if Arc::ptr_eq(current, room) => room
                .peer_of(self.id)
                .outbox
                .send_batch(batch, Some(read_at))
                .map_err(NotRelayed::Refused),
            _ => Err(NotRelayed::NotInRoom),
        }
    }

    /// Leaves the room, if the user is in one, and tells the partner. Returns the room.
    pub fn leave_room(&self, reason: LeaveReason) -> Option<Arc<Room>> {
        let room = {
            let mut seat = self.lock();
            match &*seat {
                Seat::InRoom(room) => {
                    let room = room.clone();
                    *seat = Seat::idle();
                    room
                }
                _ => return None,
            }
        };
        self.leave_room_as(&room, reason);
        Some(room)
    }

    /// Leaves the server for good, and the room with it.
    pub fn go(&self, reason: CloseReason) {
        let before = std::mem::replace(&mut *self.lock(), Seat::Gone);
        if let Seat::InRoom(room) = before {
            self.leave_room_as(&room, LeaveReason::Ended(reason));
        }
    }

    /// From now on only the seat is kept, for the room ticket of its user.
    pub fn vacate_for_ticket(&self) {
        self.outbox.marks().vacant.store(true, Ordering::Release);
    }

    /// Whether only the seat is kept.
    pub fn is_vacant(&self) -> bool {
        self.outbox.marks().vacant.load(Ordering::Acquire)
    }

    /// The id of the room that the user is in.
    pub fn room_id(&self) -> Option<RoomId> {
        match &*self.lock() {
            Seat::InRoom(room) => Some(room.id),
            Seat::InNamedRoom(room) => Some(room.id),
            _ => None,
        }
    }

    /// Gives up the seat in `room` without a word. False: it was given up already.
    fn vacate(&self, room: &Arc<Room>) -> bool {
        let mut seat = self.lock();
        let here = matches!(&*seat, Seat::InRoom(current) if Arc::ptr_eq(current, room));
        if here {
            *seat = Seat::Gone;
        }
        here
    }

    fn tell_rejoined(&self, room_id: RoomId, peer: &Member, initiator: bool, keys: &RoomKeys) {
        let ticket = ticket(keys, room_id, self, peer, initiator);
        // A refusal means that the user's task is closing the connection; the other then gets peer_left.
        let _ = self.outbox.send(&ServerMessage::Rejoined {
            room_id,
            peer_id: peer.id,
            initiator,
            room_ticket: ticket.as_deref(),
        });
    }

    /// Ends `room` for the partner; this member's own seat has been given up.
    fn leave_room_as(&self, room: &Arc<Room>, reason: LeaveReason) {
        room.end(self, reason);
        let peer = room.peer_of(self.id);
        let mut seat = peer.lock();
        if matches!(&*seat, Seat::InRoom(current) if Arc::ptr_eq(current, room)) {
            *seat = Seat::Left(room.clone());
            let left = ServerMessage::PeerLeft {
                room_id: room.id,
                peer_id: self.id,
                reason,
            };
            // A refusal means that the partner is leaving too.
            let _ = peer.outbox.send(&left);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
