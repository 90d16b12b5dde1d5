//! Answers for support at the admin address: who is where and why, and ending a session.

use serde_json::{Value, json};

use crate::support::{
    Client, End, TestServer, User, Via, eventually,
    http::{self, Response},
    jwt::{Folder, SECRET, Signer, begin, claims, claims_with},
    pair,
};

/// A token of operators.
pub(crate) const TOKEN: &str = "an-operator's-token-of-thirty-two-bytes-or-more";

pub(crate) async fn ask(server: &TestServer, method: &str, path: &str, body: &str) -> Response {
    ask_with(server, method, path, "", body).await
}

/// `more`: more header lines.
pub(crate) async fn ask_with(
    server: &TestServer,
    method: &str,
    path: &str,
    more: &str,
    body: &str,
) -> Response {
    let mut headers = more.to_owned();
    if !body.is_empty() {
        let length = body.len();
        headers += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    }
    http::request_with_body(server.admin, method, path, &headers, body).await
}

/// What is at this path, which must be there.
#[track_caller]
pub(crate) fn get(server: &TestServer, path: &str) -> impl Future<Output = Value> {
    let caller = std::panic::Location::caller();
    async move {
        let response = ask(server, "GET", path, "").await;
        assert_eq!(response.status, 200, "{caller}: {}", response.text());
        response.json()
    }
}

pub(crate) async fn session(server: &TestServer, id: &str) -> Value {
    get(server, &format!("/support/sessions/{id}")).await
}

#[tokio::test]
async fn why_a_user_is_not_matched() {
    let server = TestServer::start(&["--widen-language-after", "1h"]).await;
    let mut ann = User::connect(&server).await;
    let idle = session(&server, &ann.id).await;
    assert_eq!(
        (&idle["state"], &idle["transport"], &idle["resumable"]),
        (&json!("idle"), &json!("ws"), &json!(false))
    );
    assert_eq!(idle["address"], "127.0.0.1");
    assert_eq!(idle["outbox"], json!({"messages": 0, "bytes": 0}));
    for nothing in ["user", "waiting", "room", "closing", "detached_since"] {
        assert_eq!(idle[nothing], Value::Null, "{nothing}");
    }
    let before = time_of(&idle["since"]);

    let chess = json!({"language": "EN", "interests": ["chess", "go"]});
    ann.wait_with(chess).await;
    let mut bob = User::connect(&server).await;
    bob.wait_with(json!({"language": "en", "interests": ["tea"], "region": "eu"}))
        .await;
    let mut carl = User::connect(&server).await;
    carl.wait_with(json!({"language": "fr", "interests": ["chess"]}))
        .await;
    let waiting = session(&server, &ann.id).await;
    assert_eq!(waiting["state"], "waiting");
    assert!(time_of(&waiting["since"]) >= before);
    let waiting = &waiting["waiting"];
    assert_eq!(waiting["language"], "en");
    assert_eq!(waiting["interests"], json!(["chess", "go"]));
    let pools = waiting["pools"].as_array().unwrap();
    let names: Vec<_> = pools.iter().map(|pool| pool["name"].clone()).collect();
    assert_eq!(
        names,
        ["interest chess, language en", "interest go, language en"]
    );
    for pool in pools {
        assert_eq!((&pool["waiting"], &pool["place"]), (&json!(1), &json!(1)));
        assert_eq!(pool["others"], json!([]));
    }
    assert_eq!(waiting["widens_to"], "language");
    let left = waiting["widens_in_seconds"].as_f64().unwrap();
    assert!((3500.0..=3600.0).contains(&left), "{left}");
    assert_eq!(
        (&waiting["waiting_in_all"], &waiting["parked"]),
        (&json!(3), &json!(false))
    );
}

/// Texts of RFC 3339 in UTC are in the order of time.
#[track_caller]
pub(crate) fn time_of(value: &Value) -> String {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no time"));
    assert!(text.len() == 20 && text.ends_with('Z'), "{text}");
    text.to_owned()
}

