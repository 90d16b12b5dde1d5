//! Merges the records of all shards of a run into one. Pure.
//!
//! The ledgers of a shard are in its record. The code that settles a run in one process adds them up and settles
//! them, and the result is judged in the same way. So a merged record says what the record of the whole run would
//! have said, except for what the clocks of several hosts leave open, which it states.
//!
//! * Counts and histograms add up.
//! * A room with members in two shards is settled by both; searches are classified among all users of
//!   the same server.
//! * A message from one shard to another was timed by two clocks. Their offset is estimated from the shortest
//!   times of messages in each direction, and subtracted.
//! * Windows of time are those of all shards side by side: counts, users and resources add up, and distributions
//!   are merged, so that their quantiles are those of all values, to three percent.
//! * Servers with different addresses add up; a server that several shards observed counts once.

mod clocks;
mod cluster;
mod findings;
mod input;
pub mod start;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use clocks::{Ahead, Clocks};
pub use input::MergeError;
use input::{Part, missing, parts};

use crate::{
    judge::{self, thresholds::Watch},
    measure::{
        books::{About, Books},
        ledger::{Ledger, UNDER_WAY, shifted},
        series::{Cell, Series, side_by_side},
        server_use::ServerUse,
    },
    plan::{limits::MAX_DURATION, threshold::Threshold},
    record::{Record, Run, ShardInfo, ThresholdResult},
};

/// The largest difference of clocks with which a common curve of latencies is still useful.
const NEGLIGIBLE_MICROS: u64 = 1_000;

/// The end of the year 9999.
const LAST_UNIX_MS: u64 = 253_402_300_799_999;

/// Merges the records of the shards of a run, each with its name for errors. `cluster`: the servers of shards with different
/// URLs are one service.
///
/// # Errors
/// They are not shards of one run.
pub fn merge(records: Vec<(String, Record)>, cluster: bool) -> Result<Record, MergeError> {
    let mut parts = parts(records)?;
    let cluster = cluster.then(|| cluster::join(&mut parts));
    let missing = missing(&parts);
    let Some(first) = parts.first() else {
        return Err(MergeError::Nothing);
    };
    let facts = first.shard.plan.clone();
    let mut books = Books::of_shards(time(facts.fair_wait_ms));
    let elapsed = parts.iter().map(|part| time(part.record.run.elapsed_ms));
    let elapsed = elapsed.max().unwrap_or_default();
    let clocks = clocks(&parts);
    for (at, part) in parts.iter_mut().enumerate() {
        let ahead = clocks.ahead(0, at).map_or(0, |ahead| ahead.micros);
        part.books.nodes.by_clock(ahead);
        books.join(&part.books);
    }
    let crossed = cross(&mut books, &parts, &clocks, facts.message_timeout_ms);
    books.series = windows(&mut parts, crossed.curve);
    by_one_clock(&mut parts, &clocks);
    let ledger = match cluster {
        Some(_) => settle_as_one(&mut books, &mut parts),
        None => settle(&mut books, &mut parts),
    };
    let complete = missing.is_empty() && !ledger.forgotten;
    books.conclude(ledger, complete, elapsed);
    let server_expected = parts.iter().any(|part| part.shard.server_expected);
    let thresholds = facts.thresholds.iter();
    let thresholds = thresholds.filter_map(|saved| Threshold::read(saved).ok());
    let (calls, flows) = (facts.calls.clone(), facts.flows.clone());
    let mut watch = Watch::new(thresholds.collect(), calls, flows, server_expected);
    watch.look_back(&books);
    let mut record = judge::weigh(
        &books,
        About {
            urls: cluster.unwrap_or_else(|| facts.servers.clone()),
            ..about(&parts, missing, elapsed, &books, &clocks)
        },
        &mut watch,
    );
    // From the shard that came nearest to its limit: each process has its own limit.
    let open = parts.iter().filter_map(|part| part.record.generator.fds);
    record.generator.fds =
        open.max_by_key(|[open, limit]| open.saturating_mul(1000) / (*limit).max(1));
    for threshold in &mut record.thresholds {
        as_seen_by_shards(threshold, &parts);
    }
    let findings = findings::findings(&record, &parts, &books, &crossed);
    judge::conclude(&mut record, findings);
    Ok(record)
}

fn time(millis: f64) -> Duration {
    // A time longer than any run is damaged: it must not be added to others.
    let time = Duration::try_from_secs_f64(millis / 1e3).ok();
    time.filter(|time| *time <= 100 * MAX_DURATION)
        .unwrap_or_default()
}

