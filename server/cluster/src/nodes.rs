//! Which nodes live: rules without I/O. `members.rs` makes the calls.
//!
//! - A node is dead when its beat has stood still for 3 s of a witness's monotonic clock and the engine agrees that it
//!   has not moved since: nobody's wall clock matters. Time in which the witness had no answers itself is left out, and the rest is added up:
//!   an engine that fails every few seconds would otherwise put off every verdict. Of the time until an answer that was slow one second
//!   counts: so the deaths that a slow engine sees are told late, and are told.
//! - Rather late than early: the time runs from the answer in which a beat was first seen, and the engine saw it before that; and the engine
//!   looks once more when it is asked for the verdict, after the last answer. So the beat has stood for at least as long at the engine,
//!   however long each answer took, and whenever on its way the engine looked.
//! - An entry that goes has not moved, one that comes has. So lost data need no time without verdicts: who lives is
//!   there again with the next beat, and who is not stands still.
//! - Who was met elsewhere, in the index or in a room, is watched from then on, even if it never had an entry: a life that
//!   ended just before the data were lost would never be missed otherwise.

mod info;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

pub use info::Info;

use crate::id::NodeId;
use crate::scripts::{BEAT_WITHIN, BeatReply};

/// Between two beats.
pub const BEAT: Duration = Duration::from_millis(500);

/// Without a good beat for this long nothing of what others say is handled.
pub const LEASE: Duration = Duration::from_millis(2_500);

/// A beat that stands still for this long is that of a dead node.
const STILL: Duration = Duration::from_secs(3);

/// A witness that does not ask for longer has seen nothing; nor has more been seen than this from one answer to the next.
const WITNESS_GAP: Duration = Duration::from_secs(1);

/// The engine's clock was set when two beats show it so much further or less far than the time between them. Each answer may be
/// [`BEAT_WITHIN`] late.
const CLOCK_SET: Duration = Duration::from_secs(3);

/// Marks of the dead stay in the engine for so long, in microseconds of its clock.
const MARK: i64 = 600_000_000;

/// Dead lives that are remembered here, after their marks have gone; the oldest is forgotten first.
const REMEMBERED: usize = 1_024;

/// Others that are looked at. A program that floods the hash is not followed further.
const OTHERS: usize = 1_024;

/// Nobody is met beyond so many: those that have entries need places, too.
const MET: usize = OTHERS / 2;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node that was not known.
    Joined(NodeId),
    /// A node says something else of itself, such as that it drains.
    Told(NodeId),
    /// A node is dead. Nothing of it counts any more.
    Died(NodeId),
    /// This node was buried: it is this life now, with nothing of the old one.
    NewLife(NodeId),
    /// The engine's data were lost: what was written there is to be written again.
    Generation,
    /// The engine's clock was set, or another engine answers: what was written there with a time is to be written again.
    Clock,
}

/// A node to be declared dead, if the engine's data are still these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who.
    pub node: NodeId,
    /// Its beat as last seen; empty: it had no entry.
    pub value: Vec<u8>,
    /// The generation in which it was seen.
    pub generation: Vec<u8>,
    /// What is written instead.
    pub mark: String,
}

/// What the answer to a beat asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What has changed, in order.
    pub changes: Vec<Change>,
    /// Who is to be buried.
    pub bury: Vec<Verdict>,
    /// Whose marks are to be removed.
    pub forget: Vec<NodeId>,
}

#[derive(Debug, Default)]
struct Other {
    /// Its beat as last seen; empty: it has no entry.
    value: Vec<u8>,
    /// For how long it has been seen to stand still.
    stood: Duration,
    /// It has had an entry.
    listed: bool,
    info: Option<Info>,
}

impl Other {
    fn is_of_another_bus(&self) -> bool {
        (self.info.as_ref()).is_some_and(|info| !info.is_of_this_bus())
    }
}

/// A node's view of all nodes.
#[derive(Debug)]
pub struct Nodes {
    me: NodeId,
    number: u64,
    others: BTreeMap<NodeId, Other>,
    dead: VecDeque<NodeId>,
    generation: Option<Vec<u8>>,
    /// When the last good beat of this life was sent.
    good: Option<Instant>,
    /// The same, of any life.
    beaten: Option<Instant>,
    /// When the others were last looked at.
    looked: Option<Instant>,
    /// The engine's clock in microseconds, and when that was, at the earliest: as if it had been looked at when the beat was sent.
    clock: Option<(i64, Instant)>,
}

