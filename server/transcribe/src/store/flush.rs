//! The task that writes: what goes where, and when.

mod overflow;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::append::{MOST, Report, append, expire, keep_rejected};
use super::metrics::Dropped;
use super::queue::{Batch, Look, Queue};
use super::rejected::RejectedFile;
use super::spill::Spill;
use super::writer::{Health, Left, Outcome, Settings, Where};
use super::{Store, StoreError};
use crate::record::Record;

/// After so long without an answer, or of failures, records go to the spill file: with the time for which a batch is
/// gathered before, and that of the disk, each is safe within 2 s.
const SLOW: Duration = Duration::from_millis(1_500);

/// The pauses between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// What never ended may still be gone on with for as long after the longest time of a session.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How often expired rows are looked for.
const EXPIRY_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Flusher {
    store: Arc<dyn Store>,
    queue: Arc<Queue>,
    settings: Settings,
    spill: Arc<Mutex<Spill>>,
    rejected: RejectedFile,
    health: watch::Sender<Health>,
    flight: Option<Flight>,
    failing: Option<Failing>,
    /// The spill file takes nothing; when it is tried again.
    spill_failed: Option<Instant>,
    next_expiry: Option<Instant>,
}

/// What the database has been asked to do.
struct Flight {
    started: Instant,
    what: What,
    task: JoinHandle<Result<Report, StoreError>>,
}

enum What {
    Batch(Batch),
    /// The batch is in the spill file too, since the answer took too long.
    Spilled,
    Replay {
        end: u64,
        records: Arc<Vec<Record>>,
    },
    Expiry,
}

struct Failing {
    since: Instant,
    pause: Duration,
    retry_at: Instant,
}

impl Flusher {
    pub(super) fn new(
        store: Arc<dyn Store>,
        queue: Arc<Queue>,
        settings: Settings,
        spill: Spill,
        rejected: RejectedFile,
        health: watch::Sender<Health>,
    ) -> Self {
        let next_expiry = settings.retention.map(|_| Instant::now());
        Self {
            store,
            queue,
            settings,
            spill: Arc::new(Mutex::new(spill)),
            rejected,
            health,
            flight: None,
            failing: None,
            spill_failed: None,
            next_expiry,
        }
    }

    /// Writes until the queue has been closed.
    pub(super) async fn run(mut self) -> Left {
        loop {
            let look = self.queue.look();
            let now = Instant::now();
            if self.must_spill(&look, now) {
                self.spill_what_waits().await;
                continue;
            }
            if self.flight.is_none() && self.failing.as_ref().is_none_or(|it| now >= it.retry_at) {
                self.depart(&look, now).await;
            }
            self.tell_health();
            if self.is_done(&look, now) {
                return self.end();
            }
            self.wait(&look, now).await;
        }
    }

    /// Gives the database the next thing to do, if there is one.
    async fn depart(&mut self, look: &Look, now: Instant) {
        if !self.spill().is_empty() {
            match self.on_spill(|spill| spill.peek(MOST)).await {
                Ok(chunk) => {
                    let records = Arc::new(chunk.records);
                    let what = What::Replay {
                        end: chunk.end,
                        records: Arc::clone(&records),
                    };
                    self.fly(what, Some(records));
                }
                Err(error) => self.replace_spill(&error).await,
            }
        } else if look.due.is_some_and(|due| now >= due) {
            let batch = self.queue.take(MOST);
            let records = Arc::clone(&batch.records);
            self.fly(What::Batch(batch), Some(records));
        } else if look.closing.is_none() && self.next_expiry.is_some_and(|at| now >= at) {
            self.fly(What::Expiry, None);
        }
    }

    fn fly(&mut self, what: What, records: Option<Arc<Vec<Record>>>) {
        let store = Arc::clone(&self.store);
        let metrics = self.queue.metrics.clone();
        let retention = self.settings.retention.unwrap_or_default();
        let unused = retention.max(self.settings.longest + DAY);
        let rejected = self.rejected.clone();
        let task = tokio::spawn(async move {
            match records {
                Some(records) => append(&*store, &records, &metrics).await,
                None => expire(&*store, &rejected, retention, unused).await,
            }
        });
        self.flight = Some(Flight {
            started: Instant::now(),
            what,
            task,
        });
    }

