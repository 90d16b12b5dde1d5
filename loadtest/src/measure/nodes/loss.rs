//! The loss of a server, and how its users and their partners got over it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DECIDED_AFTER;
use crate::measure::{histogram::dense::Latencies, reach::NodeId};

/// What broke so long before the first break that was noticed belongs to the loss.
const BEFORE: Duration = Duration::from_secs(1);

/// A server that was lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Loss {
    pub node: NodeId,
    /// When the first of its connections was gone, and the last.
    pub from: Duration,
    pub at: Duration,
    pub connections: u64,
    /// When somebody was connected to it again.
    pub back: Option<Duration>,
    /// Users who lost their partner, or whose own connection was lost while they had a partner or were looking for one.
    pub torn: u64,
    /// From `from` until users of other servers were told that their partner is gone.
    pub told: Latencies,
    /// From `from` until those users were matched again, or were in their room again.
    pub matched: Latencies,
}

/// A user who lost the partner: with their own server, `node`, or with that of the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torn {
    pub node: Option<NodeId>,
    /// The room that the user had with a partner of another server.
    #[serde(default)]
    pub room: u64,
    pub at: Duration,
    /// When the user was matched again; `None`: this tells of the loss.
    pub matched: Option<Duration>,
}

impl Loss {
    pub fn new(node: NodeId, [from, at]: [Duration; 2], connections: u64) -> Self {
        Self {
            node,
            from,
            at,
            connections,
            back: None,
            torn: 0,
            told: Latencies::default(),
            matched: Latencies::default(),
        }
    }

    fn begin(&self) -> Duration {
        self.from.saturating_sub(BEFORE)
    }

    /// Whether what broke, or could not be connected, at `node` then is of this loss.
    pub fn explains(&self, node: NodeId, at: Duration) -> bool {
        let end = self.back.map_or(Duration::MAX, |back| back + BEFORE);
        node == self.node && at >= self.begin() && at <= end.max(self.at)
    }

    /// Whether a user lost the partner by it, as far as the time tells: later ones may be told of something else.
    pub fn tore(&self, torn: &Torn) -> bool {
        let near = torn.at >= self.begin() && !self.is_late(torn.at);
        near && torn.node.is_none_or(|node| node == self.node)
    }

    /// Whether that is so long after it that only the two users of a room together know what it belongs to.
    pub fn is_late(&self, at: Duration) -> bool {
        at > self.at + DECIDED_AFTER
    }

    pub fn add(&mut self, torn: &Torn) {
        match torn.matched {
            Some(at) => self.matched.record(at.saturating_sub(self.from)),
            None => {
                self.torn += 1;
                // Who was told late has been counted when both users of the room were known.
                if torn.node.is_none() && !self.is_late(torn.at) {
                    self.told(torn.at);
                }
            }
        }
    }

    /// A user of another server was told then.
    pub fn told(&mut self, at: Duration) {
        self.told.record(at.saturating_sub(self.from));
    }

    /// Users who are not matched again; one may be left over.
    pub fn not_matched(&self) -> u64 {
        match self.torn.saturating_sub(self.matched.count()) {
            1 => 0,
            missing => missing,
        }
    }

    /// Whether another shard told of the same.
    pub fn same(&self, other: &Self) -> bool {
        self.node == other.node && self.from.abs_diff(other.from) <= DECIDED_AFTER
    }

    pub fn merge(&mut self, other: &Self) {
        let Self {
            node: _,
            from,
            at,
            connections,
            back,
            torn,
            told,
            matched,
        } = other;
        self.from = self.from.min(*from);
        self.at = self.at.max(*at);
        self.connections += connections;
        self.back = match (self.back, *back) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.torn += torn;
        self.told.merge(told);
        self.matched.merge(matched);
    }
}
