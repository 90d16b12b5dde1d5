//! Who may come in: users with a token of the app, over each transport.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    support::{
        End, Process, TestServer, User, Via, binary, http,
        jwt::{Folder, SECRET, Signer, begin, claims, claims_with, in_seconds},
        run,
    },
    support_api::session,
};

fn token(user: &str) -> String {
    Signer::Secret(SECRET).token(&claims(user))
}

async fn server_with(folder: &Folder, more: &[&str]) -> TestServer {
    let (file, _) = folder.secret();
    let flags = ["--jwt-secret-file", &file, "--jwt-leeway", "0s"];
    TestServer::start(&[&flags[..], more].concat()).await
}

/// The answer to who begins a session over each transport with these header lines.
async fn answers(server: &TestServer, query: &str, headers: &str) -> Vec<(u16, String)> {
    let upgrade = format!(
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}"
    );
    let mut answers = Vec::new();
    for (path, headers) in [
        ("/ws", upgrade.as_str()),
        ("/events", headers),
        ("/poll", headers),
    ] {
        let request = format!(
            "GET {path}?wait=0{query} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n{headers}\r\n"
        );
        let response = http::exchange(server.public, &request).await;
        let code = match response.status {
            401 => response.json()["code"].as_str().unwrap().to_owned(),
            _ => String::new(),
        };
        answers.push((response.status, code));
    }
    answers
}

