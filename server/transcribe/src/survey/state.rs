//! Where an interview stands, and what a call does to it. Nothing here waits, reads a clock or stores anything.

use std::sync::Arc;

use serde_json::Value;

use super::{
    accept::{Invalid, accept},
    definition::{Question, Survey},
    error::ToolError,
    read::{ANSWER, RETRIES},
    tools::{Asked, Checked, Given, NextQuestion, RecordResponse, Recorded, Tool, ToolResult},
};
use crate::record::{Answer, Interview};
use crate::store::Progress;

/// Corrections in an interview.
const CORRECTIONS: usize = 200;

/// An interview: its questionnaire and the answers that are stored.
#[derive(Clone, Debug)]
pub struct State {
    survey: Arc<Survey>,
    interview: Interview,
    /// In the order in which they were given.
    given: Vec<Kept>,
}

/// A stored answer, read.
#[derive(Clone, Debug)]
struct Kept {
    place: usize,
    value: Value,
    answer: Answer,
}

/// Invalid answers to the current question, by the requests that brought them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    question: String,
    requests: Vec<String>,
}

/// What a call does.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing; this is the reply.
    Reply(ToolResult),
    /// The answer is stored, then [`State::add`] gives the reply.
    Store(Answer),
}

/// The answer of a question that was given up, and what was said instead of one.
const SKIPPED: &str = "skipped";

/// Where the interview stands after some of the answers.
struct Position {
    /// The question to ask, none at the end.
    current: Option<usize>,
    /// Questions before it on the way.
    before: usize,
}

impl State {
    /// The state that the stored answers make. Answers to questions that the questionnaire does not have are left out.
    #[must_use]
    pub fn new(survey: Arc<Survey>, interview: Interview, answers: Vec<Answer>) -> Self {
        let mut state = Self {
            survey,
            interview,
            given: Vec::with_capacity(answers.len()),
        };
        for answer in answers {
            state.keep(answer);
        }
        state
    }

    #[must_use]
    pub fn interview(&self) -> &Interview {
        &self.interview
    }

