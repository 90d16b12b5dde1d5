use super::*;
use crate::{
    measure::{
        books::tests::{books, delivered, sent},
        sample::{Direction, Kind, Route, Sample},
        server_use::{Reading, Transcribing},
        talk::TalkSample,
    },
    plan::threshold::Threshold,
    record::{Drift, Status, ThresholdResult},
};
use std::time::Duration;

fn parse(text: &str) -> Threshold {
    text.parse().expect(text)
}

fn run(text: &str, seconds: &[Vec<Sample>]) -> (ThresholdResult, Option<u64>) {
    run_with(parse(text), seconds)
}

fn run_with(threshold: Threshold, seconds: &[Vec<Sample>]) -> (ThresholdResult, Option<u64>) {
    let mut watch = Watch::new(vec![threshold], Vec::new(), Vec::new(), false);
    let (mut books, teller) = books();
    let (mut now, mut aborted) = (Duration::ZERO, None);
    for samples in seconds.iter().map(|samples| samples.iter()) {
        teller.tell(now, samples);
        now += Duration::from_secs(1);
        books.tick(now, None);
        if watch.look(&books, now, true).is_some() {
            aborted.get_or_insert(now.as_secs());
        }
    }
    books.close(now, None);
    (watch.finish(&books, &[], now).remove(0), aborted)
}

/// One message of this latency, in milliseconds.
fn message(ms: u64) -> Vec<Sample> {
    vec![sent(), delivered(ms)]
}

#[test]
fn a_limit_is_exact() {
    let matched = |limit: &str| {
        let latency = Duration::from_millis(3);
        run(
            &format!("match_latency max {limit}"),
            &[vec![Sample::Matched { latency }]],
        )
        .0
    };
    assert_eq!(matched("<= 3003us").status, Status::Ok);
    let exactly = matched("< 3ms");
    assert_eq!(
        (exactly.status, exactly.failed_at_ms),
        (Status::Failed, Some(1000.0))
    );
}

#[test]
fn as_a_whole_only_the_end_counts() {
    let seconds: Vec<_> = [900].into_iter().chain([1; 99]).map(message).collect();
    let (result, aborted) = run("message_latency p95 < 100ms", &seconds);
    assert_eq!(
        (result.status, result.failed_at_ms, aborted),
        (Status::Ok, None, None)
    );
}

#[test]
fn over_windows_the_worst_one_counts() {
    let seconds: Vec<_> = [1; 40]
        .into_iter()
        .chain([900; 5])
        .chain([1; 40])
        .map(message)
        .collect();
    let (result, _) = run("message_latency p50 < 100ms over 5s", &seconds);
    assert_eq!(result.status, Status::Failed);
    assert_eq!(
        result.failed_at_ms,
        Some(43_000.0),
        "three of five are slow"
    );
    assert!(
        result
            .measured
            .is_some_and(|ms| (870.0..930.0).contains(&ms)),
        "{result:?}"
    );
    let (result, _) = run("message_latency p50 < 100ms over 60s", &seconds);
    assert_eq!(result.status, Status::Ok);
}

#[test]
fn a_run_shorter_than_its_window_is_one_window() {
    let seconds: Vec<_> = [900; 3].map(message).into();
    assert_eq!(
        run("message_latency p50 < 100ms over 30s", &seconds)
            .0
            .status,
        Status::Failed
    );
}

#[test]
fn an_abort_waits_as_long_as_it_was_told() {
    let seconds: Vec<_> = [900; 10].map(message).into();
    let (result, aborted) = run("message_latency p95 < 100ms abort after 4s", &seconds);
    assert_eq!(
        (aborted, result.aborted, result.status),
        (Some(4), true, Status::Failed)
    );
    let (result, aborted) = run("message_latency p95 < 100ms", &seconds);
    assert_eq!((aborted, result.aborted), (None, false));
}

