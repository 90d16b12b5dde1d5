//! Users block partners, whom they never meet again, and report them.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, TestServer, User, Via, becomes, eventually,
    jwt::{Folder, SECRET, Signer, claims},
    pair,
    user::text,
};

/// Former partners are matched again at once, unless one has blocked the other.
const AT_ONCE: [&str; 2] = ["--avoid-partner-for", "0s"];

async fn block(user: &mut User, to: Option<&str>) {
    user.send(json!({"type": "block", "to": to, "id": 7})).await;
    assert_eq!(user.expect("ack").await["id"], 7);
}

/// The two ask for a match and wait, in either order; a third one is matched with who waits longer.
async fn stay_apart(server: &TestServer, [first, second]: [&mut User; 2]) {
    first.wait().await;
    second.wait().await;
    let mut third = User::connect(server).await;
    third.find().await;
    assert_eq!(third.expect_match().await.peer, first.id);
    first.expect_match().await;
    second.is_undisturbed().await;
    third.close().await;
    first.expect_peer_left().await;
    second.send(json!({"type": "cancel_match"})).await;
    first.is_undisturbed().await;
    second.is_undisturbed().await;
}

#[tokio::test]
async fn who_was_blocked_is_never_met_again() {
    let server = TestServer::start(&AT_ONCE).await;
    let (mut first, mut second) = pair(&server).await;
    block(&mut first, None).await;
    // The partner is not told more than of any other end.
    assert_eq!(second.expect_peer_left().await, "left");
    stay_apart(&server, [&mut first, &mut second]).await;
    stay_apart(&server, [&mut second, &mut first]).await;
    server.reaches("rooms_active", "", 0.0).await;
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("blocks_total", ""), 1.0);
    assert_eq!(metrics.get("blocks_remembered", ""), 1.0);
    assert_eq!(metrics.get("requests_total", r#"type="block""#), 1.0);
    // With the session its blocks end.
    let mut third = User::connect(&server).await;
    third.wait().await;
    first.close().await;
    server.reaches("blocks_remembered", "", 0.0).await;
    second.find().await;
    assert_eq!(second.expect_match().await.peer, third.id);
}

#[tokio::test]
async fn the_last_partner_can_be_blocked_too() {
    let server = TestServer::start(&AT_ONCE).await;
    // The partner has left.
    let (mut first, mut second) = pair(&server).await;
    second.send(json!({"type": "leave_room"})).await;
    first.expect_peer_left().await;
    block(&mut first, None).await;
    stay_apart(&server, [&mut first, &mut second]).await;
    // The user has, and waits.
    let (mut first, mut second) = pair(&server).await;
    first.send(json!({"type": "next"})).await;
    second.expect_peer_left().await;
    first.expect("waiting").await;
    block(&mut first, Some(&second.id)).await;
    second.wait().await;
    first.is_undisturbed().await;
    // The user is with somebody else, and with the name of the last one it hits the right one.
    let mut third = User::connect(&server).await;
    third.find().await;
    assert_eq!(third.expect_match().await.peer, first.id);
    first.expect_match().await;
    third.send(json!({"type": "next"})).await;
    first.expect_peer_left().await;
    assert_eq!(third.expect_match().await.peer, second.id);
    second.expect_match().await;
    let mut fourth = User::connect(&server).await;
    first.wait().await;
    fourth.find().await;
    fourth.expect_match().await;
    first.expect_match().await;
    block(&mut first, Some(&third.id)).await;
    fourth.is_undisturbed().await;
    server.reaches("rooms_active", "", 2.0).await;
    // Without it, and with the present one, it is the present one.
    let stranger = json!({"type": "block", "to": second.id.clone()});
    first.send(stranger).await;
    first.expect_error("unknown_peer").await;
    block(&mut first, None).await;
    assert_eq!(fourth.expect_peer_left().await, "left");
    // Blocked already.
    block(&mut first, Some(&fourth.id)).await;
    assert_eq!(server.metric("blocks_total", "").await, 4.0);
}

#[tokio::test]
async fn in_a_named_room_a_member_is_named_and_stays() {
    let server = TestServer::start(&AT_ONCE).await;
    let mut users = Vec::new();
    for _ in 0..3 {
        let mut user = User::connect(&server).await;
        user.send(json!({"type": "join_room", "room": "tea"})).await;
        user.expect("room_joined").await;
        users.push(user);
    }
    let [mut first, mut second, mut third]: [User; 3] = users.try_into().ok().unwrap();
    first.expect("peer_joined").await;
    first.expect("peer_joined").await;
    second.expect("peer_joined").await;
    first.send(json!({"type": "block"})).await;
    first.expect_error("bad_message").await;
    for nobody in [first.id.clone(), "0123456789abcdef".to_owned()] {
        first.send(json!({"type": "block", "to": nobody})).await;
        first.expect_error("unknown_peer").await;
    }
    block(&mut first, Some(&third.id)).await;
    second.is_undisturbed().await;
    third.is_undisturbed().await;
    for (user, others) in [(&mut first, 0), (&mut third, 1), (&mut second, 2)] {
        for _ in 0..others {
            user.expect("peer_left").await;
        }
        user.send(json!({"type": "leave_room", "id": 1})).await;
        user.expect("ack").await;
    }
    first.wait().await;
    third.wait().await;
    second.find().await;
    assert_eq!(second.expect_match().await.peer, first.id);
    third.is_undisturbed().await;
}

async fn connect(server: &TestServer, user: &str) -> User {
    let token = Signer::Secret(SECRET).token(&claims(user));
    let path = format!("/ws?token={token}");
    User::connect_to(server, &path).await.unwrap()
}

#[tokio::test]
async fn users_of_the_app_stay_apart_in_later_sessions_and_in_others() {
    let (secret, _) = Folder::new("block").secret();
    let flags = ["--jwt-secret-file", &secret, AT_ONCE[0], AT_ONCE[1]];
    let server = TestServer::start(&flags).await;
    let mut ann = connect(&server, "ann").await;
    // They have other sessions by then.
    let mut anns_other = connect(&server, "ann").await;
    let mut bobs_other = connect(&server, "bob").await;
    anns_other.wait_with(json!({"language": "en"})).await;
    let mut bob = connect(&server, "bob").await;
    ann.wait().await;
    bob.find().await;
    bob.expect_match().await;
    ann.expect_match().await;
    block(&mut bob, None).await;
    ann.expect_peer_left().await;
    bobs_other.wait_with(json!({"language": "en"})).await;
    ann.close().await;
    bob.close().await;
    let mut ann = connect(&server, "ann").await;
    let mut bob = connect(&server, "bob").await;
    bob.wait().await;
    ann.wait().await;
    let mut cid = connect(&server, "cid").await;
    cid.find().await;
    assert_eq!(cid.expect_match().await.peer, bob.id);
    for user in [&mut ann, &mut anns_other, &mut bobs_other] {
        user.is_undisturbed().await;
    }
    assert_eq!(server.metric("blocks_remembered", "").await, 1.0);
    eventually("it is logged", async || {
        let log = server.process.stderr().join("\n");
        log.contains("blocked")
            && log.contains(r#"user="bob""#)
            && log.contains(r#"peer_user="ann""#)
    })
    .await;
}

#[tokio::test]
async fn no_room_ticket_brings_them_together_again() {
    let (secret, _) = Folder::new("block-tickets").secret();
    let flags = ["--jwt-secret-file", &secret, AT_ONCE[0], AT_ONCE[1]];
    let begin = async |server: &TestServer, user: &str| {
        let token = Signer::Secret(SECRET).token(&claims(user));
        let path = format!("/ws?resume=1&token={token}");
        Client::begin_with(server, Via::WebSocket, &path).await
    };
    let meet = async |server: &TestServer| {
        let (mut ann, mut bob) = (begin(server, "ann").await, begin(server, "bob").await);
        ann.send(json!({"type": "find_match"})).await;
        ann.expect("waiting").await;
        bob.send(json!({"type": "find_match"})).await;
        let tickets = [
            text(&ann.expect("match_found").await, "room_ticket"),
            text(&bob.expect("match_found").await, "room_ticket"),
        ];
        ([ann, bob], tickets)
    };
    let rejoin = |ticket: &str| json!({"type": "rejoin", "ticket": ticket});
    let mut server = TestServer::start(&flags).await;
    let (_, old) = meet(&server).await;
    server.process.signal(Signal::KILL);
    server.process.exit_code().await;

    let server = TestServer::start(&flags).await;
    let ([mut ann, mut bob], new) = meet(&server).await;
    ann.send(json!({"type": "block"})).await;
    bob.expect("peer_left").await;
    for (user, ticket) in [(&mut ann, &new[0]), (&mut bob, &new[1])] {
        user.send(rejoin(ticket)).await;
        assert_eq!(user.expect("error").await["code"], "room_closed");
    }
    // A room of before, for which the server knows nothing of them.
    ann.send(rejoin(&old[0])).await;
    ann.expect("rejoining").await;
    bob.send(rejoin(&old[1])).await;
    assert_eq!(bob.expect("error").await["code"], "room_closed");
    bob.send(json!({"type": "find_match"})).await;
    bob.expect("waiting").await;
}

#[tokio::test]
async fn resumable_users_block_and_report_over_each_transport() {
    for via in Via::ALL {
        let server = TestServer::start(&AT_ONCE).await;
        let mut user = Client::begin(&server, via).await;
        let mut other = Client::begin(&server, Via::WebSocket).await;
        user.send(json!({"type": "find_match"})).await;
        user.expect("waiting").await;
        other.send(json!({"type": "find_match"})).await;
        other.expect("match_found").await;
        user.expect("match_found").await;
        user.send(json!({"type": "report", "reason": "spam", "id": "r"}))
            .await;
        assert_eq!(user.expect("ack").await["id"], "r");
        user.send(json!({"type": "block", "id": "b"})).await;
        assert_eq!(user.expect("ack").await["id"], "b", "{via:?}");
        assert_eq!(other.expect("peer_left").await["reason"], "left");
        for user in [&mut user, &mut other] {
            user.send(json!({"type": "find_match"})).await;
            user.expect("waiting").await;
        }
    }
}

#[tokio::test]
async fn reports_are_counted_and_logged_without_their_words() {
    let server = TestServer::start(&["--log-format", "json"]).await;
    let (mut first, mut second) = pair(&server).await;
    let words = "m4rk3r \u{1b}[31m\n";
    let reasons = ["abuse", "spam", "minor", "other"];
    for reason in reasons {
        let report = json!({"type": "report", "reason": reason, "text": words, "id": reason});
        first.send(report).await;
        assert_eq!(first.expect("ack").await["id"], reason);
    }
    // The partner notices nothing, and the room goes on.
    first.send(json!({"type": "message", "payload": 1})).await;
    second.expect("message").await;
    for (report, hint) in [
        (json!({"reason": "boring"}), "abuse"),
        (json!({}), "reason"),
        (json!({"reason": 1}), "abuse, spam, minor, other"),
        (json!({"reason": "abuse", "text": "x".repeat(501)}), "500"),
        (json!({"reason": "x".repeat(5000)}), "unknown variant"),
    ] {
        let mut message = report;
        message["type"] = "report".into();
        first.send(message).await;
        let error = first.expect_error("bad_message").await;
        let said = text(&error, "message");
        assert!(said.contains(hint) && said.len() < 400, "{said}");
    }
    let most = json!({"type": "report", "reason": "abuse", "text": "x".repeat(500)});
    first.send(most).await;
    second.send(json!({"type": "leave_room"})).await;
    first.expect_peer_left().await;
    first
        .send(json!({"type": "report", "reason": "abuse"}))
        .await;
    first.is_undisturbed().await;
    let metrics = server.metrics().await;
    for (reason, count) in reasons.into_iter().zip([3.0, 1.0, 1.0, 1.0]) {
        let label = format!(r#"reason="{reason}""#);
        assert_eq!(metrics.get("reports_total", &label), count, "{reason}");
    }
    let lines = async || {
        let log = server.process.stderr();
        assert!(!log.join("").contains("m4rk3r"));
        let lines = log.iter().map(|line| serde_json::from_str(line).unwrap());
        let lines = lines.filter(|line: &Value| line["message"] == "reported");
        lines.collect::<Vec<_>>()
    };
    becomes(6, "lines", async || lines().await.len()).await;
    let line = &lines().await[0];
    assert_eq!(line["session"], *first.id);
    assert_eq!(line["peer"], *second.id);
    assert_eq!(
        (&line["reason"], &line["level"]),
        (&json!("abuse"), &json!("INFO"))
    );
}

#[tokio::test]
async fn many_reports_are_few_lines_and_more_blocks_than_allowed_push_out_the_oldest() {
    let flags = ["--max-blocks", "2", AT_ONCE[0], AT_ONCE[1]];
    let server = TestServer::start(&flags).await;
    let mut user = User::connect(&server).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = User::connect(&server).await;
        user.wait().await;
        other.find().await;
        other.expect_match().await;
        user.expect_match().await;
        block(&mut user, None).await;
        other.expect_peer_left().await;
        others.push(other);
    }
    assert_eq!(server.metric("blocks_remembered", "").await, 2.0);
    let hits = server.metric("limit_hits_total", r#"limit="max_blocks""#);
    assert_eq!(hits.await, 1.0);
    user.wait().await;
    for other in others.iter_mut().rev().take(2) {
        other.wait().await;
        other.send(json!({"type": "cancel_match", "id": 1})).await;
        other.expect("ack").await;
    }
    others[0].find().await;
    assert_eq!(others[0].expect_match().await.peer, user.id);
    user.expect_match().await;
    for _ in 0..50 {
        user.send(json!({"type": "report", "reason": "other"}))
            .await;
    }
    user.is_undisturbed().await;
    // Ten of them, and those that have come since the last sum; the others are summed up.
    let counts = || {
        let log = server.process.stderr();
        let (sums, lines): (Vec<_>, Vec<_>) =
            (log.iter().filter(|line| line.contains(" reported ")))
                .partition(|line| line.contains("reported more"));
        let count = |line: &String| line.split("reports=").nth(1)?.trim().parse::<usize>().ok();
        (
            lines.len(),
            sums.into_iter().filter_map(count).sum::<usize>(),
        )
    };
    eventually("all are logged", async || {
        let (lines, summed) = counts();
        lines + summed == 50
    })
    .await;
    let (lines, _) = counts();
    assert!((10..=20).contains(&lines), "{lines} lines");
}
