//! Makes the report's document from the record, section by section.

mod funnel;

use super::{
    document::{
        Bar, Block, Cell,
        Column::{self, IfAny, Number, Prose, Text, Wide},
        Document, Drawing, Item, Section, Table, Tone, Verdict,
    },
    figures,
};
use crate::{
    base::units::{self, count, value_or_dash},
    record::{
        CapacityStep, ComparedFigure, Drift, Outcome, Record, ShardInfo, Status, ThresholdResult,
        Validity,
    },
};

use funnel::funnel;

/// The whole report.
pub(super) fn document(record: &Record) -> Document {
    let details = [
        latencies(record),
        errors(record),
        comparison(record),
        capacity(record),
        recovery(record),
        drift(record),
        course(),
        phases(record),
        delivery(record),
        calls(record),
        flows(record),
        resources(record),
        shards(record),
        command(record),
    ];
    Document {
        verdict: verdict(record),
        measurement: measurement(record),
        overview: [thresholds(record), funnel(record)],
        advice: advice(record),
        details: details.into_iter().filter(|one| !one.is_empty()).collect(),
    }
}

fn verdict(record: &Record) -> Verdict {
    let run = &record.run;
    let mut facts = vec![
        format!("started {}", run.started_at),
        format!("exit code {}", record.exit_code),
    ];
    facts.extend(run.build.as_ref().map(|build| format!("build {build}")));
    let tone = match record.outcome {
        Outcome::Pass => Tone::Good,
        Outcome::Fail | Outcome::Regression => Tone::Bad,
        Outcome::Invalid => Tone::Warn,
    };
    Verdict {
        outcome: Cell::toned(tone, figures::outcome(record)),
        conclusion: figures::conclusion(record),
        about: figures::about(record),
        facts,
        remarks: figures::remarks(record),
    }
}

