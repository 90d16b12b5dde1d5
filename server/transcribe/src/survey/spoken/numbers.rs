//! Numbers: "twenty one", "vierundzwanzig", "minus five", "2,5".

use super::{nearest, words::Words};

#[derive(Debug, PartialEq)]
pub(super) enum Found {
    One(f64),
    None,
    /// Several numbers, or one that the words beside it change: "more than five".
    Unclear,
}

/// The only number of an utterance.
pub(super) fn find(words: &Words, said: &[&str]) -> Found {
    if is_nothing(words, &words.without_fillers(said)) {
        return Found::One(0.0);
    }
    let mut found = None;
    let mut rest = Vec::new();
    let mut at = 0;
    while let Some(word) = said.get(at) {
        let negative = words.minus.contains(word);
        let begin = at + usize::from(negative);
        match read(words, said.get(begin..).unwrap_or_default()) {
            Some((number, count)) if !pronoun(words, said, begin, count) => {
                if found
                    .replace(if negative { -number } else { number })
                    .is_some()
                {
                    return Found::Unclear;
                }
                at = begin + count;
            }
            _ => {
                rest.push(*word);
                at += 1;
            }
        }
    }
    let changes = |word: &&str| {
        words.changing.contains(word)
            || words.nothing.contains(word)
            || words.yes_no(word) == Some(false)
    };
    // "No, five" corrects; "not five" does not say which.
    let corrects = usize::from(said.first().is_some_and(|word| words.plain_no(word)));
    match found {
        None => Found::None,
        Some(_) if rest.iter().skip(corrects).any(changes) => Found::Unclear,
        Some(number) => Found::One(number),
    }
}

/// "None", "no days", "nie".
fn is_nothing(words: &Words, bare: &[&str]) -> bool {
    match bare {
        [word] => words.nothing.contains(word),
        [word, counted] => {
            words.counted.contains(counted)
                && (words.nothing.contains(word) || words.plain_no(word))
        }
        _ => false,
    }
}

/// "No one", "the purple one", "one of them" and "eine gute Frage" are no numbers.
fn pronoun(words: &Words, said: &[&str], begin: usize, count: usize) -> bool {
    if count != 1 || !said.get(begin).is_some_and(|word| words.one.contains(word)) {
        return false;
    }
    let before = begin.checked_sub(1).and_then(|before| said.get(before));
    let after = said.get(begin + 1);
    let fits_before = before.is_none_or(|word| {
        !words.before_pronoun.contains(word)
            && (words.before_one.contains(word)
                || words.minus.contains(word)
                || words.is_filler(word)
                || words.plain_no(word))
    });
    let fits_after = after.is_none_or(|word| words.counted.contains(word) || words.is_filler(word));
    !(fits_before && fits_after)
}

/// The number with which `said` begins, and how many words it has.
fn read(words: &Words, said: &[&str]) -> Option<(f64, usize)> {
    let (whole, mut count) = match said.first().and_then(|word| digits(words, word)) {
        Some(number) => (number, 1),
        None => {
            let (number, count) = below_thousand(words, said)?;
            (f64::from(number), count)
        }
    };
    let rest = said.get(count..).unwrap_or_default();
    if let [point, ..] = rest
        && words.point.contains(point)
    {
        let decimals: Vec<u32> = rest[1..]
            .iter()
            .map_while(|word| unit(words, word))
            .collect();
        if decimals.is_empty() {
            return None;
        }
        let fraction = decimals
            .iter()
            .rev()
            .fold(0.0, |sum, digit| (sum + f64::from(*digit)) / 10.0);
        // By way of the text, so that 2.1 is the nearest float to 2.1.
        let text = decimals.iter().map(ToString::to_string).collect::<String>();
        let number = format!("{whole}.{text}")
            .parse()
            .unwrap_or(whole + fraction);
        return Some((number, count + 1 + decimals.len()));
    }
    if rest.starts_with(&["and", "a", "half"]) {
        count += 3;
        return Some((whole + 0.5, count));
    }
    Some((whole, count))
}

