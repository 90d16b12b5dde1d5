//! The charts of a run over time.

use maud::{Markup, html};

use super::{
    chart::{Chart, Frame, Limit, Line},
    heatmap,
};
use crate::{
    base::units,
    record::{Drift, Quantiles, Record, Series, Window},
    report::{figures::unit_of, sections::drift_end},
};

pub(super) fn charts(record: &Record) -> Markup {
    let frame = Frame::new(record);
    let charts = [
        users(record, &frame),
        throughput(record, &frame),
        answered(record, &frame),
        latency(record, &frame, "Message latency", "message", "p99", |w| {
            w.message
        }),
        by_reach(record, &frame),
        heatmap::draw(record, &frame),
        latency(record, &frame, "Call latency", "call", "p95", |w| w.call),
        latency(record, &frame, "Match latency", "match", "p95", |w| {
            w.matching
        }),
        latency(record, &frame, "Connection time", "connect", "p95", |w| {
            w.connect
        }),
        errors(&frame),
        server_cpu(record, &frame),
        server_memory(record, &frame),
        server_storage(record, &frame),
        latency(
            record,
            &frame,
            "The generator's own lateness",
            "own_lateness",
            "p99",
            |w| w.own_lateness,
        ),
        generator(&frame),
    ];
    html! { @for chart in charts { (chart) } }
}

/// The figures that change with time, each with its trend.
pub(super) fn drifts(record: &Record) -> Markup {
    let frame = Frame::new(record);
    html! { @for drift in &record.drift { (drift_chart(record, &frame, drift)) } }
}

fn line(name: impl Into<String>, class: &'static str, values: Vec<Option<f64>>) -> Line {
    Line {
        name: name.into(),
        class,
        values,
    }
}

/// Users who only send HTTP requests.
fn nobody_connects(record: &Record) -> bool {
    !record.calls.is_empty() && record.connections.attempted == 0
}

fn users(record: &Record, frame: &Frame<'_>) -> Markup {
    if nobody_connects(record) {
        return Markup::default();
    }
    let mut lines = vec![line(
        "connected",
        "main",
        frame.largest(|w| Some(w.connected as f64)),
    )];
    if record.matches.searches > 0 {
        lines.push(line(
            "in rooms",
            "second",
            frame.largest(|w| Some(w.in_rooms as f64)),
        ));
        lines.push(line(
            "searching",
            "third",
            frame.largest(|w| Some(w.searching as f64)),
        ));
    }
    plain("Users", "count", lines).draw(frame)
}

fn throughput(record: &Record, frame: &Frame<'_>) -> Markup {
    if nobody_connects(record) {
        return Markup::default();
    }
    let mut lines = vec![line("delivered", "main", frame.per_second(|w| w.delivered))];
    lines.push(line("connects", "second", frame.per_second(|w| w.connects)));
    if record.matches.searches > 0 {
        lines.push(line("matches", "third", frame.per_second(|w| w.matches)));
    }
    plain("Per second", "per_second", lines).draw(frame)
}

fn answered(record: &Record, frame: &Frame<'_>) -> Markup {
    if record.calls.is_empty() {
        return Markup::default();
    }
    let rate = frame.per_second(|w| w.answered);
    let lines = vec![line("answered", "main", rate)];
    plain("Calls per second", "per_second", lines).draw(frame)
}

fn errors(frame: &Frame<'_>) -> Markup {
    let values = frame.per_second(|w| w.errors);
    if values.iter().flatten().all(|rate| *rate == 0.0) {
        return Markup::default();
    }
    plain(
        "Errors per second",
        "per_second",
        vec![line("errors", "bad", values)],
    )
    .draw(frame)
}

fn plain(title: &str, unit: &'static str, lines: Vec<Line>) -> Chart {
    Chart {
        title: title.to_owned(),
        note: String::new(),
        unit,
        log: false,
        lines,
        limits: vec![],
    }
}

