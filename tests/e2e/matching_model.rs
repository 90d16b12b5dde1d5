//! Matching as one would explain it: a list of those who wait, in order of arrival. One server, one over an engine, and several over an
//! engine do step by step what it says. Over an engine that fails nobody is in two rooms, and in the end nobody waits beside another.

use std::ops::Range;

use rand::{RngExt, SeedableRng, rngs::StdRng};
#[cfg(feature = "cluster")]
use rustix::process::Signal;
use serde_json::{Value, json};

#[cfg(feature = "cluster")]
use crate::support::engine::{Engine, knows, stands};
use crate::support::{TestServer, User, eventually};

const USERS: usize = 12;
const STEPS: Range<usize> = 0..100;

/// Language, region, and interests.
type Wish = (&'static str, &'static str, &'static [&'static str]);

const WISHES: [Wish; 7] = [
    ("", "", &[]),
    ("en", "", &[]),
    ("de", "eu", &[]),
    ("en", "eu", &["chess"]),
    ("", "", &["chess", "go"]),
    ("de", "us", &["go", "chess", "tea"]),
    ("", "us", &[]),
];

fn criteria((language, region, interests): Wish) -> Value {
    let mut criteria = json!({"interests": interests});
    for (name, value) in [("language", language), ("region", region)] {
        if !value.is_empty() {
            criteria[name] = json!(value);
        }
    }
    criteria
}

/// A pool that somebody stands in. The narrower is the less.
type Pool = (u8, &'static str, &'static str);

/// The pools of a wish; not `wide`: the narrowest kind alone.
fn pools((language, region, interests): Wish, wide: bool) -> Vec<Pool> {
    let mut pools: Vec<Pool> = interests.iter().map(|word| (0, language, *word)).collect();
    pools.extend((!language.is_empty()).then_some((1, language, "")));
    pools.extend((!region.is_empty()).then_some((2, region, "")));
    if pools.is_empty() {
        pools.push((3, "", ""));
    }
    let narrowest = pools[0].0;
    pools.retain(|pool| wide || pool.0 == narrowest);
    pools
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Find(usize, usize),
    Cancel(usize),
    Next(usize, usize),
    Leave(usize),
    /// Blocks the partner.
    Block(usize),
    /// Goes, and comes back as somebody else.
    Close(usize),
}

fn step(rng: &mut StdRng) -> Step {
    let (user, wish) = (
        rng.random_range(0..USERS),
        rng.random_range(0..WISHES.len()),
    );
    match rng.random_range(0..14) {
        0..6 => Step::Find(user, wish),
        6 => Step::Cancel(user),
        7..10 => Step::Next(user, wish),
        10 => Step::Leave(user),
        11..13 => Step::Block(user),
        _ => Step::Close(user),
    }
}

#[derive(Default)]
struct Model {
    wide: bool,
    /// Users and their wishes, who has waited longest first.
    waiting: Vec<(usize, usize)>,
    partner: [Option<usize>; USERS],
    /// Those who do not meet, whichever of them is named first.
    apart: Vec<[usize; 2]>,
}

impl Model {
    fn is_idle(&self, user: usize) -> bool {
        self.partner[user].is_none() && self.waiting.iter().all(|(other, _)| *other != user)
    }

    /// The partner, if there is one; else the user waits.
    fn find(&mut self, user: usize, wish: usize) -> Option<usize> {
        let own = pools(WISHES[wish], self.wide);
        let apart = |other: usize| {
            let [there, back] = [[user, other], [other, user]];
            self.apart.contains(&there) || self.apart.contains(&back)
        };
        let others = self.waiting.iter().enumerate();
        let fitting = others.filter(|(_, (other, _))| !apart(*other));
        let shared = fitting.filter_map(|(at, (_, wish))| {
            let theirs = pools(WISHES[*wish], self.wide);
            let shared = own.iter().filter(|pool| theirs.contains(pool));
            Some((shared.min()?.0, at))
        });
        let Some((_, at)) = shared.min() else {
            self.waiting.push((user, wish));
            return None;
        };
        let (other, _) = self.waiting.remove(at);
        (self.partner[user], self.partner[other]) = (Some(other), Some(user));
        Some(other)
    }

