//! Each fault alone, in a server of another make: the report tells what the server says that it did.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    Ran,
    node::{Server, Tally},
    run,
};

/// Forty users, ten messages a second each, for two seconds.
const LOAD: [&str; 8] = [
    "--scenario",
    "echo-audio-streaming-text",
    "--users",
    "40",
    "--spacing",
    "5ms",
    "--duration",
    "2s",
];
/// Fates that are no fault.
const FATES: [&str; 9] = [
    "late",
    "lost",
    "undeliverable",
    "pending",
    "unknown",
    "duplicate",
    "reordered",
    "wrong_peer",
    "altered",
];

async fn against(faults: &[&str], load: &[&str]) -> (Ran, Tally) {
    let server = Server::broken(faults).await;
    let ran = run(&server.url(), load).await;
    let tally = server.tally().await;
    assert_eq!(
        ran.messages("sent"),
        tally.get("text") + tally.get("binary") - tally.get("calls")
    );
    (ran, tally)
}

impl Ran {
    /// These faults of these numbers, with this blame, and no others.
    #[track_caller]
    fn assert_only(&self, fates: &[(&str, usize)], errors: &[(&str, &str, usize)]) {
        self.assert_ended(99);
        for fate in FATES {
            let expected = fates.iter().find(|(name, _)| *name == fate);
            let expected = expected.map_or(0, |(_, count)| *count);
            assert_eq!(
                self.messages(fate),
                expected,
                "{fate}: {:#}",
                self.json["delivery"]
            );
        }
        let told = self.json["errors"].as_array().expect("a list").iter();
        let mut told: Vec<_> = told
            .map(|e| (&e["kind"], &e["blame"], &e["count"]))
            .collect();
        told.sort_by_key(|(kind, ..)| kind.as_str());
        let expected: Vec<_> = errors
            .iter()
            .map(|(k, b, n)| ((*k).into(), (*b).into(), (*n).into()))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(k, b, n)| (k, b, n)).collect();
        assert_eq!(told, expected);
        assert!(
            errors.iter().all(|(.., count)| *count > 0),
            "the fault did not occur"
        );
    }
}

