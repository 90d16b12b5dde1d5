//! The status page: how the server is, on one screen. It shows no user and no secret, and loads nothing: it is whole in
//! itself, and its policy lets nothing else in.

use std::{sync::LazyLock, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hyper::{
    StatusCode,
    header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use voicematch_core::metrics::Percentiles;

use super::{
    Admin,
    history::{Reason, Recent},
    process,
};
use crate::{
    http::{Reply, reply},
    machine::memory,
};

/// How often a browser asks again, in seconds.
const REFRESH: u32 = 5;

/// Reasons of each kind that are shown.
const TOP: usize = 5;

const STYLE: &str = include_str!("page.css");

/// Nothing but this style (<https://www.w3.org/TR/CSP3/>).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The page as it is now.
pub(super) fn page(admin: &Admin) -> Reply {
    let page = markup(admin).into_string();
    let mut reply = reply(StatusCode::OK, "text/html; charset=utf-8", page);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    reply
}

fn markup(admin: &Admin) -> Markup {
    let metrics = &admin.context.metrics;
    let recent = admin.history.recent(metrics);
    let is_draining = admin.shutdown.has_begun();
    let state = if is_draining { "draining" } else { "ready" };
    let rooms = metrics.rooms_active.get() + metrics.named_rooms.get();
    let minutes = recent.time.as_secs().div_ceil(60).max(1);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(REFRESH);
                title { "voicematch: " (state) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "voicematch-server " span.quiet { (env!("CARGO_PKG_VERSION")) } }
                    p { span class=(state) { (state) } ", up " (span(metrics.started.elapsed())) }
                }
                main {
                    (tiles(admin, &recent, rooms))
                    (latencies(metrics.match_percentiles(), metrics.relay_percentiles()))
                    (limits(admin))
                    (nodes(admin))
                    (reasons("Sessions ended", minutes, &recent.closes))
                    (reasons("Connections refused", minutes, &recent.refusals))
                    (reasons("Requests refused", minutes, &recent.errors))
                }
                footer {
                    nav {
                        a href="/metrics" { "metrics" }
                        a href="/debug/pprof/" { "profiles" }
                        a href="/support/openapi.json" { "support API" }
                        a href="/readyz" { "readyz" }
                    }
                    p.quiet { "Rates are of the last minute. Refreshed each " (REFRESH) "\u{a0}s." }
                }
            }
        }
    }
}

fn tiles(admin: &Admin, recent: &Recent, rooms: i64) -> Markup {
    let metrics = &admin.context.metrics;
    let sessions = metrics.sessions_open.get();
    let numbers = [
        (
            "sessions",
            count(sessions),
            format!("{} without a connection", metrics.sessions_detached.get()),
        ),
        (
            "waiting",
            count(metrics.waiting_users()),
            format!("{} do not answer", metrics.parked.get()),
        ),
        (
            "rooms",
            count(rooms),
            format!("{} named", metrics.named_rooms.get()),
        ),
        (
            "matches a second",
            rate(recent.matches_per_second),
            format!("{} in all", count(metrics.matches_total())),
        ),
        (
            "relayed a second",
            rate(recent.relayed_per_second),
            format!("{} in all", count(metrics.relayed_total())),
        ),
    ];
    html! {
        section.tiles {
            @for (name, number, more) in &numbers {
                div { b { (number) } span { (name) } small.quiet { (more) } }
            }
        }
    }
}

fn latencies(wait: Percentiles, relay: Percentiles) -> Markup {
    // p50, p95, p99 of QUANTILES.
    let row = |name: &str, found: &Percentiles| {
        html! {
            tr {
                th scope="row" { (name) }
                @for quantile in [0, 2, 3] {
                    td { @if found.count == 0 { "–" } @else { (latency(found.quantiles[quantile])) } }
                }
            }
        }
    };
    html! {
        section {
            h2 { "Latency " span.quiet { "since the start" } }
            table {
                thead { tr { th {} th scope="col" { "p50" } th scope="col" { "p95" } th scope="col" { "p99" } } }
                tbody { (row("match wait", &wait)) (row("relay", &relay)) }
            }
        }
    }
}

