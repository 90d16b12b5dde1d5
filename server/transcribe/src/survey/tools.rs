//! What a caller can ask of an interview, and what it is answered.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    definition::{Choice, Kind, Question, Survey},
    error::ToolError,
};
use crate::record::RowId;

/// Bytes of arguments.
pub const ARGUMENTS_BYTES: usize = 64 << 10;

/// A call of one of the three tools.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The interview.
    pub session: RowId,
    pub tool: Tool,
}

#[derive(Clone, Debug)]
pub enum Tool {
    GetNextQuestion(GetNextQuestion),
    ValidateAnswer(ValidateAnswer),
    RecordResponse(RecordResponse),
}

/// Why a call is none: its sender has made a mistake that no interview can answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    #[error(
        "there is no tool `{0}`; there are get_next_question, validate_answer and record_response"
    )]
    UnknownTool(String),
    /// With a sentence.
    #[error("the arguments are not right: {0}")]
    Arguments(String),
}

impl Tool {
    pub const NAMES: [&'static str; 3] =
        ["get_next_question", "validate_answer", "record_response"];

    /// Reads a call by its name and its arguments, an object.
    ///
    /// # Errors
    /// There is no such tool, an argument is missing, or it is of the wrong type.
    pub fn parse(name: &str, arguments: Value) -> Result<Self, BadCall> {
        fn read<T: for<'de> Deserialize<'de>>(arguments: Value) -> Result<T, BadCall> {
            serde_json::from_value(arguments).map_err(|error| BadCall::Arguments(error.to_string()))
        }
        match name {
            "get_next_question" => read(arguments).map(Self::GetNextQuestion),
            "validate_answer" => read(arguments).map(Self::ValidateAnswer),
            "record_response" => read(arguments).map(Self::RecordResponse),
            _ => Err(BadCall::UnknownTool(name.chars().take(64).collect())),
        }
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::GetNextQuestion(_) => "get_next_question",
            Self::ValidateAnswer(_) => "validate_answer",
            Self::RecordResponse(_) => "record_response",
        }
    }

    pub(super) fn language(&self) -> Option<&str> {
        match self {
            Self::GetNextQuestion(arguments) => arguments.language.as_deref(),
            Self::ValidateAnswer(arguments) => arguments.answer.language.as_deref(),
            Self::RecordResponse(arguments) => arguments.answer.language.as_deref(),
        }
    }
}

/// Takes the interview out of the arguments of a call, if they name one.
///
/// # Errors
/// `unknown_session`: it is no id of an interview.
pub fn take_session(arguments: &mut Value) -> Result<Option<RowId>, ToolError> {
    let named = arguments
        .as_object_mut()
        .and_then(|map| map.remove("session"));
    let id = match named {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Number(number)) => number.as_i64(),
        Some(_) => None,
    };
    id.map(|id| Some(RowId(id)))
        .ok_or(ToolError::UnknownSession)
}

/// Asks for the question that is to be put to the respondent now; asked again, the same
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, ToSchema)]
pub struct GetNextQuestion {
    /// Language of the texts, such as "de"; that of the interview if it is left out
    pub language: Option<String>,
}

/// Asks whether an answer would be accepted; changes nothing
#[derive(Clone, Debug, Deserialize, JsonSchema, ToSchema)]
pub struct ValidateAnswer {
    #[serde(flatten)]
    pub answer: Given,
}

/// Stores an answer
#[derive(Clone, Debug, Deserialize, JsonSchema, ToSchema)]
pub struct RecordResponse {
    #[serde(flatten)]
    pub answer: Given,
    /// A name of your choice for this call, unique in the interview, 1 to 128 characters. To try again after an error
    /// or a lost reply send the same one: the answer is stored once
    #[schema(value_type = String)]
    #[schemars(with = "String")]
    pub request_id: Name,
    /// Number of the sentence in the transcript with which the respondent answered
    pub segment: Option<i64>,
    /// true to correct an answer that was given before
    #[serde(default)]
    pub revise: bool,
}

