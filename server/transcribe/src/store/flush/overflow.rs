//! When records go to the spill file, and how.

use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Flusher, SLOW, What};
use crate::store::append::{MOST, Report, blocking};
use crate::store::queue::{Batch, Look};
use crate::store::spill::Spill;
use crate::store::writer::Where;

/// After a failure of the spill file the next try.
const SPILL_PAUSE: Duration = Duration::from_secs(1);

impl Flusher {
    pub(super) fn must_spill(&self, look: &Look, now: Instant) -> bool {
        let flight = self.flight.as_ref();
        let held = flight.is_some_and(|flight| matches!(flight.what, What::Batch(_)));
        if (look.len == 0 && !held) || self.spill_failed.is_some_and(|at| now < at) {
            return false;
        }
        let closing = look.closing.is_some_and(|closing| now >= closing.spill_at);
        let busy = flight.is_some() || self.failing.is_some();
        if closing || (busy && look.len >= self.settings.queue) {
            return true;
        }
        let slow = flight.is_some_and(|flight| now >= flight.started + SLOW)
            || self
                .failing
                .as_ref()
                .is_some_and(|it| now >= it.since + SLOW);
        let due = look.due.is_some_and(|due| now >= due);
        // What is in the spill file comes first, so the rest has to follow it there.
        (slow && (held || due)) || (due && !self.spill().is_empty())
    }

    /// Puts into the spill file what the database has not answered to, and then what waits.
    pub(super) async fn spill_what_waits(&mut self) {
        if self.spill().is_empty() {
            tracing::warn!("the database does not take records in time; they go to the spill file");
        }
        if let Some(flight) = &mut self.flight {
            match std::mem::replace(&mut flight.what, What::Spilled) {
                What::Batch(batch) => match self.spill_batch(batch).await {
                    Ok(()) => {}
                    Err(batch) => {
                        if let Some(flight) = &mut self.flight {
                            flight.what = What::Batch(batch);
                        }
                        return;
                    }
                },
                what => flight.what = what,
            }
        }
        let batch = self.queue.take(MOST);
        if !batch.tickets.is_empty()
            && let Err(batch) = self.spill_batch(batch).await
        {
            self.queue.put_back(batch);
        }
    }

    async fn spill_batch(&mut self, batch: Batch) -> Result<(), Batch> {
        let records = Arc::clone(&batch.records);
        match self.on_spill(move |spill| spill.append(&records)).await {
            Ok(()) => {
                self.has_room();
                self.queue
                    .metrics
                    .spilled
                    .inc_by(batch.records.len() as u64);
                // Before anybody knows them to be stored: the database has them later.
                self.tell_health();
                self.settle(batch, Where::Spill, &Report::default());
                Ok(())
            }
            Err(error) => {
                if self.spill_failed.is_none() {
                    tracing::error!(%error, "neither the database nor the spill file takes records; the latest are kept");
                }
                self.spill_failed = Some(Instant::now() + SPILL_PAUSE);
                self.queue.set_full(true);
                Err(batch)
            }
        }
    }

    /// The spill file cannot be read on: a new one takes its place.
    pub(super) async fn replace_spill(&mut self, error: &io::Error) {
        tracing::error!(%error, "the spill file cannot be read");
        let (dir, bound) = (self.settings.dir.clone(), self.settings.spill_bytes);
        let replaced = self.on_spill(move |spill| {
            let old = std::mem::replace(spill, Spill::create(&dir, bound)?);
            old.set_aside()
        });
        if let Err(error) = replaced.await {
            tracing::error!(%error, "and cannot be replaced");
        }
        self.queue.wake.notify_one();
    }

    pub(super) fn spill(&self) -> MutexGuard<'_, Spill> {
        self.spill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work on the spill file, on a thread that may wait for the disk.
    pub(super) async fn on_spill<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spill) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let spill = Arc::clone(&self.spill);
        blocking(move || work(&mut spill.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}
