//! The sections that only some runs have.

use std::fmt::{Result, Write as _};

use super::{short, wrapped};
use crate::{
    base::units::{self, count},
    record::{Delivery, Record},
    report::figures,
};

/// Messages by type and direction; the columns that are all zero are left out.
pub(super) fn delivery(out: &mut String, record: &Record) -> Result {
    if record.delivery.is_empty() {
        return Ok(());
    }
    let columns = columns(record);
    write!(out, "\n{:<34}", "Delivery")?;
    for (name, _) in &columns {
        write!(out, "{name:>11}")?;
    }
    writeln!(out)?;
    for row in &record.delivery {
        let name = format!("{} {}", row.kind, figures::direction(&row.direction));
        write!(out, "  {:<32}", short(&name, 33))?;
        for (_, of) in &columns {
            write!(out, "{:>11}", count(of(row)))?;
        }
        writeln!(out)?;
    }
    let quiet = [
        "lost",
        "late",
        "duplicate",
        "reordered",
        "wrong peer",
        "altered",
    ];
    let none = quiet
        .iter()
        .filter(|name| !columns.iter().any(|(column, _)| column == *name));
    let none: Vec<&str> = none.copied().collect();
    if !none.is_empty() {
        writeln!(out, "  none {}", none.join(", "))?;
    }
    if let Some(rate) = figures::messages_per_second(record) {
        writeln!(out, "  {} delivered in a second", units::decimal(rate))?;
    }
    Ok(())
}

/// A name, and how many of a row it counts.
type Column = (&'static str, fn(&Delivery) -> u64);

/// Sent and delivered, and every other column in which something was counted.
pub(in crate::report) fn columns(record: &Record) -> Vec<Column> {
    const ALL: [Column; 11] = [
        ("sent", |row| row.sent),
        ("delivered", |row| row.delivered),
        ("lost", |row| row.lost),
        ("late", |row| row.late),
        ("duplicate", |row| row.duplicate),
        ("reordered", |row| row.reordered),
        ("wrong peer", |row| row.wrong_peer),
        ("altered", |row| row.altered),
        ("pending", |row| row.pending),
        ("left", |row| row.undeliverable),
        ("unknown", |row| row.unknown),
    ];
    let all = ALL.into_iter().enumerate();
    let shown = all.filter(|(i, (_, of))| *i < 2 || record.delivery.iter().any(|row| of(row) > 0));
    shown.map(|(_, column)| column).collect()
}

pub(super) fn calls(out: &mut String, record: &Record) -> Result {
    if record.calls.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<28}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "Calls", "sent", "answered", "timed out", "wrong", "failed", "pending"
    )?;
    for call in &record.calls {
        writeln!(
            out,
            "  {:<26}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            short(&call.name, 25),
            count(call.sent),
            count(call.answered),
            count(call.timed_out),
            count(call.wrong),
            count(call.failed),
            count(call.pending)
        )?;
    }
    Ok(())
}

pub(super) fn flows(out: &mut String, record: &Record) -> Result {
    let mut ended = figures::ended_flows(record).peekable();
    if ended.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "\n{:<34}{:>11}{:>11}", "Flows", "completed", "failed")?;
    for flow in ended {
        let (completed, failed) = (count(flow.completed), count(flow.failed));
        let name = short(&flow.name, 33);
        writeln!(out, "  {name:<32}{completed:>11}{failed:>11}")?;
    }
    Ok(())
}

pub(super) fn capacity(out: &mut String, record: &Record) -> Result {
    let Some(capacity) = &record.capacity else {
        return Ok(());
    };
    let answer = figures::capacity(record).unwrap_or_default();
    writeln!(out, "\nCapacity    {answer}")?;
    if let Some(what) = &capacity.gave_out {
        wrapped(out, "  gave out first: ", what)?;
    }
    for step in &capacity.steps {
        let line = format!(
            "  {:<9}{:>9} users  {:<7}match p95 {:>9}  msg p99 {:>9}  CPU {:>8}",
            step.kind,
            count(step.users),
            if step.held { "held" } else { "BROKE" },
            units::value_or_dash(step.match_p95_ms, "ms"),
            units::value_or_dash(step.message_p99_ms, "ms"),
            units::value_or_dash(step.server_cpu_percent, "percent")
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The unit of a figure by its name.
pub(in crate::report) fn unit_of(figure: &str) -> &'static str {
    match figure {
        _ if figure.ends_with("_ms") => "ms",
        _ if figure.ends_with("_bytes") => "bytes",
        _ if figure.ends_with("_percent") => "percent",
        _ => "count",
    }
}

pub(super) fn drift(out: &mut String, record: &Record) -> Result {
    if record.drift.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nDrift in an hour, with its 95 % interval")?;
    for drift in &record.drift {
        let unit = unit_of(&drift.figure);
        let end = match drift.hours_to_limit {
            Some(hours) => format!("meets its limit in {hours:.1} h"),
            None if drift.per_hour.abs() <= drift.uncertainty => "none that is sure".to_owned(),
            None => String::new(),
        };
        let line = format!(
            "  {:<22}{:>12} ± {:<12}{end}",
            drift.figure,
            units::value(drift.per_hour, unit),
            units::value(drift.uncertainty, unit)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

pub(super) fn recovery(out: &mut String, record: &Record) -> Result {
    let Some(recovery) = &record.recovery else {
        return Ok(());
    };
    let until =
        |time: Option<f64>| time.map_or_else(|| "not within the run".to_owned(), units::millis);
    writeln!(
        out,
        "\nRecovery    {} dropped at {}, {} of them from a partner or a search\n            99 % connected again: {}, \
         matched again: {}",
        count(recovery.dropped),
        units::clock(recovery.dropped_at_ms),
        count(recovery.paired),
        until(recovery.connected_99_percent_ms),
        until(recovery.matched_99_percent_ms)
    )
}

pub(super) fn shards(out: &mut String, record: &Record) -> Result {
    let shards = figures::shards(record);
    if shards.is_empty() {
        return Ok(());
    }
    let heads = figures::SHARD_COLUMNS.map(str::to_owned);
    for (i, [index, host, started, clock]) in [heads].iter().chain(&shards).enumerate() {
        let start = if i == 0 { "\n" } else { "  " };
        let width = if i == 0 { 8 } else { 6 };
        writeln!(
            out,
            "{start}{index:<width$}{:<26}{started:<26}{clock}",
            short(host, 25)
        )?;
    }
    Ok(())
}

pub(super) fn comparison(out: &mut String, record: &Record) -> Result {
    let Some(comparison) = &record.comparison else {
        return Ok(());
    };
    let result = if comparison.regression {
        "WORSE"
    } else {
        "not worse"
    };
    writeln!(
        out,
        "\nAgainst {} of {}: {result}",
        comparison.baseline, comparison.baseline_started_at
    )?;
    for caveat in &comparison.caveats {
        wrapped(out, "  mind: ", caveat)?;
    }
    for figure in &comparison.figures {
        let interval = figure.ratio_interval.map_or_else(
            || "–".to_owned(),
            |[low, high]| format!("{} to {}", units::change(low), units::change(high)),
        );
        writeln!(
            out,
            "  {:<9}{:<28}{:>12} → {:<12}{interval:>22}",
            figure.judgement,
            short(&figure.name, 27),
            units::value_or_dash(figure.baseline, &figure.unit),
            units::value_or_dash(figure.current, &figure.unit)
        )?;
    }
    writeln!(
        out,
        "  Of a typical window; the change as a 95 % interval that allows for autocorrelation."
    )
}
