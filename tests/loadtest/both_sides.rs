//! What a server does to one user or message, against what both users of a room know of it.

use crate::{
    Ran, against,
    fake::{Counts, Fake, Faults},
};

/// Expects this number of errors of a kind, with a blame and an exit code. A busy machine may void the measurement.
#[track_caller]
fn assert_reported(ran: &Ran, error: &str, count: usize, blame: &str, code: i32) {
    assert!(count > 0, "the fault did not occur");
    assert_eq!(ran.error(error), count, "{error}\n{}", ran.stdout);
    let errors = ran.json["errors"].as_array().expect("a list");
    let reported = errors.iter().find(|one| one["kind"] == error);
    assert_eq!(reported.expect("it is there")["blame"], blame);
    let void = ran.json["measurement"]["validity"] == "invalid";
    let code = if void { 98 } else { code };
    assert_eq!(ran.code, Some(code), "{}", ran.stdout);
}

#[track_caller]
fn assert_no_other(ran: &Ran, errors: &[&str]) {
    let all = ran.json["errors"].as_array().expect("a list").iter();
    let others: Vec<_> = all
        .filter(|one| !errors.iter().any(|error| one["kind"] == *error))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

async fn altered(faults: Faults) -> (Ran, Fake) {
    let (ran, fake) = against(faults, &[]).await;
    let count = Counts::get(&fake.counts.altered) + Counts::get(&fake.counts.misnamed);
    assert_reported(&ran, "message_altered", count, "server", 99);
    assert_no_other(&ran, &["message_altered"]);
    assert_eq!(ran.messages("altered"), count);
    assert_eq!(ran.messages("delivered"), ran.messages("sent"));
    assert!(!ran.findings().contains("another load test"));
    (ran, fake)
}

#[tokio::test]
async fn a_message_whose_tag_was_changed_is_altered_and_nothing_else() {
    altered(Faults {
        alter_tag: Some(10),
        ..Faults::default()
    })
    .await;
}

#[tokio::test]
async fn a_message_from_another_sender_than_the_partner_is_altered() {
    altered(Faults {
        wrong_from: Some(10),
        ..Faults::default()
    })
    .await;
    altered(Faults {
        no_from: Some(10),
        ..Faults::default()
    })
    .await;
}

#[tokio::test]
async fn a_binary_frame_is_against_the_protocol_and_its_message_counts() {
    let (ran, fake) = against(
        Faults {
            binary: Some(10),
            ..Faults::default()
        },
        &[],
    )
    .await;
    let count = Counts::get(&fake.counts.binary);
    assert_reported(&ran, "binary_frame", count, "protocol", 0);
    assert_eq!(ran.messages("delivered"), ran.messages("sent"));
}

#[tokio::test]
async fn peer_left_of_a_partner_who_is_there_is_reported() {
    let calm = ["--duration", "3s"];
    for faults in [
        Faults {
            false_left: Some(50),
            ..Faults::default()
        },
        Faults {
            false_left_both: Some(50),
            ..Faults::default()
        },
    ] {
        let (ran, fake) = against(faults, &calm).await;
        let told = Counts::get(&fake.counts.told_wrongly);
        let reported = ran.error("peer_left_wrong");
        // One who was told in the last second may have been told just before the partner left.
        assert!(
            reported > 0 && reported <= told,
            "{reported} of {told}\n{}",
            ran.stdout
        );
    }
}

const CHANGING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/servers/changing.toml"
);

#[tokio::test]
async fn a_leave_that_the_partner_is_not_told_of_is_reported() {
    let faults = Faults {
        leave_untold: true,
        ..Faults::default()
    };
    // A leave is untold after two seconds: the run lasts longer, since users may pair late on a busy machine.
    let load = [
        "--scenario",
        CHANGING,
        "--message-timeout",
        "100ms",
        "--duration",
        "6s",
    ];
    let (ran, fake) = against(faults, &load).await;
    assert!(Counts::get(&fake.counts.untold) > 0);
    assert!(ran.error("peer_left_missing") > 0, "{}", ran.stdout);
    let (ran, _fake) = against(Faults::default(), &load).await;
    assert_no_other(&ran, &[]);
}

