//! Counts what users tell, and closes the books.

use std::time::Duration;

use super::{About, Connections, Errors, Latencies, Matches, Messages, Summary};
use crate::{
    ledger::Ledger,
    plan::Plan,
    sample::{ErrorKind, Sample, ServerCode, Unmatched},
};

/// Searches without a match that are kept one by one.
const MAX_UNMATCHED: usize = 100_000;
/// Two users who both wait this long, and no less than the match timeout, could have been paired.
const FAIR_WAIT: Duration = Duration::from_secs(2);

/// What one worker's users have told so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    connections: Connections,
    searches: u64,
    rematches: u64,
    matched: u64,
    unmatched: Vec<Unmatched>,
    /// More unmatched searches than are kept: taken as failed, as so many were not alone.
    unmatched_beyond: u64,
    messages: Messages,
    connect: Latencies,
    matching: Latencies,
    relay: Latencies,
    lateness: Latencies,
    errors: Errors,
    ledger: Ledger,
}

impl Tally {
    /// Counts one sample.
    pub(crate) fn add(&mut self, at: Duration, sample: Sample) {
        match sample {
            Sample::Connecting { .. } => self.connections.attempted += 1,
            Sample::ConnectingEnded => self.connections.attempted -= 1,
            Sample::Connected { latency } => {
                self.connections.succeeded += 1;
                self.connect.record(latency);
            }
            Sample::Dropped { error } => {
                self.connections.dropped += 1;
                self.errors.add(error, 1, at);
            }
            Sample::NotConnected { error } | Sample::Error { error } => self.errors.add(error, 1, at),
            Sample::Searching { again } => {
                self.searches += 1;
                self.rematches += u64::from(again);
            }
            Sample::Matched { latency } => {
                self.matched += 1;
                self.matching.record(latency);
            }
            Sample::Unmatched(search) if self.unmatched.len() < MAX_UNMATCHED => {
                self.unmatched.push(search);
            }
            Sample::Unmatched(_) => self.unmatched_beyond += 1,
            Sample::RoomLeft(stay) => self.ledger.add(&stay),
            Sample::Sent { lateness, .. } => {
                self.messages.sent += 1;
                self.lateness.record(lateness);
            }
            Sample::Delivered(message) => {
                self.relay.record(message.latency);
                self.messages.reordered += u64::from(!message.in_order);
                self.messages.altered += u64::from(message.altered);
            }
            Sample::Duplicate { .. } => self.messages.duplicate += 1,
            Sample::WrongPeer { .. } => self.messages.wrong_peer += 1,
            Sample::Foreign => self.messages.foreign += 1,
            _ => {}
        }
    }

    /// Adds what another worker counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.connections.attempted += other.connections.attempted;
        self.connections.succeeded += other.connections.succeeded;
        self.connections.dropped += other.connections.dropped;
        self.searches += other.searches;
        self.rematches += other.rematches;
        self.matched += other.matched;
        self.unmatched.extend(other.unmatched);
        self.unmatched_beyond += other.unmatched_beyond;
        self.messages.sent += other.messages.sent;
        self.messages.reordered += other.messages.reordered;
        self.messages.altered += other.messages.altered;
        self.messages.duplicate += other.messages.duplicate;
        self.messages.wrong_peer += other.messages.wrong_peer;
        self.messages.foreign += other.messages.foreign;
        self.connect.merge(&other.connect);
        self.matching.merge(&other.matching);
        self.relay.merge(&other.relay);
        self.lateness.merge(&other.lateness);
        for (kind, error) in other.errors.0 {
            self.errors.add(kind, error.count, error.first_at);
        }
        self.ledger.merge(other.ledger);
    }

    /// Closes the books.
    pub(crate) fn finish(mut self, about: About) -> Summary {
        let delivery = self.ledger.settle();
        let connections = Connections {
            peak: about.peak_users,
            ..self.connections
        };
        let searches = self.settle_searches(&about.plan);
        if delivery.wrongly_refused > 0 {
            let code = ServerCode::new("not_in_room");
            let at = about.elapsed;
            self.errors
                .add(ErrorKind::ServerError(code), delivery.wrongly_refused, at);
        }
        let broken = delivery.one_sided_rooms + delivery.crowded_users;
        Summary {
            matches: Matches {
                rematches: self.rematches,
                matched: self.matched,
                one_sided: delivery.one_sided_rooms,
                crowded: delivery.crowded_users,
                good: self.matched.saturating_sub(broken),
                ..searches
            },
            messages: Messages {
                delivery,
                ..self.messages
            },
            connections,
            connect: self.connect,
            matching: self.matching,
            relay: self.relay,
            lateness: self.lateness,
            errors: self.errors,
            about,
        }
    }

    /// Tells the searches that failed from those that had nobody to find.
    ///
    /// Two unmatched users who waited at the same time could have been paired with each other. Pairing
    /// them off in order of arrival leaves the odd ones out.
    fn settle_searches(&mut self, plan: &Plan) -> Matches {
        let fair = FAIR_WAIT.min(plan.match_timeout);
        let mut failed = Vec::new();
        let mut alone: Option<Unmatched> = None;
        let mut excused: Vec<Unmatched> = Vec::new();
        self.unmatched.sort_by_key(|search| search.from);
        for &search in &self.unmatched {
            match alone.take() {
                Some(other) if other.to.min(search.to).saturating_sub(search.from) >= fair => {
                    failed.extend([other, search]);
                }
                Some(other) => {
                    // The one who stays longer is the one whom a later user may still find.
                    let (gone, stays) = if other.to > search.to {
                        (search, other)
                    } else {
                        (other, search)
                    };
                    excused.push(gone);
                    alone = Some(stays);
                }
                None => alone = Some(search),
            }
        }
        excused.extend(alone);
        for search in &failed {
            self.matching.record(search.waited);
        }
        let odd = excused
            .iter()
            .filter(|search| search.waited >= fair)
            .count() as u64;
        Matches {
            searches: self.searches,
            failed: failed.len() as u64 + self.unmatched_beyond,
            odd_one_out: odd,
            pending: excused.len() as u64 - odd,
            ..Matches::default()
        }
    }
}
