//! Reads the states of interviews from the store.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{
    Inner,
    held::{Held, Slot},
};
use crate::{
    record::{Record, RowId},
    store::Answered,
    survey::{definition::Survey, error::ToolError, state::State},
};

/// Longest wait for an answer of the store.
const READ: Duration = Duration::from_secs(2);

/// Versions of questionnaires that are kept for running interviews.
const VERSIONS: usize = 100;

/// An answer of the store, if it comes in time.
pub(in crate::survey) async fn read<T>(answer: Answered<'_, T>) -> Result<T, ToolError> {
    match tokio::time::timeout(READ, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "an interview cannot be read");
            Err(ToolError::StorageUnavailable)
        }
        Err(_) => {
            tracing::warn!("an interview cannot be read: no answer from the database");
            Err(ToolError::StorageUnavailable)
        }
    }
}

/// The interview has been deleted: nothing of it stays here, so that its respondent may begin again.
fn gone(held: &mut Held) -> ToolError {
    held.state = None;
    ToolError::UnknownSession
}

impl Inner {
    /// Makes sure that the state is there and right.
    pub(super) async fn load(
        &self,
        id: RowId,
        slot: &Slot,
        held: &mut Held,
    ) -> Result<(), ToolError> {
        if let Some(state) = &held.state
            && !held.doubtful
        {
            // Another process may have led it meanwhile. While the store is away, what is known here has to do: it takes no
            // second answer to a question.
            if self.store.is_shared() && !slot.only_spilled(&*self.log) && !self.log.behind() {
                match self.changed(id, state).await {
                    Ok(None) => {}
                    Ok(changed) => held.state = changed,
                    Err(ToolError::UnknownSession) => return Err(gone(held)),
                    Err(_) => {}
                }
            }
            return self.end(held).await;
        }
        if slot.only_spilled(&*self.log) {
            // Memory may have less than the spill, and the store has not all of it.
            return Err(ToolError::StorageUnavailable);
        }
        match self.stored(id).await {
            Ok(state) => held.state = Some(state),
            Err(ToolError::UnknownSession) => return Err(gone(held)),
            Err(error) => return Err(error),
        }
        held.doubtful = false;
        self.end(held).await
    }

    /// The state as the store has it, if it is not `known`.
    async fn changed(&self, id: RowId, known: &State) -> Result<Option<State>, ToolError> {
        let progress = read(self.store.progress(id)).await?;
        if progress.ok_or(ToolError::UnknownSession)? == known.progress() {
            return Ok(None);
        }
        self.stored(id).await.map(Some)
    }

    /// The state as the store has it.
    async fn stored(&self, id: RowId) -> Result<State, ToolError> {
        let interview = read(self.store.interview(id))
            .await?
            .ok_or(ToolError::UnknownSession)?;
        let survey = self
            .version(&interview.survey_id, interview.version)
            .await?;
        let answers = read(self.store.answers(id)).await?;
        Ok(State::new(survey, interview, answers))
    }

    /// Stores the end of an interview that has no question left, if a crash has lost it. Until that has worked, each
    /// call tries it again; the interview is over all the same.
    async fn end(&self, held: &mut Held) -> Result<(), ToolError> {
        let Some(state) = held.state.as_mut() else {
            return Ok(());
        };
        if state.interview().ended_ms.is_some() || !state.done() {
            return Ok(());
        }
        let ended_ms = state.last_ms();
        if self
            .log
            .append(vec![Record::InterviewEnded {
                id: state.interview().id,
                ended_ms,
            }])
            .await
            .is_ok()
        {
            state.ended(ended_ms);
        }
        Ok(())
    }

    async fn version(&self, id: &str, version: i64) -> Result<Arc<Survey>, ToolError> {
        if let Some(offered) = self
            .surveys
            .get(id)
            .filter(|offered| offered.survey.version == version)
        {
            return Ok(Arc::clone(&offered.survey));
        }
        let key = (id.to_owned(), version);
        let versions = || self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(survey) = versions().get(&key) {
            return Ok(Arc::clone(survey));
        }
        let lost = || {
            tracing::warn!(
                survey = id,
                version,
                "the questionnaire of an interview cannot be read"
            );
            ToolError::StorageUnavailable
        };
        let stored = read(self.store.survey_version(id, version))
            .await?
            .ok_or_else(lost)?;
        let survey = Survey::parse(&stored.definition, id).map_err(|_| lost())?;
        let survey = Arc::new(survey);
        let mut versions = versions();
        if versions.len() >= VERSIONS {
            versions.clear();
        }
        versions.insert(key, Arc::clone(&survey));
        Ok(survey)
    }
}
