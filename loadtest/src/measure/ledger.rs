//! The delivery ledger: what was sent into each room against what came out of it. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::{
    message::{Direction, Kind},
    reach::NodeId,
};

mod inbox;
mod recent;
mod settle;
mod shard;
#[cfg(test)]
mod tests;

pub use inbox::{Inbox, Receipt};
pub use recent::{Latest, UNDER_WAY};
#[cfg(test)]
use settle::Contradictions;
pub use settle::{LateNews, Ledger, Scope, Settled};
pub use shard::{LedgerShard, shifted};

/// One user's stay in one room, told when it is over. A user who talks to the server itself has a stay too,
/// in a room of their own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stay {
    /// The room.
    pub room: u64,
    /// The user.
    pub user: u32,
    /// The server that the user was at when told of the room.
    #[serde(default)]
    pub node: NodeId,
    /// How long the user had searched, if the match came in time.
    #[serde(default)]
    pub searched: Option<Duration>,
    /// The user's session, and that of the partner as the server named it, at the match.
    pub session: Option<u64>,
    pub peer: Option<u64>,
    /// When the user was told of the room, since the start of the run.
    pub joined: Duration,
    /// When the user was out of it.
    pub left: Duration,
    /// The direction in which the user sends.
    pub direction: Direction,
    /// Messages that the user sent, for each type.
    pub sent: [u32; Kind::MAX],
    /// Of those, how many the server answered with `not_in_room`.
    pub refused: u32,
    /// Of those, how many it answered with `relay_lost`: the way to the partner's server takes no more.
    #[serde(default)]
    pub relays_lost: u32,
    /// Those that were sent in the end.
    pub latest: Latest,
    /// The user stayed until nothing was under way any more, at the end of the run.
    pub settled: bool,
    /// The partner left before the user did.
    pub partner_left: bool,
    /// The user's own connection was cut: what was under way may never have reached the server.
    pub cut_off: bool,
    /// When the user's connection broke, and at which server. Of a run over several servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaks: Vec<(NodeId, Duration)>,
    /// It broke because the server was lost.
    #[serde(default)]
    pub node_lost: bool,
    /// The partner belongs to another load test, so nothing is known of what they received.
    pub foreign: bool,
    /// The server sends back some of the messages only: nothing is known of those that do not come.
    #[serde(default)]
    pub some_come_back: bool,
    /// What the user received.
    pub inbox: Inbox,
}

impl Stay {
    /// A stay that begins now, at `joined`. `message_timeout`: how long messages may take.
    pub fn new(
        room: u64,
        user: u32,
        direction: Direction,
        joined: Duration,
        message_timeout: Duration,
    ) -> Self {
        Self {
            room,
            user,
            node: NodeId::default(),
            searched: None,
            session: None,
            peer: None,
            joined,
            left: joined,
            direction,
            sent: [0; Kind::MAX],
            refused: 0,
            relays_lost: 0,
            latest: Latest::new(message_timeout),
            settled: false,
            partner_left: false,
            cut_off: false,
            breaks: Vec::new(),
            node_lost: false,
            foreign: false,
            some_come_back: false,
            inbox: Inbox::default(),
        }
    }

    /// Messages of all types that the user sent.
    pub fn sent_in_all(&self) -> u32 {
        self.sent
            .iter()
            .fold(0, |all, sent| all.saturating_add(*sent))
    }
}