/// A row whose cells are texts, counts or cells.
macro_rules! row {
    ($($cell:expr),+ $(,)?) => { vec![$(Cell::from($cell)),+] };
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

/// Whether the figures can be trusted.
pub(super) fn measurement(record: &Record) -> Section {
    let measurement = &record.measurement;
    let tone = match measurement.validity {
        Validity::Valid => Tone::Good,
        Validity::Suspect => Tone::Warn,
        Validity::Invalid => Tone::Bad,
    };
    let findings = measurement.findings.iter().map(|finding| Item {
        text: format!("{}: {}", finding.what, finding.advice),
        evidence: None,
    });
    let findings: Vec<Item> = findings.collect();
    Section {
        title: "Measurement".to_owned(),
        summary: Some(Cell::toned(tone, figures::validity(measurement.validity))),
        blocks: match findings.len() {
            0 => vec![],
            _ => vec![Block::List(findings)],
        },
        folded: false,
    }
}

/// Thresholds, failed ones first.
pub(super) fn thresholds(record: &Record) -> Section {
    let mut thresholds: Vec<_> = record.thresholds.iter().collect();
    thresholds.sort_by_key(|threshold| match threshold.status {
        Status::Failed => 0,
        Status::NoData => 1,
        Status::Ok => 2,
        Status::NotMeasured => 3,
    });
    let mut section = table(
        "Thresholds",
        &[
            Text(""),
            Text(""),
            Wide("of the limit"),
            Number("measured"),
            IfAny("failed at"),
        ],
        thresholds.into_iter().map(threshold),
    );
    if section.is_empty() {
        section.blocks.push(Block::Note("none".to_owned()));
    }
    section
}

fn threshold(threshold: &ThresholdResult) -> Vec<Cell> {
    let tone = match threshold.status {
        Status::Ok => Tone::Good,
        Status::Failed | Status::NoData => Tone::Bad,
        Status::NotMeasured => Tone::Plain,
    };
    let measured = match threshold.status {
        Status::NoData | Status::NotMeasured => None,
        Status::Ok | Status::Failed => threshold.measured,
    };
    // Only where less is better, and the limit is more than nothing.
    let limited = threshold.bound.starts_with('<') && threshold.limit > 0.0;
    let used = measured
        .filter(|_| limited)
        .map(|measured| measured / threshold.limit);
    let mut failed = threshold.failed_at_ms.map(units::clock).unwrap_or_default();
    if threshold.aborted {
        failed.push_str(", ended the run");
    }
    row![
        Cell::toned(tone, figures::status(threshold.status)),
        Cell::toned(Tone::Code, &*threshold.expression),
        used.map_or_else(Cell::default, |used| Cell {
            text: format!("{:.0} %", used * 100.0),
            tone,
            bar: Some(Bar::Fraction(used)),
        }),
        value_or_dash(measured, &threshold.unit),
        failed,
    ]
}

/// What to do, and why.
pub(super) fn advice(record: &Record) -> Section {
    let items = record.advice.iter().map(|advice| Item {
        text: advice.text.clone(),
        evidence: Some(advice.evidence.clone()),
    });
    Section {
        title: "Advice".to_owned(),
        blocks: match record.advice.len() {
            0 => vec![Block::Note("none: nothing stands out".to_owned())],
            _ => vec![Block::List(items.collect())],
        },
        ..Section::default()
    }
}

pub(super) fn latencies(record: &Record) -> Section {
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

pub(super) fn errors(record: &Record) -> Section {
    let rows = record.errors.iter().map(|error| {
        row![
            Cell::toned(Tone::Code, &*error.kind),
            error.count,
            figures::blame(error.blame),
            units::clock(error.first_at_ms),
            &*error.meaning,
        ]
    });
    let columns = [
        Text("kind"),
        Number("count"),
        Text("blame"),
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

pub(super) fn comparison(record: &Record) -> Section {
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

pub(super) fn capacity(record: &Record) -> Section {
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

pub(super) fn recovery(record: &Record) -> Section {
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

pub(super) fn drift(record: &Record) -> Section {
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
pub(super) fn drift_end(drift: &Drift) -> String {
    match drift.hours_to_limit {
        Some(hours) => format!("reaches its limit in {hours:.1} h"),
        None if drift.per_hour.abs() <= drift.uncertainty => "no certain drift".to_owned(),
        None => String::new(),
    }
}

pub(super) fn course() -> Section {
    Section {
        title: "Course of the run".to_owned(),
        blocks: vec![Block::Drawing(Drawing::RunCharts)],
        ..Section::default()
    }
}

/// Empty for a run of one phase: the other sections say the same.
pub(super) fn phases(record: &Record) -> Section {
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

pub(super) fn delivery(record: &Record) -> Section {
    let columns = [
        Text(""),
        Text("direction"),
        Number("sent"),
        Number("delivered"),
        IfAny("lost"),
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

pub(super) fn calls(record: &Record) -> Section {
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

pub(super) fn flows(record: &Record) -> Section {
    let rows = figures::ended_flows(record);
    let rows = rows.map(|flow| row![&*flow.name, flow.completed, flow.failed]);
    let columns = [Text(""), Number("completed"), Number("failed")];
    table("Flows", &columns, rows).fold()
}

/// What the server and the load generator used.
pub(super) fn resources(record: &Record) -> Section {
    let bytes = |bytes: u64| units::bytes(bytes as f64);
    let server = record.server.as_ref().map(|server| {
        row![
            "server",
            format!("{:.1} s", server.cpu_seconds),
            format!("{:.1} %", server.cpu_percent),
            "",
            "",
            bytes(server.rss_first_bytes),
            bytes(server.rss_peak_bytes),
            server.fds_peak,
        ]
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
    let rows = server.into_iter().chain([generator]);
    let mut section = table("Resources", &columns, rows).fold();
    if record.server.is_none() {
        let note = "The server's metrics were not read.".to_owned();
        section.blocks.push(Block::Note(note));
    }
    section
}

/// The shards that a record was merged from, and the missing ones; empty for a run of one process.
pub(super) fn shards(record: &Record) -> Section {
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
pub(super) fn command(record: &Record) -> Section {
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

/// One row for a log of runs.
pub(super) fn last_run(record: &Record) -> Section {
    // A log of users who only call an API shows their calls.
    let only_calls = figures::delivery(record).sent == 0 && !record.calls.is_empty();
    let (rate, p95, errors) = if only_calls {
        (
            figures::calls_per_second(record).map(|rate| format!("{} calls", units::decimal(rate))),
            figures::slowest_call_p95(record),
            figures::call_error_percent(record),
        )
    } else {
        (
            figures::messages_per_second(record).map(units::decimal),
            figures::quantile(record, "message", "p95"),
            figures::message_error_percent(record),
        )
    };
    // Rounded up, so that a few errors do not read as none.
    let errors = errors.map(|percent| format!("{:.2} %", (percent * 100.0).ceil() / 100.0));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let date: String = record.run.started_at.chars().take(10).collect();
    let row = row![
        date,
        or_dash(record.run.build.clone()),
        record.connections.peak,
        or_dash(rate),
        value_or_dash(p95, "ms"),
        or_dash(errors),
        figures::outcome(record),
    ];
    let columns = [
        Text("Date"),
        Text("Build"),
        Text("Active connections"),
        Text("Messages/s"),
        Text("p95 latency"),
        Text("Errors"),
        Text("Result"),
    ];
    table("Last run", &columns, std::iter::once(row))
}