    async fn wait(&mut self, look: &Look, now: Instant) {
        let flight = self.flight.as_ref();
        let failing = self.failing.as_ref();
        let times = [
            look.due,
            look.closing.map(|closing| closing.spill_at),
            look.closing.map(|closing| closing.until),
            flight.map(|flight| flight.started + SLOW),
            failing.map(|failing| failing.since + SLOW),
            failing.map(|failing| failing.retry_at),
            self.spill_failed,
            self.next_expiry.filter(|_| flight.is_none()),
        ];
        let next = times.into_iter().flatten().filter(|at| *at > now).min();
        let queue = Arc::clone(&self.queue);
        let landed = async {
            match &mut self.flight {
                Some(flight) => (&mut flight.task).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            result = landed => result,
            () = queue.wake.notified() => return,
            () = async { match next { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => return,
        };
        let result = result.unwrap_or_else(|error| Err(StoreError::Temporary(error.to_string())));
        if let Some(flight) = self.flight.take() {
            self.landed(flight, result).await;
        }
    }

    async fn landed(&mut self, flight: Flight, result: Result<Report, StoreError>) {
        match (flight.what, result) {
            (What::Expiry, Ok(report)) => {
                let pause = if report.expired > 0 {
                    Duration::ZERO
                } else {
                    EXPIRY_PAUSE
                };
                self.next_expiry = Some(Instant::now() + pause);
            }
            (What::Expiry, Err(error)) => {
                tracing::warn!(%error, "expired sessions are not deleted yet");
                self.next_expiry = Some(Instant::now() + EXPIRY_PAUSE);
            }
            (What::Batch(batch), Ok(report)) => {
                self.recovered();
                if !batch.is_awaited() {
                    self.queue.metrics.gathered_batches.inc();
                }
                keep_rejected(&self.rejected, &batch.records, &report, &self.queue.metrics).await;
                self.settle(batch, Where::Database, &report);
            }
            (What::Spilled, Ok(_)) => self.recovered(),
            (What::Replay { end, records }, Ok(report)) => {
                self.recovered();
                keep_rejected(&self.rejected, &records, &report, &self.queue.metrics).await;
                report.count(records.len(), &self.queue.metrics);
                let count = records.len() as u64;
                let done = self.on_spill(move |spill| spill.replayed(end, count)).await;
                match done {
                    Ok(()) if self.spill().is_empty() => {
                        tracing::info!("all of the spill file is in the database");
                    }
                    Ok(()) => {}
                    Err(error) => tracing::error!(%error, "the spill file cannot be emptied"),
                }
            }
            (what, Err(error)) => self.failed(flight.started, what, &error),
        }
    }

    fn failed(&mut self, started: Instant, what: What, error: &StoreError) {
        self.queue.metrics.flush_errors.inc();
        match (&self.failing, error) {
            (Some(_), _) => {}
            (None, StoreError::Misconfigured(_)) => {
                tracing::error!(%error, "the database takes no records; they are kept");
            }
            (None, _) => tracing::warn!(%error, "the database takes no records; they are kept"),
        }
        let failing = self.failing.get_or_insert(Failing {
            since: started,
            pause: FIRST_PAUSE / 2,
            retry_at: started,
        });
        failing.pause = (failing.pause * 2).min(LAST_PAUSE);
        failing.retry_at = Instant::now() + failing.pause;
        if let What::Batch(batch) = what {
            self.queue.put_back(batch);
        }
    }

    fn recovered(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!("the database takes records again");
        }
        self.has_room();
    }

    /// Records are taken somewhere.
    fn has_room(&mut self) {
        if self.spill_failed.take().is_some() {
            self.queue.set_full(false);
        }
    }

    fn settle(&self, batch: Batch, place: Where, report: &Report) {
        let metrics = &self.queue.metrics;
        if place == Where::Database {
            report.count(batch.records.len(), metrics);
        }
        let mut outcomes = vec![Outcome::Stored(place); batch.records.len()];
        for (index, _) in &report.rejected {
            outcomes[*index] = Outcome::Rejected;
        }
        for index in &report.orphans {
            outcomes[*index] = Outcome::Deleted;
        }
        for (ticket, outcome) in batch.tickets.into_iter().zip(outcomes) {
            if matches!(outcome, Outcome::Stored(_)) {
                metrics
                    .store_delay_seconds
                    .observe(ticket.age().as_secs_f64());
            }
            self.queue.tell(ticket, outcome);
        }
    }

    fn tell_health(&self) {
        let spill = self.spill();
        self.queue
            .metrics
            .spill_bytes
            .set(i64::try_from(spill.len()).unwrap_or(i64::MAX));
        self.queue.spilled.store(spill.waiting(), Relaxed);
        let health = if self.spill_failed.is_some() {
            Health::Full
        } else if self.failing.is_some() || !spill.is_empty() {
            Health::Spilling
        } else {
            Health::Good
        };
        self.health
            .send_if_modified(|now| std::mem::replace(now, health) != health);
    }

    /// Whether nothing is left to do before the end, or no time.
    fn is_done(&self, look: &Look, now: Instant) -> bool {
        let Some(closing) = look.closing else {
            return false;
        };
        let held = matches!(
            &self.flight,
            Some(Flight {
                what: What::Batch(_),
                ..
            })
        );
        let safe = look.len == 0 && !held;
        let nothing_left = self.flight.is_none() && self.spill().is_empty();
        // The next start replays the spill file.
        let no_use = self.failing.is_some() || now >= closing.spill_at;
        now >= closing.until || (safe && (nothing_left || no_use))
    }

    fn end(&mut self) -> Left {
        let left = self.queue.left();
        if let Some(flight) = self.flight.take() {
            flight.task.abort();
            if let What::Batch(batch) = flight.what {
                self.queue.lose_all(batch, Dropped::Closed);
            }
        }
        self.queue
            .lose_all(self.queue.take(usize::MAX), Dropped::Closed);
        let spill = self.spill();
        if spill.is_empty()
            && let Err(error) = spill.remove()
        {
            tracing::warn!(%error, "the empty spill file cannot be removed");
        }
        left
    }
}
