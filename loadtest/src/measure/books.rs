//! The books of a run: what all users measured, in memory that grows neither with users nor with time.
//!
//! Each worker counts into its own [`Slice`] and hands it over once a second. The books add up the slices, settle rooms
//! and searches, and keep one window of the series per second.

use std::{sync::mpsc, time::Duration};

use serde::{Deserialize, Serialize};

mod several;
mod shard;
mod to_record;

use crate::{
    base::{
        machine::{cpu_seconds, open_files, rss_bytes},
        packed::pack,
        units::percent_of,
    },
    measure::{
        crossing::{Crossing, Crossings},
        failures::{Failure, Failures},
        ledger::{Ledger, Scope},
        message::Kind,
        nodes::Nodes,
        reach::Reach,
        sample::ErrorKind,
        searches::{Classified, Searches},
        series::{Gauges, Series},
        server_code::ServerCode,
        server_use::{Reading, ServerUse},
        slice::Slice,
    },
};
pub use shard::ShardBooks;
pub use to_record::{About, Names};

/// Ticks between two counts of the open files: with many users a count takes milliseconds.
const COUNT_FILES_EVERY: u32 = 10;

/// An older reading of the server's metrics is ignored.
pub const MAX_READING_AGE: Duration = Duration::from_secs(3);

/// The books of a run. The thread that leads the run keeps them.
#[derive(Debug)]
pub struct Books {
    slices: mpsc::Receiver<Slice>,
    /// The sum of all slices so far.
    pub totals: Slice,
    pub ledger: Ledger,
    pub series: Series,
    pub failures: Failures,
    pub server: ServerUse,
    pub generator: GeneratorUse,
    pub matches: MatchCounts,
    /// The servers, if there are several.
    pub nodes: Nodes,
    /// Messages from users of other shards.
    pub crossings: Crossings,
    /// The books of this shard for the merge, packed when the books are closed.
    packed: Option<String>,
    searches: Searches,
    /// A message that has not come for this long counts as lost. `None`: messages are not expected to come back.
    patience: Option<Duration>,
    /// Messages that are lost as far as is known before the books are closed.
    lost: u64,
    ticked: Duration,
    closed: bool,
}

/// Searches that ended without a match, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchCounts {
    /// Searches that could have been paired, but were not in time.
    pub failed: u64,
    /// An estimate of searches that failed and are not classified yet.
    pub presumed: u64,
    /// Nobody else was waiting.
    pub odd_one_out: u64,
    /// Under way at the end.
    pub pending: u64,
}

/// What the load generator itself used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorUse {
    cpu_at_start: f64,
    at: Duration,
    pub cpu_seconds: f64,
    pub rss_peak_bytes: u64,
    pub fds_peak: u64,
    ticks: u32,
}

impl Books {
    /// Opens the books. Workers send their slices to the sender.
    pub fn open(fair_wait: Duration, scope: Scope) -> (Self, mpsc::Sender<Slice>) {
        let (sender, slices) = mpsc::channel();
        let books = Self {
            slices,
            totals: Slice::default(),
            ledger: Ledger::new(scope),
            series: Series::default(),
            failures: Failures::default(),
            server: ServerUse::default(),
            generator: GeneratorUse {
                cpu_at_start: cpu_seconds(false),
                ..GeneratorUse::default()
            },
            matches: MatchCounts::default(),
            nodes: Nodes::default(),
            crossings: Crossings::default(),
            packed: None,
            searches: Searches::new(fair_wait),
            patience: None,
            lost: 0,
            ticked: Duration::ZERO,
            closed: false,
        };
        (books, sender)
    }

    /// While the run is on, counts messages as lost that have not come for this long.
    pub fn with_patience(mut self, patience: Option<Duration>) -> Self {
        self.patience = patience;
        self
    }