#[tokio::test]
async fn who_stands_in_the_same_pool_and_why_they_do_not_meet() {
    let folder = Folder::new("support-pool");
    let (file, _) = folder.secret();
    let server = TestServer::start(&["--jwt-secret-file", &file]).await;
    let token = |user: &str| Signer::Secret(SECRET).token(&claims(user));
    let mut first = begin(&server, Via::WebSocket, &token("ann")).await;
    let mut second = begin(&server, Via::WebSocket, &token("ann")).await;
    for ann in [&mut first, &mut second] {
        ann.send(json!({"type": "find_match"})).await;
        ann.expect("waiting").await;
    }
    let seen = session(&server, &second.id).await["waiting"]["pools"][0].take();
    let other = json!([{"session": first.id, "not_matched_because": "same_person"}]);
    assert_eq!(
        (
            &seen["name"],
            &seen["place"],
            &seen["waiting"],
            &seen["others"]
        ),
        (&json!("anyone"), &json!(2), &json!(2), &other)
    );
    // Two who have left each other.
    let server = TestServer::start(&[]).await;
    let (mut ann, mut bob) = pair(&server).await;
    ann.send(json!({"type": "next"})).await;
    ann.expect("waiting").await;
    bob.expect_peer_left().await;
    bob.wait().await;
    let seen = session(&server, &bob.id).await["waiting"]["pools"][0].take();
    let other = json!([{"session": ann.id, "not_matched_because": "former_partner"}]);
    assert_eq!(seen["others"], other, "{seen}");
    // Or of whom one has blocked the other, which lasts longer.
    ann.send(json!({"type": "block", "to": bob.id, "id": 1}))
        .await;
    ann.expect("ack").await;
    let seen = session(&server, &bob.id).await["waiting"]["pools"][0].take();
    let other = json!([{"session": ann.id, "not_matched_because": "blocked"}]);
    assert_eq!(seen["others"], other, "{seen}");
}

