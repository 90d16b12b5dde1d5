//! When in the session a provider has heard something: its job counts the audio that it got, without pauses and holes.

use crate::record::{JobPiece, ProviderJob};

/// See [`times`](self).
pub(super) struct Times {
    /// Where pieces begin, in milliseconds of the job and of the session, in the order of the job.
    pieces: Vec<(i64, i64)>,
}

impl Times {
    /// `pieces`: of all jobs of the track, in the order in which they were told.
    pub(super) fn new(job: &ProviderJob, pieces: &[JobPiece]) -> Self {
        let mut known = vec![(0, job.start_ms)];
        for piece in pieces.iter().filter(|piece| piece.job == job.job) {
            let later = known.partition_point(|(job_ms, _)| *job_ms < piece.job_ms);
            known.truncate(later);
            known.push((piece.job_ms, piece.start_ms));
        }
        Self { pieces: known }
    }

    /// From when to when in the session something was said that has these times in the job. What ends where a piece begins was
    /// said before the pause.
    pub(super) fn of(&self, start_ms: i64, end_ms: i64) -> (i64, i64) {
        let start = self.on_piece(start_ms, |begin| begin <= start_ms);
        let end = self.on_piece(end_ms, |begin| begin < end_ms);
        (start, end.max(start))
    }

    fn on_piece(&self, ms: i64, begins_before: impl Fn(i64) -> bool) -> i64 {
        let behind = self
            .pieces
            .partition_point(|(job_ms, _)| begins_before(*job_ms));
        let piece = self.pieces.get(behind.saturating_sub(1));
        let (job_ms, start_ms) = piece.copied().unwrap_or_default();
        start_ms.saturating_add(ms.saturating_sub(job_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RowId;

    fn times(pieces: &[(&str, i64, i64)]) -> Times {
        let job = ProviderJob {
            track_id: RowId(1),
            job: "job".to_owned(),
            start_ms: 7_000,
        };
        let piece = |(number, (job, job_ms, start_ms)): (i64, &(&str, i64, i64))| JobPiece {
            track_id: RowId(1),
            number,
            job: (*job).to_owned(),
            job_ms: *job_ms,
            start_ms: *start_ms,
        };
        let pieces: Vec<_> = (1..).zip(pieces).map(piece).collect();
        Times::new(&job, &pieces)
    }

    #[test]
    fn a_job_without_pauses_runs_with_the_session() {
        let times = times(&[("another", 500, 60_000)]);
        assert_eq!(times.of(0, 1_000), (7_000, 8_000));
        assert_eq!(times.of(3_000, 3_000), (10_000, 10_000));
    }

    #[test]
    fn what_was_said_after_a_pause_was_said_later() {
        let times = times(&[("job", 1_000, 18_000), ("job", 2_000, 30_000)]);
        assert_eq!(times.of(0, 1_000), (7_000, 8_000), "it ends before it");
        assert_eq!(times.of(1_000, 2_000), (18_000, 19_000));
        assert_eq!(times.of(900, 1_100), (7_900, 18_100));
        assert_eq!(times.of(2_500, 3_000), (30_500, 31_000));
    }

    #[test]
    fn what_was_not_accepted_before_a_loss_counts_no_more() {
        let times = times(&[
            ("job", 1_000, 18_000),
            ("job", 3_000, 40_000),
            ("job", 2_000, 25_000),
        ]);
        assert_eq!(times.of(1_500, 2_000), (18_500, 19_000));
        assert_eq!(times.of(3_500, 4_000), (26_500, 27_000));
        let anew = self::times(&[("job", 1_000, 18_000), ("job", 0, 25_000)]);
        assert_eq!(anew.of(0, 2_000), (25_000, 27_000));
    }
}
