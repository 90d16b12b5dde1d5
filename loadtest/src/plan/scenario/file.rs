//! A scenario file, as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::values::{Count, ManyOrOne, Pause, Percent, Rate, SizeText, Time};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(rename = "$schema")]
    pub _schema: Option<String>,
    pub name: Spanned<String>,
    pub description: Option<String>,
    pub greeting: Option<String>,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub thresholds: Vec<Spanned<String>>,
    #[serde(default)]
    pub variables: BTreeMap<String, ManyOrOne>,
    #[serde(default)]
    pub message: BTreeMap<String, Spanned<MessageTable>>,
    #[serde(default)]
    pub phase: Vec<Spanned<PhaseTable>>,
    #[serde(default)]
    pub flow: Vec<Spanned<FlowTable>>,
    pub search: Option<Spanned<SearchTable>>,
    pub percent_of_capacity: Option<Percent>,
    #[serde(default)]
    pub then: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    pub connect: Option<Time>,
    #[serde(rename = "match")]
    pub matching: Option<Time>,
    pub message: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PhaseTable {
    pub name: Option<String>,
    pub duration: Time,
    pub users: Option<u32>,
    pub arrival_rate: Option<Rate>,
    pub ramp_to: Option<Rate>,
    pub drop: Option<Percent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowTable {
    pub name: String,
    pub weight: Option<u32>,
    pub rematch: Option<bool>,
    pub reconnect: Option<bool>,
    pub steps: Vec<Spanned<StepText>>,
}

/// A step: a word, or a table.
#[derive(Debug)]
pub(super) enum StepText {
    Word(String),
    Table(Box<StepTable>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepTable {
    pub connect: Option<String>,
    pub expect: Option<String>,
    pub send: Option<String>,
    pub think: Option<Pause>,
    #[serde(rename = "loop")]
    pub repeat: Option<Count>,
    pub call: Option<String>,
    pub http: Option<String>,
    pub name: Option<String>,
    pub every: Option<Time>,
    #[serde(rename = "for")]
    pub time: Option<Time>,
    pub times: Option<u32>,
    pub within: Option<Time>,
    pub method: Option<String>,
    pub text: Option<String>,
    pub status: Option<u16>,
    pub save: Option<BTreeMap<String, String>>,
    pub size: Option<SizeText>,
    pub steps: Option<Vec<Spanned<StepText>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageTable {
    pub text: String,
    #[serde(default)]
    pub frame: FrameText,
    pub size: Option<SizeText>,
    pub answer: Option<String>,
    #[serde(default)]
    pub comes_back: ComesBack,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ComesBack {
    #[default]
    All,
    Some,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FrameText {
    #[default]
    Text,
    Binary,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchTable {
    pub from: u32,
    pub to: u32,
    pub factor: Option<f64>,
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
