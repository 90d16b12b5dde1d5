//! Transcription sessions and interviews, against the real server with its fake provider.

use std::{ops::RangeInclusive, path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::sleep,
};

use crate::{Ran, command, read, report_file, transcription_faults::rises_above};

const SURVEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/survey.toml");

/// Finals soon, so that tests are fast.
const FAKE: &str = "fake:?delay=10ms&partial=200ms&final=500ms";

/// A running server; ends with the test.
pub(crate) struct Server {
    child: Child,
    public: String,
    pub(crate) admin: String,
    _state: State,
}

/// Its folder, removed at the end.
struct State(PathBuf);

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The server's program: of this build, or the one that is given.
fn program() -> PathBuf {
    let given = std::env::var_os("VOICEMATCH_SERVER").map(PathBuf::from);
    let built =
        || PathBuf::from(env!("CARGO_BIN_EXE_loadtest")).with_file_name("voicematch-server");
    let program = given.unwrap_or_else(built);
    assert!(
        program.is_file(),
        "{} is not there: run `cargo build -p voicematch-server`, or set VOICEMATCH_SERVER",
        program.display()
    );
    program
}

impl Server {
    pub(crate) async fn start(provider: &str, more: &[&str]) -> Self {
        let state = State(report_file().with_extension("state"));
        let mut child = Command::new(program())
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--transcribe", provider, "--survey", SURVEY, "--state-dir"])
            .arg(&state.0)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the server runs");
        let stdout = child.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines();
        let (mut public, mut admin) = (None, None);
        while let (None, _) | (_, None) = (&public, &admin) {
            let line = lines.next_line().await.expect("text");
            let line = line.expect("it says where it listens");
            let address = |name: &str| {
                let (_, rest) = line.strip_prefix(name)?.split_once("://")?;
                Some(rest.split('/').next()?.to_owned())
            };
            public = public.or_else(|| address("public"));
            admin = admin.or_else(|| address("admin"));
        }
        // Nobody reads on, and it must not wait for that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            child,
            public: public.expect("found"),
            admin: admin.expect("found"),
            _state: state,
        }
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it runs");
        let id = Pid::from_raw(id.try_into().expect("an id")).expect("not 0");
        kill_process(id, signal).expect("it can be told");
    }

    pub(crate) async fn play(&self, args: &[&str]) -> Ran {
        let file = report_file();
        let path = file.to_str().expect("UTF-8");
        let url = format!("ws://{}/ws", self.public);
        let admin = format!("http://{}/metrics", self.admin);
        let fixed = [&*url, "--admin-url", &*admin, "--report", path];
        let output = command(&[&fixed, args].concat()).output().await;
        read(&output.expect("the binary runs"), &file)
    }
}

impl Ran {
    pub(crate) fn talks(&self, pointer: &str) -> usize {
        self.count(&format!("/talks{pointer}"))
    }

    /// Each word was heard and stored, in this many sessions.
    #[track_caller]
    pub(crate) fn assert_all_heard(&self, sessions: RangeInclusive<usize>) {
        assert!(
            self.json["talks"].is_object(),
            "{}\n{}",
            self.stderr,
            self.stdout
        );
        let said = self.talks("/words/said");
        assert!(said > 0, "{}", self.stdout);
        assert_eq!(self.talks("/words/heard"), said, "{}", self.stdout);
        for fault in [
            "lost",
            "in_gaps",
            "pending",
            "twice",
            "reordered",
            "misdelivered",
            "altered",
        ] {
            assert_eq!(
                self.talks(&format!("/words/{fault}")),
                0,
                "{fault}\n{}",
                self.stdout
            );
        }
        for fault in ["not_stored", "wrongly_stored", "untold"] {
            assert_eq!(
                self.talks(&format!("/{fault}")),
                0,
                "{fault}\n{}",
                self.stdout
            );
        }
        let transcripts = self.talks("/transcripts");
        assert!(sessions.contains(&transcripts), "{}", self.stdout);
    }
}