impl Nodes {
    /// The first life of a process.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            number: 0,
            others: BTreeMap::new(),
            dead: VecDeque::new(),
            generation: None,
            good: None,
            beaten: None,
            looked: None,
            clock: None,
        }
    }

    /// The life that this node lives now.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The number of the next beat.
    pub fn next_beat(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The number of the last beat that was sent.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.number
    }

    /// Whether a beat that was sent since then was good.
    #[must_use]
    pub fn beaten_since(&self, time: Instant) -> bool {
        self.beaten.is_some_and(|sent| sent >= time)
    }

    /// What others say may be handled: this node was alive for the engine not long ago.
    #[must_use]
    pub fn lease(&self, now: Instant) -> bool {
        self.good
            .is_some_and(|good| now.saturating_duration_since(good) < LEASE)
    }

    /// Microseconds of the engine's clock, if it has been asked. Rather late than early: who stood still after the engine had answered would
    /// take for fresh what is old. What is late in the engine, or on the way there, is so for other nodes, too.
    #[must_use]
    pub fn engine_time(&self, now: Instant) -> Option<i64> {
        let (time, at) = self.clock?;
        let since = i64::try_from(now.saturating_duration_since(at).as_micros()).ok()?;
        time.checked_add(since)
    }

    /// The others that live, with what they say of themselves: `None` is no node of this program.
    pub fn others(&self) -> impl Iterator<Item = (NodeId, Option<&Info>)> {
        let listed = self.others.iter().filter(|(_, other)| other.listed);
        listed.map(|(node, other)| (*node, other.info.as_ref()))
    }

    /// Whether a node is watched: it has an entry, or was met.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.others.contains_key(&node)
    }

    /// Watches a node from now on, even if the engine has not named it yet.
    pub fn meet(&mut self, node: NodeId) {
        if node != self.me && self.others.len() < MET && !self.dead.contains(&node) {
            self.others.entry(node).or_default();
        }
    }

    /// Lives that have ended, the newest last.
    #[must_use]
    pub fn dead(&self) -> &VecDeque<NodeId> {
        &self.dead
    }

    /// Whether this node is the one that does what one has to do for all.
    #[must_use]
    pub fn smallest(&self) -> bool {
        let mut smaller = self.others.range(..self.me);
        smaller.all(|(_, other)| other.value.is_empty() || other.is_of_another_bus())
    }

    /// A beat was sent, and this is the answer. `now` is when it came, `sent` when the beat was sent: the engine looked
    /// at its clock between the two.
    pub fn answered(&mut self, sent: Instant, now: Instant, reply: BeatReply) -> Outcome {
        let mut out = Outcome::default();
        match reply {
            BeatReply::Fenced => self.begin_life(&mut out),
            BeatReply::Ok {
                time,
                generation,
                nodes,
            } => {
                // What was overtaken by an answer over another connection is old.
                if self.good.is_some_and(|good| sent < good) {
                    return out;
                }
                if let Some(looked) = self.looked.replace(now) {
                    let watched = watched(looked, sent, now);
                    let others = self.others.values_mut();
                    others.for_each(|other| other.stood += watched);
                }
                (self.good, self.beaten) = (Some(sent), Some(sent));
                let expected = self.engine_time(sent);
                if expected.is_some_and(|expected| is_another_clock(expected, time)) {
                    out.changes.push(Change::Clock);
                }
                self.clock = Some((time, sent));
                let lost = self.generation.as_ref().is_some_and(|is| *is != generation);
                if lost {
                    out.changes.push(Change::Generation);
                }
                self.generation = Some(generation);
                self.look(time, nodes, &mut out);
                self.judge(time, &mut out);
            }
        }
        out
    }

    /// This life is over.
    fn begin_life(&mut self, out: &mut Outcome) {
        self.remember(self.me);
        self.me = self.me.next_life();
        (self.number, self.good, self.looked) = (0, None, None);
        out.changes.push(Change::NewLife(self.me));
    }

    /// Takes over what the engine says of the others.
    fn look(&mut self, time: i64, nodes: Vec<(NodeId, Vec<u8>)>, out: &mut Outcome) {
        let smallest = self.smallest();
        let listed: HashSet<NodeId> = nodes.iter().map(|(node, _)| *node).collect();
        for (node, value) in nodes {
            if node == self.me {
                continue;
            }
            if value.first() == Some(&b'x') {
                self.died(node, out);
                if smallest
                    && mark_time(&value).is_some_and(|marked| time.saturating_sub(marked) > MARK)
                {
                    out.forget.push(node);
                }
            } else if self.dead.contains(&node) {
                // Lost data took the mark: bury it again, or it would live on for nobody.
                let generation = self.generation.clone().unwrap_or_default();
                out.bury.push(Verdict {
                    node,
                    value,
                    generation,
                    mark: mark(time),
                });
            } else {
                self.saw(node, value, out);
            }
        }
        let absent = self.others.iter_mut();
        let absent = absent.filter(|(node, _)| !listed.contains(node));
        absent.for_each(|(_, other)| other.value.clear());
    }

    fn saw(&mut self, node: NodeId, value: Vec<u8>, out: &mut Outcome) {
        let full = self.others.len() >= OTHERS && !self.others.contains_key(&node);
        let other = match self.others.entry(node) {
            Entry::Vacant(_) if full => return,
            entry => entry.or_default(),
        };
        if other.value == value {
            return;
        }
        let info = Info::of_value(&value);
        if !other.listed {
            out.changes.push(Change::Joined(node));
        } else if other.info != info {
            out.changes.push(Change::Told(node));
        }
        *other = Other {
            value,
            stood: Duration::ZERO,
            listed: true,
            info,
        };
    }

    fn judge(&self, time: i64, out: &mut Outcome) {
        let Some(generation) = &self.generation else {
            return;
        };
        let stopped = self.others.iter().filter(|(_, other)| other.stood >= STILL);
        out.bury.extend(stopped.map(|(node, other)| Verdict {
            node: *node,
            value: other.value.clone(),
            generation: generation.clone(),
            mark: mark(time),
        }));
    }

    /// The engine has written the mark, or another node has seen it.
    pub fn buried(&mut self, node: NodeId) -> Outcome {
        let mut out = Outcome::default();
        if node != self.me {
            self.died(node, &mut out);
        }
        out
    }

    fn died(&mut self, node: NodeId, out: &mut Outcome) {
        let known = self.others.remove(&node).is_some();
        if self.remember(node) || known {
            out.changes.push(Change::Died(node));
        }
    }

    /// Whether it is news.
    fn remember(&mut self, node: NodeId) -> bool {
        if self.dead.contains(&node) {
            return false;
        }
        if self.dead.len() >= REMEMBERED {
            self.dead.pop_front();
        }
        self.dead.push_back(node);
        true
    }

    /// Before the end: this node buries itself, so that the others need not wait.
    #[must_use]
    pub fn last_will(&self, now: Instant, info: &str) -> Option<Verdict> {
        Some(Verdict {
            node: self.me,
            value: format!("a{} {info}", self.number).into_bytes(),
            generation: self.generation.clone()?,
            mark: mark(self.engine_time(now)?),
        })
    }
}

/// How much of the time from one answer to the next a witness has watched.
fn watched(looked: Instant, sent: Instant, now: Instant) -> Duration {
    let asked = sent.saturating_duration_since(looked) <= WITNESS_GAP;
    // Not by one who stood still while the answer lay there.
    let answered = now.saturating_duration_since(sent) <= BEAT_WITHIN;
    match asked && answered {
        true => now.saturating_duration_since(looked).min(WITNESS_GAP),
        false => Duration::ZERO,
    }
}

fn is_another_clock(expected: i64, time: i64) -> bool {
    u128::from(expected.abs_diff(time)) > CLOCK_SET.as_micros()
}

fn mark(time: i64) -> String {
    format!("x{time}")
}

fn mark_time(value: &[u8]) -> Option<i64> {
    str::from_utf8(value.strip_prefix(b"x")?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
