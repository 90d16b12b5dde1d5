//! A message: its type, where it goes, and how it came.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::reach::Reach;

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct Delivered {
    pub route: Route,
    /// `None`: there is one server.
    pub reach: Option<Reach>,
    /// Since it was due.
    pub latency: Duration,
    /// Since it was sent.
    pub as_sent: Duration,
    /// Not after a later one.
    pub in_order: bool,
    /// Later than the message time-out.
    pub late: bool,
    /// Not as it was sent: other bytes, another type, or another sender's name.
    pub altered: bool,
}

/// A received message from a user of another shard: sent by another clock than it was received by, so that it
/// may seem to have come before it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Across {
    pub route: Route,
    /// `None`: the receiver's shard knows of one server.
    pub reach: Option<Reach>,
    /// The shard of the sender, from 0.
    pub from: u32,
    /// Microseconds since it was due, by both clocks as they are.
    pub due_micros: i64,
    /// Since it was sent.
    pub as_sent_micros: i64,
    /// How long the receiver did not run, if that ended so short a time ago that without it the message would be in time.
    pub paused_micros: i64,
    pub in_order: bool,
    pub altered: bool,
}

/// The type of a message and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub kind: Kind,
    pub direction: Direction,
}

/// The type of a message: an index into the run's list of types, which begins with [`Kind::KNOWN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u8")]
pub struct Kind(u8);

impl From<u8> for Kind {
    fn from(index: u8) -> Self {
        Self::new(usize::from(index))
    }
}

impl Kind {
    /// The most types that are counted separately.
    pub const MAX: usize = 8;
    /// The types that every run has.
    pub const KNOWN: [&'static str; 5] = ["offer", "answer", "ice_candidate", "message", "echo"];
    pub const OFFER: Self = Self(0);
    pub const ANSWER: Self = Self(1);
    pub const ICE_CANDIDATE: Self = Self(2);
    pub const MESSAGE: Self = Self(3);
    pub const ECHO: Self = Self(4);

    /// The type at this index of the run's list; types beyond the last index count as the last.
    pub fn new(index: usize) -> Self {
        Self(u8::try_from(index.min(Self::MAX - 1)).unwrap_or(0))
    }

    /// Its place.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// From the one who makes the offer.
    OffererToAnswerer,
    /// To the one who makes the offer.
    AnswererToOfferer,
    /// To the server itself, which answers.
    ToServer,
}

impl Direction {
    pub const ALL: [Self; 3] = [
        Self::OffererToAnswerer,
        Self::AnswererToOfferer,
        Self::ToServer,
    ];

    /// The direction in which a member of a room sends.
    pub fn of_sender(offerer: bool) -> Self {
        if offerer {
            Self::OffererToAnswerer
        } else {
            Self::AnswererToOfferer
        }
    }

    /// The direction of the answers.
    pub fn reverse(self) -> Self {
        match self {
            Self::OffererToAnswerer => Self::AnswererToOfferer,
            Self::AnswererToOfferer => Self::OffererToAnswerer,
            Self::ToServer => Self::ToServer,
        }
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OffererToAnswerer => "offerer_to_answerer",
            Self::AnswererToOfferer => "answerer_to_offerer",
            Self::ToServer => "to_server",
        }
    }
}
