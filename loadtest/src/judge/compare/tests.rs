use std::sync::LazyLock;

use super::*;
use crate::{
    golden::example::{self, Noise},
    record::Window,
};

/// A run whose message latency wanders as it does on a machine that others use too, and whose mean is not
/// quite that of the last run either.
fn run(noise: &mut Noise, windows: usize, phi: f64, factor: f64) -> Record {
    static LIKE: LazyLock<Record> = LazyLock::new(|| {
        let mut record = example::record();
        record.phases.clear();
        for window in &mut record.series.windows {
            window.heat.clear();
        }
        record
    });
    let mut record = LIKE.clone();
    let own = 0.03 * noise.normal();
    let wander = noise.series(windows, phi);
    let template = record.series.windows[200].clone();
    record.series.windows = wander
        .iter()
        .enumerate()
        .map(|(i, wander)| {
            let p99 = 12.0 * factor * (own + 0.25 * wander).exp();
            let mut window = Window {
                start_ms: i as f64 * 1e3,
                connected: 1000,
                ..template.clone()
            };
            window.message.p50_ms = Some(p99 / 8.0);
            window.message.p95_ms = Some(p99 / 2.0);
            window.message.p99_ms = Some(p99);
            window
        })
        .collect();
    record
}

fn judgement(baseline: &Record, run: &Record, name: &str) -> String {
    let comparison = compare(baseline, run, "base.json");
    let figure = comparison.figures.iter().find(|figure| figure.name == name);
    figure.map_or_else(String::new, |figure| figure.judgement.clone())
}

/// In percent of 100 pairs.
fn regressions(windows: usize, phi: f64, factor: f64) -> f64 {
    let mut noise = Noise::new(42);
    let pairs = 100;
    let found = (0..pairs).filter(|_| {
        let baseline = run(&mut noise, windows, phi, 1.0);
        let current = run(&mut noise, windows, phi, factor);
        compare(&baseline, &current, "base.json").regression
    });
    found.count() as f64 / f64::from(pairs) * 100.0
}

#[test]
fn two_runs_of_the_same_build_rarely_differ() {
    for (windows, phi) in [(30, 0.0), (60, 0.5), (120, 0.8), (300, 0.95)] {
        let false_alarms = regressions(windows, phi, 1.0);
        assert!(
            false_alarms <= 1.0,
            "{windows} windows, phi {phi}: {false_alarms} %"
        );
    }
}

#[test]
fn a_build_that_is_half_as_slow_again_is_found() {
    for (windows, phi) in [(60, 0.0), (120, 0.5), (300, 0.8)] {
        let found = regressions(windows, phi, 1.5);
        assert!(found >= 90.0, "{windows} windows, phi {phi}: {found} %");
    }
}

#[test]
fn a_run_is_the_same_as_itself() {
    let record = example::record();
    let comparison = compare(&record, &record, "base.json");
    assert!(!comparison.regression);
    assert!(comparison.caveats.is_empty(), "{:?}", comparison.caveats);
    for figure in &comparison.figures {
        assert!(
            figure.judgement != "worse" && figure.judgement != "better",
            "{figure:?}"
        );
        assert_eq!(figure.baseline, figure.current, "{}", figure.name);
    }
}

#[test]
fn a_tiny_change_of_a_tiny_latency_is_none() {
    let mut noise = Noise::new(1);
    let mut baseline = run(&mut noise, 100, 0.0, 0.01);
    let mut current = run(&mut noise, 100, 0.0, 0.013);
    assert_eq!(judgement(&baseline, &current, "message_p99_ms"), "same");
    (baseline, current) = (
        run(&mut noise, 100, 0.0, 1.0),
        run(&mut noise, 100, 0.0, 1.3),
    );
    assert_eq!(judgement(&baseline, &current, "message_p99_ms"), "worse");
    assert_eq!(judgement(&current, &baseline, "message_p99_ms"), "better");
}

#[test]
fn few_windows_tell_nothing() {
    let mut noise = Noise::new(1);
    let (baseline, current) = (run(&mut noise, 8, 0.0, 1.0), run(&mut noise, 8, 0.0, 3.0));
    assert_eq!(judgement(&baseline, &current, "message_p99_ms"), "unknown");
}

