//! A client comes to another node than its session began on, and the session is there.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, End, TestServer, Via,
    engine::{Engine, knows},
    matched,
    user::text,
};

/// How long a client may be kept waiting for a node that does not answer; more than it should be on this machine.
const SOON: Duration = Duration::from_secs(10);

async fn three(engine: &Engine) -> [TestServer; 3] {
    let flags = ["--drain-timeout", "8s"];
    let nodes = [
        engine.node(&flags).await,
        engine.node(&flags).await,
        engine.node(&flags).await,
    ];
    for node in &nodes {
        knows(node, "alive", 2.0).await;
    }
    nodes
}

async fn meet(a: &TestServer, b: &TestServer) -> [(Client, Value); 2] {
    matched::meet([a, b], [Via::WebSocket; 2]).await
}

async fn talk(one: &mut Client, other: &mut Client) {
    for number in 0..5 {
        one.say(format!("one {number}")).await;
        other.hears(format!("one {number}")).await;
        other.say(format!("other {number}")).await;
        one.hears(format!("other {number}")).await;
    }
}

/// Nothing is left of a session but at this node.
async fn are_counted(nodes: &[TestServer; 3], sessions: [f64; 3], rooms: f64) {
    for (node, sessions) in nodes.iter().zip(sessions) {
        node.reaches("websocket_active_connections", "", sessions)
            .await;
        node.reaches("sessions_detached", "", 0.0).await;
    }
    let mut counted = 0.0;
    for node in nodes {
        counted += node.metric("rooms_active", "").await;
    }
    assert_eq!(counted, rooms);
}

