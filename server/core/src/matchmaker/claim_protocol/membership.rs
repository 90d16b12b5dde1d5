//! Who is alive, who is dead, and whether this node may act.
//!
//! - Each node's beat in the engine moves each 500 ms. A node that sees one stand still for 3 s of its own monotonic clock buries
//!   its node: the engine agrees only if the beat is still that very one. No node's wall clock matters. Time in which
//!   the witness itself had no answers is left out, and the rest is added up: an engine that fails every few seconds
//!   would otherwise put off every verdict. Of the time until a slow answer one second counts: a slow engine sees deaths late.
//! - A beat never goes back: one that comes late, from a connection that was given up, is no sign of life.
//! - A node whose entry is not there stands still too. Without that rule the rooms with a life that ended just before the
//!   engine lost its data never end: nobody beats under that name again, so nobody can be seen to stop.
//! - A node acts under a lease of 2.5 s from the *sending* of its last good beat, 0.5 s less than it takes to be buried.
//! - A node in the list of the dead that beats is buried again: the engine has lost the mark.
//! - An entry that goes has not moved, one that comes has. So lost data need no time without verdicts (which would never end if
//!   the data were lost again and again): who lives is there again with the next beat, and who is not stands still.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{NodeId, Now};

const BEAT_EACH: Duration = Duration::from_millis(500);
/// An answer after that is too slow for who waits.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// An answer to a beat after that is none.
const BEAT_WITHIN: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_millis(2500);
const STANDS_STILL: Duration = Duration::from_secs(3);
/// A witness that does not ask for longer has not watched; nor is more than this seen from one answer to the next.
const WITNESS_GAP: Duration = Duration::from_secs(1);
/// Marks and the list of the dead are kept that long.
const REMEMBER_DEAD: Duration = Duration::from_secs(600);

/// What the engine says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Mark {
    Beat(u64),
    Buried,
}

#[derive(Debug, Clone)]
pub(in super::super) enum BeatAnswer {
    /// The node has been buried.
    Fenced,
    Ok {
        /// The engine's, microseconds.
        time: u64,
        /// Another one: the data were lost.
        generation: u64,
        nodes: Vec<(NodeId, Mark)>,
    },
}

pub(super) enum Change {
    NewLife,
    DataLost,
    Died(NodeId),
    Bury {
        node: NodeId,
        value: Option<u64>,
        generation: u64,
    },
}

#[derive(Default)]
struct Seen {
    value: Option<u64>,
    /// For how long it has been seen to stand still.
    stood: Duration,
}

pub(super) struct Membership {
    me: NodeId,
    beats: u64,
    next_beat: Now,
    /// When the last good beat was sent.
    good_beat: Option<Now>,
    last_answer: Option<Now>,
    /// When the beats without an answer were sent, as long as one may come.
    unanswered: VecDeque<Now>,
    generation: Option<u64>,
    seen: BTreeMap<NodeId, Seen>,
    dead: BTreeMap<NodeId, Now>,
    /// Those who do not answer, and since when.
    suspects: BTreeMap<NodeId, Now>,
    /// The engine's time at [`Self::good_beat`].
    engine_time: u64,
}

impl Membership {
    pub(super) fn new(me: NodeId, now: Now) -> Self {
        Self {
            me,
            beats: 0,
            next_beat: now,
            good_beat: None,
            last_answer: None,
            unanswered: VecDeque::new(),
            generation: None,
            seen: BTreeMap::new(),
            dead: BTreeMap::new(),
            suspects: BTreeMap::new(),
            engine_time: 0,
        }
    }

    pub(super) fn me(&self) -> NodeId {
        self.me
    }

    pub(super) fn next_beat(&self) -> Now {
        self.next_beat
    }

    /// The next beat, if it is due.
    pub(super) fn beat(&mut self, now: Now) -> Option<(NodeId, u64)> {
        (now >= self.next_beat).then(|| {
            self.next_beat = now + BEAT_EACH;
            self.beats += 1;
            self.unanswered.retain(|sent| now <= *sent + BEAT_WITHIN);
            self.unanswered.push_back(now);
            (self.me, self.beats)
        })
    }

    pub(super) fn has_lease(&self, now: Now) -> bool {
        self.good_beat.is_some_and(|at| now < at + LEASE)
    }

    /// The number of the last beat that was sent.
    pub(super) fn beats(&self) -> u64 {
        self.beats
    }

    /// Whether a beat that was sent since then was good.
    pub(super) fn has_beaten_since(&self, time: Now) -> bool {
        self.good_beat.is_some_and(|sent| sent >= time)
    }

    /// Whether a beat that should have been answered by now was not.
    pub(super) fn misses_a_beat(&self, now: Now) -> bool {
        let first = self.unanswered.front();
        first.is_some_and(|sent| now > *sent + ANSWER_WITHIN)
    }

    /// The engine's time as far as the last good beat tells, microseconds. Rather late than early.
    pub(super) fn engine_time(&self, now: Now) -> Option<u64> {
        let since = now.saturating_sub(self.good_beat?).as_micros();
        Some(self.engine_time + u64::try_from(since).unwrap_or(u64::MAX / 2))
    }

