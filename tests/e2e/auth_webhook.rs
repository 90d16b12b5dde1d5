//! The app itself says who may come in, when it is asked.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{
    Client, End, TestServer, Via,
    app::App,
    binary, eventually, http,
    jwt::{begin, in_seconds},
};

async fn server_with(app: &App, more: &[&str]) -> TestServer {
    TestServer::start(&[&["--auth-webhook", &app.url()], more].concat()).await
}

/// Lets in whose token is their name and begins with a letter.
fn by_name(asked: &Value) -> (u16, String) {
    let name = asked["token"].as_str().unwrap_or_default();
    match name.starts_with(char::is_alphabetic) {
        true => (200, json!({"sub": name, "name": name}).to_string()),
        false => (403, String::new()),
    }
}

/// The status and the code of the answer to who begins a session like this.
async fn begins(server: &TestServer, path: &str, headers: &str) -> (u16, String) {
    let response = http::request(server.public, "GET", path, headers).await;
    let code = match response.status {
        200 => String::new(),
        _ => response.json()["code"].as_str().unwrap().to_owned(),
    };
    (response.status, code)
}

#[tokio::test]
async fn the_app_says_who_comes_in_over_each_transport() {
    let app = App::start(by_name).await;
    let server = server_with(&app, &[]).await;
    for via in Via::ALL {
        let path = match via {
            Via::WebSocket => "/ws?resume=1&access_token=ann",
            Via::EventStream => "/events?access_token=ann",
            Via::Polling => "/poll?wait=5&access_token=ann",
        };
        let mut user = Client::begin_with(&server, via, path).await;
        user.send(json!({"type": "join_room", "room": "tea"})).await;
        let joined = user.expect("room_joined").await;
        assert_eq!(joined["members"], json!([]));
        let mut other = begin(&server, Via::WebSocket, "a.b.c").await;
        other
            .send(json!({"type": "join_room", "room": "tea"}))
            .await;
        let joined = other.expect("room_joined").await;
        assert_eq!(joined["members"][0]["name"], "ann", "{via:?}");
        user.write(&json!({"type": "leave"})).await;
        other.expect("peer_left").await;
        other.write(&json!({"type": "leave"})).await;
        other.end().await;
    }
    let refused = begins(&server, "/poll?access_token=1", "").await;
    assert_eq!(refused, (401, "token_invalid".to_owned()));
    let missing = begins(&server, "/poll", "").await;
    assert_eq!(missing, (401, "token_missing".to_owned()));
    let asked = app.asked();
    let ann = json!({"token": "ann", "cookie": null, "origin": null, "address": "127.0.0.1"});
    assert_eq!(asked[0], ann);
    let times = asked.iter().filter(|asked| **asked == ann).count();
    assert_eq!(times, 1, "the answer is remembered");
}

#[tokio::test]
async fn the_app_sees_the_cookies_of_its_pages() {
    let app = App::start(|asked| match asked["cookie"].as_str() {
        Some("session=ann") => (200, json!({"sub": "ann"}).to_string()),
        _ => (401, String::new()),
    })
    .await;
    let server = server_with(&app, &["--allowed-origin", "https://app.example"]).await;
    let page = "Origin: https://app.example\r\nCookie: session=";
    let admitted = begins(&server, "/poll?wait=0", &format!("{page}ann\r\n")).await;
    assert_eq!(admitted.0, 200);
    let refused = begins(&server, "/poll?wait=0", &format!("{page}bob\r\n")).await;
    assert_eq!(refused.0, 401);
    assert_eq!(app.asked()[0]["origin"], "https://app.example");
    // Other pages cannot use the cookies.
    let strange = "Origin: https://other.example\r\nCookie: session=ann\r\n";
    let refused = begins(&server, "/poll?wait=0", strange).await;
    assert_eq!(refused, (403, "origin_not_allowed".to_owned()));
    assert_eq!(app.asked().len(), 2);
}

