//! The report as one page that needs nothing else: style, script and drawings are in it.

mod axis;
mod chart;
mod course;
mod heatmap;
mod shapes;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use super::figures;
use crate::{
    base::units::{self, count, value_or_dash},
    record::{Outcome, Record, Status, Validity},
};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// Renders a record as a page.
pub(super) fn html(record: &Record) -> String {
    let title = format!("{}: {}", figures::outcome(record), figures::about(record));
    let mut out = String::with_capacity(512 * 1024);
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{STYLE}</style></head><body>",
        escape(&title)
    );
    out.push_str(&head(record));
    out.push_str("<main>");
    for part in [
        tiles(record),
        trust(record),
        pair(
            &(tables::thresholds(record) + &shapes::funnel(record)),
            &advice(record),
        ),
        record
            .comparison
            .as_ref()
            .map_or_else(String::new, shapes::comparison),
        record
            .capacity
            .as_ref()
            .map_or_else(String::new, shapes::staircase),
        recovery(record),
        charts("Drift", &course::drifts(record)),
        charts("Course of the run", &course::charts(record)),
        tables::latencies(record),
        tables::delivery(record),
        tables::calls(record),
        tables::flows(record),
        tables::errors(record),
        tables::phases(record),
        tables::resources(record),
        tables::shards(record),
        about(record),
    ] {
        out.push_str(&part);
    }
    let _ = write!(out, "</main><script>{SCRIPT}</script></body></html>");
    out
}

/// The class that colours an outcome.
fn class(record: &Record) -> &'static str {
    match record.outcome {
        Outcome::Pass => "good",
        Outcome::Fail | Outcome::Regression => "bad",
        Outcome::Invalid => "warn",
    }
}

fn head(record: &Record) -> String {
    let validity = record.measurement.validity;
    let trust = match validity {
        Validity::Valid => "good",
        Validity::Suspect => "warn",
        Validity::Invalid => "bad",
    };
    let mut conclusion = figures::conclusion(record);
    // A sentence begins with a capital.
    if let Some(first) = conclusion.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let build = record.run.build.as_ref().map_or_else(String::new, |build| {
        format!("<span class=\"chip plain\">build {}</span>", escape(build))
    });
    let mut out = format!(
        "<header class=\"{}\"><div><p class=\"verdict\"><span>{}</span>\
         <button id=\"theme\" type=\"button\" hidden>Dark</button></p><h1>{}</h1><p class=\"about\">{}</p>\
         <p class=\"chips\"><span class=\"chip {trust}\">measurement {}</span>\
         {build}<span class=\"chip plain\">started {}</span><span class=\"chip plain\">exit code {}</span></p>",
        class(record),
        figures::outcome(record),
        escape(&conclusion),
        escape(&figures::about(record)),
        figures::validity(validity).to_lowercase(),
        escape(&record.run.started_at),
        record.exit_code
    );
    for remark in figures::remarks(record) {
        let _ = write!(out, "<p class=\"caveat\">{}</p>", escape(&remark));
    }
    out.push_str("</div></header>");
    out
}

/// The figures that are asked for first, each coloured by the threshold on it.
fn tiles(record: &Record) -> String {
    let quantile = |latency, name| value_or_dash(figures::quantile(record, latency, name), "ms");
    let percent = |value: Option<f64>| value_or_dash(value, "percent");
    let delivery = figures::delivery(record);
    let rate = figures::messages_per_second(record);
    let mut tiles = vec![
        ("users at once", count(record.connections.peak), ""),
        (
            "connected",
            percent(record.connections.success_percent),
            "connection_success",
        ),
    ];
    if record.matches.searches > 0 {
        tiles.push((
            "matched",
            percent(record.matches.success_percent),
            "match_success",
        ));
        tiles.push(("match p95", quantile("match", "p95"), "match_latency"));
    }
    if delivery.sent > 0 {
        tiles.push((
            "delivered",
            percent(delivery.success_percent),
            "message_success",
        ));
        tiles.push(("message p99", quantile("message", "p99"), "message_latency"));
        tiles.push(("messages", value_or_dash(rate, "per_second"), ""));
    }
    if !record.calls.is_empty() {
        let answered = figures::call_error_percent(record).map(|errors| 100.0 - errors);
        let rate = figures::calls_per_second(record);
        tiles.push(("calls answered", percent(answered), "call_success"));
        tiles.push((
            "slowest call p95",
            value_or_dash(figures::slowest_call_p95(record), "ms"),
            "call_latency",
        ));
        tiles.push(("calls", value_or_dash(rate, "per_second"), ""));
    }
    if let Some(server) = &record.server {
        tiles.push((
            "server memory",
            units::bytes(server.rss_peak_bytes as f64),
            "server_rss",
        ));
        tiles.push((
            "server CPU",
            format!("{:.0} %", server.cpu_percent),
            "server_cpu",
        ));
    }
    let mut out = String::from("<dl class=\"tiles\">");
    for (name, value, threshold) in tiles {
        let _ = write!(
            out,
            "<div class=\"{}\"><dt>{name}</dt><dd>{value}</dd></div>",
            judged(record, threshold)
        );
    }
    out.push_str("</dl>");
    out
}