#[test]
fn what_is_under_way_is_no_failure_of_its_window() {
    let latency = Duration::from_millis(800);
    let connecting = || Sample::Connecting { again: false };
    // Each second three set out, and those of the second before arrive.
    let set_out = || (0..3).map(|_| connecting());
    let arrive = || (0..3).map(|_| Sample::Connected { latency });
    let mut seconds: Vec<Vec<_>> = vec![set_out().collect()];
    seconds.extend((0..8).map(|_| set_out().chain(arrive()).collect()));
    seconds.push(arrive().collect());
    for over in ["", " over 2s"] {
        let text = format!("connection_success >= 100%{over} abort");
        let (result, aborted) = run(&text, &seconds);
        assert_eq!((result.status, aborted), (Status::Ok, None), "{text}");
    }
    let error = crate::measure::sample::ErrorKind::ConnectRefused;
    seconds[4].push(connecting());
    seconds[5].push(Sample::NotConnected { error });
    let (result, aborted) = run("connection_success >= 80% over 2s abort", &seconds);
    assert_eq!((result.status, aborted), (Status::Ok, None));
    assert_eq!(result.measured.map(f64::round), Some(86.0));
}

#[test]
fn a_loss_ends_the_run_when_it_is_seen_and_a_delay_does_not() {
    let mut seconds: Vec<Vec<_>> = (0..3).map(|_| vec![sent()]).collect();
    seconds.extend((0..4).map(|_| vec![sent(), delivered(2500)]));
    for text in [
        "lost count < 1 abort",
        "message_success >= 100% abort",
        "message_success >= 100% over 2s abort",
    ] {
        assert_eq!(run(text, &seconds).1, None, "{text}");
        let mut lossy: Vec<Vec<_>> = (0..9).map(|_| message(1)).collect();
        lossy[4].extend([sent(), Sample::Gap { missed: 1 }]);
        let (result, aborted) = run(text, &lossy);
        assert_eq!((aborted, result.aborted), (Some(5), true), "{text}");
    }
}

#[test]
fn a_run_that_is_over_cannot_be_ended() {
    let threshold = parse("lost count < 1 abort");
    let mut watch = Watch::new(vec![threshold], Vec::new(), Vec::new(), false);
    let (mut books, teller) = books();
    teller.tell(Duration::ZERO, &[sent(), Sample::Gap { missed: 1 }]);
    let now = Duration::from_secs(1);
    books.tick(now, None);
    assert!(watch.look(&books, now, false).is_none());
    assert!(!watch.finish(&books, &[], now).remove(0).aborted);
}

#[test]
fn nothing_measured_is_no_data() {
    for text in [
        "match_latency p95 < 2s",
        "message_success >= 1%",
        "misdelivered <= 0",
        "server_cpu max < 80%",
    ] {
        assert_eq!(run(text, &[vec![]]).0.status, Status::NoData, "{text}");
    }
    assert_eq!(
        run("errors <= 0", &[vec![]]).0.status,
        Status::Ok,
        "no error is known to be none"
    );
}

#[test]
fn rates_are_each_second() {
    let seconds: Vec<_> = [1; 10].map(message).into();
    let (result, _) = run("messages rate >= 1/s", &seconds);
    assert_eq!((result.status, result.measured), (Status::Ok, Some(1.0)));
}

#[test]
fn what_a_server_need_not_tell_is_excused() {
    for (text, status) in [
        ("server_rss max < 1GB", Status::NoData),
        ("server_rss max < 1GB if measured", Status::NotMeasured),
    ] {
        assert_eq!(run(text, &[message(1)]).0.status, status, "{text}");
    }
}

#[test]
fn a_storm_is_to_be_over_in_time() {
    let dropped = || {
        (0..10)
            .map(|_| Sample::StormDropped {
                paired: true,
                resumes: false,
            })
            .collect::<Vec<_>>()
    };
    let back = |seconds| {
        let after = Duration::from_secs(seconds);
        (0..10)
            .map(|_| Sample::StormMatched { after })
            .collect::<Vec<_>>()
    };
    let (result, _) = run("recovery < 2s", &[dropped(), back(1)]);
    assert_eq!(result.name, "recovery");
    assert_eq!(
        (result.status, result.measured.map(f64::round)),
        (Status::Ok, Some(1000.0))
    );
    // They are not back, and what is known is that it took longer than that.
    let (result, aborted) = run("recovery < 2s abort", &[dropped(), vec![], vec![], vec![]]);
    assert_eq!((result.status, aborted), (Status::Failed, Some(3)));
    assert_eq!(run("recovery < 9s", &[dropped()]).0.status, Status::NoData);
    assert_eq!(
        run("recovery < 9s", &[message(1)]).0.status,
        Status::NoData,
        "no storm"
    );
}

