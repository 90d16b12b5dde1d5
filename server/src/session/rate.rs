//! How often a user may speak: a token bucket, kept as the one moment at which it would be full again
//! (the generic cell rate algorithm, ITU-T I.371).

use std::time::{Duration, Instant};

use crate::machine::pause;

/// Messages dropped in a row after which a user is closed, as a multiple of the burst.
const PATIENCE: u32 = 1;

/// The longest pause of the server for which users get the budget: no client keeps more for it.
const MAX_CREDIT: Duration = Duration::from_secs(60);

/// A user's budget of messages.
pub(super) struct Rate {
    /// Zero: no limit.
    cost: Duration,
    capacity: Duration,
    full_at: Instant,
    /// Messages left of the budget for the server's own pauses.
    credit: u32,
    /// Pauses until here are in the credit.
    credited_at: Instant,
    dropped: u32,
    patience: u32,
}

impl Rate {
    /// `per_second` in the long run (0: no limit), `burst` at once.
    pub(super) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let cost = if per_second == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs(1) / per_second
        };
        let burst = burst.max(1);
        Self {
            cost,
            capacity: cost * burst,
            full_at: now,
            credit: 0,
            credited_at: now,
            dropped: 0,
            patience: burst.saturating_mul(PATIENCE),
        }
    }

    /// Takes one message from the budget, if it is there.
    #[inline]
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        if self.cost.is_zero() {
            return true;
        }
        let full_at = self.full_at.max(now) + self.cost;
        if full_at - now > self.capacity {
            return self.takes_credit();
        }
        if self.full_at <= now {
            self.dropped = 0;
        }
        self.full_at = full_at;
        true
    }

    /// Takes one message from the budget of the time in which the server did not listen, if there is some.
    #[cold]
    fn takes_credit(&mut self) -> bool {
        if let Some(pause) = pause::since(self.credited_at) {
            self.credited_at = pause.end;
            let messages = pause.length.min(MAX_CREDIT).as_nanos() / self.cost.as_nanos();
            self.credit = u32::try_from(messages).unwrap_or(u32::MAX);
        }
        if self.credit > 0 {
            self.credit -= 1;
            return true;
        }
        self.dropped += 1;
        false
    }

    /// Whether the user goes on in spite of the warnings.
    pub(super) fn goes_on(&self) -> bool {
        self.dropped > self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(10, 5, start);
        assert_eq!((0..20).filter(|_| rate.allows(start)).count(), 5);
        let later = start + Duration::from_secs(10);
        assert_eq!((0..20).filter(|_| rate.allows(later)).count(), 5);
        let steady = (1..=50)
            .filter(|i| rate.allows(later + Duration::from_millis(100 * i)))
            .count();
        assert_eq!(steady, 50);
    }

    #[test]
    fn a_user_who_listens_is_forgiven_and_one_who_goes_on_is_not() {
        let start = Instant::now();
        let mut rate = Rate::new(10, 5, start);
        for _ in 0..10 {
            rate.allows(start);
        }
        assert!(!rate.goes_on());
        rate.allows(start + Duration::from_secs(2));
        for _ in 0..11 {
            rate.allows(start + Duration::from_secs(2));
        }
        assert!(rate.goes_on());
    }

    #[test]
    fn zero_is_no_limit() {
        let start = Instant::now();
        let mut rate = Rate::new(0, 0, start);
        assert!((0..10_000).all(|_| rate.allows(start)));
    }
}
