//! The word lists. Umlauts are spelled out, apostrophes are gone, as `split` leaves the words.

mod english;
mod german;

use std::collections::HashMap;

type List = Vec<&'static str>;

/// The words of a language.
pub(super) struct Words {
    /// Numbers of one word.
    pub(super) numbers: HashMap<String, u32>,
    pub(super) hundred: &'static str,
    pub(super) and: &'static str,
    /// Whether units come before tens: "ein und zwanzig".
    pub(super) units_first: bool,
    /// What stands between groups of thousands.
    pub(super) thousands: char,
    pub(super) point: List,
    pub(super) minus: List,
    /// After digits: how often.
    pub(super) times: List,
    /// Zero, if nothing else is said.
    pub(super) nothing: List,
    /// Beside a number they make another one of it, or a range.
    pub(super) changing: List,
    pub(super) articles: List,
    /// Words for 1 that are also something else.
    pub(super) one: List,
    /// Words before such a one that leave it a number, beside fillers.
    pub(super) before_one: List,
    /// Words after it that do.
    pub(super) counted: List,
    pub(super) before_pronoun: List,
    yes: List,
    no: List,
    /// Of `yes` and `no`: those that say nothing but this.
    plain: (List, List),
    negations: List,
    yes_phrases: List,
    no_phrases: List,
    /// No answer, wherever they stand.
    no_answer: List,
    /// No answer, if nothing else is said.
    no_answer_alone: List,
    fillers: List,
    pub(super) months: List,
    pub(super) ordinals: HashMap<String, u8>,
}

impl Words {
    pub(super) fn of(language: &str) -> &'static Self {
        let primary = language.split(['-', '_']).next().unwrap_or_default();
        if primary.eq_ignore_ascii_case("de") {
            &german::WORDS
        } else {
            &english::WORDS
        }
    }

    /// Words of which none may be taken for another one.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static str> {
        let lists = [
            &self.yes,
            &self.no,
            &self.negations,
            &self.fillers,
            &self.changing,
            &self.nothing,
        ];
        lists.into_iter().flatten().copied()
    }

    pub(super) fn without_fillers<'s>(&self, said: &[&'s str]) -> Vec<&'s str> {
        said.iter()
            .filter(|word| !self.fillers.contains(word))
            .copied()
            .collect()
    }

    pub(super) fn is_filler(&self, word: &str) -> bool {
        self.fillers.contains(&word)
    }

    pub(super) fn yes_no(&self, word: &str) -> Option<bool> {
        if self.yes.contains(&word) {
            return Some(true);
        }
        (self.no.contains(&word) || self.negations.contains(&word)).then_some(false)
    }

    pub(super) fn plain_yes(&self, word: &str) -> bool {
        self.plain.0.contains(&word)
    }

    pub(super) fn plain_no(&self, word: &str) -> bool {
        self.plain.1.contains(&word)
    }

    pub(super) fn negates(&self, said: &[&str]) -> bool {
        said.iter().any(|word| self.negations.contains(word))
    }

    /// A phrase that means yes or no whatever its words mean.
    pub(super) fn phrase(&self, said: &[&str]) -> Option<bool> {
        let bare = self.without_fillers(said);
        let is = |phrase: &&str| same(phrase, &bare) || same(phrase, said);
        if self.yes_phrases.iter().any(&is) {
            return Some(true);
        }
        self.no_phrases.iter().any(is).then_some(false)
    }

    pub(super) fn is_no_answer(&self, said: &[&str]) -> bool {
        let mut phrases = self.no_answer.iter().chain(&self.no_answer_alone);
        phrases.any(|phrase| same(phrase, said))
    }

    pub(super) fn has_no_answer(&self, said: &[&str]) -> bool {
        let inside = |phrase: &&str| {
            let words: Vec<&str> = phrase.split(' ').collect();
            said.windows(words.len()).any(|window| window == words)
        };
        self.no_answer.iter().any(inside) || self.is_no_answer(&self.without_fillers(said))
    }
}

/// Words between spaces.
fn words(text: &'static str) -> List {
    text.split_whitespace().collect()
}

/// Phrases between commas.
fn phrases(text: &'static str) -> List {
    text.split(',').map(str::trim).collect()
}

fn same(phrase: &str, said: &[&str]) -> bool {
    phrase.split(' ').eq(said.iter().copied())
}
