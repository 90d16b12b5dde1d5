//! Types of questions, and what is asked of their answers.

use super::{
    super::{
        date::Date,
        definition::{Choice, Kind, Pattern},
    },
    ANSWER, Fields, QUESTION, TEXT, unknown,
};

const CHOICES: usize = 100;
const CHOICE: [&str; 2] = ["value", "label"];
/// Keys that only some types of questions have.
const OF_TYPES: [(&str, &[&str]); 6] = [
    ("choices", &["choice", "choices"]),
    ("min", &["scale", "number", "date"]),
    ("max", &["scale", "number", "date"]),
    ("min_length", &["text"]),
    ("max_length", &["text"]),
    ("pattern", &["text"]),
];

/// The type of a question and what belongs to it.
pub(super) fn kind(fields: &mut Fields<'_, '_>, languages: &[String]) -> Option<Kind> {
    let entry = fields.needed("type")?;
    let name = fields.text(entry)?;
    if !Kind::NAMES.contains(&name) {
        fields.fault(
            entry.line,
            unknown("the type", name, Kind::NAMES.into_iter()),
        );
        return None;
    }
    let mut known = QUESTION.to_vec();
    for (key, types) in OF_TYPES {
        if types.contains(&name) {
            known.push(key);
        } else if let Some(entry) = fields.entry(key) {
            fields.fault(
                entry.line,
                format!("`{key}` is for {}, not for {name}", types.join(", ")),
            );
            known.push(key);
        }
    }
    fields.known(&known);
    let kind = match name {
        "yes_no" => Kind::YesNo,
        "choice" => Kind::Choice {
            choices: choices(fields, languages),
        },
        "choices" => Kind::Choices {
            choices: choices(fields, languages),
        },
        "scale" => {
            fields.needed("min");
            fields.needed("max");
            Kind::Scale {
                min: fields.whole("min")?,
                max: fields.whole("max")?,
            }
        }
        "number" => Kind::Number {
            min: fields.number("min"),
            max: fields.number("max"),
        },
        "date" => Kind::Date {
            min: date(fields, "min"),
            max: date(fields, "max"),
        },
        _ => Kind::Text {
            min_length: fields.count("min_length", ANSWER).unwrap_or(0),
            max_length: fields.count("max_length", ANSWER).unwrap_or(ANSWER),
            pattern: pattern(fields),
        },
    };
    let crossed = match &kind {
        Kind::Scale { min, max } => (min > max).then_some("min"),
        Kind::Number {
            min: Some(min),
            max: Some(max),
        } => (min > max).then_some("min"),
        Kind::Date {
            min: Some(min),
            max: Some(max),
        } => (min > max).then_some("min"),
        Kind::Text {
            min_length,
            max_length,
            ..
        } => (min_length > max_length).then_some("min_length"),
        _ => None,
    };
    if let Some(key) = crossed {
        let line = fields.line_of(key);
        fields.fault(
            line,
            format!("`{key}` is above `{}`", key.replace("min", "max")),
        );
    }
    Some(kind)
}

fn choices(fields: &mut Fields<'_, '_>, languages: &[String]) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    let Some(entry) = fields.needed("choices") else {
        return choices;
    };
    for node in fields.list(entry, CHOICES) {
        let Some(mut fields) = Fields::of(node, "a choice", fields.faults) else {
            continue;
        };
        fields.known(&CHOICE);
        let label = fields.translated("label", languages);
        let Some(value) = fields.needed("value").and_then(|entry| fields.text(entry)) else {
            continue;
        };
        if value.is_empty() || value.chars().count() > TEXT {
            fields.fault(
                node.line,
                format!("a value is empty or has more than {TEXT} characters"),
            );
        }
        if choices.iter().any(|known| known.value == value) {
            fields.fault(node.line, format!("the choice `{value}` is there twice"));
        }
        let same = |known: &Choice| {
            let said = label
                .iter()
                .find(|(language, text)| known.label.get(*language) == Some(*text));
            said.map(|(_, text)| (text.clone(), known.value.clone()))
        };
        if let Some((text, other)) = choices.iter().find_map(same) {
            fields.fault(
                node.line,
                format!("the label \"{text}\" is also that of `{other}`"),
            );
        }
        choices.push(Choice {
            value: value.to_owned(),
            label,
        });
    }
    choices
}

fn date(fields: &mut Fields<'_, '_>, key: &str) -> Option<Date> {
    let entry = fields.entry(key)?;
    let text = fields.text(entry)?;
    let date = Date::parse(text);
    if date.is_none() {
        fields.fault(
            entry.line,
            format!("`{key}` is a date such as 2026-02-28, not `{text}`"),
        );
    }
    date
}

fn pattern(fields: &mut Fields<'_, '_>) -> Option<Pattern> {
    let entry = fields.entry("pattern")?;
    let source = fields.text(entry)?;
    match Pattern::new(source) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            // The first lines draw the pattern; the last one says what is wrong.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            fields.fault(entry.line, format!("`pattern` cannot be used: {reason}"));
            None
        }
    }
}
