//! Reasons to doubt a merged record: those of its shards, and those between them.

use super::{Crossed, Part};
use crate::{
    base::units::{count, millis},
    judge::validity,
    measure::books::Books,
    record::{Finding, Record, Validity},
};

/// How late a shard may be ready to start, in milliseconds.
const STARTED_LATE_MS: f64 = 100.0;

/// The largest difference of the clocks at the start, in microseconds.
const STARTED_APART_MICROS: u64 = 100_000;

pub(super) fn findings(
    record: &Record,
    parts: &[Part],
    books: &Books,
    crossed: &Crossed,
) -> Vec<Finding> {
    let unread = |part: &&Part| part.shard.server_expected && part.record.server.is_none();
    let server_unread = parts.iter().any(|part| unread(&part));
    let mut all = Vec::new();
    for part in parts {
        for mut finding in validity::of_generator(&part.record) {
            finding.what = format!("shard {}: {}", part.shard.index, finding.what);
            all.push(finding);
        }
        if part.shard.started_late_ms > STARTED_LATE_MS {
            all.push(finding(
                Validity::Suspect,
                format!(
                    "shard {} was ready only {} after the start",
                    part.shard.index,
                    millis(part.shard.started_late_ms)
                ),
                "Give a later --start-at, so that all are ready before it",
            ));
        }
    }
    all.extend(validity::of_run(
        record,
        books.totals.foreign,
        server_unread,
    ));
    all.extend(versions(parts));
    if books.ledger.forgotten {
        all.push(finding(
            Validity::Suspect,
            format!(
                "{} room stays were dropped before the partners' records came: the fate of their messages is unknown",
                count(books.ledger.unknown_stays)
            ),
            "Run for a shorter time, or with users who change rooms less often",
        ));
    }
    all.extend(of_clocks(crossed));
    all
}

fn finding(validity: Validity, what: String, advice: &str) -> Finding {
    Finding {
        validity,
        what,
        advice: advice.to_owned(),
    }
}

fn versions(parts: &[Part]) -> Option<Finding> {
    let mut versions: Vec<&str> = Vec::new();
    for part in parts {
        let version = part.record.run.version.as_str();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    (versions.len() > 1).then(|| {
        finding(
            Validity::Suspect,
            format!(
                "the shards ran different versions of loadtest: {}",
                versions.join(", ")
            ),
            "Run all shards with the same version",
        )
    })
}

/// What two clocks leave open.
fn of_clocks(crossed: &Crossed) -> Vec<Finding> {
    let shown = |micros: u64| millis(micros as f64 / 1e3);
    let mut all = Vec::new();
    if crossed.untimed > 0 {
        all.push(finding(
            Validity::Suspect,
            format!(
                "{} of {} messages between shards have no latency: no messages went the other way, or that shard is missing",
                count(crossed.untimed),
                count(crossed.messages)
            ),
            "Merge the records of all shards, or run longer",
        ));
    }
    if crossed.moved_micros > 0 {
        all.push(finding(
            Validity::Suspect,
            format!(
                "the clocks of the hosts moved against each other by about {} during the run",
                shown(crossed.moved_micros.unsigned_abs())
            ),
            "Synchronize the clocks of all hosts, for example by NTP",
        ));
    }
    if crossed.offset_micros > STARTED_APART_MICROS {
        all.push(finding(
            Validity::Suspect,
            format!(
                "the shards did not start together: their clocks were up to {} apart",
                shown(crossed.offset_micros)
            ),
            "Synchronize the clocks of all hosts, for example by NTP",
        ));
    }
    if crossed.messages > crossed.untimed {
        let figures = format!(
            "{} messages went between shards and are timed by two clocks, whose offsets (at most {}) are taken off and known to ± {}",
            count(crossed.messages - crossed.untimed),
            shown(crossed.offset_micros),
            shown(crossed.uncertainty_micros)
        );
        let curve = if crossed.curve {
            "The curves of latency over time show them by the clocks as they were"
        } else {
            "The curves of latency over time are without them"
        };
        all.push(finding(Validity::Valid, figures, curve));
    }
    all
}