fn unit(words: &Words, word: &str) -> Option<u32> {
    let digit = match word.parse::<u32>() {
        Ok(number) => Some(number),
        Err(_) => words.number(word),
    };
    digit.filter(|number| *number <= 9)
}

/// `5`, `-5`, `2.5`, `2,5`; and thousands as the language groups them.
fn digits(words: &Words, word: &str) -> Option<f64> {
    let bare = word.strip_prefix('-').unwrap_or(word);
    if !bare.starts_with(|letter: char| letter.is_ascii_digit())
        || bare.bytes().any(|byte| byte.is_ascii_alphabetic())
    {
        return times(words, word);
    }
    let mut groups = bare.split(words.thousands);
    let grouped = bare.contains(words.thousands)
        && groups
            .next()
            .is_some_and(|first| (1..=3).contains(&first.len()))
        && groups.all(|group| group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit()));
    let plain = if grouped {
        word.replace(words.thousands, "")
    } else {
        word.replace(',', ".")
    };
    plain.parse().ok()
}

/// "5x", "3mal", "4th" are not read, except as times.
fn times(words: &Words, word: &str) -> Option<f64> {
    let number = words
        .times
        .iter()
        .find_map(|times| word.strip_suffix(times))?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse().ok()).flatten()
}

/// "two hundred and five", "zwei hundert fünf", "hundert": up to 999.
fn below_thousand(words: &Words, said: &[&str]) -> Option<(u32, usize)> {
    let hundred = |at: usize| said.get(at).is_some_and(|word| *word == words.hundred);
    if hundred(0) {
        return Some(after_hundred(words, said, 100, 1));
    }
    if said
        .first()
        .is_some_and(|word| words.articles.contains(word))
        && hundred(1)
    {
        return Some(after_hundred(words, said, 100, 2));
    }
    let (number, count) = below_hundred(words, said)?;
    if (1..=9).contains(&number) && hundred(count) {
        return Some(after_hundred(words, said, number * 100, count + 1));
    }
    Some((number, count))
}

fn after_hundred(words: &Words, said: &[&str], hundreds: u32, count: usize) -> (u32, usize) {
    let and = usize::from(said.get(count).is_some_and(|word| *word == words.and));
    match below_hundred(words, said.get(count + and..).unwrap_or_default()) {
        Some((number, more)) if number > 0 && number < 100 => {
            (hundreds + number, count + and + more)
        }
        _ => (hundreds, count),
    }
}

/// "twenty one", "ein und zwanzig", or a single word, which may be larger.
fn below_hundred(words: &Words, said: &[&str]) -> Option<(u32, usize)> {
    let number = words.number_alike(said.first()?)?;
    let tens = |number: u32| (20..100).contains(&number) && number.is_multiple_of(10);
    if words.units_first {
        if let [_, and, next, ..] = said
            && *and == words.and
            && (1..=9).contains(&number)
            && let Some(more) = words.number(next).filter(|number| tens(*number))
        {
            return Some((number + more, 3));
        }
    } else if tens(number)
        && let Some(more) = said
            .get(1)
            .and_then(|word| words.number(word))
            .filter(|more| (1..=9).contains(more))
    {
        return Some((number + more, 2));
    }
    Some((number, 1))
}

impl Words {
    /// A number of one word, spelled exactly.
    pub(super) fn number(&self, word: &str) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    /// A number of one word, with one letter forgiven if no other known word is as near.
    fn number_alike(&self, word: &str) -> Option<u32> {
        if let Some(number) = self.number(word) {
            return Some(number);
        }
        // More is hardly ever misheard by one letter, and the list is gone through for each word.
        let small = self.numbers.iter().filter(|(_, number)| **number <= 100);
        let mut known: Vec<&str> = small.map(|(word, _)| word.as_str()).collect();
        known.extend(self.ordinals.keys().map(String::as_str));
        known.extend(self.all().map(|word| -> &str { word }));
        self.number(nearest(word, known.into_iter())?)
    }
}
