use std::time::{Duration, SystemTime};

use super::*;
use crate::{
    judge::{self, thresholds::Watch},
    measure::{
        ledger::{Inbox, Latest, Scope, Stay},
        reach::NodeId,
        sample::{CallId, Delivered, Direction, Kind, Route, Sample, Unmatched},
    },
    plan::threshold::{self, Parts},
    record::{Exit, Outcome, Record, Run, Status, Validity},
};

pub const ROUTE: Route = Route {
    kind: Kind::MESSAGE,
    direction: Direction::OffererToAnswerer,
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Tells samples as a worker does.
pub struct Teller(mpsc::Sender<Slice>);

impl Teller {
    /// The samples have to be copied, and there is one that cannot be.
    pub fn tell<'a>(&self, at: Duration, samples: impl IntoIterator<Item = &'a Sample>) {
        let mut slice = Slice::default();
        samples
            .into_iter()
            .for_each(|sample| slice.add(at, copy(sample)));
        self.0.send(slice).expect("the books are open");
    }
}

pub fn books() -> (Books, Teller) {
    let (books, sender) = Books::open(secs(2), Scope::Whole);
    (books.with_patience(Some(secs(5))), Teller(sender))
}

pub fn sent() -> Sample {
    Sample::Sent {
        route: ROUTE,
        lateness: Duration::from_millis(1),
    }
}

pub fn delivered(ms: u64) -> Sample {
    Sample::Delivered(message(ms))
}

fn message(ms: u64) -> Delivered {
    Delivered {
        route: ROUTE,
        reach: None,
        latency: Duration::from_millis(ms),
        as_sent: Duration::from_millis(ms),
        in_order: true,
        late: false,
        altered: false,
    }
}

fn copy(sample: &Sample) -> Sample {
    match sample {
        Sample::StormDropped { paired, resumes } => Sample::StormDropped {
            paired: *paired,
            resumes: *resumes,
        },
        Sample::StormMatched { after } => Sample::StormMatched { after: *after },
        Sample::Gap { missed } => Sample::Gap { missed: *missed },
        Sample::WrongPeer { route } => Sample::WrongPeer { route: *route },
        Sample::Sent { route, lateness } => Sample::Sent {
            route: *route,
            lateness: *lateness,
        },
        Sample::Delivered(message) => Sample::Delivered(*message),
        Sample::Matched { latency } => Sample::Matched { latency: *latency },
        Sample::Connecting { again } => Sample::Connecting { again: *again },
        Sample::Connected { latency } => Sample::Connected { latency: *latency },
        Sample::NotConnected { error } => Sample::NotConnected {
            error: error.clone(),
        },
        Sample::Talk(sample) => Sample::Talk(sample.clone()),
        other => panic!("{other:?} is not copied"),
    }
}

fn stay(room: u64, user: u32, sent: u32, received: u32) -> Sample {
    let mut counts = [0; Kind::MAX];
    counts[Kind::MESSAGE.index()] = sent;
    let mut inbox = Inbox::default();
    (0..received).for_each(|seq| _ = inbox.receive(3 - user, seq, Kind::MESSAGE, seq));
    Sample::RoomLeft(Box::new(Stay {
        room,
        user,
        node: NodeId::default(),
        searched: None,
        breaks: Vec::new(),
        node_lost: false,
        session: None,
        peer: None,
        joined: secs(0),
        left: secs(1),
        direction: Direction::of_sender(user == 1),
        sent: counts,
        refused: 0,
        relays_lost: 0,
        latest: Latest::default(),
        settled: false,
        partner_left: false,
        cut_off: false,
        foreign: false,
        some_come_back: false,
        inbox,
    }))
}

/// Two users, matched; one sends to the other.
fn good() -> Vec<Sample> {
    let latency = Duration::from_millis(3);
    let mut samples = vec![sent(), delivered(3), stay(1, 1, 1, 0), stay(1, 2, 0, 1)];
    for _ in 0..2 {
        samples.push(Sample::Connecting { again: false });
        samples.push(Sample::Connected { latency });
        samples.push(Sample::Searching { again: false });
        samples.push(Sample::Matched { latency });
        samples.push(Sample::RoomJoined);
    }
    samples
}

