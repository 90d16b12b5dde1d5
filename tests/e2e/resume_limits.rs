//! What one client may make the server keep and do: it is bounded and counted, and costs nobody else.

use serde_json::json;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{
    Client, End, RawSocket, TestServer, User, Via, client_frame, eventually, http,
    jwt::{Folder, Signer, begin, claims_with},
    matched::{bearer, lose_an_answer, matched},
    within,
};

#[tokio::test]
async fn a_body_without_a_token_that_opens_a_session_is_small_and_counted() {
    let server = TestServer::start(&["--max-buffered-bytes", "1MiB"]).await;
    let head = |length: usize, more: &str| {
        format!("POST /send HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n")
    };
    let unknown = "Authorization: Bearer AQIDBAUGBwDxorPE1eb3AAECAwQFBgcICQoLDA0ODw\r\n";
    for (head, status) in [
        (head(64 * 1024 + 1, ""), 413),
        (head(200 * 1024, unknown), 401),
    ] {
        // No byte of the body is sent: the answer does not wait for it.
        let answer = http::exchange(server.public, &head).await;
        assert_eq!(answer.status, status, "{head}");
    }
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.public).await.unwrap();
        let head = head(64 * 1024, "");
        stream.write_all(head.as_bytes()).await.unwrap();
        // What is only announced costs nothing.
        stream.write_all(&[b' '; 60 * 1024]).await.unwrap();
        held.push(stream);
    }
    eventually("their memory", async || {
        server.metric("buffered_bytes", "").await >= 8.0 * 60.0 * 1024.0
    })
    .await;
    drop(held);
    eventually("it back", async || {
        server.metric("buffered_bytes", "").await < 60.0 * 1024.0
    })
    .await;
}

#[tokio::test]
async fn one_token_opens_only_so_many_connections() {
    let flags = ["--limit-loopback", "--max-connections-per-address", "2"];
    let server = TestServer::start(&flags).await;
    let user = Client::begin(&server, Via::Polling).await;
    let request = format!(
        "POST /send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 2\r\n\r\n[]",
        user.token
    );
    let mut statuses = Vec::new();
    let mut open = Vec::new();
    for _ in 0..12 {
        let (status, stream) = http::exchange_kept(server.public, &request).await;
        statuses.push(status);
        open.push(stream);
    }
    let most = 2 * 4;
    assert_eq!(statuses[..most], [200; 8], "{statuses:?}");
    assert_eq!(statuses[most..], [429; 4], "{statuses:?}");
    drop(open);
    eventually("a place", async || {
        http::exchange_kept(server.public, &request).await.0 == 200
    })
    .await;
}

/// What a poll says that begins a session: its token.
async fn begin_kept(server: &TestServer) -> Result<(String, BufReader<TcpStream>), u16> {
    let request = "GET /poll?wait=0 HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = BufReader::new(TcpStream::connect(server.public).await.unwrap());
    stream.write_all(request.as_bytes()).await.unwrap();
    let response = http::read_response(&mut stream, true).await;
    match response.status {
        200 => {
            let token = &response.json()["messages"][0]["resume_token"];
            Ok((token.as_str().unwrap().to_owned(), stream))
        }
        status => Err(status),
    }
}

#[tokio::test]
async fn a_session_that_has_left_keeps_no_messages_but_its_place_until_its_end_is_seen() {
    let flags = ["--limit-loopback", "--max-connections-per-address", "2"];
    let server = TestServer::start(&flags).await;
    let [(mut user, _), (mut partner, _)] = matched(&server, [Via::Polling, Via::WebSocket]).await;
    for _ in 0..2 {
        partner.say("x".repeat(60_000)).await;
    }
    partner.is_heard().await;
    user.write(&json!({"type": "leave"})).await;
    eventually("their memory back", async || {
        server.metric("buffered_bytes", "").await < 60_000.0
    })
    .await;
    assert_eq!(begin_kept(&server).await.err(), Some(429));
    assert_eq!(user.end().await, End::Closed(Some(1000)));
    eventually("a place", async || begin_kept(&server).await.is_ok()).await;
}

#[tokio::test]
async fn connections_that_sessions_have_left_behind_count() {
    let flags = ["--limit-loopback", "--max-connections-per-address", "2"];
    let server = TestServer::start(&flags).await;
    let mut left = Vec::new();
    let only_open = async |count: usize| {
        eventually("only theirs are open", async || {
            server.metric("connections_open", "").await == count as f64
        })
        .await;
    };
    for _ in 0..12 {
        only_open(left.len()).await;
        let Ok((token, stream)) = begin_kept(&server).await else {
            break;
        };
        left.push(stream);
        let leave = r#"{"type":"leave"}"#;
        let headers = format!("{}Content-Length: {}\r\n", bearer(&token), leave.len());
        let address = server.public;
        let sent = http::request_with_body(address, "POST", "/send", &headers, leave).await;
        if sent.status != 200 {
            break;
        }
        only_open(left.len()).await;
        let end = http::request(address, "GET", "/poll", &bearer(&token)).await;
        assert_eq!(end.status, 410);
    }
    assert_eq!(left.len(), 2 * 4);
}

