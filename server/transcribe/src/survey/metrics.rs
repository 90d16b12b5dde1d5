//! What is counted of surveys.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{error::ToolError, tools::Tool};
use crate::record::RowId;

/// An interview that was not used for so long is not active.
const ACTIVE: Duration = Duration::from_secs(600);

/// Interviews whose use is remembered.
const MOST: usize = 100_000;

/// Seconds: a call in memory takes microseconds, a commit about a millisecond; 300 ms and 500 ms are promised.
const BUCKETS: [f64; 14] = [
    1e-5, 1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.3, 0.5, 1.0, 5.0,
];

/// The metrics of the engine. Clones count together.
#[derive(Clone)]
pub struct SurveyMetrics {
    active: Active,
    calls: IntCounterVec,
    seconds: HistogramVec,
}

impl SurveyMetrics {
    /// # Errors
    /// None in practice: the names are valid.
    pub fn new() -> prometheus::Result<Self> {
        let calls = Opts::new(
            "survey_tool_calls_total",
            "Calls of survey tools, by result: ok, or the error's code",
        );
        let seconds = HistogramOpts::new(
            "survey_tool_seconds",
            "Time from a survey tool's call to its reply, with the commit",
        )
        .buckets(BUCKETS.to_vec());
        let metrics = Self {
            active: Active::new()?,
            calls: IntCounterVec::new(calls, &["tool", "result"])?,
            seconds: HistogramVec::new(seconds, &["tool"])?,
        };
        for tool in Tool::NAMES {
            metrics.seconds.with_label_values(&[tool]);
            for result in ["ok"].into_iter().chain(ToolError::CODES) {
                metrics.calls.with_label_values(&[tool, result]);
            }
        }
        Ok(metrics)
    }

    /// # Errors
    /// Metrics of these names are registered already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.active.clone()))?;
        registry.register(Box::new(self.calls.clone()))?;
        registry.register(Box::new(self.seconds.clone()))
    }

    pub(super) fn used(&self, interview: RowId) {
        self.active.used(interview);
    }

    pub(super) fn called(&self, tool: &str, result: &str, took: Duration) {
        self.calls.with_label_values(&[tool, result]).inc();
        self.seconds
            .with_label_values(&[tool])
            .observe(took.as_secs_f64());
    }
}

/// Interviews by their last use. It is swept when it is read.
#[derive(Clone)]
struct Active {
    gauge: IntGauge,
    uses: Arc<Mutex<HashMap<RowId, Instant>>>,
}

impl Active {
    fn new() -> prometheus::Result<Self> {
        let help = "Interviews that were used in the last 10 minutes";
        Ok(Self {
            gauge: IntGauge::new("survey_sessions_active", help)?,
            uses: Arc::default(),
        })
    }

    fn used(&self, interview: RowId) {
        let now = Instant::now();
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() >= MOST && !uses.contains_key(&interview) {
            return;
        }
        uses.insert(interview, now);
    }

    fn sweep(&self, now: Instant) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.retain(|_, used| now.saturating_duration_since(*used) < ACTIVE);
        self.gauge
            .set(i64::try_from(uses.len()).unwrap_or(i64::MAX));
    }
}

impl Collector for Active {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.sweep(Instant::now());
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interview_is_active_for_ten_minutes() {
        let active = Active::new().expect("names are valid");
        active.used(RowId(1));
        active.used(RowId(1));
        active.used(RowId(2));
        let now = Instant::now();
        active.sweep(now + ACTIVE - Duration::from_secs(1));
        assert_eq!(active.gauge.get(), 2);
        active.sweep(now + ACTIVE);
        assert_eq!(active.gauge.get(), 0);
    }
}