fn about() -> About {
    let text = String::new;
    About {
        run: Run {
            id: text(),
            version: text(),
            build: None,
            target: text(),
            scenario: text(),
            command: text(),
            started_at: text(),
            started_at_unix_ms: 0,
            elapsed_ms: 0.0,
            active_ms: 0.0,
            interrupted: false,
            users: 2,
            load: None,
            shard: None,
            merged_from: Vec::new(),
            missing_shards: Vec::new(),
        },
        urls: Vec::new(),
        started_at: SystemTime::UNIX_EPOCH,
        elapsed: secs(1),
        active: secs(1),
        kinds: Vec::new(),
        phases: Vec::new(),
        steady: [secs(0), secs(1)],
        peak_connected: 2,
        workers: 1,
        busiest_worker_percent: 10.0,
        server_expected: false,
        shard: None,
    }
}

/// The record of a run of one second. Every sample comes from a worker of its own: adding up must give what
/// counting gives.
fn record(samples: impl IntoIterator<Item = Sample>, change: impl FnOnce(&mut About)) -> Record {
    let (mut books, sender) = Books::open(secs(2), Scope::Whole);
    for sample in samples {
        let mut slice = Slice::default();
        slice.add(Duration::from_millis(500), sample);
        sender.send(slice).expect("the books are open");
    }
    let mut about = about();
    change(&mut about);
    let thresholds = threshold::defaults(Parts {
        matches: true,
        relays: true,
        ..Parts::default()
    });
    let calls = vec!["search".to_owned()];
    let mut watch = Watch::new(thresholds, calls, Vec::new(), about.server_expected);
    books.close(secs(1), None);
    judge::judge(&books, about, &mut watch)
}

fn good_and(more: impl IntoIterator<Item = Sample>) -> Record {
    record(good().into_iter().chain(more), |_| {})
}

pub fn status(record: &Record, name: &str) -> Status {
    let found = record.thresholds.iter().find(|one| one.name == name);
    found.expect(name).status
}

#[test]
fn a_good_run_passes() {
    let got = good_and([]);
    assert_eq!(
        (got.outcome, got.exit_code),
        (Outcome::Pass, Exit::Pass),
        "{got:#?}"
    );
    assert_eq!(got.measurement.validity, Validity::Valid);
    assert_eq!(status(&got, "server_rss_max"), Status::NotMeasured);
    assert_eq!(got.errors, []);
    let [message] = &got.delivery[..] else {
        panic!("{:?}", got.delivery)
    };
    assert_eq!(
        (&message.kind[..], &message.direction[..]),
        ("message", "offerer_to_answerer")
    );
    assert_eq!((message.sent, message.delivered, message.lost), (1, 1, 0));
}

#[test]
fn a_record_reads_back() {
    let got = good_and([Sample::SelfMatch]);
    let text = serde_json::to_string(&got).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Record>(&text).expect("a record"),
        got
    );
}

#[test]
fn nothing_measured_is_never_a_pass() {
    let got = record([], |_| {});
    assert_eq!(
        (got.outcome, got.exit_code),
        (Outcome::Invalid, Exit::Invalid)
    );
    let findings = &got.measurement.findings;
    assert!(
        findings
            .iter()
            .any(|one| one.what.contains("message_success")),
        "{findings:?}"
    );
}

