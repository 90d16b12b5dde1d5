//! Reads what somebody said as an answer, by word lists: the same words always mean the same, and nothing is guessed.
//!
//! What could mean two things is unclear, so that the question is asked again.

mod dates;
mod labels;
mod numbers;
mod words;

use serde_json::Value;

use super::{
    accept,
    definition::{Choice, Kind},
};
use numbers::Found;
use words::Words;

/// Words of an utterance; more is a speech and no answer to a question with a value.
const UTTERANCE: usize = 30;

/// Words that may stand beside yes or no if they do not come first.
const ASIDE: usize = 3;

#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// They do not want to answer, or do not know.
    NoAnswer,
    Value(Value),
    /// The words are the answer.
    AsItIs,
    Unclear,
}

/// Reads an utterance as an answer to such a question. Other languages than German are read as English.
pub(super) fn hear(kind: &Kind, text: &str, language: &str) -> Heard {
    let words = Words::of(language);
    let said = split(text);
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    if let Kind::Text { .. } = kind {
        let declined =
            words.is_no_answer(&words.without_fillers(&said)) || words.is_no_answer(&said);
        return if declined {
            Heard::NoAnswer
        } else {
            Heard::AsItIs
        };
    }
    if said.is_empty() || said.len() > UTTERANCE {
        return Heard::Unclear;
    }
    // A label such as "I don't know" is a choice.
    if let Kind::Choice { choices } | Kind::Choices { choices } = kind
        && let Some(choice) = labels::whole(choices, &said, language)
    {
        return chosen(kind, vec![choice]);
    }
    let declined = words.has_no_answer(&said);
    let heard = match kind {
        Kind::YesNo => yes_no(words, &said).map(Value::from),
        Kind::Scale { .. } | Kind::Number { .. } => match numbers::find(words, &said) {
            Found::One(number) => Some(accept::number(number)),
            Found::None => None,
            Found::Unclear => return Heard::Unclear,
        },
        Kind::Date { .. } => {
            dates::find(words, text, &said).map(|date| Value::from(date.to_string()))
        }
        Kind::Choice { choices } | Kind::Choices { choices } => {
            let found = if words.negates(&said) {
                Vec::new()
            } else {
                labels::find(choices, &said, language)
            };
            match chosen(kind, found) {
                Heard::Value(value) => Some(value),
                _ => None,
            }
        }
        Kind::Text { .. } => None,
    };
    match heard {
        // "No idea" has a no in it; "not sure, maybe five" is neither an answer nor none.
        _ if declined && (matches!(kind, Kind::YesNo) || heard.is_none()) => Heard::NoAnswer,
        Some(value) if !declined => Heard::Value(value),
        _ => Heard::Unclear,
    }
}

fn chosen(kind: &Kind, choices: Vec<&Choice>) -> Heard {
    let mut values = choices
        .iter()
        .map(|choice| Value::from(choice.value.as_str()));
    match (kind, choices.len()) {
        (_, 0) => Heard::Unclear,
        (Kind::Choices { .. }, _) => Heard::Value(Value::Array(values.collect())),
        (_, 1) => values.next().map_or(Heard::Unclear, Heard::Value),
        _ => Heard::Unclear,
    }
}

/// Yes or no, by whole words only: "right" is a yes, and nothing that is only like it.
fn yes_no(words: &Words, said: &[&str]) -> Option<bool> {
    if let Some(answer) = words.phrase(said) {
        return Some(answer);
    }
    let said = words.without_fillers(said);
    let mut rest = 0;
    let (mut yes, mut no) = (false, false);
    for word in &said {
        match words.yes_no(word) {
            Some(true) => yes = true,
            Some(false) => no = true,
            None => rest += 1,
        }
    }
    let first = said.first().and_then(|word| words.yes_no(word)).is_some();
    if rest > ASIDE && !first {
        return None;
    }
    // "Not right" is a no, "yes and no" is neither.
    let negated = words.negates(&said) && !said.iter().any(|word| words.plain_yes(word));
    match (yes, no) {
        (_, true) if negated => Some(false),
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// Words in small letters, without accents and signs. A number keeps its sign and its point.
pub(super) fn split(text: &str) -> Vec<String> {
    let folded = fold(text);
    let letters: Vec<char> = folded.chars().collect();
    let digit = |at: usize| letters.get(at).is_some_and(char::is_ascii_digit);
    let mut cleaned = String::with_capacity(folded.len());
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1);
        let inside = before.is_some_and(digit) && digit(at + 1);
        match letter {
            '.' | ',' if inside => cleaned.push(*letter),
            // A sign, not a hyphen or a range.
            '-' if digit(at + 1) && before.is_none_or(|before| letters[before].is_whitespace()) => {
                cleaned.push('-');
            }
            '-' if before.is_none_or(|before| letters[before].is_whitespace()) => {
                cleaned.push_str(" - ")
            }
            '\'' | '\u{2019}' => {}
            letter if letter.is_alphanumeric() => cleaned.push(*letter),
            _ => cleaned.push(' '),
        }
    }
    cleaned.split_whitespace().map(str::to_owned).collect()
}

/// Small letters; umlauts and accents as they are typed without them.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars().flat_map(char::to_lowercase) {
        match letter {
            'ä' => folded.push_str("ae"),
            'ö' => folded.push_str("oe"),
            'ü' => folded.push_str("ue"),
            'ß' => folded.push_str("ss"),
            'à' | 'á' | 'â' => folded.push('a'),
            'è' | 'é' | 'ê' | 'ë' => folded.push('e'),
            'ì' | 'í' | 'î' | 'ï' => folded.push('i'),
            'ò' | 'ó' | 'ô' => folded.push('o'),
            'ù' | 'ú' | 'û' => folded.push('u'),
            'ç' => folded.push('c'),
            '\u{2212}' | '\u{2013}' => folded.push('-'),
            // Combining marks.
            '\u{300}'..='\u{36f}' => {}
            letter => folded.push(letter),
        }
    }
    folded
}

/// The only known word that is one letter away from a word of 5 letters or more, if no other is within two.
fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if word.chars().count() < 5 || word.chars().any(|letter| letter.is_ascii_digit()) {
        return None;
    }
    let mut found = None;
    for known in known {
        if word.len().abs_diff(known.len()) > 2 {
            continue;
        }
        match strsim::levenshtein(word, known) {
            1 if found.is_none() && known.chars().count() >= 5 => found = Some(known),
            0..=2 => return None,
            _ => {}
        }
    }
    found
}
