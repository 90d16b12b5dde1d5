//! Why calls are not answered.

use schemars::JsonSchema;
use serde::Serialize;
use utoipa::ToSchema;

use super::tools::Reason;

/// Why a call was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    #[error("there is no survey `{0}`")]
    UnknownSurvey(String),
    #[error("there is no such interview; check the session, or start one")]
    UnknownSession,
    #[error("the survey has no question `{0}`; call get_next_question for the current one")]
    UnknownQuestion(String),
    /// With the id of the current question.
    #[error(
        "the current question is `{0}`; answer that, or set revise to true to correct an earlier answer"
    )]
    NotCurrent(String),
    #[error("the answer is not valid: {hint}")]
    InvalidAnswer {
        reason: Reason,
        /// A sentence.
        hint: String,
        /// Invalid answers after which the question is skipped, if it is.
        retries_left: Option<usize>,
    },
    #[error("the interview is over; nothing can be answered or changed any more")]
    SurveyDone,
    #[error("this request_id was used for another answer; use a new one")]
    RequestIdReused,
    #[error("too many calls for this interview; wait a second")]
    RateLimited,
    #[error("the answer could not be stored or read; try again with the same request_id")]
    StorageUnavailable,
}

impl ToolError {
    /// All codes, for documentation and metrics.
    pub const CODES: [&'static str; 9] = [
        "unknown_survey",
        "unknown_session",
        "unknown_question",
        "not_current",
        "invalid_answer",
        "survey_done",
        "request_id_reused",
        "rate_limited",
        "storage_unavailable",
    ];

    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownSurvey(_) => "unknown_survey",
            Self::UnknownSession => "unknown_session",
            Self::UnknownQuestion(_) => "unknown_question",
            Self::NotCurrent(_) => "not_current",
            Self::InvalidAnswer { .. } => "invalid_answer",
            Self::SurveyDone => "survey_done",
            Self::RequestIdReused => "request_id_reused",
            Self::RateLimited => "rate_limited",
            Self::StorageUnavailable => "storage_unavailable",
        }
    }

    /// What the caller is sent.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let (problem, hint, retries_left) = match self {
            Self::InvalidAnswer {
                reason,
                hint,
                retries_left,
            } => (Some(*reason), Some(hint.clone()), *retries_left),
            _ => (None, None, None),
        };
        ErrorBody {
            code: self.code(),
            error: self.to_string(),
            problem,
            hint,
            retries_left,
        }
    }
}

/// Why a call was not answered
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, ToSchema)]
pub struct ErrorBody {
    #[schema(example = "invalid_answer")]
    pub code: &'static str,
    /// A sentence that says what to do
    pub error: String,
    /// Of an invalid answer: what is wrong
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Reason>,
    /// Of an invalid answer: what would be right
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Of an invalid answer: how often one may be tried before the question is skipped
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries_left: Option<usize>,
}
