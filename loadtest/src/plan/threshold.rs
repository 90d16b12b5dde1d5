//! A requirement on the server, such as `match_latency p95 < 2s`: read from text, checked during the run.
//!
//! A threshold is `METRIC[{NAME}] [STATISTIC] BOUND LIMIT [over TIME] [abort [after TIME]] [if measured]`.

use std::{fmt, str::FromStr, time::Duration};

use crate::record;

mod defaults;
mod metric;
mod parse;
#[cfg(test)]
mod tests;

pub use defaults::{Parts, defaults, flows, misdelivered_words, nodes_lost};
pub use metric::{Metric, MetricKind, unit};
pub use parse::ThresholdError;

/// One requirement on the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub expression: String,
    pub metric: Metric,
    /// The call or flow, for a metric that has one for each name; `None`: all together.
    pub of: Option<String>,
    pub statistic: Statistic,
    pub bound: Bound,
    /// In the metric's unit.
    pub limit: f64,
    /// Must hold for each stretch of this length, and not for the run as a whole.
    pub over: Option<Duration>,
    /// Ends the run when it fails this long after the start, or later.
    pub abort_after: Option<Duration>,
    /// A user asked for it; a default counts only where it can be measured.
    pub asked_for: bool,
}

impl Threshold {
    /// The text as written.
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

    /// The call or flow that it names. A plan without that name is refused.
    pub fn names(&self) -> Option<&str> {
        self.of.as_deref()
    }

    /// Only flows that were played to their end.
    pub fn is_on_flows(&self) -> bool {
        self.metric == Metric::FlowSuccess
    }

    /// Servers that were lost.
    pub fn is_on_lost_nodes(&self) -> bool {
        self.metric == Metric::NodesLost
    }

    /// Words at somebody for whom they are not.
    pub fn is_on_misdelivered_words(&self) -> bool {
        self.metric == Metric::WordsMisdelivered
    }

    /// The text, and whether a user asked for it: enough to read it again.
    pub fn saved(&self) -> (String, bool) {
        (self.expression.clone(), self.asked_for)
    }

    /// # Errors
    /// The text does not come from [`Self::saved`].
    pub fn read((text, asked_for): &(String, bool)) -> Result<Self, ThresholdError> {
        Ok(Self {
            asked_for: *asked_for,
            ..parse::parse(text)?
        })
    }

    /// The same threshold, which ends the run when it fails at `half_way` or later; at once if it cannot recover. A
    /// threshold with its own `abort` stays as it is, and a threshold that waits for a count never ends the run.
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

    /// The worse of two measurements.
    pub fn worse(&self, a: f64, b: f64) -> f64 {
        match self.bound {
            Bound::Below | Bound::AtMost => a.max(b),
            Bound::Above | Bound::AtLeast => a.min(b),
        }
    }

    /// The figure of [`record::Drift`] that it limits, if any.
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

/// The side of the limit where measurements must be.
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

/// What is computed from many measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistic {
    /// From 0 to 1.
    Quantile(f64),
    Max,
    Mean,
    Last,
    Count,
    /// Per second.
    Rate,
    /// The metric is a single value.
    Plain,
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Ten digits are exact for any quantile that a person writes.
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
