//! The report for people: 90 columns of plain text, the verdict first.

use std::{fmt::Write as _, time::Duration};

use super::QUANTILES;
use crate::{
    sample::Blame,
    summary::{Latencies, ServerWatch, Summary},
    verdict::{Bound, Check, Outcome, Status, Value, Verdict},
};

const RULE: &str =
    "───────────────────────────────────────────────────────────────────────────────────────";

/// Renders a run as text that ends in a line break.
pub fn text(summary: &Summary, verdict: &Verdict) -> String {
    let mut out = String::with_capacity(4096);
    // Writing to a String cannot fail, so what the sections return is not looked at.
    let _ = head(&mut out, summary, verdict)
        .and_then(|()| targets(&mut out, verdict))
        .and_then(|()| users(&mut out, summary))
        .and_then(|()| messages(&mut out, summary))
        .and_then(|()| latencies(&mut out, summary))
        .and_then(|()| errors(&mut out, summary))
        .and_then(|()| resources(&mut out, summary));
    out
}

fn head(out: &mut String, summary: &Summary, verdict: &Verdict) -> std::fmt::Result {
    let about = &summary.about;
    let users = grouped(u64::from(about.plan.users));
    writeln!(out, "{RULE}")?;
    writeln!(
        out,
        "{:<9}{users} users for {} on {}",
        verdict.outcome,
        span(about.active),
        about.target
    )?;
    let meaning = match verdict.outcome {
        Outcome::Pass => "every target holds",
        Outcome::Fail => "a target does not hold",
        Outcome::Invalid => "the measurement itself is not to be trusted",
    };
    let early = if about.interrupted {
        ", ended early"
    } else {
        ""
    };
    writeln!(
        out,
        "{:9}{meaning} (exit code {}{early})",
        "",
        verdict.exit_code()
    )?;
    writeln!(out, "{RULE}")?;
    for why in &verdict.invalid {
        writeln!(out, "INVALID  {why}")?;
    }
    Ok(())
}

fn targets(out: &mut String, verdict: &Verdict) -> std::fmt::Result {
    writeln!(out, "\nTargets")?;
    for Check {
        name,
        measured,
        bound,
        limit,
        status,
    } in &verdict.checks
    {
        let status = match status {
            Status::Held => "ok",
            Status::Failed => "FAILED",
            Status::NoData => "NO DATA",
            Status::NotMeasured => "-",
        };
        let measured = measured.map_or_else(|| "not measured".to_owned(), value);
        let bound = match bound {
            Bound::AtLeast => "at least",
            Bound::Below => "below",
            Bound::AtMost => "at most",
        };
        writeln!(
            out,
            "  {status:<8} {name:<24} {measured:>14}   {bound} {}",
            value(*limit)
        )?;
    }
    Ok(())
}

/// A line of numbers with their names: `Users     10 started   10 connected`.
fn row(out: &mut String, title: &str, cells: &[(u64, &str)]) -> std::fmt::Result {
    write!(out, "{title:<12}")?;
    for (number, name) in cells {
        let cell = format!("{:>11} {name}", grouped(*number));
        write!(out, "{cell:<25}")?;
    }
    let end = out.trim_end().len();
    out.truncate(end);
    writeln!(out)
}

fn users(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let (users, matches) = (&summary.connections, &summary.matches);
    writeln!(out)?;
    let not_connected = users.attempted.saturating_sub(users.succeeded);
    row(
        out,
        "Users",
        &[
            (users.attempted, "started"),
            (users.succeeded, "connected"),
            (users.peak, "at once"),
        ],
    )?;
    row(
        out,
        "",
        &[(not_connected, "not connected"), (users.dropped, "cut off")],
    )?;
    row(
        out,
        "Matches",
        &[
            (matches.searches, "searches"),
            (matches.matched, "matched"),
            (matches.failed, "failed"),
        ],
    )?;
    row(
        out,
        "",
        &[
            (matches.rematches, "rematches"),
            (matches.odd_one_out, "odd one out"),
            (matches.pending, "pending"),
        ],
    )?;
    if matches.one_sided + matches.crowded > 0 {
        row(
            out,
            "",
            &[
                (matches.one_sided, "one-sided"),
                (matches.crowded, "in rooms of more than two"),
            ],
        )?;
    }
    Ok(())
}

fn messages(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let (messages, delivery) = (&summary.messages, &summary.messages.delivery);
    row(
        out,
        "Messages",
        &[
            (messages.sent, "sent"),
            (delivery.delivered, "delivered"),
            (delivery.lost, "lost"),
        ],
    )?;
    row(
        out,
        "",
        &[
            (messages.duplicate, "duplicate"),
            (messages.reordered, "reordered"),
            (messages.wrong_peer, "wrong peer"),
        ],
    )?;
    row(
        out,
        "",
        &[
            (messages.altered, "altered"),
            (delivery.undeliverable, "undeliverable"),
        ],
    )?;
    if messages.foreign + delivery.foreign > 0 {
        row(
            out,
            "",
            &[
                (messages.foreign, "from, and"),
                (delivery.foreign, "to another load test"),
            ],
        )?;
    }
    writeln!(
        out,
        "{:<12}{:>11.1} sent per second",
        "",
        summary.messages_per_second()
    )
}

