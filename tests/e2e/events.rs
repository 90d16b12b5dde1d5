//! The app is told what happens: signed, in lists, again when that fails, and never at the cost of users.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    TestServer, User, eventually,
    jwt::{Folder, SECRET, Signer, claims, openssl},
    pair,
    receiver::{Answer, Posted, Receiver},
    run,
};

/// What signs events, in these tests.
const KEY: [u8; 32] = *b"a secret of thirty-two bytes, or";

const WELL: Answer = Answer::Status(200, "");

/// The flags of a server that sends its events to this address.
fn flags(address: SocketAddr, test: &str) -> [String; 6] {
    let secret = format!("whsec_{}\n", BASE64.encode(KEY));
    let file = Folder::new(&format!("events-{test}")).write("secret", &secret);
    [
        "--event-webhook".to_owned(),
        format!("http://{address}/events"),
        "--event-webhook-secret-file".to_owned(),
        file,
        "--event-webhook-retry-after".to_owned(),
        "20ms".to_owned(),
    ]
}

/// The events in a request.
fn events_in(posted: &Posted) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&posted.body).unwrap();
    assert_eq!(body["type"], "events");
    body["data"].as_array().unwrap().clone()
}

/// The data of the events of this type that were taken. None may be taken twice.
fn taken(receiver: &Receiver, kind: &str) -> Vec<Value> {
    let mut events = all_taken(receiver);
    events.retain(|event| event["type"] == kind);
    events.iter().map(|event| event["data"].clone()).collect()
}

fn all_taken(receiver: &Receiver) -> Vec<Value> {
    let is_taken =
        |posted: &&Posted| matches!(posted.answer, Answer::Status(200, _) | Answer::Late(_));
    let posted = receiver.posted();
    let events: Vec<Value> = posted.iter().filter(is_taken).flat_map(events_in).collect();
    let ids: BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), events.len(), "an event was taken twice");
    events
}

/// It is signed as the specification says.
#[track_caller]
fn verify(posted: &Posted) {
    let (id, time) = (
        &posted.headers["webhook-id"],
        &posted.headers["webhook-timestamp"],
    );
    let signed = [format!("{id}.{time}.").as_bytes(), &posted.body].concat();
    let hex: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("hexkey:{hex}");
    let args = [
        "dgst", "-sha256", "-mac", "HMAC", "-macopt", &key, "-binary",
    ];
    let expected = format!("v1,{}", BASE64.encode(openssl(&args, &signed)));
    assert_eq!(posted.headers["webhook-signature"], expected);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let age = now.as_secs().abs_diff(time.parse().unwrap());
    assert!(age < 60, "{age} s old");
    assert_eq!(posted.headers["content-type"], "application/json");
}

async fn server_with(receiver: &Receiver, test: &str, more: &[&str]) -> TestServer {
    let flags = flags(receiver.address, test);
    let flags: Vec<&str> = flags
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    TestServer::start(&flags).await
}

/// Waits until nothing is on its way.
async fn settled(server: &TestServer) {
    server.reaches("events_queued", "", 0.0).await;
}

