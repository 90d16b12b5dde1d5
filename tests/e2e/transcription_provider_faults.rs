//! What goes wrong with a provider, and what a host is told of it: no word is lost without a gap, none comes twice, and
//! after each fault finals come again.

use std::{fs, time::Duration};

use rustix::process::Signal;

use crate::support::{
    TestServer, becomes, eventually,
    hearing::Hearing,
    jwt::Folder,
    processes::{children, exists, interpreter},
    providers::{
        Door, Way,
        gladia::{GladiaServer, KEY, TOKEN},
        server::{Faults, Plan},
        tls::TlsFront,
        vosk::VoskServer,
    },
};

const ERRORS: &str = "transcribe_provider_errors_total";
const RECONNECTS: &str = "transcribe_provider_reconnects_total";

async fn server(folder: &Folder, provider: &str) -> TestServer {
    let state = folder.path("state");
    TestServer::start(&["--transcribe", provider, "--state-dir", &state]).await
}

/// A server whose provider is a vosk-server behind a door.
async fn behind_a_door(folder: &Folder, way: Way) -> (TestServer, Door, VoskServer) {
    let vosk = VoskServer::start(Plan::default()).await;
    let door = Door::before(vosk.url.trim_start_matches("ws://"), way).await;
    let server = server(folder, &format!("vosk:ws://{}", door.address)).await;
    (server, door, vosk)
}

/// Speaks until the provider was left so often for this.
async fn speak_until(server: &TestServer, hearing: &mut Hearing, label: &str, times: f64) {
    for _ in 0..50 {
        hearing.goes_on().await;
        if server.metric(RECONNECTS, label).await >= times {
            return;
        }
    }
    panic!("not {times} reconnects of {label}");
}

/// How often this is in the log.
fn logged(server: &TestServer, text: &str) -> usize {
    let lines = server.process.stderr();
    lines.iter().filter(|line| line.contains(text)).count()
}

/// The log has one line of this; it comes through a pipe.
async fn is_logged_once(server: &TestServer, text: &str) {
    becomes(1, text, async || logged(server, text)).await;
}

