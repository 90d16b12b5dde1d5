//! What the core asks of a cluster, and what nodes say to each other. It does no I/O: another crate carries it out.
//!
//! A user on another node is *there*. Each node has its half of a room of two: the user who is here, and a member that
//! stands for the one who is there.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use voicematch_protocol::{CloseReason, LeaveReason, RoomId, SessionId};

use crate::process::ProcessId;

/// One life of a node: it begins another when the others have taken it for dead. Nothing to or from an old life counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The process: 48 random bits.
    pub process: u64,
    /// Counts its lives.
    pub life: u16,
}

impl NodeId {
    /// The process that lives it.
    pub fn process_id(self) -> ProcessId {
        let [a, b, c, d, e, f, ..] = self.to_bytes();
        ProcessId([a, b, c, d, e, f])
    }

    /// Six bytes of the process and two of the life, the highest first.
    pub fn to_bytes(self) -> [u8; 8] {
        (self.process << 16 | u64::from(self.life)).to_be_bytes()
    }

    /// Reads what [`Self::to_bytes`] has written.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let all = u64::from_be_bytes(bytes);
        #[allow(clippy::cast_possible_truncation, reason = "the lowest 16 bits")]
        let life = all as u16;
        let process = all >> 16;
        Self { process, life }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}{:04x}", self.process, self.life)
    }
}

/// A session and the number of its search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId {
    pub session: SessionId,
    pub search: u32,
}

/// The way to another node takes no more, or the node's life, or our own, has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// One frame between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// A [`FrameKind`], as a byte: a later version may send others.
    pub kind: u8,
    pub room: RoomId,
    /// The session that it is for.
    pub to: SessionId,
    /// The session that it is from.
    pub from: SessionId,
    /// What it says; the shape depends on the kind.
    pub body: &'a [u8],
    /// How long it has been on its way, as far as that is known.
    pub age: Duration,
}

impl Frame<'_> {
    /// When the sender's node read what it says, for the time of its relay.
    pub(crate) fn read_at(&self, now: Instant) -> Instant {
        now.checked_sub(self.age).unwrap_or(now)
    }
}

/// What a frame is: 1 to 8 claims and rooms of two, 16 to 20 coming back by room ticket, 24 to 31 named rooms, 32 to
/// 38 sessions that go on at another node, 40 to 47 clients'
/// requests, which are of the server. All other kinds are in this one list, so that the compiler refuses a number that is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Messages from user to user, framed for WebSocket.
    Relay = 1,
    /// The sender's user has left the room; the body is the reason's name.
    Leave = 2,
    Propose = 3,
    Accept = 4,
    Refuse = 5,
    Revoke = 6,
    PutBack = 7,
    /// All rooms that the sender shares with the receiver, of a part of all ids: its first, its last, then the rooms. 8 bytes
    /// each, at most 4,000 rooms.
    Rooms = 8,
    /// A user has come with the ticket of a seat in a room whose other user is the receiver's.
    Rejoin = 16,
    /// They have the seat.
    Rejoined = 17,
    /// They do not; the body is the reason's number.
    NotRejoined = 18,
    /// Whether the user that the frame is for is still in the room with the one that it is from.
    IsThere = 19,
    /// The answer: a byte, 1 or 0.
    There = 20,
    /// A message from a member of a named room to one, or to all of the receiver's node if that is the sender.
    NamedSay = 24,
    /// A user wants to join.
    NamedJoin = 25,
    /// The whole roster, by the home.
    NamedRoster = 26,
    /// Somebody is not let in, or the sender is not home of the room.
    NamedRefused = 27,
    /// Somebody has left, or waits no longer.
    NamedLeft = 28,
    /// All users of the sender who are in the room, to the home.
    NamedHere = 29,
    /// What the home knows of rooms: their ids and digests, 8 bytes each.
    NamedHomeHas = 30,
    /// What a node with members knows of them, to the home.
    NamedMirrorHas = 31,
    /// A user has come to the sender with the token of a session of the receiver's. Of these and the following see
    /// `session/take.rs`.
    Take = 32,
    /// A part of the session.
    State = 33,
    /// There is no session, or the receiver's part of this take is over.
    NotTaken = 34,
    /// The sender has all of the session.
    Owned = 35,
    /// The user of a half has gone on to another node.
    Moved = 36,
    /// The sender's half is with that node now: nothing of this room comes after it.
    Followed = 37,
    /// A part of what has come for the session meanwhile. With the last part the session is the receiver's.
    Rest = 38,
}

