//! How much one connection may send.

use std::time::Instant;

/// Frames and messages a second, in the long run: audio of 20 ms a frame is 50.
const MAX_PER_SECOND: f64 = 200.0;
const BURST: f64 = 400.0;

/// See [`pace`](self).
pub(super) struct Pace {
    left: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            left: BURST,
            at: Instant::now(),
        }
    }

    /// One more has come; false: it is one too many.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * MAX_PER_SECOND).min(BURST) - 1.0;
        self.left >= 0.0
    }
}
