//! One process has a session, and numbers its segments: who that is, and how it changes.
//!
//! The process to which the first participant comes takes the session; the others say where it is. In a database that several
//! machines use it is let go as soon as nobody is connected and all is written, so that the next one may come anywhere.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::RwLock,
    time::{sleep, timeout},
};
use voicematch_protocol::transcribe::{EndReason, TranscribeError};

use super::{Refusal, Sessions};
use crate::{
    record::{Record, RowId},
    session::{IDLE, Session},
    store::{
        Held, LEASE, Owner, StoreError,
        writer::{Health, Outcome, Where},
    },
    time::wall_ms,
};

/// Sessions that were let go and are remembered, so that they end although nobody comes back. Beyond that number one ends only after
/// somebody has come back to it.
const MAX_UNUSED: usize = 10_000;

/// How often it is looked for sessions that nobody uses.
const LOOK: Duration = Duration::from_secs(1);

/// How long the database may take while nobody can come to a session.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a process needs to have sessions.
#[derive(Default)]
pub(super) struct Holding {
    /// Held for reading while leases are taken and renewed, for writing while some are given up.
    pub(super) leases: RwLock<()>,
    /// Sessions that nobody uses, and when it is to be looked whether they have ended so.
    unused: Mutex<HashMap<String, Instant>>,
}

impl Holding {
    fn note_unused(&self, slug: String) {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        if unused.len() < MAX_UNUSED {
            unused.insert(slug, Instant::now() + IDLE);
        }
    }

    fn take_due(&self, now: Instant) -> Vec<String> {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        let due = unused.extract_if(|_, due| now >= *due);
        due.map(|(slug, _)| slug).collect()
    }
}

impl Sessions {
    fn owner(&self) -> Owner {
        Owner {
            id: self.parts.writer.id(),
            url: self.parts.config.url.clone(),
        }
    }

    /// Makes this process the one that has these sessions, but for those that another one has.
    pub(super) async fn hold(&self, ids: &[RowId]) -> Result<Held, StoreError> {
        self.parts.store.hold(&self.owner(), ids).await
    }

    /// Makes this process the one that has this session, or says where it is.
    pub(super) async fn hold_one(&self, id: RowId) -> Result<(), Refusal> {
        match self.hold(&[id]).await?.elsewhere.first() {
            Some(other) => Err(self.elsewhere(&other.url)),
            None => Ok(()),
        }
    }

    /// Says where a session is that another process has.
    pub(super) async fn here_or_nowhere(&self, id: RowId) -> Result<(), Refusal> {
        match self.parts.store.owner(id).await? {
            Some(owner) if owner.id != self.parts.writer.id() => Err(self.elsewhere(&owner.url)),
            _ => Ok(()),
        }
    }

    fn elsewhere(&self, url: &str) -> Refusal {
        self.parts.metrics.moved(!url.is_empty());
        if url.is_empty() {
            let message = "another server has this session, and has no --public-url; come back in a few seconds";
            return Refusal::new(TranscribeError::SessionElsewhere, message);
        }
        Refusal {
            code: TranscribeError::Moved,
            message: format!("another server has this session: ask it, at {url}"),
            url: Some(url.to_owned()),
        }
    }

    /// A session has been created, and is in the database, where any process may take it.
    pub(super) fn leave_created(&self, slug: &str) {
        self.live.remove(slug);
        self.holding.note_unused(slug.to_owned());
    }

    /// Renews the leases, for ever.
    pub(super) async fn keep_holding(self: Arc<Self>) {
        loop {
            sleep(LEASE / 4).await;
            if let Err(error) = self.renew().await {
                tracing::debug!(%error, "leases of sessions could not be renewed");
            }
        }
    }

