//! Checks thresholds while the run is on, and says at its end how they turned out.

mod measure;
mod question;
#[cfg(test)]
mod tests;

use std::time::Duration;

use question::Question;

use crate::{
    measure::{
        books::{Books, Names},
        series::Cell,
    },
    plan::threshold::Threshold,
    record::{Drift, Status, ThresholdResult},
};

/// All thresholds of a run, and what became of them so far.
#[derive(Debug)]
pub struct Watch {
    watched: Vec<Watched>,
    names: Names,
    /// The server's metrics were asked for by address: their absence is then no excuse.
    server_expected: bool,
}

#[derive(Debug)]
struct Watched {
    threshold: Threshold,
    /// The worst of the windows; only for one that is over windows.
    worst: Option<f64>,
    failed_at: Option<Duration>,
    aborted: bool,
}

impl Watch {
    /// `calls` and `flows`: their names, by number.
    pub fn new(
        thresholds: Vec<Threshold>,
        calls: Vec<String>,
        flows: Vec<String>,
        server_expected: bool,
    ) -> Self {
        let watched = thresholds.into_iter().map(|threshold| Watched {
            threshold,
            worst: None,
            failed_at: None,
            aborted: false,
        });
        Self {
            watched: watched.collect(),
            names: Names { calls, flows },
            server_expected,
        }
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn thresholds(&self) -> impl Iterator<Item = &Threshold> {
        self.watched.iter().map(|watched| &watched.threshold)
    }

    /// Looks at the books after a tick at `now`. Gives the threshold that ends the run, if one does and the run is
    /// still on.
    pub fn look(&mut self, books: &Books, now: Duration, on: bool) -> Option<&Threshold> {
        let names = &self.names;
        let mut ends = None;
        for (place, watched) in self.watched.iter_mut().enumerate() {
            let threshold = &watched.threshold;
            let question = Question {
                threshold,
                names,
                shard: books.is_shard(),
                drift: &[],
            };
            let measured = match threshold.over {
                None => question.measure(books),
                Some(over) => {
                    let window = books.series.last(over);
                    window.and_then(|window| question.measure_window(&window))
                }
            };
            let Some(measured) = measured else { continue };
            if watched.see(measured, now) {
                continue;
            }
            let abort_after = watched.threshold.abort_after;
            if on && abort_after.is_some_and(|after| now >= after) {
                watched.aborted = true;
                ends.get_or_insert(place);
            }
        }
        ends.map(|place| &self.watched[place].threshold)
    }

    /// Checks each complete stretch of the run for which separate windows are still kept.
    pub fn look_back(&mut self, books: &Books) {
        let names = &self.names;
        for watched in &mut self.watched {
            let Some(over) = watched.threshold.over else {
                continue;
            };
            for end in books.series.cells().map(Cell::end) {
                let question = Question {
                    threshold: &watched.threshold,
                    names,
                    shard: false,
                    drift: &[],
                };
                let window = books.series.until(end, over);
                let measured = window.and_then(|window| question.measure_window(&window));
                if let Some(measured) = measured {
                    watched.see(measured, end);
                }
            }
        }
    }

    /// How all turned out. The books are closed.
    pub fn finish(
        &mut self,
        books: &Books,
        drift: &[Drift],
        now: Duration,
    ) -> Vec<ThresholdResult> {
        self.watched
            .iter_mut()
            .map(|watched| watched.finish(books, drift, &self.names, self.server_expected, now))
            .collect()
    }
}

impl Watched {
    /// Whether it holds, as measured just now.
    fn see(&mut self, measured: f64, now: Duration) -> bool {
        let threshold = &self.threshold;
        if threshold.over.is_some() {
            let before = self.worst.unwrap_or(measured);
            self.worst = Some(threshold.worse(before, measured));
        }
        let holds = threshold.holds(measured);
        if !holds {
            self.failed_at.get_or_insert(now);
        } else if threshold.over.is_none() {
            // So far it did not hold; as a whole it may yet.
            self.failed_at = None;
        }
        holds
    }

    fn finish(
        &mut self,
        books: &Books,
        drift: &[Drift],
        names: &Names,
        server_expected: bool,
        now: Duration,
    ) -> ThresholdResult {
        let threshold = &self.threshold;
        let question = Question {
            threshold,
            names,
            shard: books.is_shard(),
            drift,
        };
        let measured = match threshold.over {
            // A run that is shorter than the window is one window.
            Some(over) if self.worst.is_none() => {
                let all = books.series.between(Duration::ZERO, over);
                all.and_then(|all| question.measure_window(&all))
            }
            Some(_) => self.worst,
            None => question.measure(books),
        };
        let elsewhere = books.is_shard() && threshold.metric.needs_partners();
        let metric = threshold.metric;
        let excused = elsewhere
            || !threshold.asked_for && metric.is_of_server() && !server_expected
            || !threshold.asked_for && metric.needs_a_long_run()
            || !threshold.asked_for && metric.may_not_happen();
        let status = match measured {
            _ if self.aborted => Status::Failed,
            Some(measured) if threshold.holds(measured) => Status::Ok,
            Some(_) => Status::Failed,
            None if excused => Status::NotMeasured,
            None => Status::NoData,
        };
        let mut result = threshold.result(measured, status);
        if status == Status::Failed {
            let at = self.failed_at.unwrap_or(now);
            result.failed_at_ms = Some(at.as_secs_f64() * 1e3);
        }
        result.aborted = self.aborted;
        result
    }
}
