//! The figures that readers ask for first, each coloured by the threshold on it.

use maud::{Markup, html};

use crate::{
    base::units::{count, value_or_dash},
    record::{Record, Status},
    report::figures,
};

/// A name, a figure, and how the names of its thresholds begin; nothing begins like `-`.
type Tile = (&'static str, String, &'static str);

pub(super) fn tiles(record: &Record) -> Markup {
    let server = record.server.as_ref();
    let server = server.map(|server| {
        let memory = value_or_dash(Some(server.rss_peak_bytes as f64), "bytes");
        let cpu = format!("{:.0} %", server.cpu_percent);
        [
            ("server memory", memory, "server_rss"),
            ("server CPU", cpu, "server_cpu"),
        ]
    });
    let mut tiles = users(record);
    tiles.extend(traffic(record));
    tiles.extend(server.into_iter().flatten());
    html! {
        dl.tiles {
            @for (name, value, thresholds) in tiles {
                div class=(worst(record, thresholds)) { dt { (name) } dd { (value) } }
            }
        }
    }
}

fn users(record: &Record) -> Vec<Tile> {
    let percent = |value| value_or_dash(value, "percent");
    let connected = percent(record.connections.success_percent);
    let mut tiles = vec![
        ("peak users", count(record.connections.peak), "-"),
        ("connected", connected, "connection_success"),
    ];
    if record.matches.searches > 0 {
        let matched = percent(record.matches.success_percent);
        let p95 = value_or_dash(figures::quantile(record, "match", "p95"), "ms");
        tiles.push(("matched", matched, "match_success"));
        tiles.push(("match p95", p95, "match_latency"));
    }
    tiles
}

fn traffic(record: &Record) -> Vec<Tile> {
    let percent = |value| value_or_dash(value, "percent");
    let per_second = |value| value_or_dash(value, "per_second");
    let millis = |value| value_or_dash(value, "ms");
    let mut tiles = Vec::new();
    let delivery = figures::delivery(record);
    if delivery.sent > 0 {
        let p99 = figures::quantile(record, "message", "p99");
        let rate = figures::messages_per_second(record);
        tiles.push((
            "delivered",
            percent(delivery.success_percent),
            "message_success",
        ));
        tiles.push(("message p99", millis(p99), "message_latency"));
        tiles.push(("messages", per_second(rate), "-"));
    }
    if !record.calls.is_empty() {
        let answered = figures::call_error_percent(record).map(|errors| 100.0 - errors);
        let p95 = figures::slowest_call_p95(record);
        let rate = figures::calls_per_second(record);
        tiles.push(("calls answered", percent(answered), "call_success"));
        tiles.push(("slowest call p95", millis(p95), "call_latency"));
        tiles.push(("calls", per_second(rate), "-"));
    }
    tiles
}

/// The class of the worst threshold on a figure.
fn worst(record: &Record, prefix: &str) -> &'static str {
    let thresholds = record.thresholds.iter();
    let on = || {
        thresholds
            .clone()
            .filter(|one| one.name.starts_with(prefix))
    };
    let any = |status| on().any(|one| one.status == status);
    if any(Status::Failed) {
        "bad"
    } else if any(Status::NoData) {
        "warn"
    } else if any(Status::Ok) {
        "good"
    } else {
        "plain"
    }
}
