use super::*;
use crate::{
    golden::example,
    record::{Blame, Outcome, Recovery, Status, Validity},
};

/// The example without anything to say about.
fn quiet() -> Record {
    let mut record = example::record();
    record.outcome = Outcome::Pass;
    record.measurement.validity = Validity::Valid;
    record.measurement.findings.clear();
    record.errors.clear();
    record.matches.one_sided = 0;
    for threshold in &mut record.thresholds {
        threshold.status = Status::Ok;
    }
    for window in &mut record.series.windows {
        window.server_cpu_percent = Some(30.0);
        window.message.p95_ms = window.message.p95_ms.map(|p95| p95.min(20.0));
    }
    record
}

/// The advice that a change to a quiet record brings, with its evidence.
fn after(change: impl FnOnce(&mut Record)) -> String {
    let mut record = quiet();
    change(&mut record);
    let advice = advise(&record);
    let lines = advice
        .iter()
        .map(|advice| format!("{} [{}]", advice.text, advice.evidence));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_run_in_which_all_is_well_gets_no_advice() {
    assert_eq!(after(|_| ()), "");
}

type Change<'a> = &'a dyn Fn(&mut Record);

fn each_brings(cases: &[(Change<'_>, &str)]) {
    for (change, expected) in cases {
        let advice = after(change);
        assert!(advice.contains(expected), "{expected}: {advice}");
    }
}

#[test]
fn what_makes_figures_worthless_is_told() {
    each_brings(&[
        (
            &|r| r.measurement = example::record().measurement,
            "the busiest worker used 82.0 %",
        ),
        (
            &|r| {
                r.errors = example::record().errors;
                r.errors[0].blame = Blame::Generator;
            },
            "Mend the machine that generates",
        ),
        (
            &|r| {
                set(r, "own_lateness", "p99", 40.0);
                set(r, "message", "p99", 40.0);
            },
            "lateness p99 is 40.0 ms",
        ),
        (&|r| r.run.missing_shards = vec![3], "missing shards: [3]"),
        (
            &|r| r.thresholds[0].status = Status::NoData,
            "without data: connection_success",
        ),
        (
            &|r| r.latency.values_mut().for_each(|l| l.count = 50),
            "match 50",
        ),
    ]);
}

#[test]
fn what_went_wrong_is_told() {
    each_brings(&[
        (&|r| r.delivery[0].wrong_peer = 7, "[7 with the wrong peer]"),
        (&|r| r.matches.double = 2, "2 in two rooms"),
        (
            &|r| r.errors = example::record().errors,
            "40 of 47 errors are message_lost, the first at 7:12",
        ),
        (
            &|r| r.series = example::record().series,
            "the server did at 7:12",
        ),
        (
            &|r| {
                r.recovery = example::everything().recovery.map(|recovery| Recovery {
                    matched_99_percent_ms: None,
                    ..recovery
                });
            },
            "fewer were matched within the run",
        ),
        (
            &|r| r.comparison = example::everything().comparison,
            "message_p99_ms 9.7",
        ),
    ]);
}

#[test]
fn messages_that_wait_for_a_receiver_who_comes_back_are_no_stall() {
    let stall = |resumed| {
        let advice = after(|record| {
            record.series = example::record().series;
            for window in &mut record.series.windows {
                window.resumed = resumed;
            }
        });
        advice.contains("the server did at 7:12")
    };
    assert!(stall(0) && !stall(3));
}

/// A tenth of the connections stood still: p95 shows it, and p50 does not.
#[test]
fn a_part_of_the_messages_that_waited_is_not_most_of_them() {
    let advice = after(|record| {
        record.series = example::record().series;
        for window in &mut record.series.windows {
            window.message.p50_ms = window.message.p50_ms.map(|p50| p50.min(5.0));
        }
    });
    assert!(
        advice.contains("slowed a part of the messages at 7:12"),
        "{advice}"
    );
    assert!(!advice.contains("it paused") && !advice.contains("most messages"));
}

#[test]
fn an_invalid_measurement_is_no_reason_to_change_the_server() {
    let advice = after(|record| {
        record.errors = example::record().errors;
        record.delivery[0].wrong_peer = 7;
        record.measurement = example::record().measurement;
        record.measurement.validity = Validity::Invalid;
    });
    assert!(
        !advice.contains("server's log") && !advice.contains("wrong peer"),
        "{advice}"
    );
}

#[test]
fn what_is_near_its_limits_is_told() {
    each_brings(&[
        (
            &|r| {
                for (i, window) in r.series.windows.iter_mut().enumerate() {
                    window.searching = i.saturating_sub(350) as u64;
                }
            },
            "queue grows",
        ),
        (
            &|r| r.drift = example::everything().drift,
            "32.4 MB ± 1.1 MB an hour, and meets the limit 60.5 hours",
        ),
        (
            &|r| r.capacity = example::everything().capacity,
            "--capacity 12000",
        ),
        (
            &|r| r.thresholds[5].limit = 60e6,
            "60.0 MB would be used up by about 8,100 users",
        ),
    ]);
}

fn set(record: &mut Record, latency: &str, quantile: &str, ms: f64) {
    let latency = record.latency.get_mut(latency).expect("there");
    latency.quantiles_ms.insert(quantile.to_owned(), ms);
}

#[test]
fn the_number_of_users_at_which_a_limit_gave_way_is_told() {
    let advice = after(|record| {
        let threshold = &mut record.thresholds[3];
        (threshold.status, threshold.limit) = (Status::Failed, 5.0);
    });
    assert!(
        advice.contains("Plan for fewer than")
            && advice.contains("users connected, with the server's CPU at 30.00 %"),
        "{advice}"
    );
}

#[test]
fn a_time_is_told_only_of_what_was_seen_while_the_run_was_on() {
    let look = |first_at_ms| {
        after(|record| {
            record.errors = example::record().errors;
            for error in &mut record.errors {
                error.first_at_ms = first_at_ms;
            }
        })
    };
    let during = look(61_000.0);
    assert!(during.contains("around 1:01") && during.contains("the first at 1:01"));
    let end = example::record().run.active_ms;
    let settled = look(end + 1.0);
    assert!(settled.contains("Look at the server's log: "), "{settled}");
    assert!(!settled.contains("the first at"), "{settled}");
}
