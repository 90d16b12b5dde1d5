//! What to do about a run, by rules on what it measured. Each piece of advice comes with its evidence, and a
//! rule without evidence says nothing.

mod faults;
mod limits;
mod measurement;
#[cfg(test)]
mod tests;

use crate::record::{Advice, Record, ThresholdResult};

/// What a record gives reason to, or nothing.
type Rule = fn(&Record) -> Option<Advice>;

/// In the order in which their advice is given: what makes the figures worthless, what is wrong, what is
/// slow, and what is near its limits.
const RULES: [Rule; 18] = [
    measurement::measurement,
    measurement::generator_errors,
    measurement::late_generator,
    measurement::missing_shards,
    measurement::no_data,
    faults::misdelivery,
    faults::wrong_rooms,
    faults::most_frequent_error,
    faults::stall,
    limits::knee,
    limits::busy_server,
    limits::growing_queue,
    limits::growth,
    faults::recovery,
    faults::regression,
    limits::capacity,
    limits::memory_room,
    measurement::few_samples,
];

/// All advice on a run, the most pressing first.
pub fn advise(record: &Record) -> Vec<Advice> {
    RULES.iter().filter_map(|rule| rule(record)).collect()
}

fn advice(text: impl Into<String>, evidence: impl Into<String>) -> Option<Advice> {
    Some(Advice {
        text: text.into(),
        evidence: evidence.into(),
    })
}

fn quantile(record: &Record, latency: &str, name: &str) -> Option<f64> {
    record.latency.get(latency)?.quantiles_ms.get(name).copied()
}

fn limit_of<'a>(record: &'a Record, prefix: &str) -> Option<&'a ThresholdResult> {
    let mut thresholds = record.thresholds.iter();
    thresholds.find(|threshold| threshold.name.starts_with(prefix))
}