/// A fault of the server: how much of it, what it counts it as, a threshold that then does not hold, and the fates
/// and failures that it shows as.
type Fault = (
    [&'static str; 2],
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const FAULTS: [Fault; 4] = [
    (
        ["--drop", "0.01"],
        "dropped",
        "message_success >= 100%",
        &[("lost", "message_lost")],
    ),
    (
        ["--duplicate", "0.05"],
        "duplicated",
        "duplicate count < 1",
        &[("duplicate", "message_duplicated")],
    ),
    // The one for whom it was does not get it.
    (
        ["--misroute", "0.05"],
        "misrouted",
        "wrong_peer count < 1",
        &[
            ("lost", "message_lost"),
            ("wrong_peer", "message_misrouted"),
        ],
    ),
    (
        ["--alter", "0.05"],
        "altered",
        "altered count < 1",
        &[("altered", "message_altered")],
    ),
];

async fn shows_as_what_it_is((flags, done, threshold, shown): Fault) {
    // On a busy machine a message may take its time, which is not what is looked for here.
    let patient = ["--message-timeout", "10s", "--threshold", threshold];
    let load = [&LOAD[..], &patient].concat();
    let (ran, tally) = against(&flags, &load).await;
    let count = tally.get(done);
    let fates: Vec<_> = shown.iter().map(|(fate, _)| (*fate, count)).collect();
    let errors: Vec<_> = shown
        .iter()
        .map(|(_, error)| (*error, "server", count))
        .collect();
    ran.assert_only(&fates, &errors);
    let lost = if fates[0].0 == "lost" { count } else { 0 };
    assert_eq!(ran.messages("delivered") + lost, ran.messages("sent"));
}

#[tokio::test]
async fn each_fault_is_told_as_often_as_the_server_had_it() {
    futures_util::future::join_all(FAULTS.map(shows_as_what_it_is)).await;
}

#[tokio::test]
async fn a_delay_moves_the_median_by_itself() {
    let (ran, _tally) = against(&["--delay", "80", "--jitter", "40"], &LOAD).await;
    ran.assert_ended(0);
    for latency in ["message", "message_as_sent"] {
        let p50 = ran.ms(latency, "p50");
        assert!((90.0..140.0).contains(&p50), "{latency}: {p50}");
    }
    assert_eq!(ran.slower("message", 79), ran.messages("sent"));
}

/// The last messages are under way when nobody sends any more; they have as long to come as all others.
#[tokio::test]
async fn a_long_delay_loses_nothing_at_the_end() {
    let patient = ["--users", "5", "--message-timeout", "10s"];
    let (ran, tally) = against(&["--delay", "2500"], &[&LOAD[..], &patient].concat()).await;
    assert_eq!(
        ran.messages("delivered"),
        tally.get("text") + tally.get("binary")
    );
    assert_eq!(ran.target("message_success"), "ok");
    assert_eq!(ran.json["errors"], serde_json::json!([]));
    let elapsed = ran.json["run"]["elapsed_ms"].as_f64();
    assert!(
        elapsed.is_some_and(|ms| ms < 9_000.0),
        "it ends as soon as all has come: {elapsed:?}"
    );
}

/// What is under way from one second to the next is no failure of either.
#[tokio::test]
async fn a_delay_breaks_no_second_of_the_run() {
    let healthy = ["--threshold", "message_success > 99% over 2s abort"];
    let load = [&LOAD[..], &["--duration", "4s"], &healthy].concat();
    let (ran, _tally) = against(&["--delay", "300"], &load).await;
    assert_eq!(
        ran.target("message_success_over_2s"),
        "ok",
        "{}",
        ran.stdout
    );
    assert_eq!(ran.json["run"]["interrupted"], false);
    assert_eq!(ran.messages("delivered"), ran.messages("sent"));
}

/// That a message is lost is known as soon as a later one has come.
#[tokio::test]
async fn losses_are_dated_and_end_the_run_when_they_occur() {
    let load = [&LOAD[..], &["--duration", "30s"]].concat();
    for threshold in ["lost count < 1 abort", "message_success >= 100% abort"] {
        let load = [&load[..], &["--threshold", threshold]].concat();
        let (ran, tally) = against(&["--drop", "0.02"], &load).await;
        assert!(tally.get("dropped") > 0);
        let thresholds = ran.json["thresholds"].as_array().expect("a list");
        let ended = thresholds.iter().find(|one| one["aborted"] == true);
        let ended = ended.unwrap_or_else(|| panic!("{threshold}: {}", ran.stdout));
        assert_eq!(ended["expression"], threshold);
        let ms = |value: &Value| value.as_f64().expect("a number");
        assert!(ms(&ran.json["run"]["active_ms"]) < 15_000.0, "{threshold}");
        let errors = ran.json["errors"].as_array().expect("a list");
        let lost = errors.iter().find(|error| error["kind"] == "message_lost");
        let at = ms(&lost.expect("it is there")["first_at_ms"]);
        assert!(at <= ms(&ended["failed_at_ms"]) + 1.0, "{threshold}: {at}");
        assert_eq!(ran.messages("lost"), tally.get("dropped"), "{threshold}");
    }
}

/// Users send when it is time to, whatever the server does, so that a stall leaves nothing out: all messages
/// that were due in it are there, each as slow as it was. Nobody sent late, so that it is the same as sent.
/// Users who wait for the server before they go on would have seen one slow message each.
#[tokio::test]
async fn a_stall_slows_every_message_that_was_due_in_it() {
    let load = [&LOAD[..], &["--users", "20", "--duration", "3s"]].concat();
    let (ran, tally) = against(&["--stall", "1400", "--after", "400"], &load).await;
    assert!((1400..1500).contains(&tally.get("stalled_ms")), "{tally:?}");
    for latency in ["message", "message_as_sent"] {
        let max = ran.ms(latency, "max");
        assert!((1300.0..1900.0).contains(&max), "{latency}: {max}");
        assert!(ran.ms(latency, "p99") > 1200.0 && ran.ms(latency, "p50") < 400.0);
        // Ten a second of each of twenty users; what was due 100 ms before its end took as long.
        let slow = ran.slower(latency, 100);
        assert!(slow.abs_diff(20 * 13) <= 60, "{latency}: {slow}");
    }
    assert_eq!(ran.messages("delivered"), ran.messages("sent"));
    let late = ran.messages("late");
    assert!(late.abs_diff(20 * 4) <= 60, "{late}");
    ran.assert_only(&[("late", late)], &[("message_late", "server", late)]);
}

/// The plan takes users out while the server still owes them an answer.
#[tokio::test]
async fn what_is_under_way_when_a_user_leaves_is_waited_for() {
    let stages = [
        "--scenario",
        "echo-concurrent-sessions",
        "--stage",
        "100ms:30,1500ms:30,500ms:0",
    ];
    let (ran, tally) = against(&["--delay", "200"], &stages).await;
    ran.assert_ended(0);
    assert_eq!(ran.messages("delivered"), tally.get("text"));
    assert_eq!(ran.json["errors"], serde_json::json!([]));
}

#[tokio::test]
async fn connections_that_the_server_ends_without_a_word_are_its_doing() {
    let (ran, tally) = against(&["--destroy", "0.01"], &LOAD).await;
    let destroyed = tally.get("destroyed");
    assert!(destroyed > 0);
    assert_eq!(ran.count("/connections/dropped"), destroyed);
    // One whose next message was there already is reset by the kernel.
    let ended = ran.error("ended_without_close");
    assert!(ended > 0);
    assert_eq!(ended + ran.error("reset"), destroyed);
    let errors = ran.json["errors"].as_array().expect("a list");
    let ended = errors
        .iter()
        .find(|error| error["kind"] == "ended_without_close");
    assert_eq!(ended.expect("it is there")["blame"], "server");
    // What was under way then is not known to be lost.
    ran.assert_ended(99);
    assert_eq!(ran.messages("lost"), 0);
    assert!(ran.messages("pending") >= destroyed);
}

/// Short calls in a loop.
const CALLS: [&str; 6] = ["--users", "20", "--spacing", "5ms", "--duration", "2s"];

async fn call(faults: &[&str]) -> (Ran, Tally) {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/calls.toml");
    against(faults, &[&["--scenario", scenario][..], &CALLS].concat()).await
}

#[tokio::test]
async fn calls_without_an_answer_time_out() {
    let (ran, tally) = call(&["--unanswered", "0.02"]).await;
    let count = |what: &str| ran.count(&format!("/calls/0/{what}"));
    assert_eq!(count("sent"), tally.get("calls"));
    // The run may be over before the last ones are.
    assert_eq!(
        count("timed_out") + count("pending"),
        tally.get("unanswered")
    );
    assert_eq!(
        count("answered") + tally.get("unanswered"),
        tally.get("calls")
    );
    assert_eq!(ran.slower("call ask", 199), count("timed_out"));
    ran.assert_only(&[], &[("call_timed_out", "server", count("timed_out"))]);
}

#[tokio::test]
async fn calls_answered_with_an_error_are_wrong() {
    let (ran, tally) = call(&["--wrong", "0.02"]).await;
    let wrong = tally.get("wrong");
    assert_eq!(ran.count("/calls/0/wrong"), wrong);
    assert_eq!(ran.count("/calls/0/answered") + wrong, tally.get("calls"));
    ran.assert_only(&[], &[("call_wrong", "server", wrong)]);
}

/// Answers this many requests over HTTP, then stops listening.
async fn gone_after(answers: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut answered = 0;
        while answered < answers {
            let (mut stream, _) = listener.accept().await.expect("somebody");
            let mut request = [0; 4096];
            // The first only looks whether somebody listens.
            if !matches!(stream.read(&mut request).await, Ok(1..)) {
                continue;
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("open");
            answered += 1;
        }
    });
    format!("ws://{address}/")
}

#[tokio::test]
async fn a_request_that_is_refused_at_once_is_no_fast_answer() {
    let load = ["--scenario", "http", "--duration", "2s"];
    let ran = run(&gone_after(100).await, &load).await;
    ran.assert_ended(99);
    let calls = ran.json["calls"].as_array().expect("a list");
    let sum = |what: &str| -> usize {
        let counts = calls.iter().filter_map(|call| call[what].as_u64());
        usize::try_from(counts.sum::<u64>()).expect("a small number")
    };
    let failed = sum("failed");
    assert_eq!((sum("answered"), sum("timed_out")), (100, 0));
    assert_eq!(failed, sum("sent") - 100, "{}", ran.stdout);
    // Of those in the listener's queue the system breaks the connection.
    let told = ran.error("connect_refused") + ran.error("reset") + ran.error("ended_without_close");
    assert_eq!(failed, told, "{}", ran.stdout);
    assert!(ran.error("connect_refused") > 100, "{}", ran.stdout);
    assert_eq!(ran.error("call_timed_out"), 0);
    for name in ["call health", "call_as_sent health"] {
        assert!(ran.ms(name, "p99") >= 5000.0, "{}", ran.stdout);
    }
    assert_eq!(ran.target("call_latency{health}_p99"), "failed");
    let once = format!("{failed} had no answer in time");
    assert!(ran.stdout.contains(&once), "{once}\n{}", ran.stdout);
}

#[tokio::test]
async fn a_status_that_nobody_expected_is_told_by_its_number() {
    // Every request over HTTP wants a body here.
    let server = Server::talk(&[]).await;
    let load = ["--scenario", "http", "--duration", "1s"];
    let ran = run(&server.url(), &load).await;
    assert!(matches!(ran.code, Some(98 | 99)), "{}", ran.stdout);
    let wrong = ran.error("call_wrong");
    assert!(wrong > 0, "{}", ran.stdout);
    assert_eq!(ran.error("http_status:400"), wrong, "{}", ran.stdout);
    assert_eq!(server.tally().await.get("bad_requests"), wrong);
}