fn baseline(record: &Record) -> Option<&Series> {
    let comparison = record.comparison.as_ref()?;
    comparison.baseline_series.as_ref()
}

/// Percentiles over time, with the limits of their thresholds, and the baseline's `overlay` percentile.
fn latency(
    record: &Record,
    frame: &Frame<'_>,
    title: &str,
    name: &str,
    overlay: &str,
    of: fn(&Window) -> Quantiles,
) -> Markup {
    let quantile: fn(Quantiles) -> Option<f64> = match overlay {
        "p95" => |q| q.p95_ms,
        _ => |q| q.p99_ms,
    };
    let mut lines = vec![
        line("max", "max", frame.largest(|w| of(w).max_ms)),
        line("p99", "p99", frame.largest(|w| of(w).p99_ms)),
        line("p95", "p95", frame.largest(|w| of(w).p95_ms)),
        line("p50", "p50", frame.largest(|w| of(w).p50_ms)),
    ];
    if let Some(baseline) = baseline(record) {
        let values = frame.of_other(baseline, |w| quantile(of(w)));
        lines.push(line(format!("baseline {overlay}"), "base", values));
    }
    Chart {
        title: title.to_owned(),
        note: "logarithmic".to_owned(),
        unit: "ms",
        log: true,
        lines,
        limits: limits(record, &format!("{name}_latency")),
    }
    .draw(frame)
}

/// Messages within one server against those between two; nothing if there is one.
fn by_reach(record: &Record, frame: &Frame<'_>) -> Markup {
    if record.reach.is_empty() {
        return Markup::default();
    }
    let lines = vec![
        line(
            "remote p99",
            "p99",
            frame.largest(|w| w.message_remote.p99_ms),
        ),
        line(
            "remote p50",
            "p50",
            frame.largest(|w| w.message_remote.p50_ms),
        ),
        line(
            "local p99",
            "second",
            frame.largest(|w| w.message_local.p99_ms),
        ),
        line(
            "local p50",
            "third",
            frame.largest(|w| w.message_local.p50_ms),
        ),
    ];
    let mut limits = limits(record, "remote_message_latency");
    for limit in &mut limits {
        limit.label = format!("remote {}", limit.label);
    }
    Chart {
        title: "Message latency within a node, and between two".to_owned(),
        note: "logarithmic".to_owned(),
        unit: "ms",
        log: true,
        lines,
        limits,
    }
    .draw(frame)
}

/// The thresholds on a figure, each once.
fn limits(record: &Record, prefix: &str) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for threshold in &record.thresholds {
        let Some(what) = threshold.name.strip_prefix(prefix) else {
            continue;
        };
        let label = format!(
            "{} {} {}",
            what.trim_start_matches('_').replace('_', " "),
            threshold.bound,
            units::value(threshold.limit, &threshold.unit)
        );
        // Calls that share a limit share its line.
        let rest = label.split_once("} ").map_or(&label[..], |(_, rest)| rest);
        let same = |limit: &&mut Limit| {
            limit.at.total_cmp(&threshold.limit).is_eq() && limit.label.ends_with(rest)
        };
        match limits.iter_mut().find(same) {
            Some(limit) => limit.label = rest.to_owned(),
            None => limits.push(Limit {
                at: threshold.limit,
                label,
            }),
        }
    }
    limits
}

fn server_cpu(record: &Record, frame: &Frame<'_>) -> Markup {
    let values = frame.largest(|w| w.server_cpu_percent);
    let mut chart = plain(
        "Server CPU",
        "percent",
        vec![line("of one core", "main", values)],
    );
    chart.limits = limits(record, "server_cpu");
    if let Some(baseline) = baseline(record) {
        chart.lines.push(line(
            "baseline",
            "base",
            frame.of_other(baseline, |w| w.server_cpu_percent),
        ));
    }
    chart.draw(frame)
}

