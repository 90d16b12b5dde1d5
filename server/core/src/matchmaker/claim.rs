//! The one place where a match is decided.
//!
//! This file knows nothing of the rest of the server, so that a model checker can run it with its own
//! locks: the parent module provides `super::sync::Mutex`.

use super::sync::Mutex;

/// The state of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    Waiting,
    /// Somebody on another node is asked: nobody else gets it.
    Offered,
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

/// Why a ticket was not claimed for a partner on another node.
#[derive(Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// It was in this state.
    Not(ClaimState),
    /// The two may not meet.
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

    /// Cancels, and returns what it was; nothing if it no longer waited.
    pub fn cancel(&self) -> Option<ClaimState> {
        let waited = &[ClaimState::Waiting, ClaimState::Offered, ClaimState::Parked];
        self.change(waited, ClaimState::Cancelled)
    }

    /// Parks, and returns what it was; nothing if it no longer waited.
    pub fn park(&self) -> Option<ClaimState> {
        let waited = &[ClaimState::Waiting, ClaimState::Offered];
        self.change(waited, ClaimState::Parked)
    }

    /// Lets a parked ticket wait again.
    pub fn unpark(&self) -> bool {
        let parked = self.change(&[ClaimState::Parked], ClaimState::Waiting);
        parked.is_some()
    }

    /// Somebody on another node is asked.
    pub fn offer(&self) -> bool {
        let waited = self.change(&[ClaimState::Waiting], ClaimState::Offered);
        waited.is_some()
    }

    /// The answer was no, or there was none.
    pub fn take_offer_back(&self) -> bool {
        let offered = self.change(&[ClaimState::Offered], ClaimState::Waiting);
        offered.is_some()
    }

    /// Claims it alone, for a partner on another node, if it is in the state `from`. `are_apart` is asked as by
    /// [`Self::pair`].
    pub fn claim(
        &self,
        from: ClaimState,
        are_apart: impl FnOnce() -> bool,
    ) -> Result<(), Unclaimed> {
        let mut state = lock(&self.state);
        if *state != from {
            return Err(Unclaimed::Not(*state));
        }
        if are_apart() {
            return Err(Unclaimed::Apart);
        }
        *state = ClaimState::Claimed;
        Ok(())
    }

    fn change(&self, from: &[ClaimState], to: ClaimState) -> Option<ClaimState> {
        let mut state = lock(&self.state);
        let before = *state;
        from.contains(&before).then(|| {
            *state = to;
            before
        })
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
