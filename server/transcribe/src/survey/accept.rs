//! Which answers a question accepts.

use serde_json::{Number, Value};

use super::{
    date::Date,
    definition::{Choice, Kind, Question},
    read::ANSWER,
    spoken::{self, Heard},
    tools::{Given, Reason},
};

/// Why an answer is not accepted, and what would be, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub reason: Reason,
    pub hint: String,
}

/// The answer as it is stored: true or false, a number, a text, a list of values, or null for "no answer".
///
/// A text that is not exactly a value is read as if it had been spoken.
///
/// # Errors
/// The question does not accept it.
pub fn accept(question: &Question, given: &Given, language: &str) -> Result<Value, Invalid> {
    let value = match (&given.value, &given.spoken) {
        (Some(value), None) => exact(question, value, language)?,
        // Language models fill in what they leave out.
        (None | Some(Value::Null), Some(text)) => said(question, text, language)?,
        _ => return Err(invalid(Reason::Missing, "give either value or spoken")),
    };
    let nothing = match &value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    if !nothing {
        return within(question, value);
    }
    if question.required {
        return Err(invalid(Reason::Required, "the question has to be answered"));
    }
    Ok(Value::Null)
}

fn invalid(reason: Reason, hint: impl Into<String>) -> Invalid {
    Invalid {
        reason,
        hint: hint.into(),
    }
}

/// A whole number is written without a fraction.
pub(super) fn number(number: f64) -> Value {
    let whole = number.fract() == 0.0 && number.abs() < 9e15;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
    let whole = whole.then(|| Value::from(number as i64));
    whole
        .or_else(|| Number::from_f64(number).map(Value::Number))
        .unwrap_or(Value::Null)
}

/// Reads a value; what is not of the question's type but a text is read as spoken.
fn exact(question: &Question, value: &Value, language: &str) -> Result<Value, Invalid> {
    match (&question.kind, value) {
        (_, Value::Null) => Ok(Value::Null),
        (Kind::YesNo, Value::Bool(_)) => Ok(value.clone()),
        (Kind::Scale { .. } | Kind::Number { .. }, Value::Number(given)) => {
            Ok(given.as_f64().map_or(Value::Null, number))
        }
        (Kind::Text { .. }, Value::String(text)) => text_answer(text),
        (Kind::Choice { choices }, Value::String(text)) if has(choices, text) => Ok(value.clone()),
        (Kind::Choices { choices }, Value::Array(values)) => several(choices, values),
        (Kind::Choices { choices }, Value::String(text)) if has(choices, text) => {
            Ok(Value::Array(vec![value.clone()]))
        }
        (Kind::Date { .. }, Value::String(text)) if Date::parse(text).is_some() => {
            Ok(value.clone())
        }
        (_, Value::String(text)) => {
            said(question, text, language).map_err(|error| match (&question.kind, error.reason) {
                (Kind::Choice { .. } | Kind::Choices { .. }, Reason::NotUnderstood) => Invalid {
                    reason: Reason::NotAChoice,
                    ..error
                },
                (_, Reason::NotUnderstood) => Invalid {
                    reason: Reason::WrongType,
                    ..error
                },
                _ => error,
            })
        }
        _ => Err(invalid(Reason::WrongType, wanted(question))),
    }
}

fn has(choices: &[Choice], value: &str) -> bool {
    choices.iter().any(|choice| choice.value == value)
}

/// The chosen values, each once and in the order of the questionnaire.
fn several(choices: &[Choice], values: &[Value]) -> Result<Value, Invalid> {
    let known = |value: &Value| value.as_str().is_some_and(|text| has(choices, text));
    if !values.iter().all(known) {
        return Err(invalid(Reason::NotAChoice, listed("some of", choices)));
    }
    let chosen = choices
        .iter()
        .filter(|choice| values.iter().any(|value| value == choice.value.as_str()));
    Ok(Value::Array(
        chosen
            .map(|choice| Value::from(choice.value.as_str()))
            .collect(),
    ))
}