    /// The user is in no room, and does not wait any more. Whom they leave.
    fn end(&mut self, user: usize) -> Option<usize> {
        self.waiting.retain(|(other, _)| *other != user);
        let partner = self.partner[user].take();
        if let Some(partner) = partner {
            self.partner[partner] = None;
        }
        partner
    }
}

/// The next message of this type, whatever is said before of waiting.
async fn hears(user: &mut User, kind: &str) -> Value {
    loop {
        let message = user.next_json().await;
        if message["type"] == kind {
            return message;
        }
        assert_eq!(message["type"], "waiting", "{kind} was to come");
    }
}

struct Players<'a> {
    nodes: &'a [TestServer],
    users: Vec<User>,
    model: Model,
}

impl Players<'_> {
    /// The answer to a search is what the model says.
    async fn searches(&mut self, user: usize, wish: usize) {
        let Some(partner) = self.model.find(user, wish) else {
            self.users[user].expect("waiting").await;
            return;
        };
        for [one, other] in [[user, partner], [partner, user]] {
            let found = hears(&mut self.users[one], "match_found").await;
            assert_eq!(
                found["peer_id"], self.users[other].id,
                "{one} meets {other}"
            );
        }
    }

    async fn asks(&mut self, user: usize, kind: &str) {
        let user = &mut self.users[user];
        user.send(json!({"type": kind, "id": kind})).await;
        assert_eq!(hears(user, "ack").await["id"], kind);
    }

    async fn is_left(&mut self, user: Option<usize>, reason: &str) {
        if let Some(user) = user {
            assert_eq!(self.users[user].expect_peer_left().await, reason);
        }
    }

    /// Does a step, if it means something now.
    async fn play(&mut self, step: Step) {
        match step {
            Step::Find(user, wish) if self.model.is_idle(user) => {
                self.users[user].find_with(criteria(WISHES[wish])).await;
                self.searches(user, wish).await;
            }
            Step::Cancel(user)
                if self.model.partner[user].is_none() && !self.model.is_idle(user) =>
            {
                self.asks(user, "cancel_match").await;
                self.model.end(user);
            }
            Step::Next(user, wish) if self.model.partner[user].is_some() => {
                let next = json!({"type": "next", "criteria": criteria(WISHES[wish])});
                self.users[user].send(next).await;
                let partner = self.model.end(user);
                self.model
                    .apart
                    .extend(partner.map(|partner| [user, partner]));
                self.is_left(partner, "next").await;
                self.searches(user, wish).await;
            }
            Step::Leave(user) if self.model.partner[user].is_some() => {
                self.asks(user, "leave_room").await;
                let partner = self.model.end(user);
                self.is_left(partner, "left").await;
            }
            Step::Block(user) if self.model.partner[user].is_some() => {
                self.asks(user, "block").await;
                let partner = self.model.end(user);
                self.model
                    .apart
                    .extend(partner.map(|partner| [user, partner]));
                self.is_left(partner, "left").await;
            }
            Step::Close(user) => {
                let node = &self.nodes[user % self.nodes.len()];
                let before = std::mem::replace(&mut self.users[user], User::connect(node).await);
                before.close().await;
                let partner = self.model.end(user);
                self.model.apart.retain(|two| !two.contains(&user));
                self.is_left(partner, "closed").await;
                // Who has gone may be met for a moment still.
                self.is_counted().await;
            }
            _ => {}
        }
    }

    /// How many wait, and the rooms, as the servers count them.
    async fn counted(&self) -> (f64, f64) {
        let (mut waiting, mut rooms) = (0.0, 0.0);
        for node in self.nodes {
            let metrics = node.metrics().await;
            let pools = metrics.all("matchmaking_waiting_users");
            waiting += pools.map(|(_, count)| count).sum::<f64>();
            rooms += node.metric("rooms_active", "").await;
        }
        (waiting, rooms)
    }

    async fn is_counted(&self) {
        let rooms = self.model.partner.iter().flatten().count() / 2;
        let expected = (self.model.waiting.len() as f64, rooms as f64);
        eventually("the servers count as the model", async || {
            self.counted().await == expected
        })
        .await;
    }

    /// Nobody has heard anything else.
    async fn are_undisturbed(&mut self) {
        for user in &mut self.users {
            user.is_undisturbed().await;
        }
    }
}

