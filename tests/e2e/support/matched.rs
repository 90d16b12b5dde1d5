//! Two resumable users in a room of their own, and what else tests of lost connections need.

use serde_json::{Value, json};

use super::{Client, TestServer, Via};

/// Two who were matched, each at a server of its own or both at one, and what `match_found` told them.
pub(crate) async fn meet(servers: [&TestServer; 2], vias: [Via; 2]) -> [(Client, Value); 2] {
    let mut first = Client::begin(servers[0], vias[0]).await;
    let mut second = Client::begin(servers[1], vias[1]).await;
    first.send(json!({"type": "find_match"})).await;
    first.expect("waiting").await;
    let seconds = second.find().await;
    let firsts = first.found().await;
    assert_eq!(firsts["room_id"], seconds["room_id"]);
    [(first, firsts), (second, seconds)]
}

/// Two in a room, with their room tickets.
pub(crate) async fn matched(server: &TestServer, vias: [Via; 2]) -> [(Client, Value); 2] {
    let met = meet([server, server], vias).await;
    met.map(|(client, mut found)| (client, found["room_ticket"].take()))
}

/// A user who polls, and has lost an answer with more in it than the log keeps.
pub(crate) async fn lose_an_answer(user: &Client, partner: &mut Client) {
    for n in 0..5 {
        partner.say(n).await;
    }
    assert_eq!(user.poll("wait=0").await.status, 200);
    partner.say("one more").await;
    partner.is_heard().await;
    assert_eq!(user.poll("wait=0").await.json()["code"], "too_old");
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}
