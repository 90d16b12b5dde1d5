//! The finals and gaps of one session: numbered without holes, the newest kept in memory, and how far they are stored.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::record::Segment;

/// Segments kept in memory while the database takes what it is given, and while it does not: what is only in the
/// spill cannot be read from the database.
const KEPT: usize = 200;
const KEPT_IN_NEED: usize = 1_000;

/// Ranges of lost segments that are remembered.
const MAX_LOST: usize = 64;

/// A segment, and what is known of it only while it is new.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) segment: Segment,
    /// The utterance of its partials.
    pub(crate) utterance: Option<String>,
}

/// Where segments after a number are.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here, at most as many as were asked for; none: there are no later ones.
    Here(Vec<Arc<Entry>>),
    /// In the database: those up to this number are not here any more.
    Stored(i64),
}

/// The log of a session.
#[derive(Debug, Default)]
pub(crate) struct Log {
    recent: VecDeque<Arc<Entry>>,
    last: i64,
    stored_through: i64,
    /// Settled ones behind the first that is not, and whether each is stored.
    settled: BTreeMap<i64, bool>,
    /// Ranges that were lost, in order.
    lost: Vec<(i64, i64)>,
}

impl Log {
    /// A log that goes on after `last`, all of which is stored.
    pub(crate) fn after(last: i64) -> Self {
        Self {
            last,
            stored_through: last,
            ..Self::default()
        }
    }

    /// The number of the last segment; 0: none.
    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// All up to this number is stored, or was reported as lost.
    pub(crate) fn stored_through(&self) -> i64 {
        self.stored_through
    }

    /// The ranges after this number that were lost, up to [`stored_through`](Self::stored_through).
    pub(crate) fn lost_after(&self, seq: i64) -> impl Iterator<Item = (i64, i64)> {
        let ranges = self.lost.iter().filter(move |(_, to)| *to > seq);
        ranges.map(move |(from, to)| ((*from).max(seq + 1), *to))
    }

    /// The ranges of these numbers that were not lost, as far as that is known.
    pub(crate) fn not_lost(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let (mut ranges, mut next) = (Vec::new(), from);
        for (lost_from, lost_to) in &self.lost {
            ranges.push((next, to.min(lost_from - 1)));
            next = next.max(lost_to + 1);
        }
        ranges.push((next, to));
        ranges.retain(|(from, to)| from <= to);
        ranges
    }

    /// Appends a segment, which gets the next number. `in_need`: the database does not take what it is given.
    pub(crate) fn push(&mut self, mut entry: Entry, in_need: bool) -> Arc<Entry> {
        self.last += 1;
        entry.segment.seq = self.last;
        let entry = Arc::new(entry);
        self.recent.push_back(entry.clone());
        let kept = if in_need { KEPT_IN_NEED } else { KEPT };
        while self.recent.len() > KEPT_IN_NEED
            || self.recent.len() > kept
                && self
                    .recent
                    .front()
                    .is_some_and(|first| first.segment.seq <= self.stored_through)
        {
            self.recent.pop_front();
        }
        entry
    }

    /// It is known what became of a segment.
    pub(crate) fn settle(&mut self, seq: i64, stored: bool) {
        self.settled.insert(seq, stored);
        while let Some(stored) = self.settled.remove(&(self.stored_through + 1)) {
            self.stored_through += 1;
            if !stored {
                self.lose(self.stored_through);
            }
        }
    }

    fn lose(&mut self, seq: i64) {
        let is_bounded = self.lost.len() < MAX_LOST;
        match self.lost.last_mut() {
            Some((_, to)) if *to + 1 == seq => *to = seq,
            // The last range names more than was lost rather than less.
            Some((_, to)) if !is_bounded => *to = seq,
            _ => self.lost.push((seq, seq)),
        }
    }

    /// The segments after this number, at most `limit`.
    pub(crate) fn read(&self, after: i64, limit: usize) -> Found {
        let first = self
            .recent
            .front()
            .map_or(self.last + 1, |first| first.segment.seq);
        if after + 1 < first {
            return Found::Stored(first - 1);
        }
        let skip = usize::try_from(after + 1 - first).unwrap_or(usize::MAX);
        Found::Here(self.recent.iter().skip(skip).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RowId, SegmentKind};

    fn segment() -> Entry {
        let segment = Segment {
            session_id: RowId(1),
            seq: 0,
            track_id: RowId(2),
            kind: SegmentKind::Final,
            source: "live".into(),
            start_ms: 0,
            end_ms: 1,
            language: None,
            confidence: None,
            text: "hello".into(),
            words: None,
            created_ms: 0,
        };
        Entry {
            segment,
            utterance: None,
        }
    }

    fn numbers(log: &Log, after: i64, limit: usize) -> Vec<i64> {
        match log.read(after, limit) {
            Found::Here(found) => found.iter().map(|entry| entry.segment.seq).collect(),
            Found::Stored(through) => vec![-through],
        }
    }

    #[test]
    fn numbers_go_on_and_what_is_not_here_is_in_the_database() {
        let mut log = Log::after(57);
        assert_eq!(numbers(&log, 57, 9), [0_i64; 0]);
        assert_eq!(numbers(&log, 3, 9), [-57]);
        for seq in 58..=300 {
            assert_eq!(log.push(segment(), false).segment.seq, seq);
            log.settle(seq, true);
        }
        assert_eq!(numbers(&log, 298, 9), [299, 300]);
        assert_eq!(numbers(&log, 100, 2), [101, 102]);
        assert_eq!(numbers(&log, 57, 9), [-(300 - 200)]);
    }

    #[test]
    fn nothing_leaves_the_memory_before_it_is_stored() {
        let mut log = Log::default();
        (0..900).for_each(|_| drop(log.push(segment(), false)));
        assert_eq!(numbers(&log, 0, 1), [1]);
        log.settle(1, true);
        log.push(segment(), false);
        assert_eq!(numbers(&log, 0, 1), [-1]);
    }

    #[test]
    fn stored_is_what_is_stored_without_holes() {
        let mut log = Log::default();
        (0..6).for_each(|_| drop(log.push(segment(), false)));
        log.settle(2, true);
        assert_eq!(log.stored_through(), 0);
        log.settle(1, true);
        assert_eq!(log.stored_through(), 2);
        log.settle(3, false);
        log.settle(4, false);
        log.settle(6, false);
        assert_eq!(log.stored_through(), 4);
        let lost = |log: &Log, after| log.lost_after(after).collect::<Vec<_>>();
        assert_eq!(lost(&log, 0), [(3, 4)]);
        log.settle(5, true);
        assert_eq!(lost(&log, 0), [(3, 4), (6, 6)]);
        assert_eq!(log.not_lost(1, 9), [(1, 2), (5, 5), (7, 9)]);
        assert_eq!(log.not_lost(2, 4), [(2, 2)]);
        assert_eq!(log.not_lost(5, 5), [(5, 5)]);
        assert_eq!(log.not_lost(3, 4), []);
        assert_eq!(log.not_lost(7, 6), []);
        // Who knows of a part of a range is told the rest.
        assert_eq!(lost(&log, 3), [(4, 4), (6, 6)]);
        assert_eq!(lost(&log, 6), []);
    }
}
