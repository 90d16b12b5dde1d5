//! Texts about the tries of a search, for the record. Pure.

use std::time::Duration;

use crate::{
    base::units::{clock, count, millis, value},
    record::{Blame, CapacityStep, Outcome, Record, Status, ThresholdResult, digits},
};

/// One step. `time`: from and to, since the begin of the search.
pub(super) fn step(kind: &str, users: u32, time: [Duration; 2], record: &Record) -> CapacityStep {
    let [start_ms, end_ms] = time.map(|time| digits(time.as_secs_f64() * 1e3));
    let server = record.server.as_ref();
    CapacityStep {
        kind: kind.to_owned(),
        users: users.into(),
        start_ms,
        end_ms,
        held: record.outcome == Outcome::Pass,
        failed: failed(record).map(|one| one.expression.clone()).collect(),
        match_p95_ms: quantile(record, "match", "p95"),
        message_p99_ms: quantile(record, "message", "p99"),
        server_cpu_percent: server.map(|server| server.cpu_percent),
        server_rss_bytes: server.map(|server| server.rss_peak_bytes),
    }
}

/// The first failure of a run: the figure, the limit, and the blame.
pub(super) fn gave_out(users: u32, record: &Record) -> String {
    let at = |one: &ThresholdResult| one.failed_at_ms.unwrap_or(f64::INFINITY);
    let Some(first) = failed(record).min_by(|a, b| at(a).total_cmp(&at(b))) else {
        return String::new();
    };
    let measured = first.measured.unwrap_or_default();
    let when = first
        .failed_at_ms
        .map_or_else(String::new, |at| format!(", first at {}", clock(at)));
    format!(
        "{} ({} with {} users{when}); {}",
        first.expression,
        value(measured, &first.unit),
        count(users.into()),
        fault(record)
    )
}

/// Why the measurement of a try is not valid, and what to do.
pub(super) fn distrust(users: u32, record: &Record) -> (String, String) {
    let findings = record.measurement.findings.iter();
    let worst = findings.max_by_key(|finding| finding.validity);
    let (what, advice) = worst.map_or_else(Default::default, |finding| {
        (finding.what.as_str(), finding.advice.clone())
    });
    let what = format!(
        "the search ended at {} users and says nothing about the server: the measurement was not valid: {what}",
        count(users.into())
    );
    (what, advice)
}

fn failed(record: &Record) -> impl Iterator<Item = &ThresholdResult> {
    let thresholds = record.thresholds.iter();
    thresholds.filter(|one| one.status == Status::Failed)
}

fn fault(record: &Record) -> String {
    if let Some(error) = record.errors.first() {
        let blame = match error.blame {
            Blame::Generator => "the generator",
            Blame::Network => "the network",
            Blame::Server => "the server",
            Blame::Protocol => "the protocol",
        };
        let (kind, times) = (&error.kind, count(error.count));
        return format!("the most frequent error was {kind}, {times} times, the fault of {blame}");
    }
    match quantile(record, "own_lateness", "p99") {
        Some(late) => format!(
            "without errors, and the generator itself was late by {} (p99): the server was slow",
            millis(late)
        ),
        None => "without errors".to_owned(),
    }
}

fn quantile(record: &Record, latency: &str, name: &str) -> Option<f64> {
    record.latency.get(latency)?.quantiles_ms.get(name).copied()
}
