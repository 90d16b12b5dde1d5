//! What was counted some minutes ago: for rates, and for what went wrong lately.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};
use voicematch_core::metrics::{Metrics, REFUSALS};
use voicematch_protocol::{CloseReason, ErrorCode};

/// How often the counters are read.
const EVERY: Duration = Duration::from_secs(5);

/// For how long that is kept; about 60 KB.
pub(super) const RECENT: Duration = Duration::from_secs(600);

/// The window of rates.
const RATES: Duration = Duration::from_secs(60);

/// The counters at a moment.
#[derive(Clone)]
struct Sample {
    at: Instant,
    matches: u64,
    relayed: u64,
    closes: [u64; CloseReason::ALL.len()],
    refusals: [u64; REFUSALS.len()],
    errors: [u64; ErrorCode::ALL.len()],
}

/// A reason, how often since the start, and how often lately.
pub(super) type Reason = (&'static str, u64, u64);

/// What happens now.
pub(super) struct Recent {
    pub(super) matches_per_second: f64,
    pub(super) relayed_per_second: f64,
    /// Which time lately is.
    pub(super) time: Duration,
    /// Those that are not zero, the most frequent first.
    pub(super) closes: Vec<Reason>,
    pub(super) refusals: Vec<Reason>,
    pub(super) errors: Vec<Reason>,
}

/// Samples of the last minutes.
#[derive(Default)]
pub struct History(Mutex<VecDeque<Sample>>);

impl Sample {
    /// Nothing has happened yet.
    fn start(metrics: &Metrics) -> Self {
        Self {
            at: metrics.started,
            matches: 0,
            relayed: 0,
            closes: [0; CloseReason::ALL.len()],
            refusals: [0; REFUSALS.len()],
            errors: [0; ErrorCode::ALL.len()],
        }
    }

    fn of(metrics: &Metrics) -> Self {
        let mut errors = [0; ErrorCode::ALL.len()];
        for (slot, (_, count)) in errors.iter_mut().zip(metrics.errors_by_code()) {
            *slot = count;
        }
        Self {
            at: Instant::now(),
            matches: metrics.matches_total(),
            relayed: metrics.relayed_total(),
            closes: metrics.closes(),
            refusals: metrics.refusals(),
            errors,
        }
    }
}

impl History {
    /// Reads the counters again and again.
    pub(super) async fn keep(&self, metrics: &Metrics) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sample = Sample::of(metrics);
            let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            while samples
                .front()
                .is_some_and(|first| first.at + RECENT < sample.at)
            {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    /// What happens now.
    pub(super) fn recent(&self, metrics: &Metrics) -> Recent {
        let now = Sample::of(metrics);
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Sample::start(metrics);
        let since = |time: Duration| {
            let is_recent = |sample: &&Sample| sample.at + time >= now.at;
            let mut all = std::iter::once(&start).chain(samples.iter());
            all.find(is_recent).unwrap_or(&now)
        };
        let (first, minute) = (since(RECENT), since(RATES));
        // The first moments after the start say little of a second.
        let seconds = (now.at - minute.at).as_secs_f64().max(1.0);
        let closes = CloseReason::ALL.iter().map(|reason| reason.as_str());
        let errors = ErrorCode::ALL.iter().map(|code| code.as_str());
        Recent {
            matches_per_second: (now.matches - minute.matches) as f64 / seconds,
            relayed_per_second: (now.relayed - minute.relayed) as f64 / seconds,
            time: now.at - first.at,
            closes: reasons(closes, &now.closes, &first.closes),
            refusals: reasons(REFUSALS.into_iter(), &now.refusals, &first.refusals),
            errors: reasons(errors, &now.errors, &first.errors),
        }
    }
}

fn reasons(names: impl Iterator<Item = &'static str>, now: &[u64], then: &[u64]) -> Vec<Reason> {
    let counts = now.iter().zip(then);
    let all = names
        .zip(counts)
        .map(|(name, (now, then))| (name, *now, now - then));
    let mut found: Vec<Reason> = all.filter(|(_, total, _)| *total > 0).collect();
    found.sort_by_key(|(_, total, lately)| std::cmp::Reverse((*lately, *total)));
    found
}
