//! The windows of a run: one a second. Old ones are joined to longer ones, so that a run of days fits into memory.

use std::{collections::VecDeque, time::Duration};

use derive_more::AddAssign;
use serde::{Deserialize, Serialize};

use crate::{
    base::units::percent_of,
    measure::{
        histogram::sparse::{Spread, heat_bounds_ms},
        reach::Reach,
        server_use::{Reading, Transcribing},
    },
    record,
};

mod side_by_side;
#[cfg(test)]
mod tests;
pub use side_by_side::side_by_side;

/// Number and length in seconds of the windows of each level. The oldest of a full level are joined to one of the next:
/// seconds for ten minutes, ten seconds for an hour, two minutes for two days, then ten minutes.
const LEVELS: [(usize, u64); 4] = [(600, 1), (360, 10), (1500, 120), (4500, 600)];

/// All windows of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Cell>", into = "Vec<Cell>")]
pub struct Series {
    /// As in [`LEVELS`].
    levels: [VecDeque<Cell>; LEVELS.len()],
}

/// One window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cell {
    pub start: Duration,
    pub length: Duration,
    pub counts: Counts,
    /// At the end of the window.
    pub now: Gauges,
    pub connect: Spread,
    pub matching: Spread,
    pub message: Spread,
    /// The same by [`Reach`]; empty if there is one server.
    #[serde(default)]
    pub reach: [Spread; Reach::ALL.len()],
    /// Latencies of messages between shards, by both clocks as they are; not in `message`.
    pub across: Spread,
    #[serde(default)]
    pub across_by_reach: [Spread; Reach::ALL.len()],
    pub as_sent: Spread,
    pub lateness: Spread,
    /// By the number of the call.
    pub calls: Vec<Spread>,
}

/// Counts of one window.
#[derive(AddAssign, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub attempts: u64,
    pub connects: u64,
    #[serde(default)]
    pub failed_connects: u64,
    pub drops: u64,
    pub matches: u64,
    pub failed_matches: u64,
    pub sent: u64,
    pub delivered: u64,
    pub refused: u64,
    /// Newly found to be lost. Negative: messages presumed lost came after all.
    #[serde(default)]
    pub lost: i64,
    pub misdelivered: u64,
    /// Calls that were answered.
    #[serde(default)]
    pub answered: u64,
    /// Sessions that went on over another connection.
    #[serde(default)]
    pub resumed: u64,
    pub failures: u64,
}

/// Gauges at the end of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Gauges {
    pub connected: u64,
    pub searching: u64,
    pub in_rooms: u64,
    pub server: Option<Reading>,
    /// The server's CPU since the window before, in percent of one core.
    pub server_cpu_percent: Option<f64>,
    pub generator_cpu_percent: f64,
    pub generator_rss_bytes: u64,
}

impl Cell {
    pub fn end(&self) -> Duration {
        self.start.saturating_add(self.length)
    }

    /// Adds the window that follows.
    pub fn join(&mut self, next: &Self) {
        // Without `..`: a new field that is not joined does not compile.
        let Self {
            start: _,
            length,
            counts,
            now,
            connect,
            matching,
            message,
            reach,
            across,
            across_by_reach,
            as_sent,
            lateness,
            calls,
        } = next;
        let weights = [self.length.as_secs_f64(), length.as_secs_f64()];
        self.now = self.now.followed_by(now, weights);
        self.length = self.length.saturating_add(*length);
        self.counts += *counts;
        self.connect.join(connect);
        self.matching.join(matching);
        self.message.join(message);
        self.across.join(across);
        for (mine, theirs) in self.reach.iter_mut().zip(reach) {
            mine.join(theirs);
        }
        for (mine, theirs) in self.across_by_reach.iter_mut().zip(across_by_reach) {
            mine.join(theirs);
        }
        self.as_sent.join(as_sent);
        self.lateness.join(lateness);
        if self.calls.len() < calls.len() {
            self.calls.resize_with(calls.len(), Spread::default);
        }
        for (mine, theirs) in self.calls.iter_mut().zip(calls) {
            mine.join(theirs);
        }
    }

    fn to_record(&self) -> record::Window {
        let (counts, now) = (&self.counts, &self.now);
        let mut calls = Spread::default();
        self.calls.iter().for_each(|call| calls.join(call));
        record::Window {
            start_ms: record::digits(self.start.as_secs_f64() * 1e3),
            length_ms: record::digits(self.length.as_secs_f64() * 1e3),
            connected: now.connected,
            searching: now.searching,
            in_rooms: now.in_rooms,
            attempts: counts.attempts,
            connects: counts.connects,
            matches: counts.matches,
            sent: counts.sent,
            delivered: counts.delivered,
            answered: counts.answered,
            resumed: counts.resumed,
            errors: counts.failures,
            connect: self.connect.quantiles(),
            matching: self.matching.quantiles(),
            message: self.message.quantiles(),
            message_local: self.reach[Reach::Local as usize].quantiles(),
            message_remote: self.reach[Reach::Remote as usize].quantiles(),
            call: calls.quantiles(),
            own_lateness: self.lateness.quantiles(),
            heat: self.message.heat(),
            server_cpu_percent: now.server_cpu_percent.map(record::digits),
            server_rss_bytes: now.server.map(|server| server.rss_bytes),
            server_fds: now.server.map(|server| server.fds),
            server_queue: now.transcribing().map(|it| it.queue),
            server_spill_bytes: now.transcribing().map(|it| it.spill_bytes),
            generator_cpu_percent: record::digits(now.generator_cpu_percent),
            generator_rss_bytes: now.generator_rss_bytes,
        }
    }
}

