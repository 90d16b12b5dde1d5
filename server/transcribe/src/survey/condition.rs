//! Conditions of branches: `answer == 0`, `answer >= 3`, `answer in ["bus", "tram"]`.

use std::{cmp::Ordering, fmt};

use serde_json::Value;

use super::{
    date::Date,
    definition::{Choice, Kind},
};

/// A comparison of the answer with what stands in the questionnaire.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    op: Op,
    /// One, except for `in`.
    literals: Vec<Literal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
}

/// Two-letter signs before their beginnings.
const OPS: [(&str, Op); 7] = [
    ("==", Op::Equal),
    ("!=", Op::NotEqual),
    ("<=", Op::AtMost),
    (">=", Op::AtLeast),
    ("<", Op::Less),
    (">", Op::Greater),
    ("in", Op::In),
];

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    /// No answer was given.
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

impl Condition {
    /// Reads a condition; an error is a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "`{text}` is not a condition; write `answer == 3`, `answer >= 3` or `answer in [1, 2]`"
            )
        };
        let rest = text
            .trim()
            .strip_prefix("answer")
            .ok_or_else(form)?
            .trim_start();
        let (op, rest) = OPS
            .iter()
            .find_map(|(sign, op)| rest.strip_prefix(sign).map(|rest| (*op, rest.trim())))
            .ok_or_else(form)?;
        if op != Op::In {
            let literals = vec![Literal::parse(rest)?];
            return Ok(Self { op, literals });
        }
        let inner = rest
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .ok_or_else(form)?;
        if inner.trim().is_empty() {
            return Err(format!("`{text}`: the list is empty"));
        }
        let literals = split(inner)
            .into_iter()
            .map(Literal::parse)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { op, literals })
    }

    /// Whether it can be asked of answers to such a question; an error is a sentence.
    pub(super) fn check(&self, kind: &Kind) -> Result<(), String> {
        let ordered = !matches!(self.op, Op::Equal | Op::NotEqual | Op::In);
        let name = kind.name();
        for literal in &self.literals {
            if matches!(literal, Literal::Null) {
                if ordered {
                    return Err("null has no order; use == or !=".to_owned());
                }
                continue;
            }
            match (kind, literal) {
                (Kind::YesNo, Literal::Bool(_)) if !ordered => {}
                (Kind::YesNo, _) => {
                    return Err(format!(
                        "`{self}`: a {name} answer is only == true or == false"
                    ));
                }
                (Kind::Choice { choices }, Literal::Text(value)) if !ordered => {
                    known(value, choices)?
                }
                (Kind::Choices { choices }, Literal::Text(value)) if self.op == Op::In => {
                    known(value, choices)?;
                }
                (Kind::Choices { .. }, _) => {
                    return Err(format!(
                        "`{self}`: a {name} answer is a list; use `answer in [\"...\"]`"
                    ));
                }
                (Kind::Scale { min, max }, Literal::Number(number)) => {
                    #[expect(clippy::cast_precision_loss, reason = "limits are below 2^53")]
                    let inside = (*min as f64..=*max as f64).contains(number);
                    if !inside {
                        return Err(format!("`{self}`: answers are {min} to {max}"));
                    }
                }
                (Kind::Number { .. }, Literal::Number(_)) => {}
                (Kind::Text { .. }, Literal::Text(_)) if !ordered => {}
                (Kind::Date { .. }, Literal::Text(text)) => {
                    Date::parse(text).ok_or_else(|| format!("`{self}`: {text} is not a date"))?;
                }
                _ => return Err(format!("`{self}` does not fit a {name} question")),
            }
        }
        Ok(())
    }

    /// Whether it holds for a stored answer. No answer is unequal to everything but `null`.
    #[must_use]
    pub fn holds(&self, answer: &Value) -> bool {
        let mut literals = self.literals.iter();
        match self.op {
            Op::Equal => literals.all(|literal| literal.equals(answer)),
            Op::NotEqual => !literals.any(|literal| literal.equals(answer)),
            Op::In => literals.any(|literal| match answer {
                Value::Array(values) => values.iter().any(|value| literal.equals(value)),
                _ => literal.equals(answer),
            }),
            Op::Less => literals.all(|literal| literal.order(answer) == Some(Ordering::Less)),
            Op::Greater => literals.all(|literal| literal.order(answer) == Some(Ordering::Greater)),
            Op::AtMost => {
                literals.all(|literal| literal.order(answer).is_some_and(Ordering::is_le))
            }
            Op::AtLeast => {
                literals.all(|literal| literal.order(answer).is_some_and(Ordering::is_ge))
            }
        }
    }
}

impl Literal {
    fn parse(text: &str) -> Result<Self, String> {
        let quoted = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
        if let Some(inner) = quoted('"').or_else(|| quoted('\'')) {
            return Ok(Self::Text(inner.to_owned()));
        }
        match text {
            "true" => Ok(Self::Bool(true)),
            "false" => Ok(Self::Bool(false)),
            "null" => Ok(Self::Null),
            _ => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Self::Number(number)),
                _ => Err(format!(
                    "`{text}` is neither a number, true, false, null nor a text in quotes"
                )),
            },
        }
    }

    fn equals(&self, answer: &Value) -> bool {
        match (self, answer) {
            // A skipped question has no answer either.
            (Self::Null, Value::Null | Value::Object(_)) => true,
            (Self::Bool(wanted), Value::Bool(given)) => wanted == given,
            (Self::Text(wanted), Value::String(given)) => wanted == given,
            (Self::Number(_), Value::Number(_)) => self.order(answer) == Some(Ordering::Equal),
            _ => false,
        }
    }

    /// How the answer compares with the literal.
    fn order(&self, answer: &Value) -> Option<Ordering> {
        match (self, answer) {
            (Self::Number(wanted), Value::Number(given)) => given.as_f64()?.partial_cmp(wanted),
            // Dates are written so that texts have their order.
            (Self::Text(wanted), Value::String(given)) => Some(given.as_str().cmp(wanted)),
            _ => None,
        }
    }
}

/// The parts between commas outside of quotes.
fn split(text: &str) -> Vec<&str> {
    let mut quote = None;
    let parts = text.split(|letter| {
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            _ => {}
        }
        quote.is_none() && letter == ','
    });
    parts.map(str::trim).collect()
}

fn known(value: &str, choices: &[Choice]) -> Result<(), String> {
    if choices.iter().any(|choice| choice.value == value) {
        return Ok(());
    }
    let values = choices.iter().map(|choice| choice.value.as_str());
    Err(super::read::unknown("the choice", value, values))
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = OPS
            .iter()
            .find(|(_, op)| *op == self.op)
            .map_or("", |(sign, _)| *sign);
        write!(formatter, "answer {sign} ")?;
        let literals = self
            .literals
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        match self.op {
            Op::In => write!(formatter, "[{}]", literals.join(", ")),
            _ => formatter.write_str(&literals.join(", ")),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Text(text) if text.contains('"') => write!(formatter, "'{text}'"),
            Self::Text(text) => write!(formatter, "\"{text}\""),
        }
    }
}

impl serde::Serialize for Condition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