/// From 0.
fn place(part: &Part) -> u32 {
    part.shard.index.saturating_sub(1)
}

fn clocks(parts: &[Part]) -> Clocks {
    let at = |shard: u32| parts.iter().position(|part| place(part) == shard);
    let mut least = Vec::new();
    for (to, part) in parts.iter().enumerate() {
        for crossing in part.books.crossings.iter() {
            least.extend(at(crossing.from).map(|from| (from, to, crossing.min_micros)));
        }
    }
    Clocks::new(parts.len(), &least)
}

/// The messages between shards.
#[derive(Debug, Default)]
struct Crossed {
    messages: u64,
    /// How many of them came from shards with an unknown clock.
    untimed: u64,
    /// The largest difference between two clocks, and the largest uncertainty.
    offset_micros: u64,
    uncertainty_micros: u64,
    moved_micros: i64,
    /// Whether the curves of latencies include them.
    curve: bool,
}

/// Computes the latencies of messages between shards.
fn cross(books: &mut Books, parts: &[Part], clocks: &Clocks, late_ms: f64) -> Crossed {
    let mut crossed = Crossed {
        moved_micros: clocks.moved_micros,
        ..Crossed::default()
    };
    let late = u64::try_from(time(late_ms).as_micros()).unwrap_or(u64::MAX);
    for (to, part) in parts.iter().enumerate() {
        for crossing in part.books.crossings.iter() {
            crossed.messages += crossing.count();
            let from = parts.iter().position(|part| place(part) == crossing.from);
            let Some(Ahead {
                micros,
                uncertainty_micros,
            }) = from.and_then(|from| clocks.ahead(from, to))
            else {
                crossed.untimed += crossing.count();
                continue;
            };
            books.time(crossing, micros, late);
            crossed.offset_micros = crossed.offset_micros.max(micros.unsigned_abs());
            let uncertainty = uncertainty_micros.unsigned_abs();
            crossed.uncertainty_micros = crossed.uncertainty_micros.max(uncertainty);
        }
    }
    crossed.curve = crossed.offset_micros <= NEGLIGIBLE_MICROS && crossed.untimed == 0;
    crossed
}

/// The index of each shard's server, by its address, in order of first use.
fn servers(parts: &[Part]) -> BTreeMap<&str, usize> {
    let mut servers = BTreeMap::new();
    for part in parts {
        let next = servers.len();
        servers
            .entry(part.record.run.target.as_str())
            .or_insert(next);
    }
    servers
}

/// The windows of all shards; `curve`: with messages between shards.
fn windows(parts: &mut [Part], curve: bool) -> Series {
    let of_shard: Vec<usize> = {
        let servers = servers(parts);
        let server = |part: &Part| servers.get(part.record.run.target.as_str()).copied();
        parts
            .iter()
            .map(|part| server(part).unwrap_or_default())
            .collect()
    };
    let mut shards = Vec::new();
    for (server, part) in of_shard.into_iter().zip(parts) {
        let mut cells: Vec<Cell> = std::mem::take(&mut part.books.series).into();
        for cell in &mut cells {
            let across = std::mem::take(&mut cell.across);
            let by_reach = std::mem::take(&mut cell.across_by_reach);
            if curve {
                cell.message.join(&across);
                for (mine, theirs) in cell.reach.iter_mut().zip(&by_reach) {
                    mine.join(theirs);
                }
            }
        }
        shards.push((server, cells));
    }
    side_by_side(&shards).into()
}

/// Converts the times of all shards to the clock of the first, as far as it is known.
fn by_one_clock(parts: &mut [Part], clocks: &Clocks) {
    let ahead = |at| clocks.ahead(0, at).map_or(0, |ahead| ahead.micros);
    let all = (0..parts.len()).map(ahead);
    let (first, last) = (all.clone().max().unwrap_or(0), all.min().unwrap_or(0));
    let apart = Duration::from_micros(first.abs_diff(last));
    for (at, part) in parts.iter_mut().enumerate() {
        part.books.ledger.by_clock(ahead(at), apart < UNDER_WAY);
        for search in &mut part.books.unmatched {
            search.from = shifted(search.from, ahead(at));
            search.to = shifted(search.to, ahead(at));
        }
    }
}

