//! The report for a comment on a change: the verdict, what failed, the figures, and the rest folded away.

mod last_run;

use std::fmt::{Result, Write as _};

use super::{figures, terminal};
use crate::{
    base::units::{self, count, value_or_dash},
    record::{Outcome, Record, Status, Validity},
};

/// A comment may have 65,536 characters; long lists are cut well before.
const MAX_ROWS: usize = 25;

/// Renders a record as Markdown.
pub(super) fn markdown(record: &Record) -> String {
    let mut out = String::with_capacity(8192);
    // Writing to a String cannot fail, so what the sections return is not looked at.
    let _ = all(&mut out, record);
    out
}

fn all(out: &mut String, record: &Record) -> Result {
    head(out, record)?;
    thresholds(out, record)?;
    summary(out, record)?;
    comparison(out, record)?;
    advice(out, record)?;
    errors(out, record)?;
    phases(out, record)?;
    shards(out, record)?;
    capacity(out, record)?;
    recovery(out, record)?;
    drift(out, record)?;
    last_run::write(out, record)
}

fn head(out: &mut String, record: &Record) -> Result {
    let sign = match record.outcome {
        Outcome::Pass => "✅",
        Outcome::Fail | Outcome::Regression => "❌",
        Outcome::Invalid => "⚠️",
    };
    writeln!(
        out,
        "## {sign} {}: {}\n\n{}, started {}.",
        figures::outcome(record),
        figures::conclusion(record),
        inline(&figures::about(record)),
        record.run.started_at
    )?;
    for remark in figures::remarks(record) {
        writeln!(out, "\n> {}", inline(&remark))?;
    }
    let validity = record.measurement.validity;
    if validity != Validity::Valid {
        writeln!(out, "\n**Measurement {}**\n", figures::validity(validity))?;
        for finding in &record.measurement.findings {
            writeln!(
                out,
                "- {}: {}",
                inline(&finding.what),
                inline(&finding.advice)
            )?;
        }
    }
    Ok(())
}

fn thresholds(out: &mut String, record: &Record) -> Result {
    if record.thresholds.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| | Threshold | Measured |\n| :-: | --- | ---: |")?;
    let failed_first = |status| !matches!(status, Status::Failed | Status::NoData);
    let mut thresholds: Vec<_> = record.thresholds.iter().collect();
    thresholds.sort_by_key(|threshold| failed_first(threshold.status));
    for threshold in thresholds {
        let sign = match threshold.status {
            Status::Ok => "✅",
            Status::Failed => "❌",
            Status::NoData => "❓",
            Status::NotMeasured => "–",
        };
        let measured = match threshold.status {
            Status::NoData => "no data".to_owned(),
            Status::NotMeasured => "not measured".to_owned(),
            _ => value_or_dash(threshold.measured, &threshold.unit),
        };
        let first = threshold.failed_at_ms.map_or_else(String::new, |at| {
            format!(" (first at {})", units::clock(at))
        });
        writeln!(
            out,
            "| {sign} | `{}` | {measured}{first} |",
            code(&threshold.expression)
        )?;
    }
    Ok(())
}

fn summary(out: &mut String, record: &Record) -> Result {
    writeln!(
        out,
        "\n| | p50 | p95 | p99 | p99.9 | max | count |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )?;
    for (name, latency) in terminal::ordered(record) {
        let quantile = |name| value_or_dash(latency.quantiles_ms.get(name).copied(), "ms");
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            inline(&name.replace('_', " ")),
            quantile("p50"),
            quantile("p95"),
            quantile("p99"),
            quantile("p99.9"),
            value_or_dash(latency.max_ms, "ms"),
            count(latency.count)
        )?;
    }
    writeln!(out)?;
    for step in figures::funnel(record) {
        let rest = if step.rest.is_empty() {
            String::new()
        } else {
            format!(" ({})", step.rest)
        };
        writeln!(out, "- {} {}{rest}", count(step.count), step.name)?;
    }
    let server = record.server.as_ref();
    if let Some(server) = server {
        writeln!(
            out,
            "- server: {:.1} % of a core, RSS {} at most, {} open files",
            server.cpu_percent,
            units::bytes(server.rss_peak_bytes as f64),
            count(server.fds_peak)
        )?;
    }
    Ok(())
}

fn comparison(out: &mut String, record: &Record) -> Result {
    let Some(comparison) = &record.comparison else {
        return Ok(());
    };
    writeln!(
        out,
        "\n### {} than {}\n\n| Figure | Baseline | This run | Change (95 %) | |\n| --- | ---: | ---: | ---: | --- |",
        if comparison.regression {
            "Worse"
        } else {
            "Not worse"
        },
        inline(&comparison.baseline)
    )?;
    for figure in comparison.figures.iter().take(MAX_ROWS) {
        let interval = figure.ratio_interval.map_or_else(
            || "–".to_owned(),
            |[low, high]| format!("{} … {}", units::change(low), units::change(high)),
        );
        let judgement = match figure.judgement.as_str() {
            "worse" => "**worse**",
            other => other,
        };
        writeln!(
            out,
            "| {} | {} | {} | {interval} | {judgement} |",
            inline(&figure.name),
            value_or_dash(figure.baseline, &figure.unit),
            value_or_dash(figure.current, &figure.unit)
        )?;
    }
    for caveat in &comparison.caveats {
        writeln!(out, "\n> Mind: {}", inline(caveat))?;
    }
    Ok(())
}