#[tokio::test]
async fn a_provider_that_is_down_at_the_start() {
    let folder = Folder::new("down");
    let (server, door, _vosk) = behind_a_door(&folder, Way::Shut).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.say(80).await;
    hearing
        .until(|now| now.errors == ["provider_down"] && now.states.ends_with(&["down".into()]))
        .await;
    let breaker = ("transcribe_breaker_open", r#"provider="vosk""#);
    server.reaches(breaker.0, breaker.1, 1.0).await;
    let refused = server.metric("transcribe_refused_total", r#"code="provider_down""#);
    assert_eq!(refused.await, 1.0);
    assert!(server.metric(ERRORS, "").await >= 5.0);
    is_logged_once(&server, "the provider cannot be reached").await;
    // With these it is more than is kept.
    hearing.say(60).await;
    while hearing.speaker.expect("audio_ack").await["ms"] != 14_000 {}
    door.set(Way::Through);
    hearing.goes_on().await;
    assert!(
        !hearing.gaps.is_empty(),
        "14 s were said, and 10 s are kept"
    );
    assert!(hearing.gaps.iter().all(|gap| gap.2 == "provider_down"));
    hearing.assert_gaps_are_what_is_missing();
    assert_eq!(hearing.states.last().unwrap(), "ok");
    server.reaches(breaker.0, breaker.1, 0.0).await;
    hearing.assert_stored(&server).await;
}

#[tokio::test]
async fn a_provider_that_refuses() {
    for status in [401, 403] {
        let folder = Folder::new(&format!("refused-{status}"));
        let (server, door, _vosk) = behind_a_door(&folder, Way::Refused(status)).await;
        let mut hearing = Hearing::begin(&server).await;
        hearing.say(30).await;
        hearing
            .until(|now| now.errors == ["provider_down"] && now.states == ["down"])
            .await;
        is_logged_once(&server, "the provider refuses").await;
        server
            .reaches("transcribe_breaker_open", r#"provider="vosk""#, 1.0)
            .await;
        assert!(server.metric(ERRORS, "").await >= 1.0);
        door.set(Way::Through);
        hearing.goes_on().await;
        hearing.assert_all_heard();
        hearing.assert_stored(&server).await;
    }
}

#[tokio::test]
async fn a_provider_that_is_busy() {
    let folder = Folder::new("busy");
    let (server, door, _vosk) = behind_a_door(&folder, Way::Refused(429)).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.say(30).await;
    hearing.until(|now| now.states == ["busy"]).await;
    server.reaches("transcribe_streams_waiting", "", 1.0).await;
    hearing.until(|now| now.errors == ["provider_busy"]).await;
    door.set(Way::Through);
    hearing.goes_on().await;
    hearing.assert_all_heard();
    server.reaches("transcribe_streams_waiting", "", 0.0).await;
    hearing.assert_stored(&server).await;
}

#[tokio::test]
async fn a_provider_that_closes_in_mid_sentence() {
    let folder = Folder::new("closes");
    let server = server(&folder, "fake:?close_after=1700ms&final=3s").await;
    let mut hearing = Hearing::begin(&server).await;
    speak_until(
        &server,
        &mut hearing,
        r#"provider="fake",reason="closed""#,
        4.0,
    )
    .await;
    hearing.goes_on().await;
    assert!(hearing.states.contains(&"reconnecting".into()));
    hearing.assert_all_heard();
    hearing.assert_stored(&server).await;
}

#[tokio::test]
async fn a_provider_that_stalls() {
    let folder = Folder::new("stalls");
    // TCP stays open, and nobody reads or says anything.
    let stalls = Faults {
        stall_after: Some(45),
        ..Faults::default()
    };
    let vosk = VoskServer::start(Plan::new([stalls, Faults::default()])).await;
    let server = server(&folder, &format!("vosk:{}", vosk.url)).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.say(140).await;
    let stalled = |now: &Hearing| now.states.contains(&"silent".into());
    hearing.until(stalled).await;
    hearing.goes_on().await;
    hearing.assert_gaps_are_what_is_missing();
    assert!(
        server
            .metric(RECONNECTS, r#"provider="vosk",reason="silent""#)
            .await
            >= 1.0
    );
    assert!(
        server
            .metric("transcribe_final_latency_seconds_count", "")
            .await
            >= 1.0
    );
    hearing.assert_stored(&server).await;
}

#[tokio::test]
async fn a_provider_that_says_what_means_nothing() {
    let garbage = Faults {
        garbage_each: Some(5),
        ..Faults::default()
    };
    // Half of it is more than a megabyte in one line, or begins before time.
    let vosk = VoskServer::start(Plan::new([garbage])).await;
    let url = format!("vosk:{}", vosk.url);
    for (name, provider) in [("fake", "fake:?garbage=20%&seed=7"), ("vosk", &url)] {
        let folder = Folder::new(&format!("garbage-{name}"));
        let server = server(&folder, provider).await;
        let mut hearing = Hearing::begin(&server).await;
        let label = format!(r#"provider="{name}",reason="garbage""#);
        // A word that was never said would fail.
        speak_until(&server, &mut hearing, &label, 1.0).await;
        assert!(server.metric(ERRORS, "").await >= 10.0);
        hearing.goes_on().await;
        hearing.assert_all_heard();
        hearing.assert_stored(&server).await;
    }
}

#[tokio::test]
async fn a_provider_that_is_slower_than_speech() {
    let folder = Folder::new("slow");
    let server = server(&folder, "fake:?slow=2&final=1s").await;
    let mut hearing = Hearing::begin(&server).await;
    // At four times its speed: it comes eight times as fast as it is heard.
    hearing.say(300).await;
    hearing
        .until(|now| now.states.contains(&"slow".into()) && !now.gaps.is_empty())
        .await;
    let metrics = server.metrics().await;
    let seen = metrics.get("transcribe_lag_seconds_count", "");
    assert!(metrics.get("transcribe_lag_seconds_bucket", r#"le="5""#) < seen);
    hearing.goes_on().await;
    assert!(hearing.gaps.iter().all(|gap| gap.2 == "provider_slow"));
    hearing.assert_gaps_are_what_is_missing();
    hearing.assert_stored(&server).await;
}

/// A recogniser that has this fault, and the folder in which each of its processes notes its id and its child's.
fn recogniser(folder: &Folder, fault: &str) -> (String, String) {
    let notes = folder.path("notes");
    fs::create_dir(&notes).unwrap();
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/transcribe/tests/bridge/support/recogniser.py"
    );
    let python = interpreter();
    let command = format!("command:{python} -I {program} notes={notes} child=1 {fault}");
    (command, notes)
}

/// The processes that have noted themselves and are there.
fn left(notes: &str) -> usize {
    let files = fs::read_dir(notes).unwrap().flatten();
    let mut ids: Vec<u32> = files
        .filter_map(|file| {
            let text = fs::read_to_string(file.path()).ok()?;
            text.trim().parse().ok()
        })
        .collect();
    ids.retain(|id| exists(*id));
    ids.len()
}

#[tokio::test]
async fn a_program_that_crashes_or_hangs_at_its_end() {
    for (name, fault) in [("crash", "exit_after=27"), ("hang", "hang=1")] {
        let folder = Folder::new(&format!("program-{name}"));
        let (provider, notes) = recogniser(&folder, fault);
        let mut server = server(&folder, &provider).await;
        let mut hearing = Hearing::begin(&server).await;
        let crashed = r#"provider="command",reason="crashed""#;
        for _ in 0..4 {
            hearing.goes_on().await;
        }
        if name == "crash" {
            assert!(server.metric(RECONNECTS, crashed).await >= 1.0);
        }
        // Its stream ends, and with that its process; one waits for the next stream.
        hearing
            .speaker
            .send(serde_json::json!({"type": "stop"}))
            .await;
        let active = ("transcribe_active_bridges", r#"provider="command""#);
        server.reaches(active.0, active.1, 0.0).await;
        becomes(2, "the processes that are left", async || left(&notes)).await;
        let children = children(server.process.id());
        assert!(children.len() <= 1, "{children:?}");
        assert!(
            children.iter().all(|(_, state)| *state != 'Z'),
            "{children:?}"
        );
        assert!(server.metric(ERRORS, "").await >= 1.0);
        hearing.goes_on().await;
        hearing.assert_all_heard();
        hearing.assert_stored(&server).await;
        server.process.signal(Signal::TERM);
        assert_eq!(server.process.exit_code().await, Some(0));
        eventually("nothing is left", async || left(&notes) == 0).await;
    }
}

#[tokio::test]
async fn a_key_that_is_refused_stands_nowhere() {
    let folder = Folder::new("key");
    let gladia = GladiaServer::start(Plan::default()).await;
    gladia.state.refusals.lock().unwrap().push_back(401);
    let (key, state) = (folder.write("gladia", KEY), folder.path("state"));
    let provider = format!("gladia:{}", gladia.url);
    let flags = ["--transcribe", &provider, "--gladia-key-file", &key];
    let more = ["--state-dir", &state, "--log", "trace"];
    let server = TestServer::start(&[&flags[..], &more].concat()).await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.say(20).await;
    hearing.until(|now| now.errors == ["provider_down"]).await;
    is_logged_once(&server, "the provider refuses").await;
    // With another key it is asked again at once.
    server.process.signal(Signal::HUP);
    hearing.goes_on().await;
    hearing.assert_all_heard();
    hearing.assert_stored(&server).await;
    let metrics = server.admin("/metrics").await;
    for secret in [KEY, TOKEN] {
        assert_eq!(logged(&server, secret), 0, "{secret}");
        assert!(!metrics.text().contains(secret), "{secret}");
        assert!(!hearing.frames.contains(secret), "{secret}");
    }
    assert_eq!(*gladia.state.mistakes.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn silence_is_no_speech_and_a_pause_costs_nothing() {
    let folder = Folder::new("silence");
    let server = server(&folder, "fake:").await;
    let mut hearing = Hearing::begin(&server).await;
    hearing.be_silent(30_000).await;
    hearing.until(|now| now.states == ["ok", "paused"]).await;
    assert_eq!((hearing.last(), hearing.partials), (0, 0));
    let sent = server.metric("transcribe_audio_seconds_total", "").await;
    assert!((sent - 30.0).abs() < 0.2, "{sent} s");
    assert_eq!(server.metric("transcribe_finals_total", "").await, 0.0);
    // That nothing is sent has no sign to wait for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        server.metric("transcribe_audio_seconds_total", "").await,
        sent
    );
    // The first word after that is there.
    hearing.goes_on().await;
    hearing.assert_all_heard();
    hearing.assert_stored(&server).await;
}

#[tokio::test]
async fn a_provider_over_tls_is_trusted_by_the_file_that_the_environment_names() {
    let folder = Folder::new("provider-tls");
    let vosk = VoskServer::start(Plan::default()).await;
    let front = TlsFront::start(vosk.url.trim_start_matches("ws://")).await;
    let known = folder.write("known.pem", &front.pem);
    let provider = format!("vosk:wss://localhost:{}", front.port);
    for (authorities, is_known) in [
        (&*known, true),
        ("/etc/ssl/certs/ca-certificates.crt", false),
    ] {
        let state = folder.path(if is_known { "known" } else { "unknown" });
        let mut command = crate::support::binary();
        command.env("SSL_CERT_FILE", authorities);
        let flags = ["--transcribe", &provider, "--state-dir", &state];
        let server = TestServer::start_command(command, "127.0.0.1:0", &flags).await;
        let mut hearing = Hearing::begin(&server).await;
        if is_known {
            hearing.goes_on().await;
            hearing.assert_all_heard();
        } else {
            hearing.say(10).await;
            hearing.until(|now| now.errors == ["provider_down"]).await;
            is_logged_once(&server, "UnknownIssuer").await;
            assert!(server.metric(ERRORS, "").await >= 5.0);
        }
    }
}