impl Gauges {
    /// `None`: the server does not transcribe, or was not read.
    pub fn transcribing(&self) -> Option<Transcribing> {
        self.server?.transcribing
    }

    /// The gauges of this window and the next as one: CPU is averaged by length, the rest is that of the end.
    fn followed_by(&self, next: &Self, [mine, theirs]: [f64; 2]) -> Self {
        let mean =
            |a: f64, b: f64| (a * mine + b * theirs) / (mine + theirs).max(f64::MIN_POSITIVE);
        Self {
            server_cpu_percent: match (self.server_cpu_percent, next.server_cpu_percent) {
                (Some(a), Some(b)) => Some(mean(a, b)),
                (a, b) => a.or(b),
            },
            generator_cpu_percent: mean(self.generator_cpu_percent, next.generator_cpu_percent),
            server: next.server.or(self.server),
            ..*next
        }
    }
}

impl Counts {
    /// Users who connected and stayed connected, in percent of attempts that succeeded or failed. `None`: there were none.
    pub fn connection_success(&self) -> Option<f64> {
        let stayed = self.connects.saturating_sub(self.drops);
        percent_of(stayed, self.connects + self.failed_connects)
    }

    /// Matches in percent of searches that could have had one. `None`: there were none.
    pub fn match_success(&self) -> Option<f64> {
        percent_of(self.matches, self.matches + self.failed_matches)
    }

    /// Messages that came, in percent of messages that came or were lost. `None`: there were none.
    pub fn message_success(&self) -> Option<f64> {
        let lost = u64::try_from(self.lost).unwrap_or(0);
        percent_of(self.delivered, self.delivered.saturating_add(lost))
    }
}

impl Series {
    /// Adds the latest window.
    pub fn push(&mut self, cell: Cell) {
        self.levels[0].push_back(cell);
        for level in 0..LEVELS.len() - 1 {
            let windows = &mut self.levels[level];
            let (keep, seconds) = (LEVELS[level].0, LEVELS[level + 1].1);
            if windows.len() <= keep {
                return;
            }
            let Some(mut joined) = windows.pop_front() else {
                return;
            };
            // Ends at a multiple of the next length, so that the windows of all shards begin and end together.
            let end =
                Duration::from_secs((joined.start.as_secs() / seconds + 1).saturating_mul(seconds));
            while joined.end() < end
                && let Some(next) = windows.pop_front()
            {
                joined.join(&next);
            }
            self.levels[level + 1].push_back(joined);
        }
    }

    /// All windows in order of time.
    pub fn cells(&self) -> impl DoubleEndedIterator<Item = &Cell> {
        self.levels.iter().rev().flatten()
    }

    /// The last windows with a total of at least `length`, as one. `None`: the run is shorter.
    pub fn last(&self, length: Duration) -> Option<Cell> {
        self.until(Duration::MAX, length)
    }

    /// [`Self::last`] as of `end`.
    pub fn until(&self, end: Duration, length: Duration) -> Option<Cell> {
        // Ticks are not exactly a second apart: a window of 30 s is 30 ticks.
        let slack = Duration::from_millis(500);
        let mut cells: Vec<&Cell> = Vec::new();
        let mut sum = Duration::ZERO;
        for cell in self.cells().rev().skip_while(|cell| cell.end() > end) {
            cells.push(cell);
            sum = sum.saturating_add(cell.length);
            if sum.saturating_add(slack) >= length {
                return joined(cells.into_iter().rev());
            }
        }
        None
    }

    /// The windows whose middle lies between `start` and `end`, as one.
    pub fn between(&self, start: Duration, end: Duration) -> Option<Cell> {
        let within =
            |cell: &&Cell| (start..end).contains(&cell.start.saturating_add(cell.length / 2));
        joined(self.cells().filter(within))
    }

    /// Changes each window.
    pub fn each(&mut self, change: impl FnMut(&mut Cell)) {
        self.levels.iter_mut().flatten().for_each(change);
    }

    /// The latest window.
    pub fn last_mut(&mut self) -> Option<&mut Cell> {
        self.levels.iter_mut().find_map(VecDeque::back_mut)
    }

    /// The window that contains this moment.
    pub fn at(&mut self, moment: Duration) -> Option<&mut Cell> {
        self.levels.iter_mut().find_map(|level| {
            let place = level.partition_point(|cell| cell.end() <= moment);
            level.get_mut(place).filter(|cell| cell.start <= moment)
        })
    }

    pub fn to_record(&self) -> record::Series {
        record::Series {
            heat_bounds_ms: heat_bounds_ms(),
            windows: self.cells().map(Cell::to_record).collect(),
        }
    }
}

impl From<Series> for Vec<Cell> {
    fn from(series: Series) -> Self {
        series.levels.into_iter().rev().flatten().collect()
    }
}

/// For a run that is over: its windows stay as they are.
impl From<Vec<Cell>> for Series {
    fn from(cells: Vec<Cell>) -> Self {
        let mut series = Self::default();
        series.levels[0] = cells.into();
        series
    }
}

fn joined<'a>(mut cells: impl Iterator<Item = &'a Cell>) -> Option<Cell> {
    let mut all = cells.next()?.clone();
    cells.for_each(|cell| all.join(cell));
    Some(all)
}
