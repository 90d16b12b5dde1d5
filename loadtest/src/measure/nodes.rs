//! Several servers that are one service: who is at which, what went wrong there, and which of them was lost.
//!
//! A server is lost when all of its connections are gone, and most of them broke. What its users suffer from that is no fault
//! of the servers that are left. Whether a connection broke alone or with its server is known some seconds later, so what
//! broke is kept until then.

mod loss;
mod record;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use derive_more::AddAssign;
use serde::{Deserialize, Serialize};

use crate::measure::{
    failures::Errors,
    ledger::{LateNews, Stay, shifted},
    reach::NodeId,
    sample::ErrorKind,
    server_use::{Reading, ServerUse},
};
pub use loss::{Loss, Torn};

/// How long after a connection broke it is known whether its server was lost. A silent server is noticed within 10 s, at
/// other moments by each of its users.
pub const DECIDED_AFTER: Duration = Duration::from_secs(10);
/// Breaks that are further apart have different reasons.
const APART: Duration = Duration::from_secs(3);
/// One connection that broke says nothing of a server.
const LEAST_BROKEN: u64 = 2;
/// Events that no loss explains and that another shard may; further ones are not kept.
const MAX_LOOSE: usize = 100_000;

/// Something that went wrong at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub node: NodeId,
    pub at: Duration,
    pub kind: FaultKind,
    pub error: ErrorKind,
}

/// What a fault was for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Something else; the user went on.
    Error,
    /// An answer that follows from the loss of the server, if that was lost.
    AfterLoss,
    NotConnected,
    Dropped,
    /// A session that should have gone on did not.
    NotResumed,
    /// Neither did it at another server.
    NotMoved,
}

impl FaultKind {
    pub fn may_be_of_a_lost_server(self) -> bool {
        matches!(self, Self::AfterLoss | Self::NotResumed | Self::NotMoved)
    }

    /// Not told beside another one.
    pub fn is_error(self) -> bool {
        !matches!(self, Self::NotResumed | Self::NotMoved)
    }
}

/// Connections of one server in a stretch of time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounts {
    pub arrived: u64,
    /// Of those, how many had been at another server before.
    pub changed: u64,
    pub departed: u64,
    /// Of those, how many neither side had closed, and when: the first and the last.
    pub broke: u64,
    pub broke_at: Option<[Duration; 2]>,
}

impl NodeCounts {
    pub fn depart(&mut self, at: Duration, broke: bool) {
        self.departed += 1;
        if broke {
            self.broke += 1;
            self.broke_at = span(self.broke_at, Some([at, at]));
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.arrived += other.arrived;
        self.changed += other.changed;
        self.departed += other.departed;
        self.broke += other.broke;
        self.broke_at = span(self.broke_at, other.broke_at);
    }
}

fn span(a: Option<[Duration; 2]>, b: Option<[Duration; 2]>) -> Option<[Duration; 2]> {
    match (a, b) {
        (Some([a, b]), Some([c, d])) => Some([a.min(c), b.max(d)]),
        (a, b) => a.or(b),
    }
}

/// Faults by what they were.
#[derive(AddAssign, Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCounts {
    pub not_connected: u64,
    pub dropped: u64,
    pub not_resumed: u64,
    pub not_moved: u64,
}

impl FaultCounts {
    pub fn count(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::Error | FaultKind::AfterLoss => {}
            FaultKind::NotConnected => self.not_connected += 1,
            FaultKind::Dropped => self.dropped += 1,
            FaultKind::NotResumed => self.not_resumed += 1,
            FaultKind::NotMoved => self.not_moved += 1,
        }
    }
}

/// One server.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Node {
    pub counts: NodeCounts,
    /// The most users at the end of a second.
    pub peak: u64,
    /// What counts against it.
    pub errors: Errors,
    /// What its users suffered because it was lost.
    pub with_it: Errors,
    pub server: ServerUse,
    /// Of the last seconds.
    #[serde(skip)]
    recent: VecDeque<NodeCounts>,
    #[serde(skip)]
    recent_ends: VecDeque<Duration>,
}

impl Node {
    pub fn connected(&self) -> u64 {
        self.counts.arrived.saturating_sub(self.counts.departed)
    }
}

