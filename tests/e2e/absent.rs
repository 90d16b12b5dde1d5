//! Users who are away: what they say over another connection, the seat that is kept for them, and the end that they may not
//! have seen.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, End, TestServer, User, Via, eventually, http,
    jwt::{Folder, Signer, begin, claims},
    matched::{bearer, matched},
};

#[tokio::test]
async fn who_speaks_while_away_is_matched_when_back() {
    for asks_while_away in [false, true] {
        let server = TestServer::start(&[]).await;
        let mut user = Client::begin(&server, Via::EventStream).await;
        if !asks_while_away {
            user.send(json!({"type": "find_match"})).await;
            user.expect("waiting").await;
        }
        user.cut();
        server.reaches("sessions_detached", "", 1.0).await;
        if asks_while_away {
            user.send(json!({"type": "find_match"})).await;
        } else {
            user.write(&json!({"type": "pong"})).await;
        }
        server.reaches("matchmaking_parked_users", "", 1.0).await;
        let mut other = User::connect(&server).await;
        other.wait().await;
        user.resume(Via::EventStream).await.unwrap();
        assert_eq!(other.expect_match().await.peer, user.id);
        assert_eq!(server.metric("matchmaking_parked_users", "").await, 0.0);
    }
}

#[tokio::test]
async fn who_cancels_while_away_waits_no_more() {
    let server = TestServer::start(&[]).await;
    let mut user = Client::begin(&server, Via::EventStream).await;
    user.cut();
    server.reaches("sessions_detached", "", 1.0).await;
    user.send(json!({"type": "find_match"})).await;
    server.reaches("matchmaking_parked_users", "", 1.0).await;
    user.send(json!({"type": "cancel_match"})).await;
    server.reaches("matchmaking_parked_users", "", 0.0).await;
    let mut other = User::connect(&server).await;
    other.wait().await;
    user.resume(Via::EventStream).await.unwrap();
    other.is_undisturbed().await;
    assert_eq!(server.metric("matchmaking_parked_users", "").await, 0.0);
}

/// The user's session ends as it cannot be carried on; the seat is kept. `partner` has said five things, and
/// `--resume-log-messages` is less.
async fn lose_all(user: &mut Client, partner: &mut Client) {
    user.answers = false;
    for n in 0..5 {
        partner.say(n).await;
        user.hears(n).await;
    }
    partner.is_heard().await;
    user.arrived = 1;
    let refused = user.resume(Via::WebSocket).await;
    assert_eq!(refused, Err(End::Closed(Some(4503))));
}

