//! Calls: requests with an answer, counted by name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::histogram::dense::Latencies;

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct CallCounts {
    pub sent: u64,
    pub answered: u64,
    pub timed_out: u64,
    pub wrong: u64,
    /// There was no connection, or it broke.
    #[serde(default)]
    pub failed: u64,
    /// From the moment due.
    pub latency: Latencies,
    /// From the moment of sending. Calls without an answer count as long as they waited.
    pub as_sent: Latencies,
}

impl CallCounts {
    /// Answered, rightly or wrongly, or given up.
    pub fn ended(&self) -> u64 {
        self.answered + self.timed_out + self.wrong + self.failed
    }

    /// Records how long a call took, from the moment due and from the moment of sending.
    pub fn took(&mut self, latency: Duration, as_sent: Duration) {
        self.latency.record(latency);
        self.as_sent.record(as_sent);
    }

    pub fn merge(&mut self, other: &Self) {
        let Self {
            sent,
            answered,
            timed_out,
            wrong,
            failed,
            latency,
            as_sent,
        } = other;
        self.sent += sent;
        self.answered += answered;
        self.timed_out += timed_out;
        self.wrong += wrong;
        self.failed += failed;
        self.latency.merge(latency);
        self.as_sent.merge(as_sent);
    }
}
