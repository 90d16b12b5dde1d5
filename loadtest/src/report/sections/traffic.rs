//! What users and the server said to each other.

use super::{row, table};
use crate::{
    base::units::{self, count, value_or_dash},
    record::{ErrorEntry, Record},
    report::{
        document::{
            Block, Cell,
            Column::{IfAny, Number, Prose, Text, Wide},
            Section, Tone,
        },
        figures,
    },
};

pub(in crate::report) fn latencies(record: &Record) -> Section {
    const QUANTILES: [&str; 6] = ["p50", "p90", "p95", "p99", "p99.9", "p99.99"];
    let columns = [
        Text(""),
        Number("count"),
        Number(QUANTILES[0]),
        Number(QUANTILES[1]),
        Number(QUANTILES[2]),
        Number(QUANTILES[3]),
        Number(QUANTILES[4]),
        Wide(QUANTILES[5]),
        Number("max"),
    ];
    let latencies = figures::latencies(record);
    let rows = latencies.iter().map(|(name, latency)| {
        let mut row = row![name.replace('_', " "), latency.count];
        let quantiles = QUANTILES.map(|name| latency.quantiles_ms.get(name).copied());
        let figures = quantiles.into_iter().chain([latency.max_ms]);
        row.extend(figures.map(|figure| Cell::from(value_or_dash(figure, "ms"))));
        row
    });
    let mut section = table("Latency", &columns, rows);
    // The latencies from the moment of sending are of the same messages and calls again.
    let once = latencies
        .iter()
        .filter(|(name, _)| !name.contains("as_sent"));
    let unanswered: u64 = once.map(|(_, latency)| latency.censored).sum();
    if unanswered > 0 {
        section.blocks.push(Block::Note(format!(
            "{} had no answer in time; each counts as the time that it waited, a lower bound.",
            count(unanswered)
        )));
    }
    section
}

pub(in crate::report) fn errors(record: &Record) -> Section {
    let rows = record.errors.iter().map(|error| {
        row![
            Cell::toned(Tone::Code, &*error.kind),
            error.count,
            figures::blame(error.blame),
            at_nodes(error, record.nodes.len()),
            units::clock(error.first_at_ms),
            &*error.meaning,
        ]
    });
    let columns = [
        Text("kind"),
        Number("count"),
        Text("blame"),
        IfAny("where"),
        Number("first at"),
        Prose("meaning"),
    ];
    let all: u64 = record.errors.iter().map(|error| error.count).sum();
    let summary = match all {
        0 => "none".to_owned(),
        all => count(all),
    };
    Section {
        summary: Some(Cell::from(summary)),
        ..table("Errors", &columns, rows).fold()
    }
}

/// `node 3 of 4: 1, node 4 of 4: 2`.
fn at_nodes(error: &ErrorEntry, nodes: usize) -> String {
    let places = error.places.iter();
    let places = places.map(|at| format!("node {} of {nodes}: {}", at.node, count(at.count)));
    places.collect::<Vec<_>>().join(", ")
}

/// Empty for a run of one phase: the other sections say the same.
pub(in crate::report) fn phases(record: &Record) -> Section {
    if record.phases.len() < 2 {
        return Section::default();
    }
    let rows = record.phases.iter().map(|phase| {
        row![
            &*phase.name,
            units::clock(phase.start_ms),
            units::span(phase.end_ms - phase.start_ms),
            phase.peak_connected,
            value_or_dash(phase.connection_success_percent, "percent"),
            value_or_dash(phase.match_success_percent, "percent"),
            value_or_dash(phase.match_p95_ms, "ms"),
            value_or_dash(phase.message_p99_ms, "ms"),
            phase.errors,
        ]
    });
    let columns = [
        Text(""),
        Number("start"),
        Number("length"),
        Number("peak users"),
        Number("connected"),
        Wide("matched"),
        IfAny("match p95"),
        IfAny("message p99"),
        Number("errors"),
    ];
    table("Phases", &columns, rows).fold()
}

pub(in crate::report) fn delivery(record: &Record) -> Section {
    let columns = [
        Text(""),
        Text("direction"),
        Number("sent"),
        Number("delivered"),
        IfAny("lost"),
        IfAny("lost with node"),
        IfAny("late"),
        IfAny("duplicate"),
        IfAny("reordered"),
        IfAny("wrong peer"),
        IfAny("altered"),
        IfAny("pending"),
        IfAny("peer left"),
        IfAny("unknown"),
    ];
    let rows = record.delivery.iter().map(|row| {
        row![
            &*row.kind,
            figures::direction(&row.direction),
            row.sent,
            row.delivered,
            row.lost,
            row.lost_with_node,
            row.late,
            row.duplicate,
            row.reordered,
            row.wrong_peer,
            row.altered,
            row.pending,
            row.undeliverable,
            row.unknown,
        ]
    });
    let mut section = table("Delivery", &columns, rows).fold();
    if section.is_empty() {
        return section;
    }
    let all = figures::delivery(record);
    let faults = [
        (all.lost, "lost"),
        (all.late, "late"),
        (all.duplicate, "duplicate"),
        (all.reordered, "reordered"),
        (all.wrong_peer, "wrong peer"),
        (all.altered, "altered"),
    ];
    let none = faults.iter().filter(|(count, _)| *count == 0);
    let none: Vec<&str> = none.map(|(_, name)| *name).collect();
    let mut notes = Vec::new();
    if !none.is_empty() {
        notes.push(format!("none {}", none.join(", ")));
    }
    if let Some(rate) = figures::messages_per_second(record) {
        notes.push(format!("{} delivered per second", units::decimal(rate)));
    }
    section.blocks.push(Block::Note(notes.join("; ")));
    section
}

pub(in crate::report) fn calls(record: &Record) -> Section {
    let rows = record.calls.iter().map(|call| {
        row![
            &*call.name,
            call.sent,
            call.answered,
            call.timed_out,
            call.wrong,
            call.failed,
            call.pending,
        ]
    });
    let columns = [
        Text(""),
        Number("sent"),
        Number("answered"),
        IfAny("timed out"),
        IfAny("wrong"),
        IfAny("failed"),
        IfAny("pending"),
    ];
    table("Calls", &columns, rows).fold()
}

pub(in crate::report) fn flows(record: &Record) -> Section {
    let rows = figures::ended_flows(record);
    let rows = rows.map(|flow| row![&*flow.name, flow.completed, flow.failed]);
    let columns = [Text(""), Number("completed"), Number("failed")];
    table("Flows", &columns, rows).fold()
}
