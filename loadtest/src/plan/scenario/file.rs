//! A scenario file, as it is written.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use toml::Spanned;

#[cfg(test)]
use super::schema::{AcksWord, JsonSchema, Method, OverWord, Pointer, StepWord, TransportsWord};
use super::values::{Count, ManyOrOne, Pause, Percent, Rate, SizeText, Time, TransportList};

/// How long a call, an HTTP request or an expected message may take by default.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(title = "A scenario of loadtest", extend("required" = ["name", "phase"])))]
pub(super) struct File {
    #[serde(rename = "$schema")]
    pub _schema: Option<String>,
    /// The name in reports.
    #[cfg_attr(test, schemars(with = "String"))]
    pub name: Spanned<String>,
    pub description: Option<String>,
    /// The type of the first message of the server, or `none`. Default: `session`.
    pub greeting: Option<String>,
    /// How users are connected: `ws`, `sse`, `poll` or `mixed`. Default: `ws`.
    #[cfg_attr(test, schemars(with = "Option<TransportsWord>"))]
    pub transport: Option<Spanned<String>>,
    /// A session goes on when its connection is lost. Default: false for `ws`, true for the other transports.
    pub resume: Option<bool>,
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Such as `match_latency p95 < 2s over 30s abort after 1m`. Without any: the defaults.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub thresholds: Vec<Spanned<String>>,
    /// Values for placeholders; of a list, users take turns.
    #[serde(default)]
    pub variables: BTreeMap<String, ManyOrOne>,
    /// Messages that steps send by name.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, MessageTable>"))]
    pub message: BTreeMap<String, Spanned<MessageTable>>,
    /// The parts of the load, one after the other.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<PhaseTable>", length(min = 1)))]
    pub phase: Vec<Spanned<PhaseTable>>,
    /// What users do.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<FlowTable>"))]
    pub flow: Vec<Spanned<FlowTable>>,
    /// Searches for the number of users that the server holds.
    #[cfg_attr(test, schemars(with = "Option<SearchTable>"))]
    pub search: Option<Spanned<SearchTable>>,
    /// The load is this part of the capacity that is given or found.
    pub percent_of_capacity: Option<Percent>,
    /// Built-in scenarios that run after this one.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub then: Vec<Spanned<String>>,
}

/// How long users wait.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    pub connect: Option<Time>,
    #[serde(rename = "match")]
    pub matching: Option<Time>,
    pub message: Option<Time>,
}

/// A part of the load: give `users` or `arrival_rate`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(extend("oneOf" = [{ "required": ["users"] }, { "required": ["arrival_rate"] }])))]
pub(super) struct PhaseTable {
    pub name: Option<String>,
    pub duration: Time,
    /// The number of users at its end.
    pub users: Option<u32>,
    /// New users each second.
    pub arrival_rate: Option<Rate>,
    /// New users each second at its end.
    pub ramp_to: Option<Rate>,
    /// The percentage of users who lose their connection at its beginning.
    pub drop: Option<Percent>,
    /// Transports that the users' network cuts at its beginning, and lets nobody open until its end.
    pub block: Option<TransportList>,
}

/// What a user does.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct FlowTable {
    pub name: String,
    /// How many users play it, beside the weights of other flows. Default: 1.
    pub weight: Option<u32>,
    /// A user whose partner leaves searches again. Default: true.
    pub rematch: Option<bool>,
    /// A user whose connection is lost connects again. Default: false.
    pub reconnect: Option<bool>,
    #[cfg_attr(test, schemars(with = "Vec<StepText>", length(min = 1)))]
    pub steps: Vec<Spanned<StepText>>,
}

