//! The records that wait, between those who hand them over and the task that writes them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::metrics::{Dropped, StorageMetrics};
use super::writer::{Left, Outcome, Settings};
use crate::record::Record;

/// How many times [`Settings::queue`] may wait at once, if they come faster than even the spill file takes them.
const BURST: usize = 16;

/// Before the end of the time for closing, what still waits goes to the spill file.
const SPILL_BEFORE_END: Duration = Duration::from_secs(2);

pub(super) struct Queue {
    state: Mutex<State>,
    /// Told when the writer may have something to do.
    pub(super) wake: Notify,
    pub(super) metrics: StorageMetrics,
    settings: Settings,
    /// Records of which it is not known yet what becomes of them.
    open: AtomicU64,
    /// Records that are in the spill file only.
    pub(super) spilled: AtomicU64,
    /// Records that came too late, and that nobody waits for.
    pub(super) late: AtomicU64,
}

#[derive(Default)]
struct State {
    entries: VecDeque<(Record, Ticket)>,
    urgent: usize,
    full: bool,
    closing: Option<Closing>,
}

/// What is known of a record beside its content.
pub(super) struct Ticket {
    written: Instant,
    urgent: bool,
    done: oneshot::Sender<Outcome>,
}

/// Records that are written together. They are shared with the task that waits for the database.
pub(super) struct Batch {
    pub(super) records: Arc<Vec<Record>>,
    pub(super) tickets: Vec<Ticket>,
}

impl Batch {
    /// Whether somebody waits for one of them, so that it was written at once.
    pub(super) fn is_awaited(&self) -> bool {
        urgent(&self.tickets) > 0
    }
}

#[derive(Clone, Copy)]
pub(super) struct Closing {
    pub(super) until: Instant,
    pub(super) spill_at: Instant,
}

/// The queue at a moment.
pub(super) struct Look {
    pub(super) len: usize,
    /// From when on a batch is to be written; `None` if nothing waits.
    pub(super) due: Option<Instant>,
    pub(super) closing: Option<Closing>,
}

impl Queue {
    pub(super) fn new(settings: Settings, metrics: StorageMetrics) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            metrics,
            settings,
            open: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            late: AtomicU64::new(0),
        }
    }

    pub(super) fn push(&self, mut record: Record, urgent: bool) -> oneshot::Receiver<Outcome> {
        record.remove_nul();
        self.metrics.queued.inc();
        self.open.fetch_add(1, Relaxed);
        let (done, receipt) = oneshot::channel();
        let ticket = Ticket {
            written: Instant::now(),
            urgent,
            done,
        };
        let mut state = self.lock();
        if state.closing.is_some() {
            // Who waits for one is told.
            self.late.fetch_add(u64::from(!urgent), Relaxed);
            self.lose(&record, ticket, Dropped::Closed);
            return receipt;
        }
        state.entries.push_back((record, ticket));
        state.urgent += usize::from(urgent);
        self.trim(&mut state);
        let len = state.entries.len();
        drop(state);
        if urgent || len == 1 || len.is_multiple_of(self.settings.batch) {
            self.wake.notify_one();
        }
        receipt
    }

    /// The first records, at most `most`.
    pub(super) fn take(&self, most: usize) -> Batch {
        let mut state = self.lock();
        let count = most.min(state.entries.len());
        let (records, tickets): (Vec<_>, Vec<_>) = state.entries.drain(..count).unzip();
        state.urgent -= urgent(&tickets);
        self.trim(&mut state);
        Batch {
            records: Arc::new(records),
            tickets,
        }
    }

    /// What could not be written is the first again.
    pub(super) fn put_back(&self, batch: Batch) {
        let records = Arc::unwrap_or_clone(batch.records);
        let mut state = self.lock();
        state.urgent += urgent(&batch.tickets);
        for entry in records.into_iter().zip(batch.tickets).rev() {
            state.entries.push_front(entry);
        }
        self.trim(&mut state);
    }

    /// With nowhere to write to, only the latest records are kept.
    pub(super) fn set_full(&self, full: bool) {
        let mut state = self.lock();
        state.full = full;
        self.trim(&mut state);
    }

    pub(super) fn look(&self) -> Look {
        let state = self.lock();
        let first = state.entries.front();
        let at_once = state.urgent > 0
            || state.entries.len() >= self.settings.batch
            || state.closing.is_some();
        let due = first.map(|(_, ticket)| {
            if at_once {
                ticket.written
            } else {
                ticket.written + self.settings.flush_interval
            }
        });
        Look {
            len: state.entries.len(),
            due,
            closing: state.closing,
        }
    }

    /// Takes no more records. The first call counts.
    pub(super) fn close(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let mut state = self.lock();
        state.closing.get_or_insert(Closing {
            until,
            spill_at: until - SPILL_BEFORE_END.min(left / 2),
        });
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn lose_all(&self, batch: Batch, why: Dropped) {
        for (record, ticket) in batch.records.iter().zip(batch.tickets) {
            self.lose(record, ticket, why);
        }
    }

    fn lose(&self, record: &Record, ticket: Ticket, why: Dropped) {
        self.metrics.dropped(why);
        if matches!(record, Record::Segment(_)) {
            self.metrics.lost_segments.inc();
        }
        self.tell(ticket, Outcome::Lost);
    }

    pub(super) fn tell(&self, ticket: Ticket, outcome: Outcome) {
        self.open.fetch_sub(1, Relaxed);
        // Nobody has to wait for it.
        let _ = ticket.done.send(outcome);
    }

    /// What is left if the task that writes ends now.
    pub(super) fn left(&self) -> Left {
        Left {
            spilled: self.spilled.load(Relaxed),
            lost: self.open.load(Relaxed),
        }
    }

    fn trim(&self, state: &mut State) {
        let most = match state.full {
            true => self.settings.queue,
            false => self.settings.queue * BURST,
        };
        while state.entries.len() > most
            && let Some((record, ticket)) = state.entries.pop_front()
        {
            state.urgent -= usize::from(ticket.urgent);
            self.lose(&record, ticket, Dropped::Full);
        }
        let len = i64::try_from(state.entries.len()).unwrap_or(i64::MAX);
        self.metrics.queue_length.set(len);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Time since the record was handed over.
    pub(super) fn age(&self) -> Duration {
        self.written.elapsed()
    }
}

fn urgent(tickets: &[Ticket]) -> usize {
    tickets.iter().filter(|ticket| ticket.urgent).count()
}