/// All servers of a run. Empty if there is one.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Nodes {
    pub all: Vec<Node>,
    /// In order of time.
    pub losses: Vec<Loss>,
    /// Faults of users of servers that were lost.
    pub excused: FaultCounts,
    /// Users who lost a partner, which no loss that is known here explains.
    pub loose: Vec<Torn>,
    #[serde(skip)]
    undecided: Vec<Fault>,
    #[serde(skip)]
    stays: Vec<Stay>,
    #[serde(skip)]
    torn: Vec<Torn>,
    /// The loss of which the user of a room was told late, by its place.
    #[serde(skip)]
    late: HashMap<u64, usize>,
}

/// What is known now of what was kept.
#[derive(Debug, Default)]
pub struct Decided {
    pub stays: Vec<Stay>,
    /// What counts.
    pub faults: Vec<Fault>,
}

impl Nodes {
    pub fn new(servers: usize) -> Self {
        let several = if servers > 1 { servers } else { 0 };
        Self {
            all: vec![Node::default(); several],
            ..Self::default()
        }
    }

    /// More than one server.
    pub fn several(&self) -> bool {
        !self.all.is_empty()
    }

    /// Adds what the users told until `now`.
    pub fn add(
        &mut self,
        now: Duration,
        counts: &[NodeCounts],
        faults: Vec<Fault>,
        torn: Vec<Torn>,
    ) {
        self.undecided.extend(faults);
        self.torn.extend(torn);
        for (place, node) in self.all.iter_mut().enumerate() {
            let counts = counts.get(place).copied().unwrap_or_default();
            let id = NodeId(u8::try_from(place).unwrap_or(0));
            if counts.arrived > 0 {
                let mut losses = self.losses.iter_mut();
                if let Some(loss) = losses.rfind(|loss| loss.node == id) {
                    loss.back.get_or_insert(now);
                }
            }
            node.counts.merge(&counts);
            node.peak = node.peak.max(node.connected());
            node.recent.push_back(counts);
            node.recent_ends.push_back(now);
            while node
                .recent_ends
                .front()
                .is_some_and(|end| *end + DECIDED_AFTER < now)
            {
                node.recent.pop_front();
                node.recent_ends.pop_front();
            }
            if node.connected() == 0
                && let Some(loss) = node.lost(id)
            {
                self.losses.push(loss);
                node.recent.clear();
                node.recent_ends.clear();
            }
        }
    }

    /// Decides what can be decided; everything, if the run is `over`.
    pub fn decide(&mut self, now: Duration, over: bool) -> Decided {
        let mut decided = Decided::default();
        let old = |at: Duration| over || at + DECIDED_AFTER < now;
        for fault in std::mem::take(&mut self.undecided) {
            let node = self.all.get_mut(fault.node.index());
            let may_be =
                fault.kind.may_be_of_a_lost_server() || fault.error.may_be_of_a_lost_server();
            let excused = may_be
                && self
                    .losses
                    .iter()
                    .any(|loss| loss.explains(fault.node, fault.at));
            if excused {
                self.excused.count(fault.kind);
                let node = node.filter(|_| fault.kind.is_error());
                node.into_iter()
                    .for_each(|node| node.with_it.add(fault.error.clone(), 1, fault.at));
            } else if old(fault.at) || !may_be {
                let node = node.filter(|_| fault.kind.is_error());
                node.into_iter()
                    .for_each(|node| node.errors.add(fault.error.clone(), 1, fault.at));
                decided.faults.push(fault);
            } else {
                self.undecided.push(fault);
            }
        }
        for mut stay in std::mem::take(&mut self.stays) {
            let breaks = &stay.breaks;
            let explained =
                |of: &(NodeId, Duration)| self.losses.iter().any(|loss| loss.explains(of.0, of.1));
            stay.node_lost = breaks.iter().any(explained);
            if stay.node_lost || breaks.iter().all(|(_, at)| old(*at)) {
                decided.stays.push(stay);
            } else {
                self.stays.push(stay);
            }
        }
        for torn in std::mem::take(&mut self.torn) {
            match self.loss_of(&torn) {
                Some(at) => self.losses[at].add(&torn),
                None if !old(torn.at) => self.torn.push(torn),
                None if torn.node.is_none() && self.loose.len() < MAX_LOOSE => {
                    self.loose.push(torn)
                }
                None => {}
            }
        }
        decided
    }

