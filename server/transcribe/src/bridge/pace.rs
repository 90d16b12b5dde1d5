//! How fast audio goes to a provider: live audio at once, what has waited at four times real time.

use std::time::Duration;

use tokio::time::Instant;

use crate::provider::pcm;

/// Bytes in a second: four times real time.
const RATE: u64 = 4 * pcm::BYTES_PER_SECOND;
/// So much may go at once: a second of audio, the longest frame.
const BURST: u64 = pcm::BYTES_PER_SECOND;

/// See [`pace`](self).
pub(super) struct Pace {
    /// Bytes that may go; below 0 if a frame was larger than `BURST`.
    credit: i64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            credit: BURST.cast_signed(),
            at: now,
        }
    }

    /// Whether a frame of so many bytes may go now; if not, when. If it may, it counts as sent.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Result<(), Instant> {
        let passed = now.duration_since(self.at);
        let earned = passed.as_micros() * u128::from(RATE) / 1_000_000;
        self.credit = self
            .credit
            .saturating_add(i64::try_from(earned).unwrap_or(i64::MAX))
            .min(BURST.cast_signed());
        self.at = now;
        let needed = bytes.min(BURST).cast_signed();
        if self.credit >= needed {
            self.credit -= bytes.cast_signed();
            return Ok(());
        }
        let missing = (needed - self.credit).unsigned_abs();
        Err(now + Duration::from_micros(missing * 1_000_000 / RATE + 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_audio_goes_at_once_and_a_backlog_at_four_times_its_speed() {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(start), start);
        for _ in 0..100 {
            assert_eq!(pace.take(3200, now), Ok(()));
            now += Duration::from_millis(100);
        }
        let begin = now;
        let mut sent = 0;
        while sent < 10 * pcm::BYTES_PER_SECOND {
            match pace.take(3200, now) {
                Ok(()) => sent += 3200,
                Err(at) => now = at,
            }
        }
        let took = now.duration_since(begin).as_secs_f64();
        assert!(
            (2.2..2.5).contains(&took),
            "10 s of audio, the first at once: {took} s"
        );
    }

    #[test]
    fn a_frame_larger_than_the_burst_goes_too() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.take(100_000, now), Ok(()));
        let at = pace.take(100_000, now).expect_err("it is used up");
        assert_eq!(pace.take(100_000, at), Ok(()));
    }
}
