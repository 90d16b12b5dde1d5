//! What was counted: connections, matches, messages, calls, flows, errors, and how long they took.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Blame;

/// Connections of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Times that a user set out to connect.
    pub attempted: u64,
    /// Of those, how many were ready to act.
    pub succeeded: u64,
    /// Of those, how many were cut off before they wanted to leave.
    pub dropped: u64,
    /// Opened again after a drop or on purpose; part of `attempted`.
    pub reconnects: u64,
    /// The most at the same time.
    pub peak: u64,
    /// Connected and stayed connected, in percent of `attempted`.
    pub success_percent: Option<f64>,
}

/// Searches for a partner.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Matches {
    /// Times that a user asked for a partner.
    pub searches: u64,
    /// Of those, how many after a first partner.
    pub rematches: u64,
    /// Answered in time.
    pub matched: u64,
    /// Not answered in time although somebody else was waiting too.
    pub failed: u64,
    /// Not answered, and nobody else was waiting: no failure.
    pub odd_one_out: u64,
    /// Under way at the end: no failure.
    pub pending: u64,
    /// Rooms that only one user was told of.
    pub one_sided: u64,
    /// Users in rooms of more than two, or told of a second room while in one.
    pub double: u64,
    /// Users matched with themselves.
    pub self_matches: u64,
    /// Good matches in percent of the searches that could have had one.
    pub success_percent: Option<f64>,
}

/// What became of the messages of one type in one direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The type on the wire, `echo` for a scenario in which the server answers itself.
    pub kind: String,
    /// `offerer_to_answerer`, `answerer_to_offerer` or `to_server`.
    pub direction: String,
    /// Sent.
    pub sent: u64,
    /// Received by the partner at least once.
    pub delivered: u64,
    /// Of those, how many later than the message time-out.
    pub late: u64,
    /// Never received, though the partner was there.
    pub lost: u64,
    /// Never received, because the partner had left.
    pub undeliverable: u64,
    /// Under way at the end: neither delivered nor lost.
    pub pending: u64,
    /// Sent to or received from a user whose own record is missing.
    pub unknown: u64,
    /// Received again.
    pub duplicate: u64,
    /// Received after a later one.
    pub reordered: u64,
    /// Received by somebody whom they were not for.
    pub wrong_peer: u64,
    /// Received with other bytes than were sent.
    pub altered: u64,
    /// Delivered in percent of delivered and lost.
    pub success_percent: Option<f64>,
}

/// Requests by the name of the call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The name.
    pub name: String,
    /// Sent.
    pub sent: u64,
    /// Answered in time.
    pub answered: u64,
    /// Not answered in time.
    pub timed_out: u64,
    /// Answered with something else than was expected, or with an error.
    pub wrong: u64,
    /// There was no connection for them, or it broke before the answer; the errors say why.
    #[serde(default)]
    pub failed: u64,
    /// Under way when the run, or the connection, was over: neither answered nor failed.
    #[serde(default)]
    pub pending: u64,
}

/// What became of the users who played a flow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The name.
    pub name: String,
    /// Times that it was played to its end.
    pub completed: u64,
    /// Times that a step did not succeed.
    pub failed: u64,
}

/// A distribution of latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Of those, how many are only known to have taken at least as long: a search that timed out, say.
    pub censored: u64,
    /// Quantiles in milliseconds by name: `p50`, `p75`, `p90`, `p95`, `p99`, `p99.9`, `p99.99`; absent for
    /// an empty one.
    pub quantiles_ms: BTreeMap<String, f64>,
    /// The mean.
    pub mean_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
    /// All of it: an HDR histogram of microseconds, V2 deflate, base64.
    pub histogram: Option<String>,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// The stable name.
    pub kind: String,
    /// Who has to mend it.
    pub blame: Blame,
    /// How often.
    pub count: u64,
    /// The first.
    pub first_at_ms: f64,
    /// What it means and what to do.
    pub meaning: String,
}