    /// What the store says of it, if it has nothing else.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            answers: self.given.len(),
            ended_ms: self.interview.ended_ms,
        }
    }

    /// Whether no question is left.
    #[must_use]
    pub fn done(&self) -> bool {
        self.position(self.given.len()).current.is_none()
    }

    /// When the last answer was given, in milliseconds since 1970.
    #[must_use]
    pub fn last_ms(&self) -> i64 {
        self.given
            .last()
            .map_or(self.interview.started_ms, |kept| kept.answer.created_ms)
    }

    /// Notes that the end is stored.
    pub fn ended(&mut self, ended_ms: i64) {
        self.interview.ended_ms = Some(ended_ms);
    }

    /// Adds an answer that has been stored, and gives the reply to the call that brought it.
    pub fn add(&mut self, answer: Answer, language: Option<&str>) -> ToolResult {
        self.keep(answer);
        self.reply(self.given.len().saturating_sub(1), language)
    }

    fn keep(&mut self, answer: Answer) {
        let value = serde_json::from_str(&answer.value).unwrap_or(Value::Null);
        if let Some(place) = self.survey.place(&answer.question_id) {
            self.given.push(Kept {
                place,
                value,
                answer,
            });
        }
    }

    /// Follows the way through the questionnaire by the first `count` answers.
    fn position(&self, count: usize) -> Position {
        let mut latest = vec![None; self.survey.questions.len()];
        for kept in self.given.iter().take(count) {
            latest[kept.place] = Some(&kept.value);
        }
        let (mut current, mut before) = (Some(0), 0);
        while let Some(place) = current
            && let Some(value) = latest[place]
        {
            current = self.survey.next(place, value);
            before += 1;
        }
        Position { current, before }
    }

    /// Whether the question lies on the way that the answers have taken.
    fn on_the_way(&self, wanted: usize) -> bool {
        let mut current = Some(0);
        while let Some(place) = current
            && let Some(kept) = self.latest(place)
        {
            if place == wanted {
                return true;
            }
            current = self.survey.next(place, &kept.value);
        }
        false
    }

    fn latest(&self, place: usize) -> Option<&Kept> {
        self.given.iter().rev().find(|kept| kept.place == place)
    }

    fn next(&self, count: usize, language: Option<&str>) -> NextQuestion {
        let Position { current, before } = self.position(count);
        let language = language.unwrap_or(&self.interview.language);
        let asked = current.and_then(|place| {
            let question = self.survey.questions.get(place)?;
            let of = before + self.survey.longest_from(place);
            Some(Asked::new(&self.survey, question, language, before + 1, of))
        });
        NextQuestion {
            done: asked.is_none(),
            question: asked,
        }
    }

    /// The reply to the call that brought an answer, as it was then.
    fn reply(&self, at: usize, language: Option<&str>) -> ToolResult {
        let kept = self.given.get(at);
        ToolResult::Recorded(Recorded {
            stored: true,
            revision: kept.map_or(1, |kept| kept.answer.revision),
            skipped: kept.is_some_and(|kept| kept.value.is_object()),
            next: self.next(at + 1, language),
        })
    }

    fn language<'s>(&'s self, given: &'s Given) -> &'s str {
        self.survey.language(Some(
            given
                .language
                .as_deref()
                .unwrap_or(&self.interview.language),
        ))
    }

    /// The id of the question that is named, or of the current one.
    pub(super) fn asked(&self, given: &Given) -> String {
        self.question(given)
            .map(|(_, question)| question.id.clone())
            .unwrap_or_default()
    }

    /// The question that is named, or the current one.
    fn question(&self, given: &Given) -> Result<(usize, &Question), ToolError> {
        let place = match &given.question {
            Some(id) => {
                let unknown = || ToolError::UnknownQuestion(id.chars().take(64).collect());
                self.survey.place(id).ok_or_else(unknown)?
            }
            None => self
                .position(self.given.len())
                .current
                .ok_or(ToolError::SurveyDone)?,
        };
        Ok((place, &self.survey.questions[place]))
    }

    fn check(&self, given: &Given) -> Result<ToolResult, ToolError> {
        let (_, question) = self.question(given)?;
        let checked = match accept(question, given, self.language(given)) {
            Ok(value) => Checked {
                valid: true,
                value: Some(value),
                problem: None,
                hint: None,
            },
            Err(Invalid { reason, hint }) => Checked {
                valid: false,
                value: None,
                problem: Some(reason),
                hint: Some(hint),
            },
        };
        Ok(ToolResult::Checked(checked))
    }

    /// What a request that is known was answered, if it brings the same answer.
    fn repeated(&self, call: &RecordResponse) -> Option<Result<ToolResult, ToolError>> {
        let request = call.request_id.as_str();
        let at = self
            .given
            .iter()
            .position(|kept| kept.answer.request_id == request)?;
        let kept = &self.given[at];
        let question = &self.survey.questions[kept.place];
        let given = &call.answer;
        let same_question = given.question.as_ref().is_none_or(|id| *id == question.id);
        let same_value = match accept(question, given, self.language(given)) {
            Ok(value) => value == kept.value,
            Err(_) => skipped(given) == kept.value,
        };
        let same = same_question && same_value && kept.answer.segment_seq == call.segment;
        Some(if same {
            Ok(self.reply(at, given.language.as_deref()))
        } else {
            Err(ToolError::RequestIdReused)
        })
    }

    fn record(
        &self,
        attempts: &Attempts,
        call: &RecordResponse,
        now_ms: i64,
    ) -> Result<Outcome, ToolError> {
        if let Some(reply) = self.repeated(call) {
            return reply.map(Outcome::Reply);
        }
        let current = self
            .position(self.given.len())
            .current
            .ok_or(ToolError::SurveyDone)?;
        let (place, question) = self.question(&call.answer)?;
        if place != current && !(call.revise && self.on_the_way(place)) {
            return Err(ToolError::NotCurrent(
                self.survey.questions[current].id.clone(),
            ));
        }
        let earlier = self.latest(place);
        if earlier.is_some() && self.given.len() >= self.survey.questions.len() + CORRECTIONS {
            return Err(ToolError::RateLimited);
        }
        let value = match accept(question, &call.answer, self.language(&call.answer)) {
            Ok(value) => value,
            // Only a question that has no answer yet is given up.
            Err(invalid) => attempts.failed(question, call, invalid, earlier.is_none())?,
        };
        Ok(Outcome::Store(Answer {
            interview_id: self.interview.id,
            question_id: question.id.clone(),
            revision: earlier.map_or(1, |kept| kept.answer.revision + 1),
            request_id: call.request_id.as_str().to_owned(),
            value: value.to_string(),
            segment_seq: call.segment,
            // Later than the answer before, so that the order of times is the order of answers.
            created_ms: now_ms.max(self.last_ms() + 1),
        }))
    }
}