#[tokio::test]
async fn the_kept_seat_stays_however_much_the_partner_says() {
    let server = TestServer::start(&["--resume-log-messages", "2"]).await;
    let pair = matched(&server, [Via::WebSocket, Via::WebSocket]).await;
    let [(mut user, ticket), (mut partner, _)] = pair;
    lose_all(&mut user, &mut partner).await;
    for _ in 0..10 {
        partner.say("x".repeat(40_000)).await;
    }
    partner.is_heard().await;
    let dropped = server.metric("messages_dropped_total", r#"reason="peer_closed""#);
    assert!(dropped.await >= 10.0);
    let mut again = Client::begin(&server, Via::WebSocket).await;
    let rejoin = json!({"type": "rejoin", "ticket": ticket});
    again.send(rejoin).await;
    again.expect("rejoined").await;
    partner.expect("rejoined").await;
    partner.say("still here?").await;
    again.hears("still here?").await;
}

#[tokio::test]
async fn the_kept_seat_is_no_session_of_its_user() {
    let folder = Folder::new("seat");
    let (file, secret) = folder.secret();
    let flags = ["--jwt-secret-file", &file, "--sessions-per-user", "1"];
    let flags = [&flags[..], &["--resume-log-messages", "2"]].concat();
    let server = TestServer::start(&flags).await;
    let begin = async |user| {
        let token = Signer::Secret(secret).token(&claims(user));
        begin(&server, Via::WebSocket, &token).await
    };
    let (mut ann, mut bob) = (begin("ann").await, begin("bob").await);
    let ticket = meet(&mut ann, &mut bob).await;
    lose_all(&mut ann, &mut bob).await;
    let mut again = begin("ann").await;
    let rejoin = json!({"type": "rejoin", "ticket": ticket});
    again.send(rejoin.clone()).await;
    again.expect("rejoined").await;
    bob.expect("rejoined").await;
}

/// The ticket of the first.
async fn meet(first: &mut Client, second: &mut Client) -> Value {
    first.send(json!({"type": "find_match"})).await;
    first.expect("waiting").await;
    second.send(json!({"type": "find_match"})).await;
    second.expect("match_found").await;
    first.expect("match_found").await["room_ticket"].clone()
}

#[tokio::test]
async fn a_room_ticket_is_its_owners() {
    let folder = Folder::new("ticket");
    let (file, secret) = folder.secret();
    let flags = ["--jwt-secret-file", &file, "--resume-log-messages", "2"];
    let server = TestServer::start(&flags).await;
    let begin = async |user| {
        let token = Signer::Secret(secret).token(&claims(user));
        begin(&server, Via::WebSocket, &token).await
    };
    let (mut ann, mut bob) = (begin("ann").await, begin("bob").await);
    let ticket = meet(&mut ann, &mut bob).await;
    lose_all(&mut ann, &mut bob).await;
    let rejoin = json!({"type": "rejoin", "ticket": ticket});
    for other in ["carl", "bob"] {
        let mut other = begin(other).await;
        other.send(rejoin.clone()).await;
        let error = other.expect("error").await;
        assert_eq!(error["code"], "room_ticket_invalid");
    }
    let mut again = begin("ann").await;
    again.send(rejoin).await;
    again.expect("rejoined").await;
    bob.expect("rejoined").await;
}

#[tokio::test]
async fn a_ticket_of_another_process_begins_no_room_in_a_drain() {
    let mut dead = TestServer::start(&[]).await;
    let pair = matched(&dead, [Via::WebSocket, Via::WebSocket]).await;
    let tickets = pair.map(|(_, ticket)| ticket);
    dead.process.signal(Signal::KILL);
    dead.process.exit_code().await;
    let server = TestServer::start(&["--drain-timeout", "20s"]).await;
    // In rooms, as a drain ends those who are not. Not in one room: the partner of a user who asks in vain goes, too.
    let rooms = [
        matched(&server, [Via::WebSocket, Via::WebSocket]).await,
        matched(&server, [Via::WebSocket, Via::WebSocket]).await,
    ];
    server.process.signal(Signal::TERM);
    let mut users = rooms.map(|[(user, _), partner]| (user, partner));
    for ((user, _), ticket) in users.iter_mut().zip(&tickets) {
        user.expect("draining").await;
        user.send(json!({"type": "rejoin", "ticket": ticket})).await;
        assert_eq!(user.expect("error").await["code"], "draining");
    }
}

#[tokio::test]
async fn a_session_whose_end_was_seen_is_gone() {
    let server = TestServer::start(&[]).await;
    let tasks = async || {
        let metrics = server.metrics().await;
        let workers = metrics.all("runtime_tasks_alive");
        workers.map(|(_, tasks)| tasks).sum::<f64>()
    };
    let before = tasks().await;
    for _ in 0..50 {
        let begun = http::request(server.public, "GET", "/poll?wait=0", "").await;
        let token = begun.json()["messages"][0]["resume_token"].clone();
        let headers = bearer(token.as_str().unwrap());
        let leave = r#"{"type":"leave"}"#;
        let length = format!("{headers}Content-Length: {}\r\n", leave.len());
        http::request_with_body(server.public, "POST", "/send", &length, leave).await;
        let end = http::request(server.public, "GET", "/poll", &headers).await;
        assert_eq!(end.status, 410);
    }
    // Less than what such a session would be kept for.
    let soon = std::time::Duration::from_secs(5);
    let gone = eventually("their tasks end", async || tasks().await < before + 10.0);
    tokio::time::timeout(soon, gone).await.expect("soon");
}