    /// Renews the leases. A session that another process has taken meanwhile is given up here, also where that one has let it
    /// go again: what numbers it has given only the database knows.
    ///
    /// # Errors
    /// The database does not answer: the leases are as they were.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let leases = self.holding.leases.read().await;
        let live: Vec<_> = (self.live.iter().map(|session| session.clone())).collect();
        let ids: Vec<_> = live.iter().map(|session| session.row.id).collect();
        let held = self.hold(&ids).await?;
        for session in &live {
            let id = session.row.id;
            let other = held.elsewhere.iter().find(|other| other.session == id);
            let is_back = other.is_none() && held.taken.contains(&id) && session.note_held();
            if other.is_none() && !is_back {
                continue;
            }
            let slug = &session.row.slug;
            tracing::warn!(slug, %is_back, "another server has taken this session over, as this one did not answer for long");
            session.lose(other.map_or("", |other| &other.url));
            self.forget(session);
            if is_back {
                self.holding.note_unused(slug.clone());
            }
        }
        drop(leases);
        Ok(())
    }

    /// Lets sessions go that nobody uses, and ends those that nobody has used for long, for ever.
    pub(super) async fn keep_tidy(self: Arc<Self>) {
        // Else there is no other machine whose processes could take one.
        while self.parts.store.is_shared() {
            sleep(LOOK).await;
            self.let_go_unused().await;
            self.end_unused(Instant::now()).await;
        }
    }

    /// Lets go of all sessions that nobody uses, when all of them is written.
    async fn let_go_unused(&self) {
        let parts = &self.parts;
        let is_idle = parts.writer.health() == Health::Good;
        if !is_idle || !self.live.iter().any(|session| session.is_unused()) {
            return;
        }
        let _alone = self.holding.leases.write().await;
        let unused: Vec<_> = (self.live.iter().map(|session| session.clone()))
            .filter(|session| session.is_unused())
            .collect();
        if !timeout(PATIENCE, self.is_written(&unused))
            .await
            .unwrap_or(false)
        {
            return;
        }
        for session in &unused {
            self.live.remove(&session.row.slug);
            self.holding.note_unused(session.row.slug.clone());
        }
        let ids: Vec<_> = unused.iter().map(|session| session.row.id).collect();
        let let_go = parts.store.let_go(parts.writer.id(), &ids);
        if !matches!(timeout(PATIENCE, let_go).await, Ok(Ok(()))) {
            tracing::debug!("sessions wait for their lease to run out");
        }
    }

    /// Whether all that was handed to the writer of these sessions is in the database: a row that is there already is
    /// written once more, behind it.
    async fn is_written(&self, sessions: &[Arc<Session>]) -> bool {
        let known = sessions.iter().find_map(|session| {
            let state = session.lock();
            state
                .people
                .values()
                .next()
                .map(|person| person.row.clone())
        });
        let Some(known) = known else { return true };
        let written = self.parts.writer.write_now(Record::Participant(known));
        // One that has been deleted meanwhile was written, too.
        matches!(
            written.await,
            Outcome::Stored(Where::Database) | Outcome::Deleted
        )
    }

    /// Ends the sessions that were let go, and that nobody has used anywhere since.
    async fn end_unused(&self, now: Instant) {
        for slug in self.holding.take_due(now) {
            match self.is_over(&slug).await {
                Ok(true) => {
                    if let Err(error) = self.end(&slug, EndReason::Idle).await {
                        tracing::debug!(%error, "a session had ended by itself, or is used");
                    }
                }
                Ok(false) => {}
                Err(_) => self.holding.note_unused(slug),
            }
        }
    }

    /// Whether nothing has been said in a session for as long as one may be without.
    async fn is_over(&self, slug: &str) -> Result<bool, StoreError> {
        let store = &self.parts.store;
        let Some(row) = store.session(slug).await? else {
            return Ok(false);
        };
        let tracks = store.tracks(row.id).await?;
        let times = tracks
            .iter()
            .flat_map(|track| [Some(track.started_ms), track.ended_ms]);
        let last = times.flatten().max().unwrap_or(row.created_ms);
        let silent = Duration::from_millis(u64::try_from(wall_ms() - last).unwrap_or(0));
        Ok(row.ended_ms.is_none() && silent >= IDLE)
    }
}
