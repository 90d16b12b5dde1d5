//! Two nodes, an index and links that are lists in memory: step by step they do what the model does as one node; and with
//! losses, delays, an index that forgets and nodes that are taken for dead, nobody is lost.

#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of the test are small"
)]

mod between;
mod rejoin;
mod strange;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use voicematch_protocol::RoomId;

use super::*;
use crate::{cluster::Frame, outbox::Batch};
use between::NODES;
use world::World;

/// What a user heard is in order, and what the partner said came as it was said.
fn assert_heard(heard: &Heard) {
    let (mut room, mut said) = (None, HashMap::new());
    for message in heard.messages() {
        match message["type"].as_str() {
            Some("match_found") => room = Some(message["room_id"].clone()),
            Some("peer_left") => assert_eq!(room.take(), Some(message["room_id"].clone())),
            Some("rejoined") => {
                let is = room.replace(message["room_id"].clone());
                assert!(is.is_none_or(|is| is == message["room_id"]), "in two rooms");
            }
            Some("rejoining" | "error") => {}
            Some("said") => {
                assert_eq!(room.as_ref(), Some(&message["room"]), "in another room");
                let n = message["n"].as_u64().expect("a number");
                let last = said.insert(message["from"].to_string(), n);
                assert!(last.is_none_or(|last| last < n), "{last:?}, then {n}");
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Step by step two nodes do what the model does as one: the same pairs, the same who wait.
    #[test]
    fn two_nodes_do_what_one_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(0);
        let mut users = world.users();
        let mut model = Model::default();
        for step in &steps {
            world.play(&mut users, step);
            world.settle();
            model.step(step);
            for (i, user) in users.iter().enumerate() {
                let partner = model.partner.get(&i).map(|&partner| SessionId(partner as u64));
                prop_assert_eq!(user.partner(), partner, "user {} after {:?}", i, step);
                let waits = model.waiting.iter().any(|waiting| waiting.user == i);
                prop_assert_eq!(user.member.place() == Place::Waiting, waits, "user {} after {:?}", i, step);
            }
            prop_assert_eq!(world.rooms(), model.partner.len() as i64 / 2);
        }
        for (i, user) in users.iter_mut().enumerate() {
            user.die(world.of(i));
            user.bury(world.of(i));
        }
        world.settle();
        prop_assert_eq!(world.rooms(), 0);
        for (matchmaker, metrics) in &world.nodes {
            prop_assert_eq!((matchmaker.pool_count(), metrics.waiting_users()), (0, 0));
        }
        let between = world.lock();
        prop_assert!(between.posted.is_empty() && between.standing.iter().all(BTreeMap::is_empty));
        users.iter().for_each(|user| assert_heard(&user.heard));
    }

    /// Another node that says anything at all disturbs nobody but those with whom it is in a room.
    #[test]
    fn no_frame_makes_a_node_panic(frames in prop::collection::vec((0..32u8, 0..4u64, 0..4u64, 0..4u64, prop::collection::vec(any::<u8>(), 0..30)), 1..40)) {
        let (mut world, mut users) = pair_of_two();
        world.play(&mut users, &Step::Find(2, 0));
        world.settle();
        let now = world.now();
        let stranger = between::id_of(8, 0);
        for (kind, room, to, from, body) in frames {
            let (to, from) = (SessionId(to), SessionId(from));
            world.nodes[0].0.frame(stranger, &Frame { kind, room: RoomId(room), to, from, body: &body, age: Duration::ZERO }, now);
        }
        world.settle();
        prop_assert_eq!(users[0].partner(), Some(SessionId(1)));
        prop_assert_eq!(users[2].member.place(), Place::Waiting);
    }

    /// Whatever is lost, comes late or is forgotten: nobody is in a room with somebody who is in another, or whom they may not
    /// meet; and when it is quiet, no room is a half, and no two who fit wait side by side.
    #[test]
    fn faults_leave_nobody_behind(steps in prop::collection::vec(step(), 20..120), seed in 1..u64::MAX) {
        let mut world = World::new(seed);
        let mut users = world.users();
        for user in users.iter().filter(|user| user.member.id.0 % 4 < 2) {
            rejoin::outlives_connections(user);
        }
        let mut tickets = rejoin::Tickets::default();
        let mut said = 0;
        let mut gone = BTreeSet::new();
        for step in &steps {
            world.play(&mut users, step);
            world.fault();
            world.jostle();
            tickets.play(&mut world, &users);
            if let Step::Die(user) | Step::Vanish(user) = step {
                gone.insert(*user);
            }
            for &user in &gone {
                prop_assert_eq!(users[user].member.place(), Place::Gone);
            }
            for user in &users {
                if let Some(room) = user.member.room() {
                    said += 1;
                    let text = format!(r#"{{"type":"said","room":"{}","from":"{}","n":{said}}}"#, room.id, user.member.id);
                    let mut batch = Batch::default();
                    batch.push(&[text.as_bytes()]);
                    let _ = user.member.relay(&room, &batch, world.now());
                }
            }
            let by_room = users.iter().filter_map(|user| Some((user.member.room()?.id, user)));
            let mut rooms: BTreeMap<RoomId, Vec<&User>> = BTreeMap::new();
            by_room.for_each(|(room, user)| rooms.entry(room).or_default().push(user));
            for (room, members) in rooms {
                prop_assert!(members.len() <= 2, "{:?}", room);
                if let [a, b] = members[..] {
                    prop_assert_eq!(a.partner(), Some(b.member.id));
                    prop_assert_eq!(b.partner(), Some(a.member.id));
                    let now = world.now();
                    let of = |user: &User| &world.of(user.member.id.0 as usize).shared;
                    let apart = of(a).are_apart(&a.member, &b.member, now) || of(b).are_apart(&b.member, &a.member, now);
                    prop_assert!(!apart, "with somebody who is blocked");
                }
            }
        }
        // It heals.
        world.random = 0;
        world.lock().is_down = false;
        world.lock().is_full = false;
        world.lock().is_jammed = false;
        for _ in 0..24 {
            world.play(&mut users, &Step::Pass(1));
            world.settle();
            tickets.give_up(&world);
        }
        assert_whole(&world, &users);
    }
}

/// When it is quiet: every room has both its halves, nobody is lost, no two who fit wait side by side.
fn assert_whole(world: &World, users: &[User]) {
    let now = world.now();
    for (i, user) in users.iter().enumerate() {
        if let Some(partner) = user.partner() {
            let theirs = &users[partner.0 as usize];
            assert_eq!(
                theirs.partner(),
                Some(user.member.id),
                "user {} is alone",
                i
            );
        }
        let waits = user.member.place() == Place::Waiting;
        let open = user.ticket.as_ref().is_some_and(|ticket| {
            ticket.is_waiting() || ticket.claim.state() == ClaimState::Parked
        });
        assert!(!waits || open, "user {} is lost", i);
    }
    let waiting: Vec<_> = users
        .iter()
        .filter_map(|user| user.ticket.as_ref().filter(|ticket| ticket.is_waiting()))
        .collect();
    for (a, b) in waiting
        .iter()
        .enumerate()
        .flat_map(|(i, a)| waiting[i + 1..].iter().map(move |b| (a, b)))
    {
        let keys = |ticket: &Ticket| {
            ticket
                .pool_kinds()
                .flat_map(|kind| ticket.wish.keys(kind))
                .collect::<Vec<_>>()
        };
        let share = keys(a).iter().any(|key| keys(b).contains(key));
        let shared = &world.of(a.member.id.0 as usize).shared;
        let theirs = &world.of(b.member.id.0 as usize).shared;
        let apart = shared.are_apart(&a.member, &b.member, now)
            || theirs.are_apart(&b.member, &a.member, now);
        assert!(
            !share || apart || a.avoids(b, now) || b.avoids(a, now),
            "{:?} and {:?} wait side by side",
            a.member.id,
            b.member.id
        );
    }
    users.iter().for_each(|user| assert_heard(&user.heard));
    let halves = users.iter().filter(|user| user.partner().is_some()).count() as i64;
    assert_eq!(world.rooms(), halves / 2);
}

/// Threads that find, cancel, leave, block and die at the same time, on two nodes, while what the nodes say to each other goes
/// to and fro.
#[test]
fn threads_at_once_on_two_nodes_leave_nobody_behind() {
    const THREADS: usize = 4;
    const USERS_EACH: usize = 16;
    let mut elsewhere = 0;
    for round in 0..20 {
        let mut world = World::new(0);
        let start = world.start;
        let of = |id: usize| User::new(id as u64, &world.nodes[id % NODES].1);
        let users: Vec<Vec<User>> = (0..THREADS)
            .map(|thread| (0..USERS_EACH).map(|i| of(i * THREADS + thread)).collect())
            .collect();
        let members: Vec<_> = users
            .iter()
            .flatten()
            .map(|user| user.member.clone())
            .collect();
        let nodes: Vec<_> = world.nodes.iter().map(|(node, _)| node.clone()).collect();
        let mut users: Vec<User> = std::thread::scope(|scope| {
            let threads = users.into_iter().enumerate();
            let threads: Vec<_> = threads
                .map(|(thread, own)| {
                    let (matchmaker, members) = (&nodes[thread % NODES], &members);
                    scope.spawn(move || play(matchmaker, members, own, round, start))
                })
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                world.settle();
            }
            let ended = threads.into_iter();
            ended
                .flat_map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        users.sort_by_key(|user| user.member.id);
        for _ in 0..8 {
            world.settle();
            world.play(&mut users, &Step::Pass(1));
        }
        world.settle();
        assert_whole(&world, &users);
        let waiting = users
            .iter()
            .filter(|user| user.member.place() == Place::Waiting);
        let counted = world
            .nodes
            .iter()
            .map(|(_, metrics)| metrics.waiting_users());
        assert_eq!(counted.sum::<i64>(), waiting.count() as i64);
        let partners = users
            .iter()
            .filter_map(|user| Some((user.member.id, user.partner()?)));
        elsewhere += partners.filter(|(a, b)| a.0 % 2 != b.0 % 2).count();
    }
    assert!(
        elsewhere > 100,
        "{elsewhere} with somebody of the other node"
    );
}

/// Two users on two nodes, in a room.
fn pair_of_two() -> (World, Vec<User>) {
    let mut world = World::new(0);
    let mut users = world.users();
    for user in 0..2 {
        world.play(&mut users, &Step::Find(user, 0));
        world.settle();
    }
    assert_eq!(users[0].partner(), Some(SessionId(1)));
    (world, users)
}

fn last_word(user: &User) -> serde_json::Value {
    user.heard.messages().pop().expect("was told")
}

#[test]
fn who_is_with_somebody_of_a_dead_node_is_told() {
    for dead in 0..2 {
        let (mut world, users) = pair_of_two();
        world.bury(dead);
        for user in &users[..2] {
            let told = last_word(user);
            assert_eq!(
                (&told["type"], &told["reason"]),
                (&"peer_left".into(), &"lost".into())
            );
            assert_eq!(user.member.place(), Place::Idle);
        }
        assert_eq!(world.rooms(), 0);
    }
}

#[test]
fn who_is_left_is_told_why() {
    let (mut world, mut users) = pair_of_two();
    world.play(&mut users, &Step::Next(0, 0));
    world.settle();
    let told = last_word(&users[1]);
    assert_eq!(
        (&told["type"], &told["reason"]),
        (&"peer_left".into(), &"next".into())
    );
    // The former partner is avoided, from either side.
    world.play(&mut users, &Step::Find(1, 0));
    world.settle();
    assert_eq!(users[1].member.place(), Place::Waiting);
    world.play(&mut users, &Step::Die(0));
    world.settle();
    assert_eq!(users[1].member.place(), Place::Waiting);
}

#[test]
fn who_cancels_while_a_partner_is_asked_is_free_at_once() {
    let mut world = World::new(0);
    let mut users = world.users();
    world.play(&mut users, &Step::Find(0, 0));
    world.settle();
    world.play(&mut users, &Step::Find(1, 0));
    while world.ask() {}
    assert_eq!(
        users[1].ticket.as_ref().map(|t| t.claim.state()),
        Some(ClaimState::Offered)
    );
    world.play(&mut users, &Step::Cancel(1));
    assert_eq!(users[1].member.place(), Place::Idle);
    let on_the_way: usize = world.lock().links.values().map(|link| link.len()).sum();
    assert_eq!(on_the_way, 2, "the other node is told at once");
    world.settle();
    // The other one was asked before: the match was made, and has ended.
    let told: Vec<_> = users[0].heard.messages();
    let types: Vec<_> = told.iter().map(|told| told["type"].clone()).collect();
    assert_eq!(types, ["match_found", "peer_left"]);
    assert_eq!((users[1].member.place(), world.rooms()), (Place::Idle, 0));
}

/// Users 0 and 2 are of one node, user 1 of the other.
#[test]
fn while_the_index_is_down_each_node_matches_its_own() {
    let mut world = World::new(0);
    let mut users = world.users();
    world.lock().is_down = true;
    for user in [0, 1] {
        world.play(&mut users, &Step::Find(user, 0));
        world.settle();
        assert_eq!(users[user].member.place(), Place::Waiting);
    }
    world.play(&mut users, &Step::Find(2, 0));
    assert_eq!(users[0].partner(), Some(SessionId(2)), "at once");
    world.play(&mut users, &Step::Find(4, 0));
    world.lock().is_down = false;
    world.put_right();
    world.settle();
    assert_eq!(users[1].partner(), Some(SessionId(4)));

    // Who waits in the index when it goes down is searched here, the oldest first.
    world.play(&mut users, &Step::Leave(0));
    world.settle();
    let heard = users[0].heard.messages().len();
    world.play(&mut users, &Step::Find(0, 0));
    world.play(&mut users, &Step::Find(2, 0));
    world.lock().is_down = true;
    let now = world.now();
    world.nodes[0].0.index_down(now);
    assert_eq!(users[0].partner(), Some(SessionId(2)));
    assert_eq!(users[0].heard.messages().len(), heard + 1);
}

/// Users 0 and 2 are of one node, user 1 of the other.
#[test]
fn a_node_that_drains_gives_nobody_away() {
    let mut world = World::new(0);
    let mut users = world.users();
    world.play(&mut users, &Step::Find(0, 0));
    world.settle();
    // The proposal is on its way when the drain begins.
    world.play(&mut users, &Step::Find(1, 0));
    while world.ask() {}
    world.nodes[0].0.drain();
    world.settle();
    world.put_right();
    world.settle();
    assert_eq!(users[1].member.place(), Place::Waiting);
    // Nor to its own users, whether the index is up or not.
    world.play(&mut users, &Step::Find(2, 0));
    world.settle();
    world.lock().is_down = true;
    let now = world.now();
    world.nodes[0].0.index_down(now);
    for user in [0, 2] {
        assert_eq!(users[user].member.place(), Place::Waiting);
        assert!(users[user].heard.messages().is_empty());
        world.play(&mut users, &Step::Cancel(user));
    }
    assert_eq!(world.nodes[0].0.pool_count(), 0);
}

/// The block is written down while the one whom it is about is asked: the match is not completed.
#[test]
fn who_blocks_the_partner_who_is_asked_is_not_with_them() {
    let mut world = World::new(0);
    let mut users = world.users();
    world.play(&mut users, &Step::Find(0, 0));
    world.settle();
    world.play(&mut users, &Step::Find(1, 0));
    while world.ask() {}
    world.play(&mut users, &Step::Block(1, 0));
    while world.deliver() {}
    let told = users[0].heard.messages();
    let types: Vec<_> = told.iter().map(|told| told["type"].clone()).collect();
    assert_eq!(types, ["match_found", "peer_left"]);
    assert!(users[1].heard.messages().is_empty());
    assert_eq!(
        (users[1].member.place(), world.rooms()),
        (Place::Waiting, 0)
    );
    world.play(&mut users, &Step::Find(0, 0));
    world.settle();
    assert_eq!(users[0].member.place(), Place::Waiting);
}
