//! Compares one run with another: which figures are worse by more than chance.
//!
//! A figure is worse when its whole confidence interval lies beyond the least change that counts, and the generator
//! cannot have caused the change by its own lateness. Otherwise it is the same, or unknown.

mod figures;
mod lateness;
#[cfg(test)]
mod tests;

use crate::record::{ComparedFigure, Comparison, Exit, Record, Validity};

/// Compares `run` with `baseline`. Reports call the baseline `name`.
pub fn compare(baseline: &Record, run: &Record, name: &str) -> Comparison {
    let mut figures = figures::all(baseline, run);
    let mut caveats = caveats(baseline, run);
    let hidden = figures.iter().filter(|figure| figures::is_hidden(figure));
    let hidden: Vec<&str> = hidden.map(|figure| figure.name.as_str()).collect();
    if !hidden.is_empty() {
        caveats.push(format!(
            "{}: the generator was late enough to cause the difference; repeat the runs on a quieter machine",
            hidden.join(", ")
        ));
    }
    for (record, which) in [(baseline, "the baseline"), (run, "this run")] {
        if record.measurement.validity == Validity::Invalid {
            caveats.push(format!(
                "the measurement of {which} is invalid: nothing was judged"
            ));
            for figure in &mut figures {
                figure.judgement = "unknown".to_owned();
            }
        }
    }
    if figures.iter().all(|figure| figure.judgement == "unknown") {
        caveats.push("no figure could be judged: compare longer runs of the same plan".to_owned());
    }
    Comparison {
        baseline: name.to_owned(),
        baseline_started_at: baseline.run.started_at.clone(),
        regression: figures.iter().any(|figure| figure.judgement == "worse"),
        figures,
        caveats,
        baseline_series: Some(baseline.series.clone()),
    }
}

/// The exit code of a comparison: invalid if either measurement cannot be trusted or nothing could be judged.
pub fn exit_code(baseline: &Record, run: &Record, comparison: &Comparison) -> Exit {
    let invalid = |record: &Record| record.measurement.validity == Validity::Invalid;
    let judged = |figure: &ComparedFigure| figure.judgement != "unknown";
    match () {
        () if invalid(baseline) || invalid(run) => Exit::Invalid,
        () if !comparison.figures.iter().any(judged) => Exit::Invalid,
        () if comparison.regression => Exit::Regression,
        () => Exit::Pass,
    }
}

/// Differences that make two runs hard to compare.
fn caveats(baseline: &Record, run: &Record) -> Vec<String> {
    let (b, r) = (&baseline.run, &run.run);
    let mut caveats = Vec::new();
    let mut differ = |what: &str, before: &str, now: &str| {
        if before != now {
            caveats.push(format!(
                "{what}: {before} in the baseline, {now} in this run"
            ));
        }
    };
    differ("scenario", &b.scenario, &r.scenario);
    differ("target", &b.target, &r.target);
    differ("users", &b.users.to_string(), &r.users.to_string());
    differ("version of loadtest", &b.version, &r.version);
    let threads = |record: &Record| record.generator.workers.to_string();
    differ(
        "threads of the generator",
        &threads(baseline),
        &threads(run),
    );
    let phases = |record: &Record| {
        let names: Vec<&str> = record
            .phases
            .iter()
            .map(|phase| phase.name.as_str())
            .collect();
        names.join(", ")
    };
    differ("phases", &phases(baseline), &phases(run));
    let ratio = r.active_ms / b.active_ms.max(1.0);
    if !(0.8..=1.25).contains(&ratio) {
        caveats.push(format!(
            "duration: {} in the baseline, {} in this run",
            crate::base::units::span(b.active_ms),
            crate::base::units::span(r.active_ms)
        ));
    }
    if b.interrupted || r.interrupted {
        caveats.push("at least one of the two runs ended early".to_owned());
    }
    if !b.missing_shards.is_empty() || !r.missing_shards.is_empty() {
        caveats.push("at least one of the two runs lacks a shard".to_owned());
    }
    caveats
}
