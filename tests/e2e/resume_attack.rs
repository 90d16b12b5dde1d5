//! What a client may do to itself, to a partner or to the server with tickets and old requests: it costs its sender only.

use rustix::process::Signal;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Duration, timeout},
};

use crate::support::{
    Client, End, TestServer, Via, http,
    matched::{bearer, lose_an_answer, matched},
};

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

#[tokio::test]
async fn the_ticket_of_an_earlier_room_does_not_cost_the_seat_in_this_one() {
    let server = TestServer::start(&["--resume-log-messages", "2"]).await;
    let pair = matched(&server, [Via::Polling, Via::WebSocket]).await;
    let [(mut user, earlier), (mut partner, _)] = pair;
    user.send(json!({"type": "leave_room", "id": 1})).await;
    user.expect("ack").await;
    partner.expect("peer_left").await;
    user.send(json!({"type": "find_match"})).await;
    user.expect("waiting").await;
    partner.send(json!({"type": "find_match"})).await;
    let ticket = user.expect("match_found").await["room_ticket"].clone();
    partner.expect("match_found").await;
    lose_an_answer(&user, &mut partner).await;
    let mut again = Client::begin(&server, Via::WebSocket).await;
    again
        .send(json!({"type": "rejoin", "ticket": earlier}))
        .await;
    assert_eq!(again.expect("error").await["code"], "room_closed");
    again
        .send(json!({"type": "rejoin", "ticket": ticket}))
        .await;
    again.expect("rejoined").await;
    partner.expect("rejoined").await;
}

#[tokio::test]
async fn a_true_token_of_a_session_that_is_over_counts_as_no_forgery() {
    let flags = ["--limit-loopback", "--resume-log-messages", "2"];
    let server = TestServer::start(&flags).await;
    let [(user, _), (mut partner, _)] = matched(&server, [Via::Polling, Via::WebSocket]).await;
    lose_an_answer(&user, &mut partner).await;
    for _ in 0..15 {
        assert_eq!(user.poll("wait=0").await.status, 401);
    }
    partner.cut();
    partner.resume(Via::WebSocket).await.unwrap();
}

#[tokio::test]
async fn a_poll_says_what_it_has_or_is_refused() {
    let server = TestServer::start(&[]).await;
    let [(user, _), (mut partner, _)] = matched(&server, [Via::Polling, Via::WebSocket]).await;
    partner.say("one").await;
    partner.is_heard().await;
    let position = user.arrived;
    let ask = async |value: String| {
        let headers = format!("{}If-None-Match: {value}\r\n", bearer(&user.token));
        http::request(server.public, "GET", "/poll?wait=0", &headers).await
    };
    // As Apache sends it back where it has compressed the answer.
    for value in [format!("\"{position}\""), format!("\"{position}-gzip\"")] {
        let answer = ask(value).await;
        assert_eq!(answer.json()["messages"][0]["payload"], "one");
    }
    // A stream whose client has not said yet what it has.
    let request = format!(
        "GET /events HTTP/1.1\r\nHost: x\r\n{}Last-Event-ID:\r\n\r\n",
        bearer(&user.token)
    );
    assert_eq!(http::exchange(server.public, &request).await.status, 200);
    assert_eq!(ask("*".to_owned()).await.status, 400);
    assert_eq!(ask("\"x\"".to_owned()).await.status, 400);
}

#[tokio::test]
async fn who_joins_a_room_with_a_stream_is_asked_at_once_whether_they_are_there() {
    let server = TestServer::start(&["--resume-heartbeat", "1s"]).await;
    let mut stream = BufReader::new(TcpStream::connect(server.public).await.unwrap());
    let request = "GET /events?join=tea HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let ping = async {
        let mut line = String::new();
        while !line.contains(r#""type":"ping""#) {
            line.clear();
            assert!(stream.read_line(&mut line).await.unwrap() > 0);
        }
        line
    };
    let ping = timeout(Duration::from_secs(10), ping).await;
    assert!(ping.expect("a ping").contains(r#""next_ms":1000"#));
}

#[tokio::test]
async fn no_room_begins_in_a_drain() {
    let server = TestServer::start(&["--drain-timeout", "20s"]).await;
    let [(mut user, _), (mut partner, _)] = matched(&server, [Via::Polling, Via::WebSocket]).await;
    server.process.signal(Signal::TERM);
    user.expect("draining").await;
    user.send(json!({"type": "leave_room", "id": 1})).await;
    user.expect("ack").await;
    user.send(json!({"type": "join_room", "room": "tea"})).await;
    assert_eq!(user.expect("error").await["code"], "draining");
    partner.expect("draining").await;
}

#[tokio::test]
async fn old_tickets_open_no_second_room() {
    let server = TestServer::start(&[]).await;
    let [(_, one), (_, other)] = matched(&server, [Via::Polling, Via::WebSocket]).await;
    let mut dead = server;
    dead.process.signal(Signal::KILL);
    dead.process.exit_code().await;
    let server = TestServer::start(&[]).await;
    let mut back = Vec::new();
    for ticket in [&one, &other] {
        let mut user = Client::begin(&server, Via::WebSocket).await;
        user.send(json!({"type": "rejoin", "ticket": ticket})).await;
        back.push(user);
    }
    for user in &mut back {
        while user.next().await.unwrap()["type"] != "rejoined" {}
    }
    let mut late = Client::begin(&server, Via::WebSocket).await;
    late.send(json!({"type": "rejoin", "ticket": one})).await;
    assert_eq!(late.expect("error").await["code"], "room_closed");
    assert_eq!(server.metric("rooms_active", "").await, 1.0);
}
