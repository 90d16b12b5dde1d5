//! What the generator may have added to a latency by its own lateness.

use crate::record::{ComparedFigure, Quantiles, Window};

/// Clamp to 1 us: ln(0) is undefined.
pub(super) const MIN_MS: f64 = 1e-3;

/// A percentile that windows have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Percentile {
    P50,
    P95,
    P99,
}

impl Percentile {
    pub(super) fn of(self, quantiles: &Quantiles) -> Option<f64> {
        match self {
            Self::P50 => quantiles.p50_ms,
            Self::P95 => quantiles.p95_ms,
            Self::P99 => quantiles.p99_ms,
        }
    }

    /// The fraction of values above it.
    fn above(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P95 => 0.05,
            Self::P99 => 0.01,
        }
    }
}

/// How much of a latency's percentile the generator may have caused in a window.
///
/// A message waits for the generator twice: to be sent, which own lateness measures, and to be read, which takes as long
/// on average. Where both waits together exceed `2 x`, one of them exceeds `x`. So if half of the messages above the
/// percentile are later than `x`, the two waits add at most `2 x` to it.
pub(super) fn explained(window: &Window, percentile: Percentile) -> Option<f64> {
    Some(2.0 * exceeded_by(window, percentile.above() / 2.0)?)
}

/// The own lateness that a fraction of the messages exceeded. Between the percentiles that a window has, its logarithm
/// follows that of the fraction.
fn exceeded_by(window: &Window, above: f64) -> Option<f64> {
    let late = &window.own_lateness;
    let max = late.max_ms?;
    let known = [
        (0.5, late.p50_ms?),
        (0.05, late.p95_ms?),
        (0.01, late.p99_ms?),
        (1.0 / window.sent.max(1) as f64, max),
    ];
    let around = known.windows(2).find(|pair| pair[1].0 <= above);
    let Some([(from, low), (to, high)]) = around else {
        return Some(max);
    };
    let way = (above / from).ln() / (to / from).ln();
    let [low, high] = [low, high].map(|late| late.max(MIN_MS).ln());
    Some((low + way * (high - low)).exp())
}

/// Takes back a judgement where the generator may have caused the whole difference. A generator makes its own run
/// slower, so that of the slower run counts.
pub(super) fn unless_explained(
    mut figure: ComparedFigure,
    late: [Option<f64>; 2],
) -> ComparedFigure {
    let [Some(baseline), Some(current)] = [figure.baseline, figure.current] else {
        return figure;
    };
    let slower = late[usize::from(current > baseline)].unwrap_or(0.0);
    let changed = matches!(figure.judgement.as_str(), "better" | "worse");
    if changed && (current - baseline).abs() <= slower {
        figure.judgement = "unknown".to_owned();
    }
    figure
}
