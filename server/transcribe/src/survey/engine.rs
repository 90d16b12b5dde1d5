//! Leads interviews: keeps their states, stores answers, and reads states back from the store.

mod held;
mod load;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use self::held::{Held, Interviews, Slot};
pub(super) use self::load::read;
use super::{
    definition::Survey,
    error::ToolError,
    export::{Export, Format},
    log::{Log, NotStored, Stored},
    metrics::SurveyMetrics,
    state::{Outcome, State, answer},
    tools::{Name, Tool, ToolCall, ToolResult},
};
use crate::{
    record::{Interview, Record, RowId},
    store::Store,
};

/// Respondents who begin at the same time wait for one another if they share one of these locks.
const START_LOCKS: usize = 64;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Interviews in memory; others are read from the store when they are used.
    pub interviews: usize,
    /// Calls of an interview at once.
    pub burst: f64,
    /// Calls of an interview over time.
    pub calls_per_second: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            interviews: 10_000,
            burst: 60.0,
            calls_per_second: 20.0,
        }
    }
}

/// An interview that can be led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    pub interview: RowId,
    /// The respondent had begun before.
    pub resumed: bool,
}

/// Leads interviews. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    log: Arc<dyn Log>,
    surveys: HashMap<String, Offered>,
    versions: Mutex<HashMap<(String, i64), Arc<Survey>>>,
    interviews: Interviews,
    starts: Vec<Arc<AsyncMutex<()>>>,
    hasher: RandomState,
    metrics: SurveyMetrics,
    limits: Limits,
}

/// A questionnaire of which interviews can be started.
struct Offered {
    survey: Arc<Survey>,
    stored: AtomicBool,
}

