//! How figures change with time in a long run, and when they will meet their limits. Pure.
//!
//! A second of a run resembles the second before it, so a line through thousands of windows is far less sure than
//! as many independent measurements would make it. The uncertainty here allows for that: it grows with the
//! correlation between neighbouring stretches of what the line leaves over.

use std::time::Duration;

use crate::{
    judge::statistics::{inflation, student_975},
    measure::series::{Cell, Series},
    record::{Drift, digits},
};

/// Stretches of equal length that the steady part of a run is cut into.
const STRETCHES: usize = 120;
/// Fewer tell nothing.
const MIN_STRETCHES: usize = 20;
/// A shorter steady part tells nothing about hours.
const MIN_LENGTH: Duration = Duration::from_secs(300);
/// Until then the generator keeps each second of the run, and grows by that.
const FILLED: Duration = Duration::from_secs(600);

/// When it begins to mean something, since the start of the run, and one value of each stretch; none where nothing was
/// measured.
type Figure = (&'static str, Duration, fn(&Cell) -> Option<f64>);

const FIGURES: [Figure; 5] = [
    ("server_rss_bytes", Duration::ZERO, |cell| {
        Some(cell.now.server?.rss_bytes as f64)
    }),
    ("server_fds", Duration::ZERO, |cell| {
        Some(cell.now.server?.fds as f64)
    }),
    ("message_p99_ms", Duration::ZERO, |cell| {
        cell.message.quantile_ms(0.99)
    }),
    ("match_p95_ms", Duration::ZERO, |cell| {
        cell.matching.quantile_ms(0.95)
    }),
    ("generator_rss_bytes", FILLED, |cell| {
        Some(cell.now.generator_rss_bytes as f64)
    }),
];

/// The drift of each figure from `start` to `end`, the part of a run in which its load stood still. Empty for a part
/// that is too short. `limits`: what thresholds allow, by figure.
pub fn drift(
    series: &Series,
    start: Duration,
    end: Duration,
    limits: &[(&str, f64)],
) -> Vec<Drift> {
    let length = end.saturating_sub(start);
    if length < MIN_LENGTH {
        return Vec::new();
    }
    let step = length / u32::try_from(STRETCHES).unwrap_or(1);
    let starts = (0..).map(|n| start + step * n).take(STRETCHES);
    let stretches: Vec<(f64, Cell)> = starts
        .filter_map(|from| {
            let cell = series.between(from, from + step)?;
            Some(((from + step / 2).as_secs_f64() / 3600.0, cell))
        })
        .collect();
    let figures = FIGURES.iter().filter_map(|(name, begin, of)| {
        let from = start.max(*begin);
        let measured = stretches
            .iter()
            .filter(|(_, cell)| cell.start >= from)
            .filter_map(|(hour, cell)| Some((*hour, of(cell)?)));
        let line = Line::through(&measured.collect::<Vec<_>>())?;
        let limit = limits.iter().find(|(figure, _)| figure == name);
        Some(line.drift(name, [from, end], limit.map(|(_, limit)| *limit)))
    });
    figures.collect()
}

/// A straight line through measurements, by least squares.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    /// At hour 0.
    at_zero: f64,
    per_hour: f64,
    /// Half of the 95 % confidence interval of `per_hour`.
    uncertainty: f64,
}

