//! A new server takes the place of the one that runs: nobody is refused, and nothing that was promised is lost.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    Client, End, Process, TestServer, User, Via, binary,
    client::pair,
    eventually,
    http::{get, request_with_body},
    place::{Place, has_handed_over},
    user::{self, text},
    within,
};

/// Users outside rooms, who go first: those in rooms have some time.
async fn others(server: &TestServer) -> Vec<User> {
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(User::connect(server).await);
    }
    others
}

/// The moment at which a user is to come back.
async fn draining(client: &mut Client) -> u64 {
    let told = client.expect("draining").await;
    told["reconnect_in_ms"].as_u64().unwrap()
}

#[tokio::test]
async fn no_connection_is_refused_while_servers_succeed_each_other() {
    let place = Place::new("1s");
    let mut server = place.start().await;
    let (public, admin) = (server.public, server.admin);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut visitors = JoinSet::new();
    for address in [public, public, admin] {
        let stopped = stopped.clone();
        visitors.spawn(async move {
            let path = if address == public {
                "/health"
            } else {
                "/readyz"
            };
            let mut answers = 0;
            while !*stopped.borrow() {
                assert_eq!(get(address, path).await.status, 200);
                answers += 1;
            }
            answers
        });
    }
    for _ in 0..3 {
        let next = place.start().await;
        assert_eq!((next.public, next.admin), (public, admin));
        assert_eq!(server.process.exit_code().await, Some(0));
        server = next;
    }
    stop.send(true).unwrap();
    for answers in visitors.join_all().await {
        assert!(answers > 3, "{answers}");
    }
}

