//! The one place where a match is decided.
//!
//! This file knows nothing of the rest of the server, so that a model checker can run it with its own
//! locks: the parent module provides `super::sync::Mutex`.

use super::sync::Mutex;

/// The state of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    Waiting,
    /// Its user does not answer: it keeps its place, and nobody is matched with it.
    Parked,
    Claimed,
    Cancelled,
}

/// A ticket's place in the order of arrival, and its state.
pub struct Claim {
    /// Order of arrival; unique.
    pub sequence: u64,
    state: Mutex<ClaimState>,
}

/// Why two tickets were not claimed.
#[derive(Debug, PartialEq, Eq)]
pub enum Unpaired {
    /// The ticket that was looking no longer waited.
    Mine,
    /// Nor did the one that was found.
    Theirs,
    /// One of the two users has blocked the other.
    Apart,
}

impl Claim {
    pub fn new(sequence: u64) -> Self {
        Self {
            sequence,
            state: Mutex::new(ClaimState::Waiting),
        }
    }

    /// Claims both or neither. The older is locked first, so that tickets which find each other at the same
    /// time cannot deadlock. `are_apart` is asked while both are locked: who blocks a partner, and looks at their own
    /// claim after that, sees each match that was made without the block.
    pub fn pair(
        mine: &Self,
        theirs: &Self,
        are_apart: impl FnOnce() -> bool,
    ) -> Result<(), Unpaired> {
        if mine.sequence == theirs.sequence {
            return Err(Unpaired::Theirs);
        }
        let (older, younger) = if mine.sequence < theirs.sequence {
            (mine, theirs)
        } else {
            (theirs, mine)
        };
        let mut older_state = lock(&older.state);
        let mut younger_state = lock(&younger.state);
        let (my_state, their_state) = if mine.sequence < theirs.sequence {
            (*older_state, *younger_state)
        } else {
            (*younger_state, *older_state)
        };
        if my_state != ClaimState::Waiting {
            return Err(Unpaired::Mine);
        }
        if their_state != ClaimState::Waiting {
            return Err(Unpaired::Theirs);
        }
        if are_apart() {
            return Err(Unpaired::Apart);
        }
        *older_state = ClaimState::Claimed;
        *younger_state = ClaimState::Claimed;
        Ok(())
    }

    /// Cancels; false if it no longer waited.
    pub fn cancel(&self) -> bool {
        let waited = &[ClaimState::Waiting, ClaimState::Parked];
        self.change(waited, ClaimState::Cancelled)
    }

    /// Parks; false if it no longer waited.
    pub fn park(&self) -> bool {
        self.change(&[ClaimState::Waiting], ClaimState::Parked)
    }

    /// Lets a parked ticket wait again.
    pub fn unpark(&self) -> bool {
        self.change(&[ClaimState::Parked], ClaimState::Waiting)
    }

    fn change(&self, from: &[ClaimState], to: ClaimState) -> bool {
        let mut state = lock(&self.state);
        let fits = from.contains(&state);
        if fits {
            *state = to;
        }
        fits
    }

    /// Lets a claimed ticket wait again because its partner has gone. Only for the maker of the claim.
    pub fn reopen(&self) {
        *lock(&self.state) = ClaimState::Waiting;
    }

    pub fn state(&self) -> ClaimState {
        *lock(&self.state)
    }
}

fn lock(state: &Mutex<ClaimState>) -> super::sync::MutexGuard<'_, ClaimState> {
    state
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
