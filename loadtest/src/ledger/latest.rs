//! How many messages a user sent in the end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a message, or the news of a user's leaving, may be on its way.
pub(crate) const UNDER_WAY: Duration = Duration::from_secs(1);

/// The latest messages that one user sent in one room, in constant memory: those of the last second, and of
/// up to a second more.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Latest {
    last: Duration,
    /// When the second began that `here` counts.
    since: Duration,
    here: u32,
    before: u32,
}

impl Latest {
    /// Enters a message that is sent at `now`.
    pub(crate) fn sent(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        if passed >= UNDER_WAY {
            self.before = if passed < 2 * UNDER_WAY { self.here } else { 0 };
            (self.here, self.since) = (0, now);
        }
        self.here += 1;
        self.last = now;
    }

    /// Its moments, to be told by another clock.
    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut Duration> {
        [&mut self.last, &mut self.since].into_iter()
    }

    /// Of `missing` messages, none of which was followed by one that was received: how many may have been
    /// under way when the receiver left.
    pub(super) fn under_way(&self, missing: u64, receiver_left: Duration) -> u64 {
        if receiver_left + UNDER_WAY <= self.last {
            // Long gone, and the sender was not told: nothing is known of when each was sent.
            missing
        } else if receiver_left < self.last + UNDER_WAY {
            missing.min(u64::from(self.here) + u64::from(self.before))
        } else {
            0
        }
    }
}