/// Merges what belongs to a server: rooms, searches, and its own metrics. Returns the ledger, not settled yet.
fn settle(books: &mut Books, parts: &mut [Part]) -> Ledger {
    let targets: Vec<String> = servers(parts).into_keys().map(str::to_owned).collect();
    let mut ledgers = Vec::new();
    for target in targets {
        let (mut searches, mut ledger, mut server) = (Vec::new(), Vec::new(), ServerUse::default());
        for part in parts
            .iter_mut()
            .filter(|part| part.record.run.target == target)
        {
            searches.append(&mut part.books.unmatched);
            ledger.push(std::mem::take(&mut part.books.ledger));
            server.merge_same(&part.books.server);
        }
        books.classify(searches);
        books.server.merge_other(&server);
        ledgers.push(Ledger::of_shards(ledger));
    }
    Ledger::of_servers(ledgers)
}

/// The same of servers that are one service: rooms may span them, and who waits at one may be matched with who waits at
/// another. Returns the ledger, not settled yet.
fn settle_as_one(books: &mut Books, parts: &mut [Part]) -> Ledger {
    let (mut searches, mut ledgers) = (Vec::new(), Vec::new());
    let mut servers = BTreeMap::<&str, ServerUse>::new();
    for part in parts.iter_mut() {
        searches.append(&mut part.books.unmatched);
        ledgers.push(std::mem::take(&mut part.books.ledger));
        let server = servers.entry(&part.record.run.target).or_default();
        server.merge_same(&part.books.server);
    }
    servers
        .values()
        .for_each(|server| books.server.merge_other(server));
    books.classify(searches);
    Ledger::of_shards(ledgers)
}

fn about(
    parts: &[Part],
    missing_shards: Vec<u32>,
    elapsed: Duration,
    books: &Books,
    clocks: &Clocks,
) -> About {
    let records = || parts.iter().map(|part| &part.record);
    let of_first = &parts[0];
    let facts = &of_first.shard.plan;
    let targets: Vec<&str> = servers(parts).into_keys().collect();
    let commands = records().map(|record| record.run.command.as_str());
    let commands: Vec<&str> = commands.filter(|command| !command.is_empty()).collect();
    let active_ms = records()
        .map(|record| record.run.active_ms)
        .fold(0.0, f64::max);
    let busiest = records().map(|record| record.generator.busiest_worker_percent);
    let side_by_side = books.series.cells().map(|cell| cell.now.connected);
    let alone = records().map(|record| record.connections.peak);
    // No date has more than four digits.
    let started = of_first.record.run.started_at_unix_ms.min(LAST_UNIX_MS);
    let started = Duration::from_millis(started);
    About {
        run: Run {
            target: targets.join(", "),
            interrupted: records().any(|record| record.run.interrupted),
            users: facts.users,
            command: commands.join("\n"),
            shard: None,
            merged_from: parts
                .iter()
                .enumerate()
                .map(|(at, part)| info(part, clocks.ahead(0, at)))
                .collect(),
            missing_shards,
            ..of_first.record.run.clone()
        },
        urls: of_first.shard.plan.servers.clone(),
        started_at: UNIX_EPOCH + started,
        elapsed,
        active: time(active_ms),
        kinds: Vec::new(),
        phases: facts.phases.clone(),
        steady: [time(facts.ramp_ms), time(active_ms)],
        peak_connected: side_by_side.chain(alone).max().unwrap_or(0),
        workers: records().map(|record| record.generator.workers).sum(),
        busiest_worker_percent: busiest.fold(0.0, f64::max),
        server_expected: parts.iter().any(|part| part.shard.server_expected),
        shard: None,
    }
}

fn info(part: &Part, ahead: Option<Ahead>) -> ShardInfo {
    ShardInfo {
        index: part.shard.index,
        host: part.shard.host.clone(),
        started_at: part.record.run.started_at.clone(),
        clock_offset_ms: ahead.map(|ahead| ahead.micros as f64 / 1e3),
        clock_uncertainty_ms: ahead.map(|ahead| ahead.uncertainty_micros as f64 / 1e3),
    }
}

/// The first failures of thresholds, and whether one ended a run: the shards saw them during the run.
fn as_seen_by_shards(threshold: &mut ThresholdResult, parts: &[Part]) {
    let of_shards = parts.iter().flat_map(|part| &part.record.thresholds);
    let same: Vec<_> = of_shards
        .filter(|one| one.expression == threshold.expression)
        .collect();
    if same.iter().any(|one| one.aborted) {
        threshold.aborted = true;
        threshold.status = crate::record::Status::Failed;
    }
    if threshold.status == crate::record::Status::Failed {
        let seen = same.iter().filter_map(|one| one.failed_at_ms);
        threshold.failed_at_ms = seen.chain(threshold.failed_at_ms).reduce(f64::min);
    }
}
