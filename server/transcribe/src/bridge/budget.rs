//! How much audio may be sent to the provider in a day (UTC).

use std::{
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use tracing::warn;

use super::Bridges;
use crate::provider::pcm;

const DAY_SECONDS: u64 = 24 * 3600;

/// See [`budget`](self).
pub(super) struct Budget {
    /// Bytes a day; `None`: as many as there are.
    most: Option<u64>,
    /// Seconds since 1970 when this began, and when that was.
    began: (u64, Instant),
    today: Mutex<Today>,
}

#[derive(Default)]
struct Today {
    day: u64,
    /// What this process has used.
    here: u64,
    /// What all others have used, as far as it is known.
    elsewhere: u64,
    has_warned: bool,
    is_spent: bool,
}

impl Bridges {
    /// Today, in days since 1970. `None`: what is sent in a day is not bounded.
    #[must_use]
    pub fn bounded_day(&self) -> Option<i64> {
        let (day, _) = self.0.budget.used_here(Instant::now())?;
        i64::try_from(day).ok()
    }

    /// Other processes, before this one or beside it, have sent so much audio to their providers on this day.
    pub fn spent_elsewhere(&self, day: i64, audio_ms: i64) {
        let bytes = audio_ms.unsigned_abs().saturating_mul(pcm::BYTES_PER_MS);
        let budget = &self.0.budget;
        budget.spent_elsewhere(day.unsigned_abs(), bytes, Instant::now());
    }

    /// Today, in days since 1970, and the milliseconds of audio that this process has sent to the provider today. `None`:
    /// none, or they are not bounded.
    #[must_use]
    pub fn sent_today(&self) -> Option<(i64, i64)> {
        let (day, bytes) = self.0.budget.used_here(Instant::now())?;
        if bytes == 0 {
            return None;
        }
        let ms = bytes.div_ceil(pcm::BYTES_PER_MS);
        Some((i64::try_from(day).ok()?, i64::try_from(ms).ok()?))
    }
}

impl Today {
    fn used(&self) -> u64 {
        self.here.saturating_add(self.elsewhere)
    }
}

impl Budget {
    pub(super) fn new(seconds_a_day: Option<u64>) -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self::starting(unix, seconds_a_day)
    }

    /// So much of this day's was used by others.
    fn spent_elsewhere(&self, day: u64, bytes: u64, now: Instant) {
        self.with_today(now, |_, today| {
            // It may be over since this was asked for.
            if today.day == day {
                today.elsewhere = today.elsewhere.max(bytes);
            }
            true
        });
    }

    fn starting(unix: u64, seconds_a_day: Option<u64>) -> Self {
        let most = seconds_a_day.map(|seconds| seconds.saturating_mul(pcm::BYTES_PER_SECOND));
        Self {
            most,
            began: (unix, Instant::now()),
            today: Mutex::default(),
        }
    }

    /// Takes so many bytes of today's. `false`: the day has not so many left, and nothing is taken.
    pub(super) fn take(&self, bytes: u64, now: Instant) -> bool {
        self.with_today(now, |most, today| {
            today.is_spent |= today.used().saturating_add(bytes) > most;
            if today.is_spent {
                return false;
            }
            today.here += bytes;
            if today.used() >= most - most / 10 && !today.has_warned {
                today.has_warned = true;
                let (used, most) = (
                    today.used() / pcm::BYTES_PER_SECOND,
                    most / pcm::BYTES_PER_SECOND,
                );
                warn!(
                    used,
                    most, "90 % of the seconds that may be transcribed today are used"
                );
            }
            true
        })
    }

    /// The day, in days since 1970, and how many bytes of it this process has taken. `None`: nobody counts them.
    fn used_here(&self, now: Instant) -> Option<(u64, u64)> {
        let mut used = None;
        self.with_today(now, |_, today| {
            used = Some((today.day, today.here));
            true
        });
        used
    }

    /// Whether today's is gone.
    pub(super) fn is_spent(&self, now: Instant) -> bool {
        !self.with_today(now, |_, today| !today.is_spent)
    }

    fn with_today(&self, now: Instant, then: impl FnOnce(u64, &mut Today) -> bool) -> bool {
        let Some(most) = self.most else { return true };
        let (unix, began) = self.began;
        let day = (unix + now.duration_since(began).as_secs()) / DAY_SECONDS;
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != day {
            *today = Today {
                day,
                ..Today::default()
            };
        }
        then(most, &mut today)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_day_has_so_many_seconds_and_the_next_day_again() {
        // 23:59:00 of some day.
        let budget = Budget::starting(20_000 * DAY_SECONDS - 60, Some(100));
        let now = Instant::now();
        let second = pcm::BYTES_PER_SECOND;
        for _ in 0..100 {
            assert!(budget.take(second, now));
        }
        assert!(!budget.is_spent(now), "the last second may be used");
        assert!(!budget.take(2, now));
        assert!(budget.is_spent(now));
        assert_eq!(budget.used_here(now), Some((19_999, 100 * second)));
        let later = now + Duration::from_secs(59);
        assert!(!budget.take(2, later));
        let tomorrow = now + Duration::from_secs(61);
        assert!(!budget.is_spent(tomorrow));
        assert_eq!(budget.used_here(tomorrow), Some((20_000, 0)));
        assert!(budget.take(second, tomorrow));
        assert_eq!(budget.used_here(tomorrow), Some((20_000, second)));
    }

    #[test]
    fn what_others_use_counts_on_its_day() {
        let budget = Budget::starting(20_000 * DAY_SECONDS - 60, Some(100));
        let (now, second) = (Instant::now(), pcm::BYTES_PER_SECOND);
        budget.spent_elsewhere(19_999, 97 * second, now);
        assert!(budget.take(second, now));
        // It is all that they have used, and not more of it; an older figure is less.
        budget.spent_elsewhere(19_999, 98 * second, now);
        budget.spent_elsewhere(19_999, 97 * second, now);
        assert!(budget.take(second, now));
        assert!(!budget.take(2, now));
        let here = budget.used_here(now);
        assert_eq!(here, Some((19_999, 2 * second)), "of this process alone");

        let tomorrow = now + Duration::from_secs(61);
        budget.spent_elsewhere(19_999, 99 * second, tomorrow);
        assert!(budget.take(second, tomorrow));
        budget.spent_elsewhere(20_000, 99 * second, tomorrow);
        assert!(!budget.take(2, tomorrow));
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let budget = Budget::new(None);
        assert!(budget.take(u64::MAX, Instant::now()));
        assert!(!budget.is_spent(Instant::now()));
    }
}
