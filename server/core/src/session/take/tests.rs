//! Users go from node to node, and nothing is lost or said twice, and their partners notice nothing.

mod world;

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::Taken;
use crate::{cluster::FrameKind, room::Place, session::Token};
use world::{Client, NODES, World};

const MS: Duration = Duration::from_millis(1);

/// Two users in a room, each at a node.
fn pair(world: &World, nodes: [usize; 2]) -> [Client; 2] {
    let mut clients = nodes.map(|node| Client::begin(world, node));
    for client in &mut clients {
        client.ask(world, json!({"type": "find_match", "id": 1}));
        world.settle();
    }
    for client in &mut clients {
        client.read();
        assert_eq!(client.types().last(), Some(&"match_found"));
        client.others.clear();
    }
    assert_eq!(world.rooms(), 1);
    clients
}

fn settle(world: &World, clients: &mut [Client]) {
    world.settle();
    for client in clients.iter_mut() {
        client.read();
        client.look(world);
    }
    world.settle();
    clients.iter_mut().for_each(Client::read);
}

fn talk(world: &World, clients: &mut [Client; 2]) {
    for client in clients.iter_mut() {
        client.say(world);
    }
    settle(world, clients);
    for (one, other) in [(0, 1), (1, 0)] {
        let said: Vec<u64> = (1..=clients[one].said).collect();
        let at = [clients[one].node, clients[other].node];
        assert_eq!(
            clients[other].heard, said,
            "{one} {at:?} {:?}",
            clients[one].others
        );
    }
}

/// All leave, and nothing is left.
fn all_leave(world: &World, mut clients: Vec<Client>) {
    for client in &mut clients {
        client.leave(world);
    }
    world.settle();
    clients.into_iter().for_each(Client::end);
    for _ in 0..40 {
        world.pass(100 * MS);
        world.settle();
    }
    world.assert_empty();
}

#[test]
fn an_idle_session_goes_on_elsewhere() {
    let world = World::new(1);
    let mut client = Client::begin(&world, 0);
    let first = client.token.clone();
    client.cut(&world);
    client.go(&world, 1);
    settle(&world, std::slice::from_mut(&mut client));
    assert_eq!((client.node, client.is_refused), (Some(1), false));
    assert_eq!(world.attached(client.id), 1);
    assert_eq!(world.nodes[0].resumables.len(), 0);
    assert_eq!(world.nodes[1].metrics.sessions_open.get(), 1);
    // Back, with the old connection still there; the client has not seen that, and shows the older token again.
    assert_ne!(client.token, first);
    client.token = first;
    client.go(&world, 0);
    settle(&world, std::slice::from_mut(&mut client));
    assert_eq!((client.node, client.is_refused), (Some(0), false));
    all_leave(&world, vec![client]);
}

#[test]
fn a_room_goes_on_wherever_the_partner_is() {
    // The partner at the node that is left, at that to which the user comes, and at a third one.
    for partner in 0..NODES {
        for offers in [false, true] {
            let world = World::new(1);
            let nodes = if offers { [partner, 0] } else { [0, partner] };
            let mut clients = pair(&world, nodes);
            talk(&world, &mut clients);
            let user = usize::from(offers);
            for to in [1, 2, 0, 2, 1, 0] {
                let other = 1 - user;
                clients[other].say(&world);
                clients[user].go(&world, to);
                clients[other].say(&world);
                settle(&world, &mut clients);
                clients[other].say(&world);
                talk(&world, &mut clients);
                assert_eq!(clients[user].node, Some(to));
                assert_eq!((world.rooms(), world.attached(clients[user].id)), (1, 1));
                assert!(clients.iter().all(|client| client.others.is_empty()));
            }
            let room = json!({"type": "leave_room"});
            clients[user].ask(&world, room);
            settle(&world, &mut clients);
            assert_eq!(clients[1 - user].types(), ["peer_left"]);
            assert_eq!(world.rooms(), 0);
            all_leave(&world, clients.into());
        }
    }
}

#[test]
fn who_waits_keeps_their_place_and_their_request() {
    let world = World::new(1);
    let mut clients: Vec<_> = (0..2).map(|node| Client::begin(&world, node)).collect();
    clients[0].ask(&world, json!({"type": "find_match", "id": 77}));
    world.settle();
    world.pass(500 * MS);
    clients[0].cut(&world);
    world.pass(500 * MS);
    clients[0].go(&world, 2);
    settle(&world, &mut clients);
    assert_eq!(clients[0].node, Some(2));
    assert_eq!(world.nodes[2].metrics.waiting_users(), 1);
    clients[1].ask(&world, json!({"type": "find_match"}));
    settle(&world, &mut clients);
    let found = clients[0].others.last().expect("told");
    assert_eq!(
        (&found["type"], &found["id"]),
        (&json!("match_found"), &json!(77))
    );
    assert!(
        found["waited_ms"].as_u64().expect("a number") >= 1000,
        "{found}"
    );
    all_leave(&world, clients);
}