    /// Adds the slices that came since the last tick. `now` is the time since the start of the run. Call it once a second.
    pub fn tick(&mut self, now: Duration, server: Option<Reading>) {
        let mut window = Slice::default();
        let (mut unmatched, mut across) = (Vec::new(), Vec::new());
        let (mut faults, mut torn) = (Vec::new(), Vec::new());
        while let Ok(mut slice) = self.slices.try_recv() {
            for stay in slice.stays.drain(..) {
                match stay.breaks.is_empty() {
                    true => self.ledger.add(stay),
                    false => self.nodes.hold(stay),
                }
            }
            faults.append(&mut slice.faults);
            torn.append(&mut slice.torn);
            unmatched.append(&mut slice.unmatched);
            across.append(&mut slice.across);
            window.merge(&slice);
        }
        let presumed = self.searches.presumed_failed(&unmatched);
        self.matches.presumed += presumed;
        let known = self.searches.add(unmatched);
        let dated = known.map_or(0, |known| self.record_searches(&known));
        self.totals.merge(&window);
        let before = self.failures.total() + self.totals.errors.total() - window.errors.total();
        self.nodes.add(now, &window.nodes, faults, torn);
        let counted = self.decide(now, false);
        let lost = self.lost;
        self.lost = self.lost_by(now, &window);
        self.find_failures(now);
        let gauges = self.gauges(now, server);
        let end = self.end_of_window(now);
        let mut cell = window.to_cell(self.ticked, end, gauges);
        across
            .iter()
            .for_each(|message| self.crossings.add(message));
        cell.across = Crossings::raw(&across);
        cell.across_by_reach = Reach::ALL
            .map(|reach| Crossings::raw(across.iter().filter(|one| one.reach == Some(reach))));
        cell.counts.failed_matches = presumed;
        cell.counts.lost = difference(self.lost, lost);
        let failures = self.failures.total() + self.totals.errors.total();
        cell.counts.failures = failures.saturating_sub(before + dated);
        if self.nodes.several() {
            // What broke counts in the window in which it is known not to be of a lost server.
            (cell.counts.drops, cell.counts.failed_connects) =
                (counted.dropped, counted.not_connected);
        }
        self.series.push(cell);
        self.ticked = end;
    }

    /// Adds the last slices and settles what is open. A shard cannot settle rooms with users of other shards: they are
    /// unknown in its own record and packed for the merge.
    pub fn close(&mut self, now: Duration, server: Option<Reading>) {
        self.tick(now, server);
        self.decide(now, true);
        self.nodes.explain();
        if self.is_shard() {
            self.packed = Some(pack(&self.to_shard()));
        }
        self.ledger.close(!self.is_shard());
        let known = self.searches.classify();
        self.record_searches(&known);
        self.settle(now);
    }

    /// Whether these are the books of one shard of a run.
    pub fn is_shard(&self) -> bool {
        self.ledger.scope == Scope::Shard
    }

    fn settle(&mut self, now: Duration) {
        for (code, count) in [
            ("not_in_room", self.ledger.wrongly_refused),
            ("relay_lost", self.ledger.wrongly_lost),
        ] {
            let error = ErrorKind::ServerError(ServerCode::new(code));
            self.totals.errors.add(error, count, now);
        }
        self.closed = true;
        self.find_failures(now);
        let (mut lost, mut failures) = (0_i64, 0);
        for cell in self.series.cells() {
            lost = lost.saturating_add(cell.counts.lost);
            failures += cell.counts.failures;
        }
        let all = self.failures.total() + self.totals.errors.total();
        let lost = difference(self.lost(), u64::try_from(lost).unwrap_or(0));
        // Faults that are found only now have no time: they go into the last window.
        if let Some(last) = self.series.last_mut() {
            last.counts.lost = last.counts.lost.saturating_add(lost.max(0));
            last.counts.failures += all.saturating_sub(failures);
        }
    }

    /// Messages that are lost. Before the books are closed: messages that were overtaken, or have not come for long.
    pub fn lost(&self) -> u64 {
        match self.closed {
            true => self.ledger.total().lost,
            false => self.lost,
        }
    }

