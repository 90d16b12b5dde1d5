//! Reads a threshold. Every error says what to write instead.

use std::time::Duration;

use thiserror::Error;

use super::{Bound, Metric, MetricKind, Statistic, Threshold};
use crate::base::units::parse_rate;

/// A text that is not a threshold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("threshold {text:?}: {problem}")]
pub struct ThresholdError {
    text: String,
    problem: String,
}

pub(super) fn parse(text: &str) -> Result<Threshold, ThresholdError> {
    read(text.trim()).map_err(|problem| ThresholdError {
        text: text.to_owned(),
        problem,
    })
}

fn read(text: &str) -> Result<Threshold, String> {
    let example = "write it like 'match_latency p95 < 2s'";
    let at = text
        .find(['<', '>'])
        .ok_or_else(|| format!("there is no <, <=, > or >=; {example}"))?;
    let (subject, rest) = text.split_at(at);
    let (bound, rest) = bound(rest);
    let (metric, of, statistic) = subject_of(subject.trim())?;
    let mut words = rest.split_whitespace();
    let limit = words
        .next()
        .ok_or_else(|| format!("there is no limit; {example}"))?;
    let limit = limit_of(metric, statistic, limit)?;
    let Clauses {
        over,
        abort_after,
        if_measured,
    } = clauses(words)?;
    if if_measured && !metric.may_be_missing() {
        return Err(format!(
            "'if measured' is for what the server tells of itself, and for what may not happen, not for {}",
            metric.name()
        ));
    }
    if over.is_some() && !metric.has_windows() {
        return Err(format!(
            "{} is not kept for parts of a run: leave out 'over'",
            metric.name()
        ));
    }
    Ok(Threshold {
        expression: text.to_owned(),
        metric,
        of,
        statistic,
        bound,
        limit,
        over,
        abort_after,
        asked_for: !if_measured,
    })
}

fn bound(text: &str) -> (Bound, &str) {
    let signs = [
        ("<=", Bound::AtMost),
        (">=", Bound::AtLeast),
        ("<", Bound::Below),
        (">", Bound::Above),
    ];
    let found = signs
        .iter()
        .find_map(|(sign, bound)| Some((*bound, text.strip_prefix(sign)?)));
    found.unwrap_or((Bound::Below, text))
}

/// `call_latency{search} p99`.
fn subject_of(text: &str) -> Result<(Metric, Option<String>, Statistic), String> {
    let (name, of, statistic) = match text.split_once('{') {
        Some((name, rest)) => {
            let (of, rest) = rest.split_once('}').ok_or("the { is not closed")?;
            (
                name.trim(),
                Some(of.trim().trim_matches('"').to_owned()),
                rest.trim(),
            )
        }
        None => match text.split_once(char::is_whitespace) {
            Some((name, rest)) => (name, None, rest.trim()),
            None => (text, None, ""),
        },
    };
    let found = Metric::ALL.iter().find(|metric| metric.name() == name);
    let metric = *found.ok_or_else(|| {
        let known: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        format!(
            "there is no metric {name:?}; there are {}",
            known.join(", ")
        )
    })?;
    if of.is_some() && !metric.is_by_name() {
        return Err(format!("{name} is not by name: leave out {{...}}"));
    }
    Ok((metric, of, statistic_of(metric, statistic)?))
}

fn statistic_of(metric: Metric, text: &str) -> Result<Statistic, String> {
    let (name, kind) = (metric.name(), metric.kind());
    let quantile = || {
        let percent: f64 = text.strip_prefix('p')?.parse().ok()?;
        (percent > 0.0 && percent < 100.0).then_some(Statistic::Quantile(percent / 100.0))
    };
    let gauge = matches!(
        kind,
        MetricKind::Memory | MetricKind::Cpu | MetricKind::Gauge
    );
    let statistic = match (kind, text) {
        (MetricKind::Latency, "count") => Some(Statistic::Count),
        (MetricKind::Success, "" | "rate" | "percent")
        | (MetricKind::Time | MetricKind::Number | MetricKind::Growth, "") => {
            Some(Statistic::Plain)
        }
        (MetricKind::Count, "" | "count") => Some(Statistic::Count),
        (MetricKind::Count, "rate") => Some(Statistic::Rate),
        (
            MetricKind::Success
            | MetricKind::Count
            | MetricKind::Time
            | MetricKind::Number
            | MetricKind::Growth,
            _,
        ) => None,
        (_, "max") => Some(Statistic::Max),
        (_, "mean" | "avg") => Some(Statistic::Mean),
        (_, "med") => Some(Statistic::Quantile(0.5)),
        (_, "last") if gauge => Some(Statistic::Last),
        _ => quantile(),
    };
    statistic.ok_or_else(|| {
        let known = match kind {
            MetricKind::Latency => "p50, p95, p99.9 and the like, mean, max or count",
            MetricKind::Time => "none, as it is one time",
            MetricKind::Number | MetricKind::Growth => "none, as it is one number",
            MetricKind::Success => "none, as it is a percentage",
            MetricKind::Count => "count or rate (each second)",
            MetricKind::Memory | MetricKind::Cpu | MetricKind::Gauge => {
                "max, mean, last, p95 and the like"
            }
        };
        format!("{name} has no statistic {text:?}: give {known}")
    })
}

