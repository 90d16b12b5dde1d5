//! A record, rendered. Everything is computed before; nothing is decided here.

mod csv;
#[cfg(test)]
pub(crate) mod example;
mod figures;
mod file;
mod html;
mod json;
mod markdown;
mod terminal;
mod text;
mod units;

pub use file::{FileError, Format, read, write};
pub use json::json;
pub use terminal::{comparison, terminal};
pub use text::text;
pub(crate) use units::{bytes, clock, count, millis, percent, span, value, value_or_dash};

use crate::record::Record;

/// Renders a record in a format.
pub fn render(record: &Record, format: Format) -> String {
    match format {
        Format::Html => html::html(record),
        Format::Markdown => markdown::markdown(record),
        // A record is made of numbers, texts, lists and maps with texts for keys: nothing that JSON lacks.
        Format::Json => serde_json::to_string_pretty(record).unwrap_or_default() + "\n",
        Format::Csv => csv::csv(record),
        Format::Text => terminal(record),
    }
}

/// The shares of latencies that are shown, each with its name.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
];

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
