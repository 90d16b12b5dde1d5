//! The windows of a run as comma-separated values, a line each: for spreadsheets and scripts.

use std::fmt::Write as _;

use crate::record::{Quantiles, Record, Window};

const HEAD: &str = "start_ms,length_ms,phase,connected,searching,in_rooms,attempts,connects,matches,sent,delivered,errors,\
connect_p50_ms,connect_p95_ms,connect_p99_ms,connect_max_ms,\
match_p50_ms,match_p95_ms,match_p99_ms,match_max_ms,\
message_p50_ms,message_p95_ms,message_p99_ms,message_max_ms,\
own_lateness_p50_ms,own_lateness_p95_ms,own_lateness_p99_ms,own_lateness_max_ms,\
server_cpu_percent,server_rss_bytes,server_fds,generator_cpu_percent,generator_rss_bytes,\
answered,call_p50_ms,call_p95_ms,call_p99_ms,call_max_ms,server_queue,server_spill_bytes,\
message_local_p50_ms,message_local_p95_ms,message_local_p99_ms,message_local_max_ms,\
message_remote_p50_ms,message_remote_p95_ms,message_remote_p99_ms,message_remote_max_ms";

/// Renders the windows with a line of names first. What was not measured is empty.
pub(super) fn csv(record: &Record) -> String {
    let mut out = String::with_capacity(256 * (record.series.windows.len() + 2));
    out.push_str(HEAD);
    out.push('\n');
    for window in &record.series.windows {
        line(&mut out, window, phase(record, window));
    }
    out
}

fn phase<'a>(record: &'a Record, window: &Window) -> &'a str {
    let middle = window.start_ms + window.length_ms / 2.0;
    let mut phases = record.phases.iter();
    phases
        .find(|phase| phase.start_ms <= middle && middle < phase.end_ms)
        .map_or("", |phase| phase.name.as_str())
}

fn line(out: &mut String, window: &Window, phase: &str) {
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{},{},{}",
        window.start_ms,
        window.length_ms,
        quoted(phase)
    );
    for count in [
        window.connected,
        window.searching,
        window.in_rooms,
        window.attempts,
        window.connects,
        window.matches,
        window.sent,
        window.delivered,
        window.errors,
    ] {
        let _ = write!(out, ",{count}");
    }
    for latency in [
        window.connect,
        window.matching,
        window.message,
        window.own_lateness,
    ] {
        quantiles(out, latency);
    }
    cell(out, window.server_cpu_percent);
    cell(out, window.server_rss_bytes);
    cell(out, window.server_fds);
    // New columns come last, so that the positions of the others stay.
    let _ = write!(
        out,
        ",{},{},{}",
        window.generator_cpu_percent, window.generator_rss_bytes, window.answered
    );
    quantiles(out, window.call);
    cell(out, window.server_queue);
    cell(out, window.server_spill_bytes);
    quantiles(out, window.message_local);
    quantiles(out, window.message_remote);
    out.push('\n');
}

fn quantiles(out: &mut String, latency: Quantiles) {
    let Quantiles {
        p50_ms,
        p95_ms,
        p99_ms,
        max_ms,
    } = latency;
    for quantile in [p50_ms, p95_ms, p99_ms, max_ms] {
        cell(out, quantile);
    }
}

fn cell(out: &mut String, value: Option<impl std::fmt::Display>) {
    out.push(',');
    if let Some(value) = value {
        let _ = write!(out, "{value}");
    }
}

/// Quoted where a comma, a quote or a line break asks for it. A leading sign that a spreadsheet would take
/// for a formula is set behind an apostrophe.
fn quoted(text: &str) -> String {
    let text = match text.chars().next() {
        Some('=' | '+' | '-' | '@') => format!("'{text}"),
        _ => text.to_owned(),
    };
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_phases_stay_in_their_cell() {
        assert_eq!(quoted("warm up"), "warm up");
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
    }
}