#[tokio::test]
async fn nobody_comes_in_when_the_app_does_not_answer() {
    let app = App::start(by_name).await;
    let flags = [
        "--auth-webhook-timeout",
        "200ms",
        "--auth-webhook-remember",
        "1s",
    ];
    let server = server_with(&app, &flags).await;
    let mut ann = begin(&server, Via::WebSocket, "a.n.n").await;
    let unavailable = (503, "auth_unavailable".to_owned());
    for (n, answer) in [
        (500, ""),
        (0, ""),
        (200, "hello"),
        (200, r#"{"sub":7}"#),
        (200, "[]"),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, body) = (answer.0, answer.1.to_owned());
        app.answers(move |_| (status, body.clone()));
        let path = format!("/poll?wait=0&access_token=user{n}");
        assert_eq!(begins(&server, &path, "").await, unavailable, "{answer:?}");
    }
    let address = app.address();
    drop(app);
    let path = "/poll?wait=0&access_token=nobody";
    assert_eq!(begins(&server, path, "").await, unavailable);
    let failed = server
        .metric("auth_webhook_total", r#"result="failed""#)
        .await;
    assert_eq!(failed, 6.0);
    // Who is in stays.
    ann.is_heard().await;
    let said = server.process.stderr().join("\n");
    assert_eq!(said.matches("whether a user may come in").count(), 1);
    let _app = App::start_at(address, by_name).await;
    assert_eq!(begins(&server, path, "").await.0, 200);
}

#[tokio::test]
async fn a_session_ends_when_the_app_has_said_and_can_be_renewed() {
    let app = App::start(|asked| {
        let ttl = if asked["token"] == "new" { 600 } else { 3 };
        let sub = if asked["token"] == "b.o.b" {
            "bob"
        } else {
            "ann"
        };
        let claims = json!({"sub": sub, "exp": in_seconds(ttl)});
        (200, claims.to_string())
    })
    .await;
    let server = server_with(&app, &[]).await;
    let mut left = begin(&server, Via::WebSocket, "a.n.n").await;
    let mut renewed = begin(&server, Via::EventStream, "a.n.n").await;
    let renew = |token: &str| json!({"type": "renew_token", "token": token, "id": token});
    renewed.send(renew("b.o.b")).await;
    let error = loop {
        let message = renewed.next().await.unwrap();
        if message["type"] != "token_expiring" {
            break message;
        }
    };
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("token_refused"), &json!("b.o.b"))
    );
    renewed.send(renew("new")).await;
    while renewed.next().await.unwrap()["type"] != "ack" {}
    left.expect("token_expiring").await;
    assert_eq!(left.end().await, End::Closed(Some(4505)));
    renewed.is_heard().await;
}

#[tokio::test]
async fn a_renewal_that_could_not_be_checked_is_asked_for_again() {
    let app = App::start(|asked| match asked["token"].as_str() {
        Some("a.n.n") => (200, json!({"sub": "ann", "exp": in_seconds(5)}).to_string()),
        _ => (500, String::new()),
    })
    .await;
    let server = server_with(&app, &[]).await;
    let mut ann = begin(&server, Via::Polling, "a.n.n").await;
    let renew = json!({"type": "renew_token", "token": "new", "id": 1});
    ann.expect("token_expiring").await;
    ann.send(renew.clone()).await;
    let error = ann.expect("error").await;
    assert_eq!(
        (&error["code"], &error["temporary"]),
        (&json!("token_refused"), &json!(true))
    );
    app.answers(|_| (200, json!({"sub": "ann"}).to_string()));
    ann.expect("token_expiring").await;
    ann.send(renew).await;
    ann.expect("ack").await;
    assert_eq!(app.asked()[1]["address"], "127.0.0.1");
}

#[tokio::test]
async fn renewals_too_leave_places_to_other_addresses() {
    let app = App::start(by_name).await;
    let server = server_with(&app, &["--auth-webhook-timeout", "30s"]).await;
    let mut users = Vec::new();
    for _ in 0..40 {
        users.push(begin(&server, Via::WebSocket, "a.n.n").await);
    }
    app.answers(|_| (0, String::new()));
    for (n, user) in users.iter_mut().enumerate() {
        user.send(json!({"type": "renew_token", "token": format!("{n}")}))
            .await;
    }
    let busy = r#"result="busy""#;
    server.reaches("auth_webhook_total", busy, 8.0).await;
}

#[tokio::test]
async fn an_app_that_fails_with_some_users_does_not_fill_the_log() {
    let app = App::start(|asked| match asked["token"].as_str() {
        Some(name) if name.starts_with("bad") => (500, String::new()),
        _ => by_name(asked),
    })
    .await;
    let server = server_with(&app, &[]).await;
    for n in 0..20 {
        for (name, status) in [("bad", 503), ("good", 200)] {
            let path = format!("/poll?wait=0&access_token={name}{n}");
            assert_eq!(begins(&server, &path, "").await.0, status);
        }
    }
    let said = server.process.stderr().join("\n");
    assert_eq!(said.matches("may come in").count(), 2, "{said}");
}

#[tokio::test]
async fn the_app_is_told_of_ipv4_users_as_such_at_any_listener() {
    let app = App::start(by_name).await;
    let url = app.url();
    let server = TestServer::start_command(binary(), ":0", &["--auth-webhook", &url]).await;
    let address = ([127, 0, 0, 1], server.public.port()).into();
    let answer = http::get(address, "/poll?wait=0&access_token=ann").await;
    assert_eq!(answer.status, 200);
    assert_eq!(app.asked()[0]["address"], "127.0.0.1");
}

#[tokio::test]
async fn what_the_app_says_amiss_of_one_user_is_that_users_trouble() {
    let app = App::start(|asked| match asked["token"].as_str() {
        Some("long") => (200, json!({"sub": "a", "name": "x".repeat(65)}).to_string()),
        _ => (200, json!({"sub": "a", "exp": 1e300}).to_string()),
    })
    .await;
    let server = server_with(&app, &[]).await;
    let path = "/poll?wait=0&access_token=long";
    let response = http::request(server.public, "GET", path, "").await;
    assert_eq!(response.status, 401);
    assert!(response.text().contains("name"), "{}", response.text());
    let path = "/poll?wait=0&access_token=ever";
    assert_eq!(begins(&server, path, "").await.0, 200);
    let said = server.process.stderr().join("\n");
    assert!(!said.contains("whether a user may"), "{said}");
}

