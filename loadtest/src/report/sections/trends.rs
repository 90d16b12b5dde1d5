//! The run over time, and beside other runs.

use super::{row, table};
use crate::{
    base::units::{self, count, value_or_dash},
    record::{CapacityStep, ComparedFigure, Drift, Record},
    report::{
        document::{
            Bar, Block, Cell,
            Column::{IfAny, Number, Prose, Text, Wide},
            Drawing, Section, Tone,
        },
        figures,
    },
};

pub(in crate::report) fn comparison(record: &Record) -> Section {
    let Some(comparison) = &record.comparison else {
        return Section::default();
    };
    let mut section = table(
        &format!("Against {}", comparison.baseline),
        &[
            Text(""),
            Text("figure"),
            Number("baseline"),
            Number("this run"),
            Wide("change"),
            Number("change, 95 % interval"),
        ],
        comparison.figures.iter().map(compared),
    );
    section.summary = Some(if comparison.regression {
        Cell::toned(Tone::Bad, "worse")
    } else {
        Cell::toned(Tone::Good, "not worse")
    });
    let caveats = comparison.caveats.iter().cloned().map(Block::Caveat);
    section.blocks.splice(0..0, caveats);
    section.blocks.push(Block::Note(format!(
        "The baseline started {}. The intervals are of a typical window, corrected for autocorrelation. \
         A figure is worse if its whole interval lies beyond the smallest change that counts.",
        comparison.baseline_started_at
    )));
    section
}

fn compared(figure: &ComparedFigure) -> Vec<Cell> {
    let tone = match figure.judgement.as_str() {
        "worse" => Tone::Bad,
        "better" => Tone::Good,
        _ => Tone::Plain,
    };
    let change = match (figure.baseline, figure.current) {
        (Some(baseline), Some(current)) if baseline > 0.0 => units::change(current / baseline),
        _ => "–".to_owned(),
    };
    let interval = figure.ratio_interval.map_or_else(
        || "–".to_owned(),
        |[low, high]| format!("{} to {}", units::change(low), units::change(high)),
    );
    row![
        Cell::toned(tone, &*figure.judgement),
        Cell::toned(Tone::Code, &*figure.name),
        value_or_dash(figure.baseline, &figure.unit),
        value_or_dash(figure.current, &figure.unit),
        change,
        Cell {
            text: interval,
            tone,
            bar: figure.ratio_interval.map(Bar::Interval),
        },
    ]
}

pub(in crate::report) fn capacity(record: &Record) -> Section {
    let Some(capacity) = &record.capacity else {
        return Section::default();
    };
    let columns = [
        Text("step"),
        Number("users"),
        Text("result"),
        IfAny("match p95"),
        IfAny("message p99"),
        IfAny("server CPU"),
        Prose("failed"),
    ];
    let mut section = table(
        "Capacity",
        &columns,
        capacity.steps.iter().map(capacity_step),
    );
    section.summary = figures::capacity(record).map(Cell::from);
    let first = capacity.gave_out.iter();
    let first = first.map(|what| Block::Note(format!("Gave out first: {what}")));
    let lead = first.chain([Block::Drawing(Drawing::CapacityStairs)]);
    section.blocks.splice(0..0, lead);
    section.fold()
}

fn capacity_step(step: &CapacityStep) -> Vec<Cell> {
    row![
        &*step.kind,
        step.users,
        if step.held {
            Cell::toned(Tone::Good, "held")
        } else {
            Cell::toned(Tone::Bad, "broke")
        },
        value_or_dash(step.match_p95_ms, "ms"),
        value_or_dash(step.message_p99_ms, "ms"),
        value_or_dash(step.server_cpu_percent, "percent"),
        step.failed.join(", "),
    ]
}

pub(in crate::report) fn recovery(record: &Record) -> Section {
    let Some(recovery) = &record.recovery else {
        return Section::default();
    };
    let after = |time: Option<f64>| match time {
        Some(time) => format!("after {}", units::millis(time)),
        None => "not within the run".to_owned(),
    };
    Section {
        title: "Recovery".to_owned(),
        summary: Some(Cell::from(format!(
            "{} users dropped at {}, {} of them with a partner or searching; 99 % connected again {}, \
             matched again {}",
            count(recovery.dropped),
            units::clock(recovery.dropped_at_ms),
            count(recovery.paired),
            after(recovery.connected_99_percent_ms),
            after(recovery.matched_99_percent_ms)
        ))),
        ..Section::default()
    }
}