/// An answer: `value` or `spoken`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, ToSchema)]
pub struct Given {
    /// Id of the question that is answered; the current one if it is left out
    pub question: Option<String>,
    /// The answer: true or false, a number, a text, the value of a choice, a list of such values, a date such as
    /// "2026-02-28". null if the respondent does not want to answer
    #[serde(default, deserialize_with = "present")]
    pub value: Option<Value>,
    /// Instead of `value`: what the respondent said, word for word
    pub spoken: Option<String>,
    /// Language that the respondent speaks, such as "de"; that of the interview if it is left out
    pub language: Option<String>,
}

/// Tells `null` from nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What a caller calls something: 1 to 128 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let long = !(1..=128).contains(&text.chars().count());
        if long || text.chars().any(char::is_control) {
            return Err("a name has 1 to 128 characters, none of them a control character");
        }
        Ok(Self(text))
    }
}

impl TryFrom<&str> for Name {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::try_from(text.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, ToSchema)]
#[serde(untagged)]
pub enum ToolResult {
    Next(NextQuestion),
    Checked(Checked),
    Recorded(Recorded),
}

/// What is to be asked now
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, ToSchema)]
pub struct NextQuestion {
    /// None when the interview is over
    pub question: Option<Asked>,
    /// Whether the interview is over
    pub done: bool,
}

/// A question as it is put to the respondent
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, ToSchema)]
pub struct Asked {
    pub id: String,
    /// yes_no, choice, choices, scale, number, text or date
    pub r#type: &'static str,
    /// What to say
    pub text: String,
    /// Language of the texts
    pub language: String,
    /// Whether the respondent has to answer
    pub required: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub choices: Vec<Offered>,
    /// Smallest answer: a number, or a date
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// Largest answer
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
    /// 1 for the first question of this respondent's way
    pub index: usize,
    /// How many questions the way has at most
    pub of: usize,
}

/// A choice as it is offered
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, ToSchema)]
pub struct Offered {
    pub value: String,
    pub label: String,
}

/// Whether an answer would be accepted
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, ToSchema)]
pub struct Checked {
    pub valid: bool,
    /// The answer as it would be stored; null is "no answer"
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// What is wrong
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Reason>,
    /// What would be right, in a sentence
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// An answer is stored
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, ToSchema)]
pub struct Recorded {
    pub stored: bool,
    /// 1 for the first answer to the question, 2 for its first correction
    pub revision: i64,
    /// The question was given up after too many invalid answers; it has no answer
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    pub skipped: bool,
    /// What is to be asked now
    pub next: NextQuestion,
}

/// Why an answer is not valid
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Neither `value` nor `spoken` was given, or both
    Missing,
    /// The question has to be answered
    Required,
    /// Not what the question asks for
    WrongType,
    /// What was said could not be read as an answer
    NotUnderstood,
    OutOfRange,
    NotAChoice,
    TooShort,
    TooLong,
    /// The text does not have the form that is asked for
    NoMatch,
}

impl Asked {
    /// The question in a language of the survey.
    pub(super) fn new(
        survey: &Survey,
        question: &Question,
        language: &str,
        index: usize,
        of: usize,
    ) -> Self {
        let language = survey.language(Some(language));
        let (min, max) = match &question.kind {
            Kind::Scale { min, max } => (Some(Value::from(*min)), Some(Value::from(*max))),
            Kind::Number { min, max } => (
                min.map(super::accept::number),
                max.map(super::accept::number),
            ),
            Kind::Date { min, max } => {
                let text = |date: super::date::Date| Value::from(date.to_string());
                (min.map(text), max.map(text))
            }
            _ => (None, None),
        };
        let offered = |choice: &Choice| Offered {
            value: choice.value.clone(),
            label: choice.label.get(language).cloned().unwrap_or_default(),
        };
        let choices = match &question.kind {
            Kind::Choice { choices } | Kind::Choices { choices } => {
                choices.iter().map(offered).collect()
            }
            _ => Vec::new(),
        };
        Self {
            id: question.id.clone(),
            r#type: question.kind.name(),
            text: question.text.get(language).cloned().unwrap_or_default(),
            language: language.to_owned(),
            required: question.required,
            choices,
            min,
            max,
            index,
            of,
        }
    }
}
