//! One run against another: which figures are worse, with as much certainty as the two allow.
//!
//! A figure is worse when the whole of its confidence interval lies beyond what counts as a change at all.
//! So two runs of one build rarely differ, and a comparison that cannot tell says so.

mod figures;
#[cfg(test)]
mod tests;

use crate::record::{ComparedFigure, Comparison, Outcome, Record, Validity};

/// The exit code of a run that is worse than its baseline.
pub const REGRESSION: u8 = 97;

/// Compares `run` with `baseline`, which a report calls `name`: its file, say.
pub fn compare(baseline: &Record, run: &Record, name: &str) -> Comparison {
    let mut figures = figures::all(baseline, run);
    let mut caveats = caveats(baseline, run);
    for (record, which) in [(baseline, "the baseline"), (run, "this run")] {
        if record.measurement.validity == Validity::Invalid {
            caveats.push(format!(
                "the measurement of {which} is not to be trusted: nothing was judged"
            ));
            for figure in &mut figures {
                figure.judgement = "unknown".to_owned();
            }
        }
    }
    if figures.iter().all(|figure| figure.judgement == "unknown") {
        caveats.push(
            "no figure of the two could be judged: compare longer runs of one plan".to_owned(),
        );
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

/// Compares, and lets the outcome and exit code of `run` say what came of it. A run that failed or is invalid by itself remains so.
pub fn judge_against(baseline: &Record, run: &mut Record, name: &str) {
    let comparison = compare(baseline, run, name);
    if comparison.regression && run.outcome == Outcome::Pass {
        run.outcome = Outcome::Regression;
        run.exit_code = REGRESSION;
    }
    run.comparison = Some(comparison);
    run.advice = crate::judge::advice::advise(run);
}

/// What the exit code of a mere comparison is: [`REGRESSION`], 98 when either measurement is not to be trusted or
/// nothing could be judged, or 0.
pub fn exit_code(baseline: &Record, run: &Record, comparison: &Comparison) -> u8 {
    let invalid = |record: &Record| record.measurement.validity == Validity::Invalid;
    let judged = |figure: &ComparedFigure| figure.judgement != "unknown";
    match () {
        () if invalid(baseline) || invalid(run) => 98,
        () if !comparison.figures.iter().any(judged) => 98,
        () if comparison.regression => REGRESSION,
        () => 0,
    }
}

/// The figures that are worse.
pub fn worse(comparison: &Comparison) -> impl Iterator<Item = &ComparedFigure> {
    let figures = comparison.figures.iter();
    figures.filter(|figure| figure.judgement == "worse")
}

/// What makes two runs hard to compare.
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
        caveats.push("at least one of the two ended before its plan".to_owned());
    }
    if !b.missing_shards.is_empty() || !r.missing_shards.is_empty() {
        caveats.push("at least one of the two lacks a shard".to_owned());
    }
    caveats
}
