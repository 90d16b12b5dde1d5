//! How many messages a user sent in the end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long the news of a user's leaving, or a message that nobody waits longer for, may be on its way.
pub const UNDER_WAY: Duration = Duration::from_secs(1);

/// Parts of the time that a message may be on its way.
const PARTS: u32 = 4;
/// Parts that are counted: a message of the time before the receiver left, and as long again until the sender
/// was reported.
const COUNTED: usize = 2 * PARTS as usize + 1;

/// The latest messages that one user sent in one room, in constant memory: those of twice the time that one
/// may be on its way, to a quarter of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
pub struct Latest {
    /// How long a message may take.
    timeout: Duration,
    last: Duration,
    /// When the part began that is counted first.
    since: Duration,
    /// The latest part first.
    counts: [u32; COUNTED],
}

impl Default for Latest {
    fn default() -> Self {
        Self::new(UNDER_WAY)
    }
}

impl Latest {
    /// `timeout`: how long a message may take.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            last: Duration::ZERO,
            since: Duration::ZERO,
            counts: [0; COUNTED],
        }
    }

    /// Enters a message that is sent at `now`.
    pub fn sent(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        let parts = passed.as_nanos() / self.part().as_nanos().max(1);
        if parts > 0 {
            let gone = usize::try_from(parts).map_or(COUNTED, |parts| parts.min(COUNTED));
            self.counts.rotate_right(gone);
            self.counts[..gone].fill(0);
            self.since = now.saturating_sub(self.rest_of_part(passed));
        }
        self.counts[0] = self.counts[0].saturating_add(1);
        self.last = now;
    }

    /// Its moments, to be told by another clock.
    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut Duration> {
        [&mut self.last, &mut self.since].into_iter()
    }

    /// Of `missing` messages, none of which was followed by one that was received: how many may have been
    /// under way when the receiver left.
    pub(super) fn under_way(&self, missing: u64, receiver_left: Duration) -> u64 {
        if receiver_left.saturating_add(self.way()) <= self.last {
            // Long gone, and the sender was not reported: nothing is known of when each was sent.
            return missing;
        }
        missing.min(self.sent_after(receiver_left, self.way()))
    }

    /// Of the same, how many were sent so short a time before `end` that they may still have come in time.
    pub(super) fn in_time(&self, missing: u64, end: Duration) -> u64 {
        missing.min(self.sent_after(end, self.timeout))
    }

    /// How long a message or the news of a leaving may be on its way.
    fn way(&self) -> Duration {
        self.timeout.max(UNDER_WAY)
    }

    /// How long the news that the partner left may take: at least twice what is common.
    pub(super) fn news(&self) -> Duration {
        self.way().saturating_mul(2)
    }

    fn part(&self) -> Duration {
        self.way() / PARTS
    }

    /// How far `passed` reaches into the last of its parts.
    fn rest_of_part(&self, passed: Duration) -> Duration {
        let nanos = passed.as_nanos() % self.part().as_nanos().max(1);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// Messages that were sent less than `time` before `end`, or a part of the way earlier, or later.
    fn sent_after(&self, end: Duration, time: Duration) -> u64 {
        if self.last.saturating_add(time) <= end {
            return 0;
        }
        let (from, part) = (end.saturating_sub(time), self.part());
        // Each part is over when the one after it began.
        let began = |n| self.since.saturating_sub(part.saturating_mul(n));
        let over = (0..).map(|n| began(n).saturating_add(part));
        let counted = self.counts.iter().zip(over);
        let late = counted.take_while(|(_, over)| *over > from);
        late.map(|(count, _)| u64::from(*count)).sum()
    }
}
