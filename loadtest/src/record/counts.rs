//! Counts and latencies: connections, matches, messages, calls, flows, errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ErrorPlace;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// How often a user tried to connect.
    pub attempted: u64,
    /// Of those, how many became ready.
    pub succeeded: u64,
    /// Of those, how many broke before their user wanted to leave.
    pub dropped: u64,
    /// How many broke with the server that was lost: not in `dropped`.
    #[serde(default)]
    pub lost_with_node: u64,
    /// Opened again after a drop or on purpose; part of `attempted`.
    pub reconnects: u64,
    /// The most at the same time.
    pub peak: u64,
    /// Succeeded and not dropped, in percent of `attempted`.
    pub success_percent: Option<f64>,
}

/// Searches for a partner.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Matches {
    pub searches: u64,
    /// Of those, how many after a first partner.
    pub rematches: u64,
    /// Answered in time.
    pub matched: u64,
    /// Not answered in time although another user was waiting too.
    pub failed: u64,
    /// Not answered, and no other user was waiting: not a failure.
    pub odd_one_out: u64,
    /// Not over when the run ended: not a failure.
    pub pending: u64,
    /// Rooms of which only one user got a message.
    pub one_sided: u64,
    /// Users in rooms of more than two, or matched again while in a room.
    pub double: u64,
    /// Users matched with themselves.
    pub self_matches: u64,
    /// Good matches, in percent of the searches that could have had one.
    pub success_percent: Option<f64>,
}

/// The fate of the messages of one type in one direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The type on the wire, `echo` for a scenario in which the server answers itself.
    pub kind: String,
    /// `offerer_to_answerer`, `answerer_to_offerer` or `to_server`.
    pub direction: String,
    pub sent: u64,
    /// Received by the partner at least once.
    pub delivered: u64,
    /// Of those, how many came after the message timeout.
    pub late: u64,
    /// Never received, though the partner was there.
    pub lost: u64,
    /// Never received, because the partner had left.
    pub undeliverable: u64,
    /// Lost because the server of the sender or of the receiver was.
    #[serde(default)]
    pub lost_with_node: u64,
    /// On the way when the run ended: neither delivered nor lost.
    pub pending: u64,
    /// Sent to or received from a user whose own record is missing.
    pub unknown: u64,
    /// Received again.
    pub duplicate: u64,
    /// Received after a later one.
    pub reordered: u64,
    /// Received by a user for whom they were not.
    pub wrong_peer: u64,
    /// Received not as it was sent: with other bytes, as another type, or from another sender.
    pub altered: u64,
    /// Delivered, in percent of delivered and lost.
    pub success_percent: Option<f64>,
}

/// The calls of one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub name: String,
    pub sent: u64,
    /// Answered in time.
    pub answered: u64,
    /// Not answered in time.
    pub timed_out: u64,
    /// Answered with an error, or not as expected.
    pub wrong: u64,
    /// Without a connection, or it broke before the answer; the errors say why.
    #[serde(default)]
    pub failed: u64,
    /// On the way when the run or the connection ended: neither answered nor failed.
    #[serde(default)]
    pub pending: u64,
}

/// How often users played a flow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    pub name: String,
    /// To its end.
    pub completed: u64,
    /// To a step that did not succeed.
    pub failed: u64,
}

/// A distribution of latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    /// Of those, how many are lower bounds, such as a search that timed out.
    pub censored: u64,
    /// Quantiles in milliseconds by name: `p50`, `p75`, `p90`, `p95`, `p99`, `p99.9`, `p99.99`; absent for
    /// an empty one.
    pub quantiles_ms: BTreeMap<String, f64>,
    pub mean_ms: Option<f64>,
    pub max_ms: Option<f64>,
    /// An HDR histogram of microseconds, V2 deflate, base64.
    pub histogram: Option<String>,
}

/// The side that has to fix an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// This process or its machine: do not trust the measurement.
    Generator,
    /// The way between the two machines, or the server's machine.
    Network,
    Server,
    /// A message that breaks the protocol; either side may be at fault.
    Protocol,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// The stable name.
    pub kind: String,
    pub blame: Blame,
    pub count: u64,
    pub first_at_ms: f64,
    /// What it means and what to do.
    pub meaning: String,
    /// Of a run over several servers: at which; others are of no single one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<ErrorPlace>,
}
