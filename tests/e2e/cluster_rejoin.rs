//! A node goes, and its users come to another one with their room tickets: their partners notice nothing but that.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, End, TestServer, User, Via,
    engine::{Engine, knows},
    matched,
    user::text,
};

async fn meet(a: &TestServer, b: &TestServer) -> [(Client, Value); 2] {
    matched::meet([a, b], [Via::WebSocket; 2]).await
}

/// A new session that shows the ticket of this match.
async fn rejoin(server: &TestServer, found: &Value) -> Client {
    let mut client = Client::begin(server, Via::WebSocket).await;
    let ticket = text(found, "room_ticket");
    client
        .send(json!({"type": "rejoin", "ticket": ticket, "id": 7}))
        .await;
    client
}

/// What comes of it, behind `rejoining`.
async fn outcome(client: &mut Client) -> Value {
    let told = client.next().await.unwrap();
    match told["type"] == "rejoining" {
        true => client.next().await.unwrap(),
        false => told,
    }
}

async fn is_refused(client: &mut Client, code: &str) {
    let told = outcome(client).await;
    assert_eq!(
        (&told["type"], &told["code"], &told["id"]),
        (&json!("error"), &json!(code), &json!(7)),
        "{told}"
    );
}

/// Both are told that they are in the room of before, and talk.
async fn are_together(one: (&mut Client, &Value), other: (&mut Client, &Value)) {
    let ids = [one.0.id.clone(), other.0.id.clone()];
    for ((client, before), peer) in [(one.0, one.1), (other.0, other.1)].into_iter().zip([1, 0]) {
        let rejoined = outcome(client).await;
        assert_eq!(rejoined["type"], "rejoined", "{rejoined}");
        assert_eq!(rejoined["peer_id"], ids[peer]);
        for same in ["room_id", "initiator"] {
            assert_eq!(rejoined[same], before[same], "{rejoined}");
        }
        assert_ne!(rejoined["room_ticket"], before["room_ticket"]);
    }
}

async fn talk(one: &mut Client, other: &mut Client) {
    for number in 0..5 {
        one.say(format!("one {number}")).await;
        other.hears(format!("one {number}")).await;
        other.say(format!("other {number}")).await;
        one.hears(format!("other {number}")).await;
    }
}