#[tokio::test]
async fn a_session_without_a_connection_is_seen_too() {
    let server = TestServer::start(&["--resume-window", "1h"]).await;
    let mut ann = Client::begin(&server, Via::EventStream).await;
    assert_eq!(session(&server, &ann.id).await["transport"], "sse");
    ann.send(json!({"type": "find_match"})).await;
    ann.expect("waiting").await;
    ann.cut();
    let path = format!("/support/sessions/{}", ann.id);
    eventually("it is detached", async || {
        get(&server, &path).await["detached"] == true
    })
    .await;
    let seen = get(&server, &path).await;
    assert_eq!(
        (&seen["transport"], &seen["state"]),
        (&json!("none"), &json!("waiting"))
    );
    time_of(&seen["detached_since"]);
    let waiting = &seen["waiting"];
    assert_eq!(
        (&waiting["parked"], &waiting["pools"][0]["place"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(waiting["pools"][0]["waiting"], 0);
    // What came meanwhile waits for it.
    ann.resume(Via::Polling).await.unwrap();
    assert_eq!(session(&server, &ann.id).await["transport"], "poll");
    let mut bob = Client::begin(&server, Via::WebSocket).await;
    bob.send(json!({"type": "find_match"})).await;
    bob.expect("match_found").await;
    bob.say("hello").await;
    bob.is_heard().await;
    let seen = session(&server, &ann.id).await;
    assert_eq!(seen["state"], "in_room");
    assert!(seen["outbox"]["messages"].as_u64().unwrap() >= 1, "{seen}");
    assert!(seen["outbox"]["bytes"].as_u64().unwrap() > 20, "{seen}");
}

#[tokio::test]
async fn sessions_are_found_by_user_and_listed_with_a_bound() {
    let folder = Folder::new("support-list");
    let (file, _) = folder.secret();
    let server = TestServer::start(&["--jwt-secret-file", &file]).await;
    let token = |user: &str| {
        Signer::Secret(SECRET).token(&claims_with(user, json!({"name": format!("Dear {user}")})))
    };
    let mut sessions = Vec::new();
    for (user, via) in [
        ("ann", Via::WebSocket),
        ("ann", Via::Polling),
        ("bob & co", Via::EventStream),
    ] {
        sessions.push(begin(&server, via, &token(user)).await);
    }
    let found = get(&server, "/support/sessions?user=ann").await;
    let mut ids: Vec<_> = found["sessions"].as_array().unwrap().iter().collect();
    ids.sort_by_key(|line| line["session"].as_str() != Some(&sessions[0].id));
    assert_eq!(ids.len(), 2, "{found}");
    assert_eq!(ids[0]["session"], sessions[0].id);
    assert_eq!(ids[1]["session"], sessions[1].id);
    assert_eq!(
        (&ids[0]["user"], &ids[0]["name"]),
        (&json!("ann"), &json!("Dear ann"))
    );
    assert_eq!(
        (&found["more"], &found["total"]),
        (&json!(false), &json!(3))
    );
    let bob = get(&server, "/support/sessions?user=bob%20%26%20co").await;
    assert_eq!(bob["sessions"][0]["session"], sessions[2].id);
    let none = get(&server, "/support/sessions?user=nobody").await;
    assert_eq!(none["sessions"], json!([]));
    let some = get(&server, "/support/sessions?limit=2").await;
    assert_eq!(some["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(some["more"], true);
    for limit in ["0", "501", "-1", "x", "99999999999999999999"] {
        let path = format!("/support/sessions?limit={limit}");
        assert_eq!(ask(&server, "GET", &path, "").await.status, 400, "{limit}");
    }
}

#[tokio::test]
async fn rooms_are_found_by_id_and_by_name() {
    let server = TestServer::start(&[]).await;
    let mut ann = User::connect(&server).await;
    let mut bob = User::connect(&server).await;
    ann.wait().await;
    bob.find().await;
    let room = bob.expect_match().await.room;
    let members = |seen: &Value| -> Vec<Value> {
        let members = seen["members"].as_array().unwrap().iter();
        members.map(|member| member["session"].clone()).collect()
    };
    let seen = get(&server, &format!("/support/rooms/{room}")).await;
    assert_eq!(members(&seen), [ann.id.as_str(), bob.id.as_str()]);
    assert_eq!((&seen["room"], &seen["name"]), (&json!(room), &Value::Null));
    time_of(&seen["since"]);
    let of_ann = session(&server, &ann.id).await;
    assert_eq!(of_ann["room"], seen);
    assert_eq!(of_ann["since"], seen["since"]);

    let mut carl = Client::begin(&server, Via::WebSocket).await;
    carl.send(json!({"type": "join_room", "room": "tea"})).await;
    let id = carl.expect("room_joined").await["room_id"].clone();
    let named = get(&server, "/support/named-rooms/tea").await;
    assert_eq!(members(&named), [carl.id.as_str()]);
    assert_eq!((&named["room"], &named["name"]), (&id, &json!("tea")));
    assert_eq!(named["members"][0]["n"], 0);
    let by_id = format!("/support/rooms/{}", id.as_str().unwrap());
    assert_eq!(get(&server, &by_id).await["members"], named["members"]);
    assert_eq!(session(&server, &carl.id).await["room"]["name"], "tea");

    bob.send(json!({"type": "leave_room"})).await;
    ann.expect_match().await;
    ann.expect_peer_left().await;
    for gone in [
        format!("/support/rooms/{room}"),
        "/support/named-rooms/milk".to_owned(),
    ] {
        assert_eq!(ask(&server, "GET", &gone, "").await.status, 404, "{gone}");
    }
}

#[tokio::test]
async fn an_operator_ends_a_session() {
    let server = TestServer::start(&[]).await;
    let (mut ann, mut bob) = pair(&server).await;
    let path = format!("/support/sessions/{}/disconnect", ann.id);
    let done = ask(&server, "POST", &path, "").await;
    assert_eq!(
        done.json(),
        json!({"session": ann.id, "disconnected": true})
    );
    assert_eq!(ann.expect_close().await, 4506);
    assert_eq!(bob.expect_peer_left().await, "disconnected");
    server
        .reaches("sessions_closed_total", r#"reason="disconnected""#, 1.0)
        .await;
    let seen = ask(&server, "GET", &format!("/support/sessions/{}", ann.id), "").await;
    assert_eq!(seen.status, 404);
    assert_eq!(ask(&server, "POST", &path, "").await.status, 404);
    // One that would outlive its connection does not come back.
    for via in Via::ALL {
        let mut carl = Client::begin(&server, via).await;
        let path = format!("/support/sessions/{}/disconnect", carl.id);
        assert_eq!(ask(&server, "POST", &path, "").await.status, 200);
        assert_eq!(carl.end().await, End::Closed(Some(4506)), "{via:?}");
        carl.cut();
        let back = carl.resume(Via::EventStream).await;
        assert_eq!(back, Err(End::Closed(Some(401))), "{via:?}");
    }
    bob.is_undisturbed().await;
}

#[tokio::test]
async fn why_sessions_end() {
    let server = TestServer::start(&[]).await;
    for _ in 0..3 {
        User::connect(&server).await.close().await;
    }
    let user = User::connect(&server).await;
    let path = format!("/support/sessions/{}/disconnect", user.id);
    ask(&server, "POST", &path, "").await;
    let label = r#"reason="disconnected""#;
    server.reaches("sessions_closed_total", label, 1.0).await;
    server
        .reaches("sessions_closed_total", r#"reason="closed""#, 3.0)
        .await;
    let closes = get(&server, "/support/closes").await;
    let reasons = closes["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 2, "{closes}");
    assert_eq!(
        reasons[0],
        json!({"reason": "closed", "total": 3, "recent": 3})
    );
    assert_eq!(reasons[1]["reason"], "disconnected");
    assert!(closes["recent_seconds"].as_u64().unwrap() <= 600);
}