#[test]
fn each_default_can_fail() {
    let refused = || Sample::NotConnected {
        error: ErrorKind::ConnectRefused,
    };
    let late = Sample::Matched { latency: secs(5) };
    let cases: Vec<(&str, Vec<Sample>)> = vec![
        (
            "connection_success",
            vec![Sample::Connecting { again: false }, refused()],
        ),
        ("match_latency_p95", vec![late]),
        ("message_latency_p95", vec![delivered(200)]),
        (
            "misdelivered_count",
            vec![Sample::WrongPeer { route: ROUTE }],
        ),
        (
            "message_success",
            vec![sent(), stay(2, 1, 1, 0), stay(2, 2, 0, 0)],
        ),
        ("match_success", vec![stay(3, 1, 0, 0)]),
    ];
    for (name, samples) in cases {
        let got = good_and(samples);
        assert_eq!(
            (got.exit_code, status(&got, name)),
            (Exit::Fail, Status::Failed),
            "{name}"
        );
    }
    // Nothing was matched or sent, but the cause is known: that is a failure, not a void measurement.
    let all_refused = record([Sample::Connecting { again: false }, refused()], |_| {});
    assert_eq!(all_refused.exit_code, Exit::Fail);
}

#[test]
fn a_generator_that_cannot_keep_up_makes_the_run_void() {
    let late = |ms| {
        let lateness = Duration::from_millis(ms);
        good_and((0..100).map(|_| Sample::Sent {
            route: ROUTE,
            lateness,
        }))
    };
    assert_eq!(late(50).measurement.validity, Validity::Suspect);
    assert_eq!(late(500).exit_code, Exit::Invalid);
    let busy = |percent| record(good(), |about| about.busiest_worker_percent = percent);
    assert_eq!(
        (busy(80.0).exit_code, busy(80.0).measurement.validity),
        (Exit::Pass, Validity::Suspect)
    );
    assert_eq!(busy(97.0).exit_code, Exit::Invalid);
    let ports = good_and([
        Sample::Connecting { again: false },
        Sample::NotConnected {
            error: ErrorKind::PortsExhausted,
        },
    ]);
    assert_eq!(
        ports.exit_code,
        Exit::Invalid,
        "void, though a threshold failed too"
    );
}

#[test]
fn metrics_that_were_asked_for_are_missed() {
    let got = record(good(), |about| about.server_expected = true);
    assert_eq!(
        (status(&got, "server_rss_max"), got.exit_code),
        (Status::NoData, Exit::Invalid)
    );
}

#[test]
fn a_dropped_connection_is_no_success_and_one_under_way_no_failure() {
    let latency = secs(1);
    let mut samples: Vec<Sample> = (0..4)
        .map(|_| Sample::Connecting { again: false })
        .collect();
    samples.extend((0..2).map(|_| Sample::Connected { latency }));
    samples.push(Sample::NotConnected {
        error: ErrorKind::ConnectRefused,
    });
    samples.push(Sample::Dropped {
        error: ErrorKind::ClosedByServer(1001),
    });
    samples.push(Sample::ConnectingEnded);
    let got = record(samples, |_| {}).connections;
    assert_eq!((got.attempted, got.succeeded, got.dropped), (3, 2, 1));
    assert!(
        got.success_percent
            .is_some_and(|percent| (percent - 100.0 / 3.0).abs() < 1e-5)
    );
}

#[test]
fn a_failed_search_counts_as_long_as_it_waited() {
    let unmatched = |from| {
        let (from, to) = (secs(from), secs(60));
        Sample::Unmatched(Unmatched {
            from,
            to,
            waited: secs(30),
        })
    };
    let got = good_and([unmatched(1), unmatched(2)]);
    assert_eq!(
        (got.matches.failed, got.matches.success_percent),
        (2, Some(50.0))
    );
    let latency = &got.latency["match"];
    assert_eq!((latency.count, latency.censored), (4, 2));
    assert!(
        latency
            .max_ms
            .is_some_and(|ms| (30_000.0..30_100.0).contains(&ms)),
        "{latency:?}"
    );
    let alone = good_and([unmatched(1)]);
    assert_eq!(
        (alone.matches.odd_one_out, alone.matches.success_percent),
        (1, Some(100.0))
    );
}