fn server_memory(record: &Record, frame: &Frame<'_>) -> Markup {
    let rss = |w: &Window| w.server_rss_bytes.map(|bytes| bytes as f64);
    let mut chart = plain(
        "Server memory",
        "bytes",
        vec![line("resident", "main", frame.largest(rss))],
    );
    chart.limits = limits(record, "server_rss");
    if let Some(baseline) = baseline(record) {
        chart
            .lines
            .push(line("baseline", "base", frame.of_other(baseline, rss)));
    }
    let fds = frame.largest(|w| w.server_fds.map(|fds| fds as f64));
    let mut files = plain(
        "Server's open files",
        "count",
        vec![line("open", "main", fds)],
    );
    files.limits = limits(record, "server_fds");
    html! { (chart.draw(frame)) (files.draw(frame)) }
}

/// Of a server that transcribes.
fn server_storage(record: &Record, frame: &Frame<'_>) -> Markup {
    let transcription = record
        .server
        .as_ref()
        .and_then(|it| it.transcription.as_ref());
    let Some(transcription) = transcription else {
        return Markup::default();
    };
    let queue = frame.largest(|w| w.server_queue.map(|length| length as f64));
    let mut queue = plain(
        "Waiting to be stored",
        "count",
        vec![line("segments and answers", "main", queue)],
    );
    queue.limits = limits(record, "server_queue");
    let spill = frame.largest(|w| w.server_spill_bytes.map(|bytes| bytes as f64));
    let spill = plain("Spill file", "bytes", vec![line("size", "main", spill)]);
    html! {
        (queue.draw(frame))
        @if transcription.spill_peak_bytes > 0 { (spill.draw(frame)) }
    }
}

fn generator(frame: &Frame<'_>) -> Markup {
    let cpu = frame.largest(|w| Some(w.generator_cpu_percent));
    let rss = frame.largest(|w| Some(w.generator_rss_bytes as f64));
    let cpu = vec![line("of one core", "main", cpu)];
    let rss = vec![line("resident", "main", rss)];
    html! {
        (plain("Generator CPU", "percent", cpu).draw(frame))
        (plain("Generator memory", "bytes", rss).draw(frame))
    }
}

/// A figure of a drift, in one window.
fn figure_of(name: &str) -> fn(&Window) -> Option<f64> {
    match name {
        "server_rss_bytes" => |w| w.server_rss_bytes.map(|bytes| bytes as f64),
        "server_fds" => |w| w.server_fds.map(|fds| fds as f64),
        "message_p99_ms" => |w| w.message.p99_ms,
        "match_p95_ms" => |w| w.matching.p95_ms,
        "generator_rss_bytes" => |w| Some(w.generator_rss_bytes as f64),
        _ => |_| None,
    }
}

fn drift_chart(record: &Record, frame: &Frame<'_>, drift: &Drift) -> Markup {
    let from = record
        .steady_windows()
        .next()
        .map_or(0.0, |window| window.start_ms);
    let to = record
        .steady_windows()
        .last()
        .map_or(frame.end_ms, |window| window.start_ms);
    let trend = frame.columns().iter().map(|column| {
        let at = super::chart::start(column);
        let fraction = (at - from) / (to - from).max(1.0);
        (at >= from && at <= to).then_some(drift.first + (drift.last - drift.first) * fraction)
    });
    let trend = trend.collect();
    let unit = unit_of(&drift.figure);
    let mut note = format!(
        "{} ± {} per hour",
        units::value(drift.per_hour, unit),
        units::value(drift.uncertainty, unit)
    );
    let end = drift_end(drift);
    if !end.is_empty() {
        note = format!("{note}; {end}");
    }
    let limit = drift.limit.map(|at| Limit {
        label: units::value(at, unit),
        at,
    });
    Chart {
        title: format!("Drift of {}", drift.figure),
        note,
        unit,
        // On a linear axis, one stall would hide the rest.
        log: unit == "ms",
        lines: vec![
            line("measured", "p50", frame.largest(figure_of(&drift.figure))),
            line("trend", "bad", trend),
        ],
        limits: limit.into_iter().collect(),
    }
    .draw(frame)
}
