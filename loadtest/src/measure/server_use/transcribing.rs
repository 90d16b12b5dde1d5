//! What a server that transcribes says of its storage and its provider.

use serde::{Deserialize, Serialize};

use super::{value, whole};
use crate::record;

/// One reading; or the use of a run, with the peaks of what rises and falls, and the growth of what only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Transcribing {
    /// Segments and answers that wait to be stored.
    pub queue: u64,
    /// The file for the time in which the database is away.
    pub spill_bytes: u64,
    /// Commits of the database, their rows, and the seconds that they took.
    pub commits: u64,
    /// Commits for whose rows nobody waited: finals, and no answer or new session.
    pub gathered: u64,
    pub rows: u64,
    pub commit_seconds: f64,
    pub finals: u64,
    /// Audio that the provider was sent, and bills.
    pub audio_seconds: f64,
    /// Opens that failed, streams that were lost, and messages that mean nothing.
    pub provider_errors: u64,
    /// Chunks that the provider has accepted, and the seconds that this took.
    pub accepted: u64,
    pub accept_seconds: f64,
    /// Batches that the database did not take.
    pub flush_errors: u64,
}

impl Transcribing {
    /// `None`: the server does not transcribe.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = |name| value(text, name).unwrap_or(0.0);
        let count = |name| whole(number(name));
        Some(Self {
            queue: value(text, "transcribe_queue_length").map(whole)?,
            spill_bytes: count("transcribe_spill_bytes"),
            commits: count("transcribe_batch_rows_count"),
            gathered: count("transcribe_gathered_batches_total"),
            rows: count("transcribe_batch_rows_sum"),
            commit_seconds: number("transcribe_commit_seconds_sum"),
            finals: count("transcribe_finals_total"),
            audio_seconds: number("transcribe_audio_seconds_total"),
            provider_errors: count("transcribe_provider_errors_total"),
            accepted: count("transcribe_provider_latency_seconds_count"),
            accept_seconds: number("transcribe_provider_latency_seconds_sum"),
            flush_errors: count("transcribe_flush_errors_total"),
        })
    }

    /// Adds a reading to the use of a run. `before`: the one before it; `None`: it is the first.
    pub(super) fn add(&mut self, before: Option<Self>, now: Self) {
        let before = before.unwrap_or(now);
        // A restarted server counts from zero.
        let grown = |from: u64, to: u64| to.checked_sub(from).unwrap_or(to);
        let longer = |from: f64, to: f64| if to < from { to } else { to - from };
        self.queue = self.queue.max(now.queue);
        self.spill_bytes = self.spill_bytes.max(now.spill_bytes);
        self.commits += grown(before.commits, now.commits);
        self.gathered += grown(before.gathered, now.gathered);
        self.rows += grown(before.rows, now.rows);
        self.commit_seconds += longer(before.commit_seconds, now.commit_seconds);
        self.finals += grown(before.finals, now.finals);
        self.audio_seconds += longer(before.audio_seconds, now.audio_seconds);
        self.provider_errors += grown(before.provider_errors, now.provider_errors);
        self.accepted += grown(before.accepted, now.accepted);
        self.accept_seconds += longer(before.accept_seconds, now.accept_seconds);
        self.flush_errors += grown(before.flush_errors, now.flush_errors);
    }

    /// Two of them, figure by figure.
    pub fn both(self, other: Self, of: fn(u64, u64) -> u64, seconds: fn(f64, f64) -> f64) -> Self {
        Self {
            queue: of(self.queue, other.queue),
            spill_bytes: of(self.spill_bytes, other.spill_bytes),
            commits: of(self.commits, other.commits),
            gathered: of(self.gathered, other.gathered),
            rows: of(self.rows, other.rows),
            commit_seconds: seconds(self.commit_seconds, other.commit_seconds),
            finals: of(self.finals, other.finals),
            audio_seconds: seconds(self.audio_seconds, other.audio_seconds),
            provider_errors: of(self.provider_errors, other.provider_errors),
            accepted: of(self.accepted, other.accepted),
            accept_seconds: seconds(self.accept_seconds, other.accept_seconds),
            flush_errors: of(self.flush_errors, other.flush_errors),
        }
    }

    pub(super) fn to_record(self) -> record::ServerTranscription {
        let ratio = |part: f64, whole: u64| {
            let ratio = (whole > 0).then(|| part / whole as f64);
            ratio.map(record::digits)
        };
        record::ServerTranscription {
            queue_peak: self.queue,
            spill_peak_bytes: self.spill_bytes,
            commits: self.commits,
            rows_per_commit: ratio(self.rows as f64, self.commits),
            commit_mean_ms: ratio(self.commit_seconds * 1e3, self.commits),
            finals: self.finals,
            commits_per_1000_finals: ratio(self.gathered as f64 * 1e3, self.finals),
            billed_seconds: record::digits(self.audio_seconds),
            provider_errors: self.provider_errors,
            provider_mean_ms: ratio(self.accept_seconds * 1e3, self.accepted),
            flush_errors: self.flush_errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_uses_what_came_after_its_first_reading_also_of_a_server_that_was_restarted() {
        let reading = |commits, finals, queue| Transcribing {
            queue,
            commits,
            gathered: commits / 2,
            rows: commits * 50,
            commit_seconds: commits as f64 * 0.002,
            finals,
            audio_seconds: finals as f64 * 2.0,
            accepted: finals * 20,
            accept_seconds: finals as f64 * 0.5,
            flush_errors: commits,
            ..Transcribing::default()
        };
        let readings = [
            reading(1_000, 5_000, 1),
            reading(1_006, 5_400, 90),
            reading(4, 100, 3),
        ];
        let (mut all, mut before) = (Transcribing::default(), None);
        for now in readings {
            all.add(before.replace(now), now);
        }
        let seen = all.to_record();
        assert_eq!((seen.commits, seen.finals, seen.queue_peak), (10, 500, 90));
        // 3 and 2 of them: half of what was grown, and of what was begun anew.
        assert_eq!(seen.commits_per_1000_finals, Some(10.0));
        assert_eq!(seen.rows_per_commit, Some(50.0));
        assert!((seen.billed_seconds - 1_000.0).abs() < 1e-6, "{seen:?}");
        assert_eq!((seen.flush_errors, seen.provider_mean_ms), (10, Some(25.0)));
        assert_eq!(
            Transcribing::default().to_record().commits_per_1000_finals,
            None
        );
    }

    #[test]
    fn a_server_that_does_not_transcribe_says_nothing() {
        assert_eq!(Transcribing::parse("transcribe_finals_total 5\n"), None);
        let text = "transcribe_queue_length 7\ntranscribe_batch_rows_count 2\n\
            transcribe_batch_rows_sum 150\ntranscribe_spill_bytes 12\n\
            transcribe_commit_seconds_sum 0.25\ntranscribe_audio_seconds_total 1.5\n\
            transcribe_finals_total 9\ntranscribe_provider_errors_total 3\ntranscribe_gathered_batches_total 1\n\
            transcribe_provider_latency_seconds_bucket{le=\"0.01\"} 4\ntranscribe_provider_latency_seconds_sum 0.5\n\
            transcribe_provider_latency_seconds_count 5\ntranscribe_flush_errors_total 6\n";
        let read = Transcribing {
            queue: 7,
            spill_bytes: 12,
            commits: 2,
            gathered: 1,
            rows: 150,
            commit_seconds: 0.25,
            finals: 9,
            audio_seconds: 1.5,
            provider_errors: 3,
            accepted: 5,
            accept_seconds: 0.5,
            flush_errors: 6,
        };
        assert_eq!(Transcribing::parse(text), Some(read));
    }
}
