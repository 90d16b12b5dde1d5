//! The order in which a batch is written: many rows of a kind at once, and what others refer to first.

use std::collections::{HashMap, HashSet};

use super::StoreError;
use crate::record::{
    Answer, Interview, JobPiece, Participant, ProviderJob, Record, RowId, Segment, Session,
    SurveyVersion, Track,
};

/// A row that belongs to another one, with its place in the batch.
pub(super) struct Child<'a, T> {
    pub(super) place: usize,
    pub(super) row: &'a T,
}

/// Records that may be written kind by kind, in the order of these fields.
#[derive(Default)]
pub(super) struct Part<'a> {
    pub(super) sessions: Vec<&'a Session>,
    pub(super) surveys: Vec<&'a SurveyVersion>,
    pub(super) interviews: Vec<&'a Interview>,
    pub(super) participants: Vec<Child<'a, Participant>>,
    pub(super) tracks: Vec<Child<'a, Track>>,
    pub(super) jobs: Vec<Child<'a, ProviderJob>>,
    pub(super) job_pieces: Vec<Child<'a, JobPiece>>,
    pub(super) segments: Vec<Child<'a, Segment>>,
    pub(super) answers: Vec<Child<'a, Answer>>,
    /// Changes of rows, in their order.
    pub(super) changes: Vec<&'a Record>,
    pub(super) deleted: Vec<i64>,
}

/// The batch in parts. A new one begins after deletions: a slug that has become free may be taken by a later record.
pub(super) fn parts(batch: &[Record]) -> Vec<Part<'_>> {
    let mut parts = vec![];
    let mut part = Part::default();
    for (place, record) in batch.iter().enumerate() {
        if !part.deleted.is_empty() && !matches!(record, Record::SessionDeleted { .. }) {
            parts.push(std::mem::take(&mut part));
        }
        match record {
            Record::Session(row) => part.sessions.push(row),
            Record::Survey(row) => part.surveys.push(row),
            Record::Interview(row) => part.interviews.push(row),
            Record::Participant(row) => part.participants.push(Child { place, row }),
            Record::Track(row) => part.tracks.push(Child { place, row }),
            Record::ProviderJob(row) => part.jobs.push(Child { place, row }),
            Record::JobPiece(row) => part.job_pieces.push(Child { place, row }),
            Record::Segment(row) => part.segments.push(Child { place, row }),
            Record::Answer(row) => part.answers.push(Child { place, row }),
            Record::SessionDeleted { id } => part.deleted.push(id.0),
            Record::SessionEnded { .. }
            | Record::TrackEnded { .. }
            | Record::InterviewEnded { .. }
            | Record::Spent { .. } => part.changes.push(record),
        }
    }
    parts.push(part);
    parts
}

/// Where rows of a kind go.
pub(super) trait Table {
    /// The table and its columns.
    const INTO: &'static str;
    /// The conflict that means that the row is already there. Any other one means that it cannot be written.
    const KEY: &'static str;
}

/// Rows that refer to an owner, by their first column.
pub(super) trait Owned: Table {
    /// The owner's table.
    const OWNER: &'static str;
    fn owner(&self) -> RowId;
}

impl Table for Session {
    const INTO: &'static str =
        "sessions (id, slug, title, language, deliver, open, created_ms, ended_ms)";
    const KEY: &'static str = "id";
}

impl Table for SurveyVersion {
    const INTO: &'static str = "surveys (id, version, definition)";
    const KEY: &'static str = "id, version";
}

impl Table for Interview {
    const INTO: &'static str = "survey_sessions (id, survey_id, version, session_id, respondent, language, started_ms, ended_ms)";
    const KEY: &'static str = "id";
}

impl Table for Participant {
    const INTO: &'static str = "participants (session_id, id, user_ref, name, role, joined_ms)";
    const KEY: &'static str = "id";
}

impl Table for Track {
    const INTO: &'static str =
        "tracks (session_id, id, participant_id, provider, started_ms, audio_ms, ended_ms)";
    const KEY: &'static str = "id";
}

impl Table for ProviderJob {
    const INTO: &'static str = "provider_jobs (track_id, job, start_ms)";
    const KEY: &'static str = "track_id, job";
}

impl Table for JobPiece {
    const INTO: &'static str = "job_pieces (track_id, number, job, job_ms, start_ms)";
    const KEY: &'static str = "track_id, number";
}

impl Table for Segment {
    const INTO: &'static str = "segments (session_id, seq, track_id, kind, source, start_ms, end_ms, language, confidence, text, \
         words, created_ms)";
    const KEY: &'static str = "session_id, seq";
}