fn latencies(out: &mut String, summary: &Summary) -> std::fmt::Result {
    write!(out, "\n{:<14}{:>13}", "Latency (ms)", "count")?;
    for (name, _) in QUANTILES {
        write!(out, "{name:>10}")?;
    }
    writeln!(out, "{:>10}", "max")?;
    let all = [
        ("  connect", &summary.connect),
        ("  match", &summary.matching),
        ("  message", &summary.relay),
        ("  own lateness", &summary.lateness),
    ];
    for (name, latencies) in all {
        latency(out, name, latencies)?;
    }
    Ok(())
}

fn latency(out: &mut String, name: &str, latencies: &Latencies) -> std::fmt::Result {
    write!(out, "{name:<14}{:>13}", grouped(latencies.count()))?;
    for (_, q) in QUANTILES {
        write!(
            out,
            "{:>10}",
            latencies
                .quantile(q)
                .map_or_else(|| "-".to_owned(), bare_millis)
        )?;
    }
    writeln!(
        out,
        "{:>10}",
        latencies.max().map_or_else(|| "-".to_owned(), bare_millis)
    )
}

fn errors(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let errors = summary.errors.by_count();
    if errors.is_empty() {
        return writeln!(out, "\nErrors      none");
    }
    writeln!(
        out,
        "\n{:<50}{:>12}  {:<11}first seen",
        "Errors", "count", "blame"
    )?;
    for (kind, error) in errors {
        let blame = match kind.blame() {
            Blame::Generator => "generator",
            Blame::Network => "network",
            Blame::Server => "server",
            Blame::Protocol => "protocol",
        };
        let count = grouped(error.count);
        writeln!(
            out,
            "  {:<48}{count:>12}  {blame:<11}at {}",
            kind.name(),
            span(error.first_at)
        )?;
    }
    Ok(())
}

fn resources(out: &mut String, summary: &Summary) -> std::fmt::Result {
    let used = &summary.about.generator;
    writeln!(
        out,
        "\nGenerator   CPU {:.1} s, {:.1} % of a core; threads {}, the busiest {:.1} %; RSS {}",
        used.cpu_seconds,
        used.cpu_percent,
        used.workers,
        used.busiest_worker_percent,
        bytes(used.rss_peak_bytes)
    )?;
    match summary.about.server {
        ServerWatch::Off => writeln!(out, "Server      its metrics were not read"),
        ServerWatch::Unreadable(_) => {
            writeln!(
                out,
                "Server      its metrics could not be read: see --admin-url"
            )
        }
        ServerWatch::Read(server) => writeln!(
            out,
            "Server      CPU {:.1} s, {:.1} % of a core; RSS {}, at most {}; {} open files",
            server.cpu_seconds,
            server.cpu_percent,
            bytes(server.rss_first_bytes),
            bytes(server.rss_peak_bytes),
            grouped(server.fds_peak)
        ),
    }
}

fn value(value: Value) -> String {
    match value {
        // Rounded down, so that 99.9996 % does not read as all.
        Value::Percent(percent) => format!("{:.2} %", (percent * 100.0).floor() / 100.0),
        Value::Time(time) => format!("{} ms", bare_millis(time)),
        Value::Bytes(n) => bytes(n),
        Value::Count(n) => grouped(n),
    }
}

/// Milliseconds to about three digits.
fn bare_millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        ..10.0 => format!("{millis:.2}"),
        10.0..1000.0 => format!("{millis:.1}"),
        _ => grouped(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Decimal units, as limits are given.
fn bytes(n: u64) -> String {
    match n {
        ..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// A time to the tenth of a second below a minute, to the second above.
fn span(time: Duration) -> String {
    if time < Duration::from_secs(60) {
        return format!("{:.1}s", time.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        let millis = |micros| bare_millis(Duration::from_micros(micros));
        assert_eq!(
            [340, 12_340, 2_000_000].map(millis),
            ["0.34", "12.3", "2,000"]
        );
        assert_eq!(span(Duration::from_millis(1_500)), "1.5s");
        assert_eq!(span(Duration::from_millis(90_500)), "1m 30s");
    }

    #[test]
    fn almost_all_does_not_read_as_all() {
        assert_eq!(value(Value::Percent(99.9999)), "99.99 %");
        assert_eq!(value(Value::Percent(100.0)), "100.00 %");
    }
}
