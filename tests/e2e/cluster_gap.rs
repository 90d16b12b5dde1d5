//! More is lost between two nodes than the sender has kept: who can agree anew on what was lost is told.

use serde_json::{Value, json};

use crate::{
    cluster::pair_of,
    support::{
        Client, User, Via,
        engine::{Engine, stands},
        eventually,
        network::Network,
    },
};

/// Of two users: more than the 256 KiB that a node keeps for another one, less than the 1 MiB that may wait.
const MESSAGES: u64 = 40;
const BYTES: usize = 8_000;

fn message(number: u64) -> Value {
    json!({"type": "message", "payload": [number, "x".repeat(BYTES)]})
}

fn number(message: &Value) -> u64 {
    assert_eq!(message["type"], "message", "{message}");
    message["payload"][0].as_u64().unwrap()
}

/// Bytes that have come to the engine.
fn taken(engine: &Engine) -> usize {
    let stats = engine.ask("INFO stats");
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_net_input_bytes:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn who_can_agree_anew_is_told_of_messages_that_are_lost() {
    let engine = Engine::start().await;
    let (b, a, network) = engine.two_and_a_network().await;
    let mut resumable = Client::begin(&b, Via::WebSocket).await;
    let mut sender = User::connect(&a).await;
    sender.wait().await;
    resumable.send(json!({"type": "find_match"})).await;
    // Who looks in vain for a moment waits.
    while resumable.next().await.unwrap()["type"] == "waiting" {}
    let room = sender.expect_match().await.room;
    let (mut other, mut plain) = pair_of(&a, &b).await;

    network.becomes(Network::Hole);
    let before = taken(&engine);
    for number in 0..MESSAGES {
        sender.send(message(number)).await;
        other.send(message(number)).await;
    }
    let sent = 2 * BYTES * usize::try_from(MESSAGES).unwrap();
    eventually("the engine has got them", async || {
        taken(&engine) > before + sent
    })
    .await;
    network.becomes(Network::Good);
    network.cut();
    stands(&b, "up").await;

    // The rooms go on.
    for user in [&mut sender, &mut other] {
        user.send(message(MESSAGES)).await;
    }
    let mut next = 0;
    let gap = loop {
        let told = resumable.next().await.unwrap();
        if told["type"] == "relay_gap" {
            break told;
        }
        assert!(number(&told) >= next, "out of order: {told}");
        next = number(&told) + 1;
    };
    assert_eq!(gap["room_id"].as_str(), Some(&*room), "{gap}");
    assert_eq!(gap["peer_id"].as_str(), Some(&*sender.id), "{gap}");
    assert!(next < MESSAGES, "nothing was lost");
    while number(&resumable.next().await.unwrap()) < MESSAGES {}
    // A client that does not know what to do about it is not told.
    while number(&plain.next_json().await) < MESSAGES {}
    assert_eq!(b.metric("bus_gaps_total", r#"result="lost""#).await, 1.0);
}
