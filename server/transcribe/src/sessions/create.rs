//! What begins: a session, which the app creates, and a participant of it, who joins.

use dashmap::Entry as Slot;
use voicematch_protocol::transcribe::{Deliver, Role, TranscribeError};

use super::{Refusal, Sessions, is_stored};
use crate::{
    record::{Participant, Record, RowId, Session as Row},
    session::{Log, Person, Session},
    store::writer::Where,
    time::wall_ms,
};

/// The longest title, user and name, in characters.
const MAX_TEXT: usize = 128;

/// The longest slug.
const MAX_SLUG: usize = 64;

/// Participants of one session, all in all.
const MAX_PEOPLE: usize = 1_000;

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

impl Sessions {
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
                let message = "this session has as many participants as it may have";
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

fn taken(slug: &str) -> Refusal {
    Refusal::new(
        TranscribeError::SlugTaken,
        format!("there is a session {slug} already; choose another slug, or delete that session"),
    )
}
