//! Answers for support at the admin address: who is where and why, ending a session, keeping users out, and who may ask.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::support::{
    Client, End, TestServer, User, Via, eventually,
    http::{self, Response},
    jwt::{Folder, SECRET, Signer, begin, claims, claims_with, openssl},
    pair, run,
};

const TOKEN: &str = "an-operator's-token-of-thirty-two-bytes-or-more";

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
async fn an_operator_shows_the_token_and_nobody_else_is_answered() {
    let folder = Folder::new("support-token");
    let file = folder.write("token", &format!("{TOKEN}\n"));
    let flags = ["--admin-token-file", &file];
    for admin in ["127.0.0.1:0", "0.0.0.0:0"] {
        let server = TestServer::start_with_admin(admin, &flags).await;
        let bearer = format!("Authorization: bearer {TOKEN}\r\n");
        for (shown, status, code) in [
            ("", 401, "token_missing"),
            ("Authorization: Basic YTpi\r\n", 401, "token_missing"),
            ("Authorization: Bearer\r\n", 401, "token_missing"),
            ("Authorization: Bearer x\r\n", 401, "token_invalid"),
            (&bearer.replace("more", "most"), 401, "token_invalid"),
            (&bearer, 200, ""),
        ] {
            let answer = ask_with(&server, "GET", "/support/sessions", shown, "").await;
            assert_eq!(answer.status, status, "{shown}");
            if status != 200 {
                assert_eq!(answer.json()["code"], code, "{shown}");
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(challenge.starts_with("Bearer"), "{challenge}");
            }
        }
        let new = r#"{"user":"ann","seconds":60}"#;
        let answer = ask(&server, "POST", "/support/bans", new).await;
        assert_eq!(answer.status, 401);
        for free in ["/", "/livez", "/readyz", "/metrics"] {
            assert_eq!(server.admin(free).await.status, 200, "{free}");
        }
        // Profilers send no token, so that an address of this machine alone asks for none.
        let status = if admin.starts_with("127.") { 200 } else { 401 };
        assert_eq!(server.admin("/debug/pprof/").await.status, status);
        assert_eq!(server.admin("/debug/pprof/heap").await.status, status);
        // Another token in the file, and one that cannot be used, which changes nothing.
        let other = TOKEN.replace("more", "else");
        folder.write("token", &other);
        eventually("the new token is known", async || {
            let shown = format!("Authorization: Bearer {other}\r\n");
            ask_with(&server, "GET", "/support/bans", &shown, "")
                .await
                .status
                == 200
        })
        .await;
        let answer = ask_with(&server, "GET", "/support/bans", &bearer, "").await;
        assert_eq!(answer.status, 401);
        let said = server.process.stderr().join("\n");
        assert!(!said.contains(&other), "{said}");
        folder.write("token", TOKEN);
    }
    let weak = folder.write("weak", "secret");
    let (code, said) = run(&["--admin-token-file", &weak]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("openssl rand -hex 32"), "{said}");
    let (code, said) = run(&["--admin-token-file", "/nowhere"]).await;
    assert!(code == Some(2) && said.contains("/nowhere"), "{said}");
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_answered() {
    let server = TestServer::start_with_admin("0.0.0.0:0", &[]).await;
    for (method, path) in [
        ("GET", "/support/sessions"),
        ("POST", "/support/bans"),
        ("GET", "/support/openapi.json"),
        ("GET", "/debug/pprof/"),
        ("GET", "/debug/pprof/heap"),
    ] {
        let answer = ask(&server, method, path, "").await;
        assert_eq!(answer.status, 403, "{path}");
        assert_eq!(answer.json()["code"], "support_off");
        assert!(answer.text().contains("--admin-token-file"));
    }
    for free in ["/", "/livez", "/readyz", "/metrics"] {
        assert_eq!(server.admin(free).await.status, 200, "{free}");
    }
    let said = server.process.stderr().join("\n");
    assert!(said.contains("/support and /debug answer nobody"), "{said}");
}

#[tokio::test]
async fn a_page_of_another_site_can_do_nothing() {
    let server = TestServer::start(&["--admin-host", "Voice.internal"]).await;
    let user = User::connect(&server).await;
    let path = format!("/support/sessions/{}/disconnect", user.id);
    let asked = |host: &str, more: &str| {
        let text = format!(
            "POST {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: 0\r\n{more}\r\n"
        );
        let admin = server.admin;
        async move { http::exchange(admin, &text).await }
    };
    let own = format!("Host: {}\r\n", server.admin);
    let port = server.admin.port();
    for (host, more) in [
        (own.as_str(), "Origin: https://evil.example\r\n".to_owned()),
        (&own, "Origin: null\r\n".to_owned()),
        (&own, format!("Origin: http://127.0.0.1:{}\r\n", port ^ 1)),
        (&own, "Sec-Fetch-Site: cross-site\r\n".to_owned()),
        (&own, "Sec-Fetch-Site: same-site\r\n".to_owned()),
        // The name of the page leads here.
        ("Host: evil.example\r\n", String::new()),
        (
            "Host: evil.example\r\n",
            "Origin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n".to_owned(),
        ),
        ("Host: 127.0.0.1.evil.example\r\n", String::new()),
        ("Host: localhost.evil.example\r\n", String::new()),
        ("Host: voice.internal.evil.example\r\n", String::new()),
        ("Host: localhost\r\nHost: evil.example\r\n", String::new()),
        ("Host:\r\n", String::new()),
        ("", String::new()),
    ] {
        let answer = asked(host, &more).await;
        assert_eq!(answer.status, 403, "{host}{more}");
        let code = answer.json()["code"].clone();
        assert!(
            code == "origin_not_allowed" || code == "host_not_allowed",
            "{code}"
        );
    }
    assert_eq!(session(&server, &user.id).await["state"], "idle");
    for host in [
        own.as_str(),
        "Host: localhost\r\n",
        "Host: [::1]:6060\r\n",
        "Host: voice.internal:6060\r\n",
    ] {
        let text = format!("GET /support/bans HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let answer = http::exchange(server.admin, &text).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    let page = format!("Origin: http://localhost:{port}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(asked(&own, &page).await.status, 200);
    // Probes and Prometheus ask by whatever name they like.
    let probe = "GET /readyz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(http::exchange(server.admin, probe).await.status, 200);
}

#[tokio::test]
async fn whatever_is_sent_is_answered_with_a_refusal() {
    let server = TestServer::start(&[]).await;
    let long = "a".repeat(7000);
    let unknown = "0123456789abcdef";
    for (method, path, status) in [
        ("GET", "/support/sessions/x".to_owned(), 400),
        ("GET", format!("/support/sessions/{long}"), 400),
        ("GET", format!("/support/sessions/{unknown}"), 404),
        ("GET", format!("/support/sessions/{unknown}0"), 400),
        ("GET", "/support/sessions/%ff%fe".to_owned(), 400),
        ("GET", "/support/sessions/%2e%2e%2fmetrics".to_owned(), 400),
        ("GET", "/support/sessions/".to_owned(), 404),
        (
            "POST",
            format!("/support/sessions/{unknown}/disconnect"),
            404,
        ),
        ("POST", "/support/sessions/x/disconnect".to_owned(), 400),
        ("GET", format!("/support/rooms/{long}"), 400),
        ("GET", format!("/support/named-rooms/{long}"), 404),
        ("GET", "/support/named-rooms/a%20b".to_owned(), 404),
        ("DELETE", "/support/bans/0".to_owned(), 404),
        ("DELETE", "/support/bans/-1".to_owned(), 400),
        (
            "DELETE",
            "/support/bans/99999999999999999999999".to_owned(),
            400,
        ),
        ("GET", "/support/bans?address=x".to_owned(), 400),
        ("DELETE", "/support/bans".to_owned(), 405),
        ("PUT", "/support/sessions".to_owned(), 405),
        (
            "GET",
            format!("/support/sessions/{unknown}/disconnect"),
            405,
        ),
        ("POST", "/livez".to_owned(), 405),
    ] {
        let answer = ask(&server, method, &path, "").await;
        assert_eq!(answer.status, status, "{method} {path:.60}");
        assert!(answer.json()["error"].as_str().unwrap().len() < 300);
        assert_eq!(
            answer.header("allow").is_some(),
            status == 405,
            "{path:.60}"
        );
    }
    let fits = r#"{"user":"ann","seconds":60}"#;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let user = |length: usize| json!({"user": "a".repeat(length), "seconds": 60}).to_string();
    for (body, status) in [
        ("", 415),
        ("x", 400),
        ("{}", 400),
        (deep.as_str(), 400),
        (r#"{"user":"ann"}"#, 400),
        (r#"{"seconds":60}"#, 400),
        (r#"{"user":"ann","address":"10.0.0.1","seconds":60}"#, 400),
        (r#"{"user":"","seconds":60}"#, 400),
        (r#"{"user":"ann","seconds":0}"#, 400),
        (r#"{"user":"ann","seconds":-1}"#, 400),
        (r#"{"user":"ann","seconds":1e9}"#, 400),
        (r#"{"user":"ann","seconds":31536001}"#, 400),
        (r#"{"user":"ann","seconds":60,"more":1}"#, 400),
        (r#"{"address":"0.0.0.0/0","seconds":60}"#, 400),
        (r#"{"address":"::/0","seconds":60}"#, 400),
        (r#"{"address":"evil.example","seconds":60}"#, 400),
        (&user(129), 400),
        (&user(20_000), 413),
    ] {
        let answer = ask(&server, "POST", "/support/bans", body).await;
        assert_eq!(answer.status, status, "{body:.60}");
        assert!(answer.json()["error"].as_str().unwrap().len() < 400);
    }
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n";
    let answer = http::request_with_body(server.admin, "POST", "/support/bans", form, "user=an");
    assert_eq!(answer.await.status, 415);
    // A body that does not say how long it is may not be longer either.
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 20_000, "a".repeat(20_000));
    let head = "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n";
    let answer = http::request_with_body(server.admin, "POST", "/support/bans", head, &chunk);
    assert_eq!(answer.await.status, 413);
    let answer = ask(&server, "POST", "/support/bans", fits).await;
    assert_eq!(
        (
            answer.status,
            get(&server, "/support/bans").await["total"].clone()
        ),
        (201, json!(1))
    );
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

#[tokio::test]
async fn the_status_page_is_whole_in_itself_and_shows_no_user() {
    let folder = Folder::new("support-page");
    let (file, _) = folder.secret();
    let server = TestServer::start(&["--jwt-secret-file", &file]).await;
    let token = Signer::Secret(SECRET).token(&claims_with("ann-7", json!({"name": "Dear Ann"})));
    let mut ann = begin(&server, Via::WebSocket, &token).await;
    ann.send(json!({"type": "find_match", "criteria": {"language": "tlh"}}))
        .await;
    ann.expect("waiting").await;
    server.public("/poll?wait=0").await;
    let page = server.admin("/").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let text = page.text();
    for shown in [
        env!("CARGO_PKG_VERSION"),
        "ready",
        "matches a second",
        "p99",
        "descriptors",
        "token_missing",
        r#"href="/metrics""#,
        r#"href="/support/openapi.json""#,
        r#"http-equiv="refresh""#,
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    for hidden in [
        "ann-7",
        "Dear Ann",
        "tlh",
        &ann.id,
        "127.0.0.1",
        SECRET,
        "<script",
        "src=",
    ] {
        assert!(!text.contains(hidden), "{hidden}");
    }
    let style = text.split("<style>").nth(1).unwrap();
    let style = style.split("</style>").next().unwrap();
    let hash = BASE64.encode(openssl(&["dgst", "-sha256", "-binary"], style.as_bytes()));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(
        policy.contains(&format!("style-src 'sha256-{hash}'")),
        "{policy}"
    );
    let head = http::request(server.admin, "HEAD", "/", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn the_description_names_every_path_and_each_asks_for_the_token() {
    let folder = Folder::new("support-openapi");
    let file = folder.write("token", TOKEN);
    let server = TestServer::start(&["--admin-token-file", &file]).await;
    let shown = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = ask_with(&server, "GET", "/support/openapi.json", &shown, "").await;
    let api = answer.json();
    assert!(
        api["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        api["openapi"]
    );
    let mut operations = String::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let _ = writeln!(operations, "{method} {path}");
            let is_guarded = path.starts_with("/support");
            assert_eq!(
                operation.get("security").is_some(),
                is_guarded,
                "{method} {path}"
            );
            if is_guarded {
                let asked = path
                    .replace("{id}", "0123456789abcdef")
                    .replace("{name}", "tea");
                let method = method.to_uppercase();
                let answer = ask(&server, &method, &asked, "").await;
                assert_eq!(answer.status, 401, "{method} {path}");
            }
        }
    }
    for operation in [
        "get /\n",
        "get /livez\n",
        "get /metrics\n",
        "get /support/sessions\n",
        "get /support/sessions/{id}\n",
        "post /support/sessions/{id}/disconnect\n",
        "get /support/rooms/{id}\n",
        "get /support/named-rooms/{name}\n",
        "get /support/bans\n",
        "post /support/bans\n",
        "delete /support/bans/{id}\n",
        "get /support/closes\n",
    ] {
        assert!(operations.contains(operation), "{operation}: {operations}");
    }
}
