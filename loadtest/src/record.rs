//! The record of a run: everything that a report shows and that another run can be compared or merged with,
//! as one JSON document. Reports are rendered from it and from nothing else, so that a saved record renders
//! again as it did at first.
//!
//! Times are milliseconds since the start of the run, and latencies milliseconds, as their names say; sizes
//! are bytes; shares are percent. `None`, in JSON `null`: not measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sample::Blame;

/// Version of the layout: raised when a name changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 2;

/// A figure as a record holds it: to six decimals, which read back as they were written.
pub(crate) fn digits(figure: f64) -> f64 {
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
    pub exit_code: u8,
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
    /// What a merge needs of a run that was one share of a plan.
    pub shard: Option<serde_json::Value>,
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
    /// The server's URL.
    pub target: String,
    /// The name of the scenario.
    pub scenario: String,
    /// The command line that would repeat it, without secrets.
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
    /// `2/5`: the second of five shares. For a merged record: `None`.
    pub shard: Option<String>,
    /// The shares that a merged record was made of.
    pub merged_from: Vec<ShardInfo>,
    /// Shares that were to be there and are not: what they would have told is missing, not zero.
    pub missing_shards: Vec<u32>,
}

/// One share of a merged run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// From 1.
    pub index: u32,
    /// The machine that it ran on.
    pub host: String,
    /// When it started, by its own clock.
    pub started_at: String,
    /// How far its clock was ahead of that of the first share, and the uncertainty of that.
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
    /// Answered with something else than was expected.
    pub wrong: u64,
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

/// The course of a run, in windows of one second that are joined as they age.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Upper bounds of the buckets of [`Window::heat`], in milliseconds; the last window bucket is beyond
    /// the last bound.
    pub heat_bounds_ms: Vec<f64>,
    /// In order of time.
    pub windows: Vec<Window>,
}

/// What happened in one stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its begin.
    pub start_ms: f64,
    /// Its length.
    pub length_ms: f64,
    /// Connected users at its end.
    pub connected: u64,
    /// Users in search of a partner at its end.
    pub searching: u64,
    /// Users in rooms at its end.
    pub in_rooms: u64,
    /// Users who set out to connect.
    pub attempts: u64,
    /// Users who got ready to act.
    pub connects: u64,
    /// Users who got a partner.
    pub matches: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Errors.
    pub errors: u64,
    /// From the planned start to being ready.
    pub connect: Quantiles,
    /// From asking for a partner to having one.
    pub matching: Quantiles,
    /// From the moment due to the receipt.
    pub message: Quantiles,
    /// How late the generator itself was.
    pub own_lateness: Quantiles,
    /// Messages by latency, in the buckets of [`Series::heat_bounds_ms`]; empty without any.
    pub heat: Vec<u64>,
    /// The server's CPU, in percent of one core.
    pub server_cpu_percent: Option<f64>,
    /// The server's resident memory.
    pub server_rss_bytes: Option<u64>,
    /// The server's open files.
    pub server_fds: Option<u64>,
    /// The generator's CPU, in percent of one core.
    pub generator_cpu_percent: f64,
    /// The generator's resident memory.
    pub generator_rss_bytes: u64,
}

/// A few quantiles, in milliseconds; `None` for a window without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50_ms: Option<f64>,
    /// The 95th percentile.
    pub p95_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// The largest.
    pub max_ms: Option<f64>,
}

/// What the load generator used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Threads that played users.
    pub workers: u64,
    /// CPU time of the process, in seconds.
    pub cpu_seconds: f64,
    /// The same, in percent of one core over the run.
    pub cpu_percent: f64,
    /// What the busiest thread used of its core, in percent.
    pub busiest_worker_percent: f64,
    /// The largest resident memory.
    pub rss_peak_bytes: u64,
    /// Open files at the most, and as many as there may be.
    pub fds: Option<[u64; 2]>,
}

/// What the server used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Times that its metrics were read.
    pub readings: u64,
    /// CPU time between the first and the last reading, in seconds.
    pub cpu_seconds: f64,
    /// The same, in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory at the first reading.
    pub rss_first_bytes: u64,
    /// At the last.
    pub rss_last_bytes: u64,
    /// The largest.
    pub rss_peak_bytes: u64,
    /// The most open files.
    pub fds_peak: u64,
}

/// What a search for the breaking point found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// The most users with whom all thresholds held, confirmed.
    pub holds: u64,
    /// The fewest users with whom one did not; `None`: never reached.
    pub breaks: Option<u64>,
    /// What gave out first, in words.
    pub gave_out: Option<String>,
    /// Every load that was tried, in order.
    pub steps: Vec<CapacityStep>,
}

/// One load that was tried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityStep {
    /// `step`, `bisect` or `confirm`.
    pub kind: String,
    /// Users.
    pub users: u64,
    /// When it was held.
    pub start_ms: f64,
    /// Until when.
    pub end_ms: f64,
    /// All thresholds held.
    pub held: bool,
    /// What did not hold.
    pub failed: Vec<String>,
    /// The 95th percentile of match latency.
    pub match_p95_ms: Option<f64>,
    /// The 99th percentile of message latency.
    pub message_p99_ms: Option<f64>,
    /// The server's CPU, in percent of one core.
    pub server_cpu_percent: Option<f64>,
    /// The server's resident memory.
    pub server_rss_bytes: Option<u64>,
}

/// How one figure changes with time (least squares on the windows after the ramp).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// `server_rss_bytes`, `server_fds`, `message_p99_ms`, `match_p95_ms` or `generator_rss_bytes`.
    pub figure: String,
    /// Change in an hour.
    pub per_hour: f64,
    /// Half of its 95 % confidence interval.
    pub uncertainty: f64,
    /// Value at the begin of the line.
    pub first: f64,
    /// Value at its end.
    pub last: f64,
    /// The limit that a threshold sets, if any.
    pub limit: Option<f64>,
    /// Hours from the end of the run until the line meets the limit, if it does.
    pub hours_to_limit: Option<f64>,
}

/// A reconnect storm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// When users were dropped.
    pub dropped_at_ms: f64,
    /// How many.
    pub dropped: u64,
    /// Until 99 % of them were matched again; `None`: not within the run.
    pub matched_99_percent_ms: Option<f64>,
    /// Until 99 % of them were connected again.
    pub connected_99_percent_ms: Option<f64>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// What.
    pub text: String,
    /// The figures that it follows from.
    pub evidence: String,
}

/// Two runs against each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Which run it was compared with: its file, or its start.
    pub baseline: String,
    /// When that started.
    pub baseline_started_at: String,
    /// Worse in at least one figure.
    pub regression: bool,
    /// Each figure.
    pub figures: Vec<ComparedFigure>,
    /// What makes the two hard to compare: other users, other duration, other machine.
    pub caveats: Vec<String>,
    /// The course of the baseline, to be drawn behind this run's.
    pub baseline_series: Option<Series>,
}

/// One figure of two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedFigure {
    /// Such as `message_p99_ms`.
    pub name: String,
    /// `ms`, `percent`, `bytes` or `count`.
    pub unit: String,
    /// In the baseline.
    pub baseline: Option<f64>,
    /// In this run.
    pub current: Option<f64>,
    /// The confidence interval (95 %) of the ratio current / baseline, if it could be made.
    pub ratio_interval: Option<[f64; 2]>,
    /// `better`, `same`, `worse` or `unknown`.
    pub judgement: String,
}
