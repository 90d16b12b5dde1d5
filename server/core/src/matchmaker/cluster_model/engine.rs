//! The engine as its scripts behave: who waits, and which nodes beat. It follows the script `seek` step by step, so that the
//! leftovers of lost data are those of the real one.

use std::collections::{BTreeMap, BTreeSet};

use super::super::claim_protocol::{
    Answer, BeatAnswer, Call, Mark, NodeId, Operation, OperationKind, Pool, Seeker, TicketId,
};
use super::{LEASE, SECOND, Time};

/// How many records a sweep looks at, fewer than the real one's 200 so that it takes several.
const SWEPT_AT_ONCE: usize = 4;
/// How many entries of a pool a seek looks at.
const LOOKED_AT: usize = 32;

#[derive(Clone)]
pub(super) struct Record {
    since: u64,
    node: NodeId,
    seeker: Seeker,
}

/// An entry of a pool: since when, and who.
type Entry = (u64, TicketId);

/// What is lost or set back together.
#[derive(Clone, Default)]
pub(super) struct Data {
    tickets: BTreeMap<TicketId, Record>,
    pools: BTreeMap<Pool, BTreeSet<Entry>>,
    nodes: BTreeMap<NodeId, Mark>,
    generation: Option<u64>,
}

#[derive(Default)]
pub(super) struct Engine {
    pub(super) data: Data,
    /// What its clock is ahead of the true time, microseconds.
    pub(super) ahead: u64,
    /// When each node's last beat was taken.
    beats: BTreeMap<NodeId, Time>,
    /// Nodes that were buried after their lease was over.
    pub(super) buried: BTreeSet<NodeId>,
    /// Nobody has taken tickets or entries away, so that the order can be checked.
    is_whole: bool,
    /// How often tickets were lost.
    pub(super) losses: u64,
    pub(super) passed_over: Option<String>,
    checks_pools: bool,
}

impl Engine {
    /// `checks_pools`: whether this rule holds. Its clock has nothing to do with those of the nodes.
    pub(super) fn new(checks_pools: bool) -> Self {
        Self {
            ahead: 1_000_000 * SECOND,
            is_whole: true,
            checks_pools,
            ..Self::default()
        }
    }

    fn time(&self, now: Time) -> u64 {
        now + self.ahead
    }

    pub(super) fn beat(
        &mut self,
        me: NodeId,
        number: u64,
        generation: u64,
        now: Time,
    ) -> BeatAnswer {
        let is_new = self.data.generation.is_none();
        let generation = *self.data.generation.get_or_insert(generation);
        let mark = self.data.nodes.get(&me);
        if !is_new && mark == Some(&Mark::Buried) {
            return BeatAnswer::Fenced;
        }
        // One that was held up on a connection that was given up: the beat does not go back.
        let number = match mark {
            Some(Mark::Beat(seen)) => number.max(*seen),
            _ => number,
        };
        self.data.nodes.insert(me, Mark::Beat(number));
        self.beats.insert(me, now);
        self.buried.remove(&me);
        BeatAnswer::Ok {
            time: self.time(now),
            generation,
            nodes: self.data.nodes.iter().map(|(n, m)| (*n, *m)).collect(),
        }
    }

    pub(super) fn bury(
        &mut self,
        node: NodeId,
        value: Option<u64>,
        generation: u64,
        now: Time,
    ) -> bool {
        let is = self.data.nodes.get(&node).copied();
        let may = self.data.generation == Some(generation) && is == value.map(Mark::Beat);
        if may {
            self.data.nodes.insert(node, Mark::Buried);
            if self.beats.get(&node).is_none_or(|at| now >= at + LEASE) {
                self.buried.insert(node);
            }
        }
        may
    }

    /// None: it came too late, and nothing was done.
    pub(super) fn call(&mut self, call: &Call, now: Time) -> Option<Vec<Answer>> {
        if let Some(beat) = call.beat {
            match self.data.nodes.get(&call.me) {
                Some(Mark::Buried) => return None,
                Some(Mark::Beat(seen)) if *seen > beat + 1 => return None,
                _ => {}
            }
        }
        let time = self.time(now);
        let operations = call.operations.iter();
        Some(
            operations
                .map(|operation| self.operate(call, operation, time))
                .collect(),
        )
    }

    fn operate(&mut self, call: &Call, operation: &Operation, time: u64) -> Answer {
        let id = operation.ticket;
        let waited = u64::try_from(operation.waited.as_micros()).unwrap_or(0);
        match (operation.kind, &operation.seeker) {
            (OperationKind::Withdraw, _) => Answer::Known(self.unlink(id)),
            (OperationKind::Sweep, _) => Answer::Swept(self.sweep(id, &call.dead)),
            (OperationKind::Check, _) => Answer::Known(self.check(id, call.me)),
            (_, Some(seeker)) => {
                self.unlink(id);
                self.seek(call, id, seeker, time.saturating_sub(waited))
            }
            (_, None) => Answer::Known(false),
        }
    }

    fn sweep(&mut self, from: TicketId, dead: &[NodeId]) -> Option<TicketId> {
        let mut rest = self.data.tickets.range(from..);
        let page = rest.by_ref().take(SWEPT_AT_ONCE);
        let page: Vec<_> = page.map(|(id, record)| (*id, record.node)).collect();
        let next = rest.next().map(|(id, _)| *id);
        for (id, node) in page {
            if dead.contains(&node) {
                self.unlink(id);
            }
        }
        next
    }

