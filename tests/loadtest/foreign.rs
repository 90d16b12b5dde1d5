//! Scenarios of the box against an echo server of another make.

use serde_json::Value;

use crate::{
    Ran,
    node::{Server, Tally},
    run,
};

/// Twelve users who come at once, or ten a second, for two seconds.
const USERS: [&str; 6] = ["--users", "12", "--spacing", "5ms", "--duration", "2s"];
const ARRIVALS: [&str; 4] = ["--arrival-rate", "10/s", "--duration", "3s"];

async fn play(scenario: &str, load: &[&str]) -> (Ran, Tally) {
    let server = Server::echo(&[]).await;
    let ran = run(
        &server.url(),
        &[&["--scenario", scenario][..], load].concat(),
    )
    .await;
    ran.assert_ended(0);
    assert_eq!(ran.json["errors"], Value::Array(Vec::new()));
    let tally = server.tally().await;
    // The probe is the one more.
    assert_eq!(
        tally.get("connections"),
        ran.count("/connections/succeeded") + 1
    );
    (ran, tally)
}

fn assert_all_came_back(ran: &Ran, sent: usize) {
    assert!(sent > 50, "{sent}");
    for fate in ["sent", "delivered"] {
        assert_eq!(ran.messages(fate), sent, "{fate}");
    }
    assert_eq!(ran.count("/latency/message/count"), sent);
    assert_eq!(ran.json["delivery"][0]["kind"], "echo");
}

#[tokio::test]
async fn concurrent_sessions_pass() {
    let (ran, tally) = play(
        "echo-concurrent-sessions",
        &["--stage", "100ms:50,2s:50,100ms:0"],
    )
    .await;
    assert_all_came_back(&ran, tally.get("text"));
    assert_eq!(ran.count("/connections/peak"), 50);
    assert_eq!(tally.get("binary"), 0);
}

#[tokio::test]
async fn chunks_of_audio_go_as_binary_frames_every_32_ms() {
    let (ran, tally) = play("echo-audio-streaming", &ARRIVALS).await;
    assert_all_came_back(&ran, tally.get("binary"));
    assert_eq!(ran.count("/connections/succeeded"), 30);
    // Thirty streams, which begin 100 ms after one another.
    let expected = (1..=30).map(|stream| 100 * stream / 32).sum::<usize>();
    assert!(
        tally.get("binary").abs_diff(expected) <= 60,
        "{tally:?}: not {expected}"
    );
    assert_eq!(tally.get("text"), 0);
}

#[tokio::test]
async fn chunks_of_audio_go_as_text_every_100_ms() {
    let (ran, tally) = play("echo-audio-streaming-text", &USERS).await;
    assert_all_came_back(&ran, tally.get("text"));
    // For 55 ms and 2 s.
    assert!(
        (12 * 19..=12 * 21).contains(&tally.get("text")),
        "{tally:?}"
    );
    assert_eq!(tally.get("binary"), 0);
}

#[tokio::test]
async fn calls_are_timed_by_their_name() {
    let (ran, tally) = play(
        "echo-tool-execution",
        &["--arrival-rate", "10/s", "--duration", "5s"],
    )
    .await;
    let calls = ran.json["calls"].as_array().expect("a list");
    assert_eq!(calls.len(), 3);
    let mut sent = 0;
    for call in calls {
        let name = call["name"].as_str().expect("a name");
        let count =
            |what: &str| usize::try_from(call[what].as_u64().expect("a number")).expect("small");
        let answered = count("answered");
        assert_eq!(count("sent"), answered + count("pending"), "{call}");
        assert_eq!(ran.count(&format!("/latency/call {name}/count")), answered);
        let p95 = &ran.json["latency"][format!("call {name}")]["quantiles_ms"]["p95"];
        assert!(
            p95.as_f64().is_some_and(|ms| ms > 0.0 && ms < 500.0),
            "{name}: {p95}"
        );
        sent += count("sent");
    }
    assert_eq!(sent, tally.get("text"));
    assert!(sent > 200, "{sent}");
}
