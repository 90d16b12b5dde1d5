//! Rules on the measurement itself: whether its figures are to be relied on.

use super::{advice, quantile};
use crate::{
    base::units::{count, millis},
    record::{Advice, Blame, Record, Status, Validity},
};

/// What was found against the measurement comes before all that it measured.
pub(super) fn measurement(record: &Record) -> Option<Advice> {
    let findings = record.measurement.findings.iter();
    let worst = findings.max_by_key(|finding| finding.validity)?;
    let but = match worst.validity {
        Validity::Valid => return None,
        Validity::Suspect => "Before you rely on these figures",
        Validity::Invalid => "Do not use these figures",
    };
    advice(
        format!("{but}: {}.", worst.advice.trim_end_matches('.')),
        worst.what.clone(),
    )
}

pub(super) fn generator_errors(record: &Record) -> Option<Advice> {
    let mut errors = record.errors.iter();
    let error = errors.find(|error| error.blame == Blame::Generator && error.count > 0)?;
    advice(
        "Mend the machine that generates the load first: the server had no part in these errors.",
        format!("{} × {}: {}", count(error.count), error.kind, error.meaning),
    )
}

/// Messages that were sent late by this program look slow although the server was quick.
pub(super) fn late_generator(record: &Record) -> Option<Advice> {
    let due = quantile(record, "message", "p99")?;
    let sent = quantile(record, "message_as_sent", "p99")?;
    let late = quantile(record, "own_lateness", "p99")?;
    if late < 5.0 || due < sent * 1.2 {
        return None;
    }
    advice(
        "Give the generator more CPU, or split the plan with --shard: a part of the latency is its own.",
        format!(
            "message p99 is {} from the moment due and {} as sent; the generator's own lateness p99 is {}",
            millis(due),
            millis(sent),
            millis(late)
        ),
    )
}

pub(super) fn missing_shards(record: &Record) -> Option<Advice> {
    let missing = &record.run.missing_shards;
    (!missing.is_empty()).then_some(())?;
    advice(
        "Merge again when the missing shards are there: totals and thresholds are those of a part of the plan.",
        format!("missing shards: {missing:?}"),
    )
}

pub(super) fn no_data(record: &Record) -> Option<Advice> {
    let empty = record
        .thresholds
        .iter()
        .filter(|t| t.status == Status::NoData);
    let empty: Vec<&str> = empty
        .map(|threshold| threshold.expression.as_str())
        .collect();
    if empty.is_empty() {
        return None;
    }
    let server = empty
        .iter()
        .any(|expression| expression.starts_with("server"));
    let text = if server && record.server.is_none() {
        "Give the address of the server's metrics with --admin-url: what is not measured cannot hold."
    } else {
        "Run longer, or drop the thresholds that this scenario has no data for: what is not measured cannot hold."
    };
    advice(text, format!("without data: {}", empty.join("; ")))
}

pub(super) fn few_samples(record: &Record) -> Option<Advice> {
    let few = record.latency.iter().filter(|(name, latency)| {
        (1..1000).contains(&latency.count) && !name.starts_with("own") && !name.ends_with("as_sent")
    });
    let few: Vec<String> = few
        .map(|(name, latency)| format!("{name} {}", count(latency.count)))
        .collect();
    if few.is_empty() {
        return None;
    }
    advice(
        "Do not lean on the highest percentiles: p99 of fewer than 1,000 measurements is a matter of its ten slowest.",
        format!("measurements: {}", few.join(", ")),
    )
}
