//! Who connected, who was matched, who was cut off.

use serde_json::Value;

use crate::{
    against,
    fake::{Counts, Faults},
};

#[tokio::test]
async fn an_odd_number_of_users_passes() {
    let (ran, _fake) = against(
        Faults::default(),
        &["--users", "7", "--match-timeout", "500ms"],
    )
    .await;
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert_eq!(
        (
            ran.count("/matches/matched"),
            ran.count("/matches/odd_one_out")
        ),
        (6, 1)
    );
    assert_eq!(ran.count("/matches/failed"), 0);
}

#[tokio::test]
async fn a_server_that_never_matches_fails_with_latencies_of_at_least_the_time_out() {
    let faults = Faults {
        never_match: true,
        ..Faults::default()
    };
    let (ran, _fake) = against(faults, &["--match-timeout", "500ms"]).await;
    assert_eq!(
        (ran.code, ran.target("match_success")),
        (Some(99), "failed"),
        "{}",
        ran.stdout
    );
    assert_eq!(
        (ran.count("/matches/failed"), ran.count("/matches/matched")),
        (20, 0)
    );
    assert_eq!(ran.target("message_success"), "no_data");
    let p50 = ran
        .json
        .pointer("/latency/match/quantiles_ms/p50")
        .and_then(Value::as_f64)
        .expect("a number");
    assert!((499.0..510.0).contains(&p50), "{p50}");
}

#[tokio::test]
async fn a_match_that_only_one_was_told_of_is_no_match() {
    let faults = Faults {
        one_sided: true,
        ..Faults::default()
    };
    let (ran, _fake) = against(faults, &["--match-timeout", "500ms"]).await;
    assert_eq!(
        (ran.code, ran.target("match_success")),
        (Some(99), "failed"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.count("/matches/one_sided"), 10);
}

#[tokio::test]
async fn users_cut_off_are_told_with_the_close_code_and_their_partners_search_again() {
    let (ran, fake) = against(
        Faults {
            close: Some((100, 1011)),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_eq!(
        (ran.code, ran.target("connection_success")),
        (Some(99), "failed"),
        "{}",
        ran.stdout
    );
    let closed = Counts::get(&fake.counts.closed);
    assert!(closed > 1);
    assert_eq!(ran.count("/connections/dropped"), closed);
    assert_eq!(ran.error("closed_by_server:1011"), closed);
    assert!(ran.count("/matches/rematches") > 0);
    assert_eq!(ran.count("/matches/failed"), 0, "{:#}", ran.json);
}

#[tokio::test]
async fn refused_handshakes_are_told_with_their_status() {
    let (ran, fake) = against(
        Faults {
            refuse: Some(4),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_eq!(
        (ran.code, ran.target("connection_success")),
        (Some(99), "failed")
    );
    let refused = Counts::get(&fake.counts.refused);
    assert_eq!((refused, ran.error("handshake_rejected:503")), (5, 5));
    assert_eq!(ran.count("/connections/succeeded"), 15);
    assert_eq!(
        ran.count("/matches/odd_one_out") + ran.count("/matches/matched"),
        15
    );
}

#[tokio::test]
async fn a_server_without_session_messages_is_told() {
    let faults = Faults {
        no_session: true,
        ..Faults::default()
    };
    let (ran, _fake) = against(faults, &["--connect-timeout", "300ms"]).await;
    assert_eq!(ran.code, Some(99), "{}", ran.stdout);
    assert_eq!(ran.error("no_session"), 20);
}
