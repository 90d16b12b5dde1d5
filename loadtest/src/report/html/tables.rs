//! The tables of the page.

use std::fmt::Write as _;

use super::escape;
use crate::{
    base::units::{self, count, value_or_dash},
    record::{Record, Status, ThresholdResult},
    report::{
        figures,
        terminal::{self, columns},
    },
};

/// A table with a title; empty without rows. A head that ends in `#` is a column of numbers.
fn table(title: &str, heads: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let class = |i: usize| {
        let number = heads.get(i).is_some_and(|head| head.ends_with('#'));
        if number { " class=\"n\"" } else { "" }
    };
    let mut out =
        format!("<section class=\"card\"><h2>{title}</h2><div class=\"scroll\"><table><thead><tr>");
    for (i, head) in heads.iter().enumerate() {
        let _ = write!(out, "<th{}>{}", class(i), head.trim_end_matches('#'));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{cell}", class(i));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></section>");
    out
}

/// Thresholds, what failed first.
pub(super) fn thresholds(record: &Record) -> String {
    let mut thresholds: Vec<&ThresholdResult> = record.thresholds.iter().collect();
    thresholds.sort_by_key(|threshold| match threshold.status {
        Status::Failed => 0,
        Status::NoData => 1,
        Status::Ok => 2,
        Status::NotMeasured => 3,
    });
    let mut out =
        String::from("<section class=\"card\"><h2>Thresholds</h2><ul class=\"thresholds\">");
    for threshold in thresholds {
        let (class, sign) = match threshold.status {
            Status::Ok => ("good", "✓"),
            Status::Failed => ("bad", "✕"),
            Status::NoData => ("bad", "?"),
            Status::NotMeasured => ("plain", "–"),
        };
        let measured = match threshold.status {
            Status::NoData => "no data".to_owned(),
            Status::NotMeasured => "not measured".to_owned(),
            _ => value_or_dash(threshold.measured, &threshold.unit),
        };
        let mut first = String::new();
        if let Some(at) = threshold.failed_at_ms {
            first = format!("first at {}", units::clock(at));
        }
        if threshold.aborted {
            first.push_str(", ended the run");
        }
        let _ = write!(
            out,
            "<li class=\"{class}\"><span class=\"sign\">{sign}</span><code>{}</code>{}<b>{measured}</b><small>{first}</small></li>",
            escape(&threshold.expression),
            gauge(threshold)
        );
    }
    if record.thresholds.is_empty() {
        out.push_str("<li class=\"plain\">none</li>");
    }
    out.push_str("</ul></section>");
    out
}

/// How much of a limit is used up; only where less is better, and the limit more than nothing.
fn gauge(threshold: &ThresholdResult) -> String {
    match threshold.measured {
        Some(measured) if threshold.bound.starts_with('<') && threshold.limit > 0.0 => {
            let fraction = (measured / threshold.limit * 100.0).clamp(0.5, 100.0);
            format!(
                "<span class=\"gauge\" title=\"{:.0} % of the limit\"><i style=\"width:{fraction:.1}%\"></i></span>",
                measured / threshold.limit * 100.0
            )
        }
        _ => "<span class=\"gauge none\"></span>".to_owned(),
    }
}

pub(super) fn latencies(record: &Record) -> String {
    const QUANTILES: [&str; 6] = ["p50", "p90", "p95", "p99", "p99.9", "p99.99"];
    let rows = terminal::ordered(record)
        .into_iter()
        .map(|(name, latency)| {
            let mut row = vec![escape(&name.replace('_', " ")), count(latency.count)];
            let quantiles = QUANTILES
                .iter()
                .map(|name| latency.quantiles_ms.get(*name).copied());
            row.extend(
                quantiles
                    .chain([latency.max_ms])
                    .map(|value| value_or_dash(value, "ms")),
            );
            row.push(if latency.censored > 0 {
                count(latency.censored)
            } else {
                String::new()
            });
            row
        });
    let rows: Vec<Vec<String>> = rows.collect();
    table(
        "Latency",
        &[
            "", "count#", "p50#", "p90#", "p95#", "p99#", "p99.9#", "p99.99#", "max#", "failed#",
        ],
        &rows,
    )
}

