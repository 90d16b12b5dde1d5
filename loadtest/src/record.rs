//! The record of a run: one JSON document from which reports, comparisons and merges are made. Reports need nothing
//! else, so that a saved record renders again as it did at first.
//!
//! Moments are milliseconds since the start of the run; names end in their units. `None`, in JSON `null`: not
//! measured.

mod counts;
mod course;
mod exit;
mod findings;
mod nodes;
mod shard;
mod talks;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use counts::{Blame, Call, Connections, Delivery, ErrorEntry, Flow, Latency, Matches};
pub use course::{Generator, Quantiles, Series, Server, ServerTranscription, Window};
pub use exit::Exit;
pub use findings::{
    Advice, Capacity, CapacityStep, ComparedFigure, Comparison, Drift, Failover, Recovery,
};
pub use nodes::{ErrorPlace, Node, NodeLoss, ReachRow};
pub use shard::{PlanFacts, ShardData};
pub use talks::{Talks, Words};

/// Version of the layout: raised when a name goes away or changes its meaning.
pub const SCHEMA_VERSION: u32 = 2;

/// Rounds to six decimals, which read back as they were written.
pub fn digits(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    pub outcome: Outcome,
    /// The exit code of the process.
    pub exit_code: Exit,
    pub measurement: Measurement,
    pub thresholds: Vec<ThresholdResult>,
    pub run: Run,
    /// In order.
    pub phases: Vec<Phase>,
    pub connections: Connections,
    pub matches: Matches,
    /// For each message type and direction.
    pub delivery: Vec<Delivery>,
    /// Of a run over several servers: rooms and messages within one server, and between two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reach: Vec<ReachRow>,
    /// The servers of a run over several, in the order of its command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    /// For each name of a call.
    pub calls: Vec<Call>,
    /// For each name of a flow.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// By name: `connect`, `match`, `message` (from the moment due), `message_as_sent` (from the moment of
    /// sending), `own_lateness`, and `call NAME` and `call_as_sent NAME` for each call; where sessions went on over other
    /// connections `failover`, `failover ws` (`sse`, `poll`: what carried them then), `heard_again`, and `moved`; over several servers
    /// `match_local`, `match_remote`, `message_local` and `message_remote`, and once one was lost `told_of_loss` and `matched_again`; of
    /// transcription sessions, from the moment due, `audio_ack`, `partial`, `final` (the end of an utterance to its final), and
    /// `stored` (a final to its `stored`) and `fan_out` (a final from the host to a listener).
    pub latency: BTreeMap<String, Latency>,
    /// For each kind, the most frequent first.
    pub errors: Vec<ErrorEntry>,
    pub series: Series,
    pub generator: Generator,
    /// By its own metrics.
    pub server: Option<Server>,
    pub capacity: Option<Capacity>,
    /// Of an endurance run.
    pub drift: Vec<Drift>,
    /// Of a run that dropped users.
    pub recovery: Option<Recovery>,
    /// Of a run whose sessions outlive their connections, once one was lost.
    #[serde(default)]
    pub failover: Option<Failover>,
    /// Of a run with transcription sessions or interviews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub talks: Option<Talks>,
    pub advice: Vec<Advice>,
    pub comparison: Option<Comparison>,
    /// Of a run that was one shard of a plan.
    pub shard: Option<ShardData>,
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All thresholds hold.
    Pass,
    /// A threshold failed or had no data.
    Fail,
    /// Worse than the baseline.
    Regression,
    /// The measurement cannot be trusted.
    Invalid,
}

/// Whether the figures can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validity {
    Valid,
    /// Read the findings first.
    Suspect,
    Invalid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The worst of the findings; without any, valid.
    pub validity: Validity,
    pub findings: Vec<Finding>,
}

/// One reason not to trust a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub validity: Validity,
    /// What is wrong, with its figures.
    pub what: String,
    pub advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    Failed,
    /// Nothing was measured: never a pass.
    NoData,
    /// A default that could not be measured in this run.
    NotMeasured,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdResult {
    /// As it was given: `match_latency p95 < 2s`.
    pub expression: String,
    /// The stable name: `match_latency_p95`.
    pub name: String,
    /// The worst value that counted, in `unit`.
    pub measured: Option<f64>,
    /// `<`, `<=`, `>`, `>=`.
    pub bound: String,
    /// In `unit`.
    pub limit: f64,
    /// `ms`, `percent`, `bytes`, `count` or `per_second`.
    pub unit: String,
    pub status: Status,
    pub failed_at_ms: Option<f64>,
    /// It ended the run.
    pub aborted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The same for all shards of one run.
    pub id: String,
    /// Of this program.
    pub version: String,
    /// The version or commit under test, as it was given.
    #[serde(default)]
    pub build: Option<String>,
    /// URL of the server; of several, with `, ` between them.
    pub target: String,
    pub scenario: String,
    /// The command line that would repeat it, without secrets; of a merged record, a line for each shard.
    pub command: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub started_at_unix_ms: u64,
    /// From the first start of a user to the last close.
    pub elapsed_ms: f64,
    /// While users could act.
    pub active_ms: f64,
    /// Ended before its plan, on request.
    pub interrupted: bool,
    /// The most users that the plan has at the same time.
    pub users: u64,
    /// Why the plan has this many users, if a search decided it.
    #[serde(default)]
    pub load: Option<String>,
    /// `2/5`: the second of five shards. For a merged record: `None`.
    pub shard: Option<String>,
    /// The shards of a merged record.
    pub merged_from: Vec<ShardInfo>,
    /// Shards without a record: their figures are missing, not zero.
    pub missing_shards: Vec<u32>,
}

/// One shard of a merged run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// From 1.
    pub index: u32,
    pub host: String,
    /// By its own clock.
    pub started_at: String,
    /// How far its clock was ahead of the clock of the first shard.
    pub clock_offset_ms: Option<f64>,
    /// Half of the interval of the offset.
    pub clock_uncertainty_ms: Option<f64>,
}

/// A part of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    pub name: String,
    pub start_ms: f64,
    pub end_ms: f64,
    /// At its start and end, for a phase of a number of users.
    pub users: Option<[u64; 2]>,
    /// At its start and end, for a phase of arrivals.
    pub arrivals_per_second: Option<[f64; 2]>,
    /// The most users connected at the same time.
    pub peak_connected: u64,
    /// Of the connections that users tried to open.
    pub connection_success_percent: Option<f64>,
    /// Of the searches that could have had a match.
    pub match_success_percent: Option<f64>,
    pub match_p95_ms: Option<f64>,
    pub message_p99_ms: Option<f64>,
    pub errors: u64,
}
