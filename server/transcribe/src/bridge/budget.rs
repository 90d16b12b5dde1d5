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
    used: u64,
    /// Of these, what this process has used.
    here: u64,
    has_warned: bool,
    is_spent: bool,
}

impl Bridges {
    /// Counts audio that was sent to the provider today by a process before this one.
    pub fn spent_today(&self, audio_ms: u64) {
        let bytes = audio_ms.saturating_mul(pcm::BYTES_PER_MS);
        self.0.budget.spent(bytes);
    }

    /// Today, in days since 1970, and the milliseconds of audio that this process has sent to the provider today. `None`:
    /// none, or they are not bounded.
    #[must_use]
    pub fn sent_today(&self) -> Option<(i64, i64)> {
        let (day, bytes) = self.0.budget.used_here(Instant::now())?;
        let ms = bytes.div_ceil(pcm::BYTES_PER_MS);
        Some((i64::try_from(day).ok()?, i64::try_from(ms).ok()?))
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

    /// So much of today's was used before this process began.
    pub(super) fn spent(&self, bytes: u64) {
        self.with_today(Instant::now(), |_, today| {
            today.used += bytes;
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
            today.is_spent |= today.used + bytes > most;
            if today.is_spent {
                return false;
            }
            today.used += bytes;
            today.here += bytes;
            if today.used >= most - most / 10 && !today.has_warned {
                today.has_warned = true;
                let (used, most) = (
                    today.used / pcm::BYTES_PER_SECOND,
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

    /// The day, in days since 1970, and how many bytes of it this process has taken. `None`: none, or nobody counts them.
    fn used_here(&self, now: Instant) -> Option<(u64, u64)> {
        let mut used = None;
        self.with_today(now, |_, today| {
            used = Some((today.day, today.here));
            true
        });
        used.filter(|(_, bytes)| *bytes > 0)
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
        assert_eq!(budget.used_here(tomorrow), None);
        assert!(budget.take(second, tomorrow));
        assert_eq!(budget.used_here(tomorrow), Some((20_000, second)));
    }

    #[test]
    fn what_was_used_before_a_restart_counts() {
        let budget = Budget::new(Some(100));
        let now = Instant::now();
        budget.spent(99 * pcm::BYTES_PER_SECOND);
        assert!(budget.take(pcm::BYTES_PER_SECOND, now));
        assert!(!budget.take(2, now));
        let (_, here) = budget.used_here(now).unwrap_or_default();
        assert_eq!(here, pcm::BYTES_PER_SECOND, "of this process alone");
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let budget = Budget::new(None);
        assert!(budget.take(u64::MAX, Instant::now()));
        assert!(!budget.is_spent(Instant::now()));
    }
}
