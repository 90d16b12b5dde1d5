//! The report for a terminal: at most 90 columns of plain text, the verdict and thresholds first.

mod parts;

pub(super) use parts::{columns, unit_of};

use std::fmt::{Result, Write as _};

use super::figures;
use crate::{
    base::units::{self, bare_millis, bytes, count},
    record::{Latency, Record, Status},
};

const RULE: &str =
    "───────────────────────────────────────────────────────────────────────────────────────";

/// Renders a record as text that ends in a line break.
pub fn terminal(record: &Record) -> String {
    let mut out = String::with_capacity(8192);
    // Writing to a String cannot fail, so what the sections return is not looked at.
    let _ = all(&mut out, record);
    // Some of it is what a server said: nothing of that is a command to the terminal.
    out.retain(|character| character == '\n' || !character.is_control());
    out
}

/// Renders a comparison alone.
pub fn comparison(record: &Record) -> String {
    let mut out = String::new();
    let _ = parts::comparison(&mut out, record);
    out
}

fn all(out: &mut String, record: &Record) -> Result {
    head(out, record)?;
    thresholds(out, record)?;
    funnel(out, record)?;
    latencies(out, record)?;
    parts::delivery(out, record)?;
    parts::calls(out, record)?;
    parts::flows(out, record)?;
    phases(out, record)?;
    errors(out, record)?;
    parts::capacity(out, record)?;
    parts::drift(out, record)?;
    parts::recovery(out, record)?;
    resources(out, record)?;
    parts::shards(out, record)?;
    parts::comparison(out, record)?;
    advice(out, record)
}

fn head(out: &mut String, record: &Record) -> Result {
    writeln!(out, "{RULE}")?;
    writeln!(
        out,
        "{:<11}{} (exit code {})",
        figures::outcome(record),
        figures::conclusion(record),
        record.exit_code
    )?;
    writeln!(out, "{:11}{}", "", figures::about(record))?;
    if let Some(build) = &record.run.build {
        writeln!(out, "{:11}build {}", "", short(build, 72))?;
    }
    for remark in figures::remarks(record) {
        writeln!(out, "{:11}{remark}", "")?;
    }
    writeln!(out, "{RULE}")?;
    writeln!(
        out,
        "Measurement {}",
        figures::validity(record.measurement.validity)
    )?;
    for finding in &record.measurement.findings {
        let line = format!("{}: {}", finding.what, finding.advice);
        wrapped(out, "  ", &line)?;
    }
    Ok(())
}

