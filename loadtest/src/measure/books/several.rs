//! What the books of several servers know: what was lost with one of them, and what is local and remote.

use std::time::Duration;

use super::Books;
use crate::measure::{
    histogram::dense::Latencies,
    nodes::FaultCounts,
    reach::{Pairs, Reach},
};

impl Books {
    /// Counts what is known now of what went wrong at single servers. Returns what of it counts.
    pub(super) fn decide(&mut self, now: Duration, over: bool) -> FaultCounts {
        let decided = self.nodes.decide(now, over);
        let spans = self.nodes.losses.iter().map(|loss| [loss.from, loss.at]);
        self.ledger.losses = spans.collect();
        decided
            .stays
            .into_iter()
            .for_each(|stay| self.ledger.add(stay));
        self.learn();
        let mut counted = FaultCounts::default();
        for fault in decided.faults {
            counted.count(fault.kind);
            if fault.kind.is_error() {
                self.totals.errors.add(fault.error, 1, fault.at);
            }
        }
        counted
    }

    /// What both users of a room together know of losses.
    pub(super) fn learn(&mut self) {
        self.nodes.learn(std::mem::take(&mut self.ledger.late_news));
    }

    /// Rooms of this reach that are settled. `None`: there is one server.
    pub fn pairs(&self, reach: Reach) -> Option<&Pairs> {
        self.nodes
            .several()
            .then(|| &self.ledger.pairs[reach as usize])
    }

    /// Faults that are those of a lost server, or may be.
    pub fn excused(&self) -> FaultCounts {
        let mut excused = self.nodes.excused;
        excused += self.nodes.undecided();
        excused
    }

    /// Sessions that did not go on, though their server was not lost.
    pub fn not_resumed(&self) -> u64 {
        let all = self.totals.failover.not_resumed;
        all.saturating_sub(self.excused().not_resumed)
    }

    /// Sessions or rooms that did not go on at another server, though their own was not lost.
    pub fn not_moved(&self) -> u64 {
        let all = self.totals.failover.not_moved;
        all.saturating_sub(self.excused().not_moved)
    }

    /// Messages that came again, but for those that users said again as their server was lost.
    pub fn duplicates(&self) -> u64 {
        let duplicates = self.totals.messages().duplicate;
        duplicates.saturating_sub(self.ledger.said_again)
    }

    /// Of all servers that were lost: until users of others were told, and until all concerned were matched again.
    pub fn after_losses(&self) -> [Latencies; 2] {
        let mut all = <[Latencies; 2]>::default();
        for loss in &self.nodes.losses {
            all[0].merge(&loss.told);
            all[1].merge(&loss.matched);
        }
        all
    }
}