#[test]
fn each_kind_of_misdelivery_is_counted_apart_and_blamed() {
    let got = good_and([
        Sample::Delivered(Delivered {
            in_order: false,
            ..message(3)
        }),
        Sample::Delivered(Delivered {
            altered: true,
            ..message(3)
        }),
        Sample::Delivered(Delivered {
            late: true,
            ..message(3)
        }),
        Sample::Duplicate { route: ROUTE },
        Sample::WrongPeer { route: ROUTE },
    ]);
    let delivery = &got.delivery[0];
    let counts = [
        delivery.duplicate,
        delivery.reordered,
        delivery.wrong_peer,
        delivery.altered,
        delivery.late,
    ];
    assert_eq!(counts, [1; 5]);
    let mut kinds: Vec<_> = got.errors.iter().map(|error| &error.kind[..]).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            "message_altered",
            "message_duplicated",
            "message_late",
            "message_misrouted",
            "message_reordered"
        ]
    );
    assert!(
        got.errors
            .iter()
            .all(|error| error.blame == crate::record::Blame::Server)
    );
}

#[test]
fn calls_are_told_by_name_and_those_without_an_answer_are_censored() {
    let call = CallId(0);
    let lateness = Duration::ZERO;
    let mut samples: Vec<Sample> = (0..5)
        .map(|_| Sample::CallSent { call, lateness })
        .collect();
    let latency = Duration::from_millis(7);
    samples.push(Sample::CallAnswered {
        call,
        latency,
        as_sent: latency,
    });
    samples.push(Sample::CallTimedOut {
        call,
        waited: secs(5),
    });
    samples.push(Sample::CallFailed {
        call,
        waited: secs(5),
    });
    samples.push(Sample::CallWrong { call });
    let got = good_and(samples);
    let calls = &got.calls[0];
    assert_eq!(
        (
            &calls.name[..],
            calls.sent,
            calls.answered,
            calls.timed_out,
            calls.wrong,
            calls.failed,
            calls.pending
        ),
        ("search", 5, 1, 1, 1, 1, 1)
    );
    let latency = &got.latency["call search"];
    assert_eq!((latency.count, latency.censored), (3, 2));
}

#[test]
fn a_storm_is_over_when_nearly_all_are_back() {
    let storm = |back: u64| {
        // Twenty have no partner and look for none.
        let dropped = (0..120).map(|n| Sample::StormDropped {
            paired: n < 100,
            resumes: false,
        });
        let matched = (1..=back).map(|ms| Sample::StormMatched {
            after: Duration::from_millis(ms),
        });
        good_and(dropped.chain(matched)).recovery.expect("a storm")
    };
    assert_eq!((storm(100).dropped, storm(100).paired), (120, 100));
    let after = storm(100).matched_99_percent_ms.expect("all are back");
    assert!((after - 99.0).abs() < 0.5, "{after}");
    assert!(storm(99).matched_99_percent_ms.is_some());
    assert_eq!(storm(98).matched_99_percent_ms, None);
}

