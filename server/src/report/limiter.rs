//! How often errors are reported: the same one once a minute and ten times an hour, and so many an hour in all.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Between two reports of the same error.
const BETWEEN: Duration = Duration::from_secs(60);

/// The most reports in [`HOUR`].
const MOST: usize = 60;

/// The most of one place: one that fails all the time leaves room for the others.
const MOST_OF_ONE: usize = 10;

const HOUR: Duration = Duration::from_secs(3600);

/// Where an error is in the program: errors of one place are the same.
pub(super) type Place = (String, u32);

/// What was reported within the last hour.
#[derive(Default)]
pub(super) struct Limiter(VecDeque<(Instant, Place)>);

impl Limiter {
    /// Counts a report; else why there is to be none.
    pub(super) fn admit(&mut self, place: &Place, now: Instant) -> Result<(), &'static str> {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= HOUR;
        while self.0.front().is_some_and(|(at, _)| is_old(at)) {
            self.0.pop_front();
        }
        let is_recent = |at: Instant| now.saturating_duration_since(at) < BETWEEN;
        let same = self
            .0
            .iter()
            .rev()
            .filter(|(_, reported)| reported == place);
        let mut times = same.map(|(at, _)| *at);
        if times.next().is_some_and(is_recent) || times.count() + 1 >= MOST_OF_ONE {
            return Err("repeated");
        }
        if self.0.len() >= MOST {
            return Err("hourly_limit");
        }
        self.0.push_back((now, place.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fails_all_the_time_leaves_room_for_others() {
        let mut limiter = Limiter::default();
        let begun = Instant::now();
        let place = |line| ("a.rs".to_owned(), line);
        let mut admit = |line, minutes| limiter.admit(&place(line), begun + minutes * BETWEEN);
        for minute in 0..10 {
            assert_eq!(admit(1, minute), Ok(()), "{minute}");
        }
        assert_eq!(admit(1, 10), Err("repeated"));
        assert_eq!(admit(2, 10), Ok(()));
        assert_eq!(admit(1, 59), Err("repeated"));
        assert_eq!(admit(1, 60), Ok(()));
    }

    #[test]
    fn the_same_once_a_minute_and_all_sixty_times_an_hour() {
        let mut limiter = Limiter::default();
        let begun = Instant::now();
        let place = |line| ("a.rs".to_owned(), line);
        let mut admit =
            |line, seconds| limiter.admit(&place(line), begun + Duration::from_secs(seconds));
        assert_eq!(admit(1, 0), Ok(()));
        assert_eq!(admit(1, 59), Err("repeated"));
        assert_eq!(admit(2, 59), Ok(()));
        assert_eq!(admit(1, 60), Ok(()));
        for line in 3..60 {
            assert_eq!(admit(line, 61), Ok(()), "{line}");
        }
        assert_eq!(admit(99, 62), Err("hourly_limit"));
        assert_eq!(admit(99, 3599), Err("hourly_limit"));
        assert_eq!(admit(99, 3600), Ok(()));
        assert_eq!(admit(98, 3601), Err("hourly_limit"));
    }
}