async fn three(engine: &Engine) -> [TestServer; 3] {
    let flags = ["--drain-timeout", "2s"];
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

async fn kill(mut server: TestServer) {
    server.process.signal(Signal::KILL);
    server.process.exit_code().await;
}

#[tokio::test]
async fn who_comes_back_at_once_from_a_killed_node_is_with_their_partner() {
    let engine = Engine::start().await;
    let [a, b, c] = three(&engine).await;
    // To another node, before anybody knows that theirs has died.
    let [(mut first, firsts), (_, seconds)] = meet(&a, &b).await;
    let [(mut third, thirds), (_, fourths)] = meet(&a, &b).await;
    kill(b).await;
    let mut second = rejoin(&c, &seconds).await;
    are_together((&mut first, &firsts), (&mut second, &seconds)).await;
    talk(&mut first, &mut second).await;
    // And to that of the partner, when all do.
    knows(&a, "dead", 1.0).await;
    let mut fourth = rejoin(&a, &fourths).await;
    are_together((&mut third, &thirds), (&mut fourth, &fourths)).await;
    talk(&mut third, &mut fourth).await;
    // A room of two nodes counts at one of them.
    let rooms = a.metric("rooms_active", "").await + c.metric("rooms_active", "").await;
    assert_eq!(rooms, 2.0);
    for (mut one, mut other) in [(first, second), (third, fourth)] {
        one.send(json!({"type": "leave_room", "id": 1})).await;
        one.expect("ack").await;
        assert_eq!(other.expect("peer_left").await["reason"], "left");
    }
    for node in [&a, &c] {
        node.reaches("rooms_active", "", 0.0).await;
    }
}

#[tokio::test]
async fn the_room_goes_on_when_the_second_node_is_killed_too() {
    let engine = Engine::start().await;
    let [a, b, c] = three(&engine).await;
    let [(mut first, firsts), (_, seconds)] = meet(&a, &b).await;
    kill(b).await;
    let mut second = rejoin(&c, &seconds).await;
    let told = outcome(&mut first).await;
    assert_eq!(told["type"], "rejoined", "{told}");
    assert_eq!(outcome(&mut second).await["type"], "rejoined");
    kill(a).await;
    // The new ticket names the partner's new node.
    let firsts = json!({"room_ticket": told["room_ticket"], "room_id": firsts["room_id"], "initiator": firsts["initiator"]});
    let mut first = rejoin(&c, &firsts).await;
    are_together((&mut first, &firsts), (&mut second, &seconds)).await;
    talk(&mut first, &mut second).await;
}

#[tokio::test]
async fn when_both_nodes_are_killed_two_others_take_the_room() {
    let engine = Engine::start().await;
    let [a, b, c] = three(&engine).await;
    let d = engine.node(&[]).await;
    knows(&d, "alive", 3.0).await;
    let [(_, firsts), (_, seconds)] = meet(&a, &b).await;
    let [(_, thirds), (_, fourths)] = meet(&a, &b).await;
    kill(a).await;
    kill(b).await;
    // One comes before anybody knows of the deaths.
    let mut first = rejoin(&c, &firsts).await;
    let mut second = rejoin(&d, &seconds).await;
    are_together((&mut first, &firsts), (&mut second, &seconds)).await;
    talk(&mut first, &mut second).await;
    // Or both to the same node.
    let mut third = rejoin(&c, &thirds).await;
    let mut fourth = rejoin(&c, &fourths).await;
    are_together((&mut third, &thirds), (&mut fourth, &fourths)).await;
    talk(&mut third, &mut fourth).await;
}

#[tokio::test]
async fn who_cannot_come_back_is_lost_at_once() {
    let engine = Engine::start().await;
    let [a, b, c] = three(&engine).await;
    // A plain partner would not understand; a plain user has no ticket.
    let mut plain = User::connect(&a).await;
    plain.wait().await;
    let mut second = Client::begin(&b, Via::WebSocket).await;
    let seconds = second.find().await;
    plain.expect_match().await;
    let mut resumable = Client::begin(&a, Via::WebSocket).await;
    resumable.send(json!({"type": "find_match"})).await;
    resumable.expect("waiting").await;
    let mut other = User::connect(&b).await;
    other.find().await;
    resumable.found().await;
    kill(b).await;
    assert_eq!(plain.expect_peer_left().await, "lost");
    assert_eq!(resumable.expect("peer_left").await["reason"], "lost");
    let mut late = rejoin(&c, &seconds).await;
    is_refused(&mut late, "room_closed").await;
}

#[tokio::test]
async fn a_ticket_that_brings_nobody_back_says_why() {
    let engine = Engine::start().await;
    let flags = ["--resume-window", "1s"];
    let (a, b, c) = (
        engine.node(&flags).await,
        engine.node(&flags).await,
        engine.node(&flags).await,
    );
    knows(&a, "alive", 2.0).await;
    let [(mut first, firsts), (mut second, seconds)] = meet(&a, &b).await;
    // The session is still there.
    let mut other = rejoin(&c, &seconds).await;
    is_refused(&mut other, "use_resume").await;
    talk(&mut first, &mut second).await;
    let mut forged = firsts.clone();
    let ticket = text(&firsts, "room_ticket");
    let last = if ticket.ends_with('A') { 'E' } else { 'A' };
    forged["room_ticket"] = format!("{}{last}", &ticket[..ticket.len() - 1]).into();
    let mut other = rejoin(&c, &forged).await;
    is_refused(&mut other, "room_ticket_invalid").await;
    kill(b).await;
    assert_eq!(first.expect("peer_left").await["reason"], "lost");
    for node in [&a, &c] {
        let mut late = rejoin(node, &seconds).await;
        is_refused(&mut late, "room_closed").await;
        // They are free.
        late.send(json!({"type": "find_match"})).await;
        late.expect("waiting").await;
        late.send(json!({"type": "leave"})).await;
    }
}

#[tokio::test]
async fn who_is_sent_away_by_a_node_that_ends_comes_back_elsewhere() {
    let engine = Engine::start().await;
    let [a, mut b, c] = three(&engine).await;
    let [(mut first, firsts), (mut second, seconds)] = meet(&a, &b).await;
    let [(mut third, thirds), (mut fourth, fourths)] = meet(&b, &b).await;
    b.process.signal(Signal::TERM);
    for client in [&mut second, &mut third, &mut fourth] {
        client.expect("draining").await;
    }
    second.say("one moment").await;
    first.hears("one moment").await;
    assert_eq!(second.end().await, End::Closed(Some(4005)));
    let mut second = rejoin(&c, &seconds).await;
    are_together((&mut first, &firsts), (&mut second, &seconds)).await;
    talk(&mut first, &mut second).await;
    // Both were there: each comes to another node.
    for client in [&mut third, &mut fourth] {
        // One that is slow to confirm what it was sent stays until the drain is over.
        let end = client.end().await;
        assert!(
            [4000, 4005]
                .map(|code| End::Closed(Some(code)))
                .contains(&end),
            "{end:?}"
        );
    }
    let mut third = rejoin(&a, &thirds).await;
    let mut fourth = rejoin(&c, &fourths).await;
    are_together((&mut third, &thirds), (&mut fourth, &fourths)).await;
    talk(&mut third, &mut fourth).await;
    assert_eq!(b.process.exit_code().await, Some(0));
}
