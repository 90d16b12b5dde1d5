//! Joins the windows of shards that ran at the same time to those of one run.

use std::{collections::BTreeSet, time::Duration};

use super::{Cell, Gauges, joined};
use crate::measure::server_use::Reading;

/// Joins the windows of shards. Each shard comes with the number of its server.
///
/// A window ends where windows of all running shards end; shorter ones of one shard are joined first. Counts, users and
/// resources add up. If several shards read the metrics of one server, the highest reading counts.
pub fn side_by_side(shards: &[(usize, Vec<Cell>)]) -> Vec<Cell> {
    let mut rest: Vec<(usize, &[Cell])> = Vec::new();
    rest.extend(
        shards
            .iter()
            .map(|(server, cells)| (*server, cells.as_slice())),
    );
    let mut all = Vec::new();
    for end in common_ends(shards) {
        let mut parts = Vec::new();
        for (server, cells) in &mut rest {
            let (now, later) = cells.split_at(cells.partition_point(|cell| cell.end() <= end));
            *cells = later;
            parts.extend(joined(now.iter()).map(|cell| (*server, cell)));
        }
        all.extend(beside(parts));
    }
    all
}

/// The moments at which all shards that still run have the end of a window.
fn common_ends(shards: &[(usize, Vec<Cell>)]) -> BTreeSet<Duration> {
    let ends = |cells: &[Cell]| cells.iter().map(Cell::end).collect::<BTreeSet<_>>();
    let of_shards: Vec<BTreeSet<Duration>> = shards.iter().map(|(_, cells)| ends(cells)).collect();
    let mut common: BTreeSet<Duration> = of_shards.iter().flatten().copied().collect();
    common.retain(|end| {
        let mut shards = of_shards.iter();
        shards.all(|ends| ends.contains(end) || ends.last().is_none_or(|last| last < end))
    });
    common
}

/// Joins windows of the same time, each with the number of its server.
fn beside(parts: Vec<(usize, Cell)>) -> Option<Cell> {
    let gauges: Vec<(usize, Gauges)> = parts
        .iter()
        .map(|(server, cell)| (*server, cell.now))
        .collect();
    let (start, end) = (
        parts.iter().map(|(_, cell)| cell.start).min()?,
        parts.iter().map(|(_, cell)| cell.end()).max()?,
    );
    let mut parts = parts.into_iter().map(|(_, cell)| cell);
    let mut all = parts.next()?;
    parts.for_each(|cell| all.join(&cell));
    (all.start, all.length) = (start, end.saturating_sub(start));
    all.now = sum(&gauges);
    Some(all)
}

fn sum(all: &[(usize, Gauges)]) -> Gauges {
    let mut sum = Gauges::default();
    for (_, now) in all {
        sum.connected += now.connected;
        sum.searching += now.searching;
        sum.in_rooms += now.in_rooms;
        sum.generator_cpu_percent += now.generator_cpu_percent;
        sum.generator_rss_bytes += now.generator_rss_bytes;
    }
    let servers: BTreeSet<usize> = all.iter().map(|(server, _)| *server).collect();
    for server in servers {
        let of_server = || {
            all.iter()
                .filter(|(of, _)| *of == server)
                .map(|(_, now)| now)
        };
        let highest = of_server().filter_map(|now| now.server_cpu_percent);
        if let Some(percent) = highest.reduce(f64::max) {
            *sum.server_cpu_percent.get_or_insert(0.0) += percent;
        }
        let readings = of_server().filter_map(|now| now.server);
        let Some(reading) = readings.reduce(|a, b| if b.rss_bytes > a.rss_bytes { b } else { a })
        else {
            continue;
        };
        let reading = Reading {
            max_fds: None,
            ..reading
        };
        sum.server = Some(match sum.server {
            Some(before) => before.beside(reading),
            None => reading,
        });
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::series::Counts;

    fn cell(start: u64, length: u64, users: u64) -> Cell {
        Cell {
            start: Duration::from_millis(start),
            length: Duration::from_millis(length),
            counts: Counts {
                sent: length,
                ..Counts::default()
            },
            now: Gauges {
                connected: users,
                server_cpu_percent: Some(users as f64),
                server: Some(Reading {
                    at: Duration::from_millis(start),
                    cpu_seconds: 1.0,
                    rss_bytes: users * 10,
                    fds: users,
                    max_fds: None,
                    transcribing: None,
                }),
                generator_cpu_percent: 5.0,
                ..Gauges::default()
            },
            ..Cell::default()
        }
    }

    #[test]
    fn windows_are_those_that_all_shards_have() {
        let one = vec![
            cell(0, 1000, 1),
            cell(1000, 1000, 2),
            cell(2000, 1000, 3),
            cell(3000, 200, 0),
        ];
        let other = vec![
            cell(0, 1000, 10),
            cell(1000, 2000, 20),
            cell(3000, 1000, 30),
            cell(4000, 500, 0),
        ];
        let all = side_by_side(&[(0, one), (1, other)]);
        let seen: Vec<_> = all
            .iter()
            .map(|cell| {
                (
                    cell.start.as_millis(),
                    cell.length.as_millis(),
                    cell.counts.sent,
                    cell.now.connected,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (0, 1000, 2000, 11),
                (1000, 2000, 4000, 23),
                (3000, 1000, 1200, 30),
                (4000, 500, 500, 0)
            ]
        );
    }

    #[test]
    fn servers_add_up_and_one_that_was_seen_twice_counts_once() {
        let shard = |users| vec![cell(0, 1000, users)];
        let all = side_by_side(&[(0, shard(1)), (0, shard(2)), (1, shard(3))]);
        let now = all[0].now;
        assert_eq!(now.connected, 6);
        assert_eq!(
            now.server.map(|server| (server.rss_bytes, server.fds)),
            Some((50, 5))
        );
        assert_eq!(now.server_cpu_percent, Some(5.0));
        assert!((now.generator_cpu_percent - 15.0).abs() < 1e-9);
    }
}
