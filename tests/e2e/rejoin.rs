//! Rooms survive the server: with their tickets two users have their room back after a kill.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::support::{
    Client, TestServer, Via,
    matched::meet,
    user::{User, text},
};

/// A new session that shows this ticket.
async fn rejoin(server: &TestServer, via: Via, ticket: &str) -> Client {
    let mut client = Client::begin(server, via).await;
    client
        .send(json!({"type": "rejoin", "ticket": ticket}))
        .await;
    client
}

async fn kill(mut server: TestServer) {
    server.process.signal(Signal::KILL);
    server.process.exit_code().await;
}

#[tokio::test]
async fn after_a_kill_both_are_in_the_same_room_again() {
    for via in Via::ALL {
        let server = TestServer::start(&[]).await;
        let [(_, first), (_, second)] = meet([&server; 2], [via, Via::WebSocket]).await;
        kill(server).await;
        let server = TestServer::start(&[]).await;
        let mut one = rejoin(&server, via, &text(&first, "room_ticket")).await;
        let waits = one.expect("rejoining").await;
        assert_eq!(waits["room_id"], first["room_id"]);
        one.send(json!({"type": "find_match"})).await;
        assert_eq!(one.expect("error").await["code"], "already_waiting");
        let mut other = rejoin(&server, Via::WebSocket, &text(&second, "room_ticket")).await;
        for (client, before, peer) in [
            (&mut one, &first, other.id.clone()),
            (&mut other, &second, String::new()),
        ] {
            let rejoined = client.expect("rejoined").await;
            assert_eq!(rejoined["room_id"], before["room_id"]);
            assert_eq!(rejoined["initiator"], before["initiator"]);
            assert!(peer.is_empty() || rejoined["peer_id"] == peer);
            assert_ne!(rejoined["room_ticket"], before["room_ticket"]);
        }
        one.say("where were we?").await;
        other.hears("where were we?").await;
        server.reaches("rooms_active", "", 1.0).await;
    }
}

#[tokio::test]
async fn five_hundred_rooms_come_back() {
    const ROOMS: usize = 500;
    // A thousand sockets are more than many systems allow at first.
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, all).unwrap();
    let server = TestServer::start(&[]).await;
    let mut tickets = Vec::new();
    let mut users = Vec::new();
    for _ in 0..ROOMS {
        for (user, found) in meet([&server; 2], [Via::WebSocket; 2]).await {
            tickets.push((text(&found, "room_ticket"), found));
            users.push(user);
        }
    }
    kill(server).await;
    drop(users);
    let server = TestServer::start(&[]).await;
    // Nobody waits for anybody: first one of each room, then the others, from the last to the first.
    let (firsts, seconds): (Vec<_>, Vec<_>) = tickets
        .into_iter()
        .enumerate()
        .partition(|(i, _)| i % 2 == 0);
    let mut users = Vec::new();
    for (_, (ticket, before)) in firsts.into_iter().chain(seconds.into_iter().rev()) {
        users.push((rejoin(&server, Via::WebSocket, &ticket).await, before));
    }
    for (user, before) in &mut users {
        let mut told = user.next().await.unwrap();
        if told["type"] == "rejoining" {
            told = user.next().await.unwrap();
        }
        assert_eq!(told["type"], "rejoined");
        assert_eq!(told["room_id"], before["room_id"]);
        assert_eq!(told["initiator"], before["initiator"]);
    }
    server.reaches("rooms_active", "", ROOMS as f64).await;
}

#[tokio::test]
async fn a_named_room_comes_back_with_its_numbers() {
    let server = TestServer::start(&[]).await;
    let mut tickets = Vec::new();
    let mut users = Vec::new();
    for _ in 0..3 {
        let mut user = Client::begin(&server, Via::WebSocket).await;
        user.send(json!({"type": "join_room", "room": "tea"})).await;
        let joined = user.expect("room_joined").await;
        tickets.push((text(&joined, "room_ticket"), joined["you"].clone()));
        users.push(user);
    }
    kill(server).await;
    let server = TestServer::start(&[]).await;
    // The last one is the first to be back, and is no newcomer to the others.
    let mut back: Vec<(Client, Value)> = Vec::new();
    for (ticket, you) in tickets.into_iter().rev() {
        let mut user = rejoin(&server, Via::WebSocket, &ticket).await;
        let joined = user.expect("room_joined").await;
        assert_eq!(joined["you"]["n"], you["n"]);
        let members = joined["members"].as_array().unwrap();
        for (member, (_, other)) in members.iter().zip(&back) {
            let offers = you["n"].as_u64() > member["n"].as_u64();
            assert_eq!(member["offer"], offers, "{joined}");
            assert_eq!(member["was"], other["peer_id"], "{joined}");
        }
        for (other, _) in &mut back {
            let told = other.expect("peer_joined").await;
            assert_eq!(told["offer"], true);
            assert_eq!(told["was"], you["peer_id"]);
        }
        assert_eq!(members.len(), back.len());
        back.push((user, you));
    }
    // Who has never been here was nobody.
    let mut newcomer = Client::begin(&server, Via::WebSocket).await;
    newcomer
        .send(json!({"type": "join_room", "room": "tea"}))
        .await;
    for (other, _) in &mut back {
        let told = other.expect("peer_joined").await;
        assert!(told.get("was").is_none(), "{told}");
    }
}