fn thresholds(out: &mut String, record: &Record) -> Result {
    writeln!(out, "\nThresholds")?;
    if record.thresholds.is_empty() {
        writeln!(out, "  none")?;
    }
    for threshold in &record.thresholds {
        let measured = match threshold.status {
            Status::NoData | Status::NotMeasured => "–".to_owned(),
            _ => units::value_or_dash(threshold.measured, &threshold.unit),
        };
        let mut end = String::new();
        if let Some(at) = threshold.failed_at_ms {
            end = format!("  first at {}", units::clock(at));
        }
        if threshold.aborted {
            end.push_str(", ended the run");
        }
        let status = figures::status(threshold.status);
        let line = format!(
            "  {status:<13}{:<44}{measured:>12}{end}",
            threshold.expression
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn funnel(out: &mut String, record: &Record) -> Result {
    writeln!(out, "\nFunnel")?;
    for step in figures::funnel(record) {
        let fraction = if step.of == 0 {
            0.0
        } else {
            step.count as f64 / step.of as f64
        };
        let bar = bar(fraction, 12);
        let line = format!(
            "  {:<24}{:>12} {bar} {:>9}  {}",
            step.name,
            count(step.count),
            units::percent(fraction * 100.0),
            step.rest
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A bar of `width` columns at the most; a fraction that is not nothing shows.
fn bar(fraction: f64, width: u32) -> String {
    let filled = (fraction.clamp(0.0, 1.0) * f64::from(width)).floor();
    let columns = (0..width).map(|column| {
        if f64::from(column) < filled || (column == 0 && fraction > 0.0) {
            '█'
        } else {
            '░'
        }
    });
    columns.collect()
}

fn latencies(out: &mut String, record: &Record) -> Result {
    const QUANTILES: [&str; 5] = ["p50", "p90", "p95", "p99", "p99.9"];
    write!(out, "\n{:<22}{:>11}", "Latency (ms)", "count")?;
    for name in QUANTILES {
        write!(out, "{name:>9}")?;
    }
    writeln!(out, "{:>9}", "max")?;
    let mut censored = 0;
    for (name, latency) in ordered(record) {
        let Latency {
            quantiles_ms,
            max_ms,
            ..
        } = latency;
        let shown = name.replace('_', " ");
        write!(
            out,
            "  {:<20}{:>11}",
            short(&shown, 19),
            count(latency.count)
        )?;
        for quantile in QUANTILES
            .map(|name| quantiles_ms.get(name).copied())
            .iter()
            .chain([max_ms])
        {
            let cell = quantile.map_or_else(|| "–".to_owned(), bare_millis);
            write!(out, "{cell:>9}")?;
        }
        writeln!(out)?;
        // From the moment of sending they are the same ones again.
        if !as_sent(name) {
            censored += latency.censored;
        }
    }
    if censored > 0 {
        wrapped(
            out,
            "  ",
            &format!(
                "{} of these failed and count with the time that they had, as taking at least so long.",
                count(censored)
            ),
        )?;
    }
    Ok(())
}

/// Of what is there from the moment due, too.
fn as_sent(latency: &str) -> bool {
    latency == "message_as_sent" || latency.starts_with("call_as_sent ")
}

/// The latencies of which there are any, in the order of a user's life; calls last.
pub(super) fn ordered(record: &Record) -> Vec<(&str, &Latency)> {
    const ORDER: [&str; 5] = [
        "connect",
        "match",
        "message",
        "message_as_sent",
        "own_lateness",
    ];
    let known = ORDER
        .iter()
        .filter_map(|name| record.latency.get_key_value(*name));
    let others = record
        .latency
        .iter()
        .filter(|(name, _)| !ORDER.contains(&name.as_str()));
    let all = known.chain(others);
    let all = all.filter(|(_, latency)| latency.count > 0);
    all.map(|(name, latency)| (name.as_str(), latency))
        .collect()
}

fn phases(out: &mut String, record: &Record) -> Result {
    if record.phases.len() < 2 {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<22}{:>8}{:>9}{:>8}{:>11}{:>11}{:>11}{:>8}",
        "Phases", "begin", "length", "peak", "connected", "match p95", "msg p99", "errors"
    )?;
    for phase in &record.phases {
        writeln!(
            out,
            "  {:<20}{:>8}{:>9}{:>8}{:>11}{:>11}{:>11}{:>8}",
            short(&phase.name, 19),
            units::clock(phase.start_ms),
            units::span(phase.end_ms - phase.start_ms),
            count(phase.peak_connected),
            units::value_or_dash(phase.connection_success_percent, "percent"),
            units::value_or_dash(phase.match_p95_ms, "ms"),
            units::value_or_dash(phase.message_p99_ms, "ms"),
            count(phase.errors)
        )?;
    }
    Ok(())
}

fn errors(out: &mut String, record: &Record) -> Result {
    if record.errors.is_empty() {
        return writeln!(out, "\nErrors      none");
    }
    writeln!(
        out,
        "\n{:<42}{:>11}  {:<11}first seen",
        "Errors", "count", "blame"
    )?;
    for error in &record.errors {
        writeln!(
            out,
            "  {:<40}{:>11}  {:<11}at {}",
            short(&error.kind, 39),
            count(error.count),
            figures::blame(error.blame),
            units::clock(error.first_at_ms)
        )?;
        if !error.meaning.is_empty() {
            wrapped(out, "      ", &error.meaning)?;
        }
    }
    Ok(())
}

fn resources(out: &mut String, record: &Record) -> Result {
    match &record.server {
        None => writeln!(out, "\nServer      its metrics were not read")?,
        Some(server) => writeln!(
            out,
            "\nServer      CPU {:.1} s, {:.1} % of a core; RSS {} to {}; {} open files",
            server.cpu_seconds,
            server.cpu_percent,
            bytes(server.rss_first_bytes as f64),
            bytes(server.rss_peak_bytes as f64),
            count(server.fds_peak)
        )?,
    }
    let used = &record.generator;
    writeln!(
        out,
        "Generator   CPU {:.1} s, {:.1} % of a core; {}, the busiest {:.1} %; RSS {}",
        used.cpu_seconds,
        used.cpu_percent,
        if used.workers == 1 {
            "1 thread".to_owned()
        } else {
            format!("{} threads", used.workers)
        },
        used.busiest_worker_percent,
        bytes(used.rss_peak_bytes as f64)
    )
}

fn advice(out: &mut String, record: &Record) -> Result {
    if record.advice.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nAdvice")?;
    for advice in &record.advice {
        wrapped(out, "  • ", &advice.text)?;
        wrapped(out, "    because: ", &advice.evidence)?;
    }
    Ok(())
}

/// A text of at most `width` columns: what is too long ends in an ellipsis.
pub(super) fn short(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

/// Words over as many lines of 88 columns as they need, the first behind `start`, the others below it.
fn wrapped(out: &mut String, start: &str, text: &str) -> Result {
    let indent = start.chars().count();
    let mut column = indent;
    write!(out, "{start}")?;
    for (i, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if i > 0 && column + 1 + length > 88 {
            write!(out, "\n{:indent$}", "")?;
            column = indent;
        } else if i > 0 {
            write!(out, " ")?;
            column += 1;
        }
        write!(out, "{word}")?;
        column += length;
    }
    writeln!(out)
}
