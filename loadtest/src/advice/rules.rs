//! The rules, in the order in which their advice is given.

use crate::{
    compare,
    record::{Advice, Record, Status, ThresholdResult, Validity, Window},
    report::{bytes, clock, count, millis, percent, value},
    sample::Blame,
    steady,
};

type Rule = fn(&Record) -> Option<Advice>;

pub(super) const ALL: [Rule; 18] = [
    measurement,
    generator_errors,
    late_generator,
    missing_shares,
    no_data,
    misdelivery,
    wrong_rooms,
    most_frequent_error,
    stall,
    knee,
    busy_server,
    growing_queue,
    growth,
    recovery,
    regression,
    capacity,
    memory_room,
    few_samples,
];

fn advice(text: impl Into<String>, evidence: impl Into<String>) -> Option<Advice> {
    Some(Advice {
        text: text.into(),
        evidence: evidence.into(),
    })
}

fn quantile(record: &Record, latency: &str, name: &str) -> Option<f64> {
    record.latency.get(latency)?.quantiles_ms.get(name).copied()
}

fn limit_of<'a>(record: &'a Record, prefix: &str) -> Option<&'a ThresholdResult> {
    let mut thresholds = record.thresholds.iter();
    thresholds.find(|threshold| threshold.name.starts_with(prefix))
}

/// What was found against the measurement comes before all that it measured.
fn measurement(record: &Record) -> Option<Advice> {
    let findings = record.measurement.findings.iter();
    let worst = findings.max_by_key(|finding| finding.validity)?;
    let but = match worst.validity {
        Validity::Valid => return None,
        Validity::Suspect => "Before you rely on these figures",
        Validity::Invalid => "Do not use these figures",
    };
    advice(format!("{but}: {}.", worst.advice), worst.what.clone())
}

fn generator_errors(record: &Record) -> Option<Advice> {
    let mut errors = record.errors.iter();
    let error = errors.find(|error| error.blame == Blame::Generator && error.count > 0)?;
    advice(
        "Mend the machine that generates the load first: the server had no part in these errors.",
        format!("{} × {}: {}", count(error.count), error.kind, error.meaning),
    )
}

/// Messages that were sent late by this program look slow although the server was quick.
fn late_generator(record: &Record) -> Option<Advice> {
    let due = quantile(record, "message", "p99")?;
    let sent = quantile(record, "message_as_sent", "p99")?;
    let late = quantile(record, "own_lateness", "p99")?;
    if late < 5.0 || due < sent * 1.2 {
        return None;
    }
    advice(
        "Give the generator more CPU, or split the plan with --shard: a part of the latency is its own.",
        format!(
            "message p99 is {} from the moment due and {} as sent; the generator's own lateness p99 is {}",
            millis(due),
            millis(sent),
            millis(late)
        ),
    )
}

fn missing_shares(record: &Record) -> Option<Advice> {
    let missing = &record.run.missing_shards;
    (!missing.is_empty()).then_some(())?;
    advice(
        "Merge again when the missing shares are there: totals and thresholds are those of a part of the plan.",
        format!("missing shares: {missing:?}"),
    )
}

fn no_data(record: &Record) -> Option<Advice> {
    let empty = record
        .thresholds
        .iter()
        .filter(|t| t.status == Status::NoData);
    let empty: Vec<&str> = empty
        .map(|threshold| threshold.expression.as_str())
        .collect();
    if empty.is_empty() {
        return None;
    }
    let server = empty
        .iter()
        .any(|expression| expression.starts_with("server"));
    let text = if server && record.server.is_none() {
        "Give the address of the server's metrics with --admin-url: what is not measured cannot hold."
    } else {
        "Run longer, or drop the thresholds that this scenario has no data for: what is not measured cannot hold."
    };
    advice(text, format!("without data: {}", empty.join("; ")))
}