#[test]
fn what_has_no_hope_ends_the_run() {
    let slow: Vec<_> = [900; 10].map(message).into();
    // Each second somebody hears what was meant for another.
    let route = Route {
        kind: Kind::MESSAGE,
        direction: Direction::ToServer,
    };
    let wrong: Vec<_> = (0..10)
        .map(|_| vec![sent(), Sample::WrongPeer { route }])
        .collect();
    for (text, seconds, end) in [
        ("message_latency p95 < 100ms", &slow, Some(6)),
        ("message_latency p95 < 100ms over 2s", &slow, Some(2)),
        ("message_latency max < 100ms", &slow, Some(1)),
        ("message_latency p95 < 100ms abort after 8s", &slow, Some(8)),
        ("messages >= 9", &slow, None),
        ("misdelivered <= 2", &wrong, Some(3)),
    ] {
        let threshold = parse(text).ending_the_run(Duration::from_secs(6));
        assert_eq!(run_with(threshold, seconds).1, end, "{text}");
    }
}

#[test]
fn memory_drifts_by_what_is_certain_and_a_short_run_is_excused_only_if_so_asked() {
    let drift = |per_hour, uncertainty| Drift {
        figure: "server_rss_bytes".to_owned(),
        per_hour,
        uncertainty,
        first: 100e6,
        ..Drift::default()
    };
    let judged = |text: &str, drift: &[Drift]| {
        let mut watch = Watch::new(vec![parse(text)], Vec::new(), Vec::new(), true);
        let result = watch.finish(&books().0, drift, Duration::ZERO).remove(0);
        (result.status, result.measured)
    };
    let limit = "server_rss_drift < 5%/h";
    assert_eq!(
        judged(limit, &[drift(10e6, 4e6)]),
        (Status::Failed, Some(6.0))
    );
    assert_eq!(judged(limit, &[drift(8e6, 4e6)]), (Status::Ok, Some(4.0)));
    assert_eq!(judged(limit, &[drift(3e6, 9e6)]), (Status::Ok, Some(0.0)));
    assert_eq!(judged(limit, &[]), (Status::NoData, None));
    let excused = format!("{limit} if measured");
    assert_eq!(judged(&excused, &[]), (Status::NotMeasured, None));
}

#[test]
fn what_the_server_says_of_its_storage_and_provider_is_judged() {
    let reading = |second: u64, now: Transcribing| Reading {
        at: Duration::from_secs(second),
        cpu_seconds: 0.0,
        rss_bytes: 1,
        fds: 1,
        max_fds: None,
        transcribing: Some(now),
    };
    let at = |gathered, finals, audio_seconds, spill_bytes| Transcribing {
        commits: gathered * 2,
        gathered,
        finals,
        audio_seconds,
        spill_bytes,
        provider_errors: spill_bytes,
        commit_seconds: gathered as f64 * 0.2,
        accepted: finals * 10,
        accept_seconds: finals as f64 * 0.5,
        flush_errors: gathered,
        ..Transcribing::default()
    };
    let (mut books, teller) = books();
    let said = Sample::Talk(TalkSample::Spoken {
        lateness: Duration::ZERO,
        audio: Duration::from_secs(40),
        numbered: true,
    });
    teller.tell(Duration::ZERO, &[said]);
    for (second, now) in [
        at(5, 100, 9.0, 0),
        at(9, 300, 39.0, 700),
        at(11, 600, 59.0, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let second = second as u64;
        books.tick(Duration::from_secs(second + 1), Some(reading(second, now)));
    }
    books.close(Duration::from_secs(3), None);
    for (text, measured) in [
        ("commits_per_1000_finals <= 15", 12.0),
        ("audio_billed < 1.05", 1.25),
        ("server_spill max > 0B", 700.0),
        ("server_spill last < 1KB", 2.0),
        ("provider_errors < 1", 702.0),
        ("provider_latency < 200ms", 50.0),
        ("database_latency < 100ms", 100.0),
        ("flush_errors < 1", 6.0),
    ] {
        let mut watch = Watch::new(vec![parse(text)], Vec::new(), Vec::new(), true);
        let result = watch.finish(&books, &[], Duration::from_secs(3)).remove(0);
        assert_eq!(result.measured, Some(measured), "{text}");
        let holds = ["commits", "server_spill", "provider_latency"]
            .iter()
            .any(|name| text.starts_with(name));
        assert_eq!(result.status == Status::Ok, holds, "{text}");
    }
}
