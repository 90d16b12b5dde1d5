//! The receiving end of a link: order, and what is missing. No I/O.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What stands behind a gap waits for so long, at most.
const GAP: Duration = Duration::from_secs(1);

/// A missing batch is asked for this often.
const ASK: Duration = Duration::from_millis(250);

/// What may wait behind a gap, in bytes.
const HELD: usize = 1 << 20;

/// How long a link that has rooms may be silent before its node is suspected.
const SUSPICIOUS: Duration = Duration::from_millis(600);

/// What became of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// All of it came.
    Repaired,
    /// It was given up.
    Lost,
}

/// What came in of the other direction.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The batch that comes next.
    next: u64,
    /// Batches beyond it, with when they came.
    held: BTreeMap<u64, (Instant, Vec<u8>)>,
    held_bytes: usize,
    /// The last batch that a keep-alive has named, with when, if it has not come.
    named: Option<(u64, Instant)>,
    asked: Option<Instant>,
    /// Something is missing, or was until now.
    gap: bool,
    heard: Option<Instant>,
    batch: Option<Instant>,
    /// Since when it is expected to say something.
    watched: Option<Instant>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            next: 1,
            held: BTreeMap::new(),
            held_bytes: 0,
            named: None,
            asked: None,
            gap: false,
            heard: None,
            batch: None,
            watched: None,
        }
    }
}

impl Incoming {
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    pub(super) fn watch(&mut self, on: bool, now: Instant) {
        self.watched = on.then(|| self.watched.unwrap_or(now));
    }

    /// It should have said something.
    pub(super) fn silent(&self, now: Instant) -> bool {
        let since = self.watched.max(self.watched.and(self.heard));
        since.is_some_and(|since| now.saturating_duration_since(since) >= SUSPICIOUS)
    }

    pub(super) fn used_since(&self, now: Instant, time: Duration) -> bool {
        self.batch
            .is_some_and(|batch| now.saturating_duration_since(batch) < time)
    }

    /// Before this one none is missing.
    pub(super) fn seen(&self) -> u64 {
        self.next - 1
    }

    /// A batch came. False: it was there already.
    pub(super) fn batch(&mut self, now: Instant, seq: u64, bytes: Vec<u8>) -> bool {
        self.batch = Some(now);
        if seq < self.next || self.held.contains_key(&seq) {
            return false;
        }
        self.held_bytes += bytes.len();
        self.held.insert(seq, (now, bytes));
        true
    }

    /// A keep-alive says that this one was sent.
    pub(super) fn named(&mut self, now: Instant, seq: u64) {
        if seq >= self.next
            && self
                .held
                .last_key_value()
                .is_none_or(|(last, _)| *last < seq)
        {
            let since = self.named.map_or(now, |(_, since)| since);
            self.named = Some((seq, since));
        }
    }

    /// The next batch whose turn it is, and what became of the gap before it.
    pub(super) fn deliver(&mut self, now: Instant) -> (Option<Vec<u8>>, Option<Gap>) {
        if let Some((_, bytes)) = self.held.remove(&self.next) {
            self.held_bytes -= bytes.len();
            self.next += 1;
            return (Some(bytes), self.close());
        }
        self.gap |= self.missing().is_some();
        if self.gap && (self.held_bytes > HELD || self.late(now)) {
            self.next = match (self.held.first_key_value(), self.named) {
                (Some((first, _)), _) => *first,
                (None, Some((last, _))) => last + 1,
                (None, None) => self.next,
            };
            self.forget();
            return (None, Some(Gap::Lost));
        }
        (None, None)
    }

    /// After a step forward: what was missing has come, unless more is.
    fn close(&mut self) -> Option<Gap> {
        if self.named.is_some_and(|(last, _)| last < self.next) {
            self.named = None;
        }
        let closed = self.gap && self.missing().is_none();
        if closed {
            self.forget();
        }
        closed.then_some(Gap::Repaired)
    }

    fn forget(&mut self) {
        (self.gap, self.asked) = (false, None);
        if self.named.is_some_and(|(last, _)| last < self.next) {
            self.named = None;
        }
    }

    fn late(&self, now: Instant) -> bool {
        let held = self.held.values().map(|(came, _)| *came).min();
        let since = [held, self.named.map(|(_, since)| since)]
            .into_iter()
            .flatten()
            .min();
        since.is_some_and(|since| now.saturating_duration_since(since) >= GAP)
    }

    /// The first and the last batch that are missing next.
    fn missing(&self) -> Option<(u64, u64)> {
        match (self.held.first_key_value(), self.named) {
            (Some((first, _)), _) if *first > self.next => Some((self.next, first - 1)),
            (None, Some((last, _))) if last >= self.next => Some((self.next, last)),
            _ => None,
        }
    }

