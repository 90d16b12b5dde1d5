//! The scenarios of a provider that fails, and of a database that goes away, against the real server.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use voicematch_test_postgres::Postgres;

use crate::{Ran, transcription::Server};

/// What each run must hold to, whatever its length: no word is lost, doubled, or wrongly stored.
const WHOLE: [&str; 5] = [
    "words_lost_count",
    "words_twice_count",
    "words_misdelivered_count",
    "words_not_stored_count",
    "words_wrongly_stored_count",
];

impl Ran {
    #[track_caller]
    fn assert_hold(&self, thresholds: &[&str]) {
        assert!(self.json.is_object(), "{}\n{}", self.stderr, self.stdout);
        for name in thresholds {
            assert_eq!(self.target(name), "ok", "{name}\n{}", self.stdout);
        }
    }
}

async fn provider_faults(fake: &str, seconds: &str) -> Ran {
    let server = Server::start(fake, &[]).await;
    let load = [
        "--scenario",
        "provider-faults",
        "--users",
        "4",
        "--spacing",
        "50ms",
        "--duration",
        seconds,
    ];
    let ran = server.play(&load).await;
    ran.assert_hold(&WHOLE);
    ran.assert_hold(&["words_altered_count", "provider_errors_count"]);
    assert_eq!(ran.talks("/transcripts"), 4, "{}", ran.stdout);
    let known = ran.talks("/words/heard") + ran.talks("/words/in_gaps");
    assert_eq!(ran.talks("/words/said"), known, "{}", ran.stdout);
    ran
}

#[tokio::test]
async fn a_provider_that_dies_or_cannot_be_reached_costs_no_word_that_no_gap_names() {
    let fake = "fake:?delay=10ms&partial=200ms&final=500ms&open_fails=30%&close_after=2s";
    let ran = provider_faults(fake, "12s").await;
    assert!(ran.talks("/words/heard") > 0, "{}", ran.stdout);
}

#[tokio::test]
async fn a_provider_that_stalls_costs_no_word_that_no_gap_names() {
    let fake = "fake:?delay=10ms&partial=200ms&final=500ms&stall_after=3s";
    let ran = provider_faults(fake, "25s").await;
    assert!(ran.talks("/words/heard") > 0, "{}", ran.stdout);
}

#[tokio::test]
async fn what_a_provider_says_without_meaning_is_in_no_transcript() {
    let fake = "fake:?delay=10ms&partial=200ms&final=500ms&garbage=10%";
    let ran = provider_faults(fake, "8s").await;
    assert!(ran.talks("/words/heard") > 0, "{}", ran.stdout);
}

#[tokio::test]
async fn all_words_to_a_provider_that_refuses_are_in_gaps() {
    let ran = provider_faults("fake:?refuse=401", "5s").await;
    assert_eq!(ran.talks("/words/heard"), 0, "{}", ran.stdout);
    assert!(ran.talks("/words/in_gaps") > 0, "{}", ran.stdout);
    assert!(ran.stdout.contains("in gaps"), "{}", ran.stdout);
}

#[tokio::test]
async fn a_provider_without_a_fault_is_no_test_of_its_faults() {
    let server = Server::start("fake:?delay=10ms&final=500ms", &[]).await;
    let load = [
        "--scenario",
        "provider-faults",
        "--users",
        "2",
        "--duration",
        "3s",
    ];
    let ran = server.play(&load).await;
    ran.assert_hold(&WHOLE);
    assert_eq!(
        ran.target("provider_errors_count"),
        "failed",
        "{}",
        ran.stdout
    );
    assert_eq!(ran.talks("/words/heard"), ran.talks("/words/said"));
}