#[test]
fn losses_are_known_when_a_later_message_comes_and_settled_at_the_end() {
    let (mut books, teller) = books();
    let gap = |missed| Sample::Gap { missed };
    // Of four messages three come; one of the two that seemed lost comes late.
    teller.tell(secs(0), &[sent(), sent(), sent(), sent()]);
    books.tick(secs(1), None);
    teller.tell(secs(1), &[delivered(5), delivered(5), gap(2)]);
    books.tick(secs(2), None);
    assert_eq!((books.lost(), books.message_success()), (2, Some(50.0)));
    teller.tell(secs(2), &[delivered(5), gap(-1)]);
    books.tick(secs(3), None);
    assert_eq!((books.lost(), books.message_success()), (1, Some(75.0)));
    teller.tell(secs(3), []);
    books.tick(secs(4), None);
    let mut slice = Slice::default();
    let mut last = stay(1, 2, 4, 0);
    if let Sample::RoomLeft(stay) = &mut last {
        stay.inbox = Inbox::default();
        for seq in [0, 1, 3] {
            stay.inbox.receive(2, seq, Kind::MESSAGE, seq);
        }
        (stay.direction, stay.settled) = (Direction::ToServer, true);
    }
    slice.add(secs(4), last);
    teller.0.send(slice).expect("the books are open");
    books.close(secs(5), None);
    assert_eq!((books.lost(), books.message_success()), (1, Some(75.0)));
    let cells: Vec<_> = books.series.cells().map(|cell| cell.counts).collect();
    let lost: Vec<_> = cells.iter().map(|counts| counts.lost).collect();
    assert_eq!(lost, [0, 2, -1, 0, 0]);
    assert_eq!(cells.iter().map(|counts| counts.failures).sum::<u64>(), 2);
    let errors: Vec<_> = books.failures.to_record().collect();
    assert_eq!((&errors[0].kind[..], errors[0].count), ("message_lost", 1));
    assert_eq!(errors[0].first_at_ms, 2000.0);
}

#[test]
fn a_search_fails_when_its_time_is_over() {
    let (mut books, teller) = books();
    let mut slice = Slice::default();
    // The users stay until the end of the run.
    for from in [1, 2] {
        let search = Unmatched {
            from: secs(from),
            to: secs(9),
            waited: secs(3),
        };
        slice.add(secs(9), Sample::Unmatched(search));
    }
    for second in 1..9 {
        books.tick(secs(second), None);
    }
    teller.0.send(slice).expect("the books are open");
    books.close(secs(10), None);
    let failures: Vec<_> = books
        .series
        .cells()
        .map(|cell| cell.counts.failures)
        .collect();
    assert_eq!(failures, [0, 0, 0, 0, 1, 1, 0, 0, 0]);
    let errors: Vec<_> = books.failures.to_record().collect();
    let (kind, count) = (&errors[0].kind[..], errors[0].count);
    assert_eq!(
        (kind, count, errors[0].first_at_ms),
        ("match_failed", 2, 4000.0)
    );
}

#[test]
fn a_server_that_falls_silent_loses_what_it_was_sent() {
    let (mut books, teller) = books();
    for second in 0..9 {
        teller.tell(secs(second), &[sent()]);
        books.tick(secs(second + 1), None);
        let silent = (second + 1).saturating_sub(5);
        assert_eq!(books.lost(), silent, "{second}");
    }
    assert_eq!(books.message_success(), Some(0.0));
}

#[test]
fn windows_hold_what_was_told_in_them() {
    let (mut books, teller) = books();
    teller.tell(secs(0), &[sent(), sent(), delivered(5)]);
    books.tick(secs(1), None);
    let answered = Duration::from_millis(20);
    let of_call = |call, latency, as_sent| Sample::CallAnswered {
        call: CallId(call),
        latency,
        as_sent,
    };
    let calls = [
        of_call(0, answered, answered),
        of_call(1, 3 * answered, answered),
    ];
    teller.tell(secs(1), &[delivered(50)]);
    let mut slice = Slice::default();
    calls.into_iter().for_each(|call| slice.add(secs(1), call));
    teller.0.send(slice).expect("the books are open");
    books.tick(secs(2), None);
    let windows = books.series.to_record().windows;
    let counts: Vec<_> = windows
        .iter()
        .map(|window| (window.sent, window.delivered))
        .collect();
    assert_eq!(counts, [(2, 1), (0, 1)]);
    assert!(
        windows[1]
            .message
            .p50_ms
            .is_some_and(|ms| (ms - 50.0).abs() < 2.0)
    );
    assert_eq!(windows[0].message.max_ms.map(f64::round), Some(5.0));
    let (answered, call) = (windows[1].answered, windows[1].call);
    let call = call.max_ms.map(f64::round);
    assert_eq!((answered, call), (2, Some(60.0)));
    assert_eq!((windows[0].answered, windows[0].call.max_ms), (0, None));
}
