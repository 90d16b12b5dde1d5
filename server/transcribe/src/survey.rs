//! Surveys: questionnaires, and interviews that are led by three tools.
//!
//! A caller, mostly a language model that speaks with the respondent, asks for the next question, asks whether an
//! answer is valid, and has it recorded. What it may do is decided by the questionnaire and the stored answers alone.

mod accept;
mod check;
mod condition;
mod date;
mod definition;
mod document;
mod engine;
mod error;
mod export;
mod log;
#[cfg(feature = "mcp")]
pub mod mcp;
mod metrics;
mod read;
mod spoken;
mod state;
mod tools;

pub use accept::{Invalid, accept};
pub use condition::Condition;
pub use date::Date;
pub use definition::{
    Branch, Choice, Kind, OnFailure, Pattern, Problem, Question, Skip, Survey, Target,
};
pub use engine::{Engine, Limits, Started};
pub use error::{ErrorBody, ToolError};
pub use export::{Export, Format};
pub use log::{Log, NotStored, Stored, Storing};
pub use metrics::SurveyMetrics;
pub use state::{Attempts, Outcome, State, answer};
pub use tools::{
    ARGUMENTS_BYTES, Asked, BadCall, Checked, GetNextQuestion, Given, Name, NextQuestion, Offered,
    Reason, RecordResponse, Recorded, Tool, ToolCall, ToolResult, ValidateAnswer, take_session,
};
