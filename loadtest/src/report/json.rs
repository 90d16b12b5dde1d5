//! The report for programs. Names are stable; times are milliseconds, as their names say.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value as Json, json};

use super::QUANTILES;
use crate::{
    summary::{Latencies, ServerWatch, Summary},
    verdict::{Bound, Check, Status, Value, Verdict},
};

/// Version of the layout: raised when a name changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// Renders a run as JSON.
pub fn json(summary: &Summary, verdict: &Verdict) -> Json {
    json!({
        "schema_version": SCHEMA,
        "verdict": verdict.outcome.to_string().to_lowercase(),
        "exit_code": verdict.exit_code(),
        "invalid": verdict.invalid,
        "targets": verdict.checks.iter().map(check).collect::<Vec<_>>(),
        "run": run(summary),
        "connections": connections(summary),
        "matches": matches(summary),
        "messages": messages(summary),
        "latency": {
            "connect": latency(&summary.connect),
            "match": latency(&summary.matching),
            "message": latency(&summary.relay),
            "own_lateness": latency(&summary.lateness),
        },
        "errors": errors(summary),
        "generator": generator(summary),
        "server": server(summary),
    })
}

fn check(check: &Check) -> Json {
    json!({
        "name": check.name.replace(' ', "_"),
        "status": match check.status {
            Status::Held => "ok",
            Status::Failed => "failed",
            Status::NoData => "no_data",
            Status::NotMeasured => "not_measured",
        },
        "measured": check.measured.map(number),
        "bound": match check.bound {
            Bound::AtLeast => "at_least",
            Bound::Below => "below",
            Bound::AtMost => "at_most",
        },
        "limit": number(check.limit),
        "unit": match check.limit {
            Value::Percent(_) => "percent",
            Value::Time(_) => "ms",
            Value::Bytes(_) => "bytes",
            Value::Count(_) => "count",
        },
    })
}

fn number(value: Value) -> Json {
    match value {
        Value::Percent(percent) => json!(percent),
        Value::Time(time) => json!(millis(time)),
        Value::Bytes(n) | Value::Count(n) => json!(n),
    }
}

fn run(summary: &Summary) -> Json {
    let about = &summary.about;
    let plan = &about.plan;
    let started = about
        .started_at
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    json!({
        "target": about.target,
        "started_at": humantime::format_rfc3339_millis(about.started_at).to_string(),
        "started_at_unix_ms": started.as_millis(),
        "elapsed_ms": millis(about.elapsed),
        "active_ms": millis(about.active),
        "interrupted": about.interrupted,
        "users": plan.users,
        "duration_ms": millis(plan.duration),
        "spacing_ms": millis(plan.spacing),
        "match_timeout_ms": millis(plan.match_timeout),
        "signal_interval_ms": millis(plan.signal_interval),
        "connect_timeout_ms": millis(plan.connect_timeout),
        "payload_bytes": plan.payload_bytes,
    })
}

fn connections(summary: &Summary) -> Json {
    let connections = &summary.connections;
    json!({
        "attempted": connections.attempted,
        "succeeded": connections.succeeded,
        "dropped": connections.dropped,
        "peak": connections.peak,
        "success_percent": summary.connection_success_percent(),
    })
}

fn matches(summary: &Summary) -> Json {
    let matches = &summary.matches;
    json!({
        "searches": matches.searches,
        "rematches": matches.rematches,
        "matched": matches.matched,
        "failed": matches.failed,
        "odd_one_out": matches.odd_one_out,
        "pending": matches.pending,
        "one_sided": matches.one_sided,
        "crowded": matches.crowded,
        "success_percent": summary.match_success_percent(),
    })
}

fn messages(summary: &Summary) -> Json {
    let (messages, delivery) = (&summary.messages, &summary.messages.delivery);
    json!({
        "sent": messages.sent,
        "delivered": delivery.delivered,
        "lost": delivery.lost,
        "undeliverable": delivery.undeliverable,
        "duplicate": messages.duplicate,
        "reordered": messages.reordered,
        "wrong_peer": messages.wrong_peer,
        "altered": messages.altered,
        "sent_to_other_run": delivery.foreign,
        "received_from_other_run": messages.foreign,
        "sent_per_second": summary.messages_per_second(),
        "success_percent": summary.message_success_percent(),
    })
}

fn latency(latencies: &Latencies) -> Json {
    let mut out = Map::new();
    out.insert("count".to_owned(), json!(latencies.count()));
    for (name, q) in QUANTILES {
        let name = format!("{}_ms", name.replace('.', "_"));
        out.insert(name, json!(latencies.quantile(q).map(millis)));
    }
    out.insert("max_ms".to_owned(), json!(latencies.max().map(millis)));
    Json::Object(out)
}

fn errors(summary: &Summary) -> Json {
    let one = |(kind, error): (&crate::sample::ErrorKind, crate::summary::ErrorCount)| {
        json!({
            "kind": kind.name(),
            "blame": kind.blame(),
            "count": error.count,
            "first_at_ms": millis(error.first_at),
        })
    };
    summary.errors.by_count().into_iter().map(one).collect()
}

fn generator(summary: &Summary) -> Json {
    let used = &summary.about.generator;
    json!({
        "workers": used.workers,
        "cpu_seconds": used.cpu_seconds,
        "cpu_percent": used.cpu_percent,
        "busiest_worker_percent": used.busiest_worker_percent,
        "rss_peak_bytes": used.rss_peak_bytes,
    })
}

/// `null`: not read.
fn server(summary: &Summary) -> Json {
    let ServerWatch::Read(server) = summary.about.server else {
        return Json::Null;
    };
    json!({
        "readings": server.readings,
        "cpu_seconds": server.cpu_seconds,
        "cpu_percent": server.cpu_percent,
        "rss_first_bytes": server.rss_first_bytes,
        "rss_peak_bytes": server.rss_peak_bytes,
        "open_fds_peak": server.fds_peak,
    })
}

/// Milliseconds, exact to the microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