#[tokio::test]
async fn what_speakers_say_is_heard_and_stored_word_by_word() {
    let server = Server::start(FAKE, &[]).await;
    let load = [
        "--scenario",
        "transcription",
        "--spacing",
        "20ms",
        "--duration",
        "4s",
    ];
    let ran = server.play(&load).await;
    ran.assert_all_heard(2..=2);
    assert_eq!(
        ran.json["connections"]["peak"], 22,
        "twenty speakers and two hosts"
    );
    for latency in ["audio_ack", "partial", "final", "stored"] {
        assert!(
            ran.json["latency"][latency]["count"].as_u64() > Some(0),
            "{latency}"
        );
    }
    assert!(ran.stdout.contains("Transcription"), "{}", ran.stdout);
    assert_eq!(ran.target("word_success"), "ok", "{}", ran.stdout);
    assert_eq!(
        ran.target("words_misdelivered_count"),
        "ok",
        "{}",
        ran.stdout
    );
    assert_eq!(ran.target("server_queue_max"), "ok", "{}", ran.stdout);
}

#[tokio::test]
async fn a_provider_that_hangs_up_costs_words_only_where_a_gap_says_so() {
    let fake = "fake:?delay=10ms&partial=200ms&final=500ms&close_after=1s";
    let server = Server::start(fake, &[]).await;
    let load = [
        "--scenario",
        "transcription-many",
        "--users",
        "4",
        "--spacing",
        "10ms",
        "--duration",
        "6s",
    ];
    let ran = server.play(&load).await;
    let (said, heard) = (ran.talks("/words/said"), ran.talks("/words/heard"));
    assert_eq!(
        said,
        heard + ran.talks("/words/lost") + ran.talks("/words/in_gaps")
    );
    assert_eq!(ran.talks("/words/lost"), 0, "{}", ran.stdout);
    assert_eq!(ran.talks("/words/twice"), 0, "{}", ran.stdout);
}

#[tokio::test]
async fn words_that_no_provider_hears_are_reported_and_fail_the_run() {
    // Nobody ever answers, and little is kept: the audio before is dropped.
    let server = Server::start("fake:?open_fails=100%", &["--transcribe-buffer", "1s"]).await;
    let load = [
        "--scenario",
        "transcription",
        "--users",
        "2",
        "--spacing",
        "10ms",
        "--duration",
        "4s",
        "--message-timeout",
        "1s",
    ];
    let ran = server.play(&load).await;
    assert!(ran.talks("/words/said") > 0, "{}", ran.stdout);
    assert_eq!(ran.talks("/words/heard"), 0, "{}", ran.stdout);
    let missing = ran.talks("/words/lost") + ran.talks("/words/in_gaps");
    assert_eq!(missing, ran.talks("/words/said"), "{}", ran.stdout);
    assert!(ran.talks("/gaps") > 0, "{}", ran.stdout);
    assert_eq!(ran.target("word_success"), "failed", "{}", ran.stdout);
    assert_ne!(ran.code, Some(0));
}

#[tokio::test]
async fn listeners_hear_what_the_host_hears() {
    let server = Server::start(FAKE, &[]).await;
    let load = [
        "--scenario",
        "transcription-listeners",
        "--spacing",
        "5ms",
        "--duration",
        "4s",
    ];
    let ran = server.play(&load).await;
    ran.assert_all_heard(1..=1);
    assert!(
        ran.talks("/words/at_listeners") > ran.talks("/words/heard"),
        "{}",
        ran.stdout
    );
    assert!(ran.json["latency"]["fan_out"]["count"].as_u64() > Some(0));
}

#[tokio::test]
async fn streams_come_and_go_and_each_chunk_is_confirmed() {
    let server = Server::start(FAKE, &[]).await;
    let load = [
        "--scenario",
        "audio-streaming",
        "--arrival-rate",
        "4/s",
        "--duration",
        "3s",
    ];
    let ran = server.play(&load).await;
    ran.assert_all_heard(12..=12);
    let acked = ran.count("/latency/audio_ack/count");
    assert_eq!(acked, ran.talks("/chunks"), "{}", ran.stdout);
}

