//! What one repetition measured, and how it is shown.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{phases::OpenLoop, process::Window};

/// Waiting for a CPU for a larger share of a phase than this, the generator measured itself.
const DISTURBED_PERCENT: f64 = 5.0;

/// The figures of one repetition. README.md says what each means.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) base_rss_mib: f64,
    pub(crate) idle_kib: f64,
    pub(crate) matched_kib: f64,
    pub(crate) after_peak_mib: f64,
    pub(crate) match_all_ms: f64,
    pub(crate) match_cpu_us: f64,
    pub(crate) open_rate: f64,
    pub(crate) open_p50_us: f64,
    pub(crate) open_p99_us: f64,
    pub(crate) open_p999_us: f64,
    pub(crate) open_cpu_us: f64,
    pub(crate) open_lost: u64,
    pub(crate) closed_rate: f64,
    pub(crate) closed_cpu_us: f64,
    pub(crate) closed_server_percent: f64,
    pub(crate) churn_rate: Option<f64>,
    pub(crate) churn_cpu_us: Option<f64>,
    pub(crate) churn_failed: Option<u64>,
    /// How quiet the machine was in each phase.
    pub(crate) quiet: BTreeMap<&'static str, Quiet>,
}

/// Who had to wait for a CPU during a phase, in percent of its time.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Quiet {
    pub(crate) generator_cpu_percent: f64,
    pub(crate) generator_waited_percent: f64,
    pub(crate) server_waited_percent: f64,
    /// Whether the generator was starved: the phase is not to be trusted.
    pub(crate) disturbed: bool,
}

impl Quiet {
    /// Of one phase.
    pub(crate) fn of(window: &Window) -> Self {
        Self {
            generator_cpu_percent: window.own_percent(),
            generator_waited_percent: window.own_wait_percent(),
            server_waited_percent: window.server_wait_percent(),
            disturbed: window.own_wait_percent() > DISTURBED_PERCENT,
        }
    }
}

impl Figures {
    /// Takes over what the open loop measured.
    pub(crate) fn open(&mut self, open: &OpenLoop) {
        self.open_rate = open.delivered as f64 / open.window.seconds();
        self.open_p50_us = open.typical_latency_us(50.0);
        self.open_p99_us = open.typical_latency_us(99.0);
        self.open_p999_us = open.latency_us(99.9);
        self.open_cpu_us = open.window.cpu_us_each(open.delivered);
        self.open_lost = open.lost;
        self.quiet.insert(OPEN, Quiet::of(&open.window));
    }

    /// The phases that were disturbed.
    pub(crate) fn disturbed(&self) -> Vec<&'static str> {
        let phases = self.quiet.iter().filter(|(_, quiet)| quiet.disturbed);
        phases.map(|(phase, _)| *phase).collect()
    }
}

/// Names of the phases.
pub(crate) const MATCH: &str = "match";
/// As [`MATCH`].
pub(crate) const OPEN: &str = "open loop";
/// As [`MATCH`].
pub(crate) const CLOSED: &str = "closed loop";
/// As [`MATCH`].
pub(crate) const CHURN: &str = "churn";
/// Not a phase: memory does not depend on who waited for a CPU.
pub(crate) const MEMORY: &str = "memory";

/// A row of the table.
pub(crate) struct Row {
    /// The phase in which it is measured.
    pub(crate) phase: &'static str,
    /// What it is, with its unit.
    pub(crate) name: &'static str,
    /// Its value; `None`: not measured.
    pub(crate) get: fn(&Figures) -> Option<f64>,
}

const fn row(phase: &'static str, name: &'static str, get: fn(&Figures) -> Option<f64>) -> Row {
    Row { phase, name, get }
}

/// All rows, in order.
pub(crate) const ROWS: &[Row] = &[
    row(MEMORY, "RSS before, MiB", |f| Some(f.base_rss_mib)),
    row(MEMORY, "RSS a connection, idle, KiB", |f| Some(f.idle_kib)),
    row(MEMORY, "RSS a connection, matched, KiB", |f| {
        Some(f.matched_kib)
    }),
    row(MEMORY, "RSS after all have left, MiB", |f| {
        Some(f.after_peak_mib)
    }),
    row(MATCH, "all matched after, ms", |f| Some(f.match_all_ms)),
    row(MATCH, "CPU for a user's match, us", |f| {
        Some(f.match_cpu_us)
    }),
    row(OPEN, "messages/s delivered", |f| Some(f.open_rate)),
    row(OPEN, "latency p50, us", |f| Some(f.open_p50_us)),
    row(OPEN, "latency p99, us", |f| Some(f.open_p99_us)),
    row(OPEN, "latency p99.9, us", |f| Some(f.open_p999_us)),
    row(OPEN, "CPU a message, us", |f| Some(f.open_cpu_us)),
    row(CLOSED, "messages/s, at most", |f| Some(f.closed_rate)),
    row(CLOSED, "CPU a message, us", |f| Some(f.closed_cpu_us)),
    row(CLOSED, "server CPU, %", |f| Some(f.closed_server_percent)),
    row(CHURN, "sessions/s", |f| f.churn_rate),
    row(CHURN, "CPU a session, us", |f| f.churn_cpu_us),
    row(CHURN, "failed sessions", |f| {
        f.churn_failed.map(|n| n as f64)
    }),
];
