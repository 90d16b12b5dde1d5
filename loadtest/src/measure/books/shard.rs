//! The books of one share of a run, and those of all shares together.

use serde::{Deserialize, Serialize};

use super::{Books, GeneratorUse, MatchCounts};
use crate::measure::{
    crossing::Crossings,
    failures::Failures,
    ledger::{Ledger, LedgerShare, Scope},
    sample::Unmatched,
    series::Series,
    server_use::ServerUse,
    slice::Slice,
};

/// What the books of a share tell those of the whole: everything but what its own report is made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ShareOfBooks {
    pub told: Slice,
    pub crossings: Crossings,
    pub ledger: LedgerShare,
    pub series: Series,
    pub server: ServerUse,
    /// Searches that are still to be told apart, and those that are already.
    pub unmatched: Vec<Unmatched>,
    matches: MatchCounts,
    failures: Failures,
    generator: GeneratorUse,
}

impl Books {
    /// What the other shares have to know. To be called before anything is settled that they may settle.
    pub(super) fn to_share(&self) -> ShareOfBooks {
        ShareOfBooks {
            told: self.told.clone(),
            crossings: self.crossings.clone(),
            ledger: self.ledger.share(),
            series: self.series.clone(),
            server: self.server.clone(),
            unmatched: self.searches.kept().to_vec(),
            matches: self.matches,
            failures: self.failures.clone(),
            generator: self.generator,
        }
    }

    /// Adds what a share counted. Its rooms, searches, windows, messages from other shares and readings of the
    /// server are for others to join, who know which server it was and what the clocks were.
    pub fn join(&mut self, share: &ShareOfBooks) {
        self.told.merge(&share.told);
        self.failures.merge(&share.failures);
        self.matches.failed += share.matches.failed;
        self.matches.odd_one_out += share.matches.odd_one_out;
        self.matches.pending += share.matches.pending;
        self.generator.cpu_seconds += share.generator.cpu_seconds;
        self.generator.rss_peak_bytes += share.generator.rss_peak_bytes;
        self.generator.fds_peak = self.generator.fds_peak.max(share.generator.fds_peak);
    }

    /// Empty books for joining shares.
    pub fn of_shares(fair_wait: std::time::Duration) -> Self {
        Self::open(fair_wait, Scope::Shares).0
    }

    /// Tells apart the searches of all users of one server.
    pub fn tell_apart(&mut self, searches: Vec<Unmatched>) {
        // Too many to be kept are told apart at once.
        if let Some(known) = self.searches.add(searches) {
            self.told_apart(&known);
        }
        let known = self.searches.tell_apart();
        self.told_apart(&known);
    }

    /// Settles what is left once all shares are joined; not `complete`: some are missing.
    pub fn conclude(&mut self, ledger: Ledger, complete: bool, now: std::time::Duration) {
        self.ledger = ledger;
        self.ledger.close(complete);
        self.settle(now);
    }
}
