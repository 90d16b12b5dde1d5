//! Errors by kind, in memory that does not grow with the number of kinds that a server invents.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    measure::sample::ErrorKind,
    record::{self, Blame},
};

/// Further kinds count as [`ErrorKind::Other`].
const MAX_ERROR_KINDS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurred {
    pub count: u64,
    /// The first, since the start of the run.
    pub first_at: Duration,
}

/// Errors that users saw, by kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(
    into = "Vec<(ErrorKind, Occurred)>",
    from = "Vec<(ErrorKind, Occurred)>"
)]
pub struct Errors(BTreeMap<ErrorKind, Occurred>);

impl From<Errors> for Vec<(ErrorKind, Occurred)> {
    fn from(errors: Errors) -> Self {
        errors.0.into_iter().collect()
    }
}

impl From<Vec<(ErrorKind, Occurred)>> for Errors {
    fn from(list: Vec<(ErrorKind, Occurred)>) -> Self {
        let mut errors = Self::default();
        for (kind, error) in list {
            errors.add(kind, error.count, error.first_at);
        }
        errors
    }
}

impl Errors {
    pub fn add(&mut self, kind: ErrorKind, count: u64, first_at: Duration) {
        if count == 0 {
            return;
        }
        // A server may send a new code each time.
        let full = self.0.len() >= MAX_ERROR_KINDS && !self.0.contains_key(&kind);
        let kind = if full { ErrorKind::Other } else { kind };
        let occurred = Occurred { count: 0, first_at };
        let entry = self.0.entry(kind).or_insert(occurred);
        entry.count += count;
        entry.first_at = entry.first_at.min(first_at);
    }

    pub fn merge(&mut self, other: &Self) {
        for (kind, error) in &other.0 {
            self.add(kind.clone(), error.count, error.first_at);
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().map(|error| error.count).sum()
    }

    pub fn to_record(&self) -> impl Iterator<Item = record::ErrorEntry> {
        self.0.iter().map(|(kind, error)| record::ErrorEntry {
            kind: kind.name(),
            blame: kind.blame(),
            count: error.count,
            first_at_ms: error.first_at.as_secs_f64() * 1e3,
            meaning: kind.meaning().to_owned(),
            places: Vec::new(),
        })
    }
}

/// Faults that no user saw as an error, but that follow from the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Failure {
    MessageLost,
    MessageLate,
    MessageDuplicated,
    MessageReordered,
    MessageMisrouted,
    MessageAltered,
    MatchFailed,
    MatchOneSided,
    MatchDouble,
    MatchSelf,
    MatchSameRole,
    MatchWrongPeer,
    PartnerWasThere,
    LeaveUntold,
    CallTimedOut,
    CallWrong,
    WordLost,
    WordLate,
    WordTwice,
    WordReordered,
    WordMisdelivered,
    WordAltered,
    WordNotStored,
    WordWronglyStored,
    AnswerMissing,
    AnswerTwice,
}

