//! What the report says first.

use super::{row, table};
use crate::{
    base::units::{self, value_or_dash},
    record::{Outcome, Record, Status, ThresholdResult, Validity},
    report::{
        document::{
            Bar, Block, Cell,
            Column::{IfAny, Number, Text, Wide},
            Item, Section, Tone, Verdict,
        },
        figures,
    },
};

pub(in crate::report) fn verdict(record: &Record) -> Verdict {
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

/// Whether the figures can be trusted.
pub(in crate::report) fn measurement(record: &Record) -> Section {
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
pub(in crate::report) fn thresholds(record: &Record) -> Section {
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
pub(in crate::report) fn advice(record: &Record) -> Section {
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

/// One row for a log of runs.
pub(in crate::report) fn last_run(record: &Record) -> Section {
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
