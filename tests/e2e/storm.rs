//! Many users who do anything at any time: what each of them hears must always make sense.

use futures_util::{FutureExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{TestServer, User, user::text};

const USERS: u64 = 24;
const DEEDS: u64 = 1500;

/// One user and what they know from what they have heard, in the order in which they heard it.
struct Actor {
    user: User,
    random: u64,
    waiting: bool,
    /// The partner, and the last message of theirs.
    partner: Option<(String, u64)>,
    said: u64,
    matches: u64,
    relayed: u64,
}

impl Actor {
    async fn new(server: &TestServer, seed: u64) -> Self {
        Self {
            user: User::connect(server).await,
            random: seed * 2 + 1,
            waiting: false,
            partner: None,
            said: 0,
            matches: 0,
            relayed: 0,
        }
    }

    /// A number below `bound`; the same ones in each run (splitmix64).
    fn pick(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn criteria(&mut self) -> Value {
        match self.pick(4) {
            0 => json!({"language": "en"}),
            1 => json!({"language": "de", "interests": ["jazz", "tea"]}),
            2 => json!({"region": "eu", "interests": ["tea"]}),
            _ => json!({}),
        }
    }

    async fn act(&mut self) {
        let message = match self.pick(10) {
            0..=2 => json!({"type": "find_match", "criteria": self.criteria()}),
            3 => json!({"type": "next", "criteria": self.criteria()}),
            4 => json!({"type": "cancel_match", "id": "cancel"}),
            5 => json!({"type": "leave_room", "id": "leave"}),
            _ => {
                self.said += 1;
                json!({"type": "message", "payload": self.said})
            }
        };
        self.user.send(message).await;
        while let Some(message) = self.user.socket.next().now_or_never() {
            let Message::Text(text) = message.unwrap().unwrap() else {
                continue;
            };
            self.hear(&serde_json::from_str(&text).unwrap());
        }
    }

    /// Everything that this user asked for has been answered.
    async fn settle(&mut self, sign: &str) {
        self.user.send(json!({"type": "ping", "id": sign})).await;
        loop {
            let message = self.user.next_json().await;
            if message["type"] == "pong" && message["id"] == sign {
                return;
            }
            self.hear(&message);
        }
    }

    /// Cancels and leaves; more than once if a match comes between the two.
    async fn become_idle(&mut self) {
        for attempt in 0..100 {
            self.user
                .send(json!({"type": "cancel_match", "id": "cancel"}))
                .await;
            self.user
                .send(json!({"type": "leave_room", "id": "leave"}))
                .await;
            self.settle(&format!("end {attempt}")).await;
            if !self.waiting && self.partner.is_none() {
                return;
            }
        }
        panic!("{} {:?} for ever", self.waiting, self.partner);
    }

    fn hear(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "waiting" => {
                assert!(!self.waiting, "told twice: {message}");
                self.waiting = true;
                self.partner = None;
            }
            "match_found" => {
                let peer = text(message, "peer_id");
                assert_ne!(peer, self.user.id);
                self.partner = Some((peer, 0));
                self.waiting = false;
                self.matches += 1;
            }
            "peer_left" => {
                let (partner, _) = self.partner.take().expect("a partner to be left by");
                assert_eq!(partner, text(message, "peer_id"));
            }
            "message" => {
                let (partner, last) = self.partner.as_mut().expect("a partner to hear from");
                assert_eq!(*partner, text(message, "from"));
                let number = message["payload"].as_u64().unwrap();
                assert!(number > *last, "{number} after {last}");
                *last = number;
                self.relayed += 1;
            }
            "ack" if message["id"] == "cancel" => {
                assert!(self.waiting, "nothing was to be cancelled");
                self.waiting = false;
            }
            "ack" => assert!(self.partner.take().is_some(), "no room was to be left"),
            "error" => {
                let usual = [
                    "already_waiting",
                    "already_in_room",
                    "not_waiting",
                    "not_in_room",
                ];
                let code = message["code"].as_str().unwrap();
                assert!(usual.contains(&code), "{message}");
            }
            _ => panic!("{message}"),
        }
    }
}

#[tokio::test]
async fn whatever_users_do_what_they_hear_makes_sense_and_nothing_is_left_over() {
    let server = TestServer::start(&[
        "--workers",
        "4",
        "--max-messages-per-second",
        "0",
        "--avoid-partner-for",
        "20ms",
        "--widen-language-after",
        "10ms",
        "--widen-region-after",
        "20ms",
        "--widen-anyone-after",
        "30ms",
    ])
    .await;
    let mut actors = join_all((0..USERS).map(|seed| Actor::new(&server, seed))).await;
    let play = async |actor: &mut Actor| {
        for deed in 0..DEEDS {
            actor.act().await;
            if deed % 5 == 0 {
                actor.settle(&deed.to_string()).await;
            }
        }
        actor.become_idle().await;
    };
    join_all(actors.iter_mut().map(play)).await;
    for actor in &mut actors {
        actor.user.is_undisturbed().await;
    }
    let sum = |count: fn(&Actor) -> u64| actors.iter().map(count).sum::<u64>() as f64;
    let (matches, relayed) = (sum(|actor| actor.matches), sum(|actor| actor.relayed));
    assert!(matches > 100.0 && relayed > 100.0, "{matches} {relayed}");
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("rooms_active", ""), 0.0);
    assert_eq!(metrics.get("sessions", r#"state="idle""#), USERS as f64);
    for (labels, count) in metrics.all("matchmaking_waiting_users") {
        assert_eq!(count, 0.0, "{labels}");
    }
    let total: f64 = metrics.all("matches_total").map(|(_, count)| count).sum();
    assert_eq!(total * 2.0, matches);
    assert_eq!(
        metrics.get("messages_relayed_total", r#"type="message""#),
        relayed
    );
}
