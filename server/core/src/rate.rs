//! How often a user may speak: a token bucket, kept as the one moment at which it would be full again
//! (the generic cell rate algorithm, ITU-T I.371).

use std::time::{Duration, Instant};

use crate::pause;

/// Messages dropped in a row after which a user is closed, as a multiple of the burst.
const PATIENCE: u32 = 1;

/// The longest pause of the server for which users get the budget: no client keeps more for it.
const MAX_CREDIT: Duration = Duration::from_secs(60);

/// How many messages users may send: one for all of them, so that a session keeps only its own state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages a second in the long run; 0: no limit.
    pub per_second: u32,
    /// Messages that may come at once.
    pub burst: u32,
    /// Zero: no limit.
    cost: Duration,
    capacity: Duration,
}

impl RateLimit {
    /// `per_second` in the long run (0: no limit), `burst` at once, which is one at least.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let cost = match per_second {
            0 => Duration::ZERO,
            per_second => Duration::from_secs(1) / per_second,
        };
        Self {
            per_second,
            burst,
            cost,
            capacity: cost * burst.max(1),
        }
    }
}

/// A user's budget of messages.
pub(crate) struct Rate {
    full_at: Instant,
    /// Pauses until here are in the credit.
    credited_at: Instant,
    /// Messages left of the budget for the server's own pauses.
    credit: u32,
    dropped: u32,
}

impl Rate {
    /// A full budget.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            full_at: now,
            credited_at: now,
            credit: 0,
            dropped: 0,
        }
    }

    /// Takes one message from the budget, if it is there.
    #[inline]
    pub(crate) fn allows(&mut self, limit: &RateLimit, now: Instant) -> bool {
        if limit.cost.is_zero() {
            return true;
        }
        let full_at = self.full_at.max(now) + limit.cost;
        if full_at - now > limit.capacity {
            return self.takes_credit(limit);
        }
        if self.full_at <= now {
            self.dropped = 0;
        }
        self.full_at = full_at;
        true
    }

    /// Whether one more message would be allowed.
    pub(crate) fn has_room(&self, limit: &RateLimit, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + limit.cost;
        limit.cost.is_zero() || full_at - now <= limit.capacity || self.credit > 0
    }

    /// Takes one message from the budget of the time in which the server did not listen, if there is some.
    #[cold]
    fn takes_credit(&mut self, limit: &RateLimit) -> bool {
        if let Some(pause) = pause::since(self.credited_at) {
            self.credited_at = pause.end;
            let messages = pause.length.min(MAX_CREDIT).as_nanos() / limit.cost.as_nanos();
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
    pub(crate) fn goes_on(&self, limit: &RateLimit) -> bool {
        self.dropped > limit.burst.max(1).saturating_mul(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let (limit, mut rate) = (RateLimit::new(10, 5), Rate::new(start));
        assert_eq!((0..20).filter(|_| rate.allows(&limit, start)).count(), 5);
        let later = start + Duration::from_secs(10);
        assert_eq!((0..20).filter(|_| rate.allows(&limit, later)).count(), 5);
        let steady = (1..=50)
            .filter(|i| rate.allows(&limit, later + Duration::from_millis(100 * i)))
            .count();
        assert_eq!(steady, 50);
    }

    #[test]
    fn a_user_who_listens_is_forgiven_and_one_who_goes_on_is_not() {
        let start = Instant::now();
        let (limit, mut rate) = (RateLimit::new(10, 5), Rate::new(start));
        for _ in 0..10 {
            rate.allows(&limit, start);
        }
        assert!(!rate.goes_on(&limit));
        rate.allows(&limit, start + Duration::from_secs(2));
        for _ in 0..11 {
            rate.allows(&limit, start + Duration::from_secs(2));
        }
        assert!(rate.goes_on(&limit));
    }

    #[test]
    fn zero_is_no_limit() {
        let start = Instant::now();
        let (limit, mut rate) = (RateLimit::new(0, 0), Rate::new(start));
        assert!((0..10_000).all(|_| rate.allows(&limit, start)));
    }
}