    /// The place of the loss by which a user lost the partner.
    fn loss_of(&self, torn: &Torn) -> Option<usize> {
        let late = self.late.get(&torn.room).copied();
        let late = late.filter(|_| torn.node.is_none());
        late.or_else(|| self.losses.iter().rposition(|loss| loss.tore(torn)))
    }

    /// Enters who was told late that the partner's server is lost.
    pub fn learn(&mut self, news: Vec<LateNews>) {
        for late in news {
            let explains = |loss: &Loss| loss.explains(late.node, late.broke);
            let Some(at) = self.losses.iter().rposition(explains) else {
                continue;
            };
            let loss = &mut self.losses[at];
            if loss.is_late(late.told) {
                loss.told(late.told);
                if self.late.len() < MAX_LOOSE {
                    self.late.insert(late.room, at);
                }
            }
        }
    }

    /// Keeps a stay until it is known why its connection broke.
    pub fn hold(&mut self, stay: Stay) {
        self.stays.push(stay);
    }

    /// Faults that are counted, and may turn out to be of a lost server.
    pub fn undecided(&self) -> FaultCounts {
        let mut counts = FaultCounts::default();
        self.undecided
            .iter()
            .for_each(|fault| counts.count(fault.kind));
        counts
    }

    /// Enters a reading of a server's metrics.
    pub fn read(&mut self, place: usize, reading: Reading) {
        if let Some(node) = self.all.get_mut(place) {
            node.server.add(reading);
        }
    }

    /// Tells times by a clock that is this much behind.
    pub fn by_clock(&mut self, ahead_micros: i64) {
        let shift = |time: &mut Duration| *time = shifted(*time, ahead_micros);
        for loss in &mut self.losses {
            shift(&mut loss.from);
            shift(&mut loss.at);
            loss.back.iter_mut().for_each(shift);
        }
        for torn in &mut self.loose {
            shift(&mut torn.at);
            torn.matched.iter_mut().for_each(shift);
        }
    }

    /// Adds what another shard told of the same servers.
    pub fn join(&mut self, other: &Self) {
        let Self {
            all,
            losses,
            excused,
            loose,
            undecided: _,
            stays: _,
            torn: _,
            late: _,
        } = other;
        if self.all.len() < all.len() {
            self.all.resize_with(all.len(), Node::default);
        }
        for (mine, theirs) in self.all.iter_mut().zip(all) {
            mine.counts.merge(&theirs.counts);
            // At the same time at the most.
            mine.peak += theirs.peak;
            mine.errors.merge(&theirs.errors);
            mine.with_it.merge(&theirs.with_it);
            mine.server.merge_same(&theirs.server);
        }
        self.excused += *excused;
        for theirs in losses {
            match self.losses.iter_mut().find(|mine| mine.same(theirs)) {
                Some(mine) => mine.merge(theirs),
                None => self.losses.push(theirs.clone()),
            }
        }
        self.losses.sort_by_key(|loss| loss.from);
        self.loose.extend(loose);
    }

    /// More is known now, as all shards are joined: what could not be explained before may be.
    pub fn explain(&mut self) {
        let mut loose = std::mem::take(&mut self.loose);
        loose.retain(|torn| match self.loss_of(torn) {
            Some(at) => {
                self.losses[at].add(torn);
                false
            }
            None => true,
        });
        self.loose = loose;
    }
}

impl Node {
    /// The loss, if most of the connections that went in the last seconds broke.
    fn lost(&self, node: NodeId) -> Option<Loss> {
        let (mut broke, mut departed, mut at) = (0, 0, None::<[Duration; 2]>);
        for counts in self.recent.iter().rev() {
            let apart = match (counts.broke_at, at) {
                (Some([_, last]), Some([first, _])) => last + APART < first,
                _ => false,
            };
            if apart {
                break;
            }
            broke += counts.broke;
            departed += counts.departed;
            at = span(at, counts.broke_at);
        }
        let [from, at] = at.filter(|_| broke >= LEAST_BROKEN && broke * 2 > departed)?;
        Some(Loss::new(node, [from, at], broke))
    }
}