#[tokio::test]
async fn two_in_a_room_meet_again_at_the_new_server_with_all_that_was_said() {
    for via in Via::ALL {
        let place = Place::new("4s");
        let mut old = place.start().await;
        let _others = others(&old).await;
        let (mut one, mut other) = (
            Client::begin(&old, via).await,
            Client::begin(&old, Via::WebSocket).await,
        );
        one.send(json!({"type": "find_match"})).await;
        one.expect("waiting").await;
        other.send(json!({"type": "find_match"})).await;
        let firsts = one.expect("match_found").await;
        let seconds = other.expect("match_found").await;
        let new = place.start().await;
        // The old server still carries their room.
        let told = [draining(&mut one).await, draining(&mut other).await];
        assert!(told[0] > 0 && told[0] == told[1], "{told:?}");
        one.say("are you there?").await;
        other.hears("are you there?").await;
        other.say("yes").await;
        one.hears("yes").await;
        let gone = async {
            let ends = [one.end().await, other.end().await];
            assert_eq!(ends, [const { End::Closed(Some(4000)) }; 2], "{via:?}");
        };
        within("the end of both sessions", gone).await;
        assert_eq!(other.received, other.sent);
        let mut back = Vec::new();
        for (via, found) in [(via, &firsts), (Via::WebSocket, &seconds)] {
            let mut client = Client::begin(&new, via).await;
            let ticket = text(found, "room_ticket");
            client
                .send(json!({"type": "rejoin", "ticket": ticket}))
                .await;
            back.push(client);
        }
        for (client, found) in back.iter_mut().zip([&firsts, &seconds]) {
            let mut told = client.next().await.unwrap();
            if told["type"] == "rejoining" {
                told = client.next().await.unwrap();
            }
            assert_eq!(told["type"], "rejoined", "{told}");
            assert_eq!(told["room_id"], found["room_id"]);
        }
        assert_eq!(old.process.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn a_key_that_is_in_memory_only_goes_to_the_next_servers() {
    // What nobody can write to: the key is lost with the last server.
    const NOWHERE: [&str; 2] = ["--state-dir", "/proc/nothing"];
    let place = Place::new("2s");
    let first = place.start_with(&NOWHERE).await;
    assert_eq!(first.metric("room_key", r#"source="memory""#).await, 1.0);
    let mut one = Client::begin(&first, Via::WebSocket).await;
    one.send(json!({"type": "join_room", "room": "tea"})).await;
    let joined = one.expect("room_joined").await;
    let mut before = first;
    // The last one has a key of its own, and believes the other too.
    for flags in [&NOWHERE[..], &NOWHERE[..], &[]] {
        let server = place.start_with(flags).await;
        has_handed_over(&before).await;
        let mut back = Client::begin(&server, Via::WebSocket).await;
        let ticket = text(&joined, "room_ticket");
        back.send(json!({"type": "rejoin", "ticket": ticket})).await;
        let rejoined = back.expect("room_joined").await;
        assert_eq!(rejoined["you"]["n"], joined["you"]["n"]);
        before = server;
    }
}

#[tokio::test]
async fn both_members_of_a_room_are_told_the_same_moment_and_go_last() {
    let place = Place::new("4s");
    let old = place.start().await;
    let (mut one, mut other) = pair(&old, Via::WebSocket, Via::EventStream).await;
    let mut idle = Client::begin(&old, Via::WebSocket).await;
    let mut waiting = Client::begin(&old, Via::EventStream).await;
    waiting.send(json!({"type": "find_match"})).await;
    waiting.expect("waiting").await;
    let _new = place.start().await;
    let moment = draining(&mut one).await;
    assert_eq!(draining(&mut other).await, moment);
    let (waits, idles) = (draining(&mut waiting).await, draining(&mut idle).await);
    assert!(waits < idles && idles < moment, "{waits} {idles} {moment}");
}

#[tokio::test]
async fn a_lost_connection_comes_back_through_the_new_server() {
    for via in Via::ALL {
        let place = Place::new("20s");
        let old = place.start().await;
        let _others = others(&old).await;
        let (mut one, mut other) = pair(&old, Via::WebSocket, Via::WebSocket).await;
        let new = place.start().await;
        other.expect("draining").await;
        one.expect("draining").await;
        one.cut();
        other.say("while you were away").await;
        one.resume(via).await.unwrap();
        assert_eq!(one.first["type"], "resumed");
        one.hears("while you were away").await;
        one.say("back").await;
        other.hears("back").await;
        let forwarded = new.metric("requests_forwarded_total", "").await;
        assert!(forwarded >= 1.0, "{forwarded}");
    }
}

#[tokio::test]
async fn what_a_page_says_when_it_is_left_reaches_the_old_server() {
    let place = Place::new("20s");
    let old = place.start().await;
    let _others = others(&old).await;
    let (mut one, mut other) = pair(&old, Via::WebSocket, Via::Polling).await;
    let new = place.start().await;
    other.expect("draining").await;
    let beacon = async |token: &str, messages: &Value| {
        let body = json!({"token": token, "messages": messages}).to_string();
        let headers = format!(
            "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n",
            body.len()
        );
        request_with_body(new.public, "POST", "/send", &headers, &body).await
    };
    let padding = "x".repeat(64 * 1024);
    let long = beacon(&one.token, &json!([{"type": "leave", "padding": padding}])).await;
    assert_eq!(long.status, 413, "{long:?}");
    // Another secret of the same session: only the old server can tell.
    let mut forged = one.token.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    let refused = beacon(&forged, &json!([{"type": "leave"}])).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let messages = json!([
        {"type": "message", "payload": "bye", "seq": one.sent + 1},
        {"type": "leave"},
    ]);
    let taken = beacon(&one.token, &messages).await;
    assert_eq!(taken.status, 200, "{taken:?}");
    assert_eq!(taken.json()["received"], one.sent + 1);
    other.hears("bye").await;
    other.expect("peer_left").await;
    let forwarded = new.metric("requests_forwarded_total", "").await;
    assert!(forwarded >= 2.0, "{forwarded}");
    one.end().await;
}

#[tokio::test]
async fn tokens_that_open_nothing_are_refused_by_the_old_server_too() {
    let place = Place::new("20s");
    let old = place.start().await;
    let (one, _other) = pair(&old, Via::WebSocket, Via::WebSocket).await;
    let new = place.start().await;
    let mut forged = one.copy();
    // Another secret of the same session.
    let last = if forged.token.ends_with('A') {
        "B"
    } else {
        "A"
    };
    forged.token.truncate(forged.token.len() - 6);
    forged.token.push_str(&last.repeat(6));
    let post = forged.post(r#"{"type":"find_match","seq":1}"#).await;
    assert_eq!(post.status, 401, "{post:?}");
    let long = "x".repeat(300_000);
    let post = one.copy().post(&format!("[\"{long}\"]")).await;
    assert_eq!(post.status, 413, "{post:?}");
    drop(old);
    // Nobody is there who could know it.
    eventually("the old server has ended", async || {
        one.copy().post("[]").await.status == 401
    })
    .await;
    assert_eq!(new.public("/health").await.status, 200);
}

#[tokio::test]
async fn plain_users_in_a_room_talk_to_the_end_of_the_drain() {
    let place = Place::new("4s");
    let mut old = place.start().await;
    let (mut one, mut other) = user::pair(&old).await;
    let mut idle = User::connect(&old).await;
    let _new = place.start().await;
    for user in [&mut one, &mut other] {
        let told = user.expect("draining").await;
        let moment = told["reconnect_in_ms"].as_u64().unwrap();
        assert!((2000..=3000).contains(&moment), "{told}");
    }
    idle.expect("draining").await;
    assert_eq!(idle.expect_close().await, 4000);
    one.send(json!({"type": "message", "payload": "go on"}))
        .await;
    assert_eq!(other.expect("message").await["payload"], "go on");
    assert_eq!(old.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_new_server_that_cannot_start_changes_nothing() {
    let place = Place::new("1s");
    let mut old = place.start().await;
    let (mut one, mut other) = pair(&old, Via::WebSocket, Via::WebSocket).await;
    // Its second address is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let mut command = binary();
    let path = place.path();
    command.args(["--listen", "127.0.0.1:0", "--listen", &taken]);
    command.args(["--admin-listen", "127.0.0.1:0"]);
    command.args(["--hand-over", path.to_str().unwrap()]);
    let mut failing = Process::spawn(command);
    assert_eq!(failing.exit_code().await, Some(1));
    eventually("the old server has seen it", async || {
        let log = old.process.stderr();
        log.iter().any(|line| line.contains("this one goes on"))
    })
    .await;
    one.say("still here").await;
    other.hears("still here").await;
    assert_eq!(old.public("/health").await.status, 200);
    // The next one can.
    let new = place.start().await;
    assert_eq!(new.public, old.public);
    assert_eq!(old.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn who_says_nonsense_at_the_socket_changes_nothing() {
    use std::io::{Read, Write};
    let place = Place::new("1s");
    let old = place.start().await;
    let mut stranger = std::os::unix::net::UnixStream::connect(place.path()).unwrap();
    let mut offer = [0; 4096];
    let read = stranger.read(&mut offer).unwrap();
    assert!(offer[..read].ends_with(b"\n"));
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let hung_up = stranger.read(&mut offer);
    assert!(matches!(hung_up, Ok(0) | Err(_)), "{hung_up:?}");
    let new = place.start().await;
    assert_eq!(new.public, old.public);
}

#[tokio::test]
async fn a_unix_socket_is_handed_over_with_its_file() {
    let place = Place::new("1s");
    let socket = place.folder.path().join("public.sock");
    let address = format!("unix:{}", socket.display());
    let mut old = place.start_with(&["--listen", &address]).await;
    let inode = || {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&socket).unwrap().ino()
    };
    let before = inode();
    let mut new = place.start_with(&["--listen", &address]).await;
    assert_eq!(old.process.exit_code().await, Some(0));
    assert_eq!(inode(), before);
    tokio::net::UnixStream::connect(&socket).await.unwrap();
    new.process.signal(Signal::TERM);
    assert_eq!(new.process.exit_code().await, Some(0));
    assert!(!socket.exists() && !place.path().exists());
}

#[tokio::test]
async fn a_chain_of_three_serves_the_sessions_of_the_first() {
    let place = Place::new("20s");
    let first = place.start().await;
    let _others = others(&first).await;
    let (mut one, mut other) = pair(&first, Via::WebSocket, Via::WebSocket).await;
    let second = place.start().await;
    has_handed_over(&first).await;
    let _third = place.start().await;
    has_handed_over(&second).await;
    one.cut();
    one.resume(Via::EventStream).await.unwrap();
    one.expect("draining").await;
    other.expect("draining").await;
    one.say("by two").await;
    other.hears("by two").await;
}

#[tokio::test]
async fn who_polls_late_hears_what_was_said_before_the_end() {
    let place = Place::new("20s");
    let mut old = place.start().await;
    let (mut one, mut other) = pair(&old, Via::WebSocket, Via::Polling).await;
    one.say("before you go").await;
    let _new = place.start().await;
    one.expect("draining").await;
    let gone = End::Closed(Some(4000));
    assert_eq!(one.end().await, gone);
    // Those whom it can reach have a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    other.hears("before you go").await;
    other.expect("draining").await;
    assert_eq!(other.end().await, gone);
    assert_eq!(old.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_drain_without_a_successor_takes_resumes() {
    // Rooms go in the last 10 s of it.
    let place = Place::new("5min");
    let server = place.start().await;
    let (mut one, mut other) = pair(&server, Via::WebSocket, Via::WebSocket).await;
    server.process.signal(Signal::TERM);
    one.expect("draining").await;
    // Each is told by a worker of their own.
    other.expect("draining").await;
    one.cut();
    one.resume(Via::EventStream).await.unwrap();
    one.say("again").await;
    other.hears("again").await;
    assert_eq!(server.public("/health").await.status, 503);
    let refused: Value = get(server.public, "/poll").await.json();
    assert_eq!(refused["code"], "draining", "{refused}");
}
