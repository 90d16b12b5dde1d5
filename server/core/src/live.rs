//! A value that can be replaced while it is used: settings that are read again.

use std::sync::OnceLock;

/// A value that can be replaced. To read it costs one load: no lock, and no count of readers. What was replaced stays in
/// memory, as somebody may still read it; so this is for what people change, by hand.
#[derive(Debug)]
pub struct Live<T> {
    value: T,
    newer: OnceLock<Box<Self>>,
}

impl<T: PartialEq> Live<T> {
    /// This, until it is replaced.
    pub fn new(value: T) -> Self {
        Self {
            value,
            newer: OnceLock::new(),
        }
    }

    /// The present value.
    #[inline]
    pub fn get(&self) -> &T {
        let mut current = self;
        while let Some(newer) = current.newer.get() {
            current = newer;
        }
        &current.value
    }

    /// Replaces the value, unless it is the same.
    pub fn replace(&self, value: T) {
        let mut current = self;
        let mut next = Box::new(Self::new(value));
        loop {
            while let Some(newer) = current.newer.get() {
                current = newer;
            }
            if current.value == next.value {
                return;
            }
            match current.newer.set(next) {
                Ok(()) => return,
                // Somebody was faster.
                Err(refused) => next = refused,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_value_counts_and_the_same_one_takes_no_memory() {
        let live = Live::new(1);
        let first = live.get();
        assert_eq!(*first, 1);
        live.replace(2);
        live.replace(2);
        live.replace(3);
        assert_eq!((*first, *live.get()), (1, 3));
        let mut values = 1;
        let mut current = &live;
        while let Some(newer) = current.newer.get() {
            (current, values) = (newer, values + 1);
        }
        assert_eq!(values, 3);
    }
}
