//! What all users measured together: mergeable, and pure.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use crate::{ledger::Delivery, plan::Plan, sample::ErrorKind};

mod tally;
pub(crate) use tally::Tally;

/// The longest latency that is told apart: one hour.
const MAX_MICROS: u64 = 3_600_000_000;
/// Kinds of error that are told apart.
const MAX_ERROR_KINDS: usize = 64;

/// Latencies in microseconds, to three digits. About 180 KB: one per worker, never one per user.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_MICROS, 3).expect("the bounds are constants"))
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that the share `q` (0 to 1) did not exceed. `None`: nothing was recorded.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_micros(self.0.value_at_quantile(q)))
    }

    /// The longest.
    pub fn max(&self) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_micros(self.0.max()))
    }
}

/// How often a kind of error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCount {
    /// How many.
    pub count: u64,
    /// The first, since the start of the run.
    pub first_at: Duration,
}

/// Errors by kind.
#[derive(Debug, Clone, Default)]
pub struct Errors(BTreeMap<ErrorKind, ErrorCount>);

impl Errors {
    fn add(&mut self, kind: ErrorKind, count: u64, first_at: Duration) {
        // A server could send a new code each time: what is kept must not grow with it.
        let full = self.0.len() >= MAX_ERROR_KINDS && !self.0.contains_key(&kind);
        let kind = if full { ErrorKind::Other } else { kind };
        let entry = self
            .0
            .entry(kind)
            .or_insert(ErrorCount { count: 0, first_at });
        entry.count += count;
        entry.first_at = entry.first_at.min(first_at);
    }

    /// All errors.
    pub fn total(&self) -> u64 {
        self.0.values().map(|error| error.count).sum()
    }

    /// How many of one kind.
    pub fn count(&self, kind: &ErrorKind) -> u64 {
        self.0.get(kind).map_or(0, |error| error.count)
    }

    /// The kinds, the most frequent first.
    pub fn by_count(&self) -> Vec<(&ErrorKind, ErrorCount)> {
        let mut list: Vec<_> = self.0.iter().map(|(kind, count)| (kind, *count)).collect();
        list.sort_by_key(|(_, error)| std::cmp::Reverse(error.count));
        list
    }
}

/// Connections of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Users who started.
    pub attempted: u64,
    /// Users who got their `session`.
    pub succeeded: u64,
    /// Of those, how many were cut off before the end.
    pub dropped: u64,
    /// The most at the same time.
    pub peak: u64,
}

/// Searches for a partner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Matches {
    /// Times that a user asked for a partner.
    pub searches: u64,
    /// Of those, how many came from users whose partner had left.
    pub rematches: u64,
    /// Answered in time.
    pub matched: u64,
    /// Answered in time, with a room of exactly two.
    pub good: u64,
    /// Not answered in time although somebody else was waiting too.
    pub failed: u64,
    /// Not answered, and nobody else was waiting: no failure.
    pub odd_one_out: u64,
    /// Under way when the run ended: no failure.
    pub pending: u64,
    /// Rooms that only one user was told of.
    pub one_sided: u64,
    /// Users in rooms of more than two.
    pub crowded: u64,
}

/// Relayed messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Messages {
    /// Sent.
    pub sent: u64,
    /// What became of them.
    pub delivery: Delivery,
    /// Received again.
    pub duplicate: u64,
    /// Received after a later one.
    pub reordered: u64,
    /// Received by somebody whom they were not for.
    pub wrong_peer: u64,
    /// Received with other bytes than were sent.
    pub altered: u64,
    /// Received from another load test.
    pub foreign: u64,
}

impl Messages {
    /// Received, but not as sent: once, in order, unchanged, by the partner.
    pub fn misdelivered(&self) -> u64 {
        self.duplicate + self.reordered + self.wrong_peer + self.altered
    }
}

/// What the load generator itself used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GeneratorUse {
    /// Worker threads that played the users.
    pub workers: usize,
    /// CPU time of the whole process, in seconds.
    pub cpu_seconds: f64,
    /// The same, as a share of one core over the run, in percent.
    pub cpu_percent: f64,
    /// The share of its core that the busiest worker used, in percent.
    pub busiest_worker_percent: f64,
    /// The largest resident memory of the process, in bytes.
    pub rss_peak_bytes: u64,
}

/// What the server used, by its own metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerUse {
    /// Times that the metrics were read.
    pub readings: u64,
    /// CPU time between the first and the last reading, in seconds.
    pub cpu_seconds: f64,
    /// The same, as a share of one core, in percent.
    pub cpu_percent: f64,
    /// Resident memory at the first reading, in bytes.
    pub rss_first_bytes: u64,
    /// The largest resident memory, in bytes.
    pub rss_peak_bytes: u64,
    /// The most open file descriptors.
    pub fds_peak: u64,
}

/// Whether the server's metrics could be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ServerWatch {
    /// Not asked for.
    Off,
    /// Asked for, and nothing useful answered. True: the address was given, not guessed.
    Unreadable(bool),
    /// Read.
    Read(ServerUse),
}

/// What a run was, besides what its users measured.
#[derive(Debug, Clone)]
pub struct About {
    /// The plan.
    pub plan: Plan,
    /// The server's address, as a URL.
    pub target: String,
    /// When the run began.
    pub started_at: SystemTime,
    /// How long it took, from the first user's start to the last one's close.
    pub elapsed: Duration,
    /// How long messages could be sent.
    pub active: Duration,
    /// Ended before its plan, on request.
    pub interrupted: bool,
    /// The most connected users at the same time.
    pub peak_users: u64,
    /// The load generator.
    pub generator: GeneratorUse,
    /// The server.
    pub server: ServerWatch,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The run.
    pub about: About,
    /// Connections.
    pub connections: Connections,
    /// Searches for a partner.
    pub matches: Matches,
    /// Relayed messages.
    pub messages: Messages,
    /// From a user's planned start to their `session` message.
    pub connect: Latencies,
    /// From asking for a partner to `match_found`; a failed search counts as the time it waited.
    pub matching: Latencies,
    /// From the moment a message was due to its receipt by the partner.
    pub relay: Latencies,
    /// How late the generator itself sent, against the moment due.
    pub lateness: Latencies,
    /// Errors by kind.
    pub errors: Errors,
}

impl Summary {
    /// Users who connected and stayed connected, in percent of those who started. `None`: nobody did.
    pub fn connection_success_percent(&self) -> Option<f64> {
        let Connections {
            attempted,
            succeeded,
            dropped,
            ..
        } = self.connections;
        percent(succeeded.saturating_sub(dropped), attempted)
    }

    /// Good matches in percent of the searches that could have had one.
    pub fn match_success_percent(&self) -> Option<f64> {
        percent(
            self.matches.good,
            self.matches.matched + self.matches.failed,
        )
    }

    /// Messages that the partner received, in percent of those whose partner was there.
    pub fn message_success_percent(&self) -> Option<f64> {
        let Delivery {
            delivered, lost, ..
        } = self.messages.delivery;
        percent(delivered, delivered + lost)
    }

    /// Messages sent per second.
    pub fn messages_per_second(&self) -> f64 {
        self.messages.sent as f64 / self.about.active.as_secs_f64().max(1e-9)
    }
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests;
