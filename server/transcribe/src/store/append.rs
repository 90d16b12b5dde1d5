//! What the database is asked to do, with whatever rows it refuses left out.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::spawn_blocking;

use super::metrics::{Dropped, StorageMetrics};
use super::rejected::RejectedFile;
use super::spill::Spill;
use super::writer::StartError;
use super::{Old, Store, StoreError};
use crate::record::Record;

/// The most records of a commit: with more, one takes longer than 20 ms.
pub(super) const MOST: usize = 1_000;

/// The most rows that are deleted at once.
const EXPIRED_MOST: u32 = 1_000;

/// What has been done.
#[derive(Default)]
pub(super) struct Report {
    /// Places in the batch of rows that are refused, each with the database's sentence.
    pub(super) rejected: Vec<(usize, String)>,
    /// Places of rows whose owner is not there.
    pub(super) orphans: Vec<usize>,
    /// Rows deleted, since they had expired.
    pub(super) expired: u64,
}

impl Report {
    /// Counts what has become of a batch of so many records. Refused ones are counted by [`keep_rejected`].
    pub(super) fn count(&self, records: usize, metrics: &StorageMetrics) {
        let left_out = self.rejected.len() + self.orphans.len();
        metrics
            .flushed
            .inc_by(records.saturating_sub(left_out) as u64);
        for _ in &self.orphans {
            metrics.dropped(Dropped::Deleted);
        }
    }
}

/// Writes a batch. If the database refuses a row it is halved, again and again, until that row is alone.
pub(super) async fn append(
    store: &dyn Store,
    records: &[Record],
    metrics: &StorageMetrics,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let mut todo = vec![(0, records.len())];
    while let Some((start, end)) = todo.pop() {
        let started = Instant::now();
        match store.append(&records[start..end]).await {
            Ok(orphans) => {
                metrics
                    .commit_seconds
                    .observe(started.elapsed().as_secs_f64());
                metrics.batch_rows.observe((end - start) as f64);
                let orphans = orphans.into_iter().map(|place| start + place);
                report.orphans.extend(orphans);
            }
            Err(StoreError::Rejected(why)) if (end - start) <= 1 => {
                report.rejected.push((start, why));
            }
            Err(StoreError::Rejected(_)) => {
                let middle = start + (end - start) / 2;
                todo.push((middle, end));
                todo.push((start, middle));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// Deletes some of what is kept for no longer than `retention`, and what never ended for no longer than `unused`.
pub(super) async fn expire(
    store: &dyn Store,
    rejected: &RejectedFile,
    retention: Duration,
    unused: Duration,
) -> Result<Report, StoreError> {
    let ago = |time| {
        let at = SystemTime::now().checked_sub(time);
        let since_epoch = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        i64::try_from(since_epoch.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
    };
    let old = Old {
        ended_before: ago(retention),
        unused_since: ago(unused),
    };
    let expired = store.expire(old, EXPIRED_MOST).await?;
    if expired == 0 {
        let files = rejected.clone();
        if let Err(error) = blocking(move || files.delete_older_than(retention)).await {
            tracing::warn!(%error, "files with refused rows are not deleted yet");
        }
    }
    Ok(Report {
        expired,
        ..Report::default()
    })
}

/// Puts refused rows into their file. What that does not take is lost.
pub(super) async fn keep_rejected(
    file: &RejectedFile,
    records: &[Record],
    report: &Report,
    metrics: &StorageMetrics,
) {
    let rejected = report.rejected.iter();
    let rows: Vec<_> = rejected
        .map(|(place, why)| (records[*place].clone(), why.clone()))
        .collect();
    let Some((_, why)) = rows.first() else {
        return;
    };
    tracing::error!(rows = rows.len(), error = %why, "the database refuses rows; they go to rejected.jsonl");
    let is_segment = |(record, _): &&(Record, String)| matches!(record, Record::Segment(_));
    let segments = rows.iter().filter(is_segment).count();
    let (file, refused) = (file.clone(), rows.len());
    match blocking(move || file.add(&rows)).await {
        Ok(()) => metrics.rejected.inc_by(refused as u64),
        Err(error) => {
            tracing::error!(%error, "rejected.jsonl takes no rows: they are lost");
            metrics.lost_segments.inc_by(segments as u64);
            for _ in 0..refused {
                metrics.dropped(Dropped::Rejected);
            }
        }
    }
}

/// Writes what an ended process has left in its spill file, and removes the file. The sessions of that process are free.
pub(super) async fn replay_left(
    store: &dyn Store,
    path: PathBuf,
    rejected: &RejectedFile,
    metrics: &StorageMetrics,
) -> Result<(), StartError> {
    let dir = path.clone();
    let io = |error| StartError::Folder(dir.clone(), error);
    let Some(mut spill) = blocking(move || Spill::left(path)).await.map_err(io)? else {
        return Ok(());
    };
    tracing::info!(
        records = spill.waiting(),
        "a process that has ended left records"
    );
    while !spill.is_empty() {
        let (back, chunk) = blocking(move || spill.peek(MOST).map(|chunk| (spill, chunk)))
            .await
            .map_err(io)?;
        let report = append(store, &chunk.records, metrics).await?;
        report.count(chunk.records.len(), metrics);
        keep_rejected(rejected, &chunk.records, &report, metrics).await;
        let count = chunk.records.len() as u64;
        spill = blocking(move || {
            let mut spill = back;
            spill.replayed(chunk.end, count).map(|()| spill)
        })
        .await
        .map_err(io)?;
    }
    store.release(spill.id()).await?;
    blocking(move || spill.remove()).await.map_err(io)
}

/// The work on a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
