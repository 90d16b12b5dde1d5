//! The log of sessions that ended in an unusual way: a line for each of the first few, and one for all others
//! of that time. When a network is lost, hundreds of users are lost in the same second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use voicematch_protocol::{CloseReason, SessionId};

/// Lines for each reason in each interval.
const LINES: u64 = 10;

/// How often the others are to be summed up.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Counts ends by reason.
#[derive(Default)]
pub struct CloseLog([AtomicU64; CloseReason::ALL.len()]);

impl CloseLog {
    /// Logs the end of a session, or counts it.
    pub fn closed(&self, session: SessionId, reason: CloseReason) {
        if self.0[reason.index()].fetch_add(1, Ordering::Relaxed) < LINES {
            tracing::info!(%session, reason = reason.as_str(), "closed");
        }
    }

    /// Logs how many were counted only. To be called each [`INTERVAL`].
    pub fn sum_up(&self) {
        for (&reason, count) in CloseReason::ALL.iter().zip(&self.0) {
            let sessions = count.swap(0, Ordering::Relaxed).saturating_sub(LINES);
            if sessions > 0 {
                tracing::info!(sessions, reason = reason.as_str(), "closed more");
            }
        }
    }
}
