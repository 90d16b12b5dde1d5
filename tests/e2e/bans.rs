//! An operator keeps users out: by the app's id of a user, or by an address or a network.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::support_api::{ask, get, session, time_of};
use crate::support::{
    Client, End, RawSocket, TestServer, User, Via, eventually, http,
    jwt::{Folder, SECRET, Signer, begin, claims},
    matched::bearer,
    pair,
    place::{Place, has_handed_over},
    raw::handshake,
    within,
};

/// The new ban.
async fn ban(server: &TestServer, ban: Value) -> Value {
    let response = ask(server, "POST", "/support/bans", &ban.to_string()).await;
    assert_eq!(response.status, 201, "{}", response.text());
    response.json()
}

async fn unban(server: &TestServer, ban: &Value) -> u16 {
    let path = format!("/support/bans/{}", ban["id"]);
    ask(server, "DELETE", &path, "").await.status
}

/// A deploy that nobody notices lets in nobody who was kept out.
#[tokio::test]
async fn the_next_server_keeps_out_whom_the_one_before_has_banned() {
    let folder = Folder::new("support-ban-next");
    let (file, _) = folder.secret();
    let place = Place::new("1h");
    let flags = ["--jwt-secret-file", &file, "--trusted-proxy", "127.0.0.1"];
    let before = place.start_with(&flags).await;
    let token = |user: &str| Signer::Secret(SECRET).token(&claims(user));
    for kept_out in [
        json!({"user": "ann", "seconds": 3600, "reason": "spam"}),
        json!({"address": "203.0.113.0/24", "seconds": 3600}),
    ] {
        ban(&before, kept_out).await;
    }
    let bans = get(&before, "/support/bans").await;
    // Two in a room of whom one cannot come back: it stays there until the end.
    let mut bob = begin(&before, Via::Polling, &token("bob")).await;
    let path = format!("/ws?token={}", token("cat"));
    let mut cat = User::connect_to(&before, &path).await.unwrap();
    cat.wait().await;
    bob.find().await;
    cat.expect_match().await;
    let next = place.start_with(&flags).await;
    has_handed_over(&before).await;
    eventually("the bans are there", async || {
        get(&next, "/support/bans").await["total"] == 2
    })
    .await;
    let heard = get(&next, "/support/bans").await;
    for n in 0..2 {
        for what in ["user", "address", "reason"] {
            assert_eq!(heard["bans"][n][what], bans["bans"][n][what]);
        }
        time_of(&heard["bans"][n]["until"]);
    }
    let from = async |address: &str, query: &str| {
        let claim = format!("X-Forwarded-For: {address}\r\n");
        let path = format!("/poll?wait=0&{query}");
        http::request(next.public, "GET", &path, &claim)
            .await
            .status
    };
    let dora = format!("token={}", token("dora"));
    assert_eq!(
        from("198.51.100.7", &format!("token={}", token("ann"))).await,
        403
    );
    assert_eq!(from("203.0.113.9", &dora).await, 403);
    assert_eq!(from("198.51.100.7", &dora).await, 200);
    // The server before does not know of a ban that is newer, and is asked nothing from there.
    ban(&next, json!({"address": "192.0.2.7", "seconds": 3600})).await;
    let bob = format!("token={}", bob.token);
    assert_eq!(from("192.0.2.7", &bob).await, 403);
    assert_eq!(from("192.0.2.8", &bob).await, 304, "nothing is new");
}