async fn dropped(server: &TestServer) -> f64 {
    let metrics = server.metrics().await;
    metrics
        .all("events_dropped_total")
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test]
async fn the_app_is_told_what_happens_and_can_verify_it() {
    let receiver = Receiver::start(WELL).await;
    let (secret, _) = Folder::new("events-users").secret();
    let server = server_with(&receiver, "all", &["--jwt-secret-file", &secret]).await;
    let connect = async |user: &str| {
        let token = Signer::Secret(SECRET).token(&claims(user));
        User::connect_to(&server, &format!("/ws?token={token}"))
            .await
            .unwrap()
    };
    let (mut ann, mut bob) = (connect("ann").await, connect("bob").await);
    ann.wait().await;
    bob.find().await;
    let room = bob.expect_match().await.room;
    ann.expect_match().await;
    ann.send(json!({"type": "report", "reason": "abuse", "text": "\"rude\"\u{7}"}))
        .await;
    ann.send(json!({"type": "block"})).await;
    bob.expect_peer_left().await;
    ann.is_undisturbed().await;
    bob.send(json!({"type": "join_room", "room": "tea"})).await;
    let tea = bob.expect("room_joined").await["room_id"].clone();
    bob.close().await;
    ann.is_undisturbed().await;
    settled(&server).await;

    let events = all_taken(&receiver);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let expected = [
        "match.made",
        "report.made",
        "match.ended",
        "block.made",
        "room.opened",
        "room.joined",
        "room.left",
        "room.closed",
    ];
    assert_eq!(kinds, expected);
    let party = |user: &User, name: &str| json!({"session_id": user.id.clone(), "user": name});
    let anns = party(&ann, "ann");
    let bobs = json!({"session_id": anns_peer(&events), "user": "bob"});
    let data = |kind: &str| taken(&receiver, kind)[0].clone();
    let mut made = data("match.made");
    let waited = made["waited_ms"].take();
    assert!(
        waited.as_array().unwrap().iter().all(Value::is_u64),
        "{waited}"
    );
    let users = json!([anns, bobs]);
    assert_eq!(
        made,
        json!({"room_id": room, "users": users, "waited_ms": null, "rejoined": false})
    );
    let mut ended = data("match.ended");
    assert!(ended["lasted_ms"].take().as_u64().unwrap() < 60_000);
    assert_eq!(
        ended,
        json!({
            "room_id": room, "users": users, "lasted_ms": null, "left": ann.id, "reason": "left",
        })
    );
    let about = json!({"room_id": room, "by": anns, "about": bobs});
    assert_eq!(data("block.made"), about);
    let mut report = about;
    report["reason"] = "abuse".into();
    report["text"] = "\"rude\"\u{7}".into();
    assert_eq!(data("report.made"), report);
    let opened = json!({"room_id": tea, "room": "tea"});
    assert_eq!(data("room.opened"), opened);
    let mut member = opened;
    member["session_id"] = bobs["session_id"].clone();
    member["user"] = "bob".into();
    assert_eq!(data("room.joined"), member);
    member["reason"] = "closed".into();
    assert_eq!(data("room.left"), member);
    assert!(data("room.closed")["lasted_ms"].is_u64());
    for event in &events {
        let time = event["timestamp"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
    receiver.posted().iter().for_each(verify);
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("events_sent_total", ""), 8.0);
    assert!(metrics.get("event_webhook_last_success_timestamp_seconds", "") > 1e9);
}

/// The id of the second user of the first match.
fn anns_peer(events: &[Value]) -> Value {
    events[0]["data"]["users"][1]["session_id"].clone()
}

#[tokio::test]
async fn only_the_events_that_were_asked_for_are_told() {
    let receiver = Receiver::start(WELL).await;
    let kinds = ["--event-webhook-type", "match.made,report.made"];
    let server = server_with(&receiver, "kinds", &kinds).await;
    let (mut first, mut second) = pair(&server).await;
    first
        .send(json!({"type": "report", "reason": "other"}))
        .await;
    first.send(json!({"type": "block"})).await;
    second.expect_peer_left().await;
    server.reaches("events_sent_total", "", 2.0).await;
    settled(&server).await;
    let kinds: Vec<_> = all_taken(&receiver)
        .iter()
        .map(|event| event["type"].clone())
        .collect();
    assert_eq!(kinds, ["match.made", "report.made"]);
    let users = &taken(&receiver, "match.made")[0]["users"];
    assert_eq!(
        users,
        &json!([{"session_id": first.id}, {"session_id": second.id}])
    );
}

#[tokio::test]
async fn what_the_app_does_not_take_is_sent_again_as_it_was() {
    let receiver = Receiver::start_by(|n| match n {
        0 => Answer::Status(500, ""),
        1 => Answer::Close,
        2 => Answer::Status(429, "Retry-After: 1\r\n"),
        3 => Answer::Hang,
        _ => Answer::Status(200, ""),
    })
    .await;
    let mut server = server_with(&receiver, "again", &["--event-webhook-timeout", "300ms"]).await;
    let begun = Instant::now();
    let (first, _second) = pair(&server).await;
    server.reaches("events_sent_total", "", 1.0).await;
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "the app has asked to wait"
    );
    let received = receiver.posted();
    assert_eq!(received.len(), 5);
    for request in &received {
        assert_eq!(
            request.headers["webhook-id"],
            received[0].headers["webhook-id"]
        );
        assert_eq!(request.body, received[0].body);
        verify(request);
    }
    assert_eq!(
        taken(&receiver, "match.made")[0]["users"][0]["session_id"],
        *first.id
    );
    assert_eq!(dropped(&server).await, 0.0);
    let failed = r#"result="failed""#;
    assert_eq!(
        server.metric("event_webhook_requests_total", failed).await,
        4.0
    );
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
    let log = server.process.stderr().join("\n");
    assert_eq!(log.matches("does not take events").count(), 1, "{log}");
    assert_eq!(log.matches("takes events again").count(), 1, "{log}");
}

