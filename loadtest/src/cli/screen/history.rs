//! The last minutes of a run, one value for each second.

use std::collections::VecDeque;

use crate::{Progress, record::Quantiles};

/// The seconds that are kept: the columns of a wide terminal.
const KEPT: usize = 200;

/// Values of one figure, the latest last. `None`: nothing was measured in that second.
pub(super) type Course = VecDeque<Option<f64>>;

/// What the screen draws.
#[derive(Debug, Default)]
pub struct History {
    second: Option<u64>,
    last: Progress,
    pub(super) message_p50: Course,
    pub(super) message_p99: Course,
    pub(super) match_p50: Course,
    pub(super) match_p99: Course,
    pub(super) own_p99: Course,
    pub(super) sent: Course,
    pub(super) matches: Course,
    pub(super) errors: Course,
}

impl History {
    /// Adds the current figures; only the first of each second counts.
    pub(super) fn add(&mut self, now: &Progress) {
        let second = now.elapsed.as_secs();
        if self.second == Some(second) {
            return;
        }
        let passed = (now.elapsed.saturating_sub(self.last.elapsed)).as_secs_f64();
        let rate = |now: u64, before: u64| {
            (passed > 0.0).then(|| now.saturating_sub(before) as f64 / passed)
        };
        let rates = [
            (&mut self.sent, rate(now.sent, self.last.sent)),
            (&mut self.matches, rate(now.matches, self.last.matches)),
            (&mut self.errors, rate(now.errors, self.last.errors)),
        ];
        let Quantiles { p50_ms, p99_ms, .. } = now.message;
        let latencies = [
            (&mut self.message_p50, p50_ms),
            (&mut self.message_p99, p99_ms),
            (&mut self.match_p50, now.matching.p50_ms),
            (&mut self.match_p99, now.matching.p99_ms),
            (&mut self.own_p99, now.own_lateness.p99_ms),
        ];
        for (course, value) in rates.into_iter().chain(latencies) {
            course.push_back(value);
            if course.len() > KEPT {
                course.pop_front();
            }
        }
        self.second = Some(second);
        self.last = now.clone();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_second_counts_once_and_the_oldest_go() {
        let mut history = History::default();
        for quarter in 0..4_000_u64 {
            history.add(&Progress {
                elapsed: Duration::from_millis(quarter * 250),
                sent: quarter * 5,
                ..Progress::default()
            });
        }
        assert_eq!(history.sent.len(), KEPT);
        assert_eq!(history.sent.back(), Some(&Some(20.0)), "per second");
    }
}
