//! Clients tell how their calls went, and the metrics say so.

use serde_json::{Value, json};

use crate::support::{Client, TestServer, Via, client, pair, user::text};

/// Former partners are matched again at once.
const AT_ONCE: [&str; 2] = ["--avoid-partner-for", "0s"];

/// The two are matched. Returns the room.
async fn meet(first: &mut Client, second: &mut Client) -> String {
    first.send(json!({"type": "find_match"})).await;
    first.expect("waiting").await;
    second.send(json!({"type": "find_match"})).await;
    second.expect("match_found").await;
    text(&first.expect("match_found").await, "room_id")
}

async fn report(client: &mut Client, mut fields: Value) -> Value {
    fields["type"] = "call_report".into();
    fields["id"] = "r".into();
    client.send(fields).await;
    client.next().await.unwrap()
}

#[track_caller]
fn is_taken(answer: &Value) {
    assert_eq!(
        (&answer["type"], &answer["id"]),
        (&"ack".into(), &"r".into()),
        "{answer}"
    );
}

#[track_caller]
fn is_refused(answer: &Value, code: &str) {
    assert_eq!(
        (&answer["code"], &answer["id"]),
        (&code.into(), &"r".into()),
        "{answer}"
    );
}

async fn calls(server: &TestServer) -> f64 {
    let metrics = server.metrics().await;
    metrics.all("calls_total").map(|(_, count)| count).sum()
}

