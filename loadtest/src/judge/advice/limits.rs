//! Rules on what the server runs out of, and when.

use super::{advice, limit_of};
use crate::{
    base::units::{bytes, clock, count, percent, value},
    record::{Advice, Drift, Record, Status, Window},
};

/// The number of users from which on a latency no longer holds its limit.
pub(super) fn knee(record: &Record) -> Option<Advice> {
    type Quantile = fn(&Window) -> Option<f64>;
    let of: [(&str, Quantile); 2] = [
        ("message_latency", |w| w.message.p95_ms),
        ("match_latency", |w| w.matching.p95_ms),
    ];
    for (name, quantile) in of {
        let Some(limit) = limit_of(record, name).filter(|t| t.status == Status::Failed) else {
            continue;
        };
        let windows = &record.series.windows;
        let over = |window: &Window| quantile(window).is_some_and(|value| value >= limit.limit);
        let Some(first) = windows.windows(3).find(|three| three.iter().all(over)) else {
            continue;
        };
        let at = &first[0];
        let cpu = at.server_cpu_percent;
        let cpu = cpu.map_or_else(String::new, |cpu| {
            format!(", with the server's CPU at {}", percent(cpu))
        });
        return advice(
            format!(
                "Plan for fewer than {} users per server as it is.",
                count(at.connected)
            ),
            format!(
                "p95 stayed above the limit of `{}` from {} on, with {} users connected{cpu}",
                limit.expression,
                clock(at.start_ms),
                count(at.connected)
            ),
        );
    }
    None
}

pub(super) fn busy_server(record: &Record) -> Option<Advice> {
    let windows = record
        .steady_windows()
        .filter(|w| w.server_cpu_percent.is_some());
    let (mut seconds, mut cpu, mut delivered) = (0.0, 0.0, 0);
    for window in windows {
        seconds += window.length_ms / 1e3;
        cpu += window.server_cpu_percent? * window.length_ms / 1e3;
        delivered += window.delivered;
    }
    let used = cpu / seconds;
    if used.is_nan() || used < 80.0 {
        return None;
    }
    let each = if delivered > 0 {
        format!(", {:.1} µs a message", cpu / 100.0 / delivered as f64 * 1e6)
    } else {
        String::new()
    };
    advice(
        "Profile the server under this load, or give it more cores: CPU is what it runs out of first.",
        format!(
            "the server used {} of one core with all users there{each}",
            percent(used)
        ),
    )
}

/// Users who search come in faster than they are matched.
pub(super) fn growing_queue(record: &Record) -> Option<Advice> {
    let windows: Vec<&Window> = record.steady_windows().collect();
    let third = windows.len() / 3;
    if third < 5 {
        return None;
    }
    let mean =
        |part: &[&Window]| part.iter().map(|w| w.searching as f64).sum::<f64>() / part.len() as f64;
    let (first, last) = (
        mean(&windows[..third]),
        mean(&windows[windows.len() - third..]),
    );
    if last < 10.0 || last < first * 2.0 {
        return None;
    }
    advice(
        "Speed the matchmaker up or let in fewer users: the queue grows without end at this load.",
        format!(
            "{first:.0} users searched in the first third of the steady part, {last:.0} in the last"
        ),
    )
}

pub(super) fn growth(record: &Record) -> Option<Advice> {
    let drift = record.drift.iter();
    let sure = drift.filter(|d| d.per_hour > d.uncertainty && d.first > 0.0);
    // What is soonest at its limit; what has none comes last.
    let drift = sure.min_by(|a, b| {
        let hours = |drift: &Drift| drift.hours_to_limit.unwrap_or(f64::INFINITY);
        hours(a).total_cmp(&hours(b))
    })?;
    let unit = match drift.figure.as_str() {
        figure if figure.ends_with("_bytes") => "bytes",
        figure if figure.ends_with("_ms") => "ms",
        _ => "count",
    };
    let what = match drift.figure.as_str() {
        "server_rss_bytes" => {
            "Look for a leak in the server (a heap profile at the begin and at the end of a run)"
        }
        "server_fds" => "Look for sockets or files that the server does not close",
        "generator_rss_bytes" => "Watch the generator's own memory",
        _ => "Find what gets slower with time",
    };
    let end = drift.hours_to_limit.map_or_else(String::new, |hours| {
        format!(", and meets the limit {hours:.1} hours after the end of the run")
    });
    advice(
        format!("{what}: {} grows.", drift.figure),
        format!(
            "it grows by {} ± {} an hour{end}",
            value(drift.per_hour, unit),
            value(drift.uncertainty, unit)
        ),
    )
}

pub(super) fn capacity(record: &Record) -> Option<Advice> {
    let capacity = record.capacity.as_ref()?;
    let evidence = capacity.gave_out.clone();
    let Some(breaks) = capacity.breaks else {
        // A search without a reason was stopped early: its findings say why.
        evidence.as_ref()?;
        return advice(
            "Search higher: the capacity is above the most users that were tried.",
            format!("{} users held every threshold", count(capacity.holds)),
        );
    };
    if capacity.holds == 0 {
        return advice(
            "Start the search lower: not even its first load held.",
            evidence.unwrap_or_else(|| format!("{} users did not hold", count(breaks))),
        );
    }
    advice(
        format!(
            "Run at no more than {} users per server (70 % of what it holds), and soak it there: --scenario endurance --capacity {}.",
            count(capacity.holds * 7 / 10),
            capacity.holds
        ),
        evidence.unwrap_or_else(|| {
            format!(
                "{} users held, {} did not",
                count(capacity.holds),
                count(breaks)
            )
        }),
    )
}

/// How many users a server's memory would do for, if each takes what each took here.
pub(super) fn memory_room(record: &Record) -> Option<Advice> {
    let (server, limit) = (record.server.as_ref()?, limit_of(record, "server_rss")?);
    let users = record.connections.peak;
    let grown = server.rss_peak_bytes.saturating_sub(server.rss_first_bytes) as f64;
    // Of few users what each takes is lost in what the server takes anyway.
    if users < 1000 || grown < 1e6 {
        return None;
    }
    let each = grown / users as f64;
    let room = (limit.limit - server.rss_first_bytes as f64) / each;
    if room > users as f64 * 3.0 {
        return None;
    }
    advice(
        format!(
            "Memory is next: {} would be used up by about {} users.",
            bytes(limit.limit),
            count_of(room)
        ),
        format!(
            "{} users took {} more than none, {} each",
            count(users),
            bytes(grown),
            bytes(each)
        ),
    )
}

/// A large number that is only about right, to two digits.
fn count_of(number: f64) -> String {
    let digits = 10_f64.powf((number.log10() - 1.0).floor());
    value((number / digits).round() * digits, "count")
}
