//! The row by which a log of runs is kept.

use std::fmt::{Result, Write as _};

use super::inline;
use crate::{
    base::units::{self, count},
    record::Record,
    report::figures,
};

/// Writes the row, with the names of its columns.
pub(super) fn write(out: &mut String, record: &Record) -> Result {
    let date: String = record.run.started_at.chars().take(10).collect();
    // Of users who only ask and are answered, that is what there is to log.
    let asks = figures::delivery(record).sent == 0 && !record.calls.is_empty();
    let per_second = figures::messages_per_second(record).map(units::decimal);
    let [rate, p95, errors] = if asks {
        let per_second = figures::calls_per_second(record);
        [
            per_second.map(|rate| format!("{} calls", units::decimal(rate))),
            figures::slowest_call_p95(record).map(units::millis),
            figures::call_error_percent(record).map(rounded_up),
        ]
    } else {
        [
            per_second,
            figures::quantile(record, "message", "p95").map(units::millis),
            figures::message_error_percent(record).map(rounded_up),
        ]
    };
    let or_dash = |figure: Option<String>| figure.unwrap_or_else(|| "–".to_owned());
    writeln!(
        out,
        "\n### Last run\n\n| Date | Build | Active connections | Messages/s | p95 latency | Errors | Result |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n\
         | {date} | {} | {} | {} | {} | {} | {} |",
        or_dash(record.run.build.as_deref().map(inline)),
        count(record.connections.peak),
        or_dash(rate),
        or_dash(p95),
        or_dash(errors),
        figures::outcome(record)
    )
}

/// Up, so that a few errors do not read as none.
fn rounded_up(percent: f64) -> String {
    format!("{:.2} %", (percent * 100.0).ceil() / 100.0)
}
