//! The one place where a match is decided.
//!
//! This file knows nothing of the rest of the server, so that the model checker can run it with locks of
//! its own: whoever includes it provides `super::sync::Mutex`.

use super::sync::Mutex;

/// What has become of a wish to be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Still to be decided.
    Waiting,
    /// Matched with somebody.
    Claimed,
    /// Withdrawn by its owner.
    Cancelled,
}

/// A wish's place in the order of arrival, and its fate.
pub struct Claim {
    /// Order of arrival; unique.
    pub sequence: u64,
    fate: Mutex<Fate>,
}

/// Which of the two was not free any more.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// The one who was looking.
    Mine,
    /// The one who had been found.
    Theirs,
}

impl Claim {
    /// A wish that waits.
    pub fn new(sequence: u64) -> Self {
        Self {
            sequence,
            fate: Mutex::new(Fate::Waiting),
        }
    }

    /// Claims both or neither. The older is locked first, so that any number of users who find each other
    /// at the same time cannot wait for each other in a circle.
    pub fn pair(mine: &Self, theirs: &Self) -> Result<(), Taken> {
        if mine.sequence == theirs.sequence {
            return Err(Taken::Theirs);
        }
        let (older, younger) = if mine.sequence < theirs.sequence {
            (mine, theirs)
        } else {
            (theirs, mine)
        };
        let mut older_fate = lock(&older.fate);
        let mut younger_fate = lock(&younger.fate);
        let (my_fate, their_fate) = if mine.sequence < theirs.sequence {
            (*older_fate, *younger_fate)
        } else {
            (*younger_fate, *older_fate)
        };
        if my_fate != Fate::Waiting {
            return Err(Taken::Mine);
        }
        if their_fate != Fate::Waiting {
            return Err(Taken::Theirs);
        }
        *older_fate = Fate::Claimed;
        *younger_fate = Fate::Claimed;
        Ok(())
    }

    /// Withdraws a wish; false if it was no longer waiting.
    pub fn cancel(&self) -> bool {
        let mut fate = lock(&self.fate);
        let waiting = *fate == Fate::Waiting;
        if waiting {
            *fate = Fate::Cancelled;
        }
        waiting
    }

    /// Puts a claimed wish back: the partner had gone. Only for the one who made the claim.
    pub fn reopen(&self) {
        *lock(&self.fate) = Fate::Waiting;
    }

    /// What has become of it.
    pub fn fate(&self) -> Fate {
        *lock(&self.fate)
    }
}

fn lock(fate: &Mutex<Fate>) -> super::sync::MutexGuard<'_, Fate> {
    fate.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
