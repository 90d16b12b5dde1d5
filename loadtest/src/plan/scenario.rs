//! Scenarios: plans in files, and the built-in plans.

use std::{io, path::Path};

use thiserror::Error;

use crate::{base::files, plan::Plan};

mod describe;
mod file;
mod http;
mod read;
#[cfg(test)]
mod schema;
mod steps;
mod talks;
#[cfg(test)]
mod tests;
mod values;

pub use describe::{describe, list};

/// Each name with the text of its file.
macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

/// The built-in scenarios by name. Those with `echo-` work with any server that sends messages back.
pub const BUILT_IN: &[(&str, &str)] = files! {
    "connection"
    "matchmaking"
    "signaling"
    "stress"
    "endurance"
    "gradual"
    "plan"
    "reconnect-storm"
    "node-loss"
    "rolling-deploy"
    "fallback"
    "transports"
    "rooms"
    "churn"
    "http"
    "chat"
    "chat-ack"
    "transcription"
    "transcription-many"
    "transcription-listeners"
    "provider-faults"
    "database-faults"
    "concurrent-sessions"
    "audio-streaming"
    "tool-execution"
    "echo-transcription"
    "echo-concurrent-sessions"
    "echo-audio-streaming"
    "echo-audio-streaming-text"
    "echo-tool-execution"
};

/// What `loadtest init` writes.
pub const EXAMPLE: &str = include_str!("../../scenarios/example.toml");

/// The JSON schema of scenario files. A test makes it from the types that read them.
pub const SCHEMA: &str = include_str!("../../scenarios/schema.json");

/// Why a scenario cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScenarioError {
    /// Neither a file nor a built-in scenario.
    #[error(
        "{name}: no such file or scenario; give a file, or a built-in scenario: {}",
        known()
    )]
    Unknown { name: String },
    /// The file cannot be read.
    #[error("{file}: {error}")]
    File { file: String, error: String },
    /// The file has an error.
    #[error(
        "{file}:{line}:{column}: {what}\n{line:>5} | {text}\n      | {mark:>column$}",
        mark = "^"
    )]
    Wrong {
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong, and what to give.
        what: String,
        /// The text of the line.
        text: String,
    },
}

/// Reads a scenario from `text`; errors call it `file`.
///
/// # Errors
/// The first mistake in the text.
pub fn read(text: &str, file: &str) -> Result<Plan, ScenarioError> {
    read::plan(text).map_err(|wrong| wrong.at(text, file))
}

/// The built-in scenario with this name, or else the scenario in the file with this name.
///
/// # Errors
/// There is no such scenario, or it cannot be played.
pub fn load(name: &str) -> Result<Plan, ScenarioError> {
    match built_in(name) {
        Some(text) => read(text, name),
        None => {
            let text =
                files::text(Path::new(name), files::SCENARIO_BYTES).map_err(|error| match error
                    .kind()
                {
                    io::ErrorKind::NotFound => unknown(name),
                    _ => ScenarioError::File {
                        file: name.to_owned(),
                        error: error.to_string(),
                    },
                })?;
            read(&text, name)
        }
    }
}

/// The text of the built-in scenario with this name.
///
/// # Errors
/// There is no such scenario.
pub fn text(name: &str) -> Result<&'static str, ScenarioError> {
    built_in(name).ok_or_else(|| unknown(name))
}

fn built_in(name: &str) -> Option<&'static str> {
    let found = BUILT_IN.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text)
}

fn unknown(name: &str) -> ScenarioError {
    ScenarioError::Unknown {
        name: name.to_owned(),
    }
}

/// The names of the built-in scenarios.
fn known() -> String {
    let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// A mistake, at a byte offset of the file.
#[derive(Debug)]
struct Wrong {
    at: usize,
    what: String,
}

impl Wrong {
    fn new(at: usize, what: impl ToString) -> Self {
        Self {
            at,
            what: what.to_string(),
        }
    }

    fn at(self, text: &str, file: &str) -> ScenarioError {
        let mut at = self.at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &text[..at];
        let begin = before.rfind('\n').map_or(0, |end| end + 1);
        let line = text[begin..].lines().next().unwrap_or_default();
        ScenarioError::Wrong {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[begin..].chars().count() + 1,
            what: self.what,
            text: line.trim_end().to_owned(),
        }
    }
}