impl FrameKind {
    const ALL: [Self; 28] = [
        Self::Relay,
        Self::Leave,
        Self::Propose,
        Self::Accept,
        Self::Refuse,
        Self::Revoke,
        Self::PutBack,
        Self::Rooms,
        Self::Rejoin,
        Self::Rejoined,
        Self::NotRejoined,
        Self::IsThere,
        Self::There,
        Self::NamedSay,
        Self::NamedJoin,
        Self::NamedRoster,
        Self::NamedRefused,
        Self::NamedLeft,
        Self::NamedHere,
        Self::NamedHomeHas,
        Self::NamedMirrorHas,
        Self::Take,
        Self::State,
        Self::NotTaken,
        Self::Owned,
        Self::Moved,
        Self::Followed,
        Self::Rest,
    ];

    /// Whether [`crate::room::named::NamedRooms::frame`] takes it.
    pub fn is_of_named_rooms(self) -> bool {
        (Self::NamedSay as u8..=Self::NamedMirrorHas as u8).contains(&(self as u8))
    }

    /// `None`: one of a later version.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// The way to one life of a node: ordered and bounded.
pub trait BusLink: Send + Sync {
    /// Messages of `from` to `to`, framed for WebSocket. It must not block.
    fn push(
        &self,
        room: RoomId,
        to: SessionId,
        from: SessionId,
        messages: &[u8],
    ) -> Result<(), Full>;

