//! What a plain session's socket has not taken yet. Few users have a backlog at any time, so that it is apart from what all have.

use std::{collections::VecDeque, io::IoSlice, ops::Range, time::Instant};

use super::Batch;
use crate::metrics::Metrics;

struct Queued {
    bytes: Box<[u8]>,
    /// When it was read, for messages whose relay is timed.
    read_at: Option<Instant>,
}

/// Messages that wait to be written.
#[derive(Default)]
pub(super) struct Backlog {
    queue: VecDeque<Queued>,
    /// Bytes that are not written.
    bytes: usize,
    /// Bytes of the front message that the socket has taken.
    front_written: usize,
}

impl Backlog {
    /// Adds the rest of `batch` behind its first `written` bytes.
    pub(super) fn push_rest(&mut self, batch: &Batch, written: usize, read_at: Option<Instant>) {
        for Range { start, end } in batch.ranges().filter(|range| range.end > written) {
            if start < written {
                // The socket has begun to take this one, so that it must have all of it.
                self.front_written = written - start;
            }
            self.bytes += end - start.max(written);
            let bytes = batch.bytes[start..end].into();
            self.queue.push_back(Queued { bytes, read_at });
        }
    }

    /// Adds a frame of the transport.
    pub(super) fn push(&mut self, frame: &[u8]) {
        self.bytes += frame.len();
        self.queue.push_back(Queued {
            bytes: frame.into(),
            read_at: None,
        });
    }

    /// What is to be written next; returns how many slices that is.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.front_written;
        let mut count = 0;
        for (slice, queued) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(&queued.bytes[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// The socket has taken that many bytes.
    pub(super) fn took(&mut self, written: usize, metrics: &Metrics) {
        self.bytes -= written;
        let mut written = written + std::mem::take(&mut self.front_written);
        let now = Instant::now();
        while let Some(front) = self.queue.front() {
            if written < front.bytes.len() {
                self.front_written = written;
                return;
            }
            written -= front.bytes.len();
            if let Some(read_at) = front.read_at {
                metrics.relay_latency(now.saturating_duration_since(read_at), 1);
            }
            self.queue.pop_front();
        }
    }

    /// Forgets all but the rest of a message that the socket has begun to take: the receiver could not make sense of anything
    /// after half a frame.
    pub(super) fn discard(&mut self) {
        self.queue.truncate(usize::from(self.front_written > 0));
        let front = self.queue.front();
        self.bytes = front.map_or(0, |front| front.bytes.len() - self.front_written);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many of them are a partner's.
    pub(super) fn relays(&self) -> usize {
        let queued = self.queue.iter();
        queued.filter(|queued| queued.read_at.is_some()).count()
    }

    /// Bytes that are not written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that it uses.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.queue.len() * size_of::<Queued>()
    }
}