fn text_answer(text: &str) -> Result<Value, Invalid> {
    if text.len() > ANSWER * 4 {
        return Err(invalid(
            Reason::TooLong,
            format!("at most {ANSWER} characters"),
        ));
    }
    // PostgreSQL refuses NUL.
    Ok(Value::from(text.replace('\0', "").trim()))
}

fn said(question: &Question, text: &str, language: &str) -> Result<Value, Invalid> {
    let text_value = text_answer(text)?;
    match spoken::hear(&question.kind, text, language) {
        Heard::NoAnswer => Ok(Value::Null),
        Heard::Value(value) => Ok(value),
        Heard::AsItIs => Ok(text_value),
        Heard::Unclear => Err(invalid(Reason::NotUnderstood, wanted(question))),
    }
}

/// Whether a value of the right type is within the question's limits.
fn within(question: &Question, value: Value) -> Result<Value, Invalid> {
    let fault = match (&question.kind, &value) {
        (Kind::Scale { min, max }, Value::Number(given)) => match given.as_i64() {
            None => Some(Reason::WrongType),
            Some(given) => (!(*min..=*max).contains(&given)).then_some(Reason::OutOfRange),
        },
        (Kind::Number { min, max }, Value::Number(given)) => {
            let given = given.as_f64().unwrap_or(f64::NAN);
            let inside = min.is_none_or(|min| given >= min) && max.is_none_or(|max| given <= max);
            (!inside).then_some(Reason::OutOfRange)
        }
        (Kind::Date { min, max }, Value::String(text)) => match Date::parse(text) {
            None => Some(Reason::WrongType),
            Some(date) => {
                let inside = min.is_none_or(|min| date >= min) && max.is_none_or(|max| date <= max);
                (!inside).then_some(Reason::OutOfRange)
            }
        },
        (
            Kind::Text {
                min_length,
                max_length,
                pattern,
            },
            Value::String(text),
        ) => {
            let length = text.chars().count();
            if length < *min_length {
                Some(Reason::TooShort)
            } else if length > *max_length {
                Some(Reason::TooLong)
            } else {
                pattern
                    .as_ref()
                    .is_some_and(|pattern| !pattern.matches(text))
                    .then_some(Reason::NoMatch)
            }
        }
        _ => None,
    };
    fault.map_or(Ok(value), |reason| Err(invalid(reason, wanted(question))))
}

/// What the question accepts, in a sentence.
fn wanted(question: &Question) -> String {
    let limits = |min: Option<String>, max: Option<String>| match (min, max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(", {min} or above"),
        (None, Some(max)) => format!(", {max} or below"),
        (None, None) => String::new(),
    };
    match &question.kind {
        Kind::YesNo => "yes or no, as true or false".to_owned(),
        Kind::Choice { choices } => listed("one of", choices),
        Kind::Choices { choices } => listed("some of", choices),
        Kind::Scale { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Number { min, max } => {
            let limits = limits(
                min.map(|min| min.to_string()),
                max.map(|max| max.to_string()),
            );
            format!("a number{limits}")
        }
        Kind::Date { min, max } => {
            let limits = limits(
                min.map(|min| min.to_string()),
                max.map(|max| max.to_string()),
            );
            format!("a date such as 2026-02-28{limits}")
        }
        Kind::Text {
            min_length,
            max_length,
            pattern,
        } => {
            let form = if pattern.is_some() {
                " of the form that the question asks for"
            } else {
                ""
            };
            format!("a text of {min_length} to {max_length} characters{form}")
        }
    }
}

fn listed(how_many: &str, choices: &[Choice]) -> String {
    let values = choices
        .iter()
        .take(20)
        .map(|choice| choice.value.as_str())
        .collect::<Vec<_>>();
    let more = if choices.len() > 20 { ", ..." } else { "" };
    format!("{how_many} {}{more}", values.join(", "))
}