/// A step: a word, or a table.
#[derive(Debug)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(untagged))]
pub(super) enum StepText {
    Word(#[cfg_attr(test, schemars(with = "StepWord"))] String),
    Table(Box<StepTable>),
}

/// A step with values: exactly one of `connect`, `join_room`, `expect`, `send`, `think`, `loop`, `call`, `http`, `talk` and
/// `interview`, and what belongs to it.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(extend("oneOf" = [
    { "required": ["connect"] },
    { "required": ["join_room", "members"] },
    { "required": ["expect"] },
    { "required": ["send"] },
    { "required": ["think"] },
    { "required": ["loop", "steps"] },
    { "required": ["call"] },
    { "required": ["http"] },
    { "required": ["talk"] },
    { "required": ["interview"] },
])))]
pub(super) struct StepTable {
    /// Path and query instead of those of the server's URL; saved values are encoded.
    #[cfg_attr(test, schemars(regex(pattern = "^/")))]
    pub connect: Option<String>,
    /// How the names of the rooms begin that users join, `members` in each.
    pub join_room: Option<String>,
    /// How many users share a room (2 to 20) or a session.
    #[cfg_attr(test, schemars(range(min = 1, max = 1000)))]
    pub members: Option<u32>,
    /// The type of the message to wait for.
    pub expect: Option<String>,
    /// The name of the message to send.
    pub send: Option<String>,
    /// How long to wait.
    pub think: Option<Pause>,
    /// How often, or for how long, to repeat `steps`.
    #[serde(rename = "loop")]
    pub repeat: Option<Count>,
    /// The name of the message to send; its answer is timed.
    pub call: Option<String>,
    /// How the names of the transcription sessions begin in which users take part.
    pub talk: Option<String>,
    /// The id of a survey; an interview with its tools is held.
    pub interview: Option<String>,
    /// Of a talk: `numbered` (default), `silence`, or `file:` and the path of a WAV file, or of bare PCM named `.pcm` or
    /// `.raw`: 16 bits, mono, of the `sample_rate`.
    pub audio: Option<String>,
    /// Of a talk: samples a second, 16000 (default) or 48000, where a chunk has at most 680 ms.
    #[cfg_attr(test, schemars(extend("enum" = [16000, 48000])))]
    pub sample_rate: Option<u32>,
    /// Of a talk: how many of the members speak; the others listen. Default: all.
    #[cfg_attr(test, schemars(range(min = 1, max = 20)))]
    pub speakers: Option<u32>,
    /// Of a talk: how often the server confirms audio, `second` (default) or `each` chunk.
    #[cfg_attr(test, schemars(with = "Option<AcksWord>"))]
    pub acks: Option<String>,
    /// Of an interview: how its tools are called, `http` (default) or `ws`.
    #[cfg_attr(test, schemars(with = "Option<OverWord>"))]
    pub over: Option<String>,
    /// Of an interview: how long the user thinks before each answer.
    pub pause: Option<Pause>,
    /// A path of the server under test, or the URL of another server.
    #[cfg_attr(test, schemars(regex(pattern = "^(/|https?://)")))]
    pub http: Option<String>,
    /// The name of the call in reports.
    pub name: Option<String>,
    /// The time between two of them.
    pub every: Option<Time>,
    #[serde(rename = "for")]
    pub time: Option<Time>,
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub times: Option<u32>,
    /// How long the answer may take.
    pub within: Option<Time>,
    /// Default: POST with a `text`, else GET.
    #[cfg_attr(test, schemars(with = "Option<Method>"))]
    pub method: Option<String>,
    /// The body, as JSON.
    pub text: Option<String>,
    /// The expected status. Default: any of 200 to 299.
    pub status: Option<u16>,
    /// Variables of the user, and the JSON pointers (RFC 6901) to their values in the answer.
    #[cfg_attr(test, schemars(with = "Option<BTreeMap<String, Pointer>>"))]
    pub save: Option<BTreeMap<String, String>>,
    pub size: Option<SizeText>,
    #[cfg_attr(test, schemars(with = "Option<Vec<StepText>>"))]
    pub steps: Option<Vec<Spanned<StepText>>>,
}

/// A message that users send.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct MessageTable {
    /// May have {{user}}, {{seq}}, {{run}}, {{id}}, {{now_ms}}, {{payload}} and variables in it.
    pub text: String,
    #[serde(default)]
    pub frame: FrameText,
    /// Bytes of the payload.
    pub size: Option<SizeText>,
    /// The type that the answer to a call must have.
    pub answer: Option<String>,
    /// Whether the server sends back each message with a {{payload}}.
    #[serde(default)]
    pub comes_back: ComesBack,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum ComesBack {
    #[default]
    All,
    Some,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum FrameText {
    #[default]
    Text,
    Binary,
}

/// A search for the number of users that the server holds.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct SearchTable {
    #[cfg_attr(test, schemars(range(min = 2)))]
    pub from: u32,
    #[cfg_attr(test, schemars(range(min = 2)))]
    pub to: u32,
    /// By which a load that held grows. Default: 2.
    #[cfg_attr(test, schemars(range(min = 1.1)))]
    pub factor: Option<f64>,
    /// How near the answer must be. Default: 10 %.
    pub precision: Option<Percent>,
}

impl<'de> Deserialize<'de> for StepText {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StepVisitor)
    }
}

struct StepVisitor;

impl<'de> serde::de::Visitor<'de> for StepVisitor {
    type Value = StepText;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a step such as \"find_match\" or { think = \"2s\" }")
    }

    fn visit_str<E>(self, word: &str) -> Result<StepText, E> {
        Ok(StepText::Word(word.to_owned()))
    }

    fn visit_map<M: serde::de::MapAccess<'de>>(self, map: M) -> Result<StepText, M::Error> {
        let table = StepTable::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(StepText::Table(Box::new(table)))
    }
}