fn misdelivery(record: &Record) -> Option<Advice> {
    let sum = |of: fn(&crate::record::Delivery) -> u64| record.delivery.iter().map(of).sum::<u64>();
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

fn wrong_rooms(record: &Record) -> Option<Advice> {
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

fn most_frequent_error(record: &Record) -> Option<Advice> {
    let mut errors = record.errors.iter();
    let error = errors.find(|error| error.blame != Blame::Generator && error.count > 0)?;
    let all: u64 = record.errors.iter().map(|error| error.count).sum();
    let look = match error.blame {
        Blame::Network => "Look at the path to the server and at its accept queue",
        Blame::Server => "Look at the server's log",
        Blame::Protocol => "Compare what both sides say with the protocol",
        Blame::Generator => return None,
    };
    advice(
        format!(
            "{look} around {}: {}.",
            clock(error.first_at_ms),
            error.meaning
        ),
        format!(
            "{} of {} errors are {}, the first at {}",
            count(error.count),
            count(all),
            error.kind,
            clock(error.first_at_ms)
        ),
    )
}

/// A second in which all users waited: its worst is far above that of the seconds around it.
fn stall(record: &Record) -> Option<Advice> {
    let longest = |window: &Window| window.message.max_ms;
    let windows: Vec<&Window> = steady::windows(record)
        .filter(|w| w.message.p50_ms.is_some())
        .collect();
    let mut usual: Vec<f64> = windows
        .iter()
        .filter_map(|window| longest(window))
        .collect();
    usual.sort_by(f64::total_cmp);
    let middle = *usual.get(usual.len() / 2)?;
    // Most of those who were under way have to have waited: p95 too, not one unlucky message.
    let stalls: Vec<&&Window> = windows
        .iter()
        .filter(|w| w.message.p95_ms > Some(middle.max(50.0) * 3.0))
        .collect();
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
    advice(
        format!(
            "Find what the server did at {}: it paused (blocking work, a lock, a flush to disk, a collection of garbage).",
            clock(worst.start_ms)
        ),
        format!(
            "{} {} in which nearly all messages waited; the longest took {}, where {} is usual, while the generator was at most {} late",
            stalls.len(),
            if stalls.len() == 1 {
                "window"
            } else {
                "windows"
            },
            millis(longest(worst)?),
            millis(middle),
            millis(lateness)
        ),
    )
}

/// The number of users from which on a latency no longer holds its limit.
fn knee(record: &Record) -> Option<Advice> {
    let of: [(&str, fn(&Window) -> Option<f64>); 2] = [
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

fn busy_server(record: &Record) -> Option<Advice> {
    let windows = steady::windows(record).filter(|w| w.server_cpu_percent.is_some());
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
fn growing_queue(record: &Record) -> Option<Advice> {
    let windows: Vec<&Window> = steady::windows(record).collect();
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

fn growth(record: &Record) -> Option<Advice> {
    let drift = record.drift.iter();
    let sure = drift.filter(|d| d.per_hour > d.uncertainty && d.first > 0.0);
    // What is soonest at its limit; what has none comes last.
    let drift = sure.min_by(|a, b| {
        let hours = |drift: &crate::record::Drift| drift.hours_to_limit.unwrap_or(f64::INFINITY);
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

fn recovery(record: &Record) -> Option<Advice> {
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
        (Some(connected), None) => advice(
            "Look at what happens to those who were in rooms: they come back, but find no partner.",
            format!(
                "99 % of {dropped} were connected again after {}, but not matched within the run",
                millis(connected)
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

fn regression(record: &Record) -> Option<Advice> {
    let comparison = record.comparison.as_ref()?;
    let worse = compare::worse(comparison).map(|figure| {
        let interval = figure
            .ratio_interval
            .map_or_else(String::new, |[low, high]| {
                format!(
                    " ({:+.0} to {:+.0} %)",
                    (low - 1.0) * 100.0,
                    (high - 1.0) * 100.0
                )
            });
        let of = |value: Option<f64>| {
            value.map_or_else(|| "–".to_owned(), |v| self::value(v, &figure.unit))
        };
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

fn capacity(record: &Record) -> Option<Advice> {
    let capacity = record.capacity.as_ref()?;
    let evidence = capacity.gave_out.clone();
    let Some(breaks) = capacity.breaks else {
        return advice(
            "Search higher: the breaking point lies beyond the most users that were tried.",
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
            "Run at no more than {} users per server (70 % of what it holds), and soak it there: --scenario endurance --users {}.",
            count(capacity.holds * 7 / 10),
            capacity.holds * 7 / 10
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
fn memory_room(record: &Record) -> Option<Advice> {
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

fn few_samples(record: &Record) -> Option<Advice> {
    let few = record.latency.iter().filter(|(name, latency)| {
        (1..1000).contains(&latency.count) && !name.starts_with("own") && !name.ends_with("as_sent")
    });
    let few: Vec<String> = few
        .map(|(name, latency)| format!("{name} {}", count(latency.count)))
        .collect();
    if few.is_empty() {
        return None;
    }
    advice(
        "Do not lean on the highest percentiles: p99 of fewer than 1,000 measurements is a matter of its ten slowest.",
        format!("measurements: {}", few.join(", ")),
    )
}
