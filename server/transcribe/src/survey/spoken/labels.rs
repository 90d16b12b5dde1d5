//! Choices by their labels.

use super::{super::definition::Choice, nearest, split};

/// A choice and the words that mean it.
struct Spelled<'c> {
    choice: &'c Choice,
    words: Vec<String>,
}

fn spelled<'c>(choices: &'c [Choice], language: &str) -> Vec<Spelled<'c>> {
    let of = |choice: &'c Choice| {
        let label = choice.label.get(language).map(|label| split(label));
        let forms = [label.unwrap_or_default(), split(&choice.value)];
        forms.map(|words| Spelled { choice, words })
    };
    choices
        .iter()
        .flat_map(of)
        .filter(|spelled| !spelled.words.is_empty())
        .collect()
}

/// The choice whose label is all that was said.
pub(super) fn whole<'c>(
    choices: &'c [Choice],
    said: &[&str],
    language: &str,
) -> Option<&'c Choice> {
    let spelled = spelled(choices, language);
    spelled
        .iter()
        .find(|spelled| spelled.words == said)
        .map(|spelled| spelled.choice)
}

/// The choices whose labels were said among other words, in the order of the questionnaire. A label inside a longer
/// one that was said does not count.
pub(super) fn find<'c>(choices: &'c [Choice], said: &[&str], language: &str) -> Vec<&'c Choice> {
    let mut spelled = spelled(choices, language);
    spelled.sort_by_key(|spelled| std::cmp::Reverse(spelled.words.len()));
    let mut alone: Vec<&str> = spelled
        .iter()
        .filter_map(|spelled| {
            if let [word] = &*spelled.words {
                Some(word.as_str())
            } else {
                None
            }
        })
        .collect();
    alone.sort_unstable();
    alone.dedup();
    let mut taken = vec![false; said.len()];
    let mut found: Vec<&str> = Vec::new();
    for Spelled { choice, words } in &spelled {
        for start in 0..said.len().saturating_sub(words.len() - 1) {
            let range = start..start + words.len();
            let same = said[range.clone()]
                .iter()
                .zip(words)
                .all(|(said, word)| said == word);
            if same && !taken[range.clone()].contains(&true) {
                taken[range].fill(true);
                found.push(&choice.value);
            }
        }
    }
    for (word, _) in said.iter().zip(&taken).filter(|(_, taken)| !**taken) {
        if let Some(word) = nearest(word, alone.iter().copied()) {
            let meant = spelled.iter().filter(|spelled| spelled.words == [word]);
            found.extend(meant.map(|spelled| spelled.choice.value.as_str()));
        }
    }
    choices
        .iter()
        .filter(|choice| found.contains(&choice.value.as_str()))
        .collect()
}