    /// [`Self::lost`] at the end of a window, before the books are closed.
    fn lost_by(&self, now: Duration, window: &Slice) -> u64 {
        let missed = u64::try_from(self.totals.missed).unwrap_or(0);
        let missed = missed.saturating_add(self.ledger.unreported);
        if self.is_shard() {
            return missed;
        }
        let messages = self.totals.messages();
        let missing = messages.sent.saturating_sub(messages.received);
        let silent = self.patience.map_or(0, |patience| {
            let cells = self.series.cells().rev();
            let latest = cells.take_while(|cell| cell.end().saturating_add(patience) > now);
            let latest: u64 = latest.map(|cell| cell.counts.sent).sum();
            let settled = self.ledger.total();
            let excused = settled.undeliverable + settled.pending + settled.unknown;
            missing.saturating_sub(latest + window.messages().sent + self.totals.refused + excused)
        });
        missed.min(missing).max(silent)
    }

    /// Records classified searches. Returns how many failures went into windows that already existed.
    fn record_searches(&mut self, known: &Classified) -> u64 {
        let mut dated = 0;
        for search in &known.failed {
            self.totals.matching.record(search.waited);
            let at = search.from.saturating_add(search.waited);
            self.failures.date(Failure::MatchFailed, at);
            if let Some(window) = self.series.at(at) {
                window.counts.failures += 1;
                dated += 1;
            }
        }
        self.matches.failed += known.failed.len() as u64;
        self.matches.odd_one_out += known.odd_one_out;
        self.matches.pending += known.pending;
        self.matches.presumed = 0;
        dated
    }

    fn find_failures(&mut self, now: Duration) {
        let (people, messages) = (&self.totals.people, self.totals.messages());
        let contradictions = self.ledger.contradictions;
        let late_calls = self.totals.calls.iter().map(|call| call.timed_out).sum();
        let wrong_calls = self.totals.calls.iter().map(|call| call.wrong).sum();
        let words = self.totals.talk.words;
        for (failure, count) in [
            (Failure::MessageLost, self.lost()),
            (Failure::MessageLate, messages.late),
            (Failure::MessageDuplicated, self.duplicates()),
            (Failure::MessageReordered, messages.reordered),
            (Failure::MessageMisrouted, messages.wrong_peer),
            (Failure::MessageAltered, messages.altered),
            (Failure::MatchFailed, self.matches.failed),
            (Failure::MatchOneSided, self.ledger.one_sided_rooms),
            (Failure::MatchDouble, self.double_matches()),
            (Failure::MatchSelf, people.self_matches),
            (Failure::MatchSameRole, contradictions.same_roles),
            (Failure::MatchWrongPeer, contradictions.wrong_peers),
            (Failure::PartnerWasThere, contradictions.partner_was_there),
            (Failure::LeaveUntold, contradictions.untold_leaves),
            (Failure::CallTimedOut, late_calls),
            (Failure::CallWrong, wrong_calls),
            (Failure::WordLost, words.lost()),
            (Failure::WordLate, words.late),
            (Failure::WordTwice, words.twice()),
            (Failure::WordReordered, words.reordered()),
            (Failure::WordMisdelivered, words.misdelivered()),
            (Failure::WordAltered, words.altered()),
            (Failure::WordNotStored, words.settled.not_stored),
            (Failure::WordWronglyStored, words.settled.wrongly_stored),
            (Failure::AnswerMissing, words.answers_missing),
            (Failure::AnswerTwice, words.answers_twice),
        ] {
            self.failures.set(failure, count, now);
        }
    }

    /// Workers cut slices at whole seconds; the slices arrive a little later.
    fn end_of_window(&self, now: Duration) -> Duration {
        let whole = Duration::from_secs(now.as_secs());
        if whole > self.ticked { whole } else { now }
    }