#[test]
fn lost_messages_are_a_regression_even_if_nothing_is_slow() {
    let mut baseline = example::record();
    for row in &mut baseline.delivery {
        (row.lost, row.late) = (0, 0);
    }
    for window in &mut baseline.series.windows {
        window.errors = 0;
    }
    let mut current = baseline.clone();
    for row in &mut current.delivery {
        row.lost = row.sent / 100;
        row.delivered -= row.sent / 100;
    }
    assert_eq!(
        judgement(&baseline, &current, "message_success_percent"),
        "worse"
    );
    (current.outcome, current.exit_code) = (Outcome::Pass, 0);
    judge_against(&baseline, &mut current, "base.json");
    assert_eq!(
        (current.outcome, current.exit_code),
        (Outcome::Regression, REGRESSION)
    );
    // What failed by itself stays failed.
    (current.outcome, current.exit_code) = (Outcome::Fail, 99);
    judge_against(&baseline, &mut current, "base.json");
    assert_eq!((current.outcome, current.exit_code), (Outcome::Fail, 99));
}

#[test]
fn an_invalid_measurement_judges_nothing() {
    let mut noise = Noise::new(1);
    let baseline = run(&mut noise, 100, 0.0, 1.0);
    let mut current = run(&mut noise, 100, 0.0, 3.0);
    assert_eq!(
        exit_code(&baseline, &current, &compare(&baseline, &current, "b")),
        97
    );
    current.measurement.validity = Validity::Invalid;
    let comparison = compare(&baseline, &current, "b");
    assert!(!comparison.regression);
    assert_eq!(exit_code(&baseline, &current, &comparison), 98);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let baseline = example::record();
    let mut current = example::record();
    current.run.users = 7;
    current.run.active_ms *= 3.0;
    current.run.interrupted = true;
    let caveats = compare(&baseline, &current, "b").caveats.join("\n");
    for part in [
        "users: 5000 in the baseline, 7 in this run",
        "duration",
        "ended before",
    ] {
        assert!(caveats.contains(part), "{caveats}");
    }
}

#[test]
fn a_stall_is_a_regression_though_no_typical_window_shows_it() {
    let mut noise = Noise::new(3);
    let baseline = run(&mut noise, 60, 0.5, 1.0);
    let mut stalled = baseline.clone();
    let message = stalled.latency.get_mut("message").expect("measured");
    message.quantiles_ms.insert("p95".to_owned(), 2_300.0);
    assert_eq!(
        judgement(&baseline, &stalled, "whole_run_message_p95_ms"),
        "worse"
    );
    let mut late = baseline.clone();
    for row in &mut late.delivery {
        row.late = row.delivered / 8;
    }
    assert_eq!(
        judgement(&baseline, &late, "messages_in_time_percent"),
        "worse"
    );
    assert!(compare(&baseline, &late, "base.json").regression);
}

#[test]
fn a_second_of_nothing_counts_as_nothing() {
    let mut noise = Noise::new(3);
    let baseline = run(&mut noise, 60, 0.0, 1.0);
    let mut paused = baseline.clone();
    for window in &mut paused.series.windows[20..26] {
        window.delivered = 0;
    }
    let rate = |record: &Record| {
        let comparison = compare(&baseline, record, "base.json");
        let mut figures = comparison.figures.into_iter();
        let found = figures.find(|figure| figure.name == "messages_per_second");
        found.and_then(|figure| figure.current).expect("measured")
    };
    let fraction = rate(&paused) / rate(&baseline);
    assert!((fraction - 0.9).abs() < 0.01, "{fraction}");
}

#[test]
fn when_nothing_is_judged_it_is_no_pass() {
    let mut noise = Noise::new(3);
    let baseline = run(&mut noise, 3, 0.5, 1.0);
    let mut other = baseline.clone();
    other.latency.clear();
    other.delivery.clear();
    other.server = None;
    other.connections.attempted = 0;
    (other.matches.matched, other.matches.failed) = (0, 0);
    let comparison = compare(&baseline, &other, "base.json");
    assert_eq!(exit_code(&baseline, &other, &comparison), 98);
    assert!(comparison.caveats.iter().any(|it| it.contains("no figure")));
}
