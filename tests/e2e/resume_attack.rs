//! What a client may do to itself, to a partner or to the server with tickets, old requests and many connections: it costs
//! its sender only.

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Duration, timeout},
};

use crate::support::{Client, End, TestServer, Via, eventually, http};

/// Two in a room, with their room tickets.
async fn matched(server: &TestServer, vias: [Via; 2]) -> [(Client, Value); 2] {
    let mut first = Client::begin(server, vias[0]).await;
    let mut second = Client::begin(server, vias[1]).await;
    first.send(json!({"type": "find_match"})).await;
    first.expect("waiting").await;
    second.send(json!({"type": "find_match"})).await;
    let tickets = [
        first.expect("match_found").await["room_ticket"].clone(),
        second.expect("match_found").await["room_ticket"].clone(),
    ];
    let [one, other] = tickets;
    [(first, one), (second, other)]
}

#[tokio::test]
async fn a_ticket_of_ones_own_session_is_answered() {
    let server = TestServer::start(&["--workers", "1"]).await;
    for via in Via::ALL {
        let [(mut user, ticket), (mut partner, _)] = matched(&server, [via, Via::WebSocket]).await;
        let rejoin = json!({"type": "rejoin", "ticket": ticket});
        user.send(rejoin.clone()).await;
        assert_eq!(user.expect("error").await["code"], "use_resume");
        user.say("still here").await;
        partner.hears("still here").await;
        user.send(json!({"type": "leave_room"})).await;
        partner.expect("peer_left").await;
        user.send(rejoin).await;
        assert_eq!(user.expect("error").await["code"], "room_closed");
    }
    assert_eq!(http::get(server.public, "/health").await.status, 200);
}

#[tokio::test]
async fn two_who_show_each_others_tickets_at_once_hang_nobody() {
    let server = TestServer::start(&["--workers", "4"]).await;
    let mut senders = Vec::new();
    for _ in 0..4 {
        let pair = matched(&server, [Via::Polling, Via::Polling]).await;
        let [(first, one), (second, other)] = pair;
        for (user, ticket) in [(first, other), (second, one)] {
            senders.push(tokio::spawn(async move {
                let mut seq = user.sent;
                for _ in 0..20 {
                    let messages: Vec<_> = (0..8)
                        .map(|_| {
                            seq += 1;
                            json!({"type": "rejoin", "ticket": ticket, "seq": seq})
                        })
                        .collect();
                    let status = user.post(&json!(messages).to_string()).await.status;
                    if status != 200 {
                        return status;
                    }
                }
                200
            }));
        }
    }
    for sender in senders {
        let status = timeout(Duration::from_secs(30), sender).await;
        let status = status.expect("the server answers").unwrap();
        assert!(matches!(status, 200 | 429), "{status}");
    }
    assert_eq!(http::get(server.public, "/health").await.status, 200);
}

