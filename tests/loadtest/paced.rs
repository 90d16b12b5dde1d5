//! Requests that are sent when they are due, whether or not those before were answered.

use std::time::Duration;

use crate::{
    Ran,
    blame::stopped,
    node::{Server, Tally},
    run,
};

/// Twenty users, ten requests a second each, for three seconds.
const LOAD: [&str; 8] = [
    "--scenario",
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/paced.toml"),
    "--users",
    "20",
    "--spacing",
    "5ms",
    "--duration",
    "3s",
];

async fn against(faults: &[&str]) -> (Ran, Tally) {
    let server = Server::broken(faults).await;
    let ran = run(&server.url(), &LOAD).await;
    let tally = server.tally().await;
    assert_eq!(ran.count("/calls/0/sent"), tally.get("calls"));
    (ran, tally)
}

/// Users who wait for an answer before they ask again would have seen one slow answer each.
#[tokio::test]
async fn a_stall_slows_every_request_that_was_due_in_it() {
    let (ran, tally) = against(&["--stall", "1400", "--after", "400"]).await;
    assert!((1400..1500).contains(&tally.get("stalled_ms")), "{tally:?}");
    let max = ran.ms("call ask", "max");
    assert!((1300.0..1900.0).contains(&max), "{max}");
    assert!(ran.ms("call ask", "p99") > 1200.0 && ran.ms("call ask", "p50") < 400.0);
    let slow = ran.slower("call ask", 100);
    assert!(slow.abs_diff(20 * 13) <= 30, "{slow}");
    assert_eq!(ran.count("/calls/0/answered"), tally.get("calls"));
    ran.assert_ended(0);
}

#[tokio::test]
async fn several_requests_may_be_under_way_and_each_has_its_own_answer_or_time_out() {
    let (ran, tally) = against(&["--delay", "350", "--unanswered", "0.05"]).await;
    // For 100 ms of coming and 3 s.
    assert!(
        (20 * 29..=20 * 32).contains(&tally.get("calls")),
        "{tally:?}"
    );
    let count = |what: &str| ran.count(&format!("/calls/0/{what}"));
    assert_eq!(
        count("answered") + tally.get("unanswered"),
        tally.get("calls")
    );
    // Those of the last two seconds still might have been answered.
    assert_eq!(
        count("timed_out") + count("pending"),
        tally.get("unanswered")
    );
    assert!(count("timed_out") > 0 && count("pending") > 0);
    assert_eq!(ran.slower("call ask", 1999), count("timed_out"));
    assert_eq!(
        ran.slower("call ask", 340),
        count("answered") + count("timed_out")
    );
    assert!(ran.ms("call ask", "p50") < 600.0);
    ran.assert_ended(99);
}

#[tokio::test]
async fn requests_that_went_out_late_are_timed_from_when_they_were_due() {
    let server = Server::broken(&[]).await;
    let ran = stopped(&server, &LOAD, Duration::from_millis(1400)).await;
    let due = ran.slower("call ask", 300);
    assert!((20 * 8..=20 * 14).contains(&due), "{due}");
    let sent = ran.slower("call_as_sent ask", 300);
    assert!(sent <= 20, "{sent}");
    assert_eq!(
        ran.count("/calls/0/answered"),
        server.tally().await.get("calls")
    );
}
