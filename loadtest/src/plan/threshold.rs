//! What is asked of a server, as `match_latency p95 < 2s`: read from text, and checked during the run.
//!
//! A threshold is `METRIC[{NAME}] [STATISTIC] BOUND LIMIT [over TIME] [abort [after TIME]] [if measured]`.

use std::{fmt, str::FromStr, time::Duration};

use crate::record;

mod defaults;
mod metric;
mod parse;
#[cfg(test)]
mod tests;

pub use defaults::{Parts, defaults, flows};
pub use metric::{Metric, MetricKind, unit};
pub use parse::ThresholdError;

/// One thing that is asked of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub expression: String,
    pub metric: Metric,
    /// Which call or flow, for a metric that is by name; `None`: all together.
    pub of: Option<String>,
    pub statistic: Statistic,
    pub bound: Bound,
    /// In the metric's unit.
    pub limit: f64,
    /// Holds for each stretch of this length, and not for the run as a whole.
    pub over: Option<Duration>,
    /// Ends the run when it does not hold this long after the start or later.
    pub abort_after: Option<Duration>,
    /// Somebody asked for it; otherwise it is one that every run is held to where it can be measured.
    pub asked_for: bool,
}

impl Threshold {
    /// As it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The stable name: `match_latency_p95`, `call_latency{search}_p99_over_30s`.
    pub fn name(&self) -> String {
        let of = self
            .of
            .as_ref()
            .map_or(String::new(), |of| format!("{{{of}}}"));
        let mut name = format!("{}{of}", self.metric.name());
        if self.statistic != Statistic::Plain {
            name.push_str(&format!("_{}", self.statistic));
        }
        if let Some(over) = self.over {
            name.push_str(&format!("_over_{}", humantime::format_duration(over)));
        }
        name.replace(' ', "")
    }

    /// Which call or flow it names, so that a plan without it can be refused.
    pub fn names(&self) -> Option<&str> {
        self.of.as_deref()
    }

    /// Of the flows that were played to their end.
    pub fn is_on_flows(&self) -> bool {
        self.metric == Metric::FlowSuccess
    }

    /// As it was written, and whether somebody asked for it: enough to read it again.
    pub fn saved(&self) -> (String, bool) {
        (self.expression.clone(), self.asked_for)
    }

    /// # Errors
    /// It is not what [`Self::saved`] gave.
    pub fn read((text, asked_for): &(String, bool)) -> Result<Self, ThresholdError> {
        Ok(Self {
            asked_for: *asked_for,
            ..parse::parse(text)?
        })
    }

    /// The same, and it ends the run when it does not hold from `half_way` on; at once if it cannot recover. One that
    /// says itself when it ends the run stays as it is, and one that waits for a count to be reached never does.
    pub fn ending_the_run(mut self, half_way: Duration) -> Self {
        let upper = matches!(self.bound, Bound::Below | Bound::AtMost);
        let counts = self.metric.kind() == MetricKind::Count && self.statistic == Statistic::Count;
        if self.abort_after.is_some() || (counts && !upper) {
            return self;
        }
        let grows = (counts && !self.metric.settles()) || self.statistic == Statistic::Max;
        let lost = self.over.is_some() || (upper && grows);
        self.abort_after = Some(if lost { Duration::ZERO } else { half_way });
        self
    }

    pub fn holds(&self, measured: f64) -> bool {
        match self.bound {
            Bound::Below => measured < self.limit,
            Bound::AtMost => measured <= self.limit,
            Bound::Above => measured > self.limit,
            Bound::AtLeast => measured >= self.limit,
        }
    }

    /// The one of two measurements that is nearer to breaking it, or further beyond.
    pub fn worse(&self, a: f64, b: f64) -> f64 {
        match self.bound {
            Bound::Below | Bound::AtMost => a.max(b),
            Bound::Above | Bound::AtLeast => a.min(b),
        }
    }

    /// The figure of [`record::Drift`] whose limit this is, if it is one.
    pub fn drift_limit(&self) -> Option<(&'static str, f64)> {
        let quantile = |q: f64| self.statistic == Statistic::Quantile(q);
        let upper = matches!(self.bound, Bound::Below | Bound::AtMost);
        let figure = match self.metric {
            Metric::ServerRss => "server_rss_bytes",
            Metric::ServerFds => "server_fds",
            Metric::GeneratorRss => "generator_rss_bytes",
            Metric::MessageLatency if quantile(0.99) => "message_p99_ms",
            Metric::MatchLatency if quantile(0.95) => "match_p95_ms",
            _ => return None,
        };
        upper.then_some((figure, self.limit))
    }

    pub fn result(&self, measured: Option<f64>, status: record::Status) -> record::ThresholdResult {
        record::ThresholdResult {
            expression: self.expression.clone(),
            name: self.name(),
            measured: measured.map(record::digits),
            bound: self.bound.sign().to_owned(),
            limit: self.limit,
            unit: unit(self.metric.kind(), self.statistic).to_owned(),
            status,
            failed_at_ms: None,
            aborted: false,
        }
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        parse::parse(text)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.expression)
    }
}

/// The side of the limit on which a measurement has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Bound {
    pub fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// What is made of many measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistic {
    /// From 0 to 1.
    Quantile(f64),
    Max,
    Mean,
    Last,
    Count,
    /// Each second.
    Rate,
    /// The figure itself: it is one already.
    Plain,
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Ten digits are exact for any quantile that was written by a person.
            Self::Quantile(q) => write!(f, "p{}", (q * 1e12).round() / 1e10),
            Self::Max => f.write_str("max"),
            Self::Mean => f.write_str("mean"),
            Self::Last => f.write_str("last"),
            Self::Count => f.write_str("count"),
            Self::Rate => f.write_str("rate"),
            Self::Plain => Ok(()),
        }
    }
}
