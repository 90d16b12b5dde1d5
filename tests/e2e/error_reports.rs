//! Error reports: what a service that speaks Sentry's protocol is told, and what it is never told.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Process, TestServer, becomes, binary, eventually, http,
    jwt::Folder,
    pair,
    receiver::{Answer, Posted, Receiver},
    run,
};

const WELL: Answer = Answer::Status(200, "");
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The DSN of a receiver, as a file.
fn dsn(folder: &Folder, receiver: &Receiver) -> String {
    folder.write(
        "dsn",
        &format!("http://{KEY}@{}/sub/42\n", receiver.address),
    )
}

/// Of an envelope: its head, the head of its one item, and that.
fn envelope(posted: &Posted) -> [Value; 3] {
    let text = std::str::from_utf8(&posted.body).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let parts = [0, 1, 2].map(|line| serde_json::from_str::<Value>(lines[line]).unwrap());
    assert_eq!(parts[1]["length"], lines[2].len());
    parts
}

fn event(posted: &Posted) -> Value {
    let [_, _, event] = envelope(posted);
    event
}

/// A server that reports, with a configuration file that can be spoilt.
struct Reporting {
    folder: Folder,
    server: TestServer,
}

impl Reporting {
    async fn start(name: &str, receiver: &Receiver, flags: &[&str]) -> Self {
        let folder = Folder::new(&format!("reports-{name}"));
        let file = folder.write("voicematch.toml", "max_rooms = 7\n");
        let dsn = dsn(&folder, receiver);
        let own = ["--config", &file, "--sentry-dsn-file", &dsn];
        let server = TestServer::start(&[&own, flags].concat()).await;
        Self { folder, server }
    }

    /// Makes the server log an error, which quotes this key.
    async fn fail(&self, key: &str) {
        let errors = || {
            let log = self.server.process.stderr().join("\n");
            log.matches("SIGHUP: the configuration cannot be used")
                .count()
        };
        let before = errors();
        self.folder
            .write("voicematch.toml", &format!("{key} = 1\n"));
        self.server.process.signal(Signal::HUP);
        becomes(before + 1, "errors in the log", async || errors()).await;
    }

    async fn counted(&self, result: &str) -> f64 {
        self.server
            .metric("error_reports_total", &format!("result=\"{result}\""))
            .await
    }

    async fn reaches(&self, result: &str, count: f64) {
        let labels = format!("result=\"{result}\"");
        self.server
            .reaches("error_reports_total", &labels, count)
            .await;
    }

    async fn end(&mut self) -> Duration {
        let begun = Instant::now();
        self.server.process.signal(Signal::TERM);
        assert_eq!(self.server.process.exit_code().await, Some(0));
        begun.elapsed()
    }
}

#[tokio::test]
async fn an_error_in_the_log_is_reported_with_what_helps_and_no_more() {
    let receiver = Receiver::start(WELL).await;
    let flags = ["--sentry-environment", "staging"];
    let reporting = Reporting::start("log", &receiver, &flags).await;
    reporting
        .fail("\"https://user:pass@10.1.2.3/x?token=hidden\"")
        .await;
    eventually("a report", async || !receiver.posted().is_empty()).await;
    let posted = &receiver.posted()[0];
    assert_eq!(posted.line, "POST /sub/api/42/envelope/ HTTP/1.1");
    let headers = &posted.headers;
    assert_eq!(headers["content-type"], "application/x-sentry-envelope");
    let auth = &headers["x-sentry-auth"];
    let version = env!("CARGO_PKG_VERSION");
    let expected =
        format!("sentry_version=7, sentry_client=voicematch-server/{version}, sentry_key={KEY}");
    assert!(auth.contains(&expected), "{auth}");
    let [head, item, event] = envelope(posted);
    assert_eq!(head["event_id"], event["event_id"]);
    assert_eq!(event["event_id"].as_str().unwrap().len(), 32);
    assert_eq!(item["type"], "event");
    assert_eq!(event["level"], "error");
    assert_eq!(event["logger"], "voicematch_server::reload");
    assert_eq!(event["environment"], "staging");
    assert_eq!(
        event["release"],
        format!("voicematch-server@{}", env!("CARGO_PKG_VERSION"))
    );
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(event["server_name"], host.trim_end());
    assert_eq!(
        event["logentry"]["formatted"],
        "SIGHUP: the configuration cannot be used; the old one stays"
    );
    let fault = event["extra"]["fault"].as_str().unwrap();
    assert!(fault.contains("is not known"), "{fault}");
    receiver.never_heard_of(&["hidden", "pass", "10.1.2.3", "127.0.0.1", KEY]);
    reporting.reaches("sent", 1.0).await;
}