/// What is used of what there is.
fn limits(admin: &Admin) -> Markup {
    let usage = process::Usage::read();
    let memory = memory::available().ok();
    let kept = &admin.context.memory;
    let (buffered, may_buffer) = (kept.used() as u64, kept.limit() as u64);
    let meter = |name: &str, used: u64, limit: Option<u64>, written: fn(u64) -> String| {
        html! {
            div.meter {
                span { (name) }
                span { (written(used)) @if let Some(limit) = limit { span.quiet { " of " (written(limit)) } } }
                @if let Some(limit) = limit {
                    meter min="0" max=(limit) high=(limit / 10 * 8) value=(used) {}
                }
            }
        }
    };
    html! {
        section {
            h2 { "Limits" }
            @if let Some(usage) = usage {
                (meter("memory", usage.resident_bytes, memory, bytes))
                (meter("descriptors", usage.open_fds, Some(usage.max_fds), count))
            }
            (meter("kept for connections", buffered, Some(may_buffer), bytes))
        }
    }
}

/// The nodes that are one service with this one.
#[cfg(feature = "cluster")]
fn nodes(admin: &Admin) -> Markup {
    let Some(node) = &admin.node else {
        return html! {};
    };
    let standing = node.standing();
    html! {
        section {
            h2 { "Nodes " span.quiet { (standing.as_str()) } }
            @if let Some(why) = standing.why() { p { (why) } }
            table {
                tbody {
                    @for node in node.nodes().iter().take(TOP) {
                        tr { th scope="row" { (node.id) } td { (node.state) } td { (node.version.as_deref().unwrap_or_default()) } }
                    }
                }
            }
        }
    }
}

#[cfg(not(feature = "cluster"))]
fn nodes(_: &Admin) -> Markup {
    html! {}
}

fn reasons(title: &str, minutes: u64, reasons: &[Reason]) -> Markup {
    html! {
        section {
            h2 { (title) }
            @if reasons.is_empty() {
                p.quiet { "none" }
            } @else {
                table {
                    thead { tr { th {} th scope="col" { (minutes) " min" } th scope="col" { "all" } } }
                    tbody {
                        @for (reason, total, lately) in reasons.iter().take(TOP) {
                            tr { th scope="row" { (reason) } td { (count(*lately)) } td { (count(*total)) } }
                        }
                    }
                }
            }
        }
    }
}

/// Digits in groups of three.
fn count(number: impl std::fmt::Display) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

fn rate(a_second: f64) -> String {
    if a_second > 0.0 && a_second < 10.0 {
        format!("{a_second:.1}")
    } else {
        count(a_second.round())
    }
}

fn latency(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.1} s")
    } else if seconds >= 1e-3 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut shown = bytes as f64;
    let mut unit = 0;
    while shown >= 1024.0 && unit + 1 < UNITS.len() {
        shown /= 1024.0;
        unit += 1;
    }
    if shown < 10.0 && unit > 0 {
        format!("{shown:.1} {}", UNITS[unit])
    } else {
        format!("{shown:.0} {}", UNITS[unit])
    }
}

/// A time in its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!([count(0), count(999)], ["0", "999"]);
        assert_eq!([rate(0.0), rate(0.26), rate(31.6)], ["0", "0.3", "32"]);
        assert_eq!(latency(0.000_035), "35 µs");
        assert_eq!(latency(12.34), "12.3 s");
        assert_eq!([bytes(512), bytes(1 << 20)], ["512 B", "1.0 MiB"]);
        assert_eq!(span(Duration::from_secs(90_061)), "1 d 1 h");
        assert_eq!(span(Duration::from_secs(61)), "1 min 1 s");
    }
}