impl Failure {
    /// The stable name in a record.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageLost => "message_lost",
            Self::MessageLate => "message_late",
            Self::MessageDuplicated => "message_duplicated",
            Self::MessageReordered => "message_reordered",
            Self::MessageMisrouted => "message_misrouted",
            Self::MessageAltered => "message_altered",
            Self::MatchFailed => "match_failed",
            Self::MatchOneSided => "match_one_sided",
            Self::MatchDouble => "match_double",
            Self::MatchSelf => "match_self",
            Self::MatchSameRole => "match_same_role",
            Self::MatchWrongPeer => "match_wrong_peer",
            Self::PartnerWasThere => "peer_left_wrong",
            Self::LeaveUntold => "peer_left_missing",
            Self::CallTimedOut => "call_timed_out",
            Self::CallWrong => "call_wrong",
            Self::WordLost => "word_lost",
            Self::WordLate => "word_late",
            Self::WordTwice => "word_twice",
            Self::WordReordered => "word_reordered",
            Self::WordMisdelivered => "word_misdelivered",
            Self::WordAltered => "word_altered",
            Self::WordNotStored => "word_not_stored",
            Self::WordWronglyStored => "word_wrongly_stored",
            Self::AnswerMissing => "answer_missing",
            Self::AnswerTwice => "answer_twice",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::MessageLost => {
                "the server took a message and its partner, who was there, never got it"
            }
            Self::MessageLate => {
                "a message took longer than the message time-out after it was sent"
            }
            Self::MessageDuplicated => "a message was delivered more than once",
            Self::MessageReordered => "a message was delivered after a later one",
            Self::MessageMisrouted => "a message was delivered to somebody whom it was not for",
            Self::MessageAltered => {
                "a message was delivered with other bytes, as another type or from another sender than it was sent"
            }
            Self::MatchFailed => {
                "two users waited at the same time, and neither got a partner in time"
            }
            Self::MatchOneSided => "a user was told of a room that nobody else was told of",
            Self::MatchDouble => "a user was put into a second room, or a third user into a room",
            Self::MatchSelf => "a user was matched with themselves",
            Self::MatchSameRole => {
                "both users of a room were told to make the offer, or neither: initiator must be true for one"
            }
            Self::MatchWrongPeer => "match_found named another session than the partner's",
            Self::PartnerWasThere => {
                "a user got peer_left although the partner had not left: the server gave the partner up"
            }
            Self::LeaveUntold => "a user left the room, and the partner got no peer_left",
            Self::CallTimedOut => "a request was not answered in time",
            Self::CallWrong => "a request was answered with something else than was expected",
            Self::WordLost => {
                "audio was sent, and its word is in no final at the host and in no gap that was reported"
            }
            Self::WordLate => {
                "a word came later than the message time-out after the end of its utterance"
            }
            Self::WordTwice => "a word was told more than once",
            Self::WordReordered => "a word was told after a later one of the same speaker",
            Self::WordMisdelivered => {
                "a word was told in another session, as another speaker's, or to somebody who may not hear it"
            }
            Self::WordAltered => {
                "a final has a word that nobody said: the provider is not `fake`, or audio was changed on the way"
            }
            Self::WordNotStored => {
                "a word was told as final, and the transcript does not have it as it was told"
            }
            Self::WordWronglyStored => {
                "the transcript has a word that was not said, or has it twice"
            }
            Self::AnswerMissing => {
                "the server said that an answer is stored, and the export does not have it"
            }
            Self::AnswerTwice => "the export has an answer more than once",
        }
    }
}

/// Failures with their first time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Failures(BTreeMap<Failure, Occurred>);

impl Failures {
    /// Sets the count as of `now`.
    pub fn set(&mut self, failure: Failure, count: u64, now: Duration) {
        if count == 0 {
            // It was presumed, and proved wrong.
            self.0.remove(&failure);
        } else {
            let first = Occurred {
                count,
                first_at: now,
            };
            self.0.entry(failure).or_insert(first).count = count;
        }
    }

    /// Sets the time of a fault that is counted later.
    pub fn date(&mut self, failure: Failure, at: Duration) {
        let first = Occurred {
            count: 0,
            first_at: at,
        };
        let mine = self.0.entry(failure).or_insert(first);
        mine.first_at = mine.first_at.min(at);
    }

    pub fn merge(&mut self, other: &Self) {
        for (failure, theirs) in &other.0 {
            let mine = self.0.entry(*failure).or_insert(Occurred {
                count: 0,
                first_at: theirs.first_at,
            });
            mine.count += theirs.count;
            mine.first_at = mine.first_at.min(theirs.first_at);
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().map(|failure| failure.count).sum()
    }

    pub fn to_record(&self) -> impl Iterator<Item = record::ErrorEntry> {
        self.0.iter().map(|(failure, occurred)| record::ErrorEntry {
            kind: failure.name().to_owned(),
            blame: Blame::Server,
            count: occurred.count,
            first_at_ms: occurred.first_at.as_secs_f64() * 1e3,
            meaning: failure.meaning().to_owned(),
            places: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::sample::ServerCode;

    #[test]
    fn errors_keep_their_first_time_and_a_bounded_number_of_kinds() {
        let kind = |n: u32| ErrorKind::ServerError(ServerCode::new(&format!("code_{n}")));
        let mut errors = Errors::default();
        for n in 0..1000 {
            errors.add(kind(n), 1, Duration::from_secs(9));
        }
        errors.add(kind(0), 1, Duration::from_secs(4));
        assert_eq!(
            (errors.total(), errors.0.len()),
            (1001, MAX_ERROR_KINDS + 1)
        );
        let first = errors.0[&kind(0)];
        assert_eq!((first.count, first.first_at.as_secs()), (2, 4));
    }
}
