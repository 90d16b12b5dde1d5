//! The record of a run: everything that a report shows and that another run can be compared or merged with,
//! as one JSON document. Reports are rendered from it and from nothing else, so that a saved record renders
//! again as it did at first.
//!
//! Times are milliseconds since the start of the run, and latencies milliseconds, as their names say; sizes
//! are bytes; fractions are percent. `None`, in JSON `null`: not measured.

mod blame;
mod counts;
mod course;
mod exit;
mod findings;
mod shard;
pub mod steady;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use blame::Blame;
pub use counts::{Call, Connections, Delivery, ErrorEntry, Flow, Latency, Matches};
pub use course::{Generator, Quantiles, Series, Server, Window};
pub use exit::Exit;
pub use findings::{Advice, Capacity, CapacityStep, ComparedFigure, Comparison, Drift, Recovery};
pub use shard::{PlanFacts, ShardData};

/// Version of the layout: raised when a name changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 2;

/// A figure as a record holds it: to six decimals, which read back as they were written.
pub fn digits(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// What the run has shown.
    pub outcome: Outcome,
    /// What the process ended with because of it.
    pub exit_code: Exit,
    /// Whether the measurement itself is to be trusted.
    pub measurement: Measurement,
    /// What was asked of the server, and how it turned out.
    pub thresholds: Vec<ThresholdResult>,
    /// What was run, where and when.
    pub run: Run,
    /// The parts of the plan, in order.
    pub phases: Vec<Phase>,
    /// Connections.
    pub connections: Connections,
    /// Searches for a partner.
    pub matches: Matches,
    /// What became of the messages, for each type and direction.
    pub delivery: Vec<Delivery>,
    /// Requests that were answered, or not, by the name of the call; empty without calls.
    pub calls: Vec<Call>,
    /// What users set out to do, by the name of the flow; empty for a plan without flows.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// By name: `connect`, `match`, `message` (from the moment due), `message_as_sent` (from the moment of
    /// sending), `own_lateness`, and `call NAME` and `call_as_sent NAME` for each call.
    pub latency: BTreeMap<String, Latency>,
    /// By kind, the most frequent first.
    pub errors: Vec<ErrorEntry>,
    /// The course of the run.
    pub series: Series,
    /// What the load generator used.
    pub generator: Generator,
    /// What the server used, by its own metrics.
    pub server: Option<Server>,
    /// What a search for the breaking point found.
    pub capacity: Option<Capacity>,
    /// What changed with time in an endurance run.
    pub drift: Vec<Drift>,
    /// How long it took until all was well again after users were dropped.
    pub recovery: Option<Recovery>,
    /// What to do, by rules on the figures above.
    pub advice: Vec<Advice>,
    /// Against another run.
    pub comparison: Option<Comparison>,
    /// What a merge needs of a run that was one shard of a plan.
    pub shard: Option<ShardData>,
}

/// What a run has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All thresholds hold.
    Pass,
    /// One does not.
    Fail,
    /// Worse than the baseline.
    Regression,
    /// The measurement itself is not to be trusted.
    Invalid,
}

/// Whether figures can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validity {
    /// Yes.
    Valid,
    /// Read what was found first.
    Suspect,
    /// No.
    Invalid,
}

/// The measurement, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The worst of the findings; without any, valid.
    pub validity: Validity,
    /// What speaks against trusting it.
    pub findings: Vec<Finding>,
}

/// One reason not to trust a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub validity: Validity,
    /// What was seen, with its figures.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// How a threshold turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Held.
    Ok,
    /// Not held.
    Failed,
    /// Nothing was measured. This is never a pass.
    NoData,
    /// A default that could not be measured here, and that nobody asked for.
    NotMeasured,
}

/// One threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdResult {
    /// As it was asked for: `match_latency p95 < 2s`.
    pub expression: String,
    /// The stable name: `match_latency_p95`.
    pub name: String,
    /// The worst that counted, in `unit`.
    pub measured: Option<f64>,
    /// `<`, `<=`, `>`, `>=`.
    pub bound: String,
    /// In `unit`.
    pub limit: f64,
    /// `ms`, `percent`, `bytes`, `count` or `per_second`.
    pub unit: String,
    /// How it turned out.
    pub status: Status,
    /// When it first failed.
    pub failed_at_ms: Option<f64>,
    /// It ended the run.
    pub aborted: bool,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Tells this run from others; the same for all shards of one run.
    pub id: String,
    /// The program's version.
    pub version: String,
    /// What was under test, such as a version or a commit, as it was given.
    #[serde(default)]
    pub build: Option<String>,
    /// The server's URL.
    pub target: String,
    /// The name of the scenario.
    pub scenario: String,
    /// The command line that would repeat it, without secrets; of a merged record, a line for each shard.
    pub command: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// The same, in milliseconds since 1970.
    pub started_at_unix_ms: u64,
    /// From the first user's start to the last one's close.
    pub elapsed_ms: f64,
    /// While users could act.
    pub active_ms: f64,
    /// Ended before its plan, on request.
    pub interrupted: bool,
    /// The most users that the plan has at the same time.
    pub users: u64,
    /// Why so many, in words, when that was found out and not asked for.
    #[serde(default)]
    pub load: Option<String>,
    /// `2/5`: the second of five shards. For a merged record: `None`.
    pub shard: Option<String>,
    /// The shards that a merged record was made of.
    pub merged_from: Vec<ShardInfo>,
    /// Shards that were to be there and are not: what they would have told is missing, not zero.
    pub missing_shards: Vec<u32>,
}

/// One shard of a merged run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// From 1.
    pub index: u32,
    /// The machine that it ran on.
    pub host: String,
    /// When it started, by its own clock.
    pub started_at: String,
    /// How far its clock was ahead of that of the first shard, and the uncertainty of that.
    pub clock_offset_ms: Option<f64>,
    /// Half of the interval in which the offset is known to lie.
    pub clock_uncertainty_ms: Option<f64>,
}

/// A part of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// As the plan calls it.
    pub name: String,
    /// Its begin.
    pub start_ms: f64,
    /// Its end.
    pub end_ms: f64,
    /// Users at its begin and end, for a phase that says how many there are.
    pub users: Option<[u64; 2]>,
    /// Arrivals per second at its begin and end, for a phase that says how many come.
    pub arrivals_per_second: Option<[f64; 2]>,
    /// The most connected at the same time.
    pub peak_connected: u64,
    /// Users who connected, in percent of those who tried.
    pub connection_success_percent: Option<f64>,
    /// Matches, in percent of the searches that could have had one.
    pub match_success_percent: Option<f64>,
    /// The 95th percentile of match latency.
    pub match_p95_ms: Option<f64>,
    /// The 99th percentile of message latency.
    pub message_p99_ms: Option<f64>,
    /// Errors.
    pub errors: u64,
}
