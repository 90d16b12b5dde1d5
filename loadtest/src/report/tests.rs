use std::time::{Duration, SystemTime};

use super::*;
use crate::{
    plan::Plan,
    sample::{ErrorKind, Sample, ServerCode},
    summary::{About, GeneratorUse, ServerUse, ServerWatch, Summary, Tally},
    verdict::{Thresholds, Verdict, judge},
};

/// A long run of many users in which everything happened once.
fn example() -> (Summary, Verdict) {
    let at = Duration::from_millis(1500);
    let code = ServerCode::new(&"x".repeat(100));
    let mut tally = Tally::default();
    for sample in [
        Sample::Connected {
            latency: Duration::from_micros(340),
        },
        Sample::NotConnected {
            at,
            error: ErrorKind::HandshakeRejected(503),
        },
        Sample::Error {
            at,
            error: ErrorKind::ServerError(code),
        },
        Sample::Matched {
            latency: Duration::from_millis(12),
        },
        Sample::Sent {
            lateness: Duration::from_millis(1),
        },
        Sample::Delivered {
            latency: Duration::from_secs(3000),
            in_order: true,
            altered: false,
        },
        Sample::Foreign,
    ] {
        tally.add(sample);
    }
    let summary = tally.finish(About {
        plan: Plan::new(999_999, Duration::from_secs(86_400)),
        target: "ws://127.0.0.1:8080/ws".to_owned(),
        started_at: SystemTime::UNIX_EPOCH,
        elapsed: Duration::from_secs(90_000),
        active: Duration::from_secs(86_461),
        interrupted: true,
        peak_users: 1,
        generator: GeneratorUse {
            workers: 8,
            rss_peak_bytes: 123_456_789,
            ..GeneratorUse::default()
        },
        server: ServerWatch::Read(ServerUse {
            readings: 86_400,
            cpu_seconds: 1e6,
            cpu_percent: 799.9,
            rss_first_bytes: 100_000_000,
            rss_peak_bytes: 12_345_678_901,
            fds_peak: 1_000_000,
        }),
    });
    let verdict = judge(&summary, &Thresholds::default());
    (summary, verdict)
}

#[test]
fn the_text_starts_with_the_verdict_and_fits_a_terminal() {
    let (summary, verdict) = example();
    let text = text(&summary, &verdict);
    let verdict = text.lines().nth(1).expect("a line");
    assert_eq!(
        verdict,
        "FAIL     999,999 users for 1day 1m 1s on ws://127.0.0.1:8080/ws"
    );
    let slowest = "3,001,024 ".repeat(5) + "3,001,024";
    assert!(
        text.contains(&slowest),
        "columns run into each other:\n{text}"
    );
    for part in [
        "exit code 99, ended early",
        "handshake_rejected:503",
        "another load test",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let memory = "  FAILED   server memory                  12.35 GB   below 2.00 GB";
    assert!(text.lines().any(|line| line == memory), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "too long: {line}");
        assert_eq!(line, line.trim_end(), "ends in spaces");
    }
}

#[test]
fn the_json_says_the_same() {
    let (summary, verdict) = example();
    let json = json(&summary, &verdict);
    let at = |pointer| {
        json.pointer(pointer)
            .unwrap_or_else(|| panic!("no {pointer} in {json:#}"))
    };
    assert_eq!(at("/verdict"), "fail");
    assert_eq!(at("/exit_code"), 99);
    assert_eq!(at("/run/users"), 999_999);
    assert_eq!(at("/run/started_at"), "1970-01-01T00:00:00.000Z");
    assert_eq!(at("/connections/success_percent"), 50.0);
    assert_eq!(at("/messages/sent"), 1);
    assert_eq!(
        at("/messages/success_percent"),
        &serde_json::Value::Null,
        "nobody left a room"
    );
    assert_eq!(at("/latency/connect/p99_9_ms"), 0.34);
    assert_eq!(at("/errors/0/first_at_ms"), 1500.0);
    assert_eq!(at("/server/open_fds_peak"), 1_000_000);
    assert_eq!(at("/targets/6/name"), "server_memory");
    assert_eq!(at("/targets/6/status"), "failed");
}
