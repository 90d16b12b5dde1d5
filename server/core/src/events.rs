//! What the app is told of. Here are the events; the listener, outside of this crate, sends them.

use std::time::SystemTime;

use serde::Serialize;
use voicematch_protocol::{LeaveReason, ReportReason, RoomId, SessionId};

/// The kinds of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    MatchMade,
    MatchEnded,
    RoomOpened,
    RoomJoined,
    RoomLeft,
    RoomClosed,
    ReportMade,
    BlockMade,
}

impl EventKind {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 8] = [
        Self::MatchMade,
        Self::MatchEnded,
        Self::RoomOpened,
        Self::RoomJoined,
        Self::RoomLeft,
        Self::RoomClosed,
        Self::ReportMade,
        Self::BlockMade,
    ];

    /// The name that the app sees.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MatchMade => "match.made",
            Self::MatchEnded => "match.ended",
            Self::RoomOpened => "room.opened",
            Self::RoomJoined => "room.joined",
            Self::RoomLeft => "room.left",
            Self::RoomClosed => "room.closed",
            Self::ReportMade => "report.made",
            Self::BlockMade => "block.made",
        }
    }
}

/// Something that has happened.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    pub at: SystemTime,
    pub data: Data,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Party {
    pub session_id: SessionId,
    /// The app's id of the user, if it has named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
}

/// What is told of an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Data {
    MatchMade {
        room_id: RoomId,
        /// The second one makes the offer.
        users: [Party; 2],
        /// How long each has waited.
        waited_ms: [u64; 2],
        /// The room is one of a server that died, and has the id that it had there.
        rejoined: bool,
    },
    MatchEnded {
        room_id: RoomId,
        users: [Party; 2],
        lasted_ms: u64,
        /// Who left first, and why.
        left: SessionId,
        reason: LeaveReason,
    },
    /// Of a named room: it was opened.
    Room { room_id: RoomId, room: Box<str> },
    RoomClosed {
        room_id: RoomId,
        room: Box<str>,
        lasted_ms: u64,
    },
    /// Somebody joined a named room, or left it.
    Member {
        room_id: RoomId,
        room: Box<str>,
        #[serde(flatten)]
        user: Party,
        /// Why they left.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<LeaveReason>,
    },
    /// One user has blocked or reported another.
    About {
        room_id: RoomId,
        /// The name of the room, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<Box<str>>,
        /// Who has done it.
        by: Party,
        /// The other one.
        about: Party,
        /// Of a report.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<ReportReason>,
        /// Of a report, in the user's words.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<Box<str>>,
    },
}

impl Data {
    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let of = |party: &Party| party.user.as_ref().map_or(0, |user| user.len());
        let texts = match self {
            Self::MatchMade { users, .. } | Self::MatchEnded { users, .. } => {
                users.iter().map(of).sum()
            }
            Self::Room { room, .. } | Self::RoomClosed { room, .. } => room.len(),
            Self::Member { room, user, .. } => room.len() + of(user),
            Self::About {
                room,
                by,
                about,
                text,
                ..
            } => {
                let texts = [room, text].into_iter().flatten();
                of(by) + of(about) + texts.map(|text| text.len()).sum::<usize>()
            }
        };
        size_of::<Event>() + texts
    }
}

/// Hears of events, on the threads on which they happen: it must neither wait nor do much.
pub trait Listener: Send + Sync {
    /// Whether it wants to hear of such events.
    fn wants(&self, kind: EventKind) -> bool;

    /// Hears of one.
    fn hear(&self, event: Event);
}
