//! The end: of one session, for ever; of all here, as the server stops.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use futures_util::future::join_all;
use tokio::time::Instant as TokioInstant;
use voicematch_protocol::transcribe::{EndReason, TranscribeError};

use super::{Refusal, Sessions, is_stored, unknown};
use crate::{
    record::Record,
    session::{LAST_WORDS, Session},
    store::writer::Left,
};

impl Sessions {
    /// Ends a session; its end is stored when this returns.
    ///
    /// # Errors
    /// No such session, or it has ended.
    pub async fn end(&self, slug: &str, reason: EndReason) -> Result<(), Refusal> {
        let session = {
            let _leases = self.holding.leases.read().await;
            let session = self.find(slug).await?;
            session.begin_end(reason);
            session
        };
        session.over().await;
        self.forget(&session);
        Ok(())
    }

    /// Deletes a session and all that belongs to it, also what the provider keeps.
    ///
    /// # Errors
    /// No such session, or no place to note it.
    pub async fn delete(&self, slug: &str) -> Result<(), Refusal> {
        let parts = &self.parts;
        // It stays here until it is gone, so that nobody takes it up from the database meanwhile.
        let live = self.live.get(slug).map(|session| session.clone());
        let id = match &live {
            Some(session) => {
                session.begin_end(EndReason::Deleted);
                session.over().await;
                session.row.id
            }
            None => {
                let found = parts.store.session(slug).await?;
                let id = found.ok_or_else(|| unknown(slug))?.id;
                self.hold_one(id).await?;
                id
            }
        };
        let jobs = parts.store.jobs(id).await?;
        is_stored(parts.writer.write_now(Record::SessionDeleted { id })).await?;
        if let Some(bridges) = &parts.bridges {
            jobs.into_iter().for_each(|job| bridges.forget(job.job));
        }
        if let Some(session) = &live {
            self.forget(session);
        }
        Ok(())
    }

    /// A session is over. What there is of that name now stays.
    pub(super) fn forget(&self, session: &Arc<Session>) {
        let is_it = |_: &String, live: &Arc<Session>| Arc::ptr_eq(live, session);
        self.live.remove_if(&session.row.slug, is_it);
    }

    pub(super) fn check_goes_on(&self) -> Result<(), Refusal> {
        if self.stops.load(SeqCst) {
            let message = "the server stops; come back in a few seconds";
            return Err(Refusal::new(TranscribeError::Draining, message));
        }
        Ok(())
    }

    /// The server stops: the last words are written, at most until `until`, and all are sent away to where the sessions go
    /// on. Answers with what is not in the database.
    pub async fn drain(&self, until: impl FnOnce() -> TokioInstant) -> Option<Left> {
        self.stops.store(true, SeqCst);
        let live: Vec<_> = self.live.iter().map(|session| session.clone()).collect();
        live.iter().for_each(|session| session.drain());
        let last_words = TokioInstant::now() + LAST_WORDS;
        join_all(live.iter().map(|session| session.drained(last_words))).await;
        self.note_spent(None);
        let parts = &self.parts;
        let left = parts.writer.close(until()).await;
        // Who takes a session up numbers its segments after those that are stored. The next start, which replays the spill
        // file, is the first to know them.
        if left.is_none()
            && let Err(error) = parts.store.release(parts.writer.id()).await
        {
            tracing::warn!(%error, "sessions wait for their lease to run out");
        }
        join_all(live.iter().map(|session| session.send_away())).await;
        left
    }
}
