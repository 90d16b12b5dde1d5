//! A member: the part of a session that others hold, with the seat that says where the user is.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde_json::value::RawValue;
use voicematch_protocol::{CloseReason, LeaveReason, RoomId, ServerMessage, SessionId};

use super::{NotRelayed, Room, named::NamedRoom, ticket, ticket::RoomKeys};
use crate::{
    address::UserAddress,
    cluster::RemoteLink,
    events::Party,
    identity::Identity,
    outbox::{ADRIFT, Batch, Outbox, THERE, VACANT},
    process::ProcessId,
};

/// The part of a session that others hold: the user's outbox and seat. What a relay touches stands first, in an order that makes
/// it two cache lines, behind the two counts of the `Arc`.
#[repr(C)]
pub struct Member {
    seat: Mutex<Seat>,
    pub id: SessionId,
    /// Who the user is, if the app has said.
    pub identity: Option<Box<Identity>>,
    pub outbox: Outbox,
    /// Where the user is, as [`UserAddress`] writes it.
    address: AtomicU64,
}

/// With the two counts of its `Arc`, 160 bytes: there is one for each user.
const _: () = assert!(size_of::<Member>() <= 144);

/// In place of a ticket's number: the user waits for a former partner.
pub const NO_TICKET: u64 = u64::MAX;

/// The number of a user who waits to be let into a named room has this bit, and that of the joining; [`NO_TICKET`] is none.
pub(super) const JOINING: u64 = 1 << 63;

/// Where a user is, with the details.
pub(super) enum Seat {
    Idle {
        since: Instant,
    },
    /// Idle since the partner has left this room.
    Left(Arc<Room>),
    /// With the ticket of this number, for a former partner, or to be let into a named room.
    Waiting(u64),
    InRoom(Arc<Room>),
    InNamedRoom(Arc<NamedRoom>),
    /// In a room with somebody who is here. The seat itself is on another node.
    There(Arc<RemoteLink>),
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
    pub(super) fn idle() -> Self {
        Self::Idle {
            since: Instant::now(),
        }
    }

    pub(super) fn waits_with(&self, ticket: u64) -> bool {
        matches!(self, Self::Waiting(own) if *own == ticket)
    }

    pub(super) fn place(&self) -> Place {
        match self {
            Self::Idle { .. } | Self::Left(_) => Place::Idle,
            Self::Waiting(_) => Place::Waiting,
            Self::InRoom(_) | Self::InNamedRoom(_) | Self::There(_) => Place::InRoom,
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
            seat: Mutex::new(Seat::idle()),
            id,
            identity,
            outbox,
            address: AtomicU64::new(0),
        }
    }

    /// One who stands for a user on another node, as long as the room that `link` names.
    pub fn there(
        link: Arc<RemoteLink>,
        resumable: bool,
        identity: Option<Box<Identity>>,
        outbox: Outbox,
    ) -> Self {
        outbox.marks().resumable.store(resumable, Ordering::Relaxed);
        Self {
            id: link.to,
            seat: Mutex::new(Seat::There(link)),
            identity,
            outbox,
            address: AtomicU64::new(0),
        }
    }

    /// Whether the user is on another node.
    pub fn is_there(&self) -> bool {
        self.outbox.marks().whose.load(Ordering::Relaxed) == THERE
    }