/// What a call does to an interview. `now_ms` counts from 1970.
///
/// # Errors
/// As the tools name them; an `invalid_answer` to [`Tool::RecordResponse`] is then noted by [`Attempts::note`].
pub fn answer(
    state: &State,
    attempts: &Attempts,
    tool: &Tool,
    now_ms: i64,
) -> Result<Outcome, ToolError> {
    match tool {
        Tool::GetNextQuestion(call) => {
            let next = state.next(state.given.len(), call.language.as_deref());
            Ok(Outcome::Reply(ToolResult::Next(next)))
        }
        Tool::ValidateAnswer(call) => state.check(&call.answer).map(Outcome::Reply),
        Tool::RecordResponse(call) => state.record(attempts, call, now_ms),
    }
}

/// What is stored of a question that is given up.
fn skipped(given: &Given) -> Value {
    let mut said = serde_json::Map::new();
    if let Some(value) = given
        .value
        .as_ref()
        .filter(|value| value.to_string().len() <= ANSWER)
    {
        said.insert("value".to_owned(), value.clone());
    }
    if let Some(spoken) = &given.spoken {
        let spoken: String = spoken
            .chars()
            .filter(|letter| *letter != '\0')
            .take(ANSWER)
            .collect();
        said.insert("spoken".to_owned(), Value::from(spoken));
    }
    Value::Object(
        [(SKIPPED.to_owned(), Value::Object(said))]
            .into_iter()
            .collect(),
    )
}

impl Attempts {
    /// Notes an invalid answer. The same request counts once.
    pub fn note(&mut self, question: &str, request: &str) {
        if self.question != question {
            *self = Self {
                question: question.to_owned(),
                requests: Vec::new(),
            };
        }
        // More do not change what follows.
        if self.requests.len() <= RETRIES && !self.requests.iter().any(|known| known == request) {
            self.requests.push(request.to_owned());
        }
    }

    /// What follows from one more invalid answer: an error, or the value of a question that is given up.
    fn failed(
        &self,
        question: &Question,
        call: &RecordResponse,
        invalid: Invalid,
        may_skip: bool,
    ) -> Result<Value, ToolError> {
        let request = call.request_id.as_str();
        let others = self
            .requests
            .iter()
            .filter(|known| *known != request)
            .count();
        let before = if self.question == question.id {
            others
        } else {
            0
        };
        let retries = question.skip.filter(|_| may_skip).map(|skip| skip.retries);
        match retries {
            Some(retries) if before >= retries => Ok(skipped(&call.answer)),
            _ => Err(ToolError::InvalidAnswer {
                reason: invalid.reason,
                hint: invalid.hint,
                retries_left: retries.map(|retries| retries - before),
            }),
        }
    }
}