#[tokio::test]
async fn cookies_come_whole() {
    let app = App::start(|asked| match asked["cookie"].as_str() {
        Some(cookie) if cookie.contains("session=ann") => (200, json!({"sub": "ann"}).to_string()),
        _ => (401, String::new()),
    })
    .await;
    let server = server_with(&app, &[]).await;
    for lines in [
        "Cookie: name=Jos\u{e9}; session=ann\r\n",
        "Cookie: first=1\r\nCookie: session=ann\r\n",
    ] {
        assert_eq!(
            begins(&server, "/poll?wait=0", lines).await.0,
            200,
            "{lines}"
        );
    }
}

#[tokio::test]
async fn who_leaves_is_asked_about_no_more_and_one_address_leaves_places_to_others() {
    let app = App::start(|_| (0, String::new())).await;
    let flags = [
        "--auth-webhook-timeout",
        "30s",
        "--trusted-proxy",
        "127.0.0.1",
    ];
    let server = server_with(&app, &flags).await;
    let mut held = Vec::new();
    for n in 0..40 {
        let mut socket = TcpStream::connect(server.public).await.unwrap();
        // One user has a whole network of IPv6.
        let claim = format!("X-Forwarded-For: 2001:db8::{n:x}");
        let request = format!("GET /poll?access_token={n} HTTP/1.1\r\nHost: x\r\n{claim}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        held.push(socket);
    }
    let busy = r#"result="busy""#;
    server.reaches("auth_webhook_total", busy, 8.0).await;
    eventually("the app is asked", async || app.asked().len() == 32).await;
    app.answers(by_name);
    drop(held);
    let abandoned = r#"result="abandoned""#;
    server.reaches("auth_webhook_total", abandoned, 32.0).await;
    server.reaches("connections_open", "", 0.0).await;
    assert_eq!(
        begins(&server, "/poll?wait=0&access_token=ann", "").await.0,
        200
    );
}

#[tokio::test]
async fn one_token_at_a_time_is_renewed() {
    let app = App::start(by_name).await;
    let server = server_with(&app, &["--auth-webhook-timeout", "2s"]).await;
    let mut user = begin(&server, Via::WebSocket, "a.n.n").await;
    app.answers(|_| (0, String::new()));
    for _ in 0..3 {
        user.send(json!({"type": "renew_token", "token": "x"}))
            .await;
    }
    for expected in ["another token", "another token", "try again later"] {
        let error = user.expect("error").await;
        assert_eq!(error["code"], "token_refused");
        assert!(
            error["message"].as_str().unwrap().contains(expected),
            "{error}"
        );
    }
}

#[tokio::test]
async fn made_up_tokens_do_not_drive_out_what_is_remembered() {
    let app = App::start(by_name).await;
    let server = server_with(&app, &["--auth-webhook-remember", "1h"]).await;
    let ann = "/poll?wait=0&access_token=ann";
    assert_eq!(begins(&server, ann, "").await.0, 200);
    let mut connection = BufReader::new(TcpStream::connect(server.public).await.unwrap());
    for n in 0..10_100 {
        let request = format!("GET /poll?access_token={n} HTTP/1.1\r\nHost: x\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        http::read_response(&mut connection, true).await;
    }
    let before = app.asked().len();
    assert_eq!(begins(&server, ann, "").await.0, 200);
    assert_eq!(app.asked().len(), before);
    assert_eq!(
        begins(&server, "/poll?wait=0&access_token=bob", "").await.0,
        200
    );
    assert_eq!(
        begins(&server, "/poll?wait=0&access_token=bob", "").await.0,
        200
    );
    assert_eq!(app.asked().len(), before + 1);
}

#[tokio::test]
async fn what_is_remembered_is_forgotten_in_time() {
    let app = App::start(by_name).await;
    let server = server_with(&app, &["--auth-webhook-remember", "3s"]).await;
    let path = "/poll?wait=0&access_token=ann";
    let admitted = (200, String::new());
    let refused = (401, "token_invalid".to_owned());
    let mut since = Instant::now();
    assert_eq!(begins(&server, path, "").await, admitted);
    // The app changes its mind twice: a refusal is remembered like an admission.
    for (before, after) in [(&admitted, &refused), (&refused, &admitted)] {
        match after.0 {
            200 => app.answers(by_name),
            _ => app.answers(|_| (403, String::new())),
        }
        let asked = app.asked().len();
        assert_eq!(&begins(&server, path, "").await, before);
        assert_eq!(app.asked().len(), asked, "the app was asked again");
        eventually("the answer is forgotten", async || {
            &begins(&server, path, "").await == after
        })
        .await;
        assert_eq!(app.asked().len(), asked + 1, "and not asked once");
        let age = since.elapsed();
        assert!(age > Duration::from_secs(2), "{age:?}");
        since = Instant::now();
    }
}