#[tokio::test]
async fn a_session_begins_only_with_a_token() {
    let folder = Folder::new("begin");
    let server = server_with(&folder, &[]).await;
    let good = token("ann");
    let expired = Signer::Secret(SECRET).token(&json!({"sub": "ann", "exp": in_seconds(-5)}));
    let forged = Signer::Secret("another secret").token(&claims("ann"));
    let odd = |claim: &str, value: Value| {
        Signer::Secret(SECRET).token(&claims_with("ann", json!({claim: value})))
    };
    let refused = |code: &str| vec![(401, code.to_owned()); 3];
    let accepted: Vec<_> = [101, 200, 200].map(|status| (status, String::new())).into();
    assert_eq!(answers(&server, "", "").await, refused("token_missing"));
    for (token, expected) in [
        (&good, &accepted),
        (&expired, &refused("token_expired")),
        (&forged, &refused("token_invalid")),
        (&"a.b.c".to_owned(), &refused("token_invalid")),
        (&odd("aud", json!(7)), &refused("token_invalid")),
        (
            &odd("aud", json!(["voicematch", 7])),
            &refused("token_invalid"),
        ),
        (&odd("nbf", json!(-1)), &refused("token_invalid")),
    ] {
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let offer = format!("Sec-WebSocket-Protocol: voicematch.1, token.{token}\r\n");
        assert_eq!(&answers(&server, "", &bearer).await, expected);
        assert_eq!(&answers(&server, "", &offer).await, expected);
        for name in ["token", "access_token"] {
            let query = format!("&{name}={token}");
            assert_eq!(&answers(&server, &query, "").await, expected);
        }
    }
    let refusals = server.metric("connections_refused_total", r#"reason="token_expired""#);
    assert_eq!(refusals.await, 12.0);
    // Who has a session needs no token to carry it on.
    for via in Via::ALL {
        let mut user = begin(&server, via, &good).await;
        user.cut();
        user.resume(Via::WebSocket).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_is_never_logged() {
    let folder = Folder::new("log");
    let mut server = server_with(&folder, &["--log", "trace"]).await;
    let good = token("ann");
    for via in Via::ALL {
        begin(&server, via, &good).await.cut();
    }
    for token in [good.clone(), format!("{good}x")] {
        answers(&server, &format!("&token={token}"), "").await;
        let bearer = format!("Authorization: Bearer {token}\r\n");
        answers(&server, "", &bearer).await;
        let offer = format!("Sec-WebSocket-Protocol: voicematch.1, token.{token}\r\n");
        answers(&server, "", &offer).await;
    }
    // The log is whole when the server has ended.
    server.process.signal(Signal::TERM);
    server.process.exit_code().await;
    let said = server.process.stderr().join("\n");
    assert!(said.contains("stopped") && !said.contains(&good), "{said}");
}

#[tokio::test]
async fn a_token_is_for_this_server_and_by_this_app() {
    let folder = Folder::new("audience");
    let server = server_with(&folder, &["--jwt-issuer", "app"]).await;
    let cases = [
        (json!({"iss": "app"}), 200),
        (json!({"iss": "app", "aud": "voicematch"}), 200),
        (json!({"iss": "app", "aud": ["other", "voicematch"]}), 200),
        (json!({"iss": "app", "aud": "other"}), 401),
        (json!({"iss": "other"}), 401),
        (json!({}), 401),
        (json!({"iss": "app", "nbf": in_seconds(3000)}), 401),
        (json!({"iss": "app", "exp": null}), 401),
        (json!({"iss": "app", "exp": 1e12}), 200),
        (json!({"iss": "app", "exp": 1e300}), 401),
        (json!({"iss": "app", "sub": ""}), 401),
        (json!({"iss": "app", "voicematch": {"room": []}}), 401),
        (json!({"iss": "app", "voicematch": {"rooms": ["a b"]}}), 401),
        (json!({"iss": "app", "name": "x".repeat(65)}), 401),
    ];
    for (more, status) in cases {
        let token = Signer::Secret(SECRET).token(&claims_with("ann", more.clone()));
        let path = format!("/poll?wait=0&token={token}");
        assert_eq!(server.public(&path).await.status, status, "{more}");
    }
}

#[tokio::test]
async fn what_a_user_may_do_stands_in_the_token() {
    let folder = Folder::new("grants");
    let server = server_with(&folder, &[]).await;
    let grant = |user: &str, name: &str, grant: Value| {
        let claims = claims_with(user, json!({"name": name, "voicematch": grant}));
        Signer::Secret(SECRET).token(&claims)
    };
    let limited = json!({
        "roles": ["host", "beta"], "rooms": ["tea", "team-*"], "criteria": {"language": "en"},
        "max_messages_per_second": 7, "message_burst": 9,
    });
    let mut ann = begin(&server, Via::WebSocket, &grant("ann", "Ann", limited)).await;
    let roles = &session(&server, &ann.id).await["roles"];
    assert_eq!(roles, &json!(["host", "beta"]));
    assert_eq!(ann.first["limits"]["max_messages_per_second"], 7);
    assert_eq!(ann.first["limits"]["message_burst"], 9);
    ann.send(json!({"type": "join_room", "room": "milk"})).await;
    assert_eq!(ann.expect("error").await["code"], "not_allowed");
    ann.send(json!({"type": "join_room", "room": "team-7"}))
        .await;
    ann.expect("room_joined").await;
    // A room that the first request names is asked for in the same way.
    let eve = grant("eve", "Eve", json!({"rooms": ["tea"]}));
    for (room, answer) in [("milk", "not_allowed"), ("tea", "room_joined")] {
        for asked in ["/poll?wait=0&join=", "/chat/poll?wait=0&thread_id="] {
            let asked = format!("{asked}{room}&access_token={eve}");
            let answered = server.public(&asked).await.text().to_owned();
            assert!(answered.contains(answer), "{asked}: {answered}");
        }
    }
    let only_rooms = json!({"find_match": false});
    let mut bob = begin(&server, Via::EventStream, &grant("bob", "Bob", only_rooms)).await;
    bob.send(json!({"type": "find_match"})).await;
    assert_eq!(bob.expect("error").await["code"], "not_allowed");
    bob.send(json!({"type": "join_room", "room": "team-7"}))
        .await;
    assert_eq!(bob.expect("room_joined").await["members"][0]["name"], "Ann");
    assert_eq!(ann.expect("peer_joined").await["name"], "Bob");
    ann.send(json!({"type": "leave_room", "id": 1})).await;
    ann.expect("ack").await;
    // The app's criteria win: both speak English, whatever Ann says.
    ann.send(json!({"type": "find_match", "criteria": {"language": "de"}}))
        .await;
    ann.expect("waiting").await;
    let mut carl = begin(&server, Via::Polling, &grant("carl", "Carl", json!({}))).await;
    assert_eq!(session(&server, &carl.id).await["roles"], json!([]));
    carl.send(json!({"type": "find_match", "criteria": {"language": "en"}}))
        .await;
    assert_eq!(carl.expect("match_found").await["peer_name"], "Ann");
    assert_eq!(ann.expect("match_found").await["peer_name"], "Carl");
}

#[tokio::test]
async fn the_limit_in_a_token_is_the_users() {
    let folder = Folder::new("limited");
    let server = server_with(&folder, &[]).await;
    let few = json!({"voicematch": {"max_messages_per_second": 1, "message_burst": 9}});
    let token = Signer::Secret(SECRET).token(&claims_with("ann", few));
    let path = format!("/ws?token={token}");
    let mut ann = User::connect_to(&server, &path).await.unwrap();
    let mut answered = 0;
    loop {
        ann.send(json!({"type": "ping"})).await;
        let answer = ann.next_json().await;
        if answer["type"] != "pong" {
            assert_eq!(answer["code"], "rate_limited");
            break;
        }
        answered += 1;
        // The server's own limit is 200.
        assert!(answered < 100);
    }
    // Some may come back while this runs.
    assert!(answered >= 9, "{answered}");
}

#[tokio::test]
async fn a_token_that_ends_is_announced_and_can_be_renewed() {
    let folder = Folder::new("renew");
    let server = server_with(&folder, &[]).await;
    let short =
        |user: &str| Signer::Secret(SECRET).token(&json!({"sub": user, "exp": in_seconds(8)}));
    let mut renewed = Vec::new();
    for (via, user) in Via::ALL.into_iter().zip(["ann", "dora", "emil"]) {
        renewed.push((begin(&server, via, &short(user)).await, user));
    }
    let mut ended = Vec::new();
    for via in Via::ALL {
        ended.push(begin(&server, via, &short("bob")).await);
    }
    let path = format!("/ws?token={}", short("carl"));
    let mut plain = User::connect_to(&server, &path).await.unwrap();
    let renew = |token: String| json!({"type": "renew_token", "token": token, "id": 1});
    for (client, user) in &mut renewed {
        let announced = client.expect("token_expiring").await;
        assert!(announced["expires_in_ms"].as_u64().unwrap() <= 4000);
        for wrong in [token("bob"), "x".to_owned(), short(user) + "x"] {
            client.send(renew(wrong)).await;
            assert_eq!(client.expect("error").await["code"], "token_refused");
        }
        client.send(renew(token(user))).await;
        client.expect("ack").await;
    }
    for mut client in ended {
        client.expect("token_expiring").await;
        assert_eq!(client.end().await, End::Closed(Some(4505)));
    }
    assert_eq!(plain.expect_close().await, 4505);
    // Longer than the first token was good.
    server
        .reaches("sessions_closed_total", r#"reason="token_expired""#, 4.0)
        .await;
    for (client, _) in &mut renewed {
        client.is_heard().await;
    }
}

#[tokio::test]
async fn one_person_has_so_many_sessions_and_never_meets_themself() {
    let folder = Folder::new("person");
    let server = server_with(&folder, &["--sessions-per-user", "2"]).await;
    let mut sessions = Vec::new();
    for via in [Via::WebSocket, Via::EventStream] {
        sessions.push(begin(&server, via, &token("ann")).await);
    }
    for session in &mut sessions {
        session.send(json!({"type": "find_match"})).await;
        session.expect("waiting").await;
    }
    let mut bob = begin(&server, Via::Polling, &token("bob")).await;
    bob.send(json!({"type": "find_match"})).await;
    assert_eq!(bob.expect("match_found").await["peer_id"], sessions[0].id);
    sessions[0].expect("match_found").await;
    let third = begin(&server, Via::Polling, &token("ann")).await;
    assert_eq!(sessions[0].end().await, End::Closed(Some(4501)));
    assert_eq!(bob.expect("peer_left").await["reason"], "replaced");
    drop(third);
    sessions[1].is_heard().await;
}

#[tokio::test]
async fn tokens_to_try_it_with() {
    let folder = Folder::new("try");
    let file = folder.write("secret", SECRET);
    let mut command = binary();
    command.args(["gentoken", "--jwt-secret-file", &file, "--user", "ann"]);
    command.args(["--name", "Ann", "--room", "tea", "--jwt-issuer", "app"]);
    let mut process = Process::spawn(command);
    assert_eq!(process.exit_code().await, Some(0));
    let token = process.stdout().join("");
    // As many as users of a load test.
    let mut command = binary();
    command.args(["gentoken", "--jwt-secret-file", &file, "--user", "load"]);
    command.args(["--count", "3"]);
    let mut process = Process::spawn(command);
    assert_eq!(process.exit_code().await, Some(0));
    let tokens: BTreeSet<_> = process.stdout().into_iter().collect();
    assert_eq!(tokens.len(), 3);
    let issuer = ["--jwt-issuer", "app"];
    let server = server_with(&folder, &["--dev-tokens", issuer[0], issuer[1]]).await;
    let mut ann = begin(&server, Via::WebSocket, &token).await;
    ann.send(json!({"type": "join_room", "room": "tea"})).await;
    ann.expect("room_joined").await;

    let creds = r#"{"username":"bob","password":"x","name":"Bob"}"#;
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        creds.len()
    );
    let given = http::request_with_body(server.public, "POST", "/auth/token", &headers, creds);
    let given = given.await.json();
    let mut bob = begin(&server, Via::Polling, given["token"].as_str().unwrap()).await;
    bob.send(json!({"type": "join_room", "room": "tea"})).await;
    bob.expect("room_joined").await;
    assert_eq!(ann.expect("peer_joined").await["name"], "Bob");

    // None that would not be accepted.
    for (asked, status) in [(r#"{"user":""}"#.to_owned(), 400), ("x".repeat(4097), 413)] {
        let length = format!("Content-Length: {}\r\n", asked.len());
        let given = http::request_with_body(server.public, "POST", "/auth/token", &length, &asked);
        let given = given.await;
        assert_eq!(given.status, status);
        let hint = if status == 413 { "4096" } else { "sub" };
        assert!(given.text().contains(hint), "{}", given.text());
    }

    // Nowhere else.
    let server = server_with(&folder, &[]).await;
    let given = http::request_with_body(server.public, "POST", "/auth/token", &headers, creds);
    assert_eq!(given.await.status, 404);
    let short = folder.write("short", "secret");
    let (code, said) = run(&["--jwt-secret-file", &short]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("32"), "{said}");
}

#[tokio::test]
async fn that_everybody_may_come_in_is_said_once() {
    let mut server = TestServer::start_command(binary(), "0.0.0.0:0", &[]).await;
    User::connect(&server).await.close().await;
    assert_eq!(warnings(&mut server).await, 1);
    let mut server = TestServer::start(&[]).await;
    assert_eq!(warnings(&mut server).await, 0, "this machine's own users");
}

/// How often the server has said until its end that everybody may come in.
async fn warnings(server: &mut TestServer) -> usize {
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
    let said = server.process.stderr();
    let warnings = said
        .iter()
        .filter(|line| line.contains("everybody may come in"));
    warnings.count()
}

/// Users of the internet come from this machine then, as the server sees it.
#[tokio::test]
async fn that_everybody_may_come_in_is_said_behind_a_proxy_too() {
    let folder = Folder::new("behind");
    let (secret, _) = folder.secret();
    let sockets = TempDir::new().unwrap();
    let socket = format!("unix:{}/public.sock", sockets.path().display());
    for flags in [["--trusted-proxy", "127.0.0.1"], ["--listen", &socket]] {
        let mut server = TestServer::start(&flags).await;
        assert_eq!(warnings(&mut server).await, 1, "{flags:?}");
        let with_tokens = [&flags[..], &["--jwt-secret-file", &secret]].concat();
        let mut server = TestServer::start(&with_tokens).await;
        assert_eq!(warnings(&mut server).await, 0, "{flags:?}");
    }
}
