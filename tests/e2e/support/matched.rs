//! Two resumable users in a room of their own, and what else tests of lost connections need.

use serde_json::{Value, json};

use super::{Client, TestServer, Via};

/// Two in a room, with their room tickets.
pub(crate) async fn matched(server: &TestServer, vias: [Via; 2]) -> [(Client, Value); 2] {
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