#[tokio::test]
async fn an_idle_session_goes_on_at_another_node_over_any_stream() {
    let engine = Engine::start().await;
    let nodes = three(&engine).await;
    let mut client = Client::begin(&nodes[0], Via::WebSocket).await;
    for (node, via) in [
        (1, Via::WebSocket),
        (2, Via::EventStream),
        (0, Via::EventStream),
        (1, Via::WebSocket),
        (0, Via::WebSocket),
    ] {
        client.resume_at(&nodes[node], via).await.unwrap();
        assert_eq!(client.first["place"], "idle");
        client.is_heard().await;
        let mut sessions = [0.0; 3];
        sessions[node] = 1.0;
        are_counted(&nodes, sessions, 0.0).await;
    }
    let taken = nodes[1]
        .metric("session_takes_total", r#"result="taken""#)
        .await;
    assert_eq!(taken, 2.0);
}

#[tokio::test]
async fn a_room_goes_on_wherever_the_partner_is() {
    let engine = Engine::start().await;
    let nodes = three(&engine).await;
    for partner in 0..3 {
        for turn in [false, true] {
            let pair = match turn {
                false => meet(&nodes[0], &nodes[partner]).await,
                true => {
                    let [first, second] = meet(&nodes[partner], &nodes[0]).await;
                    [second, first]
                }
            };
            let [(mut user, found), (mut other, _)] = pair;
            talk(&mut user, &mut other).await;
            for node in [1, 2, 0, 2, 1, 0] {
                // On its way while the user is.
                other.say(format!("before {node}")).await;
                user.resume_at(&nodes[node], Via::WebSocket).await.unwrap();
                assert_eq!(user.first["place"], "in_room");
                assert_eq!(user.first["room"]["room_id"], found["room_id"]);
                other.say(format!("after {node}")).await;
                user.hears(format!("before {node}")).await;
                user.hears(format!("after {node}")).await;
                talk(&mut user, &mut other).await;
            }
            user.send(json!({"type": "leave_room", "id": 1})).await;
            user.expect("ack").await;
            assert_eq!(other.expect("peer_left").await["reason"], "left");
        }
    }
    for node in &nodes {
        node.reaches("rooms_active", "", 0.0).await;
    }
}

#[tokio::test]
async fn both_users_of_a_room_go_on_at_the_same_time() {
    let engine = Engine::start().await;
    let nodes = three(&engine).await;
    let [(mut one, _), (mut other, _)] = meet(&nodes[0], &nodes[0]).await;
    for targets in [[1, 1], [2, 0], [1, 2], [2, 1], [0, 0], [1, 2]] {
        let (first, second) = tokio::join!(
            one.resume_at(&nodes[targets[0]], Via::WebSocket),
            other.resume_at(&nodes[targets[1]], Via::WebSocket)
        );
        assert_eq!((first, second), (Ok(()), Ok(())), "{targets:?}");
        talk(&mut one, &mut other).await;
    }
    let sessions = [0.0, 1.0, 1.0];
    are_counted(&nodes, sessions, 1.0).await;
}

#[tokio::test]
async fn nothing_is_lost_while_the_partner_speaks_all_the_time() {
    let engine = Engine::start().await;
    let nodes = three(&engine).await;
    let [(mut user, _), (mut other, _)] = meet(&nodes[0], &nodes[2]).await;
    // As many as the rate of a user allows, and not more than a session keeps without a connection.
    for round in 0..10_u32 {
        for number in 0..50 {
            other.say(json!([round, number])).await;
        }
        let node = usize::try_from((round + 1) % 2).unwrap();
        user.resume_at(&nodes[node], Via::WebSocket).await.unwrap();
        for number in 0..50 {
            // Their order is checked by their numbers, too.
            user.hears(json!([round, number])).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    talk(&mut user, &mut other).await;
}

#[tokio::test]
async fn who_has_waited_longest_is_met_first_at_the_new_node() {
    let engine = Engine::start().await;
    let nodes = three(&engine).await;
    let mut first = Client::begin(&nodes[0], Via::WebSocket).await;
    let wish = json!({"type": "find_match", "id": 77, "criteria": {"interests": ["chess"]}});
    first.send(wish).await;
    first.expect("waiting").await;
    // How long somebody has waited is taken along by the engine's clock, which a busy node knows to some milliseconds.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut second = Client::begin(&nodes[1], Via::WebSocket).await;
    // They share nothing, and widen later.
    let wish = json!({"type": "find_match", "id": 78, "criteria": {"interests": ["tea"]}});
    second.send(wish).await;
    second.expect("waiting").await;
    first.resume_at(&nodes[2], Via::WebSocket).await.unwrap();
    assert_eq!(first.first["place"], "waiting");
    nodes[2]
        .reaches("matchmaking_waiting_users", r#"pool="interest""#, 1.0)
        .await;
    // The engine has a moment to hear of it.
    for node in &nodes[1..] {
        node.reaches("cluster_waiting", "", 1.0).await;
    }
    // Of the same node, which it cannot suspect not to answer.
    let mut third = Client::begin(&nodes[2], Via::WebSocket).await;
    let wish = json!({"type": "find_match", "criteria": {"interests": ["tea", "chess"]}});
    third.send(wish).await;
    let met = third.found().await;
    assert_eq!(met["peer_id"], json!(first.id));
    let told = first.found().await;
    assert_eq!(
        (&told["id"], &told["peer_id"]),
        (&json!(77), &json!(third.id))
    );
}

#[tokio::test]
async fn a_wrong_secret_and_a_used_token_open_nothing() {
    let engine = Engine::start().await;
    let nodes = three(&engine).await;
    let mut client = Client::begin(&nodes[0], Via::WebSocket).await;
    let mut thief = client.copy();
    // The last character but one belongs to the secret alone.
    let mut forged = client.token.clone();
    let last = forged.split_off(40);
    forged.push_str(if last.starts_with('A') { "BA" } else { "AA" });
    thief.token = forged;
    assert_eq!(
        thief.resume_at(&nodes[1], Via::WebSocket).await,
        Err(End::Closed(Some(4502)))
    );
    let forged = nodes[1]
        .metric("session_takes_total", r#"result="forged""#)
        .await;
    assert_eq!(forged, 1.0);
    client.is_heard().await;
    let mut old = client.copy();
    client.resume_at(&nodes[1], Via::WebSocket).await.unwrap();
    // With the second its predecessor is used up.
    client.resume_at(&nodes[2], Via::WebSocket).await.unwrap();
    for (node, via, code) in [(0, Via::WebSocket, 4502), (2, Via::EventStream, 401)] {
        let refused = old.resume_at(&nodes[node], via).await;
        assert_eq!(refused, Err(End::Closed(Some(code))));
    }
    client.is_heard().await;
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_given_up_soon() {
    let engine = Engine::start().await;
    let [a, b, c] = three(&engine).await;
    let [(mut frozen, _), _] = meet(&a, &b).await;
    let [(_third, _thirds), (mut fourth, fourths)] = meet(&c, &a).await;
    a.process.signal(Signal::STOP);
    let begun = Instant::now();
    let refused = frozen.resume_at(&b, Via::WebSocket).await;
    assert_eq!(refused, Err(End::Closed(Some(4502))));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let timeouts = b.metric("session_takes_total", r#"result="timeout""#).await;
    assert_eq!(timeouts, 1.0);
    a.process.signal(Signal::KILL);
    drop(a);
    let begun = Instant::now();
    let refused = fourth.resume_at(&b, Via::EventStream).await;
    assert_eq!(refused, Err(End::Closed(Some(401))));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    // The room ticket works then.
    let mut back = Client::begin(&b, Via::WebSocket).await;
    let ticket = text(&fourths, "room_ticket");
    back.send(json!({"type": "rejoin", "ticket": ticket})).await;
    loop {
        let told = back.next().await.unwrap();
        if told["type"] != "rejoining" {
            assert_eq!(told["type"], "rejoined", "{told}");
            assert_eq!(told["room_id"], fourths["room_id"]);
            break;
        }
    }
}

#[tokio::test]
async fn who_is_in_a_named_room_is_not_locked_out() {
    let engine = Engine::start().await;
    let nodes = three(&engine).await;
    let mut client = Client::begin(&nodes[0], Via::WebSocket).await;
    client
        .send(json!({"type": "join_room", "room": "tea"}))
        .await;
    let joined = client.expect("room_joined").await;
    let refused = client.resume_at(&nodes[1], Via::WebSocket).await;
    assert_eq!(refused, Err(End::Closed(Some(4502))));
    nodes[0]
        .reaches("websocket_active_connections", "", 0.0)
        .await;
    let mut back = Client::begin(&nodes[1], Via::WebSocket).await;
    let ticket = text(&joined, "room_ticket");
    back.send(json!({"type": "rejoin", "ticket": ticket})).await;
    back.expect("room_joined").await;
}

#[tokio::test]
async fn who_is_sent_away_by_a_drain_goes_on_at_another_node() {
    let engine = Engine::start().await;
    let [mut a, b, c] = three(&engine).await;
    let [(mut user, matched), (mut other, _)] = meet(&a, &b).await;
    let [(mut one, _), (mut two, _)] = meet(&a, &a).await;
    let mut waiting = Client::begin(&a, Via::WebSocket).await;
    let wish = json!({"type": "find_match", "id": 5, "criteria": {"language": "en"}});
    waiting.send(wish).await;
    waiting.expect("waiting").await;
    a.process.signal(Signal::TERM);
    for client in [&mut waiting, &mut user, &mut one, &mut two] {
        assert_eq!(client.end().await, End::Closed(Some(4005)));
        // A proxy may not have noticed yet: nobody goes on where nothing is begun any more.
        for (via, code) in [
            (Via::WebSocket, 4005),
            (Via::EventStream, 503),
            (Via::Polling, 503),
        ] {
            let back = client.resume_at(&a, via).await;
            assert_eq!(back, Err(End::Closed(Some(code))), "{via:?}");
        }
        client.resume_at(&c, Via::WebSocket).await.unwrap();
    }
    assert_eq!(waiting.first["place"], "waiting");
    assert_eq!(user.first["room"]["room_id"], matched["room_id"]);
    talk(&mut user, &mut other).await;
    talk(&mut one, &mut two).await;
    let mut newcomer = Client::begin(&b, Via::WebSocket).await;
    let wish = json!({"type": "find_match", "criteria": {"language": "en"}});
    newcomer.send(wish).await;
    assert_eq!(waiting.found().await["id"], 5);
    assert_eq!(a.process.exit_code().await, Some(0));
}

/// Polls bring no session to another node: it ends, and says so in time.
#[tokio::test]
async fn who_polls_begins_anew_when_the_node_drains() {
    let engine = Engine::start().await;
    let (mut a, b) = engine.two_with(&["--drain-timeout", "3s"]).await;
    let mut polls = Client::begin(&a, Via::Polling).await;
    let mut user = Client::begin(&b, Via::WebSocket).await;
    for client in [&mut polls, &mut user] {
        client.send(json!({"type": "find_match"})).await;
    }
    let matched = polls.found().await;
    user.found().await;
    a.process.signal(Signal::TERM);
    assert_eq!(polls.end().await, End::Closed(Some(4000)));
    let mut back = Client::begin(&b, Via::Polling).await;
    let ticket = text(&matched, "room_ticket");
    back.send(json!({"type": "rejoin", "ticket": ticket})).await;
    for client in [&mut back, &mut user] {
        client.expect("rejoined").await;
    }
    assert_eq!(a.process.exit_code().await, Some(0));
    talk(&mut back, &mut user).await;
}
