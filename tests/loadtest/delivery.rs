//! What became of each message.

use crate::{
    against,
    fake::{Counts, Faults},
};

#[tokio::test]
async fn a_good_server_passes() {
    let (ran, fake) = against(Faults::default(), &[]).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    ran.assert_books_close(&fake);
    assert_eq!(ran.messages("delivered"), ran.messages("sent"));
    assert_eq!(ran.count("/latency/message/count"), ran.messages("sent"));
    assert_eq!(ran.count("/connections/succeeded"), 20);
    assert_eq!(
        Counts::get(&fake.counts.connections),
        21,
        "20 users and the probe"
    );
    assert_eq!(ran.count("/matches/matched"), 20);
    // The ramp, shorter than a window of the figures, is no less true.
    assert_eq!(ran.count("/phases/0/peak_connected"), 20);
    assert_eq!(ran.json["errors"], serde_json::json!([]));
    assert!(ran.stdout.contains("PASS"), "{}", ran.stdout);
}

#[tokio::test]
async fn dropped_messages_are_lost() {
    let (ran, fake) = against(
        Faults {
            drop: Some(10),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_eq!(
        (ran.code, ran.target("message_success")),
        (Some(99), "failed"),
        "{}",
        ran.stdout
    );
    ran.assert_books_close(&fake);
    assert_eq!(ran.messages("lost"), Counts::get(&fake.counts.dropped));
    assert_eq!(ran.messages("undeliverable"), 0);
}

#[tokio::test]
async fn duplicates_are_counted_and_not_delivered_twice() {
    let (ran, fake) = against(
        Faults {
            duplicate: Some(10),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_eq!(
        (ran.code, ran.target("misdelivered_count")),
        (Some(99), "failed")
    );
    ran.assert_books_close(&fake);
    assert_eq!(
        ran.messages("duplicate"),
        Counts::get(&fake.counts.duplicated)
    );
    assert_eq!(ran.messages("delivered"), ran.messages("sent"));
}

#[tokio::test]
async fn reordered_messages_are_delivered_but_told() {
    let (ran, fake) = against(
        Faults {
            reorder: Some(10),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_eq!(
        (ran.code, ran.target("misdelivered_count")),
        (Some(99), "failed")
    );
    ran.assert_books_close(&fake);
    assert_eq!(
        ran.messages("reordered"),
        Counts::get(&fake.counts.reordered)
    );
    assert_eq!(ran.messages("duplicate"), 0);
}

#[tokio::test]
async fn misrouted_messages_reach_the_wrong_peer_and_are_lost_to_the_right_one() {
    let (ran, fake) = against(
        Faults {
            misroute: Some(10),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_eq!(ran.code, Some(99));
    ran.assert_books_close(&fake);
    let misrouted = Counts::get(&fake.counts.misrouted);
    assert_eq!(ran.messages("wrong_peer"), misrouted);
    assert_eq!(ran.messages("lost"), misrouted);
}

#[tokio::test]
async fn altered_messages_are_told() {
    let (ran, fake) = against(
        Faults {
            alter: Some(10),
            ..Faults::default()
        },
        &[],
    )
    .await;
    assert_eq!(
        (ran.code, ran.target("misdelivered_count")),
        (Some(99), "failed")
    );
    assert_eq!(ran.messages("altered"), Counts::get(&fake.counts.altered));
    ran.assert_books_close(&fake);
    let allowed = ["--threshold", "misdelivered count <= 1000"];
    let (ran, _fake) = against(
        Faults {
            alter: Some(10),
            ..Faults::default()
        },
        &allowed,
    )
    .await;
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
}

#[tokio::test]
async fn errors_of_the_server_are_grouped_by_code() {
    let faults = Faults {
        error: Some((10, "rate_limited")),
        ..Faults::default()
    };
    let (ran, fake) = against(faults, &[]).await;
    assert_eq!(ran.code, Some(99));
    ran.assert_books_close(&fake);
    let errors = Counts::get(&fake.counts.errors);
    assert_eq!(ran.error("server_error:rate_limited"), errors);
    assert_eq!(ran.messages("lost"), errors);
}

#[tokio::test]
async fn not_in_room_is_no_excuse_while_the_partner_is_there() {
    let faults = Faults {
        error: Some((10, "not_in_room")),
        ..Faults::default()
    };
    let (ran, fake) = against(faults, &[]).await;
    assert_eq!(ran.code, Some(99));
    ran.assert_books_close(&fake);
    let errors = Counts::get(&fake.counts.errors);
    assert_eq!(ran.messages("lost"), errors);
    assert_eq!(ran.error("server_error:not_in_room"), errors);
}
