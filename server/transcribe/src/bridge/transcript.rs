//! What a track's provider has said: names utterances, and tells each final once.

use std::collections::VecDeque;

use super::Heard;
use crate::provider::Utterance;

/// How many finals are remembered to find those that come twice.
const REMEMBERED: usize = 64;
/// How far the times of the same utterance lie apart at most, in milliseconds.
const SAME_MS: i64 = 50;
/// How many utterances may be unfinished at a time. One speaker has one; more are a provider's fault.
const MAX_OPEN: usize = 8;

/// See [`transcript`](self).
#[derive(Default)]
pub(super) struct Transcript {
    /// Counts streams: a new one that resumes nothing uses the same names for other utterances.
    generation: u32,
    last_number: u64,
    /// Utterances without a final.
    open: Vec<Open>,
    finals: VecDeque<Final>,
    /// What follows from finals: see [`Transcript::take_told`].
    told: Vec<Heard>,
}

struct Open {
    generation: u32,
    id: String,
    number: u64,
    revision: u32,
    last: Utterance,
}

struct Final {
    generation: u32,
    id: String,
    start_ms: i64,
    end_ms: i64,
}

/// What becomes of a final.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Told,
    /// It was told already.
    Duplicate,
    /// It lies before what was told already.
    Backwards,
    /// It has no text: there was nothing up to its end.
    Nothing,
}

impl Transcript {
    /// The times of utterances are those of the track.
    pub(super) fn partial(&mut self, said: Utterance) -> Option<Heard> {
        let is_over = |told: &Final| told.generation == self.generation && told.id == said.id;
        if said.text.trim().is_empty() || self.finals.iter().any(is_over) {
            return None;
        }
        let index = self.find(&said);
        let index = index.unwrap_or_else(|| {
            if self.open.len() == MAX_OPEN {
                self.open.remove(0);
            }
            self.last_number += 1;
            let (generation, number) = (self.generation, self.last_number);
            self.open.push(Open {
                generation,
                id: said.id.clone(),
                number,
                revision: 0,
                last: Utterance::default(),
            });
            self.open.len() - 1
        });
        let open = &mut self.open[index];
        open.generation = self.generation;
        open.id.clone_from(&said.id);
        open.revision += 1;
        open.last = Utterance {
            id: open.number.to_string(),
            ..said
        };
        Some(Heard::Partial {
            utterance: open.last.clone(),
            revision: open.revision,
        })
    }

    pub(super) fn last(&mut self, said: Utterance) -> Verdict {
        let told = |told: &Final| {
            let same_name = told.generation == self.generation && told.id == said.id;
            let near = |one: i64, other: i64| (one - other).abs() <= SAME_MS;
            same_name || near(told.start_ms, said.start_ms) && near(told.end_ms, said.end_ms)
        };
        let is_empty = said.text.trim().is_empty();
        if !is_empty && self.finals.iter().any(told) {
            return Verdict::Duplicate;
        }
        if self
            .finals
            .iter()
            .any(|told| said.end_ms + SAME_MS < told.end_ms)
        {
            return Verdict::Backwards;
        }
        let open = self.find(&said).map(|index| self.open.remove(index));
        if is_empty {
            self.told.extend(open.map(withdrawn));
            return Verdict::Nothing;
        }
        self.end_others(&said);
        let number = open.map_or_else(
            || {
                self.last_number += 1;
                self.last_number
            },
            |open| open.number,
        );
        self.remember(said.id.clone(), &said);
        let utterance = Utterance {
            id: number.to_string(),
            ..said
        };
        self.told.push(Heard::Final {
            utterance,
            cut: false,
        });
        Verdict::Told
    }

    /// A speaker says one thing after the other. What was open before this final gets none of its own: it is cut. What the
    /// final covers, or a lost stream began, was another guess at the same.
    fn end_others(&mut self, said: &Utterance) {
        let generation = self.generation;
        let is_over = |open: &mut Open| open.last.start_ms < said.end_ms;
        for open in self.open.extract_if(.., is_over).collect::<Vec<_>>() {
            if open.generation == generation && open.last.end_ms <= said.start_ms {
                self.remember(open.id, &open.last);
                self.told.push(Heard::Final {
                    utterance: open.last,
                    cut: true,
                });
            } else {
                self.told.push(withdrawn(open));
            }
        }
    }

    /// The open utterance that this one goes on with: by its name, or, after a loss, what the lost stream began.
    fn find(&self, said: &Utterance) -> Option<usize> {
        let named = |open: &Open| open.generation == self.generation && open.id == said.id;
        let lost =
            |open: &Open| open.generation != self.generation && open.last.start_ms < said.end_ms;
        self.open
            .iter()
            .position(named)
            .or_else(|| self.open.iter().position(lost))
    }

    /// What is to be told, in this order: utterances that were cut or turned out to be nothing, and the final itself.
    pub(super) fn take_told(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.told)
    }

    fn remember(&mut self, id: String, said: &Utterance) {
        if self.finals.len() == REMEMBERED {
            self.finals.pop_front();
        }
        let generation = self.generation;
        self.finals.push_back(Final {
            generation,
            id,
            start_ms: said.start_ms,
            end_ms: said.end_ms,
        });
    }

    /// Whether an utterance has begun.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// A new stream begins, which knows nothing of the one before.
    pub(super) fn begin_stream(&mut self) {
        self.generation += 1;
    }

    /// No final follows: each open utterance becomes one, as it is.
    pub(super) fn cut(&mut self) -> Vec<Heard> {
        let mut open = std::mem::take(&mut self.open);
        open.sort_by_key(|open| open.last.start_ms);
        for open in &open {
            self.remember(open.id.clone(), &open.last);
        }
        open.into_iter()
            .map(|open| Heard::Final {
                utterance: open.last,
                cut: true,
            })
            .collect()
    }
}

/// A partial without text.
fn withdrawn(open: Open) -> Heard {
    let utterance = Utterance {
        text: String::new(),
        words: Vec::new(),
        ..open.last
    };
    Heard::Partial {
        utterance,
        revision: open.revision + 1,
    }
}

#[cfg(test)]
mod tests;
