//! Makes the report's document from the record, section by section.

mod funnel;
mod headline;
mod machines;
mod nodes;
mod talks;
mod traffic;
mod trends;

use super::document::{Block, Cell, Column, Document, Section, Table};
use crate::record::Record;

pub(super) use headline::last_run;
pub(super) use nodes::remarks as remarks_on_nodes;
pub(super) use trends::{comparison, drift_end};

/// The whole report.
pub(super) fn document(record: &Record) -> Document {
    let details = [
        traffic::latencies(record),
        nodes::reach(record),
        nodes::nodes(record),
        traffic::errors(record),
        comparison(record),
        trends::capacity(record),
        trends::recovery(record),
        trends::failover(record),
        trends::drift(record),
        trends::course(),
        traffic::phases(record),
        traffic::delivery(record),
        talks::words(record),
        talks::answers(record),
        traffic::calls(record),
        traffic::flows(record),
        machines::resources(record),
        machines::shards(record),
        machines::command(record),
    ];
    Document {
        verdict: headline::verdict(record),
        measurement: headline::measurement(record),
        overview: [headline::thresholds(record), funnel::funnel(record)],
        advice: headline::advice(record),
        details: details.into_iter().filter(|one| !one.is_empty()).collect(),
    }
}

/// A row whose cells are texts, counts or cells.
macro_rules! row {
    ($($cell:expr),+ $(,)?) => { vec![$($crate::report::document::Cell::from($cell)),+] };
}
use row;

/// Empty without rows.
fn table(title: &str, columns: &[Column], rows: impl Iterator<Item = Vec<Cell>>) -> Section {
    let rows: Vec<_> = rows.collect();
    let blocks = if rows.is_empty() {
        vec![]
    } else {
        vec![Block::Table(Table::new(columns, rows))]
    };
    Section {
        title: title.to_owned(),
        blocks,
        ..Section::default()
    }
}

impl Section {
    fn fold(self) -> Self {
        Self {
            folded: true,
            ..self
        }
    }
}