    fn gauges(&mut self, now: Duration, server: Option<Reading>) -> Gauges {
        let server = server.filter(|reading| now.saturating_sub(reading.at) < MAX_READING_AGE);
        let people = &self.totals.people;
        let rss = rss_bytes();
        let used = &mut self.generator;
        let cpu = cpu_seconds(false) - used.cpu_at_start;
        let seconds = now.saturating_sub(used.at).as_secs_f64().max(1e-3);
        used.at = now;
        let percent = (cpu - used.cpu_seconds) * 100.0 / seconds;
        used.cpu_seconds = cpu;
        used.rss_peak_bytes = used.rss_peak_bytes.max(rss);
        if used.ticks.is_multiple_of(COUNT_FILES_EVERY) {
            used.fds_peak = used.fds_peak.max(open_files());
        }
        used.ticks += 1;
        Gauges {
            connected: people.connected_now(),
            searching: people.searching_now(),
            in_rooms: people.in_rooms_now(),
            server,
            server_cpu_percent: server.and_then(|reading| self.server.add(reading)),
            generator_cpu_percent: percent,
            generator_rss_bytes: rss,
        }
    }

    /// Records messages from another shard. The receiver's clock is `ahead_micros` ahead of the senders'.
    pub fn time(&mut self, crossing: &Crossing, ahead_micros: i64, late_micros: u64) {
        let [due, as_sent] = crossing.timed(ahead_micros);
        for (micros, count) in due {
            self.totals.message.record_micros(micros, count);
            if let Some(reach) = crossing.reach {
                self.totals.reach[reach as usize].record_micros(micros, count);
            }
        }
        for (micros, count) in as_sent {
            self.totals.as_sent.record_micros(micros, count);
        }
        self.totals.route(crossing.route).late += crossing.late(ahead_micros, late_micros);
    }

    /// Users in rooms of more than two, or matched again while in a room.
    pub fn double_matches(&self) -> u64 {
        self.totals.people.double_matches + self.ledger.crowded_users
    }

    /// Matches in time, into a room of exactly two users that both know of, one of whom makes the offer.
    fn good_matches(&self) -> u64 {
        let bad = self.ledger.one_sided_rooms
            + self.double_matches()
            + self.totals.people.self_matches
            + self.ledger.contradictions.same_roles;
        self.totals.people.matched.saturating_sub(bad)
    }

    /// Users who connected and stayed connected, in percent of attempts. While the run is on, attempts under way do not
    /// count. `None`: there were none.
    pub fn connection_success(&self) -> Option<f64> {
        let people = &self.totals.people;
        let excused = self.excused();
        let tried = match self.closed {
            true => people.tried(),
            false => people.connected + people.not_connected,
        };
        let tried = tried.saturating_sub(excused.not_connected);
        let dropped = people.dropped.saturating_sub(excused.dropped);
        percent_of(people.connected.saturating_sub(dropped), tried)
    }

    /// Good matches in percent of the searches that could have had one.
    pub fn match_success(&self) -> Option<f64> {
        let failed = self.matches.failed + self.matches.presumed;
        percent_of(self.good_matches(), self.totals.people.matched + failed)
    }

    /// Messages that the partner received, in percent of those whose partner was there. While the run is on, messages
    /// under way do not count, and a shard does not know where its messages went.
    pub fn message_success(&self) -> Option<f64> {
        if self.closed {
            let settled = self.ledger.total();
            return percent_of(settled.delivered, settled.delivered + settled.lost);
        }
        if self.is_shard() {
            return None;
        }
        let received = self.totals.messages().received;
        percent_of(received, received + self.lost())
    }

    /// Offers and answers that the partner received, in percent of those whose partner was there. Before the end, of
    /// the rooms that are settled.
    pub fn setup_success(&self) -> Option<f64> {
        let kinds = [Kind::OFFER, Kind::ANSWER].map(|kind| &self.ledger.settled[kind.index()]);
        let settled = kinds.into_iter().flatten();
        let [delivered, lost] = settled.fold([0, 0], |sum, one| {
            [sum[0] + one.delivered, sum[1] + one.lost]
        });
        percent_of(delivered, delivered + lost)
    }
}

/// `now - before`.
fn difference(now: u64, before: u64) -> i64 {
    let clamped = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    clamped(now) - clamped(before)
}

#[cfg(test)]
pub mod tests;