    pub(super) fn is_dead(&self, node: NodeId) -> bool {
        self.dead.contains_key(&node)
    }

    pub(super) fn dead(&self) -> Vec<NodeId> {
        self.dead.keys().copied().collect()
    }

    /// Whether no living node is known that comes before this one.
    pub(super) fn is_smallest(&self) -> bool {
        let mut others = self.seen.iter();
        others.all(|(node, seen)| seen.value.is_none() || *node > self.me)
    }

    pub(super) fn suspects(&self) -> Vec<NodeId> {
        self.suspects.keys().copied().collect()
    }

    pub(super) fn suspect(&mut self, node: NodeId, now: Now) {
        if !self.is_dead(node) {
            self.suspects.entry(node).or_insert(now);
        }
    }

    /// Watches a node from now on, even if no list of the engine's has named it yet.
    pub(super) fn meet(&mut self, node: NodeId) {
        if !self.is_dead(node) && node != self.me {
            self.seen.entry(node).or_default();
        }
    }

    /// Ends a suspicion; returns when it began.
    pub(super) fn trust(&mut self, node: NodeId) -> Option<Now> {
        self.suspects.remove(&node)
    }

    /// Notes a death; false: it was known.
    pub(super) fn died(&mut self, node: NodeId, now: Now) -> bool {
        self.seen.remove(&node);
        self.suspects.remove(&node);
        self.dead.insert(node, now).is_none()
    }

    /// Whether an answer to a beat is none: it comes too late, or a later beat has been answered.
    pub(super) fn is_overdue(&self, sent: Now, now: Now, slow_beats: bool) -> bool {
        let within = if slow_beats {
            BEAT_WITHIN
        } else {
            ANSWER_WITHIN
        };
        now.saturating_sub(sent) > within || self.good_beat.is_some_and(|good| sent < good)
    }

    /// How much of the time until this answer has been watched.
    fn watched(&self, sent: Now, now: Now) -> Duration {
        match self.last_answer {
            Some(last) if sent.saturating_sub(last) <= WITNESS_GAP => {
                now.saturating_sub(last).min(WITNESS_GAP)
            }
            _ => Duration::ZERO,
        }
    }

    /// `bury_again`, `bury_absent`: whether these rules hold.
    pub(super) fn answered(
        &mut self,
        sent: Now,
        answer: BeatAnswer,
        now: Now,
        bury_again: bool,
        bury_absent: bool,
    ) -> Vec<Change> {
        self.unanswered.retain(|other| *other > sent);
        let BeatAnswer::Ok {
            time,
            generation,
            nodes,
        } = answer
        else {
            self.begin_life(now);
            return vec![Change::NewLife];
        };
        let mut changes = Vec::new();
        self.good_beat = Some(sent);
        self.engine_time = time;
        let watched = self.watched(sent, now);
        self.last_answer = Some(now);
        self.seen
            .values_mut()
            .for_each(|seen| seen.stood += watched);
        let known = self.generation.replace(generation);
        if known.is_some_and(|known| known != generation) {
            changes.push(Change::DataLost);
        }
        self.dead.retain(|_, at| now < *at + REMEMBER_DEAD);
        self.look(&nodes, now, bury_again, &mut changes);
        self.judge(bury_absent, &mut changes);
        changes
    }

    fn begin_life(&mut self, now: Now) {
        self.died(self.me, now);
        self.me.life = self.me.life.wrapping_add(1);
        self.good_beat = None;
        self.next_beat = now;
    }

    fn look(
        &mut self,
        nodes: &[(NodeId, Mark)],
        now: Now,
        bury_again: bool,
        changes: &mut Vec<Change>,
    ) {
        let me = self.me;
        for &(node, mark) in nodes.iter().filter(|(node, _)| *node != me) {
            match mark {
                Mark::Buried if self.died(node, now) => changes.push(Change::Died(node)),
                Mark::Buried => {}
                Mark::Beat(value) if self.is_dead(node) => {
                    if bury_again && let Some(generation) = self.generation {
                        let value = Some(value);
                        changes.push(Change::Bury {
                            node,
                            value,
                            generation,
                        });
                    }
                }
                Mark::Beat(value) => self.saw(node, value),
            }
        }
        let is_absent = |node: &NodeId| !nodes.iter().any(|(listed, _)| listed == node);
        let absent = self.seen.iter_mut().filter(|(node, _)| is_absent(node));
        absent.for_each(|(_, seen)| seen.value = None);
    }

    fn saw(&mut self, node: NodeId, value: u64) {
        let seen = self.seen.entry(node).or_default();
        if seen.value != Some(value) {
            *seen = Seen {
                value: Some(value),
                stood: Duration::ZERO,
            };
        }
    }

    fn judge(&self, bury_absent: bool, changes: &mut Vec<Change>) {
        let Some(generation) = self.generation else {
            return;
        };
        let stopped = self.seen.iter().filter(|(_, seen)| {
            (seen.value.is_some() || bury_absent) && seen.stood >= STANDS_STILL
        });
        changes.extend(stopped.map(|(&node, seen)| Change::Bury {
            node,
            value: seen.value,
            generation,
        }));
    }
}