impl Table for Answer {
    const INTO: &'static str = "answers (survey_session_id, question_id, revision, request_id, value, segment_seq, created_ms)";
    const KEY: &'static str = "survey_session_id, request_id";
}

impl Owned for Participant {
    const OWNER: &'static str = "sessions";
    fn owner(&self) -> RowId {
        self.session_id
    }
}

impl Owned for Track {
    const OWNER: &'static str = "sessions";
    fn owner(&self) -> RowId {
        self.session_id
    }
}

impl Owned for ProviderJob {
    const OWNER: &'static str = "tracks";
    fn owner(&self) -> RowId {
        self.track_id
    }
}

impl Owned for JobPiece {
    const OWNER: &'static str = "tracks";
    fn owner(&self) -> RowId {
        self.track_id
    }
}

impl Owned for Segment {
    const OWNER: &'static str = "sessions";
    fn owner(&self) -> RowId {
        self.session_id
    }
}

impl Owned for Answer {
    const OWNER: &'static str = "survey_sessions";
    fn owner(&self) -> RowId {
        self.interview_id
    }
}

/// The different owners of the rows.
pub(super) fn owners<T: Owned>(rows: &[Child<'_, T>]) -> HashSet<i64> {
    rows.iter().map(|child| child.row.owner().0).collect()
}

/// What an insert of rows that belong to others has done.
#[derive(Default)]
pub(super) struct Inserted {
    /// The places of rows whose owner is not there.
    pub(super) orphans: Vec<usize>,
    /// Some were there before.
    pub(super) known: bool,
}

impl Inserted {
    /// `affected` of these rows were inserted; `there`: the owners that are there.
    pub(super) fn add<T: Owned>(
        &mut self,
        rows: &[Child<'_, T>],
        there: &HashSet<i64>,
        affected: u64,
    ) {
        let lost = rows
            .iter()
            .filter(|child| !there.contains(&child.row.owner().0));
        let before = self.orphans.len();
        self.orphans.extend(lost.map(|child| child.place));
        let lost = (self.orphans.len() - before) as u64;
        self.known |= affected + lost < rows.len() as u64;
    }
}

/// What tells segments of the same number apart.
pub(super) const NUMBERED: &str = "SELECT session_id, seq, track_id, start_ms, text FROM segments";

/// Refuses segments whose number another one has: two processes have numbered the same session.
pub(super) fn check_segments(
    rows: &[Child<'_, Segment>],
    found: Vec<(i64, i64, i64, i64, String)>,
) -> Result<(), StoreError> {
    let found: HashMap<_, _> = (found.into_iter())
        .map(|(session, seq, track, start, text)| ((session, seq), (track, start, text)))
        .collect();
    let is_other = |row: &Segment| {
        let there = found.get(&(row.session_id.0, row.seq));
        there.is_some_and(|(track, start, text)| {
            (*track, *start, &**text) != (row.track_id.0, row.start_ms, &*row.text)
        })
    };
    match rows.iter().any(|child| is_other(child.row)) {
        true => Err(StoreError::Rejected(
            "another segment has this number".to_owned(),
        )),
        false => Ok(()),
    }
}

/// The changes of rows, for both engines.
macro_rules! change {
    ($record:expr) => {
        match $record {
            Record::SessionEnded { id, ended_ms } => {
                sqlx::query("UPDATE sessions SET ended_ms = $2 WHERE id = $1")
                    .bind(id.0)
                    .bind(ended_ms)
            }
            Record::TrackEnded {
                id,
                audio_ms,
                ended_ms,
            } => sqlx::query("UPDATE tracks SET audio_ms = $2, ended_ms = $3 WHERE id = $1")
                .bind(id.0)
                .bind(audio_ms)
                .bind(ended_ms),
            Record::InterviewEnded { id, ended_ms } => {
                sqlx::query("UPDATE survey_sessions SET ended_ms = $2 WHERE id = $1")
                    .bind(id.0)
                    .bind(ended_ms)
            }
            Record::Spent {
                day,
                process,
                audio_ms,
            } => sqlx::query(
                "INSERT INTO spent (day, process, audio_ms) VALUES ($1, $2, $3) ON CONFLICT (day, process) \
                 DO UPDATE SET audio_ms = excluded.audio_ms WHERE excluded.audio_ms > spent.audio_ms",
            )
            .bind(day)
            .bind(process.0)
            .bind(audio_ms),
            _ => continue,
        }
    };
}

pub(super) use change;
