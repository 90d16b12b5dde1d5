//! Conclusions from the figures: capacity, drift, recovery, advice, comparison.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Series;

/// The result of a search for the capacity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// The most users with whom all thresholds held, confirmed.
    pub holds: u64,
    /// The fewest users with whom one did not; `None`: never reached.
    pub breaks: Option<u64>,
    /// The threshold that failed first, in words.
    pub gave_out: Option<String>,
    /// Each load that was tried, in order.
    pub steps: Vec<CapacityStep>,
}

/// One load that was tried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityStep {
    /// `step`, `bisect` or `confirm`.
    pub kind: String,
    pub users: u64,
    pub start_ms: f64,
    pub end_ms: f64,
    /// All thresholds held.
    pub held: bool,
    /// The thresholds that did not hold.
    pub failed: Vec<String>,
    pub match_p95_ms: Option<f64>,
    pub message_p99_ms: Option<f64>,
    /// Of one core.
    pub server_cpu_percent: Option<f64>,
    pub server_rss_bytes: Option<u64>,
}

/// How one figure changes with time (least squares on the windows after the ramp).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// `server_rss_bytes`, `server_fds`, `message_p99_ms`, `match_p95_ms` or `generator_rss_bytes`.
    pub figure: String,
    pub per_hour: f64,
    /// Half of its 95 % confidence interval.
    pub uncertainty: f64,
    /// The line at its start.
    pub first: f64,
    /// The line at its end.
    pub last: f64,
    /// The limit of its threshold.
    pub limit: Option<f64>,
    /// Hours from the end of the run until the line reaches the limit.
    pub hours_to_limit: Option<f64>,
}

/// A reconnect storm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    pub dropped_at_ms: f64,
    pub dropped: u64,
    /// Of those, how many had a partner or searched for one.
    pub paired: u64,
    /// Until 99 % of `paired` were matched again; `None`: not within the run.
    pub matched_99_percent_ms: Option<f64>,
    /// Until 99 % of `dropped` were connected again.
    pub connected_99_percent_ms: Option<f64>,
}

/// Sessions that lost their connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    pub lost: u64,
    /// Of these, how many the plan cut.
    pub planned: u64,
    /// How many went on, by the transport that carried them then: `ws`, `sse`, `poll`.
    pub resumed: BTreeMap<String, u64>,
    /// How many did not.
    pub not_resumed: u64,
    /// How often a user went back to the preferred transport, without a gap.
    pub moved_back: u64,
    /// How many moved to another server, as theirs drained, with all they had.
    #[serde(default)]
    pub moved: u64,
    /// How many lost their session or their room then.
    #[serde(default)]
    pub not_moved: u64,
}

/// Something to do, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    pub text: String,
    /// The figures that it follows from.
    pub evidence: String,
}

/// Two runs against each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The file of the other run, or its start.
    pub baseline: String,
    pub baseline_started_at: String,
    /// Worse in at least one figure.
    pub regression: bool,
    pub figures: Vec<ComparedFigure>,
    /// Differences that make the two hard to compare: users, duration, machine.
    pub caveats: Vec<String>,
    /// Drawn behind the series of this run.
    pub baseline_series: Option<Series>,
}

impl Comparison {
    /// The figures that are worse.
    pub fn worse(&self) -> impl Iterator<Item = &ComparedFigure> {
        let figures = self.figures.iter();
        figures.filter(|figure| figure.judgement == "worse")
    }
}

/// One figure of two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedFigure {
    /// Such as `message_p99_ms`.
    pub name: String,
    /// `ms`, `percent`, `bytes` or `count`.
    pub unit: String,
    pub baseline: Option<f64>,
    pub current: Option<f64>,
    /// The 95 % confidence interval of current / baseline.
    pub ratio_interval: Option<[f64; 2]>,
    /// `better`, `same`, `worse` or `unknown`.
    pub judgement: String,
}
