//! TOML and JSON as one tree whose every part knows its line.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Tables and lists inside one another; a questionnaire needs five.
const DEPTH: usize = 16;

/// A part of a document.
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

pub(super) struct Entry {
    pub(super) key: String,
    /// The line of the key.
    pub(super) line: usize,
    pub(super) node: Node,
}

impl Node {
    /// What it is, for a sentence.
    pub(super) fn noun(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// Where and why a text is not a document.
pub(super) type Fault = (usize, String);

/// Reads JSON if the text begins as JSON does, TOML otherwise.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let lines = Lines::new(text);
    if text.trim_start().starts_with('{') {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            (error.line(), message.to_owned())
        })?;
        return json(raw.get(), &lines, 0);
    }
    match DeTable::parse(text) {
        Ok(table) => {
            let start = table.span().start;
            toml_table(table.get_ref(), lines.of(start), &lines, 0)
        }
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            Err((lines.of(start), error.message().to_owned()))
        }
    }
}

/// Finds the line of a place.
struct Lines<'t> {
    text: &'t str,
    ends: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { text, ends }
    }

    /// Counts from 1.
    fn of(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }

    /// Where `part`, a slice of the text, begins.
    fn offset(&self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    /// The line of the key whose value begins at `offset`: only spaces and a colon are between them.
    fn of_key(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or_default();
        self.of(before.rfind('"').unwrap_or(offset))
    }
}

fn too_deep(line: usize) -> Fault {
    (
        line,
        format!("more than {DEPTH} tables and lists inside one another"),
    )
}

fn toml_table(
    table: &DeTable<'_>,
    line: usize,
    lines: &Lines<'_>,
    depth: usize,
) -> Result<Node, Fault> {
    let entry = |(key, value): (&Spanned<_>, _)| {
        let key: &Spanned<std::borrow::Cow<'_, str>> = key;
        Ok(Entry {
            key: key.get_ref().to_string(),
            line: lines.of(key.span().start),
            node: toml_value(value, lines, depth + 1)?,
        })
    };
    let mut entries = table.iter().map(entry).collect::<Result<Vec<_>, Fault>>()?;
    entries.sort_by_key(|entry| entry.line);
    Ok(Node {
        line,
        value: Value::Table(entries),
    })
}

fn toml_value(
    value: &Spanned<DeValue<'_>>,
    lines: &Lines<'_>,
    depth: usize,
) -> Result<Node, Fault> {
    let line = lines.of(value.span().start);
    if depth > DEPTH {
        return Err(too_deep(line));
    }
    let number = |text: &str, radix| match radix {
        10 => text.parse().ok(),
        // Other radixes are for whole numbers, and none that is used needs more than 53 bits.
        _ => u32::from_str_radix(text, radix).ok().map(f64::from),
    };
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(digits) => Value::Number(
            number(digits.as_str(), digits.radix())
                .ok_or_else(|| (line, "the number is too large".to_owned()))?,
        ),
        DeValue::Float(digits) => Value::Number(
            number(digits.as_str(), 10).ok_or_else(|| (line, "not a number".to_owned()))?,
        ),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(date) => Value::Text(date.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| toml_value(item, lines, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => return toml_table(table, line, lines, depth),
    };
    Ok(Node { line, value })
}

/// The entries of an object, or the items of an array, each as the piece of text it was read from.
struct Pieces<'t>(Vec<(Option<String>, &'t RawValue)>);

impl<'t> Deserialize<'t> for Pieces<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'t> Visitor<'t> for Collect {
            type Value = Pieces<'t>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object or an array")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pieces = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    pieces.push((Some(key), map.next_value()?));
                }
                Ok(Pieces(pieces))
            }

            fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = list.next_element()? {
                    pieces.push((None, piece));
                }
                Ok(Pieces(pieces))
            }
        }
        deserializer.deserialize_any(Collect)
    }
}

fn json(text: &str, lines: &Lines<'_>, depth: usize) -> Result<Node, Fault> {
    let line = lines.of(lines.offset(text));
    if depth > DEPTH {
        return Err(too_deep(line));
    }
    let fault = |error: serde_json::Error| (line, error.to_string());
    if !text.starts_with(['{', '[']) {
        let value = match serde_json::from_str(text).map_err(fault)? {
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Value::Text(text),
            _ => Value::Null,
        };
        return Ok(Node { line, value });
    }
    let Pieces(pieces) = serde_json::from_str(text).map_err(fault)?;
    if text.starts_with('[') {
        let items = pieces
            .into_iter()
            .map(|(_, piece)| json(piece.get(), lines, depth + 1));
        return Ok(Node {
            line,
            value: Value::List(items.collect::<Result<_, _>>()?),
        });
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(pieces.len());
    for (key, piece) in pieces {
        let key = key.unwrap_or_default();
        let line = lines.of_key(lines.offset(piece.get()));
        if entries.iter().any(|entry| entry.key == key) {
            return Err((line, format!("`{key}` is there twice")));
        }
        entries.push(Entry {
            key,
            line,
            node: json(piece.get(), lines, depth + 1)?,
        });
    }
    Ok(Node {
        line,
        value: Value::Table(entries),
    })
}
