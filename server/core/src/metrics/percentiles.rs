//! Percentiles from histogram buckets.

use super::LATENCY_BUCKETS;

/// Percentiles of a latency, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// p50, p90, p95, p99, interpolated within the bucket as `histogram_quantile` does.
    pub quantiles: [f64; 4],
}

/// The quantiles of [`Percentiles`].
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

/// A histogram over [`LATENCY_BUCKETS`].
#[derive(Default)]
pub(super) struct Latencies {
    /// How many took as long as each bound at the most; the last: all.
    pub(super) cumulative: [u64; LATENCY_BUCKETS.len() + 1],
    /// The sum of what they took.
    pub(super) seconds: f64,
}

impl Latencies {
    /// Interpolates quantiles from cumulative bucket counts; values past the last bound count as that bound.
    pub(super) fn percentiles(&self) -> Percentiles {
        let count = self.cumulative[LATENCY_BUCKETS.len()];
        let cumulative = &self.cumulative[..LATENCY_BUCKETS.len()];
        let quantiles = QUANTILES.map(|quantile| {
            let rank = quantile * count as f64;
            let bucket = cumulative
                .iter()
                .position(|&below| below as f64 >= rank && below > 0);
            let Some(bucket) = bucket else {
                return if count == 0 {
                    0.0
                } else {
                    LATENCY_BUCKETS[LATENCY_BUCKETS.len() - 1]
                };
            };
            let (below, lower) = if bucket == 0 {
                (0, 0.0)
            } else {
                (cumulative[bucket - 1], LATENCY_BUCKETS[bucket - 1])
            };
            let inside = (cumulative[bucket] - below).max(1) as f64;
            lower
                + (LATENCY_BUCKETS[bucket] - lower)
                    * ((rank - below as f64) / inside).clamp(0.0, 1.0)
        });
        Percentiles { count, quantiles }
    }
}
