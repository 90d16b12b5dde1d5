//! A record, rendered. Everything is computed before; nothing is decided here.

mod csv;
mod document;
mod figures;
mod file;
mod html;
mod markdown;
mod sections;
mod terminal;

pub use file::{FileError, Format, read, write};
pub use terminal::{comparison, terminal};

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