fn advice(out: &mut String, record: &Record) -> Result {
    if record.advice.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n### Advice\n")?;
    for advice in &record.advice {
        writeln!(
            out,
            "- {}<br>_{}_",
            inline(&advice.text),
            inline(&advice.evidence)
        )?;
    }
    Ok(())
}

fn folded(out: &mut String, title: &str, head: &str, rows: impl Iterator<Item = String>) -> Result {
    writeln!(out, "\n<details><summary>{title}</summary>\n\n{head}")?;
    for row in rows.take(MAX_ROWS) {
        writeln!(out, "{row}")?;
    }
    writeln!(out, "\n</details>")
}

fn errors(out: &mut String, record: &Record) -> Result {
    if record.errors.is_empty() {
        return Ok(());
    }
    let all: u64 = record.errors.iter().map(|error| error.count).sum();
    let rows = record.errors.iter().map(|error| {
        format!(
            "| {} | {} | {} | {} | {} |",
            inline(&error.kind),
            count(error.count),
            figures::blame(error.blame),
            units::clock(error.first_at_ms),
            inline(&error.meaning)
        )
    });
    folded(
        out,
        &format!("Errors: {}", count(all)),
        "| Kind | Count | Blame | First | Meaning |\n| --- | ---: | --- | ---: | --- |",
        rows,
    )
}

fn phases(out: &mut String, record: &Record) -> Result {
    if record.phases.len() < 2 {
        return Ok(());
    }
    let rows = record.phases.iter().map(|phase| {
        format!(
            "| {} | {} | {} | {} | {} | {} |",
            inline(&phase.name),
            units::span(phase.end_ms - phase.start_ms),
            count(phase.peak_connected),
            value_or_dash(phase.match_p95_ms, "ms"),
            value_or_dash(phase.message_p99_ms, "ms"),
            count(phase.errors)
        )
    });
    folded(
        out,
        &format!("Phases: {}", record.phases.len()),
        "| Phase | Length | Peak users | Match p95 | Message p99 | Errors |\n| --- | ---: | ---: | ---: | ---: | ---: |",
        rows,
    )
}

fn shards(out: &mut String, record: &Record) -> Result {
    let shards = figures::shards(record);
    if shards.is_empty() {
        return Ok(());
    }
    let rows = shards.iter().map(|cells| {
        let cells = cells.each_ref().map(|cell| inline(cell));
        format!("| {} |", cells.join(" | "))
    });
    folded(
        out,
        &format!("Shards: {}", shards.len()),
        &format!(
            "| {} |\n| ---: | --- | --- | ---: |",
            figures::SHARD_COLUMNS.join(" | ")
        ),
        rows,
    )
}

fn capacity(out: &mut String, record: &Record) -> Result {
    let Some(capacity) = &record.capacity else {
        return Ok(());
    };
    let title = format!(
        "Capacity: {}",
        figures::capacity(record).unwrap_or_default()
    );
    if let Some(what) = &capacity.gave_out {
        writeln!(out, "\n**{title}.** Gave out first: {}", inline(what))?;
    }
    let rows = capacity.steps.iter().map(|step| {
        format!(
            "| {} | {} | {} | {} | {} |",
            step.kind,
            count(step.users),
            if step.held { "✅" } else { "❌" },
            value_or_dash(step.match_p95_ms, "ms"),
            value_or_dash(step.message_p99_ms, "ms")
        )
    });
    folded(
        out,
        &title,
        "| Step | Users | Held | Match p95 | Message p99 |\n| --- | ---: | :-: | ---: | ---: |",
        rows,
    )
}

fn recovery(out: &mut String, record: &Record) -> Result {
    let Some(recovery) = &record.recovery else {
        return Ok(());
    };
    let until =
        |time: Option<f64>| time.map_or_else(|| "not within the run".to_owned(), units::millis);
    writeln!(
        out,
        "\n**Recovery:** {} users dropped at {}; 99 % connected again: {}, matched again: {}",
        count(recovery.dropped),
        units::clock(recovery.dropped_at_ms),
        until(recovery.connected_99_percent_ms),
        until(recovery.matched_99_percent_ms)
    )
}

fn drift(out: &mut String, record: &Record) -> Result {
    if record.drift.is_empty() {
        return Ok(());
    }
    let rows = record.drift.iter().map(|drift| {
        let unit = terminal::unit_of(&drift.figure);
        let limit = drift
            .hours_to_limit
            .map_or_else(|| "–".to_owned(), |hours| format!("in {hours:.1} h"));
        format!(
            "| {} | {} ± {} | {} | {limit} |",
            inline(&drift.figure),
            units::value(drift.per_hour, unit),
            units::value(drift.uncertainty, unit),
            units::value(drift.last, unit)
        )
    });
    folded(
        out,
        "Drift in an hour, with its 95 % interval",
        "| Figure | An hour | At the end | Meets its limit |\n| --- | ---: | ---: | ---: |",
        rows,
    )
}

/// Text that a table cell or a line can hold: nothing in it is markup.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => out.push(' '),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' => {
                out.push('\\');
                out.push(character);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&#64;"),
            _ => out.push(character),
        }
    }
    out
}

/// Text that a code span in a table cell can hold.
fn code(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
        .replace('`', "'")
        .replace('|', "\\|")
}