#[tokio::test]
async fn what_clients_report_is_counted() {
    let server = TestServer::start(&[]).await;
    let (mut first, mut second) = client::pair(&server, Via::WebSocket, Via::Polling).await;
    let heard = json!({
        "outcome": "connected", "path": "relayed", "local": "relay", "remote": "srflx",
        "setup_ms": 420, "audio_ms": 630, "restarts": 2, "lost_percent": 1.5, "new": "field",
    });
    is_taken(&report(&mut first, heard).await);
    let failed =
        json!({"outcome": "failed", "reason": "no_audio", "setup_ms": 80, "audio_ms": null});
    is_taken(&report(&mut second, failed).await);
    let (mut third, mut fourth) = client::pair(&server, Via::EventStream, Via::WebSocket).await;
    is_taken(&report(&mut third, json!({"outcome": "abandoned"})).await);
    is_taken(
        &report(
            &mut fourth,
            json!({"outcome": "connected", "path": "direct"}),
        )
        .await,
    );

    let metrics = server.metrics().await;
    for (name, labels, value) in [
        ("calls_total", r#"outcome="connected",path="relayed""#, 1.0),
        ("calls_total", r#"outcome="connected",path="direct""#, 1.0),
        ("calls_total", r#"outcome="failed",path="unknown""#, 1.0),
        ("calls_total", r#"outcome="abandoned",path="unknown""#, 1.0),
        ("call_failures_total", r#"reason="no_audio""#, 1.0),
        ("call_failures_total", r#"reason="other""#, 1.0),
        ("call_failures_total", r#"reason="ice_failed""#, 0.0),
        (
            "call_candidates_total",
            r#"local="relay",remote="srflx""#,
            1.0,
        ),
        (
            "call_candidates_total",
            r#"local="srflx",remote="relay""#,
            0.0,
        ),
        ("call_restarts_total", "", 2.0),
        ("call_setup_seconds_count", "", 2.0),
        ("call_setup_seconds_sum", "", 0.5),
        ("call_audio_seconds_count", "", 1.0),
        ("call_audio_seconds_sum", "", 0.63),
        ("call_lost_audio_ratio_count", "", 1.0),
        ("call_lost_audio_ratio_sum", "", 0.015),
        ("requests_total", r#"type="call_report""#, 4.0),
    ] {
        assert_eq!(metrics.get(name, labels), value, "{name}{{{labels}}}");
    }
    assert_eq!(calls(&server).await, 4.0);
}

#[tokio::test]
async fn a_call_is_reported_once_by_each() {
    let server = TestServer::start(&AT_ONCE).await;
    let mut user = Client::begin(&server, Via::WebSocket).await;
    let mut other = Client::begin(&server, Via::WebSocket).await;
    let connected = |room: &str| json!({"outcome": "connected", "room_id": room});
    let first = meet(&mut user, &mut other).await;
    is_taken(&report(&mut user, json!({"outcome": "connected"})).await);
    is_refused(
        &report(&mut user, json!({"outcome": "connected"})).await,
        "no_partner",
    );
    is_refused(&report(&mut user, connected(&first)).await, "no_partner");
    is_taken(&report(&mut other, connected(&first)).await);

    // Neither is reported again by taking turns, nor is one before the last.
    user.send(json!({"type": "leave_room"})).await;
    other.expect("peer_left").await;
    let second = meet(&mut user, &mut other).await;
    is_taken(&report(&mut user, connected(&second)).await);
    for room in [&first, &second, &first] {
        is_refused(&report(&mut user, connected(room)).await, "no_partner");
    }
    other.send(json!({"type": "leave_room"})).await;
    user.expect("peer_left").await;
    let third = meet(&mut user, &mut other).await;
    for room in [&first, &second] {
        is_refused(&report(&mut user, connected(room)).await, "no_partner");
    }
    is_taken(&report(&mut user, connected(&third)).await);
    // `other` reported neither the second nor the third: the last one can be made up for.
    is_refused(&report(&mut other, connected(&first)).await, "no_partner");
    is_taken(&report(&mut other, connected(&second)).await);
    is_taken(&report(&mut other, json!({"outcome": "connected"})).await);
    for room in [&second, &third] {
        is_refused(&report(&mut other, connected(room)).await, "no_partner");
    }
    // In the order of the matches.
    other.send(json!({"type": "leave_room"})).await;
    user.expect("peer_left").await;
    let fourth = meet(&mut user, &mut other).await;
    user.send(json!({"type": "leave_room"})).await;
    other.expect("peer_left").await;
    let fifth = meet(&mut user, &mut other).await;
    is_taken(&report(&mut user, connected(&fifth)).await);
    is_refused(&report(&mut user, connected(&fourth)).await, "no_partner");
    assert_eq!(calls(&server).await, 7.0);
}

#[tokio::test]
async fn the_last_call_can_be_reported_afterwards() {
    let server = TestServer::start(&AT_ONCE).await;
    let mut users = Vec::new();
    for _ in 0..4 {
        users.push(Client::begin(&server, Via::WebSocket).await);
    }
    let [mut left, mut waits, mut joins, mut resumes] = users.try_into().ok().unwrap();
    meet(&mut left, &mut waits).await;
    waits.send(json!({"type": "next"})).await;
    left.expect("peer_left").await;
    waits.expect("waiting").await;
    is_taken(&report(&mut left, json!({"outcome": "abandoned", "reason": "left"})).await);
    is_taken(&report(&mut waits, json!({"outcome": "connected"})).await);
    waits.send(json!({"type": "cancel_match", "id": 1})).await;
    waits.expect("ack").await;

    let room = meet(&mut joins, &mut resumes).await;
    joins.send(json!({"type": "leave_room"})).await;
    resumes.expect("peer_left").await;
    joins
        .send(json!({"type": "join_room", "room": "tea"}))
        .await;
    joins.expect("room_joined").await;
    // Of the match: without `room_id` it would be of a call in the named room.
    let of_match = json!({"outcome": "connected", "room_id": room});
    is_taken(&report(&mut joins, of_match.clone()).await);
    is_refused(&report(&mut joins, of_match).await, "no_partner");
    // A message that was sent twice is taken once.
    let sent = json!({"type": "call_report", "outcome": "connected", "seq": resumes.sent + 1});
    resumes.sent += 1;
    resumes.write(&sent).await;
    resumes.cut();
    resumes.resume(Via::EventStream).await.unwrap();
    resumes.write(&sent).await;
    resumes.is_heard().await;
    assert_eq!(calls(&server).await, 4.0);
}

#[tokio::test]
async fn members_of_a_named_room_report_a_call_with_each_of_the_others() {
    let server = TestServer::start(&["--max-messages-per-second", "0"]).await;
    let mut members = Vec::new();
    for via in [Via::WebSocket, Via::Polling] {
        let mut member = Client::begin(&server, via).await;
        member
            .send(json!({"type": "join_room", "room": "tea"}))
            .await;
        member.expect("room_joined").await;
        members.push(member);
    }
    let [one, other] = &mut members[..] else {
        unreachable!()
    };
    one.expect("peer_joined").await;
    let heard = json!({"outcome": "connected", "path": "relayed", "setup_ms": 90});
    is_taken(&report(other, heard.clone()).await);
    // Each room has an end of what is counted.
    for _ in 0..200 {
        is_taken(&report(one, heard.clone()).await);
    }
    is_refused(&report(one, heard.clone()).await, "no_partner");
    one.send(json!({"type": "leave_room", "id": 1})).await;
    one.expect("ack").await;
    is_refused(&report(one, heard.clone()).await, "no_partner");
    one.send(json!({"type": "join_room", "room": "milk"})).await;
    one.expect("room_joined").await;
    is_taken(&report(one, heard).await);
    let relayed = r#"outcome="connected",path="relayed""#;
    assert_eq!(server.metric("calls_total", relayed).await, 202.0);
}

#[tokio::test]
async fn who_had_no_call_cannot_report_one() {
    let server = TestServer::start(&[]).await;
    let mut stranger = Client::begin(&server, Via::WebSocket).await;
    let connected = json!({"outcome": "connected"});
    is_refused(
        &report(&mut stranger, connected.clone()).await,
        "no_partner",
    );
    let mut user = Client::begin(&server, Via::WebSocket).await;
    let mut other = Client::begin(&server, Via::WebSocket).await;
    let room = meet(&mut user, &mut other).await;
    let theirs = json!({"outcome": "connected", "room_id": room});
    is_refused(&report(&mut stranger, theirs).await, "no_partner");
    let unknown = json!({"outcome": "connected", "room_id": "0123456789abcdef"});
    is_refused(&report(&mut user, unknown).await, "no_partner");

    let (mut plain, _partner) = pair(&server).await;
    plain
        .send(json!({"type": "call_report", "outcome": "connected"}))
        .await;
    let refused = plain.expect_error("bad_message").await;
    assert!(
        refused["message"].as_str().unwrap().contains("outlive"),
        "{refused}"
    );
    assert_eq!(calls(&server).await, 0.0);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let server = TestServer::start(&[]).await;
    let (mut user, _other) = client::pair(&server, Via::WebSocket, Via::WebSocket).await;
    for (name, value) in [
        ("outcome", json!("splendid")),
        ("outcome", json!(null)),
        ("path", json!("winding")),
        ("local", json!("tcp")),
        ("remote", json!("HOST")),
        ("reason", json!("weather")),
        ("setup_ms", json!(-1)),
        ("setup_ms", json!(0.5)),
        ("setup_ms", json!("420")),
        ("setup_ms", json!(600_001)),
        ("audio_ms", json!(u64::MAX)),
        ("restarts", json!(1001)),
        ("lost_percent", json!(100.1)),
        ("lost_percent", json!(-0.1)),
        ("room_id", json!("tea")),
    ] {
        let mut fields = json!({"outcome": "failed"});
        fields[name] = value.clone();
        let answer = report(&mut user, fields).await;
        is_refused(&answer, "bad_message");
        let said = answer["message"].as_str().unwrap();
        assert!(said.len() > 10, "{name} {value}: {said}");
    }
    let both = json!({"outcome": "connected", "reason": "left"});
    is_refused(&report(&mut user, both).await, "bad_message");
    assert_eq!(calls(&server).await, 0.0);
    // None of these has used up the one report.
    let most =
        json!({"outcome": "failed", "setup_ms": 600_000, "restarts": 1000, "lost_percent": 100});
    is_taken(&report(&mut user, most).await);
    assert_eq!(calls(&server).await, 1.0);
}