    /// The process that has the user, if they are on another node.
    pub fn process_there(&self) -> Option<ProcessId> {
        self.is_there().then(|| self.outbox.process_there())?
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
            Seat::Waiting(ticket) => Standing::Waiting((*ticket < JOINING).then_some(*ticket)),
            Seat::InRoom(room) => Standing::InRoom(room.clone()),
            Seat::InNamedRoom(room) => Standing::InNamedRoom(room.clone()),
            // Another node knows.
            Seat::There(_) | Seat::Gone => Standing::Gone,
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

    /// Whether the user waits with the ticket of this number.
    pub fn waits_with(&self, ticket: u64) -> bool {
        self.lock().waits_with(ticket)
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

    /// From waiting to be let into a named room to idle: the number of the joining.
    pub(super) fn stop_joining(&self) -> Option<u64> {
        let mut seat = self.lock();
        match &*seat {
            Seat::Waiting(number) if (JOINING..NO_TICKET).contains(number) => {
                let joining = *number & !JOINING;
                *seat = Seat::idle();
                Some(joining)
            }
            _ => None,
        }
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
                .peer(self)
                .outbox
                .send_batch(batch, Some(read_at))
                .map_err(NotRelayed::Refused),
            _ => Err(NotRelayed::NotInRoom),
        }
    }

    /// Hands on what the partner, who is on another node, has said in `room`. False: the user is not, or no longer, in it,
    /// or with somebody else.
    pub fn hear(&self, room: RoomId, from: SessionId, batch: &Batch, read_at: Instant) -> bool {
        let seat = self.lock();
        let Seat::InRoom(current) = &*seat else {
            return false;
        };
        let peer = current.peer_of(self.id);
        let heard = current.id == room && peer.id == from && peer.is_there();
        if heard {
            // A refusal means that this user is being closed, and has been counted.
            let _ = self.outbox.send_batch(batch, Some(read_at));
        }
        heard
    }

    /// Some of what the partner in `room`, who is on another node, has said is lost: a resumable user is told.
    pub fn miss(&self, room: &Arc<Room>) {
        let seat = self.lock();
        if self.is_resumable()
            && matches!(&*seat, Seat::InRoom(current) if Arc::ptr_eq(current, room))
        {
            let gap = ServerMessage::RelayGap {
                room_id: room.id,
                peer_id: room.peer_of(self.id).id,
            };
            // A refusal means that this user is leaving.
            let _ = self.outbox.send(&gap);
        }
    }

    /// The partner, who is on another node, has left `room`, or is lost. False: the user had left first.
    pub fn peer_there_left(&self, room: &Arc<Room>, reason: LeaveReason) -> bool {
        let peer = room.peer_of(self.id);
        room.end(peer, reason);
        self.hear_of_leaving(room, peer.id, reason)
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
        self.outbox.marks().whose.store(VACANT, Ordering::Release);
    }

    /// Whether only the seat is kept.
    pub fn is_vacant(&self) -> bool {
        self.outbox.marks().whose.load(Ordering::Acquire) == VACANT
    }

    /// The user has been sent to another node.
    pub(crate) fn set_adrift(&self) {
        self.outbox.marks().whose.store(ADRIFT, Ordering::Release);
    }

    /// Whether the user has been sent to another node.
    pub(crate) fn is_adrift(&self) -> bool {
        self.outbox.marks().whose.load(Ordering::Acquire) == ADRIFT
    }

    /// The user asks for something that a server in a drain does not begin.
    pub(crate) fn ask_in_vain(&self) {
        self.outbox
            .marks()
            .asked_in_vain
            .store(true, Ordering::Relaxed);
    }

    /// Whether the user has asked for something that a server in a drain does not begin: they are better off elsewhere.
    pub fn asked_in_vain(&self) -> bool {
        self.outbox.marks().asked_in_vain.load(Ordering::Relaxed)
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
    pub(super) fn vacate(&self, room: &Arc<Room>) -> bool {
        let mut seat = self.lock();
        let is_own = match &*seat {
            Seat::InRoom(current) => Arc::ptr_eq(current, room),
            Seat::There(link) => link.room == room.id,
            _ => false,
        };
        if is_own {
            *seat = Seat::Gone;
        }
        is_own
    }

    pub(super) fn tell_rejoined(
        &self,
        room_id: RoomId,
        peer: &Member,
        initiator: bool,
        keys: &RoomKeys,
    ) {
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
        room.peer_of(self.id).hear_of_leaving(room, self.id, reason);
    }

    /// Ends `room` for this member, if they are still in it: the partner has left.
    fn hear_of_leaving(&self, room: &Arc<Room>, peer_id: SessionId, reason: LeaveReason) -> bool {
        let mut seat = self.lock();
        match &*seat {
            Seat::InRoom(current) if Arc::ptr_eq(current, room) => {}
            Seat::There(link) => {
                let link = link.clone();
                *seat = Seat::Gone;
                drop(seat);
                link.halves.left(link.room, reason);
                return true;
            }
            _ => return false,
        }
        *seat = Seat::Left(room.clone());
        let left = ServerMessage::PeerLeft {
            room_id: room.id,
            peer_id,
            reason,
        };
        // A refusal means that this user is leaving too.
        let _ = self.outbox.send(&left);
        true
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
