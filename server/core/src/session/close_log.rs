//! The log of what many users may do at once: sessions that end in an unusual way, blocks and reports. There is a line
//! for each of the first few, and one for all others of that time. When a network is lost, hundreds of users are lost in
//! the same second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use voicematch_protocol::{CloseReason, SessionId};

/// Lines of each kind in each interval.
const LINES: u64 = 10;

/// How often the others are to be summed up.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Counts lines of one kind.
#[derive(Default)]
pub struct Lines(AtomicU64);

impl Lines {
    /// Whether there is room for one more line; else it is counted only.
    pub fn has_room(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) < LINES
    }

    /// How many were counted only, since this was last asked.
    fn rest(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed).saturating_sub(LINES)
    }
}

/// Counts lines by what they say.
#[derive(Default)]
pub struct CloseLog {
    ends: [Lines; CloseReason::ALL.len()],
    pub blocks: Lines,
    pub reports: Lines,
}

impl CloseLog {
    /// Logs the end of a session, or counts it.
    pub fn closed(&self, session: SessionId, reason: CloseReason) {
        if self.ends[reason.index()].has_room() {
            tracing::info!(%session, reason = reason.as_str(), "closed");
        }
    }

    /// Logs how many were counted only. To be called each [`INTERVAL`].
    pub fn sum_up(&self) {
        for (&reason, lines) in CloseReason::ALL.iter().zip(&self.ends) {
            let sessions = lines.rest();
            if sessions > 0 {
                tracing::info!(sessions, reason = reason.as_str(), "closed more");
            }
        }
        let (blocks, reports) = (self.blocks.rest(), self.reports.rest());
        if blocks > 0 {
            tracing::info!(blocks, "blocked more");
        }
        if reports > 0 {
            tracing::info!(reports, "reported more");
        }
    }
}
