//! The memory that connections use together for unfinished messages, outboxes and handshakes. Each of them has
//! limits of its own; the sum of all is what could bring the process down.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use prometheus::IntGauge;
use tokio::sync::Notify;

/// Bytes in use, and their limit.
pub struct Memory {
    limit: usize,
    used: IntGauge,
    exceeded: Notify,
}

impl Memory {
    /// Counts in `used`.
    pub fn new(limit: usize, used: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used,
            exceeded: Notify::new(),
        })
    }

    /// The most bytes that should be in use.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        usize::try_from(self.used.get()).unwrap_or(0)
    }

    /// Whether more bytes are in use than should be.
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// Waits until it is.
    pub async fn exceeded(&self) {
        while !self.is_exceeded() {
            self.exceeded.notified().await;
        }
    }

    fn change(&self, from: usize, to: usize) {
        self.used.add(to as i64 - from as i64);
        if to > from && self.is_exceeded() {
            self.exceeded.notify_one();
        }
    }
}

/// What one connection uses. Dropping it gives everything back.
pub struct Share {
    memory: Arc<Memory>,
    bytes: AtomicUsize,
}

impl Share {
    /// `bytes` are in use from the start.
    pub fn new(memory: Arc<Memory>, bytes: usize) -> Self {
        memory.change(0, bytes);
        Self {
            memory,
            bytes: AtomicUsize::new(bytes),
        }
    }

    /// Another part, which uses nothing yet.
    pub fn another(&self) -> Self {
        Self::new(self.memory.clone(), 0)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A part of the connection uses `to` bytes now, and used `from` before.
    pub fn change(&self, from: usize, to: usize) {
        if from != to {
            // Wraps around, as the sum is never negative.
            self.bytes
                .fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
            self.memory.change(from, to);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.change(self.bytes(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_uses_is_counted_until_it_ends() {
        let used = IntGauge::new("used", "Bytes.").expect("a name");
        let memory = Memory::new(100, used.clone());
        let (first, second) = (
            Share::new(memory.clone(), 60),
            Share::new(memory.clone(), 0),
        );
        second.change(0, 50);
        assert!(memory.is_exceeded());
        second.change(50, 10);
        assert_eq!((second.bytes(), used.get()), (10, 70));
        drop((first, second));
        assert_eq!(used.get(), 0);
    }
}
