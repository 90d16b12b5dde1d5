//! Where the load ran, what it used, and how to run it again.

use super::{row, table};
use crate::{
    base::units::{self, count},
    record::{Record, Server, ShardInfo},
    report::document::{
        Block,
        Column::{IfAny, Number, Text},
        Section,
    },
};

/// What the server and the load generator used.
pub(in crate::report) fn resources(record: &Record) -> Section {
    let bytes = |bytes: u64| units::bytes(bytes as f64);
    let of_server = |name: String, server: &Server| {
        row![
            name,
            format!("{:.1} s", server.cpu_seconds),
            format!("{:.1} %", server.cpu_percent),
            "",
            "",
            bytes(server.rss_first_bytes),
            bytes(server.rss_peak_bytes),
            server.fds_peak,
        ]
    };
    let several = record.nodes.len() > 1;
    let name = if several { "all nodes" } else { "server" };
    let server = record.server.as_ref();
    let server = server.map(|server| of_server(name.to_owned(), server));
    let nodes = record.nodes.iter().filter_map(|node| {
        let server = node.server.as_ref()?;
        Some(of_server(format!("node {}", node.number), server))
    });
    let used = &record.generator;
    let generator = row![
        "generator",
        format!("{:.1} s", used.cpu_seconds),
        format!("{:.1} %", used.cpu_percent),
        used.workers,
        format!("{:.1} %", used.busiest_worker_percent),
        "",
        bytes(used.rss_peak_bytes),
        used.fds.map_or_else(
            || "–".to_owned(),
            |[most, limit]| format!("{} of {}", count(most), count(limit)),
        ),
    ];
    let columns = [
        Text(""),
        Number("CPU"),
        Number("of a core"),
        IfAny("threads"),
        IfAny("busiest"),
        IfAny("first RSS"),
        Number("peak RSS"),
        Number("open files"),
    ];
    let rows = server.into_iter().chain(nodes).chain([generator]);
    let mut section = table("Resources", &columns, rows).fold();
    if record.server.is_none() {
        let note = "The server's metrics were not read.".to_owned();
        section.blocks.push(Block::Note(note));
    }
    section
}

/// The shards that a record was merged from, and the missing ones; empty for a run of one process.
pub(in crate::report) fn shards(record: &Record) -> Section {
    let run = &record.run;
    let clock = |shard: &ShardInfo| match (shard.clock_offset_ms, shard.clock_uncertainty_ms) {
        _ if run.merged_from.first() == Some(shard) => "reference".to_owned(),
        (Some(offset), Some(uncertainty)) => format!("{offset:+.3} ± {uncertainty:.3} ms"),
        _ => "unknown: no messages in both directions".to_owned(),
    };
    let merged = run.merged_from.iter().map(|shard| {
        let index = u64::from(shard.index);
        (
            index,
            row![index, &*shard.host, &*shard.started_at, clock(shard)],
        )
    });
    let missing = run.missing_shards.iter().map(|index| {
        let index = u64::from(*index);
        (index, row![index, "missing", "–", "–"])
    });
    let mut rows: Vec<_> = merged.chain(missing).collect();
    rows.sort_by_key(|(index, _)| *index);
    let columns = [
        Text("shard"),
        Text("host"),
        Text("started"),
        Text("clock against the first shard"),
    ];
    table("Shards", &columns, rows.into_iter().map(|(_, row)| row)).fold()
}

/// How to run the same again.
pub(in crate::report) fn command(record: &Record) -> Section {
    let run = &record.run;
    Section {
        title: "Command".to_owned(),
        blocks: vec![
            Block::Code(run.command.clone()),
            Block::Note(format!(
                "loadtest {}, run {}, {} from the first start of a user to the last close",
                run.version,
                run.id,
                units::span(run.elapsed_ms)
            )),
        ],
        folded: true,
        ..Section::default()
    }
}
