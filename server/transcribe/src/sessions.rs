//! All transcription sessions: those that go on are here, all others in the store.

mod create;
mod ending;
mod owner;
mod spent;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry as Slot};
use tokio::time::{MissedTickBehavior, interval};
use voicematch_protocol::transcribe::TranscribeError;

pub use self::create::{NewParticipant, NewSession};
use self::owner::Holding;
pub use crate::parts::{Config, SessionMetrics};
use crate::{
    bridge::Bridges,
    parts::Parts,
    record::{Participant, RowId, Session as Row},
    session::{Attachment, Log, Person, Session},
    store::{
        Store, StoreError,
        writer::{Health, Outcome, Receipt, Where, Writer},
    },
};

/// All sessions.
pub struct Sessions {
    live: DashMap<String, Arc<Session>>,
    holding: Holding,
    /// The server stops: no session is begun or taken up.
    stops: AtomicBool,
    parts: Arc<Parts>,
}

/// How a session is.
#[derive(Debug, Clone)]
pub struct View {
    /// As it was created.
    pub row: Row,
    /// Who takes part, and whether they are there now.
    pub participants: Vec<(Participant, bool)>,
    /// The number of the last segment.
    pub last_seq: i64,
    /// All segments up to this number are stored.
    pub stored_through: i64,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The code.
    pub code: TranscribeError,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// `moved`: the server that has the session.
    pub url: Option<String>,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: TranscribeError, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            url: None,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "the database of transcripts");
        Self::new(
            TranscribeError::StorageUnavailable,
            "the database does not answer; try again later",
        )
    }
}