    /// The same for messages of another kind, and for what may be long: [`Self::push`] is for rooms of two.
    fn push_frame(&self, frame: &Frame<'_>) -> Result<(), Full>;

    /// Keeps room for one frame whose body has so many bytes. To say something to several nodes or to none, it is asked of all ways first. A way
    /// to a node that has died gives it: nobody there is to hear anything any more.
    fn reserve(&self, bytes: usize) -> Result<(), Full>;

    /// The same as [`Self::push_frame`] for a frame that room was kept for.
    fn push_reserved(&self, frame: &Frame<'_>);

    /// The room is not needed.
    fn release(&self, bytes: usize);

    /// What must not be lost behind messages: claims and leaves have a bound of their own, and keep their place among the
    /// messages. It must not block.
    fn tell(&self, frame: &Frame<'_>) -> Result<(), Full>;

    /// The XOR of the ids of the rooms that both nodes share; none: there are no rooms. The other node is told it now and
    /// then.
    fn set_rooms(&self, rooms: Option<u64>);
}

/// The ways to the other nodes.
pub trait Bus: Send + Sync {
    /// The way to a node's life, the same one as long as both live. `None`: it has died.
    fn link(&self, node: NodeId) -> Option<Arc<dyn BusLink>>;

    /// Whether what is pushed goes out; else it waits.
    fn is_up(&self) -> bool {
        true
    }
}

/// A node that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Living {
    pub node: NodeId,
    /// It is about to end, and sends its users away.
    pub draining: bool,
}

/// What nodes write down for each other of rooms whose two nodes are gone. Nothing here may block.
pub trait Seats: Send + Sync {
    /// A user of this node has come back into a seat of two, 0 or 1. If another node has written down who is in the other one,
    /// [`crate::matchmaker::Matchmaker::seat_found`] is told, by another task.
    fn offer(&self, room: RoomId, seat: u8, who: SessionId);
}

/// What nodes tell each other of users who have blocked others. Nothing here may block.
pub trait Blocks: Send + Sync {
    /// A user of the app, by this number on all nodes, has blocked another. Of what other nodes tell,
    /// [`crate::room::Shared::hear_block`] is told by another task.
    fn tell(&self, by: u64, of: u64);
}

/// Which nodes live.
pub trait Nodes: Send + Sync {
    /// The life of this node.
    fn me(&self) -> NodeId;

    /// Microseconds of the engine's clock, if it has been asked.
    fn engine_time(&self) -> Option<u64>;

    fn is_dead(&self, node: NodeId) -> bool;

    /// The life that a process lives now.
    fn living(&self, process: ProcessId) -> Option<Living>;

    /// A node does not answer: nobody of it is to be found until it is heard.
    fn suspect(&self, node: NodeId);

    /// Whether another node lives that takes users.
    fn are_others(&self) -> bool {
        false
    }
}

/// Which node is home to a named room. Nothing here may block.
pub trait Homes: Send + Sync {
    /// Asks which node is home of this name; if none is, or one that has died, it is this node from now on, with this id of
    /// the room. [`crate::room::named::NamedRooms::found`] is told the answer by another task. What is this node's is
    /// registered again whenever it is lost, until it is given up; if it has become another node's, that is told too.
    fn find(&self, name: &str, room: RoomId);

    /// Nobody can be asked now, and this node takes itself for home: it is registered as soon as that can be done, unless
    /// another node is by then. That is told, as with [`Self::find`].
    fn keep(&self, name: &str, room: RoomId);

    /// The room has ended: the name is free.
    fn give_up(&self, name: &str);

    /// Whether questions are answered.
    fn is_up(&self) -> bool;
}

/// Is told when a user who is here leaves a room whose other half is there.
pub trait Halves: Send + Sync {
    fn left(&self, room: RoomId, reason: LeaveReason);
}

/// The way to a user who is there, from the one who is here.
pub struct RemoteLink {
    pub link: Arc<dyn BusLink>,
    pub halves: Arc<dyn Halves>,
    /// Where the user is.
    pub node: NodeId,
    pub room: RoomId,
    /// The user who is there.
    pub to: SessionId,
    /// The user who is here.
    pub from: SessionId,
}

impl RemoteLink {
    pub(crate) fn push(&self, messages: &[u8]) -> Result<(), Full> {
        self.link.push(self.room, self.to, self.from, messages)
    }
}

/// The reason that `text` names, as [`LeaveReason::as_str`] writes it. A name of a later version means `lost`.
pub fn leave_reason(text: &[u8]) -> LeaveReason {
    let is = |name: &str| name.as_bytes() == text;
    if is(LeaveReason::Left.as_str()) {
        return LeaveReason::Left;
    }
    if is(LeaveReason::Next.as_str()) {
        return LeaveReason::Next;
    }
    let reasons = CloseReason::ALL.iter().copied();
    let reason = reasons.into_iter().find(|reason| is(reason.as_str()));
    LeaveReason::Ended(reason.unwrap_or(CloseReason::Lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_kinds_and_reasons_read_back() {
        for (process, life) in [(0, 0), (0xffff_ffff_ffff, u16::MAX), (0x0102_0304_0506, 7)] {
            let node = NodeId { process, life };
            assert_eq!(NodeId::from_bytes(node.to_bytes()), node);
        }
        for kind in FrameKind::ALL {
            assert_eq!(FrameKind::of(kind as u8), Some(kind));
        }
        let numbers: std::collections::BTreeSet<_> =
            FrameKind::ALL.iter().map(|&kind| kind as u8).collect();
        assert_eq!(numbers.len(), FrameKind::ALL.len(), "no number twice");
        let named = (0..=u8::MAX).filter_map(FrameKind::of);
        let named: Vec<_> = named.filter(|kind| kind.is_of_named_rooms()).collect();
        assert_eq!(named.len(), 8, "{named:?}");
        assert_eq!(FrameKind::of(0), None);
        let ended = CloseReason::ALL
            .iter()
            .map(|&reason| LeaveReason::Ended(reason));
        for reason in ended.chain([LeaveReason::Left, LeaveReason::Next]) {
            assert_eq!(
                leave_reason(reason.as_str().as_bytes()).as_str(),
                reason.as_str()
            );
        }
        let lost = LeaveReason::Ended(CloseReason::Lost);
        assert_eq!(leave_reason(b"of a later version"), lost);
    }
}
