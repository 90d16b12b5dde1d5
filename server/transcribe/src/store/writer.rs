//! Writes records in batches, and knows what to do while the database does not take them.
//!
//! A batch is written when [`Settings::batch`] records wait, [`Settings::flush_interval`] after the first, or at once when an
//! answer is among them. One batch is under way at a time; what has come meanwhile is the next one.
//!
//! A database that does not answer for one and a half seconds, or that fails for so long, or while [`Settings::queue`] records wait, gets its
//! records later: they go to the spill file, which keeps their order, and from there to the database when it is back. If the spill
//! file is full too, the latest records are kept and older ones are lost.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::append::replay_left;
use super::flush::Flusher;
use super::metrics::{Dropped, StorageMetrics};
use super::queue::Queue;
use super::rejected::RejectedFile;
use super::spill::Spill;
use super::{Store, StoreError};
use crate::record::{Record, RowId};

/// How the writer works. [`Settings::new`] has what was measured to be right.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the spill file and `rejected.jsonl` are; made if it is not there.
    pub dir: PathBuf,
    /// How long the first record of a batch waits for others: 300 ms.
    pub flush_interval: Duration,
    /// So many records do not wait any longer: 100.
    pub batch: usize,
    /// So many records may wait for a database that is busy or away before they go to the spill file: 1,000.
    pub queue: usize,
    /// The most bytes of the spill file: 1 GiB.
    pub spill_bytes: u64,
    /// Sessions and interviews are deleted so long after their end; never if `None`.
    pub retention: Option<Duration>,
    /// How long a session may go on: 4 h. What never ended is kept for a day longer than that, also with a shorter retention.
    pub longest: Duration,
}

impl Settings {
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            flush_interval: Duration::from_millis(300),
            batch: 100,
            queue: 1_000,
            spill_bytes: 1024 * 1024 * 1024,
            retention: None,
            longest: Duration::from_secs(4 * 3_600),
        }
    }
}

/// Where a record is safe from a crash of the process and of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Database,
    /// In the spill file, from which it goes to the database later.
    Spill,
}

/// What has become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stored(Where),
    /// The database refuses it. It is in `rejected.jsonl`, as long as that has room.
    Rejected,
    /// What it belongs to is not in the database: it has been deleted.
    Deleted,
    /// It is stored nowhere.
    Lost,
}

/// Tells what has become of a record, when that is known. Nobody has to wait for it.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Outcome>);

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = Pin::new(&mut self.0).poll(context);
        outcome.map(|told| told.unwrap_or(Outcome::Lost))
    }
}

/// How the writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The database takes what comes.
    Good,
    /// It does not, or not yet all of it; the spill file does.
    Spilling,
    /// Nothing takes records. New sessions should be refused.
    Full,
}

/// What was not in the database when the writer was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Records in the spill file, for the next start.
    pub spilled: u64,
    /// Records that are stored nowhere.
    pub lost: u64,
}

/// Why the writer did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the folder {0} cannot be used: {1}")]
    Folder(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often spill files are looked for whose process has ended.
const LOOK_FOR_LEFT: Duration = Duration::from_secs(10);

/// Takes records and writes them. Dropped without [`close`](Self::close) it still writes what waits, as long as the runtime lives.
pub struct Writer {
    queue: Arc<Queue>,
    health: watch::Receiver<Health>,
    id: RowId,
    task: Mutex<Option<JoinHandle<Left>>>,
    adopts: JoinHandle<()>,
}

/// How long a writer that was dropped may write what waits.
const AFTER_DROP: Duration = Duration::from_secs(5);

impl Writer {
    /// Writes what ended processes have left in their spill files to the database, and begins.
    ///
    /// # Errors
    /// When the folder cannot be used, or the database does not take what was left.
    pub async fn start(
        store: Arc<dyn Store>,
        settings: Settings,
        metrics: StorageMetrics,
    ) -> Result<Self, StartError> {
        let dir = settings.dir.clone();
        let folder = |error| StartError::Folder(dir.clone(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(folder)?;
        let rejected = RejectedFile::new(dir.join("rejected.jsonl"));
        replay_all(&*store, &dir, &rejected, &metrics).await?;
        let spill = Spill::create(&dir, settings.spill_bytes).map_err(folder)?;
        let id = spill.id();
        let adopts = tokio::spawn(adopt(store.clone(), dir, rejected.clone(), metrics.clone()));
        let queue = Arc::new(Queue::new(settings.clone(), metrics));
        let (tell, health) = watch::channel(Health::Good);
        let flusher = Flusher::new(store, Arc::clone(&queue), settings, spill, rejected, tell);
        Ok(Self {
            queue,
            health,
            id,
            adopts,
            task: Mutex::new(Some(tokio::spawn(flusher.run()))),
        })
    }

    /// Hands over a record. Older ones are lost if more than 16 times [`Settings::queue`] wait.
    pub fn write(&self, record: Record) -> Receipt {
        Receipt(self.queue.push(record, false))
    }

    /// Hands over a record for which somebody waits: it is written at once, with what else waits, up to 1,000 records.
    pub fn write_now(&self, record: Record) -> Receipt {
        Receipt(self.queue.push(record, true))
    }

    /// Counts a segment that gets no number, since another process has its session now: it is lost.
    pub(crate) fn lose_elsewhere(&self) {
        self.queue.metrics.lost_segments.inc();
        self.queue.metrics.dropped(Dropped::Elsewhere);
    }

    /// The process as the owner of sessions ([`Store::hold`]).
    #[must_use]
    pub fn id(&self) -> RowId {
        self.id
    }

    #[must_use]
    pub fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// Changes of the health, for who waits for one.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Takes no more records, and writes what waits: to the database, or near the end of the time to the spill file.
    /// `None` if all of it is in the database, and nothing came too late. Only the first call says what is left.
    pub async fn close(&self, until: Instant) -> Option<Left> {
        self.queue.close(until);
        let mut task = {
            let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.take()?
        };
        // A disk that hangs is waited for no longer.
        let ended = timeout_at(until + Duration::from_secs(1), &mut task).await;
        let mut left = match ended {
            Ok(Ok(left)) => left,
            _ => {
                task.abort();
                self.queue.left()
            }
        };
        left.lost += self.queue.late.load(Relaxed);
        (left.spilled + left.lost > 0).then_some(left)
    }
}

/// Writes what all processes that have ended have left.
async fn replay_all(
    store: &dyn Store,
    dir: &Path,
    rejected: &RejectedFile,
    metrics: &StorageMetrics,
) -> Result<(), StartError> {
    let files = Spill::files(dir).map_err(|error| StartError::Folder(dir.to_owned(), error))?;
    for path in files {
        replay_left(store, path, rejected, metrics).await?;
    }
    Ok(())
}

/// A process that ends while this one runs may leave something, too: one that has been replaced.
async fn adopt(
    store: Arc<dyn Store>,
    dir: PathBuf,
    rejected: RejectedFile,
    metrics: StorageMetrics,
) {
    loop {
        sleep(LOOK_FOR_LEFT).await;
        if let Err(error) = replay_all(&*store, &dir, &rejected, &metrics).await {
            tracing::debug!(%error, "what an ended process has left waits");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.adopts.abort();
        self.queue.close(Instant::now() + AFTER_DROP);
    }
}