#[tokio::test]
async fn a_ticket_that_brings_nobody_back_says_why() {
    let server = TestServer::start(&["--room-ticket-ttl", "1s"]).await;
    let [(mut first, found), (mut second, seconds)] = meet([&server; 2], [Via::WebSocket; 2]).await;
    let ticket = text(&found, "room_ticket");
    // The same process knows better.
    let mut again = rejoin(&server, Via::WebSocket, &ticket).await;
    assert_eq!(again.expect("error").await["code"], "use_resume");
    first.write(&json!({"type": "leave"})).await;
    second.expect("peer_left").await;
    again
        .send(json!({"type": "rejoin", "ticket": ticket}))
        .await;
    assert_eq!(again.expect("error").await["code"], "room_closed");
    let mut forged = text(&seconds, "room_ticket");
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'E' } else { 'A' });
    for bad in [forged.as_str(), "", "AQ", &again.token.clone()] {
        again.send(json!({"type": "rejoin", "ticket": bad})).await;
        assert_eq!(
            again.expect("error").await["code"],
            "room_ticket_invalid",
            "{bad}"
        );
    }
    again.send(json!({"type": "rejoin"})).await;
    assert_eq!(again.expect("error").await["code"], "bad_message");
    let mut plain = User::connect(&server).await;
    plain
        .send(json!({"type": "rejoin", "ticket": ticket}))
        .await;
    plain.expect_error("bad_message").await;
    // It is two seconds old then, and one is allowed.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    again
        .send(json!({"type": "rejoin", "ticket": ticket}))
        .await;
    assert_eq!(again.expect("error").await["code"], "room_ticket_expired");
}

#[tokio::test]
async fn the_newest_takes_the_seat_and_who_gives_up_is_free() {
    let server = TestServer::start(&[]).await;
    let [(_, first), (_, second)] = meet([&server; 2], [Via::WebSocket; 2]).await;
    kill(server).await;
    let server = TestServer::start(&[]).await;
    let ticket = text(&first, "room_ticket");
    let mut old = rejoin(&server, Via::WebSocket, &ticket).await;
    old.expect("rejoining").await;
    let mut new = rejoin(&server, Via::WebSocket, &ticket).await;
    new.expect("rejoining").await;
    assert_eq!(old.end().await, crate::support::End::Closed(Some(4501)));
    new.send(json!({"type": "cancel_match", "id": 1})).await;
    new.expect("ack").await;
    let mut partner = rejoin(&server, Via::WebSocket, &text(&second, "room_ticket")).await;
    partner.expect("rejoining").await;
    // Who waits for a partner is matched with nobody.
    let mut stranger = User::connect(&server).await;
    stranger.wait().await;
    new.send(json!({"type": "rejoin", "ticket": ticket})).await;
    new.expect("rejoined").await;
    partner.expect("rejoined").await;
    stranger.is_undisturbed().await;
}

#[tokio::test]
async fn those_who_leave_before_their_partner_is_back_are_not_waited_for() {
    for (request, reason) in [
        ("next", "next"),
        ("leave_room", "left"),
        ("leave", "closed"),
    ] {
        let server = TestServer::start(&[]).await;
        let [(_, first), (_, second)] = meet([&server; 2], [Via::WebSocket; 2]).await;
        kill(server).await;
        let server = TestServer::start(&[]).await;
        let ticket = text(&first, "room_ticket");
        let mut user = rejoin(&server, Via::WebSocket, &ticket).await;
        user.expect("rejoining").await;
        match request {
            "leave" => user.write(&json!({"type": "leave"})).await,
            _ => user.send(json!({"type": request, "id": 1})).await,
        }
        match request {
            "next" => drop(user.expect("waiting").await),
            "leave_room" => drop(user.expect("ack").await),
            _ => {
                server
                    .reaches("websocket_active_connections", "", 0.0)
                    .await
            }
        }
        let mut partner = rejoin(&server, Via::WebSocket, &text(&second, "room_ticket")).await;
        let told = partner.expect("peer_left").await;
        assert_eq!(told["reason"], reason, "{told}");
        assert_eq!(told["peer_id"], second["peer_id"], "{told}");
        // They wait for nobody, and a later ticket opens the room for the one who left, if both want that.
        partner
            .send(json!({"type": "rejoin", "ticket": text(&second, "room_ticket")}))
            .await;
        partner.expect("rejoining").await;
    }
}

#[tokio::test]
async fn keys_come_from_files_and_can_be_exchanged() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("keys");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let key = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        std::fs::write(&path, name.repeat(32)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (first, second) = (key("a"), key("b"));
    let server = TestServer::start(&["--room-key-file", &first]).await;
    assert_eq!(server.metric("room_key", r#"source="file""#).await, 1.0);
    let [(_, one), (_, other)] = meet([&server; 2], [Via::WebSocket; 2]).await;
    kill(server).await;
    let flags = ["--room-key-file", &second, "--room-old-key-file", &first];
    let server = TestServer::start(&flags).await;
    let mut user = rejoin(&server, Via::WebSocket, &text(&one, "room_ticket")).await;
    user.expect("rejoining").await;
    let mut user = rejoin(&server, Via::WebSocket, &text(&other, "room_ticket")).await;
    user.expect("rejoined").await;
    kill(server).await;
    let server = TestServer::start(&["--room-key-file", &second]).await;
    let mut user = rejoin(&server, Via::WebSocket, &text(&one, "room_ticket")).await;
    assert_eq!(user.expect("error").await["code"], "room_ticket_invalid");
    let (code, stderr) = crate::support::run(&["--room-key-file", "/nothing/there"]).await;
    assert_eq!(code, Some(2));
    assert!(stderr.contains("/nothing/there"), "{stderr}");
}