#[tokio::test]
async fn a_room_needs_one_who_makes_the_offer() {
    let (ran, _fake) = against(
        Faults {
            same_role: true,
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_reported(&ran, "match_same_role", 20, "server", 99);
    assert_eq!(ran.target("match_success"), "failed");
    assert_no_other(&ran, &["match_same_role"]);
}

#[tokio::test]
async fn match_found_names_the_session_of_the_partner() {
    let (ran, _fake) = against(
        Faults {
            wrong_peer_id: true,
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_reported(&ran, "match_wrong_peer", 20, "server", 99);
}

#[tokio::test]
async fn a_second_match_while_in_a_room_is_double_and_not_one_sided() {
    let (ran, _fake) = against(
        Faults {
            swap: Some(100),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_reported(&ran, "match_double", 4, "server", 99);
    assert_eq!(ran.count("/matches/double"), 4);
    assert_eq!(ran.count("/matches/one_sided"), 0);
}

#[tokio::test]
async fn calls_without_an_offer_are_not_set_up_however_many_other_messages_arrive() {
    let faults = Faults {
        drop_type: Some("offer"),
        ..Faults::default()
    };
    let offers = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/offers.toml");
    let load = [
        "--scenario",
        offers,
        "--threshold",
        "message_success >= 50%",
    ];
    let (ran, fake) = against(faults, &load).await;
    let dropped = Counts::get(&fake.counts.dropped);
    assert_eq!(ran.target("message_success"), "ok");
    assert_reported(&ran, "message_lost", dropped, "server", 99);
    assert_eq!(ran.messages("lost"), dropped);
    assert_eq!(ran.target("setup_success"), "failed");
}

#[tokio::test]
async fn answers_that_are_missing_fail_the_run() {
    let calls = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/pings.toml");
    let faults = Faults {
        no_pong: Some(20),
        ..Faults::default()
    };
    let (ran, fake) = against(faults, &["--scenario", calls]).await;
    let missing = Counts::get(&fake.counts.unanswered);
    let pending = ran.count("/calls/0/pending");
    assert_reported(&ran, "call_timed_out", missing - pending, "server", 99);
    assert_eq!(ran.target("call_success"), "failed");
}

#[tokio::test]
async fn a_server_that_drains_during_the_run_is_stated_and_nothing_fails() {
    let (ran, _fake) = against(
        Faults {
            draining: Some(100),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_reported(&ran, "server_draining", 20, "server", 0);
    assert_no_other(&ran, &["server_draining"]);
    assert!(
        ran.findings().contains("the server was draining"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn a_drain_that_closes_users_is_a_fault_of_the_server_and_the_measurement_stands() {
    let faults = Faults {
        draining: Some(100),
        close: Some((150, 4000)),
        ..Faults::default()
    };
    let (ran, fake) = against(faults, &[]).await;
    let closed = Counts::get(&fake.counts.closed);
    assert_reported(&ran, "closed_by_server:4000", closed, "server", 99);
    assert!(!ran.findings().contains("draining"), "{}", ran.stdout);
}

#[tokio::test]
async fn what_a_slow_path_holds_at_the_end_is_pending_and_not_lost() {
    let faults = Faults {
        late_ms: Some(2600),
        ..Faults::default()
    };
    let load = ["--duration", "1500ms", "--message-timeout", "300ms"];
    let (ran, _fake) = against(faults, &load).await;
    assert_eq!(ran.messages("lost"), 0, "{}", ran.stdout);
    let (late, pending) = (ran.messages("late"), ran.messages("pending"));
    assert!(late > 0 && pending > 0, "{}", ran.stdout);
    assert_eq!(ran.messages("sent"), late + pending);
}
