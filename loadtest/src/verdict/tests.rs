use super::*;
use crate::{
    plan::Plan,
    sample::{ErrorKind, Sample},
    summary::{About, GeneratorUse, ServerUse, Tally},
};

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn summary(samples: impl IntoIterator<Item = Sample>) -> Summary {
    let mut tally = Tally::default();
    for sample in samples {
        tally.add(sample);
    }
    tally.finish(About {
        plan: Plan::new(2, millis(1000)),
        target: String::new(),
        started_at: std::time::SystemTime::UNIX_EPOCH,
        elapsed: millis(1000),
        active: millis(1000),
        interrupted: false,
        peak_users: 2,
        generator: GeneratorUse::default(),
        server: ServerWatch::Off,
    })
}

/// Two users, matched; one sends to the other.
fn good() -> Vec<Sample> {
    use crate::ledger::{Inbox, Stay};
    let stay = |user, sent, inbox| {
        let (partner_left, foreign) = (false, false);
        Sample::RoomLeft(Stay {
            room: 1,
            user,
            sent,
            refused: 0,
            partner_left,
            foreign,
            inbox,
        })
    };
    let mut inbox = Inbox::default();
    inbox.receive(0, 0);
    let latency = millis(3);
    let mut samples = vec![
        Sample::Sent {
            lateness: millis(1),
        },
        Sample::Delivered {
            latency,
            in_order: true,
            altered: false,
        },
        stay(0, 1, Inbox::default()),
        stay(1, 0, inbox),
    ];
    for _ in 0..2 {
        samples.push(Sample::Connected { latency });
        samples.push(Sample::Searching { again: false });
        samples.push(Sample::Matched { latency });
    }
    samples
}

fn status(verdict: &Verdict, name: &str) -> Status {
    verdict
        .checks
        .iter()
        .find(|check| check.name == name)
        .expect(name)
        .status
}

fn judged(more: impl IntoIterator<Item = Sample>) -> Verdict {
    judge(
        &summary(good().into_iter().chain(more)),
        &Thresholds::default(),
    )
}

#[test]
fn a_good_run_passes() {
    let verdict = judged([]);
    assert_eq!(
        (verdict.outcome, verdict.exit_code()),
        (Outcome::Pass, 0),
        "{verdict:#?}"
    );
    assert_eq!(status(&verdict, "server memory"), Status::NotMeasured);
}

#[test]
fn nothing_measured_is_never_a_pass() {
    let verdict = judge(&summary([]), &Thresholds::default());
    assert_eq!(
        (verdict.outcome, verdict.exit_code()),
        (Outcome::Invalid, 98)
    );
    assert!(
        verdict
            .invalid
            .iter()
            .any(|why| why.contains("message success")),
        "{verdict:#?}"
    );
}

#[test]
fn each_target_can_fail() {
    let at = millis(1);
    let failed = |verdict: Verdict, name| {
        assert_eq!(
            (verdict.exit_code(), status(&verdict, name)),
            (99, Status::Failed),
            "{name}"
        );
    };
    let refused = || Sample::NotConnected {
        at,
        error: ErrorKind::ConnectRefused,
    };
    failed(judged([refused()]), "connection success");
    failed(
        judged([Sample::Matched {
            latency: millis(5000),
        }]),
        "match latency p95",
    );
    let late = Sample::Delivered {
        latency: millis(200),
        in_order: true,
        altered: false,
    };
    failed(judged([late]), "message latency p95");
    failed(judged([Sample::WrongPeer]), "misdelivered messages");
    // Nothing was matched or sent, but the cause is known: that is a failure, not a void measurement.
    let all_refused = judge(&summary([refused()]), &Thresholds::default());
    failed(all_refused, "connection success");
}

#[test]
fn a_limit_is_exact() {
    let exactly = |limit| Thresholds {
        match_p95: limit,
        ..Thresholds::default()
    };
    let summary = summary(good());
    let measured = summary.matching.quantile(0.95).expect("measured");
    assert_eq!(
        judge(&summary, &exactly(measured)).exit_code(),
        99,
        "below means below"
    );
    assert_eq!(
        judge(&summary, &exactly(measured + millis(1))).exit_code(),
        0
    );
}

#[test]
fn a_generator_that_cannot_keep_up_makes_the_run_void() {
    let late = judged((0..100).map(|_| Sample::Sent {
        lateness: millis(500),
    }));
    assert_eq!(late.exit_code(), 98);
    assert!(late.invalid[0].contains("sent late"), "{late:#?}");

    let mut busy = summary(good());
    busy.about.generator.busiest_worker_percent = 97.0;
    assert_eq!(judge(&busy, &Thresholds::default()).exit_code(), 98);

    let ports = Sample::NotConnected {
        at: millis(1),
        error: ErrorKind::PortsExhausted,
    };
    assert_eq!(
        judged([ports]).exit_code(),
        98,
        "void, though a target failed too"
    );
}

#[test]
fn server_memory_counts_when_it_was_read_or_asked_for() {
    let mut seen = summary(good());
    let mut code = |server| {
        seen.about.server = server;
        judge(&seen, &Thresholds::default()).exit_code()
    };
    let uses = |rss_peak_bytes| {
        ServerWatch::Read(ServerUse {
            rss_peak_bytes,
            ..ServerUse::default()
        })
    };
    assert_eq!(code(uses(1_999_999_999)), 0);
    assert_eq!(code(uses(2_000_000_000)), 99);
    assert_eq!(
        code(ServerWatch::Unreadable(false)),
        0,
        "it was only guessed at"
    );
    assert_eq!(
        code(ServerWatch::Unreadable(true)),
        98,
        "no data is no pass"
    );
}