#[tokio::test]
async fn what_the_app_refuses_is_dropped_and_so_is_what_fails_five_times() {
    let receiver = Receiver::start(Answer::Status(410, "")).await;
    let server = server_with(&receiver, "refused", &[]).await;
    let (first, mut second) = pair(&server).await;
    let refused = r#"reason="refused""#;
    server.reaches("events_dropped_total", refused, 1.0).await;
    let mut stay = Vec::new();
    for status in [400, 302] {
        receiver.answers(move |_, _| Answer::Status(status, "Location: /elsewhere\r\n"));
        let before = server.metric("events_dropped_total", refused).await;
        stay.push(pair(&server).await);
        server
            .reaches("events_dropped_total", refused, before + 1.0)
            .await;
    }
    assert_eq!(receiver.posted().len(), 3, "none was sent again");
    receiver.answers(|_, _| Answer::Status(503, ""));
    first.close().await;
    second.expect_peer_left().await;
    let gave_up = r#"reason="gave_up""#;
    eventually("the server gives up", async || {
        server.metric("events_dropped_total", gave_up).await >= 1.0
    })
    .await;
    settled(&server).await;
    // What comes after that is told.
    receiver.answers(|_, _| Answer::Status(200, ""));
    let _pair = pair(&server).await;
    server.reaches("events_sent_total", "", 1.0).await;
}

#[tokio::test]
async fn an_app_that_is_not_there_yet_is_told_when_it_comes() {
    let address = Receiver::start(WELL).await.address;
    let flags = flags(address, "absent");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = TestServer::start(&flags).await;
    let _pair = pair(&server).await;
    let failed = r#"result="failed""#;
    eventually("a try has failed", async || {
        server.metric("event_webhook_requests_total", failed).await >= 2.0
    })
    .await;
    let receiver = Receiver::start_at(address, |_, _| Answer::Status(200, "")).await;
    server.reaches("events_sent_total", "", 1.0).await;
    assert_eq!(taken(&receiver, "match.made").len(), 1);
}

/// One user makes very many events, as fast as they can.
async fn flood(user: &mut User, reports: u32) {
    let text = "x".repeat(400);
    for n in 0..reports {
        user.send(json!({"type": "report", "reason": "other", "text": format!("{n} {text}")}))
            .await;
    }
    user.is_undisturbed().await;
}

