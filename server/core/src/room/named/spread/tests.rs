//! Users of three nodes in named rooms, against a model that is lists, and with faults.

mod cases;
mod users;
mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{MAX_MEMBERS, To};
use super::*;
use crate::room::Place;
use users::{Client, NAMES, name_of};
use world::{NODES, World, id_of};

const USERS: usize = 9;

#[derive(Debug, Clone)]
enum Step {
    Join(usize, usize),
    Leave(usize),
    Say(usize),
    /// The same while the ways to this node are full.
    SayInVain(usize, usize),
    Whisper(usize, usize),
    Pass(u64),
    /// The first shows the room ticket of the second.
    Back(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..USERS, 0..NAMES).prop_map(|(user, name)| Step::Join(user, name)),
        4 => (0..USERS).prop_map(Step::Leave),
        2 => (0..USERS).prop_map(Step::Say),
        2 => (0..USERS, 0..NODES).prop_map(|(user, node)| Step::SayInVain(user, node)),
        2 => (0..USERS, 0..USERS).prop_map(|(from, to)| Step::Whisper(from, to)),
        1 => (1..4u64).prop_map(Step::Pass),
    ]
}

fn step_with_tickets() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => step(),
        1 => (0..USERS, 0..USERS).prop_map(|(user, of)| Step::Back(user, of)),
    ]
}

fn play(world: &mut World, users: &mut [Client], step: &Step) {
    match *step {
        Step::Join(user, name) => users[user].join(world, &name_of(name)),
        Step::Back(user, of) => {
            users[of].read();
            let (session, n) = (users[of].member.id, users[of].n);
            if let Some(name) = users[of].name.clone().filter(|_| user != of) {
                users[user].join_as(world, &name, Some(Former { n, session }));
            }
        }
        Step::Leave(user) => {
            users[user].leave(world);
        }
        Step::Say(user) => {
            let all = users[user].say(&To::All);
            assert!(all.is_none_or(|sent| sent < MAX_MEMBERS));
        }
        Step::SayInVain(user, node) => {
            world.lock().full_to = Some(node);
            users[user].say(&To::All);
            world.lock().full_to = None;
        }
        Step::Whisper(from, to) => {
            let to = users[to].member.id.to_string();
            users[from].say(&To::One(&to));
        }
        Step::Pass(seconds) => world.pass(seconds),
    }
}

/// One list a name, and the next number.
#[derive(Default)]
struct Model {
    rooms: BTreeMap<usize, (Vec<(usize, u32)>, u32)>,
    said: BTreeMap<usize, usize>,
}

impl Model {
    fn room_of(&self, user: usize) -> Option<usize> {
        let mut rooms = self.rooms.iter();
        rooms
            .find(|(_, (members, _))| members.iter().any(|member| member.0 == user))
            .map(|(name, _)| *name)
    }

