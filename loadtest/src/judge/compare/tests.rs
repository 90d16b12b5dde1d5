use std::sync::LazyLock;

use super::*;
use crate::{
    golden::example::{self, Noise},
    judge::against_baseline,
    record::{Outcome, Quantiles, Window},
};

/// A run whose message latency drifts as on a shared machine. Its mean also differs a little from run to run.
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
            window.own_lateness = Quantiles {
                p50_ms: Some(0.02),
                p95_ms: Some(0.1),
                p99_ms: Some(0.2),
                max_ms: Some(0.3),
            };
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

/// A window of a recorded run: message latency as p50, p95 and p99, and own lateness as p50, p95, p99 and maximum.
type Recording = Vec<[f64; 7]>;

/// Runs of 300 users with the same plan and the same server, while other programs kept the machine busy.
#[derive(serde::Deserialize)]
struct Recorded {
    /// Straight to the server, on two occasions.
    same: [Vec<Recording>; 2],
    /// The same through a proxy that adds nothing, 3 ms to each message, or 30 ms to 2 % of them.
    through_proxy: Vec<Recording>,
    all_3_ms_slower: Vec<Recording>,
    some_30_ms_slower: Vec<Recording>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("recorded.json")).expect("JSON")
}

fn replayed(runs: &[Recording]) -> Vec<Record> {
    let template = run(&mut Noise::new(1), 1, 0.0, 1.0);
    let window = |(second, values): (usize, &[f64; 7])| Window {
        start_ms: second as f64 * 1e3,
        sent: 600,
        message: Quantiles {
            p50_ms: Some(values[0]),
            p95_ms: Some(values[1]),
            p99_ms: Some(values[2]),
            max_ms: None,
        },
        own_lateness: Quantiles {
            p50_ms: Some(values[3]),
            p95_ms: Some(values[4]),
            p99_ms: Some(values[5]),
            max_ms: Some(values[6]),
        },
        ..template.series.windows[0].clone()
    };
    let replay = |run: &Recording| {
        let mut record = template.clone();
        record.series.windows = run.iter().enumerate().map(window).collect();
        record
    };
    runs.iter().map(replay).collect()
}

/// How many pairs, of how many, have a run that is worse than its baseline. No run is paired with itself.
fn worse_pairs(baselines: &[Record], runs: &[Record]) -> (usize, usize) {
    let (mut worse, mut pairs) = (0, 0);
    for baseline in baselines {
        for run in runs.iter().filter(|run| *run != baseline) {
            worse += usize::from(compare(baseline, run, "base.json").regression);
            pairs += 1;
        }
    }
    (worse, pairs)
}

#[test]
fn recorded_runs_of_one_build_are_worse_in_at_most_one_pair_of_a_hundred() {
    let recorded = recorded();
    let [first, second] = &recorded.same;
    for runs in [first, second, &recorded.through_proxy] {
        let runs = replayed(runs);
        let (worse, pairs) = worse_pairs(&runs, &runs);
        assert!(worse * 100 <= pairs, "{worse} of {pairs}");
    }
}

#[test]
fn three_milliseconds_on_all_messages_or_thirty_on_a_few_are_always_found() {
    let recorded = recorded();
    let baselines = replayed(&recorded.through_proxy);
    for slower in [&recorded.all_3_ms_slower, &recorded.some_30_ms_slower] {
        let slower = replayed(slower);
        let (found, pairs) = worse_pairs(&baselines, &slower);
        assert_eq!(found, pairs);
        assert_eq!(worse_pairs(&slower, &baselines).0, 0, "a faster run");
    }
}

#[test]
fn a_change_within_the_lateness_of_the_generator_is_not_judged() {
    let mut noise = Noise::new(1);
    let baseline = run(&mut noise, 100, 0.0, 1.0);
    let mut slower = run(&mut noise, 100, 0.0, 1.5);
    let late = |record: &mut Record, ms: f64| {
        for window in &mut record.series.windows {
            (window.own_lateness.p99_ms, window.own_lateness.max_ms) = (Some(ms), Some(ms));
        }
    };
    late(&mut slower, 1.0);
    assert_eq!(judgement(&baseline, &slower, "message_p99_ms"), "worse");
    late(&mut slower, 5.0);
    assert_eq!(judgement(&baseline, &slower, "message_p99_ms"), "unknown");
    let caveats = compare(&baseline, &slower, "base.json").caveats;
    assert_eq!(
        caveats,
        [
            "message_p99_ms: the generator was late enough to cause the difference; repeat the runs on a quieter machine"
        ]
    );
    // The lateness of the faster run does not make the other one slower.
    let mut faster = baseline;
    late(&mut faster, 5.0);
    late(&mut slower, 1.0);
    assert_eq!(judgement(&faster, &slower, "message_p99_ms"), "worse");
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
    (current.outcome, current.exit_code) = (Outcome::Pass, Exit::Pass);
    against_baseline(&baseline, &mut current, "base.json");
    assert_eq!(
        (current.outcome, current.exit_code),
        (Outcome::Regression, Exit::Regression)
    );
    // What failed by itself stays failed.
    (current.outcome, current.exit_code) = (Outcome::Fail, Exit::Fail);
    against_baseline(&baseline, &mut current, "base.json");
    assert_eq!(
        (current.outcome, current.exit_code),
        (Outcome::Fail, Exit::Fail)
    );
}

#[test]
fn an_invalid_measurement_judges_nothing() {
    let mut noise = Noise::new(1);
    let baseline = run(&mut noise, 100, 0.0, 1.0);
    let mut current = run(&mut noise, 100, 0.0, 3.0);
    assert_eq!(
        exit_code(&baseline, &current, &compare(&baseline, &current, "b")),
        Exit::Regression
    );
    current.measurement.validity = Validity::Invalid;
    let comparison = compare(&baseline, &current, "b");
    assert!(!comparison.regression);
    assert_eq!(exit_code(&baseline, &current, &comparison), Exit::Invalid);
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
        "ended early",
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
    assert_eq!(exit_code(&baseline, &other, &comparison), Exit::Invalid);
    assert!(comparison.caveats.iter().any(|it| it.contains("no figure")));
}
