//! Frames that wait to be sent, as batches.

use std::collections::VecDeque;
use std::time::Instant;

use crate::frames::{self, Frame};

/// A batch that is as long goes out without waiting for more.
const BATCH: usize = 32 << 10;

/// Each part becomes a batch.
pub(super) type Queue = VecDeque<Waiting>;

/// Frames one after the other.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u16,
    /// When the first of them came.
    since: Instant,
}

impl Waiting {
    /// Since when, by the engine's clock, which says `time` now.
    pub(super) fn since(&self, now: Instant, time: i64) -> Option<i64> {
        let waited = now.saturating_duration_since(self.since).as_micros();
        time.checked_sub(i64::try_from(waited).ok()?)
    }
}

/// Puts a frame behind the others. Whether a batch is full.
pub(super) fn push(queue: &mut Queue, frame: &Frame<'_>, now: Instant) -> bool {
    let is_full = |last: &Waiting| last.bytes.len() >= BATCH || last.count == frames::MOST_FRAMES;
    if queue.back().is_none_or(is_full) {
        queue.push_back(Waiting {
            bytes: Vec::new(),
            count: 0,
            since: now,
        });
    }
    let Some(last) = queue.back_mut() else {
        return false;
    };
    frames::push_frame(&mut last.bytes, frame);
    last.count += 1;
    last.bytes.len() >= BATCH
}