#[test]
fn a_wrong_secret_moves_nothing() {
    let world = World::new(1);
    let mut clients = pair(&world, [0, 1]);
    let mut thief = Client::begin(&world, 2);
    let own = Token::parse(&clients[0].token).expect("a token");
    let mut forged = own;
    forged.set_secret([7; 16]);
    thief.token = forged.text();
    thief.go(&world, 2);
    world.settle();
    assert_eq!(thief.look(&world), Some(Taken::Forged));
    assert!(thief.is_refused);
    talk(&world, &mut clients);
    assert_eq!(clients[0].node, Some(0));
    let mut all = Vec::from(clients);
    all.push(thief);
    all_leave(&world, all);
}

#[test]
fn whatever_is_lost_the_session_is_attached_once_at_the_most() {
    for kind in [
        FrameKind::Take,
        FrameKind::State,
        FrameKind::Owned,
        FrameKind::Moved,
        FrameKind::Followed,
        FrameKind::Rest,
        FrameKind::NotTaken,
    ] {
        for partner in 0..NODES {
            let world = World::new(1);
            let mut clients = pair(&world, [0, partner]);
            world.lock().loses.insert(kind as u8, 1);
            clients[0].go(&world, 1);
            for _ in 0..60 {
                settle(&world, &mut clients);
                assert!(world.attached(clients[0].id) <= 1);
                world.pass(100 * MS);
            }
            let moved = clients[0].node == Some(1);
            assert!(moved || clients[0].is_refused, "{kind:?}");
            if !moved {
                // It stays, unless only the very last word was lost.
                clients[0].is_refused = false;
                clients[0].go(&world, 0);
                settle(&world, &mut clients);
                let is_back = clients[0].node == Some(0);
                assert_eq!(is_back, kind != FrameKind::Rest, "{kind:?}");
                if is_back {
                    talk(&world, &mut clients);
                }
            }
            all_leave(&world, clients.into());
        }
    }
}

#[test]
fn a_node_that_is_silent_costs_a_second() {
    let world = World::new(1);
    let mut client = Client::begin(&world, 0);
    world.bury(0);
    client.go(&world, 1);
    let mut passed = Duration::ZERO;
    while !client.is_refused {
        world.pass(100 * MS);
        passed += 100 * MS;
        client.look(&world);
        assert!(passed <= super::TAKE_WITHIN);
    }
    all_leave(&world, vec![client]);
}

#[test]
fn who_comes_back_before_the_session_has_gone_has_it() {
    let world = World::new(1);
    let mut clients = pair(&world, [0, 1]);
    world.lock().loses.insert(FrameKind::State as u8, 1);
    clients[0].go(&world, 2);
    world.settle();
    let locked = world.nodes[0].resumables.get(clients[0].id).expect("there");
    assert!(locked.lock_any().is_moving());
    clients[0].go(&world, 0);
    settle(&world, &mut clients);
    assert_eq!(clients[0].node, Some(0));
    assert!(!locked.lock_any().is_moving());
    drop(locked);
    talk(&world, &mut clients);
    all_leave(&world, clients.into());
}

