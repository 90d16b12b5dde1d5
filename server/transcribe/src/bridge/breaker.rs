//! The circuit breaker of a provider: a pure state machine, which is told the time.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// It opens after so many failures in a row,
const ROW: u32 = 5;
/// or after so many failures
const FAILURES: usize = 10;
/// of the last so many opens
const OPENS: usize = 20;
/// within this time.
const WINDOW: Duration = Duration::from_secs(30);
/// It stays open for so long at first, and twice as long after each probe that fails,
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long others wait while a probe is under way, before they ask again.
const PROBING: Duration = Duration::from_secs(1);

/// See [`breaker`](self).
pub(super) struct Breaker {
    /// Until when nobody may try; `None`: closed.
    open_until: Option<Instant>,
    is_probing: bool,
    pause: Duration,
    failures_in_a_row: u32,
    /// The last opens, and whether each failed.
    opens: VecDeque<(Instant, bool)>,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            open_until: None,
            is_probing: false,
            pause: FIRST_PAUSE,
            failures_in_a_row: 0,
            opens: VecDeque::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// How many failures are left until it opens; at least 1.
    pub(super) fn failures_left(&self) -> u32 {
        ROW.saturating_sub(self.failures_in_a_row).max(1)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failures_in_a_row > 0
    }

    /// Whether somebody may try to open a stream now; if not, when to ask again. Who may must say what came of it.
    pub(super) fn ask(&mut self, now: Instant) -> Result<(), Instant> {
        match self.open_until {
            None => Ok(()),
            Some(until) if now < until => Err(until),
            Some(_) if self.is_probing => Err(now + PROBING),
            Some(_) => {
                self.is_probing = true;
                Ok(())
            }
        }
    }

    pub(super) fn succeeded(&mut self, now: Instant) {
        if self.is_open() {
            *self = Self::new();
        }
        self.failures_in_a_row = 0;
        self.remember(now, false);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        if self.is_open() {
            // Others than the probe had begun before it opened.
            if self.is_probing {
                self.is_probing = false;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.open_until = Some(now + self.pause);
            }
            return;
        }
        self.failures_in_a_row += 1;
        self.remember(now, true);
        let failures = self.opens.iter().filter(|(_, failed)| *failed).count();
        if self.failures_in_a_row >= ROW || failures >= FAILURES {
            self.trip(now);
        }
    }

    /// Opens it: there is no sense in trying.
    pub(super) fn trip(&mut self, now: Instant) {
        if self.is_open() {
            self.failed(now);
        } else {
            self.open_until = Some(now + self.pause);
        }
    }

    /// Nobody knows what came of an attempt.
    pub(super) fn gave_up(&mut self) {
        self.is_probing = false;
    }

    fn remember(&mut self, now: Instant, failed: bool) {
        while self
            .opens
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
            || self.opens.len() >= OPENS
        {
            self.opens.pop_front();
        }
        self.opens.push_back((now, failed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..4 {
            assert_eq!(breaker.ask(now), Ok(()));
            breaker.failed(now);
        }
        assert_eq!(breaker.failures_left(), 1);
        breaker.succeeded(now);
        for _ in 0..5 {
            assert_eq!(breaker.ask(now), Ok(()));
            breaker.failed(now);
        }
        assert_eq!(breaker.ask(now), Err(now + seconds(10)));
    }

    #[test]
    fn ten_failures_of_twenty_open_it_if_they_are_near_each_other() {
        for (apart, opens) in [(seconds(1), true), (seconds(4), false)] {
            let (mut breaker, mut now) = (Breaker::new(), Instant::now());
            for _ in 0..10 {
                breaker.succeeded(now);
                now += apart / 2;
                breaker.failed(now);
                now += apart / 2;
            }
            assert_eq!(breaker.is_open(), opens, "{apart:?}");
        }
    }

    #[test]
    fn one_probe_at_a_time_and_longer_pauses_each_time() {
        let (mut breaker, mut now) = (Breaker::new(), Instant::now());
        breaker.trip(now);
        for pause in [10, 20, 40, 60, 60] {
            assert_eq!(breaker.ask(now), Err(now + seconds(pause)));
            breaker.failed(now);
            assert_eq!(
                breaker.ask(now),
                Err(now + seconds(pause)),
                "who comes late does not count"
            );
            now += seconds(pause);
            assert_eq!(breaker.ask(now), Ok(()));
            assert_eq!(breaker.ask(now), Err(now + PROBING), "one probe");
            breaker.failed(now);
        }
        now += seconds(60);
        assert_eq!(breaker.ask(now), Ok(()));
        breaker.gave_up();
        assert_eq!(breaker.ask(now), Ok(()), "the next one is the probe");
        breaker.succeeded(now);
        assert_eq!(breaker.ask(now), Ok(()));
        breaker.trip(now);
        assert_eq!(
            breaker.ask(now),
            Err(now + seconds(10)),
            "the pause begins anew"
        );
    }
}
