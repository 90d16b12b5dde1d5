//! When the engine counts as up: rules without I/O.

use std::time::{Duration, Instant};

/// An answer within this time counts for coming up again.
const QUICK: Duration = Duration::from_millis(250);

/// So many of them, one after the other.
const QUICK_ANSWERS: u8 = 3;

/// The bus is down when nothing that was published has come back for this long.
const BUS_SILENT: Duration = Duration::from_secs(2);

/// What calls and probes say of the engine.
#[derive(Debug, Default)]
pub(super) struct Health {
    index: bool,
    quick: u8,
    heard: Option<Instant>,
}

impl Health {
    /// An answer that took longer than `most` came too late, though it came.
    pub(super) fn answered(&mut self, took: Duration, most: Duration) {
        if took >= most {
            return self.failed();
        }
        self.quick = if took < QUICK {
            self.quick.saturating_add(1)
        } else {
            0
        };
        self.index |= self.quick >= QUICK_ANSWERS;
    }

    pub(super) fn failed(&mut self) {
        (self.index, self.quick) = (false, 0);
    }

    /// A probe came back.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        *self = Self::default();
    }

    pub(super) fn index(&self) -> bool {
        self.index
    }

    pub(super) fn bus(&self, now: Instant) -> bool {
        self.heard
            .is_some_and(|heard| now.saturating_duration_since(heard) < BUS_SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_comes_up_after_three_quick_answers() {
        let mut health = Health::default();
        let most = Duration::from_millis(500);
        let (quick, slow) = (Duration::from_millis(249), Duration::from_millis(250));
        for took in [quick, quick, slow, quick, quick] {
            health.answered(took, most);
            assert!(!health.index());
        }
        health.answered(quick, most);
        assert!(health.index());
        health.answered(slow, most);
        assert!(health.index(), "a slow answer is an answer");
        health.answered(most, most);
        assert!(!health.index(), "one that came too late is none");
        (0..3).for_each(|_| health.answered(quick, most));
        health.failed();
        assert!(!health.index());
    }

    #[test]
    fn the_bus_is_down_after_two_silent_seconds() {
        let mut health = Health::default();
        let now = Instant::now();
        assert!(!health.bus(now));
        health.heard(now);
        assert!(health.bus(now + BUS_SILENT - Duration::from_millis(1)));
        assert!(!health.bus(now + BUS_SILENT));
    }
}
