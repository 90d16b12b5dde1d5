//! Rules on what went wrong.

use super::advice;
use crate::{
    base::units::{clock, count, millis, value_or_dash},
    record::{Advice, Blame, Delivery, Record, Window},
};

pub(super) fn misdelivery(record: &Record) -> Option<Advice> {
    let sum = |of: fn(&Delivery) -> u64| record.delivery.iter().map(of).sum::<u64>();
    let parts = [
        (sum(|d| d.wrong_peer), "with the wrong peer"),
        (sum(|d| d.altered), "altered"),
        (sum(|d| d.duplicate), "duplicated"),
        (sum(|d| d.reordered), "out of order"),
    ];
    let seen = parts.iter().filter(|(n, _)| *n > 0);
    let seen: Vec<String> = seen
        .map(|(n, what)| format!("{} {what}", count(*n)))
        .collect();
    if seen.is_empty() {
        return None;
    }
    advice(
        "Mend delivery before speed: messages did not arrive as they were sent, and to whom.",
        seen.join(", "),
    )
}

pub(super) fn wrong_rooms(record: &Record) -> Option<Advice> {
    let matches = &record.matches;
    let parts = [
        (matches.one_sided, "one-sided"),
        (matches.double, "in two rooms or in a crowded one"),
        (matches.self_matches, "with themselves"),
    ];
    let seen = parts.iter().filter(|(n, _)| *n > 0);
    let seen: Vec<String> = seen
        .map(|(n, what)| format!("{} {what}", count(*n)))
        .collect();
    if seen.is_empty() {
        return None;
    }
    advice(
        "Look for a race in the matchmaker: a room is made of two users, and both are told.",
        format!("of {} matches: {}", count(matches.matched), seen.join(", ")),
    )
}

pub(super) fn most_frequent_error(record: &Record) -> Option<Advice> {
    let mut errors = record.errors.iter();
    let error = errors.find(|error| error.blame != Blame::Generator && error.count > 0)?;
    let all: u64 = record.errors.iter().map(|error| error.count).sum();
    let look = match error.blame {
        Blame::Network => "Look at the path to the server and at its accept queue",
        Blame::Server => "Look at the server's log",
        Blame::Protocol => "Compare what both sides say with the protocol",
        Blame::Generator => return None,
    };
    let (first, mut around) = (clock(error.first_at_ms), String::new());
    let mut evidence = format!(
        "{} of {} errors are {}",
        count(error.count),
        count(all),
        error.kind
    );
    // What was found when nobody sent any more happened before, and nobody knows when.
    if error.first_at_ms <= record.run.active_ms {
        around = format!(" around {first}");
        evidence.push_str(&format!(", the first at {first}"));
    }
    advice(format!("{look}{around}: {}.", error.meaning), evidence)
}

/// Seconds in which messages waited: one in twenty, or most of them, took far longer than in the seconds around. Those
/// that waited for their receiver to come back are not meant.
pub(super) fn stall(record: &Record) -> Option<Advice> {
    let longest = |window: &Window| window.message.max_ms;
    let windows: Vec<&Window> = record
        .steady_windows()
        .filter(|w| w.message.p50_ms.is_some() && w.resumed == 0)
        .collect();
    let mut usual: Vec<f64> = windows
        .iter()
        .filter_map(|window| longest(window))
        .collect();
    usual.sort_by(f64::total_cmp);
    let middle = *usual.get(usual.len() / 2)?;
    let long = Some(middle.max(50.0) * 3.0);
    // One in twenty at least: not one unlucky message.
    let stalls = windows.iter().filter(|w| w.message.p95_ms > long);
    let stalls: Vec<&&Window> = stalls.collect();
    let most = stalls.iter().filter(|w| w.message.p50_ms > long).count();
    let worst = stalls.iter().max_by(|a, b| {
        longest(a)
            .unwrap_or(0.0)
            .total_cmp(&longest(b).unwrap_or(0.0))
    })?;
    let lateness = worst.own_lateness.max_ms.unwrap_or(0.0);
    if lateness * 2.0 > longest(worst)? {
        return advice(
            "Keep the generator's machine quiet: it paused itself, and took the latencies with it.",
            format!(
                "at {} the generator was {} late",
                clock(worst.start_ms),
                millis(lateness)
            ),
        );
    }
    let at = clock(worst.start_ms);
    let (text, seen, which) = if most > 0 {
        let text = format!(
            "Find what the server did at {at}: it paused (blocking work, a lock, a flush to disk, a collection of garbage)."
        );
        (text, most, "most messages")
    } else {
        let text = format!(
            "Find what slowed a part of the messages at {at}: the path of some connections, or a short pause of the server."
        );
        (text, stalls.len(), "one message in twenty, or more,")
    };
    let windows = if seen == 1 { "window" } else { "windows" };
    advice(
        text,
        format!(
            "{seen} {windows} in which {which} waited; the longest took {}, where {} is usual, while the generator was at most {} late",
            millis(longest(worst)?),
            millis(middle),
            millis(lateness)
        ),
    )
}

pub(super) fn recovery(record: &Record) -> Option<Advice> {
    let recovery = record.recovery.as_ref()?;
    let dropped = count(recovery.dropped);
    match (
        recovery.connected_99_percent_ms,
        recovery.matched_99_percent_ms,
    ) {
        (None, _) => advice(
            "Let clients spread their reconnects (exponential back-off with jitter) and raise the listen backlog.",
            format!(
                "of {dropped} users who were dropped, fewer than 99 % were connected again within the run"
            ),
        ),
        (Some(connected), None) if recovery.paired > 0 => advice(
            "Look at what happens to those who were in rooms: they come back, but find no partner.",
            format!(
                "99 % of {dropped} were connected again after {}, but of the {} who had a partner or were \
                 looking for one, fewer were matched within the run",
                millis(connected),
                count(recovery.paired)
            ),
        ),
        (Some(connected), Some(matched)) if matched > 10_000.0 => advice(
            "Spread reconnects, or speed up the slower of the two: connecting and matching.",
            format!(
                "of {dropped} users 99 % were connected again after {} and matched after {}",
                millis(connected),
                millis(matched)
            ),
        ),
        _ => None,
    }
}

pub(super) fn regression(record: &Record) -> Option<Advice> {
    let comparison = record.comparison.as_ref()?;
    let worse = comparison.worse().map(|figure| {
        let interval = figure
            .ratio_interval
            .map_or_else(String::new, |[low, high]| {
                format!(
                    " ({:+.0} to {:+.0} %)",
                    (low - 1.0) * 100.0,
                    (high - 1.0) * 100.0
                )
            });
        let of = |number| value_or_dash(number, &figure.unit);
        format!(
            "{} {} → {}{interval}",
            figure.name,
            of(figure.baseline),
            of(figure.current)
        )
    });
    let worse: Vec<String> = worse.collect();
    if worse.is_empty() {
        return None;
    }
    advice(
        format!(
            "Find the change since {}: this run is worse by more than chance.",
            comparison.baseline
        ),
        worse.join("; "),
    )
}