#[tokio::test]
async fn who_is_let_in_at_the_limit_counts_whatever_they_ask_for() {
    let flags = ["--limit-loopback", "--max-connections-per-address", "2"];
    let server = TestServer::start(&flags).await;
    let (token, one) = begin_kept(&server).await.unwrap();
    let (_, two) = begin_kept(&server).await.unwrap();
    let request = format!("GET /nothing HTTP/1.1\r\nHost: x\r\n{}\r\n", bearer(&token));
    let mut open = vec![one, two];
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let (status, stream) = http::exchange_kept(server.public, &request).await;
        statuses.push(status);
        open.push(stream);
    }
    let admitted = 2 * 4 - 2;
    assert_eq!(statuses[..admitted], [404; 6], "{statuses:?}");
    assert_eq!(statuses[admitted..], [429; 6], "{statuses:?}");
}

#[tokio::test]
async fn one_address_does_not_take_all_places_for_answers() {
    let flags = ["--limit-loopback", "--max-connections-per-address", "1"];
    let server = TestServer::start(&flags).await;
    let (token, _kept) = begin_kept(&server).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..300 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(server.public).await.unwrap());
    }
    let reason = r#"reason="refusals_busy""#;
    eventually("all are dealt with", async || {
        server.metric("connections_refused_total", reason).await >= 260.0
    })
    .await;
    let headers = bearer(&token);
    let back = http::request(server.public, "GET", "/poll?wait=0", &headers).await;
    assert_eq!(back.status, 304);
}

#[tokio::test]
async fn who_fills_the_memory_is_closed_and_who_is_in_may_speak() {
    let server = TestServer::start(&["--max-buffered-bytes", "1MiB"]).await;
    let [(mut user, _), (mut partner, _)] = matched(&server, [Via::Polling, Via::Polling]).await;
    // Neither users nor kept connections fill it alone.
    let mut kept = Vec::new();
    for _ in 0..8 {
        kept.push(begin_kept(&server).await.unwrap());
    }
    let mut greedy = Vec::new();
    for _ in 0..17 {
        let mut socket = RawSocket::open(&server).await;
        // The first part of a message, and no more.
        socket.write(&client_frame(0x01, &[b'x'; 60_000])).await;
        greedy.push(socket);
    }
    let limit = r#"limit="max_buffered_bytes""#;
    eventually("somebody is closed", async || {
        server.metric("limit_hits_total", limit).await > 0.0
    })
    .await;
    user.say("still here").await;
    partner.hears("still here").await;
}

#[tokio::test]
async fn at_the_limit_of_an_address_the_kept_seat_can_be_taken() {
    let mut flags = vec!["--limit-loopback", "--max-connections-per-address", "2"];
    flags.extend(["--resume-log-messages", "2"]);
    let server = TestServer::start(&flags).await;
    let pair = matched(&server, [Via::Polling, Via::Polling]).await;
    let [(user, ticket), (mut partner, _)] = pair;
    lose_an_answer(&user, &mut partner).await;
    let mut again = Client::begin(&server, Via::Polling).await;
    again
        .send(json!({"type": "rejoin", "ticket": ticket}))
        .await;
    again.expect("rejoined").await;
}

#[tokio::test]
async fn what_is_kept_of_a_request_while_its_user_waits_is_small() {
    let server = TestServer::start(&[]).await;
    let mut user = User::connect(&server).await;
    let long = "x".repeat(255);
    for kind in ["find_match", "next"] {
        user.send(json!({"type": kind, "id": long})).await;
        user.expect_error("bad_message").await;
    }
    user.send(json!({"type": "find_match", "id": long[1..]}))
        .await;
    assert_eq!(user.expect("waiting").await["id"], long[1..]);
}

#[tokio::test]
async fn sessions_that_no_connection_carries_have_a_total() {
    let server = TestServer::start(&["--max-connections", "3"]).await;
    let begin = async || http::request(server.public, "GET", "/poll?wait=0", "").await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        eventually("a connection is free", async || {
            server.metric("connections_open", "").await == 0.0
        })
        .await;
        statuses.push(begin().await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 503, 503]);
}

#[tokio::test]
async fn what_is_sent_twice_counts_by_the_users_own_limit() {
    let folder = Folder::new("duplicates");
    let (file, secret) = folder.secret();
    let server = TestServer::start(&["--jwt-secret-file", &file]).await;
    let unlimited = json!({"voicematch": {"max_messages_per_second": 0}});
    let token = Signer::Secret(secret).token(&claims_with("ann", unlimited));
    let mut user = begin(&server, Via::WebSocket, &token).await;
    user.send(json!({"type": "unknown"})).await;
    user.expect("error").await;
    for _ in 0..1000 {
        user.write(&json!({"type": "unknown", "seq": 1})).await;
    }
    user.is_heard().await;
}

#[tokio::test]
async fn a_stream_whose_client_does_not_stop_talking_ends() {
    let server = TestServer::start(&[]).await;
    let mut stream = BufReader::new(TcpStream::connect(server.public).await.unwrap());
    let request = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    server
        .reaches("websocket_active_connections", "", 1.0)
        .await;
    let flood = async { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} };
    within("the end of the stream", flood).await;
    server.reaches("sessions_detached", "", 1.0).await;
}
