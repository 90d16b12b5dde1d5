//! The entries of a table, each of the type that is wanted, or a problem.

use std::collections::BTreeMap;

use super::{
    super::document::{Entry, Fault, Node, Value},
    TEXT,
};

/// Whole numbers that JSON and floats agree on.
const WHOLE: f64 = 9_007_199_254_740_992.0;
/// Below it two words are not alike.
const ALIKE: f64 = 0.8;

/// "`x` is not known; do you mean `y`?"
pub(in crate::survey) fn unknown<'k>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> String {
    // Swapped letters count too: of short words little is left otherwise.
    let alike = |known: &'k str| {
        let swapped = name.len() > 2 && strsim::osa_distance(name, known) == 1;
        let likeness = strsim::jaro_winkler(name, known);
        (
            if swapped {
                likeness.max(ALIKE)
            } else {
                likeness
            },
            known,
        )
    };
    match known.clone().map(alike).max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, known)) if likeness >= ALIKE => {
            format!("{what} `{name}` is not known; do you mean `{known}`?")
        }
        _ => {
            let known = known.take(12).collect::<Vec<_>>().join(", ");
            format!("{what} `{name}` is not known; there is {known}")
        }
    }
}

/// A table of the file, and where its problems go.
pub(super) struct Fields<'d, 'f> {
    line: usize,
    entries: &'d [Entry],
    pub(super) faults: &'f mut Vec<Fault>,
}

impl<'d, 'f> Fields<'d, 'f> {
    pub(super) fn of(node: &'d Node, what: &str, faults: &'f mut Vec<Fault>) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            faults.push((node.line, format!("{what} is a table, not {}", node.noun())));
            return None;
        };
        Some(Self {
            line: node.line,
            entries,
            faults,
        })
    }

    pub(super) fn fault(&mut self, line: usize, message: impl Into<String>) {
        self.faults.push((line, message.into()));
    }

    pub(super) fn known(&mut self, known: &[&str]) {
        for entry in self.entries {
            if !known.contains(&entry.key.as_str()) {
                self.fault(
                    entry.line,
                    unknown("the key", &entry.key, known.iter().copied()),
                );
            }
        }
    }

    pub(super) fn entry(&self, key: &str) -> Option<&'d Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(super) fn needed(&mut self, key: &str) -> Option<&'d Entry> {
        let entry = self.entry(key);
        if entry.is_none() {
            self.fault(self.line, format!("`{key}` is missing"));
        }
        entry
    }

    fn wrong(&mut self, entry: &Entry, wanted: &str) {
        self.fault(
            entry.line,
            format!("`{}` is {wanted}, not {}", entry.key, entry.node.noun()),
        );
    }

    pub(super) fn text(&mut self, entry: &'d Entry) -> Option<&'d str> {
        match &entry.node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.wrong(entry, "a text");
                None
            }
        }
    }

    pub(super) fn list(&mut self, entry: &'d Entry, most: usize) -> &'d [Node] {
        match &entry.node.value {
            Value::List(items) if items.is_empty() => {
                self.fault(entry.line, format!("`{}` is empty", entry.key));
                &[]
            }
            Value::List(items) if items.len() > most => {
                self.fault(
                    entry.line,
                    format!("`{}` has more than {most} entries", entry.key),
                );
                &[]
            }
            Value::List(items) => items,
            _ => {
                self.wrong(entry, "a list");
                &[]
            }
        }
    }

    pub(super) fn bool(&mut self, key: &str) -> bool {
        match self.entry(key) {
            None => false,
            Some(Entry {
                node:
                    Node {
                        value: Value::Bool(value),
                        ..
                    },
                ..
            }) => *value,
            Some(entry) => {
                self.wrong(entry, "true or false");
                false
            }
        }
    }

    pub(super) fn number(&mut self, key: &str) -> Option<f64> {
        let entry = self.entry(key)?;
        match entry.node.value {
            Value::Number(number) if number.abs() <= WHOLE => Some(number),
            Value::Number(_) => {
                self.fault(entry.line, format!("`{key}` is too large"));
                None
            }
            _ => {
                self.wrong(entry, "a number");
                None
            }
        }
    }

    pub(super) fn whole(&mut self, key: &str) -> Option<i64> {
        let number = self.number(key)?;
        if number.fract() != 0.0 {
            let line = self.line_of(key);
            self.fault(line, format!("`{key}` is a whole number"));
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "within 2^53")]
        Some(number as i64)
    }

    /// A whole number from 0 to `most`.
    pub(super) fn count(&mut self, key: &str, most: usize) -> Option<usize> {
        let number = self.whole(key)?;
        let count = usize::try_from(number).ok().filter(|count| *count <= most);
        if count.is_none() {
            let line = self.line_of(key);
            self.fault(line, format!("`{key}` is 0 to {most}"));
        }
        count
    }

    pub(super) fn line_of(&self, key: &str) -> usize {
        self.entry(key).map_or(self.line, |entry| entry.line)
    }

    pub(super) fn id(&mut self) -> Option<String> {
        let entry = self.needed("id")?;
        let id = self.text(entry)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
            self.fault(
                entry.line,
                format!("the id `{id}` is not 1 to 64 of A-Z a-z 0-9 _ -"),
            );
            return None;
        }
        Some(id.to_owned())
    }

    /// A text in each language.
    pub(super) fn translated(
        &mut self,
        key: &str,
        languages: &[String],
    ) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let Some(entry) = self.needed(key) else {
            return texts;
        };
        let Value::Table(entries) = &entry.node.value else {
            let language = languages.first().map_or("en", String::as_str);
            let message = format!("`{key}` needs its language: {key} = {{ {language} = \"...\" }}");
            self.fault(entry.line, message);
            return texts;
        };
        for entry in entries {
            let Some(text) = self.text(entry) else {
                continue;
            };
            if !languages.contains(&entry.key) {
                let known = languages.iter().map(String::as_str);
                self.fault(entry.line, unknown("the language", &entry.key, known));
            } else if text.trim().is_empty() || text.chars().count() > TEXT {
                self.fault(
                    entry.line,
                    format!(
                        "`{key}` in `{}` is empty or has more than {TEXT} characters",
                        entry.key
                    ),
                );
            }
            texts.insert(entry.key.clone(), text.trim().to_owned());
        }
        for language in languages
            .iter()
            .filter(|language| !texts.contains_key(*language))
        {
            self.fault(
                entry.line,
                format!("`{key}` has no translation for `{language}`"),
            );
        }
        texts
    }
}