    /// All others hear it, or nobody does.
    fn say(&mut self, user: usize, is_out_of_reach: impl Fn(usize) -> bool) {
        let Some(name) = self.room_of(user) else {
            return;
        };
        let members = self.rooms[&name].0.iter().map(|(member, _)| *member);
        let others: Vec<_> = members.filter(|other| *other != user).collect();
        if !others.iter().any(|other| is_out_of_reach(*other)) {
            for other in others {
                *self.said.entry(other).or_default() += 1;
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join(user, name) if self.room_of(user).is_none() => {
                let (members, next) = self.rooms.entry(name).or_default();
                members.push((user, *next));
                *next += 1;
            }
            Step::Leave(user) => {
                if let Some(name) = self.room_of(user)
                    && let Some((members, _)) = self.rooms.get_mut(&name)
                {
                    members.retain(|member| member.0 != user);
                    if members.is_empty() {
                        self.rooms.remove(&name);
                    }
                }
            }
            Step::Say(user) => self.say(user, |_| false),
            Step::SayInVain(user, node) => {
                self.say(user, |other| other % NODES == node && user % NODES != node);
            }
            Step::Whisper(from, to) => {
                let name = self.room_of(from);
                if from != to && name.is_some() && name == self.room_of(to) {
                    *self.said.entry(to).or_default() += 1;
                }
            }
            Step::Join(..) | Step::Pass(_) | Step::Back(..) => {}
        }
    }
}

proptest! {
    /// Step by step three nodes do what a list does.
    #[test]
    fn three_nodes_do_what_one_does(steps in prop::collection::vec(step(), 1..50)) {
        let mut world = World::new(0);
        let mut users = Client::all(&world, USERS);
        let mut model = Model::default();
        for step in &steps {
            play(&mut world, &mut users, step);
            world.settle();
            model.step(step);
            for (i, user) in users.iter_mut().enumerate() {
                user.read();
                let name = model.room_of(i);
                prop_assert_eq!(&user.name, &name.map(name_of), "user {} after {:?}", i, step);
                let expected = name.map(|name| &model.rooms[&name].0);
                let own = expected.and_then(|it| it.iter().find(|member| member.0 == i));
                prop_assert_eq!(user.name.as_ref().map(|_| user.n), own.map(|own| own.1));
                let others = expected.into_iter().flatten().filter(|member| member.0 != i);
                let others: BTreeMap<_, _> = others.map(|(other, n)| (SessionId(*other as u64), *n)).collect();
                prop_assert_eq!(&user.peers, &others, "user {} after {:?}", i, step);
                prop_assert_eq!(user.said.len(), model.said.get(&i).copied().unwrap_or(0));
            }
            prop_assert_eq!(world.rooms(), model.rooms.len() as i64);
        }
        for user in &mut users {
            user.leave(&world);
        }
        world.settle();
        world.assert_empty();
    }

    /// Whatever is lost, dies or is forgotten: nobody hears of strangers, and when it is quiet, all who are in a room of a name
    /// are in one room, and know all others and their numbers.
    #[test]
    fn faults_leave_nobody_apart(steps in prop::collection::vec(step_with_tickets(), 20..100), seed in 1..u64::MAX) {
        let mut world = World::new(seed);
        let mut users = Client::all(&world, USERS);
        for step in &steps {
            play(&mut world, &mut users, step);
            world.fault();
            world.jostle();
            users.iter_mut().for_each(Client::read);
        }
        world.heal();
        assert_whole(&world, &mut users);
        for user in &mut users {
            user.leave(&world);
        }
        world.heal();
        world.assert_empty();
    }

    /// Another node that says anything at all disturbs nobody else.
    #[test]
    fn no_frame_makes_a_node_panic(frames in prop::collection::vec((23..33u8, 0..4u64, 0..4u64, 0..4u64, prop::collection::vec(any::<u8>(), 0..40)), 1..40)) {
        let (mut world, mut users) = three();
        let stranger = id_of(8, 0);
        let now = world.now();
        for (kind, room, to, from, body) in frames {
            let (to, from) = (SessionId(to), SessionId(from));
            let frame = crate::cluster::Frame { kind, room: RoomId(room), to, from, body: &body, age: Duration::ZERO };
            world.nodes[0].0.frame(stranger, &frame, now);
        }
        world.settle();
        assert_whole(&world, &mut users);
    }
}

/// Users 0, 1 and 2 of three nodes in one room; the first one's node is home.
fn three() -> (World, Vec<Client>) {
    let mut world = World::new(0);
    let mut users = Client::all(&world, USERS);
    for user in users.iter_mut().take(3) {
        user.join(&world, "tea");
        world.settle();
    }
    users.iter_mut().for_each(Client::read);
    assert_eq!([users[0].n, users[1].n, users[2].n], [0, 1, 2]);
    (world, users)
}

/// When it is quiet: who is in a room of a name knows all others who are, and they have numbers of their own.
fn assert_whole(world: &World, users: &mut [Client]) {
    users.iter_mut().for_each(Client::read);
    let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, user) in users.iter().enumerate() {
        assert_ne!(user.member.place(), Place::Waiting, "user {i} waits");
        let room = user.member.named_room();
        assert_eq!(room.is_some(), user.name.is_some(), "user {i}");
        if let Some(name) = &user.name {
            names.entry(name.clone()).or_default().push(i);
        }
    }
    for members in names.values() {
        for &one in members {
            let others = members.iter().filter(|other| **other != one);
            let others: BTreeMap<_, _> = others
                .map(|&other| (users[other].member.id, users[other].n))
                .collect();
            assert_eq!(
                users[one].peers,
                others,
                "user {one} of {members:?}\n{}\n{:#?}",
                world.describe(),
                users[one].heard()
            );
            assert!(
                others.values().all(|n| *n != users[one].n),
                "a number twice"
            );
            assert_eq!(users[one].room, users[members[0]].room);
        }
    }
    assert_eq!(world.rooms(), names.len() as i64);
    assert_eq!(world.reserved(), 0);
}

const _: () = assert!(NODES == 3);
