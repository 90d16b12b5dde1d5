use super::*;
use crate::{
    ledger::{Inbox, Stay},
    sample::{Sample, ServerCode, Unmatched},
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn about() -> About {
    About {
        plan: Plan::new(10, secs(60)),
        target: "ws://127.0.0.1:8080/ws".to_owned(),
        started_at: SystemTime::UNIX_EPOCH,
        elapsed: secs(61),
        active: secs(60),
        interrupted: false,
        peak_users: 10,
        generator: GeneratorUse::default(),
        server: ServerWatch::Off,
    }
}

fn finish(samples: impl IntoIterator<Item = Sample>) -> Summary {
    // Every sample in a tally of its own: merging must give what adding gives.
    let mut all = Tally::default();
    for sample in samples {
        let mut one = Tally::default();
        one.add(sample);
        all.merge(one);
    }
    all.finish(about())
}

fn unmatched(from: u64, to: u64) -> Sample {
    let waited = secs(to - from).min(secs(30));
    Sample::Unmatched(Unmatched {
        from: secs(from),
        to: secs(to),
        waited,
    })
}

fn matched() -> Sample {
    Sample::Matched {
        latency: Duration::from_millis(3),
    }
}

#[test]
fn percentiles_are_those_of_the_merged_whole() {
    let samples = (1..=1000).map(|ms| Sample::Connected {
        latency: Duration::from_millis(ms),
    });
    let connect = finish(samples).connect;
    assert_eq!(connect.count(), 1000);
    let near = |q, ms: f64| {
        let got = connect.quantile(q).expect("not empty").as_secs_f64() * 1e3;
        assert!((got - ms).abs() <= ms * 0.001, "{q}: {got} is not {ms}");
    };
    near(0.5, 500.0);
    near(0.99, 990.0);
    near(1.0, 1000.0);
    assert_eq!(finish([]).connect.quantile(0.5), None);
}

#[test]
fn a_dropped_connection_is_no_success() {
    let at = secs(5);
    let connected = || Sample::Connected { latency: secs(1) };
    let got = finish([
        connected(),
        connected(),
        Sample::NotConnected {
            at,
            error: ErrorKind::ConnectRefused,
        },
        Sample::Dropped {
            at,
            error: ErrorKind::ClosedByServer(1001),
        },
    ]);
    assert_eq!(
        (got.connections.attempted, got.connections.succeeded),
        (3, 2)
    );
    assert!((got.connection_success_percent().expect("some") - 100.0 / 3.0).abs() < 1e-9);
}

#[test]
fn nothing_measured_is_no_rate() {
    let got = finish([]);
    assert_eq!(got.connection_success_percent(), None);
    assert_eq!(got.match_success_percent(), None);
    assert_eq!(got.message_success_percent(), None);
}

#[test]
fn an_odd_user_out_is_not_a_failure() {
    let got = finish([matched(), matched(), unmatched(1, 60)]);
    assert_eq!((got.matches.failed, got.matches.odd_one_out), (0, 1));
    assert_eq!(got.match_success_percent(), Some(100.0));
}

#[test]
fn two_who_wait_together_are_failures_at_their_time_out() {
    let got = finish([matched(), matched(), unmatched(1, 60), unmatched(20, 60)]);
    assert_eq!((got.matches.failed, got.matches.odd_one_out), (2, 0));
    assert_eq!(got.match_success_percent(), Some(50.0));
    let longest = got.matching.max().expect("recorded").as_secs_f64();
    assert!((30.0..30.1).contains(&longest), "{longest}");
}

#[test]
fn three_who_wait_together_are_two_failures() {
    let got = finish([unmatched(1, 60), unmatched(2, 60), unmatched(3, 60)]);
    assert_eq!((got.matches.failed, got.matches.odd_one_out), (2, 1));
}

#[test]
fn users_who_wait_one_after_the_other_had_nobody_to_find() {
    let got = finish([unmatched(0, 10), unmatched(10, 30), unmatched(29, 60)]);
    assert_eq!((got.matches.failed, got.matches.odd_one_out), (0, 3));
    // One who stays is found by a later one even if a short visit lies between.
    let got = finish([unmatched(0, 60), unmatched(10, 11), unmatched(20, 60)]);
    assert_eq!(
        (
            got.matches.failed,
            got.matches.odd_one_out,
            got.matches.pending
        ),
        (2, 0, 1)
    );
}

#[test]
fn a_search_cut_short_by_the_end_is_pending() {
    let got = finish([unmatched(59, 60), unmatched(59, 60)]);
    assert_eq!((got.matches.failed, got.matches.pending), (0, 2));
}

#[test]
fn a_one_sided_match_is_not_a_good_one() {
    let stay = |room, user| {
        let inbox = Inbox::default();
        Stay {
            room,
            user,
            sent: 0,
            refused: 0,
            partner_left: false,
            foreign: false,
            inbox,
        }
    };
    let rooms = [stay(1, 1), stay(1, 2), stay(2, 3)].map(Sample::RoomLeft);
    let got = finish([matched(), matched(), matched()].into_iter().chain(rooms));
    assert_eq!(
        (got.matches.matched, got.matches.good, got.matches.one_sided),
        (3, 2, 1)
    );
}

#[test]
fn each_kind_of_misdelivery_is_counted_apart() {
    let latency = Duration::from_millis(1);
    let got = finish([
        Sample::Delivered {
            latency,
            in_order: true,
            altered: false,
        },
        Sample::Delivered {
            latency,
            in_order: false,
            altered: false,
        },
        Sample::Delivered {
            latency,
            in_order: true,
            altered: true,
        },
        Sample::Duplicate,
        Sample::WrongPeer,
    ]);
    let Messages {
        duplicate,
        reordered,
        wrong_peer,
        altered,
        ..
    } = got.messages;
    assert_eq!((duplicate, reordered, wrong_peer, altered), (1, 1, 1, 1));
    assert_eq!((got.messages.misdelivered(), got.relay.count()), (4, 3));
}

#[test]
fn errors_keep_their_first_time_and_a_bounded_number_of_kinds() {
    let error = |at, n: u64| {
        let code = ServerCode::new(&format!("code_{n}"));
        Sample::Error {
            at: secs(at),
            error: ErrorKind::ServerError(code),
        }
    };
    let mut tally = Tally::default();
    for n in 0..1000 {
        tally.add(error(9, n));
    }
    tally.add(error(4, 0));
    let errors = tally.finish(about()).errors;
    assert_eq!(errors.total(), 1001);
    assert_eq!(errors.by_count().len(), MAX_ERROR_KINDS + 1);
    assert_eq!(errors.by_count()[0].0, &ErrorKind::Other);
    let first = ErrorKind::ServerError(ServerCode::new("code_0"));
    let kept = errors
        .by_count()
        .into_iter()
        .find(|(kind, _)| **kind == first)
        .expect("kept")
        .1;
    assert_eq!(
        kept,
        ErrorCount {
            count: 2,
            first_at: secs(4)
        }
    );
}