fn limit_of(metric: Metric, statistic: Statistic, text: &str) -> Result<f64, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite() && *n >= 0.0)
    };
    let (limit, example) = match (metric.kind(), statistic) {
        (_, Statistic::Rate) => (parse_rate(text).ok(), "50/s or 10/m"),
        (_, Statistic::Count) => (number(text), "10"),
        (MetricKind::Latency | MetricKind::Time, _) => {
            let time = humantime::parse_duration(text).ok();
            (time.map(|time| time.as_secs_f64() * 1e3), "250ms or 2s")
        }
        (MetricKind::Success | MetricKind::Cpu, _) => (number(text.trim_end_matches('%')), "99.9%"),
        (MetricKind::Memory, _) => (bytes(text), "500MB or 2GB"),
        (MetricKind::Growth, _) => {
            let percent = text.trim_end_matches("/h").trim_end().trim_end_matches('%');
            (number(percent), "5%/h")
        }
        (MetricKind::Count | MetricKind::Gauge, _) => (number(text), "1000"),
        (MetricKind::Number, _) => (number(text), "15 or 1.05"),
    };
    let limit = limit.ok_or_else(|| {
        format!(
            "{text:?} is not a limit for {}: give one such as {example}",
            metric.name()
        )
    })?;
    if metric.kind() == MetricKind::Success {
        if limit > 100.0 {
            return Err(format!("{} is never more than 100%", metric.name()));
        }
        // A user who writes 0.99 means 99 %; as 0.99 % it would never fail.
        if limit <= 1.0 && limit > 0.0 && !text.contains('%') {
            let percent = limit * 100.0;
            return Err(format!(
                "{} is in percent: write {percent}%, or {limit}% if that is meant",
                metric.name()
            ));
        }
    }
    Ok(limit)
}

/// `2GB`, `512MiB`.
fn bytes(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let factor = match text[end..].trim() {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let number = text[..end].trim().parse::<f64>().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

#[derive(Default)]
struct Clauses {
    over: Option<Duration>,
    abort_after: Option<Duration>,
    if_measured: bool,
}

/// `over 30s abort after 1m`, `if measured`.
fn clauses<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Clauses, String> {
    let mut clauses = Clauses::default();
    let Clauses {
        over,
        abort_after: abort,
        if_measured,
    } = &mut clauses;
    while let Some(word) = words.next() {
        match word {
            "over" => *over = Some(time(words.next(), "over")?),
            "abort" if abort.is_none() => *abort = Some(Duration::ZERO),
            "after" if abort.is_some() => *abort = Some(time(words.next(), "after")?),
            "after" => return Err("'after' belongs to 'abort': 'abort after 1m'".to_owned()),
            "if" if words.next() == Some("measured") => *if_measured = true,
            other => {
                return Err(format!(
                    "{other:?} is not understood: after the limit come 'over 30s', 'abort after 1m' and 'if measured'"
                ));
            }
        }
    }
    if over.is_some_and(|over| over < Duration::from_secs(1)) {
        return Err("'over' needs at least 1s".to_owned());
    }
    Ok(clauses)
}

fn time(word: Option<&str>, clause: &str) -> Result<Duration, String> {
    let time = word.and_then(|word| humantime::parse_duration(word).ok());
    time.ok_or_else(|| format!("'{clause}' needs a time such as 30s or 1m"))
}
