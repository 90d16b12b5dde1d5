//! What to do about a run, by rules on what it measured. Each piece of advice comes with its evidence, and a
//! rule without evidence says nothing.

mod faults;
mod limits;
mod measurement;
#[cfg(test)]
mod tests;

use crate::record::{Advice, Record, ThresholdResult, Validity};

/// What a record gives reason to, or nothing.
type Rule = fn(&Record) -> Option<Advice>;

/// On the measurement itself.
const OF_MEASUREMENT: [Rule; 5] = [
    measurement::measurement,
    measurement::generator_errors,
    measurement::late_generator,
    measurement::missing_shards,
    measurement::no_data,
];

/// On the server: what is wrong, what is slow, and what is near its limits.
const OF_SERVER: [Rule; 12] = [
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
];

/// All advice on a run, the most pressing first.
pub fn advise(record: &Record) -> Vec<Advice> {
    // What an invalid measurement shows may be the doing of the generator, so it is no reason to change the server.
    let of_server: &[Rule] = match record.measurement.validity {
        Validity::Invalid => &[],
        Validity::Valid | Validity::Suspect => &OF_SERVER,
    };
    let rules = OF_MEASUREMENT.iter().chain(of_server);
    let rules = rules.chain(&[measurement::few_samples as Rule]);
    rules.filter_map(|rule| rule(record)).collect()
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