impl Engine {
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        log: Arc<dyn Log>,
        surveys: Vec<Survey>,
        metrics: SurveyMetrics,
    ) -> Self {
        Self::with_limits(store, log, surveys, metrics, Limits::default())
    }

    #[must_use]
    pub fn with_limits(
        store: Arc<dyn Store>,
        log: Arc<dyn Log>,
        surveys: Vec<Survey>,
        metrics: SurveyMetrics,
        limits: Limits,
    ) -> Self {
        let offered = |survey: Survey| {
            let offered = Offered {
                survey: Arc::new(survey),
                stored: AtomicBool::new(false),
            };
            (offered.survey.id.clone(), offered)
        };
        let inner = Inner {
            store,
            log,
            surveys: surveys.into_iter().map(offered).collect(),
            versions: Mutex::default(),
            interviews: Interviews::default(),
            starts: (0..START_LOCKS).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
            metrics,
            limits,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A questionnaire of which interviews can be started.
    #[must_use]
    pub fn survey(&self, id: &str) -> Option<&Arc<Survey>> {
        self.inner.surveys.get(id).map(|offered| &offered.survey)
    }

    /// Starts an interview, or finds the one that the respondent has begun. `session` is the transcription session in
    /// which it is held.
    ///
    /// # Errors
    /// `unknown_survey`, `storage_unavailable`.
    pub async fn start(
        &self,
        survey: &str,
        respondent: Option<Name>,
        language: Option<&str>,
        session: Option<RowId>,
    ) -> Result<Started, ToolError> {
        let unknown = || ToolError::UnknownSurvey(survey.chars().take(64).collect());
        let offered = self.inner.surveys.get(survey).ok_or_else(unknown)?;
        let interview = Interview {
            id: RowId::random(),
            survey_id: survey.to_owned(),
            version: offered.survey.version,
            session_id: session,
            respondent: respondent.map(String::from),
            language: offered.survey.language(language).to_owned(),
            started_ms: now_ms(),
            ended_ms: None,
        };
        let inner = Arc::clone(&self.inner);
        // A caller that goes away must not leave it half done.
        finish(tokio::spawn(async move { inner.start(interview).await })).await
    }

    /// The interview that is held in a transcription session: `named`, or else the one that began last.
    ///
    /// # Errors
    /// `unknown_session` if none is held there, or `named` is held elsewhere; `storage_unavailable`.
    pub async fn interview_in(
        &self,
        session: RowId,
        named: Option<RowId>,
    ) -> Result<RowId, ToolError> {
        let inner = &self.inner;
        if let Some(id) = named {
            let (_, held) = inner.open(id).await?;
            let state = held.state.as_ref();
            let is_held = state.is_some_and(|it| it.interview().session_id == Some(session));
            return is_held.then_some(id).ok_or(ToolError::UnknownSession);
        }
        let known = inner.interviews.within(session);
        // Another process may have begun a later one; while the store is away, what is known here has to do.
        if let Some(id) = known
            && (!inner.store.is_shared() || inner.log.behind())
        {
            return Ok(id);
        }
        let found = read(inner.store.interview_in(session)).await;
        match (found, known) {
            (Ok(Some(found)), _) => Ok(found.id),
            (_, Some(known)) => Ok(known),
            (Ok(None), None) => Err(ToolError::UnknownSession),
            (Err(error), None) => Err(error),
        }
    }

    /// Answers a call of a tool.
    ///
    /// # Errors
    /// As [`ToolError`] lists them.
    pub async fn call(&self, call: ToolCall) -> Result<ToolResult, ToolError> {
        let began = Instant::now();
        let tool = call.tool.name();
        let result = self.inner.call(call).await;
        let label = result.as_ref().map_or_else(ToolError::code, |_| "ok");
        self.inner.metrics.called(tool, label, began.elapsed());
        result
    }

    /// All stored answers of a survey, also of its earlier versions, a piece at a time.
    ///
    /// # Errors
    /// `unknown_survey`, `storage_unavailable`.
    pub async fn export(&self, survey: &str, format: Format) -> Result<Export, ToolError> {
        if !self.inner.surveys.contains_key(survey)
            && read(self.inner.store.survey(survey)).await?.is_none()
        {
            return Err(ToolError::UnknownSurvey(survey.chars().take(64).collect()));
        }
        Ok(Export::new(
            Arc::clone(&self.inner.store),
            survey.to_owned(),
            format,
        ))
    }
}

/// The result of a task that nobody can cancel.
async fn finish<T>(task: tokio::task::JoinHandle<Result<T, ToolError>>) -> Result<T, ToolError> {
    task.await.unwrap_or(Err(ToolError::StorageUnavailable))
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Inner {
    async fn start(&self, interview: Interview) -> Result<Started, ToolError> {
        let Some(offered) = self.surveys.get(&interview.survey_id) else {
            return Err(ToolError::UnknownSurvey(interview.survey_id));
        };
        let respondent = interview
            .respondent
            .clone()
            .map(|name| (interview.survey_id.clone(), name));
        let _alone = match &respondent {
            Some(key) => Some(self.start_lock(key).await),
            None => None,
        };
        if let Some(known) = self.known(respondent.as_ref()).await? {
            return Ok(Started {
                interview: known,
                resumed: true,
            });
        }
        let slot = self
            .interviews
            .get(interview.id, self.limits.interviews, &*self.log)?;
        let mut held = slot.lock().await;
        let mut records = vec![Record::Interview(interview.clone())];
        if !offered.stored.load(Relaxed) {
            records.insert(0, Record::Survey(offered.survey.to_record()));
        }
        let (id, session) = (interview.id, interview.session_id);
        match self.log.append(records).await {
            Ok(Stored::Spill) => slot.spilled(),
            Ok(Stored::Database) => {}
            Err(NotStored) => {
                drop(held);
                self.interviews.forget(id, slot);
                return Err(ToolError::StorageUnavailable);
            }
        }
        offered.stored.store(true, Relaxed);
        held.state = Some(State::new(
            Arc::clone(&offered.survey),
            interview,
            Vec::new(),
        ));
        self.interviews.name(respondent, id);
        self.interviews.hold(id, session);
        self.metrics.used(id);
        Ok(Started {
            interview: id,
            resumed: false,
        })
    }

    async fn start_lock(&self, respondent: &(String, String)) -> OwnedMutexGuard<()> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        let place = self.hasher.hash_one(respondent) as usize % self.starts.len();
        Arc::clone(&self.starts[place]).lock_owned().await
    }

    /// The interview that the respondent has begun.
    async fn known(
        &self,
        respondent: Option<&(String, String)>,
    ) -> Result<Option<RowId>, ToolError> {
        let Some(key) = respondent else {
            return Ok(None);
        };
        // The store does not know those that lie in the spill.
        if let Some(id) = self.interviews.of(key) {
            return Ok(Some(id));
        }
        let found = read(self.store.interview_of(&key.0, &key.1)).await?;
        Ok(found.map(|interview| interview.id))
    }

    /// The interview with its state, for one caller at a time.
    async fn open(&self, id: RowId) -> Result<(Slot, OwnedMutexGuard<Held>), ToolError> {
        let slot = self
            .interviews
            .get(id, self.limits.interviews, &*self.log)?;
        let mut held = slot.lock().await;
        if !held.bucket.take(&self.limits, Instant::now()) {
            return Err(ToolError::RateLimited);
        }
        if let Err(error) = self.load(id, &slot, &mut held).await {
            drop(held);
            self.interviews.forget(id, slot);
            return Err(error);
        }
        Ok((slot, held))
    }

    async fn call(self: &Arc<Self>, call: ToolCall) -> Result<ToolResult, ToolError> {
        let ToolCall { session, tool } = call;
        let (slot, mut held) = self.open(session).await?;
        self.metrics.used(session);
        let Held {
            state: Some(state),
            attempts,
            ..
        } = &mut *held
        else {
            return Err(ToolError::StorageUnavailable);
        };
        match answer(state, attempts, &tool, now_ms()) {
            Ok(Outcome::Reply(result)) => Ok(result),
            Ok(Outcome::Store(record)) => {
                let inner = Arc::clone(self);
                let language = tool.language().map(str::to_owned);
                let storing =
                    async move { inner.store(&slot, held, record, language.as_deref()).await };
                // A caller that goes away must not leave memory and store apart.
                finish(tokio::spawn(storing)).await
            }
            Err(error) => {
                if let (ToolError::InvalidAnswer { .. }, Tool::RecordResponse(call)) =
                    (&error, &tool)
                {
                    let question = state.asked(&call.answer);
                    attempts.note(&question, call.request_id.as_str());
                }
                Err(error)
            }
        }
    }

    /// Stores an answer, and with the last one the end of the interview; then, and only then, the state has it.
    async fn store(
        &self,
        slot: &Slot,
        mut held: OwnedMutexGuard<Held>,
        record: crate::record::Answer,
        language: Option<&str>,
    ) -> Result<ToolResult, ToolError> {
        let Some(mut state) = held.state.clone() else {
            return Err(ToolError::StorageUnavailable);
        };
        let at = record.created_ms;
        let result = state.add(record.clone(), language);
        let mut records = vec![Record::Answer(record)];
        if state.done() {
            records.push(Record::InterviewEnded {
                id: state.interview().id,
                ended_ms: at,
            });
            state.ended(at);
        }
        match self.log.append(records).await {
            Ok(stored) => {
                if stored == Stored::Spill {
                    slot.spilled();
                }
                held.state = Some(state);
                Ok(result)
            }
            Err(NotStored) => {
                // What is stored is not known for sure: the next call reads it.
                held.doubtful = true;
                Err(ToolError::StorageUnavailable)
            }
        }
    }
}
