//! A store and a log in memory, for faults on demand.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;
use voicematch_transcribe::{
    record::{
        Answer, Interview, JobPiece, Participant, ProviderJob, Record, RowId, Segment, Session,
        SurveyVersion, Track,
    },
    store::{Answered, Held, Old, Owner, Progress, Store, StoreError},
    survey::{Log, NotStored, Stored, Storing},
};

/// What the log does with the next records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// They are refused, and not written.
    Lost,
    /// They are written, and said to be refused.
    LostReply,
    /// They go to the spill, which [`Memory::replay`] writes to the store.
    Spill,
}

/// Rows in memory, with the unique keys of the schema.
#[derive(Default)]
pub(crate) struct Memory {
    rows: Arc<Mutex<Rows>>,
    /// Writes wait while it is set.
    gate: Mutex<Option<Arc<Notify>>>,
    shared: AtomicBool,
}

#[derive(Default)]
struct Rows {
    surveys: Vec<SurveyVersion>,
    interviews: Vec<Interview>,
    answers: Vec<Answer>,
    spill: Vec<Record>,
    fault: Fault,
    unreadable: bool,
    /// Interviews whose reads are counted.
    reads: u64,
    appended: u64,
}

impl Memory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows
            .lock()
            .expect("no test panics while it holds the rows")
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.rows().fault = fault;
    }

    pub(crate) fn unreadable(&self, unreadable: bool) {
        self.rows().unreadable = unreadable;
    }

    /// Holds all writes until the gate is notified.
    pub(crate) fn hold(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.gate.lock().expect("no panic") = Some(Arc::clone(&gate));
        gate
    }

    pub(crate) fn release(&self) {
        if let Some(gate) = self.gate.lock().expect("no panic").take() {
            gate.notify_waiters();
            gate.notify_one();
        }
    }

    /// Writes what was spilled.
    pub(crate) fn replay(&self) {
        let mut rows = self.rows();
        let spill = std::mem::take(&mut rows.spill);
        for record in spill {
            rows.write(record);
        }
    }

    pub(crate) fn answers_stored(&self) -> Vec<Answer> {
        self.rows().answers.clone()
    }

    pub(crate) fn interviews_stored(&self) -> Vec<Interview> {
        self.rows().interviews.clone()
    }

    pub(crate) fn surveys_stored(&self) -> Vec<SurveyVersion> {
        self.rows().surveys.clone()
    }

    pub(crate) fn interviews_read(&self) -> u64 {
        self.rows().reads
    }

    /// Records that were given to the log.
    pub(crate) fn appended(&self) -> u64 {
        self.rows().appended
    }

    /// Deletes all interviews, as the retention does.
    pub(crate) fn expire_all(&self) {
        let mut rows = self.rows();
        rows.interviews.clear();
        rows.answers.clear();
    }

    /// Other processes may use it, too.
    pub(crate) fn share(&self) {
        self.shared.store(true, Relaxed);
    }

    /// Takes the end of all interviews away, as a crash before it would have.
    pub(crate) fn lose_ends(&self) {
        for interview in &mut self.rows().interviews {
            interview.ended_ms = None;
        }
    }

    fn answer<T>(&self, read: impl FnOnce(&mut Rows) -> T) -> Answered<'_, T>
    where
        T: Send + 'static,
    {
        let mut rows = self.rows();
        let answer = if rows.unreadable {
            Err(StoreError::Temporary("it is down".to_owned()))
        } else {
            Ok(read(&mut rows))
        };
        Box::pin(async move {
            // Others run between a read and its answer.
            tokio::task::yield_now().await;
            answer
        })
    }
}

impl Rows {
    fn append(&mut self, records: Vec<Record>) -> Result<Stored, NotStored> {
        match self.fault {
            Fault::Lost => return Err(NotStored),
            Fault::Spill => {
                self.spill.extend(records);
                return Ok(Stored::Spill);
            }
            Fault::None | Fault::LostReply => {}
        }
        let is_orphan = |record: &Record| match record {
            Record::Answer(answer) => {
                let mut interviews = self.interviews.iter();
                !interviews.any(|interview| interview.id == answer.interview_id)
            }
            _ => false,
        };
        if records.iter().any(is_orphan) {
            return Err(NotStored);
        }
        records.into_iter().for_each(|record| self.write(record));
        if self.fault == Fault::LostReply {
            Err(NotStored)
        } else {
            Ok(Stored::Database)
        }
    }

    fn write(&mut self, record: Record) {
        match record {
            Record::Survey(survey) if self.surveys.contains(&survey) => {}
            Record::Survey(survey) => self.surveys.push(survey),
            Record::Interview(interview) => {
                let known = self.interviews.iter().find(|known| {
                    known.id == interview.id
                        || (known.respondent.is_some()
                            && (&known.survey_id, &known.respondent)
                                == (&interview.survey_id, &interview.respondent))
                });
                match known {
                    Some(known) => {
                        assert_eq!(known.id, interview.id, "one interview for each respondent")
                    }
                    None => self.interviews.push(interview),
                }
            }
            Record::InterviewEnded { id, ended_ms } => {
                for interview in self.interviews.iter_mut().filter(|known| known.id == id) {
                    interview.ended_ms.get_or_insert(ended_ms);
                }
            }
            Record::Answer(answer) => {
                let of = |known: &&Answer| known.interview_id == answer.interview_id;
                if self
                    .answers
                    .iter()
                    .filter(of)
                    .any(|known| known.request_id == answer.request_id)
                {
                    return;
                }
                let key = (&answer.question_id, answer.revision);
                let twice = self
                    .answers
                    .iter()
                    .filter(of)
                    .any(|known| (&known.question_id, known.revision) == key);
                assert!(!twice, "two answers with the same revision: {answer:?}");
                self.answers.push(answer);
            }
            _ => {}
        }
    }
}

