//! The audio of a track that its provider has not made a transcript of yet.
//!
//! All positions are bytes since the track's first sample. Audio is *held* until a final covers it, so that a new stream can
//! hear the whole sentence again. When there is too much of it the oldest goes first. If that was sent already, the provider
//! may still make a transcript of it, so it is lost only if the stream is; if not, it is a gap at once.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tokio::time::Instant;

use super::GapReason;
use crate::provider::pcm;

/// How far back audio that is no longer held may still belong to an unfinished utterance, in bytes: 60 s, the longest
/// that Gladia lets one last.
const LONGEST_UTTERANCE: u64 = 60 * pcm::BYTES_PER_SECOND;
/// How many ranges of audio that is no longer held may wait for a final. Holes of two seconds at least lie between them.
const MAX_RISKS: usize = 64;
/// How many different gaps may wait to be reported. More become one.
const MAX_GAPS: usize = 16;

/// The audio that all tracks hold together.
pub(super) struct Memory {
    used: AtomicU64,
    most: u64,
}

impl Memory {
    pub(super) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            most,
        })
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
}

struct Chunk {
    at: u64,
    pcm: Bytes,
    received: Instant,
    is_voiced: bool,
    /// The speaker paused before it.
    follows_pause: bool,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.at + self.pcm.len() as u64
    }
}

/// Audio that was not transcribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) range: Range<u64>,
    pub(super) reason: GapReason,
}

/// See [`buffer`](self).
pub(super) struct Buffer {
    chunks: VecDeque<Chunk>,
    /// Which of them is to be sent next.
    next: usize,
    /// The bytes in `chunks`.
    held: u64,
    limit: u64,
    memory: Arc<Memory>,
    /// All that was pushed lies below.
    end: u64,
    /// All below has a final, or is a gap.
    settled: u64,
    /// Audio above `settled` that was sent, may be speech and is no longer held.
    at_risk: VecDeque<Range<u64>>,
    /// The end of the last gap.
    last_gap: u64,
    gaps: VecDeque<Gap>,
    /// Whether the provider has begun to say something: all audio may then belong to it.
    pub(super) is_utterance_open: bool,
    /// The provider has long made no word of what is voiced: that becomes a gap, unless a final comes.
    pub(super) is_wordless: bool,
    /// Why audio is lost at the moment.
    pub(super) reason: GapReason,
    /// The speaker has paused before the audio that comes next.
    pub(super) is_after_pause: bool,
    /// How much more goes when something has to go. With a stream it is two seconds, so that a slow provider makes few gaps.
    pub(super) slack: u64,
}