impl Line {
    /// `points`: hours and values, in order and equally far apart. `None`: too few.
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        if points.len() < MIN_STRETCHES {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x0, y0) = (mean(|p| p.0), mean(|p| p.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - x0).powi(2)).sum();
        let together: f64 = points.iter().map(|(x, y)| (x - x0) * (y - y0)).sum();
        let per_hour = together / spread;
        let left: Vec<f64> = points
            .iter()
            .map(|(x, y)| y - y0 - per_hour * (x - x0))
            .collect();
        let squares: f64 = left.iter().map(|r| r * r).sum();
        let inflation = inflation(&left);
        let error = (squares / (n - 2.0) / spread * inflation).sqrt();
        // The values are worth as many independent ones.
        let sigmas = student_975(n / inflation - 2.0);
        Some(Self {
            at_zero: y0 - per_hour * x0,
            per_hour,
            uncertainty: sigmas * error,
        })
    }

    fn at(&self, time: Duration) -> f64 {
        self.at_zero + self.per_hour * time.as_secs_f64() / 3600.0
    }

    fn drift(&self, figure: &str, [start, end]: [Duration; 2], limit: Option<f64>) -> Drift {
        let last = self.at(end);
        // A rise that may as well be none meets nothing.
        let rises = self.per_hour > self.uncertainty;
        let meets = |limit: f64| ((limit - last) / self.per_hour).max(0.0);
        Drift {
            figure: figure.to_owned(),
            per_hour: digits(self.per_hour),
            uncertainty: digits(self.uncertainty),
            first: digits(self.at(start)),
            last: digits(last),
            limit,
            hours_to_limit: limit.filter(|_| rises).map(|limit| digits(meets(limit))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measure::series::Gauges, measure::server_use::Reading};

    /// Noise from -1 to 1 that is the same each time.
    fn noise(state: &mut u64) -> f64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn points(of: impl FnMut(usize) -> f64) -> Vec<(f64, f64)> {
        let hours = (0..STRETCHES).map(|n| n as f64 / 10.0);
        hours.zip((0..STRETCHES).map(of)).collect()
    }

    #[test]
    fn a_straight_line_is_found_exactly() {
        let line = Line::through(&points(|n| 100.0 + n as f64 * 0.5)).expect("enough");
        assert!(
            (line.per_hour - 5.0).abs() < 1e-9 && line.uncertainty < 1e-6,
            "{line:?}"
        );
        assert_eq!(Line::through(&points(|_| 1.0)[..MIN_STRETCHES - 1]), None);
    }

    #[test]
    fn noise_without_a_trend_rarely_looks_like_one() {
        for correlation in [0.0, 0.5, 0.9] {
            let mut found = 0;
            let mut state = 7;
            for _ in 0..500 {
                let mut value = 0.0;
                let line = Line::through(&points(|_| {
                    value = correlation * value + noise(&mut state);
                    value
                }));
                let line = line.expect("enough");
                found += u32::from(line.per_hour.abs() > line.uncertainty);
            }
            // 5 % is the promise; what resembles its neighbours this much comes near 10 %.
            assert!(found <= 50, "{found} of 500 at {correlation}");
        }
    }

    #[test]
    fn a_leak_is_forecast_and_a_flat_line_is_not() {
        let mut series = Series::default();
        let mut state = 1;
        for second in 0..7200_u64 {
            let rss = 100e6 + second as f64 * 1e4 + noise(&mut state) * 1e6;
            let reading = Reading {
                at: Duration::from_secs(second),
                cpu_seconds: 0.0,
                rss_bytes: crate::measure::server_use::whole(rss),
                fds: 50,
                max_fds: None,
                transcribing: None,
            };
            series.push(Cell {
                start: Duration::from_secs(second),
                length: Duration::from_secs(1),
                now: Gauges {
                    server: Some(reading),
                    generator_rss_bytes: 50_000_000 + second.min(600) * 3_000,
                    ..Gauges::default()
                },
                ..Cell::default()
            });
        }
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let found = drift(
            &series,
            hours(0),
            hours(2),
            &[("server_rss_bytes", 1e9), ("server_fds", 100.0)],
        );
        let of = |figure| {
            found
                .iter()
                .find(|drift| drift.figure == figure)
                .expect(figure)
        };
        let rss = of("server_rss_bytes");
        assert!(
            (rss.per_hour - 36e6).abs() < rss.uncertainty.max(1e6),
            "{rss:?}"
        );
        let left = (1e9 - 172e6) / 36e6;
        assert!(
            rss.hours_to_limit
                .is_some_and(|hours| (hours - left).abs() < 1.5),
            "{rss:?}"
        );
        assert_eq!(
            (of("server_fds").per_hour, of("server_fds").hours_to_limit),
            (0.0, None)
        );
        assert_eq!(of("generator_rss_bytes").per_hour, 0.0, "once it is full");
        assert!(drift(&series, hours(0), Duration::from_secs(200), &[]).is_empty());
    }
}