pub(in crate::report) fn failover(record: &Record) -> Section {
    let Some(failover) = &record.failover else {
        return Section::default();
    };
    let rows = ["ws", "sse", "poll"].into_iter().filter_map(|transport| {
        let resumed = failover
            .resumed
            .get(transport)
            .filter(|count| **count > 0)?;
        let latency = record.latency.get(&format!("failover {transport}"));
        let quantile = |name| latency.and_then(|it| it.quantiles_ms.get(name).copied());
        Some(row![
            Cell::toned(Tone::Code, transport),
            *resumed,
            value_or_dash(quantile("p50"), "ms"),
            value_or_dash(quantile("p95"), "ms"),
            value_or_dash(quantile("p99"), "ms"),
            value_or_dash(latency.and_then(|it| it.max_ms), "ms"),
        ])
    });
    let columns = [
        Text("went on over"),
        Number("sessions"),
        Number("p50"),
        Number("p95"),
        Number("p99"),
        Number("max"),
    ];
    let mut section = table("Failover", &columns, rows);
    let unplanned = failover.lost.saturating_sub(failover.planned);
    section.summary = Some(Cell::from(format!(
        "{} times a session lost its connection, {} of them unplanned; {} sessions did not go on",
        count(failover.lost),
        count(unplanned),
        count(failover.not_resumed),
    )));
    let heard = record.latency.get("heard_again");
    let heard = |name| heard.and_then(|it| it.quantiles_ms.get(name).copied());
    if let (Some(p50), Some(p99)) = (heard("p50"), heard("p99")) {
        section.blocks.push(Block::Note(format!(
            "From the loss, as the user noticed it, to the first message of the partner: p50 {}, p99 {}.",
            units::millis(p50),
            units::millis(p99),
        )));
    }
    if failover.moved_back > 0 {
        section.blocks.push(Block::Note(format!(
            "{} times a session went back to the transport that its user prefers, without a gap.",
            count(failover.moved_back),
        )));
    }
    if failover.moved + failover.not_moved > 0 {
        let moved = record.latency.get("moved");
        let moved = |name| moved.and_then(|it| it.quantiles_ms.get(name).copied());
        section.blocks.push(Block::Note(format!(
            "{} times a user moved to another server, as theirs drained or was lost: p50 {}, p99 {} until everything was as before; {} lost their session or room.",
            count(failover.moved),
            moved("p50").map_or_else(|| "-".to_owned(), units::millis),
            moved("p99").map_or_else(|| "-".to_owned(), units::millis),
            count(failover.not_moved),
        )));
    }
    section
}

pub(in crate::report) fn drift(record: &Record) -> Section {
    let rows = record.drift.iter().map(|drift| {
        let unit = figures::unit_of(&drift.figure);
        row![
            Cell::toned(Tone::Code, &*drift.figure),
            units::value(drift.per_hour, unit),
            format!("± {}", units::value(drift.uncertainty, unit)),
            units::value(drift.last, unit),
            drift_end(drift),
        ]
    });
    let columns = [
        Text("figure"),
        Number("per hour"),
        Number("95 % interval"),
        Number("at the end"),
        Text(""),
    ];
    let mut section = table("Drift", &columns, rows).fold();
    if !section.is_empty() {
        section.blocks.push(Block::Drawing(Drawing::DriftCharts));
    }
    section
}

/// Where a drift leads.
pub(in crate::report) fn drift_end(drift: &Drift) -> String {
    match drift.hours_to_limit {
        Some(hours) => format!("reaches its limit in {hours:.1} h"),
        None if drift.per_hour.abs() <= drift.uncertainty => "no certain drift".to_owned(),
        None => String::new(),
    }
}

pub(in crate::report) fn course() -> Section {
    Section {
        title: "Course of the run".to_owned(),
        blocks: vec![Block::Drawing(Drawing::RunCharts)],
        ..Section::default()
    }
}
