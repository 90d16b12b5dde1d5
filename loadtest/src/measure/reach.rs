//! Where the two ends of a message, or of a room, are: at one server of the service, or at two.

use serde::{Deserialize, Serialize};

use crate::measure::{histogram::dense::Latencies, ledger::Settled};

/// A server of the run, by its place on the command line.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub u8);

impl NodeId {
    /// The most servers of a run: a tag has one character for its sender's.
    pub const MAX: usize = 36;

    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How far a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Both users are at one server.
    Local,
    /// They are at two.
    Remote,
}

impl Reach {
    pub const ALL: [Self; 2] = [Self::Local, Self::Remote];

    pub fn of(a: NodeId, b: NodeId) -> Self {
        if a == b { Self::Local } else { Self::Remote }
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// What the ledger knows of rooms of one reach, by where their users were when they met.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Pairs {
    /// Rooms of which both users told.
    pub rooms: u64,
    /// Of all types and both directions.
    pub settled: Settled,
    /// From a search to its match, of both users.
    pub matching: Latencies,
}

impl Pairs {
    pub fn merge(&mut self, other: &Self) {
        let Self {
            rooms,
            settled,
            matching,
        } = other;
        self.rooms += rooms;
        self.settled += *settled;
        self.matching.merge(matching);
    }
}