async fn connect(nodes: &[TestServer]) -> Vec<User> {
    let mut users = Vec::new();
    for user in 0..USERS {
        users.push(User::connect(&nodes[user % nodes.len()]).await);
    }
    users
}

/// Steps at random, each when what the one before has led to is known on all nodes, which `settled` waits for.
async fn conforms(nodes: &[TestServer], wide: bool, settled: impl AsyncFn(usize)) {
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let model = Model {
        wide,
        ..Model::default()
    };
    let users = connect(nodes).await;
    let mut players = Players {
        nodes,
        users,
        model,
    };
    println!("seed {seed}, wide {wide}");
    for number in STEPS {
        let step = step(&mut rng);
        println!("{number}: {step:?}");
        players.play(step).await;
        settled(players.model.waiting.len()).await;
    }
    players.is_counted().await;
    players.are_undisturbed().await;
}

/// Flags with which a shared language or region is enough from the first, or never.
fn flags(wide: bool) -> [&'static str; 8] {
    let after = if wide { "0s" } else { "never" };
    [
        "--widen-language-after",
        after,
        "--widen-region-after",
        after,
        "--widen-anyone-after",
        "never",
        "--avoid-partner-for",
        "1h",
    ]
}

#[tokio::test]
async fn one_server_conforms() {
    for wide in [false, true] {
        let node = [TestServer::start(&flags(wide)).await];
        conforms(&node, wide, async |_| ()).await;
    }
}

#[cfg(feature = "cluster")]
async fn over_an_engine(count: usize) {
    for wide in [false, true] {
        let engine = Engine::start().await;
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(engine.node(&flags(wide)).await);
        }
        for node in &nodes {
            stands(node, "up").await;
            knows(node, "alive", (count - 1) as f64).await;
        }
        conforms(&nodes, wide, async |waiting| {
            eventually("all who wait are posted", async || {
                engine.ask("hlen {vm:m}:1:t") == waiting.to_string()
            })
            .await;
        })
        .await;
    }
}

#[cfg(feature = "cluster")]
#[tokio::test]
async fn one_server_over_an_engine_conforms() {
    over_an_engine(1).await;
}

#[cfg(feature = "cluster")]
#[tokio::test]
async fn two_servers_conform() {
    over_an_engine(2).await;
}

#[cfg(feature = "cluster")]
#[tokio::test]
async fn three_servers_conform() {
    over_an_engine(3).await;
}

/// Where a user is, as far as they have been told.
#[cfg(feature = "cluster")]
#[derive(Debug, Clone, PartialEq)]
enum Place {
    Idle,
    Waiting,
    /// With whom.
    Room {
        room: Value,
        peer: Value,
    },
}

/// A user who asks for what makes sense, and does not wait for what becomes of it.
#[cfg(feature = "cluster")]
struct Seeker {
    user: User,
    place: Place,
    /// They have asked for another partner: they may hear of that one without having heard that they have left.
    leaves: bool,
}

