//! Notices when this process did not run: stopped, short of CPU, or suspended with its machine.

use std::{cell::Cell, time::Duration};

/// The time between two beats of a worker.
pub const BEAT: Duration = Duration::from_millis(100);
/// The delay of a beat that is still normal.
const SLACK: Duration = Duration::from_millis(50);

/// The beats of one worker, in time since the start of the run.
#[derive(Debug, Default)]
pub struct Pulse {
    last: Cell<Duration>,
    /// The latest pause: from the beat before it to the beat after it.
    pause: Cell<[Duration; 2]>,
}

impl Pulse {
    /// Must be called every [`BEAT`]. Returns how long the worker did not run, if it missed a beat.
    pub fn beat(&self, now: Duration) -> Option<Duration> {
        let missed = self.missed(now);
        if let Some(pause) = missed {
            self.pause.set(pause);
        }
        self.last.set(now);
        missed.map(|[from, to]| to.saturating_sub(from))
    }

    /// How much of the time from `from` to `now` the worker did not run, as far as the latest pause tells.
    pub fn paused(&self, from: Duration, now: Duration) -> Duration {
        let [begin, end] = self.latest(now);
        end.min(now).saturating_sub(begin.max(from))
    }

    /// The latest pause: its begin and its end. The same moment twice: there was none.
    pub fn latest(&self, now: Duration) -> [Duration; 2] {
        // A user may run before the beat that ends the pause.
        self.missed(now).unwrap_or(self.pause.get())
    }

    fn missed(&self, now: Duration) -> Option<[Duration; 2]> {
        let last = self.last.get();
        (now.saturating_sub(last) > BEAT + SLACK).then_some([last, now])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_what_lies_between_two_beats_that_are_far_apart() {
        let ms = Duration::from_millis;
        let pulse = Pulse::default();
        assert_eq!(pulse.beat(ms(100)), None);
        assert_eq!(pulse.beat(ms(210)), None);
        assert_eq!(pulse.paused(ms(0), ms(300)), ms(0));
        assert_eq!(
            pulse.paused(ms(150), ms(1710)),
            ms(1500),
            "before the beat is made up for"
        );
        assert_eq!(pulse.beat(ms(1710)), Some(ms(1500)));
        assert_eq!(pulse.beat(ms(1810)), None);
        for (from, now, paused) in [(0, 1800, 1500), (1000, 1800, 710), (1710, 1800, 0)] {
            assert_eq!(
                pulse.paused(ms(from), ms(now)),
                ms(paused),
                "{from} to {now}"
            );
        }
    }
}
