//! The server's CPU, memory and files, from its metrics once a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record;

mod transcribing;

pub use transcribing::Transcribing;

/// Other numbers of bytes, seconds or files are ignored.
const POSSIBLE: std::ops::RangeInclusive<f64> = 0.0..=1e15;

/// One reading of the server's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Since the start of the run.
    pub at: Duration,
    pub cpu_seconds: f64,
    pub rss_bytes: u64,
    pub fds: u64,
    /// The limit of open files.
    pub max_fds: Option<u64>,
    /// `None`: it does not transcribe.
    #[serde(default)]
    pub transcribing: Option<Transcribing>,
}

impl Reading {
    /// Reads the Prometheus text format
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>). `None`: the memory is not there.
    pub fn parse(text: &str, at: Duration) -> Option<Self> {
        let rss = value(text, "process_resident_memory_bytes")?;
        Some(Self {
            at,
            cpu_seconds: value(text, "process_cpu_seconds_total").unwrap_or(0.0),
            rss_bytes: whole(rss),
            fds: value(text, "process_open_fds").map_or(0, whole),
            max_fds: value(text, "process_max_fds").map(whole),
            transcribing: Transcribing::parse(text),
        })
    }
}

impl Reading {
    /// Of two servers together. Limits of open files do not add up.
    pub fn beside(self, other: Self) -> Self {
        let transcribing = match (self.transcribing, other.transcribing) {
            (Some(a), Some(b)) => Some(a.both(b, u64::saturating_add, |a, b| a + b)),
            (a, b) => a.or(b),
        };
        Self {
            at: self.at.max(other.at),
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            rss_bytes: self.rss_bytes + other.rss_bytes,
            fds: self.fds + other.fds,
            max_fds: None,
            transcribing,
        }
    }
}

/// The value of the first sample of a metric.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.split_once('}')?.1,
            None => rest.strip_prefix([' ', '\t'])?,
        };
        value
            .split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
            .filter(|value| POSSIBLE.contains(value))
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates"
)]
pub fn whole(value: f64) -> u64 {
    value as u64
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServerUse {
    first: Option<Reading>,
    last: Option<Reading>,
    readings: u64,
    cpu_seconds: f64,
    rss_peak_bytes: u64,
    fds_peak: u64,
    #[serde(default)]
    transcribing: Option<Transcribing>,
}

impl ServerUse {
    /// Adds a reading. Returns the CPU since the last one, in percent of a core.
    pub fn add(&mut self, reading: Reading) -> Option<f64> {
        self.first.get_or_insert(reading);
        let before = self.last.replace(reading);
        if before.is_none_or(|before| before.at != reading.at) {
            self.readings += 1;
        }
        self.rss_peak_bytes = self.rss_peak_bytes.max(reading.rss_bytes);
        self.fds_peak = self.fds_peak.max(reading.fds);
        if let Some(now) = reading.transcribing {
            let of_run = self.transcribing.get_or_insert_default();
            of_run.add(before.and_then(|before| before.transcribing), now);
        }
        let before = before?;
        let seconds = reading.at.saturating_sub(before.at).as_secs_f64();
        // A restarted server counts from zero.
        let cpu = (reading.cpu_seconds - before.cpu_seconds).max(0.0);
        self.cpu_seconds += cpu;
        (seconds > 0.0).then(|| cpu * 100.0 / seconds)
    }

    /// Adds what another shard read of the same server.
    pub fn merge_same(&mut self, other: &Self) {
        self.readings = self.readings.max(other.readings);
        self.merge(other, |a, b| a.max(b), f64::max);
    }

    /// Adds another server. Peaks are added as if they were at the same time, so that the sum is never too small.
    pub fn merge_other(&mut self, other: &Self) {
        self.readings += other.readings;
        self.merge(other, u64::saturating_add, |a, b| a + b);
    }

    fn merge(&mut self, other: &Self, whole: fn(u64, u64) -> u64, fraction: fn(f64, f64) -> f64) {
        let transcribing =
            |mine: Option<Transcribing>, theirs: Option<Transcribing>| match (mine, theirs) {
                (Some(a), Some(b)) => Some(a.both(b, whole, fraction)),
                (a, b) => a.or(b),
            };
        let both = |mine: Option<Reading>, theirs: Option<Reading>, at: fn(_, _) -> Duration| match (
            mine, theirs,
        ) {
            (Some(a), Some(b)) => Some(Reading {
                at: at(a.at, b.at),
                cpu_seconds: fraction(a.cpu_seconds, b.cpu_seconds),
                rss_bytes: whole(a.rss_bytes, b.rss_bytes),
                fds: whole(a.fds, b.fds),
                max_fds: a.max_fds.zip(b.max_fds).map(|(a, b)| whole(a, b)),
                transcribing: transcribing(a.transcribing, b.transcribing),
            }),
            (a, b) => a.or(b),
        };
        self.first = both(self.first, other.first, Duration::min);
        self.last = both(self.last, other.last, Duration::max);
        self.cpu_seconds = fraction(self.cpu_seconds, other.cpu_seconds);
        self.rss_peak_bytes = whole(self.rss_peak_bytes, other.rss_peak_bytes);
        self.fds_peak = whole(self.fds_peak, other.fds_peak);
        self.transcribing = transcribing(self.transcribing, other.transcribing);
    }

    /// The server's limit of open files, if its metrics have it.
    pub fn max_fds(&self) -> Option<u64> {
        self.last?.max_fds
    }

    /// `None`: it was never read.
    pub fn to_record(&self) -> Option<record::Server> {
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
            transcription: self.transcribing.map(Transcribing::to_record),
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
        let fractions = readings.map(|(second, cpu_seconds, rss_bytes)| {
            server.add(Reading {
                at: Duration::from_secs(second),
                cpu_seconds,
                rss_bytes,
                fds: 7,
                max_fds: None,
                transcribing: None,
            })
        });
        assert_eq!(fractions, [None, Some(50.0), None, Some(50.0)]);
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

    const TEXT: &str = "# HELP process_open_fds Open file descriptors.\n\
        # TYPE process_open_fds gauge\n\
        process_open_fds 12\n\
        process_open_fds_max 99\n\
        process_max_fds 20000\n\
        process_cpu_seconds_total 1.5\n\
        transcribe_queue_length 7\n\
        process_resident_memory_bytes{host=\"a b\"} 4.5e+07 1700000000\n";

    #[test]
    fn prometheus_text_is_read() {
        let at = Duration::from_secs(1);
        let reading = Reading {
            at,
            cpu_seconds: 1.5,
            rss_bytes: 45_000_000,
            fds: 12,
            max_fds: Some(20_000),
            transcribing: Some(Transcribing {
                queue: 7,
                ..Transcribing::default()
            }),
        };
        assert_eq!(Reading::parse(TEXT, at), Some(reading));
        for bad in [
            "",
            "process_resident_memory_bytes",
            "process_resident_memory_bytes x",
            "process_resident_memory_bytes -1",
            "process_resident_memory_bytes 1e308",
            "process_resident_memory_bytes NaN",
            "{}",
        ] {
            assert_eq!(Reading::parse(bad, at), None, "{bad}");
        }
    }
}