/// The class of the worst threshold on a figure.
fn judged(record: &Record, prefix: &str) -> &'static str {
    let on = || {
        let thresholds = record.thresholds.iter();
        thresholds.filter(|t| !prefix.is_empty() && t.name.starts_with(prefix))
    };
    match () {
        () if on().any(|t| t.status == Status::Failed) => "bad",
        () if on().any(|t| t.status == Status::NoData) => "warn",
        () if on().any(|t| t.status == Status::Ok) => "good",
        () => "plain",
    }
}

/// What speaks against trusting the figures.
fn trust(record: &Record) -> String {
    let mut out = String::new();
    for finding in &record.measurement.findings {
        let class = match finding.validity {
            Validity::Invalid => "bad",
            _ => "warn",
        };
        let _ = write!(
            out,
            "<aside class=\"finding {class}\"><b>{}</b> {}: {}</aside>",
            figures::validity(finding.validity),
            escape(&finding.what),
            escape(&finding.advice)
        );
    }
    out
}

fn pair(left: &str, right: &str) -> String {
    format!("<div class=\"pair\"><div>{left}</div><div>{right}</div></div>")
}

fn advice(record: &Record) -> String {
    let mut out = String::from("<section class=\"card\"><h2>Advice</h2><ol class=\"advice\">");
    for advice in &record.advice {
        let _ = write!(
            out,
            "<li><p>{}</p><p class=\"evidence\">{}</p></li>",
            escape(&advice.text),
            escape(&advice.evidence)
        );
    }
    out.push_str("</ol>");
    if record.advice.is_empty() {
        out.push_str("<p class=\"note\">Nothing stands out.</p>");
    }
    out.push_str("</section>");
    out
}

fn recovery(record: &Record) -> String {
    let Some(recovery) = &record.recovery else {
        return String::new();
    };
    let until =
        |time: Option<f64>| time.map_or_else(|| "not within the run".to_owned(), units::millis);
    format!(
        "<section class=\"card\"><h2>Recovery</h2><p class=\"lead\"><b>{}</b> users dropped at {}, {} of them from a partner or a search: 99 % were connected again after \
         <b>{}</b> and matched again after <b>{}</b></p></section>",
        count(recovery.dropped),
        units::clock(recovery.dropped_at_ms),
        count(recovery.paired),
        until(recovery.connected_99_percent_ms),
        until(recovery.matched_99_percent_ms)
    )
}

fn charts(title: &str, charts: &str) -> String {
    if charts.is_empty() {
        return String::new();
    }
    format!("<h2 class=\"title\">{title}</h2><div class=\"charts\">{charts}</div>")
}

fn about(record: &Record) -> String {
    format!(
        "<section class=\"card\"><h2>Repeat it</h2><pre>{}</pre><p class=\"note\">loadtest {}, run {}, {} from the first user's \
         start to the last one's close</p></section>",
        escape(&record.run.command),
        escape(&record.run.version),
        escape(&record.run.id),
        units::span(record.run.elapsed_ms)
    )
}

/// Text that is nothing but text, in an element or in a quoted attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}