#[tokio::test]
async fn the_same_error_is_reported_once_a_minute() {
    let receiver = Receiver::start(WELL).await;
    let mut reporting = Reporting::start("repeated", &receiver, &[]).await;
    reporting.fail("a").await;
    reporting.fail("b").await;
    reporting.fail("c").await;
    reporting.reaches("sent", 1.0).await;
    assert_eq!(reporting.counted("repeated").await, 2.0);
    reporting.end().await;
    assert_eq!(receiver.posted().len(), 1);
}

#[tokio::test]
async fn a_service_that_wants_quiet_gets_it() {
    for (name, answer) in [
        ("retry-after", Answer::Status(429, "Retry-After: 300\r\n")),
        ("bare", Answer::Status(429, "")),
        (
            "limits",
            Answer::Status(200, "X-Sentry-Rate-Limits: 300:error:organization\r\n"),
        ),
    ] {
        let receiver = Receiver::start(answer).await;
        // Nobody listens there: another error.
        let app = ["--auth-webhook", "http://127.0.0.1:1/x"];
        let mut reporting = Reporting::start(name, &receiver, &app).await;
        reporting.fail("a").await;
        let first = if name == "limits" {
            "sent"
        } else {
            "rate_limited"
        };
        reporting.reaches(first, 1.0).await;
        let before = reporting.counted("rate_limited").await;
        let path = "/poll?access_token=hidden";
        assert_eq!(http::get(reporting.server.public, path).await.status, 503);
        reporting.reaches("rate_limited", before + 1.0).await;
        reporting.end().await;
        assert_eq!(receiver.posted().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn two_errors_are_two_reports_and_neither_has_a_url() {
    let receiver = Receiver::start(WELL).await;
    let app = ["--auth-webhook", "http://127.0.0.1:1/secret-path"];
    let mut reporting = Reporting::start("two", &receiver, &app).await;
    reporting.fail("a").await;
    let path = "/poll?access_token=hidden";
    assert_eq!(http::get(reporting.server.public, path).await.status, 503);
    reporting.reaches("sent", 2.0).await;
    reporting.end().await;
    let posted = receiver.posted();
    let webhook = event(&posted[1]);
    assert!(
        webhook["logentry"]["formatted"]
            .as_str()
            .unwrap()
            .contains("may come in")
    );
    assert_eq!(webhook["extra"]["url"], "[...]");
    receiver.never_heard_of(&["secret-path", "hidden", "127.0.0.1"]);
}

#[tokio::test]
async fn a_service_that_does_not_take_reports_costs_nobody_anything() {
    for (name, answer, result) in [
        ("hangs", Answer::Hang, None),
        (
            "slow",
            Answer::Late(Duration::from_millis(500)),
            Some("sent"),
        ),
        ("refuses", Answer::Status(403, ""), Some("refused")),
    ] {
        let receiver = Receiver::start(answer).await;
        let mut reporting = Reporting::start(name, &receiver, &[]).await;
        reporting.fail("a").await;
        eventually("a report", async || !receiver.posted().is_empty()).await;
        let (first, mut second) = pair(&reporting.server).await;
        first.close().await;
        second.expect_peer_left().await;
        drop(second);
        if let Some(result) = result {
            reporting.reaches(result, 1.0).await;
        }
        let took = reporting.end().await;
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_said_once() {
    let folder = Folder::new("reports-nobody");
    let file = folder.write("voicematch.toml", "");
    let dsn = folder.write("dsn", &format!("http://{KEY}@127.0.0.1:1/42"));
    let mut flags = vec!["--config", &file, "--sentry-dsn-file", &dsn];
    // An app that is not there is an error of another kind.
    flags.extend(["--auth-webhook", "http://127.0.0.1:1/who"]);
    let server = TestServer::start(&flags).await;
    let reporting = Reporting { folder, server };
    reporting.fail("a").await;
    let answer = reporting.server.public("/poll?access_token=x").await;
    assert_eq!(answer.status, 503);
    reporting.reaches("failed", 2.0).await;
    let log = reporting.server.process.stderr().join("\n");
    assert_eq!(log.matches("errors cannot be reported").count(), 1, "{log}");
    assert!(!log.contains(KEY), "{log}");
}

#[tokio::test]
async fn without_the_flag_nothing_is_reported() {
    let folder = Folder::new("reports-off");
    let file = folder.write("voicematch.toml", "");
    let server = TestServer::start(&["--config", &file]).await;
    let mut reporting = Reporting { folder, server };
    reporting.fail("a").await;
    let metrics = reporting.server.metrics().await;
    assert!(
        metrics
            .all("error_reports_total")
            .all(|(_, reports)| reports == 0.0)
    );
    reporting.end().await;
}

#[tokio::test]
async fn a_wrong_dsn_ends_the_start_and_is_not_repeated() {
    let folder = Folder::new("reports-wrong");
    let dsn = folder.write("dsn", &format!("https://{KEY}.sentry.example/42"));
    let (code, said) = run(&["--sentry-dsn-file", &dsn]).await;
    assert_eq!(code, Some(2));
    assert!(
        said.contains("--sentry-dsn-file: a DSN is written as"),
        "{said}"
    );
    assert!(!said.contains(KEY), "{said}");
}

/// The variable by which this test program knows that it is to be a server that panics: where its reports go.
const PANICS: &str = "VOICEMATCH_TEST_PANICS";

/// What the panic says; the receiver may hear the first part only.
const WORDS: &str = "no such thing";

/// Nothing in the real server can be made to panic, so a server in a process of its own does what a connection would do.
#[test]
fn a_server_that_panics() {
    use voicematch_server::{Server, config::parse::parse, log};
    let Ok(dsn) = std::env::var(PANICS) else {
        return;
    };
    let _last_lines = log::start(log::filter("info").unwrap(), false).unwrap();
    let args = [
        "voicematch-server",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--sentry-dsn-file",
        &dsn,
    ];
    let config = parse(args.map(Into::into)).unwrap().check().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::bind(config).unwrap();
        let (_reload, reloads) = tokio::sync::mpsc::unbounded_channel();
        let panic = async {
            let panicked =
                tokio::spawn(async { panic!("{WORDS} as \"{}\" from {}", "ann", "10.1.2.3") });
            assert!(panicked.await.unwrap_err().is_panic());
        };
        server.run(reloads, panic, async {}).await.unwrap();
    });
}

#[tokio::test]
async fn a_panic_is_reported_with_its_place() {
    let receiver = Receiver::start(WELL).await;
    let folder = Folder::new("reports-panic");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "error_reports::a_server_that_panics",
        "--nocapture",
    ]);
    child.envs(
        binary()
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    child.env(PANICS, dsn(&folder, &receiver));
    let mut child = Process::spawn(child);
    assert_eq!(child.exit_code().await, Some(0), "{:?}", child.stderr());
    assert_eq!(receiver.posted().len(), 1, "{:?}", child.stderr());
    let event = event(&receiver.posted()[0]);
    assert_eq!(event["level"], "fatal");
    assert_eq!(event["environment"], "production");
    let panic = &event["exception"]["values"][0];
    assert_eq!(panic["type"], "panic");
    assert_eq!(panic["value"], format!("{WORDS} as \"[...]\" from [...]"));
    let frame = &panic["stacktrace"]["frames"][0];
    let file = frame["filename"].as_str().unwrap();
    assert!(file.ends_with("tests/e2e/error_reports.rs"), "{file}");
    assert!(frame["lineno"].as_u64().unwrap() > 1);
    receiver.never_heard_of(&["ann", "10.1.2.3", KEY]);
}