    /// What to ask for, now.
    pub(super) fn ask(&mut self, now: Instant) -> Option<(u64, u64)> {
        let missing = self.missing()?;
        if self
            .asked
            .is_some_and(|asked| now.saturating_duration_since(asked) < ASK)
        {
            return None;
        }
        self.asked = Some(now);
        Some(missing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn all(incoming: &mut Incoming, now: Instant) -> (Vec<u8>, Vec<Gap>) {
        let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
        loop {
            match incoming.deliver(now) {
                (None, None) => return (bytes, gaps),
                (batch, gap) => {
                    bytes.extend(batch.into_iter().flatten());
                    gaps.extend(gap);
                }
            }
        }
    }

    #[test]
    fn a_gap_is_asked_for_and_repaired() {
        let mut incoming = Incoming::default();
        let now = Instant::now();
        for seq in [1, 4, 5] {
            assert!(incoming.batch(now, seq, vec![u8::try_from(seq).expect("small")]));
        }
        assert_eq!(all(&mut incoming, now), (vec![1], vec![]));
        assert_eq!(incoming.ask(now), Some((2, 3)));
        assert_eq!(incoming.ask(now + ms(249)), None, "not too often");
        assert_eq!(incoming.ask(now + ms(250)), Some((2, 3)));
        incoming.batch(now, 3, vec![3]);
        incoming.batch(now, 2, vec![2]);
        assert_eq!(
            all(&mut incoming, now),
            (vec![2, 3, 4, 5], vec![Gap::Repaired])
        );
        assert!(!incoming.batch(now, 3, vec![3]), "twice");
        assert_eq!((incoming.seen(), incoming.ask(now + ms(900))), (5, None));
    }

    #[test]
    fn a_gap_is_given_up_after_a_second() {
        let mut incoming = Incoming::default();
        let now = Instant::now();
        incoming.batch(now, 3, vec![3]);
        assert_eq!(all(&mut incoming, now + ms(999)), (vec![], vec![]));
        assert_eq!(
            all(&mut incoming, now + ms(1_000)),
            (vec![3], vec![Gap::Lost])
        );
        assert_eq!(incoming.ask(now + ms(2_000)), None);
    }

    #[test]
    fn the_last_batch_is_missed_because_it_is_named() {
        let mut incoming = Incoming::default();
        let now = Instant::now();
        incoming.named(now, 0);
        assert_eq!(incoming.ask(now), None);
        incoming.named(now, 2);
        incoming.named(now + ms(250), 2);
        assert_eq!(incoming.ask(now), Some((1, 2)));
        assert_eq!(all(&mut incoming, now + ms(999)), (vec![], vec![]));
        assert_eq!(
            all(&mut incoming, now + ms(1_000)),
            (vec![], vec![Gap::Lost])
        );
        assert_eq!(incoming.seen(), 2);
    }

    #[test]
    fn what_waits_behind_a_gap_is_bounded() {
        let mut incoming = Incoming::default();
        let now = Instant::now();
        for seq in 2..40 {
            incoming.batch(now, seq, vec![0; 32 << 10]);
            all(&mut incoming, now);
            assert!(incoming.held_bytes <= HELD);
        }
        assert_eq!(incoming.seen(), 39);
    }

    #[test]
    fn who_should_say_something_is_suspected() {
        let mut incoming = Incoming::default();
        let now = Instant::now();
        incoming.hear(now);
        assert!(
            !incoming.silent(now + ms(5_000)),
            "without rooms it may be silent"
        );
        incoming.watch(true, now + ms(5_000));
        assert!(!incoming.silent(now + ms(5_599)));
        assert!(incoming.silent(now + ms(5_600)));
        incoming.hear(now + ms(5_600));
        assert!(!incoming.silent(now + ms(6_100)));
        incoming.watch(false, now);
        assert!(!incoming.silent(now + ms(9_000)));
    }

    proptest! {
        /// However batches are lost, doubled and mixed: in order, none twice, and each that is missing belongs to a gap that was told.
        #[test]
        fn in_order_and_honest(sent in vec((1..30_u64, any::<bool>(), 0..400_u64), 0..200)) {
            let mut incoming = Incoming::default();
            let mut now = Instant::now();
            let (mut last, mut told, mut gaps) = (0, 0, 0);
            let mut step = |incoming: &mut Incoming, now| {
                let (bytes, lost) = all(incoming, now);
                for seq in bytes.into_iter().map(u64::from) {
                    assert!(seq > last, "{seq} after {last}");
                    gaps += u64::from(seq != last + 1);
                    last = seq;
                }
                told += lost.iter().filter(|gap| **gap == Gap::Lost).count() as u64;
                assert!(gaps <= told, "{gaps} gaps, {told} told");
            };
            for (seq, named, later) in sent {
                now += ms(later);
                if named {
                    incoming.named(now, seq);
                } else {
                    incoming.batch(now, seq, vec![u8::try_from(seq).expect("small")]);
                }
                step(&mut incoming, now);
            }
            step(&mut incoming, now + ms(1_000));
            prop_assert!(incoming.held.is_empty() && incoming.missing().is_none());
        }
    }
}
