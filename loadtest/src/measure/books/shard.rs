//! The books of one shard of a run, and those of all shards together.

use serde::{Deserialize, Serialize};

use super::{Books, GeneratorUse, MatchCounts};
use crate::measure::{
    crossing::Crossings,
    failures::Failures,
    ledger::{Ledger, LedgerShard, Scope},
    nodes::Nodes,
    sample::Unmatched,
    series::Series,
    server_use::ServerUse,
    slice::Slice,
};

/// The books of a shard, as the merge needs them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ShardBooks {
    pub totals: Slice,
    pub crossings: Crossings,
    pub ledger: LedgerShard,
    pub series: Series,
    pub server: ServerUse,
    /// Searches that are not classified yet.
    pub unmatched: Vec<Unmatched>,
    matches: MatchCounts,
    failures: Failures,
    generator: GeneratorUse,
    #[serde(default)]
    pub nodes: Nodes,
}

impl Books {
    /// The books for the merge. Call it before open rooms are settled: other shards may know the partners.
    pub(super) fn to_shard(&self) -> ShardBooks {
        ShardBooks {
            totals: self.totals.clone(),
            crossings: self.crossings.clone(),
            ledger: self.ledger.shard(),
            series: self.series.clone(),
            server: self.server.clone(),
            unmatched: self.searches.kept().to_vec(),
            matches: self.matches,
            failures: self.failures.clone(),
            generator: self.generator,
            nodes: self.nodes.clone(),
        }
    }

    /// Adds the counts of a shard. The caller joins rooms, searches, windows, crossings and readings of the server: that
    /// takes the clocks and the server of each shard.
    pub fn join(&mut self, shard: &ShardBooks) {
        // Without `..`: a new field that is not joined does not compile.
        let ShardBooks {
            totals,
            matches,
            failures,
            generator,
            nodes,
            crossings: _,
            ledger: _,
            series: _,
            server: _,
            unmatched: _,
        } = shard;
        self.totals.merge(totals);
        self.failures.merge(failures);
        self.nodes.join(nodes);
        let MatchCounts {
            failed,
            odd_one_out,
            pending,
            // An estimate for searches that are classified only when all shards are joined.
            presumed: _,
        } = matches;
        self.matches.failed += failed;
        self.matches.odd_one_out += odd_one_out;
        self.matches.pending += pending;
        self.generator.cpu_seconds += generator.cpu_seconds;
        self.generator.rss_peak_bytes += generator.rss_peak_bytes;
        self.generator.fds_peak = self.generator.fds_peak.max(generator.fds_peak);
    }

    /// Empty books for joining shards.
    pub fn of_shards(fair_wait: std::time::Duration) -> Self {
        Self::open(fair_wait, Scope::Shards).0
    }

    /// Classifies the searches of all users of one server.
    pub fn classify(&mut self, searches: Vec<Unmatched>) {
        // Too many to keep are classified at once.
        if let Some(known) = self.searches.add(searches) {
            self.record_searches(&known);
        }
        let known = self.searches.classify();
        self.record_searches(&known);
    }

    /// Settles the rest after all shards are joined. Not `complete`: shards are missing.
    pub fn conclude(&mut self, ledger: Ledger, complete: bool, now: std::time::Duration) {
        self.ledger = ledger;
        self.learn();
        self.nodes.explain();
        let spans = self.nodes.losses.iter().map(|loss| [loss.from, loss.at]);
        self.ledger.losses = spans.collect();
        self.ledger.close(complete);
        self.settle(now);
    }
}