impl Buffer {
    pub(super) fn new(limit: u64, memory: Arc<Memory>) -> Self {
        Self {
            chunks: VecDeque::new(),
            next: 0,
            held: 0,
            limit,
            memory,
            end: 0,
            settled: 0,
            at_risk: VecDeque::new(),
            last_gap: 0,
            gaps: VecDeque::new(),
            is_utterance_open: false,
            is_wordless: false,
            reason: GapReason::ProviderLost,
            is_after_pause: false,
            slack: 0,
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Takes audio. `true` if it is voiced.
    pub(super) fn push(&mut self, pcm: Bytes, now: Instant) -> bool {
        let is_voiced = pcm::is_voiced(&pcm);
        let (at, length) = (self.end, pcm.len() as u64);
        self.end += length;
        self.held += length;
        self.memory.used.fetch_add(length, Relaxed);
        self.chunks.push_back(Chunk {
            at,
            pcm,
            received: now,
            is_voiced,
            follows_pause: std::mem::take(&mut self.is_after_pause),
        });
        if self.held > self.limit {
            self.evict(self.limit, self.reason);
        }
        let over = self.memory.used().saturating_sub(self.memory.most);
        if over > 0 {
            self.evict(self.held.saturating_sub(over), GapReason::Memory);
        }
        is_voiced
    }

    /// Lets the oldest audio go until at most `most` bytes are held.
    fn evict(&mut self, most: u64, reason: GapReason) {
        while self.held > most && self.next > 0 {
            let Some(chunk) = self.pop_front() else {
                return;
            };
            let is_at_risk = chunk.is_voiced || self.is_utterance_open;
            if is_at_risk && chunk.end() > self.settled {
                self.add_risk(chunk.at.max(self.settled)..chunk.end());
            }
        }
        if self.held <= most {
            return;
        }
        let most = most.saturating_sub(self.slack);
        while self.held > most {
            let Some(chunk) = self.pop_front() else {
                return;
            };
            self.add_gap(chunk.at..chunk.end(), reason);
        }
    }

    fn add_risk(&mut self, range: Range<u64>) {
        if !self.is_wordless {
            self.forget_risks(range.end.saturating_sub(LONGEST_UTTERANCE));
        }
        match self.at_risk.back_mut() {
            // What lies between the two was silence, unless it was a gap.
            Some(last) if last.end >= self.last_gap => last.end = range.end,
            _ => self.at_risk.push_back(range),
        }
        if self.at_risk.len() > MAX_RISKS
            && let Some(risk) = self.at_risk.pop_front()
        {
            self.add_gap(risk, GapReason::ProviderLost);
        }
    }

    /// No final comes any more for what lies below.
    fn forget_risks(&mut self, oldest: u64) {
        while self.at_risk.front().is_some_and(|risk| risk.end <= oldest) {
            self.at_risk.pop_front();
        }
        if let Some(first) = self.at_risk.front_mut() {
            first.start = first.start.max(oldest);
        }
    }

    fn pop_front(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        let length = chunk.pcm.len() as u64;
        self.held -= length;
        self.memory.used.fetch_sub(length, Relaxed);
        self.next = self.next.saturating_sub(1);
        Some(chunk)
    }

    /// The position and length of what is to be sent next.
    pub(super) fn peek(&self) -> Option<(u64, u64)> {
        self.chunks
            .get(self.next)
            .map(|chunk| (chunk.at, chunk.pcm.len() as u64))
    }

    /// What is to be sent next, and whether the speaker paused before it; it counts as sent.
    pub(super) fn take(&mut self) -> Option<(Bytes, bool)> {
        let chunk = self.chunks.get(self.next)?;
        self.next += 1;
        Some((chunk.pcm.clone(), chunk.follows_pause))
    }

    /// Whether all is sent.
    pub(super) fn is_sent(&self) -> bool {
        self.next == self.chunks.len()
    }

    /// When the audio that ends at `position` was received, if it is still held.
    pub(super) fn received(&self, position: u64) -> Option<Instant> {
        let index = self.chunks.partition_point(|chunk| chunk.end() < position);
        self.chunks
            .get(index)
            .filter(|chunk| chunk.at < position)
            .map(|chunk| chunk.received)
    }

    /// A final covers all below `position`.
    pub(super) fn settle(&mut self, position: u64) {
        self.settled = self.settled.max(position.min(self.end));
        while self
            .at_risk
            .front()
            .is_some_and(|risk| risk.end <= self.settled)
        {
            self.at_risk.pop_front();
        }
        if let Some(first) = self.at_risk.front_mut() {
            first.start = first.start.max(self.settled);
        }
        while self.next > 0
            && self
                .chunks
                .front()
                .is_some_and(|chunk| chunk.end() <= self.settled)
        {
            self.pop_front();
        }
    }

    /// The stream is lost: what comes above `from` is to be sent again. What is no longer held becomes a gap.
    pub(super) fn rewind(&mut self, from: u64) {
        let from = from.max(self.settled);
        self.lose_risks(from, GapReason::ProviderLost);
        self.next = self.chunks.partition_point(|chunk| chunk.end() <= from);
        self.cut_next(from);
    }

    fn lose_risks(&mut self, from: u64, reason: GapReason) {
        for risk in std::mem::take(&mut self.at_risk) {
            if risk.start < from {
                self.at_risk.push_back(risk.start..risk.end.min(from));
            }
            if risk.end > from {
                self.add_gap(risk.start.max(from)..risk.end, reason);
            }
        }
    }

    /// Cuts the chunk in which `from` lies, so that no sample is sent twice.
    fn cut_next(&mut self, from: u64) {
        let Some(chunk) = self.chunks.get_mut(self.next) else {
            return;
        };
        let from = from & !1;
        if from <= chunk.at {
            return;
        }
        let cut = usize::try_from(from - chunk.at)
            .unwrap_or(usize::MAX)
            .min(chunk.pcm.len());
        let rest = chunk.pcm.split_off(cut);
        let whole = Chunk {
            at: from,
            pcm: rest,
            received: chunk.received,
            is_voiced: chunk.is_voiced,
            follows_pause: false,
        };
        self.next += 1;
        self.chunks.insert(self.next, whole);
    }

    /// Whether anything above `settled` may be speech.
    pub(super) fn is_voiced(&self) -> bool {
        let is_voiced = |chunk: &Chunk| chunk.is_voiced && chunk.end() > self.settled;
        !self.at_risk.is_empty() || self.chunks.iter().any(is_voiced)
    }

    /// The provider says no more: what was sent and is voiced above `from` becomes a gap.
    pub(super) fn give_up_sent(&mut self, from: u64, reason: GapReason) {
        self.settle(from);
        self.miss(self.end, reason);
        self.settle_sent();
    }

    /// Of what was sent below `to` nothing will be said: what is voiced of it becomes a gap.
    pub(super) fn miss(&mut self, to: u64, reason: GapReason) {
        let from = self.settled;
        for risk in std::mem::take(&mut self.at_risk) {
            if risk.start < to {
                self.add_gap(risk.start..risk.end.min(to), reason);
            }
            if risk.end > to {
                self.at_risk.push_back(risk.start.max(to)..risk.end);
            }
        }
        let is_missed = |chunk: &&Chunk| chunk.is_voiced && chunk.end() > from && chunk.at < to;
        let mut missed = self.chunks.range(..self.next).filter(is_missed);
        if let Some(first) = missed.next() {
            let last = missed.next_back().unwrap_or(first);
            self.add_gap(first.at.max(from)..last.end().min(to), reason);
        }
    }

    /// The provider has closed in order: it has said all that there was.
    pub(super) fn settle_sent(&mut self) {
        let sent = self.peek().map_or(self.end, |(at, _)| at);
        self.settle(sent);
    }

    /// What was not sent becomes a gap.
    pub(super) fn drop_unsent(&mut self, reason: GapReason) {
        let Some((at, _)) = self.peek() else { return };
        self.add_gap(at..self.end, reason);
        while self.chunks.len() > self.next {
            if let Some(chunk) = self.chunks.pop_back() {
                let length = chunk.pcm.len() as u64;
                self.held -= length;
                self.memory.used.fetch_sub(length, Relaxed);
            }
        }
    }

    fn add_gap(&mut self, range: Range<u64>, reason: GapReason) {
        self.last_gap = range.end;
        let is_full = self.gaps.len() >= MAX_GAPS;
        match self.gaps.back_mut() {
            Some(last) if last.range.end == range.start && last.reason == reason || is_full => {
                last.range.end = range.end;
            }
            _ => self.gaps.push_back(Gap { range, reason }),
        }
    }

    /// The gaps that have not been reported.
    pub(super) fn take_gaps(&mut self) -> VecDeque<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// The bytes in gaps that have not been reported.
    pub(super) fn gap_bytes(&self) -> u64 {
        self.gaps
            .iter()
            .map(|gap| gap.range.end - gap.range.start)
            .sum()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.held, Relaxed);
    }
}

#[cfg(test)]
mod tests;
