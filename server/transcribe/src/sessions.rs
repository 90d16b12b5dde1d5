//! All transcription sessions: those that go on are here, all others in the store.

mod ending;
mod owner;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry as Slot};
use tokio::time::{MissedTickBehavior, interval};
use voicematch_protocol::transcribe::{Deliver, Role, TranscribeError};

use self::owner::Holding;
pub use crate::parts::{Config, SessionMetrics};
use crate::{
    bridge::Bridges,
    parts::Parts,
    record::{Participant, Record, RowId, Session as Row},
    session::{Attachment, Log, Person, Session},
    store::{
        Store, StoreError,
        writer::{Health, Outcome, Receipt, Where, Writer},
    },
    time::wall_ms,
};

/// The longest title, user and name, in characters.
const MAX_TEXT: usize = 128;

/// The longest slug.
const MAX_SLUG: usize = 64;

/// Participants of one session, all in all.
const MAX_PEOPLE: usize = 1_000;

/// All sessions.
pub struct Sessions {
    live: DashMap<String, Arc<Session>>,
    holding: Holding,
    /// The server stops: no session is begun or taken up.
    stops: AtomicBool,
    parts: Arc<Parts>,
}

/// A session that the app wants.
#[derive(Debug, Clone, Default)]
pub struct NewSession {
    /// Its name; without it one is made.
    pub slug: Option<String>,
    /// For people.
    pub title: Option<String>,
    /// What is spoken, as BCP 47.
    pub language: Option<String>,
    /// Who receives the transcript; the host, if nothing is said.
    pub deliver: Option<Deliver>,
    /// Whether anybody may join as a speaker.
    pub open: bool,
}

/// A participant that is to join.
#[derive(Debug, Clone)]
pub struct NewParticipant {
    /// The app's name for the user.
    pub user: String,
    /// What others see.
    pub name: Option<String>,
    /// What the participant is to be.
    pub role: Role,
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
            TranscribeError::Internal,
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

