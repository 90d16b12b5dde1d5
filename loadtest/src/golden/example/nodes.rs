//! Four servers that are one service, of which one dies.

use crate::record::{Blame, ErrorEntry, ErrorPlace, Node, NodeLoss, ReachRow, Record, Server};

const MINUTE: f64 = 60e3;

/// Adds them to a record.
pub(super) fn add(record: &mut Record) {
    record.nodes = (1..=4).map(node).collect();
    record.reach = vec![
        row("local", 618, 99_800, 0),
        row("remote", 1_880, 301_204, 12),
    ];
    for (name, count, middle) in [
        ("match_local", 1_236, 9.0),
        ("match_remote", 3_760, 13.0),
        ("message_local", 99_800, 0.9),
        ("message_remote", 301_192, 1.6),
        ("told_of_loss", 611, 3.9),
        ("matched_again", 1_861, 4.3),
    ] {
        let latency = super::latency(count, 0, middle);
        record.latency.insert(name.to_owned(), latency);
    }
    for window in &mut record.series.windows {
        let (all, local, remote) = (
            window.message,
            &mut window.message_local,
            &mut window.message_remote,
        );
        (*local, *remote) = (all, all);
        for (value, factor) in [(local, 0.7), (remote, 1.2)] {
            for ms in [&mut value.p50_ms, &mut value.p95_ms, &mut value.p99_ms] {
                *ms = ms.map(|ms| ms * factor);
            }
        }
    }
    for error in &mut record.errors {
        if error.kind == "connect_timeout" {
            let count = error.count;
            error.places = vec![ErrorPlace { node: 2, count }];
        }
    }
}

fn error(kind: &str, count: u64, first_at_ms: f64) -> ErrorEntry {
    ErrorEntry {
        kind: kind.to_owned(),
        blame: Blame::Network,
        count,
        first_at_ms,
        meaning: String::new(),
        places: vec![],
    }
}

fn node(number: u32) -> Node {
    let lost = number == 3;
    let some = |errors: ErrorEntry, yes| if yes { vec![errors] } else { vec![] };
    let loss = NodeLoss {
        from_ms: 7.5 * MINUTE,
        gone_ms: 7.5 * MINUTE + 140.0,
        connections: 1_250,
        back_ms: Some(8.4 * MINUTE),
        torn: 1_861,
        told: 611,
        told_max_ms: Some(3_910.0),
        matched_again: 1_861,
        matched_again_ms: Some(4_320.0),
    };
    Node {
        number,
        url: format!("ws://10.0.3.{}:8080/ws", 16 + number),
        peak_connected: if lost { 1_250 } else { 1_667 },
        connections: if lost { 1_260 } else { 1_667 },
        from_other_nodes: if lost { 10 } else { 417 },
        broke: if lost { 1_250 } else { 0 },
        errors: some(error("connect_timeout", 4, 330_400.0), number == 2),
        lost_with_it: some(error("reset", 1_250, 450_000.0), lost),
        losses: if lost { vec![loss] } else { vec![] },
        server: Some(Server {
            readings: 540,
            cpu_seconds: 75.5,
            cpu_percent: 14.0,
            rss_first_bytes: 11_000_000,
            rss_last_bytes: 19_000_000,
            rss_peak_bytes: 19_300_000,
            fds_peak: 1_690,
            transcription: None,
        }),
    }
}

fn row(reach: &str, pairs: u64, sent: u64, lost_with_node: u64) -> ReachRow {
    ReachRow {
        reach: reach.to_owned(),
        pairs,
        sent,
        delivered: sent - lost_with_node,
        lost: 0,
        lost_with_node,
        undeliverable: 0,
        pending: 0,
        success_percent: Some(100.0),
    }
}
