//! What the writer counts.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Why a record is in no database and no file: a value of the label `reason`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dropped {
    /// Neither the database nor the spill had room.
    Full,
    /// It came after the end, or was left over there.
    Closed,
    /// The database refuses it, and `rejected.jsonl` does not take it.
    Rejected,
    /// What it belongs to has been deleted.
    Deleted,
    /// Another process numbers the segments of its session now.
    Elsewhere,
}

impl Dropped {
    const ALL: [Self; 5] = [
        Self::Full,
        Self::Closed,
        Self::Rejected,
        Self::Deleted,
        Self::Elsewhere,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Closed => "closed",
            Self::Rejected => "rejected",
            Self::Deleted => "deleted",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// The metrics of the storage. A clone counts in the same place.
#[derive(Clone, Debug)]
pub struct StorageMetrics {
    pub(super) queue_length: IntGauge,
    pub(super) queued: IntCounter,
    pub(super) flushed: IntCounter,
    pub(super) spilled: IntCounter,
    pub(super) flush_errors: IntCounter,
    pub(super) commit_seconds: Histogram,
    pub(super) store_delay_seconds: Histogram,
    pub(super) batch_rows: Histogram,
    pub(super) gathered_batches: IntCounter,
    pub(super) spill_bytes: IntGauge,
    pub(super) lost_segments: IntCounter,
    pub(super) rejected: IntCounter,
    dropped: IntCounterVec,
}

/// Seconds, from what one commit takes on a fast disk to what is a failure.
const SECONDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

const ROWS: [f64; 8] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0];

impl StorageMetrics {
    /// # Errors
    /// Never, as long as the names are valid.
    pub fn new() -> prometheus::Result<Self> {
        let seconds = |name, help| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))
        };
        let rows = HistogramOpts::new("transcribe_batch_rows", "Records in a commit.");
        let dropped = IntCounterVec::new(
            Opts::new(
                "transcribe_records_dropped_total",
                "Records that are in no database and no file, by reason.",
            ),
            &["reason"],
        )?;
        for reason in Dropped::ALL {
            dropped.with_label_values(&[reason.as_str()]);
        }
        Ok(Self {
            queue_length: IntGauge::new(
                "transcribe_queue_length",
                "Records that wait to be written.",
            )?,
            queued: IntCounter::new(
                "transcribe_queued_total",
                "Records handed over to be written.",
            )?,
            flushed: IntCounter::new(
                "transcribe_flushed_total",
                "Records written to the database, replayed ones included.",
            )?,
            spilled: IntCounter::new(
                "transcribe_spilled_total",
                "Records written to the spill file.",
            )?,
            flush_errors: IntCounter::new(
                "transcribe_flush_errors_total",
                "Batches that the database did not take.",
            )?,
            commit_seconds: seconds(
                "transcribe_commit_seconds",
                "Time that the database takes for a batch.",
            )?,
            store_delay_seconds: seconds(
                "transcribe_store_delay_seconds",
                "Time from handing over a record until it is stored, in the database or the spill file.",
            )?,
            batch_rows: Histogram::with_opts(rows.buckets(ROWS.to_vec()))?,
            gathered_batches: IntCounter::new(
                "transcribe_gathered_batches_total",
                "Batches that were written since they were large or old enough: nobody waited for one of their rows.",
            )?,
            spill_bytes: IntGauge::new("transcribe_spill_bytes", "Bytes of the spill file.")?,
            lost_segments: IntCounter::new(
                "transcribe_lost_segments_total",
                "Finals and gaps that are stored nowhere.",
            )?,
            rejected: IntCounter::new(
                "transcribe_records_rejected_total",
                "Records that the database refuses: they are in rejected.jsonl instead.",
            )?,
            dropped,
        })
    }

    /// # Errors
    /// When a name is registered already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 13] = [
            Box::new(self.queue_length.clone()),
            Box::new(self.queued.clone()),
            Box::new(self.flushed.clone()),
            Box::new(self.spilled.clone()),
            Box::new(self.flush_errors.clone()),
            Box::new(self.commit_seconds.clone()),
            Box::new(self.store_delay_seconds.clone()),
            Box::new(self.batch_rows.clone()),
            Box::new(self.gathered_batches.clone()),
            Box::new(self.spill_bytes.clone()),
            Box::new(self.lost_segments.clone()),
            Box::new(self.rejected.clone()),
            Box::new(self.dropped.clone()),
        ];
        all.into_iter().try_for_each(|one| registry.register(one))
    }

    /// The queue's length, and in all: queued, flushed, failed batches.
    #[must_use]
    pub fn queue(&self) -> QueueFigures {
        QueueFigures {
            length: self.queue_length.get(),
            queued: self.queued.get(),
            flushed: self.flushed.get(),
            errors: self.flush_errors.get(),
        }
    }

    pub(super) fn dropped(&self, reason: Dropped) {
        self.dropped.with_label_values(&[reason.as_str()]).inc();
    }
}

/// Figures of the queue: records that wait, and since the start records handed over, records written, batches that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFigures {
    pub length: i64,
    pub queued: u64,
    pub flushed: u64,
    pub errors: u64,
}