    /// Creates a session, which is stored when this returns; and its host.
    ///
    /// # Errors
    /// A slug that is none or taken, a text that is too long, too many sessions, or no place to store it.
    pub async fn create(&self, new: NewSession) -> Result<(Row, Participant), Refusal> {
        let slug = match new.slug {
            Some(slug) => checked_slug(slug)?,
            None => random_slug(),
        };
        check_text("title", new.title.as_deref())?;
        check_text("language", new.language.as_deref())?;
        self.check_room()?;
        if self.parts.store.session(&slug).await?.is_some() {
            return Err(taken(&slug));
        }
        let row = Row {
            id: RowId::random(),
            slug: slug.clone(),
            title: new.title,
            language: new.language,
            deliver: new.deliver.unwrap_or(Deliver::Host).as_str().to_owned(),
            open: new.open,
            created_ms: wall_ms(),
            ended_ms: None,
        };
        let host = participant(row.id, "host".to_owned(), None, Role::Host);
        let session = Session::new(row.clone(), Log::default(), None, self.parts.clone());
        session
            .lock()
            .people
            .insert(host.id, Person::new(host.clone()));
        match self.live.entry(slug.clone()) {
            Slot::Occupied(_) => return Err(taken(&slug)),
            Slot::Vacant(vacant) => drop(vacant.insert(session.clone())),
        }
        // A drain that has begun meanwhile may not have seen it.
        if let Err(refusal) = self.check_goes_on() {
            self.live.remove(&slug);
            return Err(refusal);
        }
        let stored = self.parts.writer.write_now(Record::Session(row.clone()));
        let stored_host = self
            .parts
            .writer
            .write_now(Record::Participant(host.clone()));
        let stored = is_stored(stored).await.and(is_stored(stored_host).await);
        match stored {
            Err(refusal) => {
                self.live.remove(&slug);
                // Another process may have been faster.
                return match self.parts.store.session(&slug).await {
                    Ok(Some(other)) if other.id != row.id => Err(taken(&slug)),
                    _ => Err(refusal),
                };
            }
            // The node to which the first participant comes takes it.
            Ok(Where::Database) if self.parts.store.is_shared() => self.leave_created(&slug),
            Ok(_) => {
                // One that is only in the spill file is nobody else's to be found.
                match self.hold(&[row.id]).await {
                    Ok(held) if held.taken.is_empty() => {}
                    Ok(_) => drop(session.note_held()),
                    Err(error) => {
                        tracing::debug!(%error, "a new session is held when the database is back");
                    }
                }
            }
        }
        Ok((row, host))
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

    /// Lets a participant join. `known`: a user who is there already may be named: the caller has a right to it.
    ///
    /// # Errors
    /// No such session, it has ended, the user is known, or no place to store it.
    pub async fn join(
        &self,
        slug: &str,
        new: NewParticipant,
        known: bool,
    ) -> Result<(Row, Participant), Refusal> {
        if new.user.is_empty() {
            return Err(Refusal::new(
                TranscribeError::BadMessage,
                "user names the participant; it is empty",
            ));
        }
        check_text("user", Some(&new.user))?;
        check_text("name", new.name.as_deref())?;
        let leases = self.holding.leases.read().await;
        let session = self.find(slug).await?;
        let row = session.row.clone();
        let stored = {
            let mut state = session.lock();
            let before = state
                .people
                .values()
                .find(|person| person.row.user == new.user);
            match before {
                Some(before) if known => return Ok((row, before.row.clone())),
                Some(_) => {
                    let message = "this user has joined already; use the token that was given then";
                    return Err(Refusal::new(TranscribeError::ParticipantKnown, message));
                }
                None => {}
            }
            if state.people.len() >= MAX_PEOPLE {
                let message = "as many participants as a session may have have joined this one";
                return Err(Refusal::new(TranscribeError::TooManyTracks, message));
            }
            let joined = participant(row.id, new.user, new.name, new.role);
            state.people.insert(joined.id, Person::new(joined.clone()));
            (
                self.parts
                    .writer
                    .write_now(Record::Participant(joined.clone())),
                joined,
            )
        };
        drop(leases);
        let (stored, joined) = stored;
        if let Err(refusal) = is_stored(stored).await {
            session.lock().people.remove(&joined.id);
            return Err(refusal);
        }
        Ok((row, joined))
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
        let mut noted = None;
        loop {
            self.tick(ticks.tick().await.into_std());
            // In a drain the last is noted before the writer closes; what comes later would count as lost.
            if self.check_goes_on().is_ok() {
                noted = self.note_spent(noted);
            }
        }
    }

    /// Stores how much audio was sent to the provider today, if that is not what was `noted` last: what is left of the day
    /// is the same after a crash.
    fn note_spent(&self, noted: Option<(i64, i64)>) -> Option<(i64, i64)> {
        let parts = &self.parts;
        let spent = parts.bridges.as_ref().and_then(Bridges::sent_today);
        if let Some((day, audio_ms)) = spent.filter(|_| spent != noted) {
            let process = parts.writer.id();
            parts.writer.write(Record::Spent {
                day,
                process,
                audio_ms,
            });
        }
        spent
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

fn participant(session_id: RowId, user: String, name: Option<String>, role: Role) -> Participant {
    Participant {
        id: RowId::random(),
        session_id,
        user,
        name,
        role: role.as_str().to_owned(),
        joined_ms: wall_ms(),
    }
}

fn checked_slug(slug: String) -> Result<String, Refusal> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if slug.is_empty() || slug.len() > MAX_SLUG || !slug.bytes().all(is_known) {
        let message = "a slug is 1 to 64 characters of A-Z, a-z, 0-9, _ and -";
        return Err(Refusal::new(TranscribeError::BadSlug, message));
    }
    Ok(slug)
}

/// Not to be guessed: 80 bits.
fn random_slug() -> String {
    format!("{:020x}", rand::random::<u128>() >> 48)
}

fn check_text(field: &str, text: Option<&str>) -> Result<(), Refusal> {
    match text {
        Some(text) if text.chars().count() > MAX_TEXT => Err(Refusal::new(
            TranscribeError::BadMessage,
            format!("{field} has {MAX_TEXT} characters at the most"),
        )),
        _ => Ok(()),
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

fn taken(slug: &str) -> Refusal {
    Refusal::new(
        TranscribeError::SlugTaken,
        format!("there is a session {slug} already; choose another slug, or delete that session"),
    )
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