impl Sessions {
    /// Sessions that are written to `writer` and read from its `store`. Without `bridges` nothing is transcribed.
    #[must_use]
    pub fn new(
        config: Config,
        writer: Arc<Writer>,
        store: Arc<dyn Store>,
        bridges: Option<Bridges>,
        provider: &'static str,
        metrics: SessionMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            live: DashMap::new(),
            holding: Holding::default(),
            stops: AtomicBool::new(false),
            parts: Arc::new(Parts {
                config,
                writer,
                store,
                bridges,
                provider,
                metrics,
            }),
        })
    }

    fn check_room(&self) -> Result<(), Refusal> {
        self.check_goes_on()?;
        if self.live.len() >= self.parts.config.max_sessions {
            return Err(Refusal::new(
                TranscribeError::TooManySessions,
                format!(
                    "{} sessions go on, as many as there may be; end some",
                    self.live.len()
                ),
            ));
        }
        if self.parts.writer.health() == Health::Full {
            return Err(full());
        }
        Ok(())
    }

    /// The session of this slug, if it goes on: one that was not ended before a restart does. The caller reads
    /// [`Holding::leases`] until it has made use of it, so that it is not let go meanwhile.
    async fn find(&self, slug: &str) -> Result<Arc<Session>, Refusal> {
        if let Some(session) = self.live.get(slug) {
            return Ok(session.clone());
        }
        let row = self
            .parts
            .store
            .session(slug)
            .await?
            .ok_or_else(|| unknown(slug))?;
        if row.ended_ms.is_some() {
            return Err(Refusal::new(
                TranscribeError::SessionEnded,
                "this session has ended; its transcript is at /api/sessions/SLUG/transcript.txt",
            ));
        }
        self.check_room()?;
        let (id, store) = (row.id, &self.parts.store);
        self.hold_one(id).await?;
        let last = store.last_seq(id).await?;
        let tracks = store.tracks(id).await?;
        let people = store.participants(id).await?;
        // Each track has begun with its first audio.
        let epoch = tracks.iter().map(|track| track.started_ms).min();
        let session = Session::new(row, Log::after(last), epoch, self.parts.clone());
        session.note_held();
        {
            let mut state = session.lock();
            let ended = tracks.iter().filter_map(|track| track.audio_ms);
            state.audio_ms = ended.map(|ms| u64::try_from(ms).unwrap_or(0)).sum();
            state.speakers = tracks
                .iter()
                .map(|track| (track.id, track.participant_id))
                .collect();
            state.people = people
                .into_iter()
                .map(|person| (person.id, Person::new(person)))
                .collect();
            state.reconciling = true;
        }
        match self.live.entry(slug.to_owned()) {
            // Another request was faster.
            Slot::Occupied(faster) => Ok(faster.get().clone()),
            Slot::Vacant(vacant) => {
                vacant.insert(session.clone());
                // A drain that has begun meanwhile may not have seen it.
                if let Err(refusal) = self.check_goes_on() {
                    self.forget(&session);
                    return Err(refusal);
                }
                tokio::spawn(session.clone().reconcile(tracks));
                Ok(session)
            }
        }
    }

    /// Attaches a connection of a participant, who is told what came after the segment `after`.
    ///
    /// # Errors
    /// No such session or participant, or the session has ended.
    pub async fn attach(
        &self,
        slug: &str,
        who: RowId,
        after: Option<i64>,
    ) -> Result<Attachment, Refusal> {
        let _leases = self.holding.leases.read().await;
        let session = self.find(slug).await?;
        if session.lock().ended.is_some() {
            return Err(Refusal::new(
                TranscribeError::SessionEnded,
                "this session has ended",
            ));
        }
        Attachment::new(session, who, after, Instant::now()).ok_or_else(|| unknown(slug))
    }

    /// How a session is, also after its end.
    ///
    /// # Errors
    /// No such session, or another process has it.
    pub async fn view(&self, slug: &str) -> Result<View, Refusal> {
        let view = self.stored_view(slug).await?;
        if view.row.ended_ms.is_none() && !self.live.contains_key(slug) {
            self.here_or_nowhere(view.row.id).await?;
        }
        Ok(view)
    }

    /// The same as far as the database knows it, where another process has the session.
    ///
    /// # Errors
    /// No such session.
    pub async fn stored_view(&self, slug: &str) -> Result<View, Refusal> {
        if let Some(session) = self.live.get(slug).map(|session| session.clone()) {
            let state = session.lock();
            let people = state.people.values();
            return Ok(View {
                row: session.row.clone(),
                participants: people
                    .map(|person| (person.row.clone(), person.is_there()))
                    .collect(),
                last_seq: state.log.last(),
                stored_through: state.log.stored_through(),
            });
        }
        let row = self
            .parts
            .store
            .session(slug)
            .await?
            .ok_or_else(|| unknown(slug))?;
        let people = self.parts.store.participants(row.id).await?;
        let last = self.parts.store.last_seq(row.id).await?;
        Ok(View {
            row,
            participants: people.into_iter().map(|person| (person, false)).collect(),
            last_seq: last,
            stored_through: last,
        })
    }

    /// Does what is due in all sessions, for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::spawn(self.clone().keep_holding());
        tokio::spawn(self.clone().keep_tidy());
        tokio::spawn(self.clone().read_spent());
        let mut noted = None;
        loop {
            self.tick(ticks.tick().await.into_std());
            // In a drain the last is noted before the writer closes; what comes later would count as lost.
            if self.check_goes_on().is_ok() {
                noted = self.note_spent(noted);
            }
        }
    }

    /// Does what is due at `now` in all sessions: those that are over end in the background.
    pub fn tick(self: &Arc<Self>, now: Instant) {
        let over: Vec<_> = (self.live.iter())
            .filter_map(|session| Some((session.key().clone(), session.tick(now)?)))
            .collect();
        for (slug, reason) in over {
            let sessions = self.clone();
            tokio::spawn(async move {
                if let Err(error) = sessions.end(&slug, reason).await {
                    tracing::debug!(%error, "a session had ended by itself");
                }
            });
        }
        self.live.retain(|_, session| {
            session
                .lock()
                .ended
                .is_none_or(|_| Arc::strong_count(session) > 1)
        });
    }

    /// How the storage is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.parts.writer.health()
    }

    /// Connections of all sessions.
    #[must_use]
    pub fn connections(&self) -> i64 {
        self.parts.metrics.connections.get()
    }

    /// Sessions that go on here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

async fn is_stored(receipt: Receipt) -> Result<Where, Refusal> {
    match receipt.await {
        Outcome::Stored(place) => Ok(place),
        Outcome::Lost => Err(full()),
        Outcome::Rejected | Outcome::Deleted => Err(Refusal::new(
            TranscribeError::Internal,
            "the database does not take this; see the server's log",
        )),
    }
}

fn unknown(slug: &str) -> Refusal {
    Refusal::new(
        TranscribeError::UnknownSession,
        format!("there is no session {slug:.64}, or you are not in it"),
    )
}

fn full() -> Refusal {
    Refusal::new(
        TranscribeError::StorageFull,
        "neither the database nor the disk has room for a new session; tell the operator",
    )
}