#[tokio::test]
async fn each_answer_of_an_interview_is_in_the_export_once() {
    let server = Server::start(FAKE, &[]).await;
    let load = [
        "--scenario",
        "tool-execution",
        "--arrival-rate",
        "4/s",
        "--duration",
        "8s",
    ];
    let ran = server.play(&load).await;
    assert!(ran.json.is_object(), "{}", ran.stderr);
    assert!(ran.talks("/answers") > 10, "{}", ran.stdout);
    assert_eq!(ran.talks("/exports"), 1, "{}", ran.stdout);
    assert_eq!(ran.talks("/answers_missing"), 0, "{}", ran.stdout);
    assert_eq!(ran.talks("/answers_twice"), 0, "{}", ran.stdout);
    for target in [
        "answers_missing_count",
        "answers_twice_count",
        "call_success",
    ] {
        assert_eq!(ran.target(target), "ok", "{}", ran.stdout);
    }
}

#[tokio::test]
async fn speakers_and_respondents_come_and_leave_together() {
    let server = Server::start(FAKE, &[]).await;
    let load = [
        "--scenario",
        "concurrent-sessions",
        "--users",
        "8",
        "--spacing",
        "200ms",
        "--duration",
        "4s",
    ];
    let ran = server.play(&load).await;
    // Who comes at which moment of the ramp is a matter of the machine.
    ran.assert_all_heard(4..=8);
    assert!(ran.talks("/answers") > 0, "{}", ran.stdout);
    assert_eq!(ran.talks("/answers_missing"), 0, "{}", ran.stdout);
    // What the server says of itself is there to be judged, and well.
    for target in [
        "server_rss_max",
        "database_latency",
        "provider_latency",
        "provider_errors_count",
    ] {
        assert_eq!(ran.target(target), "ok", "{target}: {}", ran.stdout);
    }
    assert_ne!(
        ran.target("server_cpu_p95"),
        "not_measured",
        "{}",
        ran.stdout
    );
}

/// Answers that a server has stored.
const ANSWERS: &str = r#"survey_tool_calls_total{result="ok",tool="record_response"}"#;

#[tokio::test]
async fn calls_that_take_too_long_or_fail_break_what_the_scenario_promises() {
    let load = ["--scenario", "tool-execution", "--duration", "8s"];
    let slow = async {
        let server = Server::start(FAKE, &[]).await;
        let stands = async {
            rises_above(&server, ANSWERS, 3.0).await;
            // The times are what is judged: again and again it is away for longer than a call may take.
            for _ in 0..4 {
                server.signal(Signal::STOP);
                sleep(Duration::from_millis(1_200)).await;
                server.signal(Signal::CONT);
                sleep(Duration::from_millis(300)).await;
            }
        };
        let (ran, ()) = tokio::join!(server.play(&load), stands);
        let promised = ["get_next_question", "validate_answer", "record_response"];
        // At which of them an interview is when the server goes is a matter of chance.
        let broken = |call| ran.target(&format!("call_latency{{{call}}}_p95")) == "failed";
        assert!(promised.into_iter().any(broken), "{}", ran.stdout);
        assert_ne!(ran.code, Some(0));
    };
    let failing = async {
        let server = Server::start(FAKE, &[]).await;
        let ends = async {
            rises_above(&server, ANSWERS, 3.0).await;
            server.signal(Signal::KILL);
        };
        let (ran, ()) = tokio::join!(server.play(&load), ends);
        assert_eq!(ran.target("call_success"), "failed", "{}", ran.stdout);
        assert_ne!(ran.code, Some(0));
    };
    tokio::join!(slow, failing);
}

#[tokio::test]
async fn sessions_need_the_admin_address() {
    let server = Server::start(FAKE, &[]).await;
    let url = format!("ws://{}/ws", server.public);
    let ran = crate::run(&url, &["--scenario", "transcription"]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("--admin-url"), "{}", ran.stderr);
}
