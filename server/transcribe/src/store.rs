//! Where records are kept: one contract, which SQLite and PostgreSQL fulfil, and the one who writes.

mod append;
mod batch;
mod connections;
mod error;
mod flush;
pub mod metrics;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod rejected;
mod rows;
mod schema;
mod spill;
mod sqlite;
pub mod writer;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::record::{
    Answer, Interview, JobPiece, Participant, ProviderJob, Record, RowId, Segment, Session,
    SurveyVersion, Track,
};

/// How long a session belongs to a process that is not heard of: one that has crashed, and whose disk is lost too.
pub const LEASE: Duration = Duration::from_secs(20);

/// A process that holds sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Which process.
    pub id: RowId,
    /// Where clients reach it, as `https://HOST:PORT`; empty: it has not said.
    pub url: String,
}

/// A session that another process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    pub session: RowId,
    /// Where clients reach that process; empty: it has not said.
    pub url: String,
}

/// What became of the wish to hold sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Those that another process holds.
    pub elsewhere: Vec<Elsewhere>,
    /// Those that the process did not hold before, and does now. Another one may have had them meanwhile.
    pub taken: Vec<RowId>,
}

/// How far an interview has come. An answer is never changed, or deleted alone: who knows as many knows all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub answers: usize,
    pub ended_ms: Option<i64>,
}

/// Which sessions and interviews nobody wants any more, by times in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    /// Those that ended before it.
    pub ended_before: i64,
    /// Those that never ended, in which nothing has begun, ended or been answered since, and that no process has held since.
    pub unused_since: i64,
}

/// What a store answers.
pub type Answered<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A database. Each call answers within ten seconds, and may be cancelled anywhere.
pub trait Store: Send + Sync {
    /// Writes all records or none, in their order, durably. Writing them again changes nothing.
    ///
    /// Answers with the places in the batch of records that were dropped, because what they belong to is not in the database:
    /// it has been deleted.
    fn append<'a>(&'a self, batch: &'a [Record]) -> Answered<'a, Vec<usize>>;
    /// Deletes about `limit` rows of sessions and interviews that are [`Old`]. Answers with how many; 0 if none are left.
    fn expire(&self, old: Old, limit: u32) -> Answered<'_, u64>;

    /// Makes `owner` the one process that numbers the segments of these sessions, for [`LEASE`] from now by the database's
    /// clock. What is not in the database nobody can hold.
    fn hold<'a>(&'a self, owner: &'a Owner, sessions: &'a [RowId]) -> Answered<'a, Held>;
    /// The process that holds this session now.
    fn owner(&self, session: RowId) -> Answered<'_, Option<Owner>>;
    /// `owner` holds no session any more.
    fn release(&self, owner: RowId) -> Answered<'_, ()>;
    /// `owner` does not hold these sessions any more.
    fn let_go<'a>(&'a self, owner: RowId, sessions: &'a [RowId]) -> Answered<'a, ()>;
    /// Whether processes of other machines may use it, too.
    fn is_shared(&self) -> bool;

    fn session<'a>(&'a self, slug: &'a str) -> Answered<'a, Option<Session>>;
    fn participants(&self, session: RowId) -> Answered<'_, Vec<Participant>>;
    fn tracks(&self, session: RowId) -> Answered<'_, Vec<Track>>;
    /// What the provider has worked on, in the order of the audio.
    fn jobs(&self, session: RowId) -> Answered<'_, Vec<ProviderJob>>;
    /// The pieces of the provider's jobs on a track, in the order in which they came.
    fn job_pieces(&self, track: RowId) -> Answered<'_, Vec<JobPiece>>;
    /// Milliseconds of audio of all tracks that began at `since_ms` or later and have ended.
    fn audio_ms(&self, since_ms: i64) -> Answered<'_, i64>;
    /// Milliseconds of audio that all processes but this one have sent to their providers on this day.
    fn spent_ms(&self, day: i64, but: RowId) -> Answered<'_, i64>;
    /// Segments with a `seq` above `after`, in order of `seq`, at most `limit`.
    fn segments(&self, session: RowId, after: i64, limit: u32) -> Answered<'_, Vec<Segment>>;
    /// The highest `seq` of the session, 0 without segments.
    fn last_seq(&self, session: RowId) -> Answered<'_, i64>;

    /// The newest version of a questionnaire.
    fn survey<'a>(&'a self, id: &'a str) -> Answered<'a, Option<SurveyVersion>>;
    fn survey_version<'a>(
        &'a self,
        id: &'a str,
        version: i64,
    ) -> Answered<'a, Option<SurveyVersion>>;
    fn interview(&self, id: RowId) -> Answered<'_, Option<Interview>>;
    fn progress(&self, interview: RowId) -> Answered<'_, Option<Progress>>;
    fn interview_of<'a>(
        &'a self,
        survey: &'a str,
        respondent: &'a str,
    ) -> Answered<'a, Option<Interview>>;
    /// The interview that is held in this transcription session: the one that began last.
    fn interview_in(&self, session: RowId) -> Answered<'_, Option<Interview>>;
    /// Interviews of a questionnaire, of all its versions, with an id above `after`, in order of their ids, at most `limit`.
    fn interviews<'a>(
        &'a self,
        survey: &'a str,
        after: RowId,
        limit: u32,
    ) -> Answered<'a, Vec<Interview>>;
    /// All answers of the interview with their earlier revisions, in the order in which they were given.
    fn answers(&self, interview: RowId) -> Answered<'_, Vec<Answer>>;
}

/// Opens the database: `sqlite:PATH`, made if it is not there, or `postgres://USER:PASSWORD@HOST:PORT/NAME`.
/// `sqlite:PATH?max_page_count=N` bounds the file to N pages of 4 KiB.
///
/// With `migrate` its schema is brought up to date, otherwise only checked. A schema that is newer than the program is refused.
///
/// # Errors
/// When it cannot be reached or used. No error contains the URL's password.
pub async fn connect(url: &str, migrate: bool) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Arc::new(sqlite::Sqlite::open(path, migrate).await?));
    }
    match url.split_once("://").map(|(scheme, _)| scheme) {
        #[cfg(feature = "postgres")]
        Some("postgres" | "postgresql") => {
            Ok(Arc::new(postgres::Postgres::open(url, migrate).await?))
        }
        #[cfg(not(feature = "postgres"))]
        Some("postgres" | "postgresql") => Err(StoreError::Misconfigured(
            "this program was built without PostgreSQL".to_owned(),
        )),
        // Not repeated: whatever it is, there may be a password in it.
        _ => Err(StoreError::Misconfigured(
            "its URL has to begin with sqlite: or postgres://".to_owned(),
        )),
    }
}

/// Why a store did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may work later: no connection, locked, restarted, read-only.
    #[error("the database does not answer: {0}")]
    Temporary(String),
    /// A record that cannot be written, now or later. Nothing of the batch was written.
    #[error("the database refuses a row: {0}")]
    Rejected(String),
    /// No room is left. It may work later.
    #[error("the database is full: {0}")]
    Full(String),
    /// It will never work as it is set up: no such database, wrong password, wrong schema.
    #[error("the database cannot be used: {0}")]
    Misconfigured(String),
}
