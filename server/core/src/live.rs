//! A value that can be replaced while it is used: settings that are read again.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// How often a value can be replaced: more often than people do between two restarts.
const MAX_CHANGES: usize = 1000;

/// A value that can be replaced. To read it takes no lock, and counts no readers. What was replaced stays in memory, as
/// somebody may still read it; so this is for what people change, by hand.
#[derive(Debug)]
pub struct Live<T> {
    first: T,
    newer: Box<[OnceLock<Box<T>>]>,
    /// How many of them are set.
    changes: AtomicUsize,
    changing: Mutex<()>,
}

impl<T: PartialEq> Live<T> {
    /// This, until it is replaced.
    pub fn new(value: T) -> Self {
        Self {
            first: value,
            newer: (0..MAX_CHANGES).map(|_| OnceLock::new()).collect(),
            changes: AtomicUsize::new(0),
            changing: Mutex::new(()),
        }
    }

    /// The present value.
    #[inline]
    pub fn get(&self) -> &T {
        match self.changes.load(Ordering::Acquire) {
            0 => &self.first,
            changes => self.nth(changes),
        }
    }

    fn nth(&self, changes: usize) -> &T {
        self.newer[changes - 1]
            .get()
            .map_or(&self.first, Box::as_ref)
    }

    /// Replaces the value, unless it is the same. False: it was replaced too often.
    #[must_use]
    pub fn replace(&self, value: T) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.get() == value {
            return true;
        }
        let changes = self.changes.load(Ordering::Acquire);
        let set = self
            .newer
            .get(changes)
            .is_some_and(|next| next.set(Box::new(value)).is_ok());
        if set {
            self.changes.store(changes + 1, Ordering::Release);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_value_counts_and_the_same_one_takes_no_place() {
        let live = Live::new(0);
        let first = live.get();
        for change in 1..=MAX_CHANGES {
            assert!(live.replace(change) && live.replace(change));
            assert_eq!((*first, *live.get()), (0, change));
        }
        assert!(!live.replace(0), "there is no place left");
        assert_eq!(*live.get(), MAX_CHANGES);
    }
}
