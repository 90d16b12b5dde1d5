//! A session outlives its connections: whatever carries it, what was said arrives once, whole and in order. Each test
//! runs over all transports.

use serde_json::{Value, json};

use crate::support::{
    Client, End, PATIENCE, TestServer, User, Via, client::pair, eventually, http,
};

#[tokio::test]
async fn two_users_meet_and_talk_over_any_two_transports() {
    let server = TestServer::start(&[]).await;
    for first in Via::ALL {
        for second in Via::ALL {
            let (mut first, mut second) = pair(&server, first, second).await;
            second
                .send(json!({"type": "offer", "payload": {"sdp": "o"}}))
                .await;
            assert_eq!(first.expect("offer").await["payload"]["sdp"], "o");
            first
                .send(json!({"type": "message", "payload": "é\u{2028}", "id": 5}))
                .await;
            assert_eq!(first.expect("ack").await["id"], 5);
            second.hears("é\u{2028}").await;
            first.send(json!({"type": "leave_room", "id": 6})).await;
            assert_eq!(first.expect("ack").await["id"], 6);
            assert_eq!(second.expect("peer_left").await["reason"], "left");
            for mut user in [first, second] {
                user.write(&json!({"type": "leave"})).await;
                assert_eq!(user.end().await, End::Closed(Some(1000)));
            }
        }
    }
    server
        .reaches("websocket_active_connections", "", 0.0)
        .await;
    for transport in ["ws", "sse", "poll"] {
        let label = format!(r#"transport="{transport}""#);
        server.reaches("sessions_active", &label, 0.0).await;
    }
    server.reaches("resume_log_bytes", "", 0.0).await;
}

#[tokio::test]
async fn what_was_said_meanwhile_arrives_in_order_and_once_over_each_change_of_transport() {
    let server = TestServer::start(&[]).await;
    for from in Via::ALL {
        for to in Via::ALL {
            let (mut user, mut partner) = pair(&server, from, Via::WebSocket).await;
            partner.say(1).await;
            user.hears(1).await;
            user.cut();
            for n in 2..20 {
                partner.say(n).await;
            }
            user.resume(to).await.unwrap();
            if (from, to) != (Via::Polling, Via::Polling) {
                assert_eq!(user.first["place"], "in_room");
                assert_eq!(user.first["received"], user.sent);
            }
            for n in 2..20 {
                user.hears(n).await;
            }
            user.say("I am back").await;
            partner.hears("I am back").await;
            partner.say("good").await;
            user.hears("good").await;
        }
    }
}

#[tokio::test]
async fn a_session_is_resumed_before_anything_was_said_and_many_times() {
    let server = TestServer::start(&[]).await;
    let mut user = Client::begin(&server, Via::WebSocket).await;
    for round in 0..4 {
        for via in Via::ALL {
            user.resume(via).await.unwrap();
            user.write(&json!({"type": "ping", "id": round})).await;
            assert_eq!(user.expect("pong").await["id"], round);
        }
    }
}

#[tokio::test]
async fn the_newest_connection_carries_the_session() {
    let server = TestServer::start(&[]).await;
    for old in Via::ALL {
        for new in Via::ALL {
            let (mut user, mut partner) = pair(&server, old, Via::WebSocket).await;
            let mut copy = user.copy();
            let replaced = match old {
                Via::Polling => End::Closed(Some(409)),
                _ => End::Closed(Some(4501)),
            };
            let (end, ()) = tokio::join!(user.end(), async {
                if old == Via::Polling {
                    server.reaches("polls_held", "", 1.0).await;
                }
                copy.resume(new).await.unwrap();
                if new == Via::Polling {
                    copy.poll("wait=0").await;
                }
            });
            assert_eq!(end, replaced, "{old:?} {new:?}");
            partner.say("to whom?").await;
            copy.hears("to whom?").await;
        }
    }
}

#[tokio::test]
async fn a_session_that_nobody_takes_up_ends() {
    let server = TestServer::start(&["--resume-window", "300ms"]).await;
    for via in [Via::WebSocket, Via::EventStream] {
        let (mut user, mut partner) = pair(&server, via, Via::WebSocket).await;
        user.cut();
        assert_eq!(partner.expect("peer_left").await["reason"], "lost");
        let refused = match via {
            Via::WebSocket => 4502,
            _ => 401,
        };
        assert_eq!(user.resume(via).await, Err(End::Closed(Some(refused))));
    }
    server.reaches("sessions_detached", "", 0.0).await;
}

#[tokio::test]
async fn a_goodbye_ends_the_session_at_once() {
    let server = TestServer::start(&[]).await;
    for (code, goes_on) in [(1000, false), (1001, true)] {
        let (mut user, mut partner) = pair(&server, Via::WebSocket, Via::WebSocket).await;
        user.close(code).await;
        if goes_on {
            user.resume(Via::WebSocket).await.unwrap();
            user.say("still here").await;
            partner.hears("still here").await;
        } else {
            assert_eq!(partner.expect("peer_left").await["reason"], "closed");
        }
    }
    for via in Via::ALL {
        let (mut user, mut partner) = pair(&server, via, Via::WebSocket).await;
        user.write(&json!({"type": "leave"})).await;
        assert_eq!(partner.expect("peer_left").await["reason"], "closed");
        assert_eq!(user.end().await, End::Closed(Some(1000)));
    }
}

#[tokio::test]
async fn a_message_sent_twice_is_taken_once_and_a_gap_is_told() {
    let server = TestServer::start(&[]).await;
    for (round, via) in Via::ALL.into_iter().enumerate() {
        let (mut user, mut partner) = pair(&server, via, Via::WebSocket).await;
        user.say("once").await;
        let again = json!({"type": "message", "payload": "once", "seq": user.sent});
        user.write(&again).await;
        user.say("twice").await;
        partner.hears("once").await;
        partner.hears("twice").await;
        let dropped = round as f64 + 1.0;
        server
            .reaches("duplicates_dropped_total", "", dropped)
            .await;
        let early = json!({"type": "message", "payload": "early", "seq": user.sent + 2});
        let gap = if via == Via::WebSocket {
            user.write(&early).await;
            user.expect("error").await
        } else {
            let response = user.post(&early.to_string()).await;
            assert_eq!(response.status, 409);
            response.json()
        };
        assert_eq!(gap["code"], "gap");
        assert_eq!(gap["received"], user.sent);
    }
}

#[tokio::test]
async fn who_does_not_answer_is_matched_with_nobody_until_they_do() {
    let flags = ["--resume-heartbeat", "200ms", "--resume-deadline", "1200ms"];
    let server = TestServer::start(&[&flags[..], &["--resume-window", "60s"]].concat()).await;
    for via in [Via::WebSocket, Via::EventStream] {
        let mut frozen = Client::begin(&server, via).await;
        frozen.send(json!({"type": "find_match"})).await;
        frozen.expect("waiting").await;
        frozen.answers = false;
        server.reaches("matchmaking_parked_users", "", 1.0).await;
        let mut user = Client::begin(&server, Via::WebSocket).await;
        user.send(json!({"type": "find_match"})).await;
        user.expect("waiting").await;
        // The connection is taken for lost, and the session waits.
        server.reaches("sessions_detached", "", 1.0).await;
        frozen.answers = true;
        frozen.resume(via).await.unwrap();
        let found = loop {
            // The two find each other, in either order, if both keep their places.
            let message = frozen.next().await.unwrap();
            if message["type"] == "match_found" {
                break message;
            }
        };
        assert_eq!(found["peer_id"], Value::from(user.id.clone()));
        user.expect("match_found").await;
        server.reaches("matchmaking_parked_users", "", 0.0).await;
        for user in [&mut frozen, &mut user] {
            user.write(&json!({"type": "leave"})).await;
        }
        server
            .reaches("websocket_active_connections", "", 0.0)
            .await;
    }
}

#[tokio::test]
async fn what_is_kept_for_who_is_away_is_bounded() {
    let server = TestServer::start(&["--resume-log-messages", "10"]).await;
    for via in [Via::WebSocket, Via::EventStream] {
        let (mut user, mut partner) = pair(&server, via, Via::WebSocket).await;
        user.cut();
        server.reaches("sessions_detached", "", 1.0).await;
        for n in 0..20 {
            partner.say(n).await;
        }
        let left = loop {
            let message = partner.next().await.unwrap();
            if message["type"] == "peer_left" {
                break message;
            }
            assert_eq!(message["code"], "not_in_room");
        };
        assert_eq!(left["reason"], "resume_overflow");
        assert!(user.resume(via).await.is_err());
        partner.write(&json!({"type": "leave"})).await;
        server
            .reaches("websocket_active_connections", "", 0.0)
            .await;
    }
    let closed = server.metric("sessions_closed_total", r#"reason="resume_overflow""#);
    assert_eq!(closed.await, 2.0);
}

#[tokio::test]
async fn whose_position_is_gone_takes_the_same_seat_with_a_new_session() {
    let server = TestServer::start(&["--resume-log-messages", "5"]).await;
    for via in Via::ALL {
        let mut partner = Client::begin(&server, Via::WebSocket).await;
        let mut user = Client::begin(&server, via).await;
        // An answered ping would prove what has arrived.
        user.answers = false;
        partner.send(json!({"type": "find_match"})).await;
        partner.expect("waiting").await;
        user.send(json!({"type": "find_match"})).await;
        let matched = user.expect("match_found").await;
        partner.expect("match_found").await;
        for n in 0..20 {
            partner.say(n).await;
            if via != Via::Polling {
                user.hears(n).await;
            }
        }
        let (back, code) = match via {
            // The client's own polls go on, as the server sees it: the first answer is lost.
            Via::Polling => {
                assert_eq!(user.poll("wait=0").await.status, 200);
                partner.say("one more").await;
                partner.is_heard().await;
                let response = user.poll("wait=0").await;
                (Via::Polling, response.status)
            }
            via => {
                user.arrived = 1;
                match user.resume(via).await {
                    Err(End::Closed(Some(code))) => (via, code),
                    other => panic!("{other:?}"),
                }
            }
        };
        let expected = match via {
            Via::WebSocket => 4503,
            Via::EventStream | Via::Polling => 401,
        };
        assert_eq!(code, expected, "{via:?}");
        // The token opens nothing any more.
        let refused = user.copy().resume(Via::WebSocket).await;
        assert_eq!(refused, Err(End::Closed(Some(4502))), "{via:?}");
        let mut again = Client::begin(&server, back).await;
        let ticket = &matched["room_ticket"];
        again
            .send(json!({"type": "rejoin", "ticket": ticket}))
            .await;
        let rejoined = again.expect("rejoined").await;
        assert_eq!(rejoined["room_id"], matched["room_id"]);
        assert_eq!(rejoined["peer_id"], partner.id);
        assert_eq!(rejoined["initiator"], matched["initiator"]);
        let told = partner.expect("rejoined").await;
        assert_eq!(told["peer_id"], again.id);
        assert_ne!(told["initiator"], matched["initiator"]);
        partner.say("still here?").await;
        again.hears("still here?").await;
        again.say("yes").await;
        partner.hears("yes").await;
        // The new ticket of the new seat does not open the old one.
        let mut third = Client::begin(&server, Via::WebSocket).await;
        third
            .send(json!({"type": "rejoin", "ticket": ticket}))
            .await;
        assert_eq!(third.expect("error").await["code"], "room_closed");
        again.send(json!({"type": "leave_room"})).await;
        partner.expect("peer_left").await;
    }
    let rooms = server.metric("rooms_active", "").await;
    assert_eq!(rooms, 0.0);
    let ended = server.metric("sessions_closed_total", r#"reason="too_old""#);
    assert_eq!(ended.await, 3.0);
}

#[tokio::test]
async fn the_partner_of_a_plain_user_is_not_kept_waiting_for_a_ticket() {
    let server = TestServer::start(&["--resume-log-messages", "5"]).await;
    let mut partner = User::connect(&server).await;
    let mut user = Client::begin(&server, Via::WebSocket).await;
    user.answers = false;
    partner.send(json!({"type": "find_match"})).await;
    partner.expect("waiting").await;
    user.send(json!({"type": "find_match"})).await;
    user.expect("match_found").await;
    partner.expect("match_found").await;
    for n in 0..20 {
        partner.send(json!({"type": "message", "payload": n})).await;
        user.hears(n).await;
    }
    user.arrived = 1;
    let refused = user.resume(Via::WebSocket).await;
    assert_eq!(refused, Err(End::Closed(Some(4503))));
    assert_eq!(partner.expect("peer_left").await["reason"], "too_old");
}

#[tokio::test]
async fn only_so_many_sessions_wait_for_a_connection() {
    let server = TestServer::start(&["--max-detached", "1"]).await;
    let mut users = Vec::new();
    for _ in 0..3 {
        users.push(Client::begin(&server, Via::WebSocket).await);
    }
    users.iter_mut().for_each(Client::cut);
    server
        .reaches("limit_hits_total", r#"limit="max_detached""#, 2.0)
        .await;
    server.reaches("sessions_detached", "", 1.0).await;
    server
        .reaches("websocket_active_connections", "", 1.0)
        .await;
}

#[tokio::test]
async fn a_token_that_opens_nothing_is_refused() {
    let server = TestServer::start(&[]).await;
    let mut user = Client::begin(&server, Via::WebSocket).await;
    let first = user.token.clone();
    user.resume(Via::WebSocket).await.unwrap();
    let second = user.token.clone();
    assert_ne!(first, second);
    user.resume(Via::WebSocket).await.unwrap();
    let forged = format!("{}AAAAAAAAAAAAAAAAAAAAAA", &second[..20]);
    for token in [
        first.as_str(),
        &forged,
        "x",
        "AQIDBAUGBwDxorPE1eb3AAECAwQFBgcICQoLDA0ODw",
    ] {
        let mut thief = user.copy();
        token.clone_into(&mut thief.token);
        assert_eq!(
            thief.post(r#"{"type":"leave"}"#).await.status,
            401,
            "{token}"
        );
        assert_eq!(thief.poll("wait=0").await.status, 401, "{token}");
        assert_eq!(
            thief.resume(Via::WebSocket).await,
            Err(End::Closed(Some(4502))),
            "{token}"
        );
        assert_eq!(
            thief.resume(Via::EventStream).await,
            Err(End::Closed(Some(401))),
            "{token}"
        );
    }
    user.write(&json!({"type": "ping"})).await;
    user.expect("pong").await;
}

#[tokio::test]
async fn the_longest_messages_arrive_whole_whatever_is_in_them() {
    let server = TestServer::start(&["--max-message-bytes", "65536"]).await;
    // Line ends of all kinds, and characters of two to four bytes, so that a border between blocks falls into one.
    let text = "a\r\nb\rc\n\ndata: x\u{2028}\u{2029}é日😀\0\u{85}".repeat(1100);
    for first in Via::ALL {
        let (mut user, mut partner) = pair(&server, first, Via::EventStream).await;
        for _ in 0..3 {
            user.say(text.clone()).await;
            partner.hears(text.clone()).await;
            partner.say(text.clone()).await;
            user.hears(text.clone()).await;
        }
    }
}

#[tokio::test]
async fn an_event_stream_ends_by_itself_and_its_client_comes_again_without_a_loss() {
    let server = TestServer::start(&["--event-stream-time", "200ms"]).await;
    let (mut user, mut partner) = pair(&server, Via::EventStream, Via::WebSocket).await;
    for round in 0..3 {
        partner.say(round).await;
        user.hears(round).await;
        assert_eq!(user.end().await, End::Broken);
        partner.say("meanwhile").await;
        user.resume(Via::EventStream).await.unwrap();
        user.hears("meanwhile").await;
    }
    let lost = server.metric("losses_detected_total", r#"by="connection""#);
    assert!(lost.await >= 3.0);
}

#[tokio::test]
async fn the_token_of_an_event_stream_opens_it_again() {
    let server = TestServer::start(&[]).await;
    let mut user = Client::begin(&server, Via::WebSocket).await;
    user.resume(Via::EventStream).await.unwrap();
    let address = user.token.clone();
    user.resume(Via::EventStream).await.unwrap();
    user.write(&json!({"type": "ping"})).await;
    user.expect("pong").await;
    address.clone_into(&mut user.token);
    user.resume(Via::EventStream).await.unwrap();
}

#[tokio::test]
async fn a_drain_lets_members_of_rooms_come_back() {
    let server = TestServer::start(&["--drain-timeout", "60s"]).await;
    let (mut user, mut partner) = pair(&server, Via::WebSocket, Via::EventStream).await;
    user.cut();
    server.process.signal(rustix::process::Signal::TERM);
    partner.expect("draining").await;
    user.resume(Via::WebSocket).await.unwrap();
    user.expect("draining").await;
    user.say("still here").await;
    partner.hears("still here").await;
}

#[tokio::test]
async fn what_a_post_gets_wrong_is_told() {
    let server = TestServer::start(&["--max-message-bytes", "1000"]).await;
    let user = Client::begin(&server, Via::Polling).await;
    let many: Vec<Value> = (0..65).map(|_| json!({"type": "pong"})).collect();
    for (body, status) in [
        ("not JSON".to_owned(), 400),
        (json!(many).to_string(), 413),
        (
            json!({"type": "message", "seq": 1, "payload": "x".repeat(1000)}).to_string(),
            413,
        ),
        ("x".repeat(300 * 1024), 413),
        (json!([{"type": "ping", "seq": 2}]).to_string(), 409),
        (json!([{"type": "ping"}, {"type": "ping"}]).to_string(), 200),
        (
            json!({"token": user.token, "messages": [{"type": "pong"}]}).to_string(),
            200,
        ),
    ] {
        let response = user.post(&body).await;
        assert_eq!(response.status, status, "{body:.40}: {}", response.text());
    }
}

#[tokio::test]
async fn polls_that_are_not_held_say_when_to_come_again() {
    let server = TestServer::start(&[]).await;
    let (mut user, mut partner) = pair(&server, Via::Polling, Via::WebSocket).await;
    let busy = user.poll("wait=0").await;
    assert_eq!(busy.status, 304);
    partner.say("hello").await;
    let response = loop {
        let response = user.poll("wait=0").await;
        if response.status == 200 {
            break response;
        }
    };
    assert_eq!(response.json()["poll_after_ms"], 250);
    let tag = format!("\"{}\"", user.arrived + 1);
    assert_eq!(response.header("etag"), Some(&tag[..]));
    user.hears("hello").await;
    assert!(PATIENCE.as_secs() > 5, "a poll is held for less");
}

#[tokio::test]
async fn sessions_count_under_their_address_whatever_carries_them() {
    let flags = ["--limit-loopback", "--max-connections-per-address", "2"];
    for via in Via::ALL {
        let server = TestServer::start(&flags).await;
        let mut users = Vec::new();
        for _ in 0..2 {
            users.push(Client::begin(&server, via).await);
        }
        let path = match via {
            Via::WebSocket => "/ws?resume=1",
            Via::EventStream => "/events",
            Via::Polling => "/poll?wait=0",
        };
        let refused = Client::refused(&server, path).await;
        assert_eq!(refused, 429, "{via:?}");
        // Who comes back is the same user.
        for other in Via::ALL {
            users[0].resume(other).await.unwrap();
        }
        users[0].write(&json!({"type": "leave"})).await;
        users[0].end().await;
        eventually("a place for one more", async || {
            Client::refused(&server, path).await != 429
        })
        .await;
    }
    // A connection that is kept begins one session after another.
    let server = TestServer::start(&flags).await;
    let begin = ("/poll?wait=0", "");
    let begun = http::statuses(server.public, &[begin; 3]).await;
    assert_eq!(begun, [200, 200, 429]);
}

#[tokio::test]
async fn who_goes_on_where_no_more_may_come_in_begins_nothing_new() {
    let flags = ["--limit-loopback", "--max-connections-per-address", "1"];
    let server = TestServer::start(&flags).await;
    let mut user = Client::begin(&server, Via::EventStream).await;
    // The one place is taken, and what the user says comes over another connection.
    user.send(json!({"type": "find_match"})).await;
    user.expect("waiting").await;
    let own = format!("Authorization: Bearer {}\r\n", user.token);
    let requests = [("/poll?wait=0", &*own), ("/poll?wait=0", "")];
    let statuses = http::statuses(server.public, &requests).await;
    assert_eq!(statuses, [200, 429]);
    let forged = "Authorization: Bearer AQIDBAUGBwDxorPE1eb3AAECAwQFBgcICQoLDA0ODw\r\n";
    let statuses = http::statuses(server.public, &[("/poll?wait=0", forged)]).await;
    assert_eq!(statuses, [429]);
}

#[tokio::test]
async fn an_address_that_shows_forged_tokens_has_to_wait() {
    let flags = ["--limit-loopback", "--reconnects-per-minute", "3"];
    let server = TestServer::start(&flags).await;
    let mut user = Client::begin(&server, Via::WebSocket).await;
    let mut thief = user.copy();
    thief.token = format!("{}AAAAAAAAAAAAAAAAAAAAAA", &user.token[..20]);
    // A token of another process, and one that is none, cost nothing.
    let mut stranger = user.copy();
    for token in ["x", "AQIDBAUGBwDxorPE1eb3AAECAwQFBgcICQoLDA0ODw"] {
        for _ in 0..5 {
            token.clone_into(&mut stranger.token);
            assert_eq!(stranger.poll("wait=0").await.status, 401);
        }
    }
    assert_eq!(thief.poll("wait=0").await.status, 401);
    assert_eq!(thief.post("{}").await.status, 401);
    let refused = thief.resume(Via::WebSocket).await;
    assert_eq!(refused, Err(End::Closed(Some(4502))));
    let limited = thief.poll("wait=0").await;
    assert_eq!(limited.status, 429);
    assert_eq!(limited.json()["code"], "too_many_reconnects");
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    let label = r#"result="limited""#;
    assert_eq!(
        server.metric("ws_reconnect_attempts_total", label).await,
        1.0
    );
    // Who is connected is not concerned.
    user.write(&json!({"type": "ping"})).await;
    user.expect("pong").await;
    // Room tickets that nobody signed count alike.
    let server = TestServer::start(&flags).await;
    let mut user = Client::begin(&server, Via::WebSocket).await;
    let rejoin = json!({"type": "rejoin", "ticket": "A".repeat(64)});
    for _ in 0..3 {
        user.send(rejoin.clone()).await;
        assert_eq!(user.expect("error").await["code"], "room_ticket_invalid");
    }
    assert_eq!(user.copy().poll("wait=0").await.status, 429);
}

#[tokio::test]
async fn a_stream_joins_the_room_of_its_thread() {
    let server = TestServer::start(&[]).await;
    let path = "/chat/events?thread_id=tea";
    let mut first = Client::begin_with(&server, Via::EventStream, path).await;
    assert_eq!(first.expect("room_joined").await["room"], "tea");
    let mut second = Client::begin_with(&server, Via::Polling, "/chat/poll?join=tea").await;
    assert_eq!(
        second.expect("room_joined").await["members"][0]["peer_id"],
        first.id
    );
    first.expect("peer_joined").await;
    second.say("hello").await;
    first.hears("hello").await;
    let elsewhere = second.poll("join=other").await;
    assert_eq!(elsewhere.status, 409);
    assert_eq!(elsewhere.json()["code"], "already_in_room");
    let unnamed = server.public("/events?join=a%20room").await;
    assert_eq!(unnamed.status, 400);
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_the_session_goes_on() {
    let server = TestServer::start(&[]).await;
    let mut user = Client::begin(&server, Via::EventStream).await;
    let odd = r#"[1, null, [], ["ping", 1, 2], {}, {"type": "pong", "ack": -1}, {"type": "next"}]"#;
    assert_eq!(user.post(odd).await.status, 200);
    for code in [
        "bad_json",
        "bad_json",
        "bad_json",
        "bad_json",
        "bad_message",
        "bad_message",
        "bad_message",
    ] {
        let error = user.expect("error").await;
        assert_eq!(error["code"], code, "{error}");
        assert!(
            !error["message"].as_str().unwrap().contains("struct"),
            "{error}"
        );
    }
    for ack in [0, 5, u64::MAX] {
        user.write(&json!({"type": "pong", "ack": ack})).await;
    }
    user.send(json!({"type": "join_room", "room": "tea"})).await;
    user.expect("room_joined").await;
}
