//! Opinions on a record: thresholds, validity, drift, comparison, advice. Pure.

pub mod advice;
pub mod compare;
pub mod drift;
pub mod statistics;
pub mod thresholds;
pub mod validity;

use crate::{
    measure::books::{About, Books},
    record::{Exit, Finding, Outcome, Record},
};
use thresholds::Watch;

/// The concluded record of a run in one process whose books are closed.
pub fn judge(books: &Books, about: About, watch: &mut Watch) -> Record {
    let server_expected = about.server_expected;
    let mut record = weigh(books, about, watch);
    let server_unread = server_expected && record.server.is_none();
    let findings = validity::findings(&record, books.totals.foreign, server_unread);
    conclude(&mut record, findings);
    record
}

/// The record of a run whose books are closed, with thresholds and drift. [`conclude`] adds the rest.
pub fn weigh(books: &Books, about: About, watch: &mut Watch) -> Record {
    let (elapsed, [from, to]) = (about.elapsed, about.steady);
    let mut record = books.to_record(about, watch.names());
    let asked = watch.thresholds().filter_map(|one| one.drift_limit());
    // The system's own limit counts even if no threshold names it.
    let files = books
        .server
        .max_fds()
        .map(|most| ("server_fds", most as f64));
    let limits: Vec<_> = asked.chain(files).collect();
    record.drift = drift::drift(&books.series, from, to, &limits);
    record.thresholds = watch.finish(books, &record.drift, elapsed);
    validity::blame_generator(&mut record);
    record
}

/// Concludes a record: validity, outcome, exit code and advice follow from its figures and `findings`.
pub fn conclude(record: &mut Record, findings: Vec<Finding>) {
    record.measurement.findings = findings;
    validity::conclude(record);
    record.advice = advice::advise(record);
}

/// Compares `run` with a baseline that reports call `name`. A run that failed or is invalid remains so; one that passed
/// is a regression if it is worse.
pub fn against_baseline(baseline: &Record, run: &mut Record, name: &str) {
    let comparison = compare::compare(baseline, run, name);
    if comparison.regression && run.outcome == Outcome::Pass {
        run.outcome = Outcome::Regression;
        run.exit_code = Exit::Regression;
    }
    run.comparison = Some(comparison);
    run.advice = advice::advise(run);
}
