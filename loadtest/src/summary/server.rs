//! What the server used, from one reading of its metrics a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{observe::Reading, record};

/// What the server used, by its own metrics.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ServerUse {
    first: Option<Reading>,
    last: Option<Reading>,
    readings: u64,
    cpu_seconds: f64,
    rss_peak_bytes: u64,
    fds_peak: u64,
}

impl ServerUse {
    /// Adds a reading, unless it is the last one again, and gives the share of a core since the one before.
    pub(crate) fn add(&mut self, reading: Reading) -> Option<f64> {
        self.first.get_or_insert(reading);
        let before = self.last.replace(reading);
        if before.is_none_or(|before| before.at != reading.at) {
            self.readings += 1;
        }
        self.rss_peak_bytes = self.rss_peak_bytes.max(reading.rss_bytes);
        self.fds_peak = self.fds_peak.max(reading.fds);
        let before = before?;
        let seconds = reading.at.saturating_sub(before.at).as_secs_f64();
        // A server that was started anew counts from zero.
        let cpu = (reading.cpu_seconds - before.cpu_seconds).max(0.0);
        self.cpu_seconds += cpu;
        (seconds > 0.0).then(|| cpu * 100.0 / seconds)
    }

    /// The same server, seen by somebody else.
    pub(crate) fn merge_same(&mut self, other: &Self) {
        self.readings = self.readings.max(other.readings);
        self.merge(other, |a, b| a.max(b), f64::max);
    }

    /// Another server. Peaks add up as if they had come at the same moment, so that the sum is never too small.
    pub(crate) fn merge_other(&mut self, other: &Self) {
        self.readings += other.readings;
        self.merge(other, u64::saturating_add, |a, b| a + b);
    }

    fn merge(&mut self, other: &Self, whole: fn(u64, u64) -> u64, share: fn(f64, f64) -> f64) {
        let both = |mine: Option<Reading>, theirs: Option<Reading>, at: fn(_, _) -> Duration| match (
            mine, theirs,
        ) {
            (Some(a), Some(b)) => Some(Reading {
                at: at(a.at, b.at),
                cpu_seconds: share(a.cpu_seconds, b.cpu_seconds),
                rss_bytes: whole(a.rss_bytes, b.rss_bytes),
                fds: whole(a.fds, b.fds),
                max_fds: a.max_fds.zip(b.max_fds).map(|(a, b)| whole(a, b)),
            }),
            (a, b) => a.or(b),
        };
        self.first = both(self.first, other.first, Duration::min);
        self.last = both(self.last, other.last, Duration::max);
        self.cpu_seconds = share(self.cpu_seconds, other.cpu_seconds);
        self.rss_peak_bytes = whole(self.rss_peak_bytes, other.rss_peak_bytes);
        self.fds_peak = whole(self.fds_peak, other.fds_peak);
    }

    /// As many files as it may have open, if it says so.
    pub(crate) fn max_fds(&self) -> Option<u64> {
        self.last?.max_fds
    }

    /// `None`: it was never read.
    pub(crate) fn to_record(&self) -> Option<record::Server> {
        let (first, last) = (self.first?, self.last?);
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        Some(record::Server {
            readings: self.readings,
            cpu_seconds: record::digits(self.cpu_seconds),
            cpu_percent: if seconds > 0.0 {
                record::digits(self.cpu_seconds * 100.0 / seconds)
            } else {
                0.0
            },
            rss_first_bytes: first.rss_bytes,
            rss_last_bytes: last.rss_bytes,
            rss_peak_bytes: self.rss_peak_bytes,
            fds_peak: self.fds_peak,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_counted_from_the_first_reading_and_memory_by_its_peak() {
        let mut server = ServerUse::default();
        let readings = [
            (0, 10.0, 100),
            (1, 10.5, 300),
            (1, 10.5, 300),
            (2, 11.0, 200),
        ];
        let shares = readings.map(|(second, cpu_seconds, rss_bytes)| {
            server.add(Reading {
                at: Duration::from_secs(second),
                cpu_seconds,
                rss_bytes,
                fds: 7,
                max_fds: None,
            })
        });
        assert_eq!(shares, [None, Some(50.0), None, Some(50.0)]);
        let seen = server.to_record().expect("read");
        assert_eq!(
            (
                seen.readings,
                seen.rss_first_bytes,
                seen.rss_peak_bytes,
                seen.rss_last_bytes
            ),
            (3, 100, 300, 200)
        );
        assert!((seen.cpu_seconds - 1.0).abs() < 1e-9 && (seen.cpu_percent - 50.0).abs() < 1e-9);
    }
}
