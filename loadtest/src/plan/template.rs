//! Messages with blanks: `{"type":"say","from":{{user}},"text":"{{payload}}"}`. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use thiserror::Error;

#[cfg(test)]
mod tests;

/// How a message goes over the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Frame {
    /// A text frame.
    #[default]
    Text,
    /// A binary frame.
    Binary,
}

/// A text with blanks, which are filled in for each message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Blank(Blank),
    /// A list of values; users take turns.
    OneOf(Vec<String>),
    /// A value that the user has saved under this name.
    Saved(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blank {
    User,
    Seq,
    Run,
    Id,
    NowMs,
    Payload,
}

const BLANKS: [(&str, Blank); 6] = [
    ("user", Blank::User),
    ("seq", Blank::Seq),
    ("run", Blank::Run),
    ("id", Blank::Id),
    ("now_ms", Blank::NowMs),
    ("payload", Blank::Payload),
];

/// The variables that blanks may name, beside the built-in ones.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// A list of values; users take turns.
    pub variables: BTreeMap<String, Vec<String>>,
    /// A value that users save during the flow.
    pub saved: BTreeSet<String>,
}

impl Names {
    /// Whether a variable of this name exists that is not a saved value.
    pub fn is_taken(&self, name: &str) -> bool {
        self.variables.contains_key(name) || BLANKS.iter().any(|(known, _)| *known == name)
    }
}

/// The longest value that a user may save.
pub const MAX_SAVED_BYTES: usize = 8 << 10;

/// The most blanks of a message, and values of its variables.
const MAX_PARTS: usize = 100_000;

/// Why the blanks of a text cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    #[error("a blank begins with {{{{ and has no }}}} behind it")]
    Open,
    /// An unknown name.
    #[error(
        "{{{{{0}}}}} is unknown: give it under [variables], `save` it in an http step, or use user, seq, run, id, now_ms or payload"
    )]
    Unknown(String),
    /// More blanks or values than the memory is bounded to.
    #[error(
        "a message with more than {MAX_PARTS} blanks, and values of their variables: give fewer"
    )]
    TooMany,
    #[error("the variable {0:?} has no values: give at least one")]
    NoValues(String),
}

/// The values for the blanks of one message.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    pub user: u32,
    pub seq: u32,
    pub run: u32,
    pub now_ms: u64,
    /// A unique id of the request, from [`call_id`].
    pub id: &'a str,
    pub payload: &'a str,
    /// The user's saved names and values.
    pub saved: &'a [(Box<str>, Box<str>)],
}

impl Template {
    /// Reads `text`, in which blanks may have these names.
    ///
    /// # Errors
    /// A blank that cannot be filled in.
    pub fn parse(text: &str, names: &Names) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut values = 0;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(part(name.trim(), names)?);
            if let Some(Part::OneOf(list)) = parts.last() {
                values += list.len();
            }
            if parts.len() + values > MAX_PARTS {
                return Err(TemplateError::TooMany);
            }
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Whether the text is a JSON object with a field.
    pub fn is_object(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Text(text)) if text.starts_with("{\""))
    }

    /// Whether the answer can be found by the request's id.
    pub fn has_id(&self) -> bool {
        self.has(Blank::Id)
    }

    /// Whether the message has a payload, by which its receiver can identify it.
    pub fn has_payload(&self) -> bool {
        self.has(Blank::Payload)
    }

    fn has(&self, blank: Blank) -> bool {
        self.parts.contains(&Part::Blank(blank))
    }

    /// The names of the saved values that it needs.
    pub fn saved(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Saved(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The bytes of the longest message with a payload of `payload` bytes.
    pub fn longest(&self, payload: usize) -> usize {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::OneOf(list) => list.iter().map(String::len).max().unwrap_or(0),
            Part::Saved(_) => MAX_SAVED_BYTES,
            Part::Blank(Blank::Payload) => payload,
            // Ids and 64-bit numbers are the longest values.
            Part::Blank(_) => 26,
        });
        parts.fold(0, usize::saturating_add)
    }

    /// Fills in a message. Saved values are escaped for a JSON string.
    pub fn fill(&self, values: &Values<'_>) -> String {
        self.fill_with(values, json_escaped)
    }

    /// Fills in the path of a URL. Saved values are percent-encoded: each stays one segment, or one value of the query.
    pub fn fill_path(&self, values: &Values<'_>) -> String {
        self.fill_with(values, percent_encoded)
    }

    fn fill_with(&self, values: &Values<'_>, saved: fn(&str) -> String) -> String {
        let mut out = String::with_capacity(values.payload.len() + 64);
        for part in &self.parts {
            // Writing to a String cannot fail.
            let _ = match part {
                Part::Text(text) => out.write_str(text),
                Part::OneOf(list) => {
                    let nth = usize::try_from(values.user).unwrap_or(0) % list.len().max(1);
                    out.write_str(list.get(nth).map_or("", String::as_str))
                }
                Part::Saved(name) => {
                    let found = values.saved.iter().find(|(known, _)| **known == **name);
                    out.write_str(&saved(found.map_or("", |(_, value)| value)))
                }
                Part::Blank(Blank::User) => write!(out, "{}", values.user),
                Part::Blank(Blank::Seq) => write!(out, "{}", values.seq),
                Part::Blank(Blank::Run) => write!(out, "{:08x}", values.run),
                Part::Blank(Blank::Id) => out.write_str(values.id),
                Part::Blank(Blank::NowMs) => write!(out, "{}", values.now_ms),
                Part::Blank(Blank::Payload) => out.write_str(values.payload),
            };
        }
        out
    }
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn part(name: &str, names: &Names) -> Result<Part, TemplateError> {
    if let Some((_, blank)) = BLANKS.iter().find(|(known, _)| *known == name) {
        return Ok(Part::Blank(*blank));
    }
    match names.variables.get(name).map(Vec::as_slice) {
        None if names.saved.contains(name) => Ok(Part::Saved(name.to_owned())),
        None => Err(TemplateError::Unknown(name.to_owned())),
        Some([]) => Err(TemplateError::NoValues(name.to_owned())),
        Some([one]) => Ok(Part::Text(one.clone())),
        Some(list) => Ok(Part::OneOf(list.to_vec())),
    }
}

/// The id of the n-th request of a user. All ids have one length, so none is part of another.
pub fn call_id(run: u32, user: u32, n: u32) -> String {
    format!("{}{n:08x}", ids_of(run, user))
}

/// The requests of a user whose ids a text contains.
pub fn calls_in(text: &str, run: u32, user: u32) -> Vec<u32> {
    let number = |rest: &str| u32::from_str_radix(rest.get(..8)?, 16).ok();
    let begin = ids_of(run, user);
    text.split(&begin).skip(1).filter_map(number).collect()
}

/// The common beginning of all request ids of a user.
fn ids_of(run: u32, user: u32) -> String {
    format!("vm{run:08x}{user:08x}")
}
