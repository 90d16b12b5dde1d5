//! Dates: "2026-02-28", "28.2.2026", "28 February 2026", "February 28th, 2026", "achtundzwanzigster Februar 2026".

use super::{super::date::Date, words::Words};

/// The only date of an utterance: a day, a month by its name, and a year of four digits, or all of it in digits.
pub(super) fn find(words: &Words, text: &str, said: &[&str]) -> Option<Date> {
    let mut dates = text
        .split_whitespace()
        .filter_map(|word| written(words, word));
    if let Some(date) = dates.next() {
        return dates.next().is_none().then_some(date);
    }
    let (mut day, mut month, mut year) = (None, None, None);
    let mut at = 0;
    while let Some(word) = said.get(at) {
        at += 1;
        if let Some(place) = words.months.iter().position(|month| month == word) {
            once(&mut month, u8::try_from(place + 1).ok()?)?;
        } else if word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit()) {
            once(&mut year, word.parse().ok()?)?;
        } else if let Some((number, more)) = day_of(words, &said[at - 1..]) {
            once(&mut day, number)?;
            at += more;
        } else if word.bytes().any(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
    Date::new(year?, month?, day?)
}

/// Sets what has not been set.
fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// `2026-02-28`, and with points, day first. Slashes are not read: who uses them does not agree on the order.
fn written(words: &Words, word: &str) -> Option<Date> {
    let word = word.trim_matches(|letter: char| !letter.is_ascii_digit());
    if let Some(date) = Date::parse(word) {
        return Some(date);
    }
    if words.thousands != '.' {
        return None;
    }
    let mut parts = word.split('.');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    date.filter(|_| parts.next().is_none())
}

/// The day of a month with which `said` begins, and how many words more than one it has.
fn day_of(words: &Words, said: &[&str]) -> Option<(u8, usize)> {
    let word = said.first()?;
    if let Some(day) = words.ordinals.get(*word) {
        return Some((*day, 0));
    }
    // "twenty first"
    if let Some(tens @ (20 | 30)) = words.number(word)
        && let Some(unit) = said
            .get(1)
            .and_then(|next| words.ordinals.get(*next))
            .filter(|unit| **unit < 10)
    {
        return Some((u8::try_from(tens).ok()? + unit, 1));
    }
    let bare = ["st", "nd", "rd", "th"]
        .iter()
        .find_map(|end| word.strip_suffix(end))
        .unwrap_or(word);
    if bare.len() <= 2 && !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
        return bare.parse().ok().map(|day| (day, 0));
    }
    // "May five": a number of one word.
    words
        .number(word)
        .and_then(|number| u8::try_from(number).ok())
        .filter(|day| (1..=31).contains(day))
        .map(|day| (day, 0))
}
