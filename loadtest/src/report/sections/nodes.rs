//! Several servers that are one service.

use super::{row, table};
use crate::{
    base::units::{self, count, value_or_dash},
    record::{Node, NodeLoss, Record},
    report::{
        document::{
            Block, Cell,
            Column::{IfAny, Number, Text, Wide},
            Section, Tone,
        },
        figures,
    },
};

/// Rooms and messages within one server, and between two.
pub(in crate::report) fn reach(record: &Record) -> Section {
    let rows = record.reach.iter().map(|row| {
        let quantile = |latency: &str, quantile| {
            let latency = format!("{latency}_{}", row.reach);
            value_or_dash(figures::quantile(record, &latency, quantile), "ms")
        };
        row![
            &*row.reach,
            row.pairs,
            quantile("match", "p95"),
            row.sent,
            row.delivered,
            row.lost,
            row.lost_with_node,
            row.pending,
            row.undeliverable,
            value_or_dash(row.success_percent, "percent"),
            quantile("message", "p50"),
            quantile("message", "p99"),
        ]
    });
    let columns = [
        Text(""),
        Number("pairs"),
        Wide("match p95"),
        Number("sent"),
        Number("delivered"),
        IfAny("lost"),
        IfAny("with node"),
        IfAny("pending"),
        IfAny("peer left"),
        Number("success"),
        Number("message p50"),
        Number("message p99"),
    ];
    let mut section = table("Reach", &columns, rows);
    if !section.is_empty() {
        let note = "Local: both users were at one node when they met, or when the message was sent and received; remote: at two. With node: lost with the node of its sender or receiver.";
        section.blocks.push(Block::Note(note.to_owned()));
    }
    section
}

/// Who was at which server, and what went wrong there.
pub(in crate::report) fn nodes(record: &Record) -> Section {
    let sum =
        |errors: &[crate::record::ErrorEntry]| errors.iter().map(|error| error.count).sum::<u64>();
    let rows = record.nodes.iter().map(|node| {
        row![
            u64::from(node.number),
            Cell::toned(Tone::Code, &*node.url),
            node.peak_connected,
            node.connections,
            node.from_other_nodes,
            node.broke,
            sum(&node.errors),
            sum(&node.lost_with_it),
        ]
    });
    let columns = [
        Text("node"),
        Text("URL"),
        Number("peak users"),
        Number("connections"),
        IfAny("from others"),
        IfAny("broke"),
        IfAny("errors"),
        IfAny("lost with it"),
    ];
    let mut section = table("Nodes", &columns, rows);
    for node in &record.nodes {
        for loss in &node.losses {
            section.blocks.push(Block::Note(told(record, node, loss)));
        }
    }
    section
}

/// `node 3 of 4 (ws://...)`.
pub(in crate::report) fn name(record: &Record, node: &Node) -> String {
    format!(
        "node {} of {} ({})",
        node.number,
        record.nodes.len(),
        node.url
    )
}

/// The loss of a server, and how its users and their partners got over it.
fn told(record: &Record, node: &Node, loss: &NodeLoss) -> String {
    let mut text = format!(
        "{} was lost at {}: {} connections broke within {}. ",
        name(record, node),
        units::clock(loss.from_ms),
        count(loss.connections),
        units::millis(loss.gone_ms - loss.from_ms),
    );
    text.push_str(&format!(
        "{} users lost their partner or their search by it; {} of other nodes were told{}. ",
        count(loss.torn),
        count(loss.told),
        loss.told_max_ms.map_or_else(String::new, |ms| format!(
            ", the last after {}",
            units::millis(ms)
        )),
    ));
    text.push_str(&match loss.matched_again_ms {
        Some(ms) => format!(
            "Time until everybody was matched again: {}.",
            units::millis(ms)
        ),
        None => format!(
            "{} of them were not matched again within the run.",
            count(loss.torn.saturating_sub(loss.matched_again))
        ),
    });
    if let Some(back) = loss.back_ms {
        text.push_str(&format!(
            " Users were connected to it again from {}.",
            units::clock(back)
        ));
    }
    text
}

/// What counts against single servers, and which were lost: a line each.
pub(in crate::report) fn remarks(record: &Record) -> Vec<String> {
    let mut remarks = Vec::new();
    for node in &record.nodes {
        let name = name(record, node);
        for loss in &node.losses {
            remarks.push(format!("{name} was lost at {}", units::clock(loss.from_ms)));
        }
        let kinds = node.errors.iter().take(MAX_KINDS);
        let kinds = kinds.map(|error| format!("{} {}", count(error.count), error.kind));
        let kinds: Vec<_> = kinds.collect();
        if !kinds.is_empty() {
            remarks.push(format!("{name}: {}", kinds.join(", ")));
        }
    }
    remarks
}

/// Kinds of errors in the line of a server.
const MAX_KINDS: usize = 3;