#[cfg(feature = "cluster")]
impl Seeker {
    /// Hears all that has been said. Nobody is in two rooms.
    async fn listen(&mut self) {
        self.user.send(json!({"type": "ping", "id": "all"})).await;
        loop {
            let message = self.user.next_json().await;
            let in_room = matches!(self.place, Place::Room { .. });
            match message["type"].as_str() {
                Some("pong") => return,
                Some("waiting") => {
                    let has_left = std::mem::take(&mut self.leaves);
                    assert!(!in_room || has_left, "{:?}: {message}", self.place);
                    self.place = Place::Waiting;
                }
                Some("match_found") => {
                    let has_left = std::mem::take(&mut self.leaves);
                    assert!(!in_room || has_left, "{:?}: {message}", self.place);
                    let [room, peer] = ["room_id", "peer_id"].map(|name| message[name].clone());
                    self.place = Place::Room { room, peer };
                }
                Some("peer_left") => {
                    assert!(in_room, "{:?}: {message}", self.place);
                    self.place = Place::Idle;
                }
                // Of a search that was given up. A match may have been quicker.
                Some("ack") => self.place = Place::Idle,
                Some("error") => assert_eq!(message["code"], "not_waiting", "{message}"),
                _ => panic!("{message}"),
            }
        }
    }

    async fn ask(&mut self, rng: &mut StdRng) {
        let request = match self.place {
            Place::Idle => "find_match",
            Place::Waiting if rng.random_bool(0.2) => "cancel_match",
            Place::Room { .. } if rng.random_bool(0.7) => "next",
            _ => return,
        };
        self.leaves = request == "next";
        let id = (request == "cancel_match").then_some("cancel");
        self.user.send(json!({"type": request, "id": id})).await;
    }
}

/// One waits at the most, and all others are in rooms of two.
#[cfg(feature = "cluster")]
fn are_paired(seekers: &[Seeker]) -> bool {
    let waiting = seekers
        .iter()
        .filter(|seeker| seeker.place == Place::Waiting);
    let paired = seekers.iter().filter(|seeker| {
        let Place::Room { room, peer } = &seeker.place else {
            return false;
        };
        let partner = seekers.iter().find(|other| *peer == other.user.id);
        let (room, peer) = (room.clone(), json!(seeker.user.id));
        partner.is_some_and(|partner| partner.place == Place::Room { room, peer })
    });
    waiting.count() <= 1 && paired.count() >= seekers.len() - 1
}

/// What the engine suffers.
#[cfg(feature = "cluster")]
#[derive(Debug, Clone, Copy)]
enum Fault {
    Forget,
    Kill,
    Stop,
}

#[cfg(feature = "cluster")]
#[tokio::test]
async fn over_an_engine_that_fails_nobody_is_in_two_rooms_and_all_are_paired_in_the_end() {
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    println!("seed {seed}");
    let mut engine = Engine::start().await;
    let (a, b) = engine.two_with(&["--avoid-partner-for", "0s"]).await;
    let nodes = [a, b];
    let users = connect(&nodes).await.into_iter();
    let mut seekers: Vec<_> = users
        .map(|user| Seeker {
            user,
            place: Place::Idle,
            leaves: false,
        })
        .collect();
    for round in 0..12 {
        let fault = [Fault::Forget, Fault::Kill, Fault::Stop][rng.random_range(0..3)];
        let is_noticed = rng.random_bool(0.5);
        println!("{round}: {fault:?}, noticed {is_noticed}");
        for part in 0..2 {
            for _ in 0..20 {
                let seeker = &mut seekers[rng.random_range(0..USERS)];
                seeker.listen().await;
                seeker.ask(&mut rng).await;
            }
            match (fault, part) {
                (Fault::Forget, _) => drop(engine.ask("flushall")),
                (Fault::Kill, 0) => engine.kill(),
                (Fault::Stop, 0) => engine.signal(Signal::STOP),
                (Fault::Kill, _) => engine.run().await,
                (Fault::Stop, _) => engine.signal(Signal::CONT),
            }
            let after = match (fault, part) {
                (Fault::Kill | Fault::Stop, 0) => "down",
                _ => "up",
            };
            for node in nodes.iter().filter(|_| is_noticed) {
                stands(node, after).await;
            }
        }
    }
    eventually("all are paired", async || {
        for seeker in &mut seekers {
            seeker.listen().await;
            if seeker.place == Place::Idle {
                seeker.user.find().await;
            }
        }
        are_paired(&seekers)
    })
    .await;
    for node in &nodes {
        stands(node, "up").await;
    }
}