/// The value of a metric of the server.
async fn metric(server: &Server, name: &str) -> f64 {
    let mut stream = TcpStream::connect(&server.admin).await.expect("it listens");
    let ask = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", server.admin);
    stream.write_all(ask.as_bytes()).await.expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("text");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

pub(crate) async fn rises_above(server: &Server, name: &str, least: f64) {
    let rising = async {
        while metric(server, name).await <= least {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let risen = timeout(Duration::from_secs(60), rising).await;
    risen.unwrap_or_else(|_| panic!("{name} stays at {least} or below"));
}

/// Plays with the database away from the 20th stored record until some seconds of finals are in the
/// spill file, so that loadtest has read of it.
async fn database_faults(away: fn(&mut Postgres), back: fn(&mut Postgres)) -> Ran {
    let mut postgres = Postgres::start().await;
    let fake = "fake:?delay=10ms&partial=200ms&final=500ms";
    let server = Server::start(fake, &["--database", &postgres.url("postgres")]).await;
    let load = [
        "--scenario",
        "database-faults",
        "--users",
        "4",
        "--spacing",
        "50ms",
        "--duration",
        "25s",
    ];
    let fault = async {
        rises_above(&server, "transcribe_flushed_total", 20.0).await;
        away(&mut postgres);
        rises_above(&server, "transcribe_spilled_total", 30.0).await;
        back(&mut postgres);
    };
    let (ran, ()) = tokio::join!(server.play(&load), fault);
    ran.assert_hold(&WHOLE);
    ran.assert_hold(&[
        "word_success",
        "stored_latency_max",
        "server_spill_max",
        "server_spill_last",
    ]);
    assert_eq!(ran.talks("/transcripts"), 4, "{}", ran.stdout);
    assert_eq!(
        ran.talks("/words/heard"),
        ran.talks("/words/said"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.talks("/untold"), 0, "{}", ran.stdout);
    ran
}

/// Each 5 s a line of the run says what was spoken, what waits at the server, and the server's memory.
#[track_caller]
fn assert_console(said: &str) {
    let mut seconds = Vec::new();
    for line in said.lines() {
        let Some((second, _)) = line.split_once("s of ") else {
            continue;
        };
        let Ok(second) = second.trim().parse::<u64>() else {
            continue;
        };
        seconds.push(second);
        for part in [" chunks, ", " words", " queued, ", " MB"] {
            assert!(line.contains(part), "no {part}: {line}");
        }
    }
    // A busy machine is late by a second or so, and then on time again.
    let due = (5_u64..).step_by(5);
    let is_on_time = seconds
        .iter()
        .zip(due)
        .all(|(at, due)| (due..due + 3).contains(at));
    assert!(seconds.len() >= 5 && is_on_time, "{seconds:?}: {said}");
}

#[tokio::test]
async fn a_database_that_hangs_in_mid_run_costs_no_word_and_doubles_none() {
    let away = |postgres: &mut Postgres| postgres.signal(Signal::STOP);
    let back = |postgres: &mut Postgres| postgres.signal(Signal::CONT);
    let ran = database_faults(away, back).await;
    assert_console(&ran.stderr);
    // And in each window of the report.
    let windows = ran
        .json
        .pointer("/series/windows")
        .and_then(Value::as_array);
    let spilled = |window: &Value| window["server_spill_bytes"].as_u64() > Some(0);
    let queued = |window: &Value| window["server_queue"].is_u64();
    let windows = windows.expect("a list");
    assert!(windows.iter().any(queued) && windows.iter().any(spilled));
    let spill = ran.count("/server/transcription/spill_peak_bytes");
    assert!(
        spill > 0 && ran.stdout.contains("in the spill file"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn a_database_that_is_stopped_and_started_in_mid_run_costs_no_word_and_doubles_none() {
    let ran = database_faults(Postgres::stop, Postgres::run).await;
    let failed = ran.count("/server/transcription/flush_errors");
    assert!(failed > 0, "{}", ran.stdout);
}

#[tokio::test]
async fn a_database_that_nobody_stops_is_no_test_of_its_faults() {
    let server = Server::start("fake:?delay=10ms&final=500ms", &[]).await;
    let load = [
        "--scenario",
        "database-faults",
        "--users",
        "2",
        "--duration",
        "3s",
    ];
    let ran = server.play(&load).await;
    ran.assert_hold(&WHOLE);
    assert_eq!(ran.target("server_spill_max"), "failed", "{}", ran.stdout);
}