pub(super) fn delivery(record: &Record) -> String {
    let columns = columns(record);
    let names = columns.iter().map(|(name, _)| format!("{name}#"));
    let heads: Vec<String> = ["type".to_owned(), "direction".to_owned()]
        .into_iter()
        .chain(names)
        .collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let rows = record.delivery.iter().map(|row| {
        let counts = columns.iter().map(|(_, of)| count(of(row)));
        [
            escape(&row.kind),
            escape(&figures::direction(&row.direction)),
        ]
        .into_iter()
        .chain(counts)
        .collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    table("Delivery", &heads, &rows)
}

pub(super) fn calls(record: &Record) -> String {
    let rows = record.calls.iter().map(|call| {
        let counts = [
            call.sent,
            call.answered,
            call.timed_out,
            call.wrong,
            call.failed,
            call.pending,
        ];
        std::iter::once(escape(&call.name))
            .chain(counts.map(count))
            .collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    table(
        "Calls",
        &[
            "",
            "sent#",
            "answered#",
            "timed out#",
            "wrong#",
            "failed#",
            "pending#",
        ],
        &rows,
    )
}

pub(super) fn shards(record: &Record) -> String {
    let rows = figures::shards(record);
    let rows = rows
        .iter()
        .map(|cells| cells.iter().map(|cell| escape(cell)).collect());
    let rows: Vec<Vec<String>> = rows.collect();
    table("Shards", &figures::SHARD_COLUMNS, &rows)
}

pub(super) fn flows(record: &Record) -> String {
    let rows = figures::ended_flows(record).map(|flow| {
        vec![
            escape(&flow.name),
            count(flow.completed),
            count(flow.failed),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    table("Flows", &["", "completed#", "failed#"], &rows)
}

pub(super) fn errors(record: &Record) -> String {
    let rows = record.errors.iter().map(|error| {
        let blame = figures::blame(error.blame);
        vec![
            format!("<code>{}</code>", escape(&error.kind)),
            count(error.count),
            format!("<span class=\"chip blame-{blame}\">{blame}</span>"),
            units::clock(error.first_at_ms),
            escape(&error.meaning),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    table(
        "Errors",
        &["kind", "count#", "blame", "first#", "what it means"],
        &rows,
    )
}

pub(super) fn phases(record: &Record) -> String {
    let rows = record.phases.iter().map(|phase| {
        vec![
            escape(&phase.name),
            units::clock(phase.start_ms),
            units::span(phase.end_ms - phase.start_ms),
            count(phase.peak_connected),
            value_or_dash(phase.connection_success_percent, "percent"),
            value_or_dash(phase.match_success_percent, "percent"),
            value_or_dash(phase.match_p95_ms, "ms"),
            value_or_dash(phase.message_p99_ms, "ms"),
            count(phase.errors),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    table(
        "Phases",
        &[
            "",
            "begin#",
            "length#",
            "peak users#",
            "connected#",
            "matched#",
            "match p95#",
            "message p99#",
            "errors#",
        ],
        &rows,
    )
}

/// What the server and the generator used.
pub(super) fn resources(record: &Record) -> String {
    let bytes = |bytes: u64| units::bytes(bytes as f64);
    let mut rows = Vec::new();
    if let Some(server) = &record.server {
        rows.push(vec![
            "server".to_owned(),
            format!("{:.1} s", server.cpu_seconds),
            format!("{:.1} %", server.cpu_percent),
            bytes(server.rss_peak_bytes),
            count(server.fds_peak),
        ]);
    }
    let used = &record.generator;
    rows.push(vec![
        format!(
            "generator ({} threads, the busiest {:.1} %)",
            used.workers, used.busiest_worker_percent
        ),
        format!("{:.1} s", used.cpu_seconds),
        format!("{:.1} %", used.cpu_percent),
        bytes(used.rss_peak_bytes),
        used.fds.map_or_else(
            || "–".to_owned(),
            |[most, limit]| format!("{} of {}", count(most), count(limit)),
        ),
    ]);
    table(
        "Resources",
        &["", "CPU#", "of a core#", "memory, peak#", "open files#"],
        &rows,
    )
}