    fn check(&self, id: TicketId, me: NodeId) -> bool {
        self.stands(id, me, self.checks_pools)
    }

    fn stands(&self, id: TicketId, me: NodeId, in_pools: bool) -> bool {
        let record = self
            .data
            .tickets
            .get(&id)
            .filter(|record| record.node == me);
        record.is_some_and(|record| {
            let entry = (record.since, id);
            let stands = |pool| {
                self.data
                    .pools
                    .get(pool)
                    .is_some_and(|p| p.contains(&entry))
            };
            !in_pools || record.seeker.pools.iter().all(stands)
        })
    }

    fn cut(&mut self, pool: Pool, entry: Entry) {
        if let Some(entries) = self.data.pools.get_mut(&pool) {
            entries.remove(&entry);
            if entries.is_empty() {
                self.data.pools.remove(&pool);
            }
        }
    }

    fn unlink(&mut self, id: TicketId) -> bool {
        let Some(record) = self.data.tickets.remove(&id) else {
            return false;
        };
        for pool in record.seeker.pools {
            self.cut(pool, (record.since, id));
        }
        true
    }

    fn seek(&mut self, call: &Call, id: TicketId, seeker: &Seeker, since: u64) -> Answer {
        let owed = self.is_whole.then(|| self.owed(call, id, seeker));
        let best = self.oldest(call, id, seeker);
        if let Some(owed) = owed
            && owed.map(|(_, entry)| entry) != best
        {
            self.passed_over = Some(format!("{id:?} got {best:?}, owed {owed:?}"));
        }
        if let Some((_, found)) = best
            && let Some(node) = self.data.tickets.get(&found).map(|record| record.node)
        {
            self.unlink(found);
            return Answer::Found {
                ticket: found,
                node,
            };
        }
        for pool in &seeker.pools {
            let entries = self.data.pools.entry(*pool).or_default();
            entries.insert((since, id));
        }
        let record = Record {
            since,
            node: call.me,
            seeker: seeker.clone(),
        };
        self.data.tickets.insert(id, record);
        Answer::Posted
    }

    fn oldest(&mut self, call: &Call, id: TicketId, seeker: &Seeker) -> Option<Entry> {
        let mut best: Option<(u8, Entry)> = None;
        for pool in &seeker.pools {
            if best.is_some_and(|(level, _)| level != pool.level) {
                break;
            }
            let entries = self.data.pools.get(pool);
            let entries: Vec<_> = entries
                .into_iter()
                .flatten()
                .take(LOOKED_AT)
                .copied()
                .collect();
            for entry in entries {
                if best.is_some_and(|(_, best)| entry >= best) {
                    break;
                }
                let other = entry.1;
                let record = self.data.tickets.get(&other);
                match record.map(|record| (record.node, &record.seeker)) {
                    _ if other == id => {}
                    None => self.cut(*pool, entry),
                    Some((node, _)) if call.dead.contains(&node) => {
                        self.unlink(other);
                    }
                    Some((node, them)) => {
                        if !call.suspects.contains(&node) && seeker.fits(them) {
                            best = Some((pool.level, entry));
                            break;
                        }
                    }
                }
            }
        }
        best.map(|(_, entry)| entry)
    }

    /// Who is owed to a seeker: the oldest who fits, of the narrowest level that has anybody.
    fn owed(&self, call: &Call, id: TicketId, seeker: &Seeker) -> Option<(u8, Entry)> {
        let others = self.data.tickets.iter();
        let others = others.filter(|(other, record)| {
            **other != id
                && !call.dead.contains(&record.node)
                && !call.suspects.contains(&record.node)
        });
        let fitting = others.filter(|(_, record)| seeker.fits(&record.seeker));
        let ranked = fitting.filter_map(|(other, record)| {
            let level = seeker.shared_level(&record.seeker)?;
            Some((level, (record.since, *other)))
        });
        ranked.min()
    }

    /// Everybody who has a record, and the node that posted it.
    pub(super) fn records(&self) -> impl Iterator<Item = (TicketId, NodeId)> {
        self.data
            .tickets
            .iter()
            .map(|(id, record)| (*id, record.node))
    }

    /// Whether a seek that looks at its pools can find it.
    pub(super) fn is_posted(&self, id: TicketId, me: NodeId) -> bool {
        self.stands(id, me, true)
    }

    /// Entries of pools without the record that they belong to.
    pub(super) fn stale_entries(&self) -> usize {
        let pools = self.data.pools.iter();
        let stale = pools.flat_map(|(pool, entries)| {
            entries.iter().filter(move |(since, id)| {
                let record = self.data.tickets.get(id);
                !record.is_some_and(|r| r.since == *since && r.seeker.pools.contains(pool))
            })
        });
        stale.count()
    }

    pub(super) fn flush_all(&mut self) {
        self.losses += 1;
        self.data = Data::default();
    }

    /// Loses whole tickets.
    pub(super) fn forget(&mut self, mut is_lost: impl FnMut() -> bool) {
        self.losses += 1;
        for id in self.data.tickets.keys().copied().collect::<Vec<_>>() {
            if is_lost() {
                self.unlink(id);
            }
        }
    }

    /// Loses one of the two keys of the index, as an engine that evicts does.
    pub(super) fn evict(&mut self, records: bool) {
        self.is_whole = false;
        self.losses += 1;
        if records {
            self.data.tickets.clear();
        } else {
            self.data.pools.clear();
        }
    }
}