impl Log for Memory {
    fn append(&self, records: Vec<Record>) -> Storing {
        let gate = self.gate.lock().expect("no panic").clone();
        self.rows().appended += records.len() as u64;
        let rows = Arc::clone(&self.rows);
        Box::pin(async move {
            // Who reads in between does not see them.
            match gate {
                Some(gate) => gate.notified().await,
                None => tokio::task::yield_now().await,
            }
            let result = rows.lock().expect("no panic").append(records);
            tokio::task::yield_now().await;
            result
        })
    }

    fn behind(&self) -> bool {
        !self.rows().spill.is_empty()
    }
}

impl Store for Memory {
    fn append<'a>(&'a self, batch: &'a [Record]) -> Answered<'a, Vec<usize>> {
        let batch = batch.to_vec();
        self.answer(|rows| {
            batch.into_iter().for_each(|record| rows.write(record));
            Vec::new()
        })
    }

    fn expire(&self, _: Old, _: u32) -> Answered<'_, u64> {
        self.answer(|_| 0)
    }

    fn hold<'a>(&'a self, _: &'a Owner, _: &'a [RowId]) -> Answered<'a, Held> {
        Box::pin(async { Ok(Held::default()) })
    }

    fn owner(&self, _: RowId) -> Answered<'_, Option<Owner>> {
        Box::pin(async { Ok(None) })
    }

    fn release(&self, _: RowId) -> Answered<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn let_go<'a>(&'a self, _: RowId, _: &'a [RowId]) -> Answered<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn is_shared(&self) -> bool {
        self.shared.load(Relaxed)
    }

    fn session<'a>(&'a self, _: &'a str) -> Answered<'a, Option<Session>> {
        self.answer(|_| None)
    }

    fn participants(&self, _: RowId) -> Answered<'_, Vec<Participant>> {
        self.answer(|_| Vec::new())
    }

    fn tracks(&self, _: RowId) -> Answered<'_, Vec<Track>> {
        self.answer(|_| Vec::new())
    }

    fn segments(&self, _: RowId, _: i64, _: u32) -> Answered<'_, Vec<Segment>> {
        self.answer(|_| Vec::new())
    }

    fn jobs(&self, _: RowId) -> Answered<'_, Vec<ProviderJob>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn job_pieces(&self, _: RowId) -> Answered<'_, Vec<JobPiece>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn audio_ms(&self, _: i64) -> Answered<'_, i64> {
        Box::pin(async { Ok(0) })
    }

    fn spent_ms(&self, _: i64, _: RowId) -> Answered<'_, i64> {
        Box::pin(async { Ok(0) })
    }

    fn last_seq(&self, _: RowId) -> Answered<'_, i64> {
        self.answer(|_| 0)
    }

    fn survey<'a>(&'a self, id: &'a str) -> Answered<'a, Option<SurveyVersion>> {
        self.answer(|rows| rows.surveys.iter().rfind(|survey| survey.id == id).cloned())
    }

    fn survey_version<'a>(
        &'a self,
        id: &'a str,
        version: i64,
    ) -> Answered<'a, Option<SurveyVersion>> {
        self.answer(|rows| {
            let mut surveys = rows.surveys.iter();
            surveys
                .find(|survey| survey.id == id && survey.version == version)
                .cloned()
        })
    }

    fn interview(&self, id: RowId) -> Answered<'_, Option<Interview>> {
        self.answer(|rows| {
            rows.reads += 1;
            rows.interviews
                .iter()
                .find(|interview| interview.id == id)
                .cloned()
        })
    }

    fn progress(&self, interview: RowId) -> Answered<'_, Option<Progress>> {
        self.answer(|rows| {
            let answers = rows.answers.iter();
            let found = rows.interviews.iter().find(|row| row.id == interview)?;
            Some(Progress {
                answers: answers.filter(|row| row.interview_id == interview).count(),
                ended_ms: found.ended_ms,
            })
        })
    }

    fn interview_of<'a>(
        &'a self,
        survey: &'a str,
        respondent: &'a str,
    ) -> Answered<'a, Option<Interview>> {
        self.answer(|rows| {
            let mut interviews = rows.interviews.iter();
            interviews
                .find(|interview| {
                    interview.survey_id == survey
                        && interview.respondent.as_deref() == Some(respondent)
                })
                .cloned()
        })
    }

    fn interview_in(&self, session: RowId) -> Answered<'_, Option<Interview>> {
        self.answer(|rows| {
            let held = rows
                .interviews
                .iter()
                .filter(|interview| interview.session_id == Some(session));
            held.max_by_key(|interview| (interview.started_ms, interview.id))
                .cloned()
        })
    }

    fn interviews<'a>(
        &'a self,
        survey: &'a str,
        after: RowId,
        limit: u32,
    ) -> Answered<'a, Vec<Interview>> {
        self.answer(|rows| {
            let mut found: Vec<Interview> = rows
                .interviews
                .iter()
                .filter(|interview| interview.survey_id == survey && interview.id > after)
                .cloned()
                .collect();
            found.sort_by_key(|interview| interview.id);
            found.truncate(limit as usize);
            found
        })
    }

    fn answers(&self, interview: RowId) -> Answered<'_, Vec<Answer>> {
        self.answer(|rows| {
            let mut answers: Vec<Answer> = rows
                .answers
                .iter()
                .filter(|answer| answer.interview_id == interview)
                .cloned()
                .collect();
            answers.sort_by_key(|answer| answer.created_ms);
            let times: HashSet<i64> = answers.iter().map(|answer| answer.created_ms).collect();
            assert_eq!(times.len(), answers.len(), "answers have an order");
            answers
        })
    }
}
