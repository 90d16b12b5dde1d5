//! What was found out beyond counting: capacity, drift, recovery, advice, comparison.

use serde::{Deserialize, Serialize};

use super::Series;

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
    /// How many of them had a partner, or were looking for one.
    pub paired: u64,
    /// Until 99 % of the latter were matched again; `None`: not within the run.
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
    /// In the baseline.
    pub baseline: Option<f64>,
    /// In this run.
    pub current: Option<f64>,
    /// The confidence interval (95 %) of the ratio current / baseline, if it could be made.
    pub ratio_interval: Option<[f64; 2]>,
    /// `better`, `same`, `worse` or `unknown`.
    pub judgement: String,
}
