//! Where the figures come together.

use std::time::Duration;

use crate::{judge::thresholds::Watch, measure::books::Books, run::observe::Latest};

/// Where a run is written down and checked while it is on.
pub(super) struct Recorder {
    pub books: Books,
    pub watch: Watch,
    pub server: Latest,
}

impl Recorder {
    /// Whether a threshold ends the run, if it is still `on`.
    pub(super) fn tick(&mut self, now: Duration, on: bool) -> bool {
        self.books.tick(now, self.server.get());
        self.watch.look(&self.books, now, on).is_some()
    }

    /// Takes in what is left.
    pub(super) fn close(&mut self, now: Duration) {
        self.books.close(now, self.server.get());
        self.watch.look(&self.books, now, false);
    }
}