#[tokio::test]
async fn a_banned_user_is_out_until_the_ban_ends() {
    let folder = Folder::new("support-ban");
    let (file, _) = folder.secret();
    let flags = ["--jwt-secret-file", &file, "--resume-window", "1h"];
    let server = TestServer::start(&flags).await;
    let token = |user: &str| Signer::Secret(SECRET).token(&claims(user));
    let mut sessions = Vec::new();
    for via in Via::ALL {
        sessions.push(begin(&server, via, &token("ann")).await);
    }
    // One of hers is in a room, and one has no connection now.
    let mut bob = begin(&server, Via::WebSocket, &token("bob")).await;
    bob.send(json!({"type": "find_match"})).await;
    bob.expect("waiting").await;
    sessions[0].send(json!({"type": "find_match"})).await;
    bob.expect("match_found").await;
    let mut detached = begin(&server, Via::WebSocket, &token("ann")).await;
    detached.cut();
    server.reaches("sessions_detached", "", 1.0).await;

    let done = ban(
        &server,
        json!({"user": "ann", "seconds": 3600, "reason": "spam"}),
    )
    .await;
    assert_eq!(done["sessions_closed"], 4);
    assert_eq!(
        (&done["user"], &done["address"]),
        (&json!("ann"), &Value::Null)
    );
    for mut session in sessions {
        assert_eq!(session.end().await, End::Closed(Some(4506)));
    }
    // That she is banned is not for him to know.
    assert_eq!(bob.expect("peer_left").await["reason"], "disconnected");
    server
        .reaches("sessions_closed_total", r#"reason="banned""#, 4.0)
        .await;
    let back = detached.resume(Via::EventStream).await;
    assert_eq!(back, Err(End::Closed(Some(401))));
    for path in ["/ws?", "/ws?resume=1&", "/events?", "/poll?wait=0&"] {
        let path = format!("{path}token={}", token("ann"));
        assert_eq!(Client::refused(&server, &path).await, 403, "{path}");
    }
    let refused = server
        .public(&format!("/poll?wait=0&token={}", token("ann")))
        .await;
    assert_eq!(refused.json()["code"], "banned");
    assert!(
        !refused.text().contains("spam"),
        "the reason is for operators"
    );
    server
        .reaches("connections_refused_total", r#"reason="banned""#, 5.0)
        .await;
    bob.is_heard().await;
    begin(&server, Via::Polling, &token("carl")).await;

    let listed = get(&server, "/support/bans").await;
    assert_eq!(listed["total"], 1);
    assert_eq!(listed["bans"][0]["reason"], "spam");
    time_of(&listed["bans"][0]["until"]);
    assert_eq!(unban(&server, &done).await, 200);
    assert_eq!(unban(&server, &done).await, 404);
    begin(&server, Via::EventStream, &token("ann")).await;

    // A ban ends by itself.
    ban(&server, json!({"user": "ann", "seconds": 3})).await;
    let path = format!("/poll?wait=0&token={}", token("ann"));
    assert_eq!(server.public(&path).await.status, 403);
    eventually("she may come in again", async || {
        server.public(&path).await.status == 200
    })
    .await;
    assert_eq!(get(&server, "/support/bans").await["total"], 0);
}

/// The status of the answer to a handshake of a user at this address, behind a trusted proxy, and their connection.
async fn shake(server: &TestServer, address: &str, more: &str) -> (u16, RawSocket) {
    let mut socket = RawSocket::connect(server).await;
    let line = format!("\r\nX-Forwarded-For: {address}\r\n{more}\r\n");
    let text = handshake(server).replace("\r\n\r\n", &line);
    socket.write(text.as_bytes()).await;
    (socket.response().await.status, socket)
}

#[tokio::test]
async fn a_banned_network_is_out_and_others_are_not() {
    let flags = ["--trusted-proxy", "127.0.0.0/8", "--resume-window", "1h"];
    let server = TestServer::start(&flags).await;
    let (_, mut inside) = shake(&server, "203.0.113.7", "").await;
    let (_, mut outside) = shake(&server, "203.0.114.7", "").await;
    let (_, mut six) = shake(&server, "2001:db8:1:2::7", "").await;
    let id = inside.expect("session").await["session_id"].clone();
    let seen = session(&server, id.as_str().unwrap()).await;
    assert_eq!(seen["address"], "203.0.113.7");
    six.expect("session").await;

    let done = ban(&server, json!({"address": "203.0.113.0/24", "seconds": 60})).await;
    assert_eq!(
        (&done["sessions_closed"], &done["address"]),
        (&json!(1), &json!("203.0.113.0/24"))
    );
    assert_eq!(inside.expect_close().await, 4506);
    let more = ban(
        &server,
        json!({"address": "2001:db8:1:2:ffff::1", "seconds": 60}),
    )
    .await;
    assert_eq!(
        (&more["sessions_closed"], &more["address"]),
        (&json!(1), &json!("2001:db8:1:2::/64"))
    );
    assert_eq!(six.expect_close().await, 4506);
    for (address, status) in [
        ("203.0.113.200", 403),
        ("203.0.114.7", 101),
        ("2001:db8:1:2:3::4", 403),
        ("2001:db8:1:3::4", 101),
    ] {
        assert_eq!(shake(&server, address, "").await.0, status, "{address}");
    }
    outside.expect("session").await;
    // Who has a session may not carry it on from there either.
    let mut carl = Client::begin(&server, Via::WebSocket).await;
    let shown = bearer(&carl.token);
    let status = async |path: &str, address: &str| {
        let headers = format!("{shown}X-Forwarded-For: {address}\r\n");
        let answer = http::request(server.public, "GET", path, &headers);
        answer.await.status
    };
    for path in ["/poll?wait=0", "/events"] {
        assert_eq!(status(path, "203.0.113.9").await, 403, "{path}");
    }
    assert_eq!(shake(&server, "203.0.113.9", &shown).await.0, 403);
    carl.is_heard().await;
    // Who carries it on from elsewhere is there from then on.
    assert_eq!(status("/poll?wait=0", "198.51.100.1").await, 200);
    let seen = session(&server, &carl.id).await;
    assert_eq!(seen["address"], "198.51.100.1");
    let all = ban(&server, json!({"address": "198.51.100.1", "seconds": 60})).await;
    assert_eq!(all["sessions_closed"], 1);

    let found = get(&server, "/support/bans?address=203.0.113.77").await;
    assert_eq!(found["bans"].as_array().unwrap().len(), 1);
    assert_eq!(found["bans"][0]["id"], done["id"]);
    assert_eq!(unban(&server, &done).await, 200);
    assert_eq!(shake(&server, "203.0.113.200", "").await.0, 101);
}

#[tokio::test]
async fn bans_are_bounded_in_number() {
    let server = TestServer::start(&[]).await;
    let mut stream = BufReader::new(TcpStream::connect(server.admin).await.unwrap());
    let mut last = 0;
    for n in 0..10_001 {
        let body = json!({"address": format!("10.{}.{}.1", n / 256, n % 256), "seconds": 600});
        let body = body.to_string();
        let request = format!(
            "POST /support/bans HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            server.admin,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = within("an answer", http::read_response(&mut stream, true)).await;
        last = response.status;
        if n < 10_000 {
            assert_eq!(last, 201, "{n}: {}", response.text());
        } else {
            assert_eq!(response.json()["code"], "too_many_bans");
        }
    }
    assert_eq!(last, 409);
    let listed = get(&server, "/support/bans").await;
    assert_eq!(listed["total"], 10_000);
    assert_eq!(listed["bans"].as_array().unwrap().len(), 100);
    assert_eq!(
        ask(&server, "GET", "/support/bans?limit=10000", "")
            .await
            .status,
        400
    );
    // Other users come and go as before.
    let (mut ann, mut bob) = pair(&server).await;
    ann.is_undisturbed().await;
    bob.is_undisturbed().await;
}