#[tokio::test]
async fn an_app_that_hangs_costs_events_and_nothing_else() {
    const REPORTS: u32 = 25_000;
    let receiver = Receiver::start(Answer::Hang).await;
    let more = ["--max-messages-per-second", "0", "--log", "error"];
    let server = server_with(&receiver, "hangs", &more).await;
    let (mut first, mut second) = pair(&server).await;
    flood(&mut first, 100).await;
    let before = server.resident_bytes().await;
    flood(&mut first, REPORTS).await;
    let metrics = server.metrics().await;
    // The queue, and what the requests under way have taken out of it.
    let queued = metrics.get("events_queued", "");
    assert!((5000.0..=12_000.0).contains(&queued), "{queued}");
    let full = metrics.get("events_dropped_total", r#"reason="queue_full""#);
    assert_eq!(full + queued, f64::from(REPORTS) + 101.0);
    let grown = server.resident_bytes().await - before;
    assert!(grown < 24e6, "{grown} bytes");
    // Matching and relaying go on as if nobody was told.
    let begun = Instant::now();
    for n in 0..20 {
        let (third, _fourth) = pair(&server).await;
        first.send(json!({"type": "message", "payload": n})).await;
        second.expect("message").await;
        third.close().await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        server
            .metrics()
            .await
            .get("events_dropped_total", r#"reason="queue_full""#)
            > full
    );
    // It takes events again: each event is told, or counted as dropped, and none is told twice.
    receiver.answers(|_, _| Answer::Status(200, ""));
    settled(&server).await;
    let metrics = server.metrics().await;
    let sent = metrics.get("events_sent_total", "");
    assert_eq!(all_taken(&receiver).len() as f64, sent);
    // The reports; two for each match that has ended, and one for the one that goes on.
    let made = f64::from(REPORTS) + 100.0 + 2.0 * 20.0 + 1.0;
    assert_eq!(sent + dropped(&server).await, made);
    assert!(sent > 4000.0, "{sent}");
    verify(receiver.posted().last().unwrap());
}

#[tokio::test]
async fn a_slow_app_that_fails_now_and_then_gets_each_event_once() {
    const ROUNDS: usize = 150;
    let receiver = Receiver::start_by(|n| match n % 5 {
        1 => Answer::Status(502, ""),
        3 => Answer::Close,
        _ => Answer::Late(Duration::from_millis(150)),
    })
    .await;
    let more = ["--avoid-partner-for", "0s"];
    let server = server_with(&receiver, "slow", &more).await;
    let (mut first, mut second) = pair(&server).await;
    for _ in 1..ROUNDS {
        first.send(json!({"type": "next"})).await;
        second.expect_peer_left().await;
        first.expect("waiting").await;
        second.find().await;
        second.expect_match().await;
        first.expect_match().await;
    }
    first.close().await;
    second.expect_peer_left().await;
    server
        .reaches("events_sent_total", "", 2.0 * ROUNDS as f64)
        .await;
    assert_eq!(dropped(&server).await, 0.0);
    let ids = |kind: &str| -> Vec<Value> {
        let mut ids: Vec<_> = taken(&receiver, kind)
            .iter()
            .map(|data| data["room_id"].clone())
            .collect();
        ids.sort_by_key(ToString::to_string);
        ids
    };
    assert_eq!(ids("match.made").len(), ROUNDS);
    assert_eq!(ids("match.made"), ids("match.ended"));
    let requests = receiver.posted().len();
    assert!(
        requests < ROUNDS,
        "{requests} requests: events come in lists"
    );
}

#[tokio::test]
async fn at_the_end_the_app_is_told_what_is_left_and_is_not_waited_for_long() {
    let receiver = Receiver::start(WELL).await;
    let mut server = server_with(&receiver, "end", &["--drain-timeout", "100ms"]).await;
    let _pair = pair(&server).await;
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
    let ended = taken(&receiver, "match.ended");
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["reason"], "draining");

    let receiver = Receiver::start(Answer::Hang).await;
    let mut server = server_with(&receiver, "end-hangs", &["--drain-timeout", "100ms"]).await;
    let _pair = pair(&server).await;
    let begun = Instant::now();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    let log = server.process.stderr().join("\n");
    assert!(log.contains("events=2"), "{log}");
}

#[tokio::test]
async fn a_secret_that_is_none_ends_the_start() {
    let folder = Folder::new("events-secret");
    let file = folder.write("secret", "correct horse");
    let flags = [
        "--event-webhook",
        "http://127.0.0.1:9/",
        "--event-webhook-secret-file",
        &file,
    ];
    let (code, said) = run(&flags).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("whsec_") && !said.contains("correct"),
        "{said}"
    );
}