#[test]
fn a_partner_who_leaves_meanwhile_is_missed_once() {
    for partner in 0..NODES {
        for steps in 0..12 {
            let mut world = World::new(7 + steps);
            let mut clients = pair(&world, [0, partner]);
            clients[0].go(&world, 1);
            for _ in 0..steps {
                world.jostle();
            }
            clients[1].ask(&world, json!({"type": "leave_room"}));
            for _ in 0..6 {
                settle(&world, &mut clients);
                world.pass(100 * MS);
            }
            assert_eq!(clients[0].node, Some(1));
            assert_eq!(clients[0].types(), ["peer_left"], "{partner} {steps}");
            assert_eq!(world.rooms(), 0);
            let member = world.nodes[1].directory.get(clients[0].id);
            assert_eq!(member.expect("here").place(), Place::Idle);
            all_leave(&world, clients.into());
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Say(usize),
    Go(usize, usize),
    Cut(usize),
    Jostle,
    Pass(u32),
    Lose(u8),
    Bury(usize),
}

fn step(faults: u32) -> impl Strategy<Value = Step> {
    let user = 0..2usize;
    prop_oneof![
        8 => user.clone().prop_map(Step::Say),
        3 => (user.clone(), 0..NODES).prop_map(|(user, node)| Step::Go(user, node)),
        1 => user.prop_map(Step::Cut),
        8 => Just(Step::Jostle),
        // Less than a node waits for the answer of another one.
        2 => (1..100u32).prop_map(Step::Pass),
        faults => (32..39u8).prop_map(Step::Lose),
        faults => (0..NODES * 20).prop_map(Step::Bury),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Where nothing is lost all that is said is heard, once and in order, and nobody hears of anything else.
    #[test]
    fn what_is_said_is_heard_once_and_in_order_wherever_the_users_go(
        steps in prop::collection::vec(step(0), 1..120),
        nodes in [0..NODES, 0..NODES],
        seed in 1..u64::MAX,
    ) {
        let mut world = World::new(seed);
        let mut clients = pair(&world, nodes);
        for step in steps {
            // Who goes on before they are there is played below.
            if matches!(step, Step::Go(user, _) if clients[user].is_going()) {
                continue;
            }
            play(&mut world, &mut clients, step);
            for (one, other) in [(0, 1), (1, 0)] {
                let said: Vec<u64> = (1..=clients[one].said).collect();
                prop_assert!(said.starts_with(&clients[other].heard), "{:?}", clients[other].heard);
                prop_assert!(world.attached(clients[one].id) <= 1);
            }
            // Time is short, but so is that of each take.
            settle_if_late(&world, &mut clients);
        }
        let wait = |clients: &mut [Client; 2]| {
            // Nodes may have to be asked once more.
            for _ in 0..12 {
                settle(&world, clients);
                world.pass(50 * MS);
            }
        };
        wait(&mut clients);
        for client in 0..2 {
            let node = clients[client].node.unwrap_or(0);
            clients[client].go(&world, node);
            wait(&mut clients);
        }
        talk(&world, &mut clients);
        for client in &clients {
            prop_assert!(client.others.is_empty() && !client.is_refused, "{:?} {:?}", client.others, client.refusals);
        }
        prop_assert_eq!(world.rooms(), 1);
        all_leave(&world, clients.into());
    }

    /// Whatever is lost: no session is attached twice, nothing is heard twice or in another order, and in the end nothing is left.
    #[test]
    fn faults_leave_nothing_behind(
        steps in prop::collection::vec(step(1), 1..120),
        nodes in [0..NODES, 0..NODES],
        seed in 1..u64::MAX,
    ) {
        let mut world = World::new(seed);
        let mut clients = pair(&world, nodes);
        for step in steps {
            play(&mut world, &mut clients, step);
            for client in &clients {
                prop_assert!(world.attached(client.id) <= 1);
                prop_assert!(client.heard.is_sorted_by(|one, next| one < next));
            }
        }
        world.lock().loses.clear();
        for _ in 0..80 {
            world.pass(100 * MS);
            settle(&world, &mut clients);
        }
        // Each is in a room with the other, or neither is; orphans have had their time.
        for _ in 0..20 {
            world.pass(1000 * MS);
            settle(&world, &mut clients);
        }
        let of = |client: &Client| {
            let nodes = world.nodes.iter();
            let mut rooms = nodes.filter_map(|node| node.directory.get(client.id)?.room());
            let room = rooms.next();
            (room.map(|room| room.id), rooms.next().is_some())
        };
        let [one, other] = [of(&clients[0]), of(&clients[1])];
        prop_assert_eq!(one, other);
        prop_assert!(!one.1, "in two rooms");
        all_leave(&world, clients.into());
    }
}

fn settle_if_late(world: &World, clients: &mut [Client; 2]) {
    for client in clients.iter_mut() {
        client.look(world);
    }
}

fn play(world: &mut World, clients: &mut [Client; 2], step: Step) {
    match step {
        Step::Say(user) => clients[user].say(world),
        Step::Go(user, node) => {
            if !clients[user].is_refused {
                clients[user].read();
                clients[user].go(world, node);
            }
        }
        Step::Cut(user) => clients[user].cut(world),
        Step::Jostle => world.jostle(),
        Step::Pass(ms) => {
            world.pass(ms * MS);
            // The bus is not that slow.
            world.settle();
        }
        Step::Lose(kind) => {
            world.lock().loses.insert(kind, 1);
        }
        Step::Bury(node) if node < NODES => world.bury(node),
        Step::Bury(_) => {}
    }
    for client in clients.iter_mut() {
        client.read();
        client.look(world);
    }
}