#[tokio::test]
async fn a_poll_for_another_room_leaves_the_session_as_it_is() {
    let server = TestServer::start(&["--resume-window", "500ms"]).await;
    for via in Via::ALL {
        let mut user = Client::begin(&server, via).await;
        user.send(json!({"type": "join_room", "room": "tea"})).await;
        user.expect("room_joined").await;
        let refused = user.poll("wait=0&join=milk").await;
        assert_eq!(refused.status, 409, "{via:?}");
        user.send(json!({"type": "leave_room", "id": 1})).await;
        assert_eq!(user.expect("ack").await["id"], 1, "{via:?}");
        user.write(&json!({"type": "leave"})).await;
        user.end().await;
        server.reaches("sessions", r#"state="in_room""#, 0.0).await;
        server.reaches("sessions", r#"state="idle""#, 0.0).await;
    }
}

#[tokio::test]
async fn a_poller_gets_as_much_at_once_as_anybody() {
    let server = TestServer::start(&[]).await;
    for held in [true, false] {
        let [(mut user, _), (mut partner, _)] =
            matched(&server, [Via::Polling, Via::WebSocket]).await;
        let long = "x".repeat(40_000);
        if !held {
            for _ in 0..5 {
                partner.say(long.clone()).await;
            }
        }
        let hearing = async {
            for _ in 0..5 {
                user.hears(long.clone()).await;
            }
        };
        let talking = async {
            if held {
                for _ in 0..5 {
                    partner.say(long.clone()).await;
                }
            }
        };
        tokio::join!(hearing, talking);
    }
}

#[tokio::test]
async fn a_request_that_comes_late_ends_nothing() {
    let server = TestServer::start(&[]).await;
    let [(mut user, _), (mut partner, _)] = matched(&server, [Via::Polling, Via::WebSocket]).await;
    for n in 0..3 {
        partner.say(n).await;
        user.hears(n).await;
    }
    let mut late = user.copy();
    late.arrived = 1;
    // The poll that proves what has arrived.
    assert_eq!(user.poll("wait=0").await.status, 304);
    let refused = late.poll("wait=0").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["code"], "resume_refused");
    partner.say("goes on").await;
    user.hears("goes on").await;

    // The same with a stream whose request was stuck on the way, while a WebSocket has taken the session over.
    let [(mut user, _), (mut partner, _)] =
        matched(&server, [Via::EventStream, Via::WebSocket]).await;
    let stuck = user.copy();
    let mut stream = TcpStream::connect(server.public).await.unwrap();
    let request = format!(
        "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nLast-Event-ID: {}\r\n",
        stuck.token, stuck.arrived
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    user.cut();
    user.resume(Via::WebSocket).await.unwrap();
    for n in 0..3 {
        partner.say(n).await;
        user.hears(n).await;
    }
    user.write(&json!({"type": "pong", "ack": user.arrived}))
        .await;
    user.say("what comes after the proof").await;
    partner.hears("what comes after the proof").await;
    stream.write_all(b"\r\n").await.unwrap();
    partner.say("goes on").await;
    user.hears("goes on").await;
}

#[tokio::test]
async fn a_session_that_has_ended_takes_nothing_more() {
    let server = TestServer::start(&[]).await;
    let mut user = Client::begin(&server, Via::Polling).await;
    user.write(&json!({"type": "leave"})).await;
    let late = user.post(r#"{"type":"find_match","seq":1}"#).await;
    assert_eq!(late.status, 410);
    assert_eq!(user.end().await, End::Closed(Some(1000)));
}

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
        let head = head(60 * 1024, "");
        stream.write_all(head.as_bytes()).await.unwrap();
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

#[tokio::test]
async fn a_held_poll_ends_when_its_session_does() {
    let server = TestServer::start(&["--resume-log-messages", "2"]).await;
    let [(user, _), (mut partner, _)] = matched(&server, [Via::Polling, Via::WebSocket]).await;
    for n in 0..5 {
        partner.say(n).await;
    }
    // Its answer is lost, and what it held is more than the log keeps.
    assert_eq!(user.poll("wait=0").await.status, 200);
    partner.say("one more").await;
    partner.is_heard().await;
    let (address, token) = (
        server.public,
        format!("Authorization: Bearer {}\r\n", user.token),
    );
    // Without a position, so that it proves nothing.
    let rest = http::request(address, "GET", "/poll?wait=0", &token).await;
    assert_eq!(rest.status, 200);
    let poll = tokio::spawn(async move {
        let response = http::request(address, "GET", "/poll?wait=20", &token);
        response.await.status
    });
    server.reaches("polls_held", "", 1.0).await;
    let refused = user.copy().resume(Via::WebSocket).await;
    assert_eq!(refused, Err(End::Closed(Some(4503))));
    let status = timeout(Duration::from_secs(5), poll).await;
    assert_eq!(status.expect("at once").unwrap(), 409);
}
