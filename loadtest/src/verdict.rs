//! Targets, and whether a run held them.

use std::{fmt, time::Duration};

use crate::{
    sample::Blame,
    summary::{ServerWatch, Summary},
};

/// How late the generator may send (99th percentile) before its measurement is void.
const MAX_LATENESS_P99: Duration = Duration::from_millis(100);
/// The share of a core that a worker may use, in percent, before its measurement is void.
const MAX_WORKER_PERCENT: f64 = 90.0;

/// The targets of a run. The defaults are the baseline that a server for 5,000 users is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// The 95th percentile of match latency must be below this.
    pub match_p95: Duration,
    /// The 95th percentile of message latency must be below this.
    pub message_p95: Duration,
    /// Connections, matches and messages must succeed at least this often, in percent.
    pub success_percent: f64,
    /// The server's resident memory must stay below this, in bytes.
    pub server_rss_bytes: u64,
    /// At most this many messages may be duplicate, reordered, altered or with the wrong peer.
    pub misdelivered: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            match_p95: Duration::from_secs(2),
            message_p95: Duration::from_millis(100),
            success_percent: 99.9,
            server_rss_bytes: 2_000_000_000,
            misdelivered: 0,
        }
    }
}

/// A measured value or a limit, with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Percent.
    Percent(f64),
    /// A time.
    Time(Duration),
    /// Bytes.
    Bytes(u64),
    /// A number.
    Count(u64),
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Self::Percent(percent) => percent,
            Self::Time(time) => time.as_secs_f64(),
            Self::Bytes(n) | Self::Count(n) => n as f64,
        }
    }
}

/// How a target turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Held.
    Held,
    /// Not held.
    Failed,
    /// There was nothing to judge by. This is never a pass.
    NoData,
    /// Not asked for, and could not be measured.
    NotMeasured,
}

/// The side of its limit on which a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The limit or more.
    AtLeast,
    /// Less than the limit.
    Below,
    /// The limit or less.
    AtMost,
}

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The stable name.
    pub name: &'static str,
    /// What was measured.
    pub measured: Option<Value>,
    /// The side of the limit.
    pub bound: Bound,
    /// The limit.
    pub limit: Value,
    /// How it turned out.
    pub status: Status,
}

impl Check {
    fn new(name: &'static str, measured: Option<Value>, bound: Bound, limit: Value) -> Self {
        let status = match measured.map(|value| (value.number(), limit.number())) {
            None => Status::NoData,
            Some((value, limit)) => {
                let held = match bound {
                    Bound::AtLeast => value >= limit,
                    Bound::Below => value < limit,
                    Bound::AtMost => value <= limit,
                };
                if held { Status::Held } else { Status::Failed }
            }
        };
        Self {
            name,
            measured,
            bound,
            limit,
            status,
        }
    }
}

/// What a run has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All targets hold.
    Pass,
    /// A target does not hold.
    Fail,
    /// The measurement itself is not to be trusted.
    Invalid,
}

/// A run, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// In one word.
    pub outcome: Outcome,
    /// Every target.
    pub checks: Vec<Check>,
    /// Why the measurement is not to be trusted: each with what to do.
    pub invalid: Vec<String>,
}

impl Verdict {
    /// 0 pass, 99 a target does not hold, 98 the measurement is invalid.
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Pass => 0,
            Outcome::Fail => 99,
            Outcome::Invalid => 98,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Invalid => "INVALID",
        })
    }
}

/// Judges a run by its targets, and the measurement by the state of the generator.
pub fn judge(summary: &Summary, targets: &Thresholds) -> Verdict {
    let checks = checks(summary, targets);
    let mut invalid = generator_faults(summary);
    let failed = checks.iter().any(|check| check.status == Status::Failed);
    if !failed {
        let empty = checks.iter().filter(|check| check.status == Status::NoData);
        invalid.extend(
            empty.map(|check| format!("{}: nothing was measured{}", check.name, hint(check))),
        );
    }
    let outcome = match (invalid.is_empty(), failed) {
        (false, _) => Outcome::Invalid,
        (true, true) => Outcome::Fail,
        (true, false) => Outcome::Pass,
    };
    Verdict {
        outcome,
        checks,
        invalid,
    }
}

fn hint(check: &Check) -> &'static str {
    match check.name {
        "server memory" => {
            "; give the address of its metrics with --admin-url, or --admin-url none"
        }
        _ => "; run longer, or with a shorter --signal-interval",
    }
}

fn checks(summary: &Summary, targets: &Thresholds) -> Vec<Check> {
    let success = |name, percent: Option<f64>| {
        let limit = Value::Percent(targets.success_percent);
        Check::new(name, percent.map(Value::Percent), Bound::AtLeast, limit)
    };
    let latency = |name, measured: Option<Duration>, limit| {
        Check::new(
            name,
            measured.map(Value::Time),
            Bound::Below,
            Value::Time(limit),
        )
    };
    let received = summary.relay.count() + summary.messages.misdelivered() > 0;
    let misdelivered = received.then(|| Value::Count(summary.messages.misdelivered()));
    let memory = match summary.about.server {
        ServerWatch::Read(server) => Some(Value::Bytes(server.rss_peak_bytes)),
        _ => None,
    };
    let memory_limit = Value::Bytes(targets.server_rss_bytes);
    let mut memory = Check::new("server memory", memory, Bound::Below, memory_limit);
    if matches!(
        summary.about.server,
        ServerWatch::Off | ServerWatch::Unreadable(false)
    ) {
        memory.status = Status::NotMeasured;
    }
    vec![
        success("connection success", summary.connection_success_percent()),
        success("match success", summary.match_success_percent()),
        success("message success", summary.message_success_percent()),
        latency(
            "match latency p95",
            summary.matching.quantile(0.95),
            targets.match_p95,
        ),
        latency(
            "message latency p95",
            summary.relay.quantile(0.95),
            targets.message_p95,
        ),
        Check::new(
            "misdelivered messages",
            misdelivered,
            Bound::AtMost,
            Value::Count(targets.misdelivered),
        ),
        memory,
    ]
}

/// What the generator did wrong, with what to do about it.
fn generator_faults(summary: &Summary) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(late) = summary.lateness.quantile(0.99)
        && late > MAX_LATENESS_P99
    {
        faults.push(format!(
            "the generator itself sent late: p99 {} ms, more than {} ms; use fewer users per machine, \
             or do not share the machine with the server",
            late.as_millis(),
            MAX_LATENESS_P99.as_millis()
        ));
    }
    let busy = summary.about.generator.busiest_worker_percent;
    if busy > MAX_WORKER_PERCENT {
        faults.push(format!(
            "a worker of the generator used {busy:.0} % of its core, more than \
             {MAX_WORKER_PERCENT:.0} %; use fewer users or a longer --signal-interval"
        ));
    }
    for (kind, error) in summary.errors.by_count() {
        if kind.blame() == Blame::Generator {
            faults.push(format!(
                "{} on the generator's machine, {} times; use fewer users per machine",
                kind.name(),
                error.count
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests;
