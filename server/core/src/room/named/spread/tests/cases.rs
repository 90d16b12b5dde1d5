//! One case after the other.

use serde_json::json;

use super::{
    super::{
        super::{MAX_MEMBERS, To},
        *,
    },
    USERS, assert_whole, three,
    users::Client,
    world::{World, id_of},
};
use crate::room::Place;

#[test]
fn who_stays_keeps_the_number_when_the_home_dies() {
    let (mut world, mut users) = three();
    let room = users[1].room;
    world.kill(0);
    for node in [1, 2] {
        world.hear_of_death(0, node);
    }
    world.settle();
    for (user, n) in [(1, 1), (2, 2)] {
        users[user].read();
        assert_eq!((users[user].n, users[user].room), (n, room));
        assert_eq!(users[user].gone, [(SessionId(0), "lost".to_owned())]);
    }
    assert_eq!(users[1].peers, [(SessionId(2), 2)].into());
    // The next one, on a node that takes over and on another one.
    for (newcomer, n) in [(4, 3), (5, 4)] {
        users[newcomer].join(&world, "tea");
        world.settle();
        users[newcomer].read();
        assert_eq!(users[newcomer].n, n);
    }
    // It was not dead, but cut off: it begins anew, and its users come back.
    let now = world.now();
    world.nodes[0].0.begin_life(now);
    world.heal();
    assert_whole(&world, &mut users);
    assert_eq!((users[0].n, users[0].peers.len()), (0, 4));
}

#[test]
fn a_home_that_nobody_knows_yet_counts_above_all() {
    let mut world = World::new(0);
    let mut users = Client::all(&world, USERS);
    // Node 0 is home, node 1 has a member.
    for user in [0, 1] {
        users[user].join(&world, "tea");
        world.settle();
    }
    world.kill(0);
    // Node 2, which has no roster, hears of the death first.
    world.hear_of_death(0, 2);
    users[2].join(&world, "tea");
    world.settle();
    world.hear_of_death(0, 1);
    world.settle();
    world.heal();
    users.iter_mut().for_each(Client::read);
    assert_eq!(users[1].n, 1, "who stays keeps the number");
    assert!(users[2].n > 1);
    assert_eq!(users[1].peers, [(SessionId(2), users[2].n)].into());
    assert_eq!(users[1].room, users[2].room);
}

/// What must not be lost behind messages has little room.
#[test]
fn who_leaves_during_an_outage_does_not_wait_behind_what_is_compared() {
    let (mut world, mut users) = three();
    let waiting = |world: &World| {
        let between = world.lock();
        between.links.values().map(|link| link.len()).sum::<usize>()
    };
    world.lock().is_down = true;
    world.pass(30);
    assert_eq!(waiting(&world), 0, "nothing goes out");
    world.lock().is_down = false;
    world.lock().is_full = true;
    world.pass(30);
    assert_eq!(waiting(&world), 0, "messages have no room");
    users[1].leave(&world);
    assert!(waiting(&world) > 0, "a leave has");
    world.lock().is_full = false;
    world.settle();
    users[0].read();
    assert_eq!(users[0].gone, [(SessionId(1), "left".to_owned())]);
}

#[test]
fn of_two_homes_the_first_stays() {
    let (mut world, mut users) = three();
    let before = users[0].room;
    // The engine loses the name, and somebody of another node is faster than the home.
    world.lock().engine.clear();
    world.lock().links.clear();
    let mut other = Client::new(&world, 13);
    world.kill_mirror(1, "tea");
    other.join(&world, "tea");
    world.settle();
    other.read();
    assert_eq!(
        (other.n, other.peers.len()),
        (0, 0),
        "alone in another room"
    );
    world.heal();
    users.iter_mut().for_each(Client::read);
    other.read();
    assert_ne!(users[0].room, before);
    assert_eq!(other.n, 0);
    let mut numbers: Vec<_> = [0, 2].map(|user| users[user].n).into();
    numbers.push(other.n);
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    for user in [0, 2] {
        assert_eq!(users[user].room, other.room);
        assert_eq!(users[user].peers.len(), 2);
    }
    assert_eq!(conflicts(&world), 1);
}

#[test]
fn while_the_engine_is_down_users_of_a_node_meet_and_then_all_do() {
    let (mut world, mut users) = three();
    world.lock().is_down = true;
    users[3].join(&world, "tea");
    // Users of this node are in the room, and its home cannot be asked.
    users[4].join(&world, "tea");
    assert_eq!(users[4].last_error().as_deref(), Some("room_unavailable"));
    assert_eq!(users[4].member.place(), Place::Idle);
    // A room of this name may be elsewhere: nobody waits for the answer.
    for (user, n) in [(5, 0), (6, 0), (8, 1)] {
        users[user].join(&world, "coffee");
        users[user].read();
        assert_eq!((users[user].n, users[user].last_error()), (n, None));
    }
    assert_ne!(users[5].room, users[6].room);
    world.settle();
    users.iter_mut().for_each(Client::read);
    assert_eq!(users[3].n, 3);
    assert_eq!(users[1].peers.len(), 3);
    let coffee = [users[5].room, users[6].room];
    world.heal();
    assert_whole(&world, &mut users);
    assert_eq!(users[5].peers.len(), 2);
    assert!(coffee.contains(&users[5].room), "one of them stays");
    assert_eq!(conflicts(&world), 1);
}

fn conflicts(world: &World) -> u64 {
    let nodes = world.nodes.iter();
    nodes.map(|(_, metrics)| metrics.room_conflicts.get()).sum()
}

#[test]
fn who_asked_an_engine_that_goes_down_is_let_in_here() {
    let mut world = World::new(0);
    let mut users = Client::all(&world, USERS);
    users[1].join(&world, "tea");
    assert_eq!(users[1].member.place(), Place::Waiting);
    world.lock().is_down = true;
    world.settle();
    users[1].read();
    assert_eq!((users[1].n, users[1].name.as_deref()), (0, Some("tea")));
    world.heal();
    users[2].join(&world, "tea");
    world.settle();
    assert_whole(&world, &mut users);
    assert_eq!(users[2].peers.len(), 1);
}

/// User 4, of node 1, shows the ticket of user 2's seat, whose node is not heard any more.
fn come_back(world: &mut World, users: &mut [Client]) {
    let former = Former {
        n: 2,
        session: SessionId(2),
    };
    users[4].join_as(world, "tea", Some(former));
    while world.ask() {}
    world.deliver_between(1, 0);
}

#[test]
fn who_comes_back_before_the_death_of_their_node_is_known_has_their_seat() {
    let (mut world, mut users) = three();
    world.kill(2);
    come_back(&mut world, &mut users);
    world.deliver_between(0, 1);
    users[4].read();
    assert_eq!(users[4].name, None, "their node may answer yet");
    world.pass(1);
    world.settle();
    users.iter_mut().for_each(Client::read);
    assert_eq!(users[4].n, 2);
    for user in [0, 1] {
        assert_eq!(users[user].gone, [], "nobody has seen them go");
        assert_eq!(users[user].peers.get(&SessionId(4)), Some(&2));
        assert_eq!(users[user].peers.len(), 2);
    }
    for node in [0, 1] {
        world.hear_of_death(2, node);
    }
    let now = world.now();
    world.nodes[2].0.begin_life(now);
    world.heal();
    assert_whole(&world, &mut users);
}

#[test]
fn who_is_still_there_does_not_come_back() {
    let (mut world, mut users) = three();
    come_back(&mut world, &mut users);
    world.settle();
    users.iter_mut().for_each(Client::read);
    assert_eq!(users[4].last_error().as_deref(), Some("use_resume"));
    assert_eq!(users[4].member.place(), Place::Idle);
    assert_whole(&world, &mut users);
    assert_eq!(users[0].peers.len(), 2);
    // A user of the home itself.
    let former = Former {
        n: 0,
        session: SessionId(0),
    };
    users[4].join_as(&world, "tea", Some(former));
    world.settle();
    assert_eq!(users[4].last_error().as_deref(), Some("use_resume"));
}

#[test]
fn whose_seat_another_session_has_is_told_that_they_are_out() {
    let (mut world, mut users) = three();
    come_back(&mut world, &mut users);
    // It lives, but answers too late.
    world.pass(1);
    world.settle();
    users.iter_mut().for_each(Client::read);
    assert_eq!(users[2].out.as_deref(), Some("replaced"));
    assert_eq!((users[4].n, users[0].gone.len()), (2, 0));
    world.heal();
    assert_whole(&world, &mut users);
    assert_eq!(users[0].peers.len(), 2);
}

#[test]
fn who_finds_no_place_in_the_other_room_is_told_that_they_are_out() {
    let mut world = World::new(0);
    let mut users = Client::all(&world, 3 * MAX_MEMBERS);
    world.lock().is_down = true;
    // Two rooms of one name, on two nodes, with 15 users each.
    for user in (0..45).filter(|user| user % 3 != 2) {
        users[user].join(&world, "tea");
    }
    world.heal();
    users.iter_mut().for_each(Client::read);
    let out = users.iter().filter(|user| user.out.is_some()).count();
    assert_eq!(out, 30 - MAX_MEMBERS);
    let told = users.iter().flat_map(|user| user.heard());
    assert_eq!(
        told.filter(|it| it["type"] == "error").count(),
        0,
        "nobody has asked"
    );
    assert_whole(&world, &mut users);
    for user in &mut users {
        user.leave(&world);
    }
    world.heal();
    world.assert_empty();
}

#[test]
fn who_waits_too_long_is_told_and_is_free() {
    let mut world = World::new(0);
    let mut users = Client::all(&world, USERS);
    world.lock().is_silent = true;
    users[1].join(&world, "tea");
    assert_eq!(users[1].member.place(), Place::Waiting);
    users[1].join(&world, "tea");
    assert_eq!(users[1].last_error().as_deref(), Some("already_waiting"));
    world.pass(9);
    assert_eq!(users[1].last_error().as_deref(), Some("room_unavailable"));
    assert_eq!(users[1].member.place(), Place::Idle);
    // And who does not want to wait is free at once.
    users[1].join(&world, "tea");
    users[1].leave(&world);
    assert_eq!(users[1].member.place(), Place::Idle);
    world.heal();
    users[1].read();
    assert_eq!(users[1].name, None);
    world.assert_empty();
}

#[test]
fn twenty_are_a_full_room_on_all_nodes_together() {
    let mut world = World::new(0);
    let mut users = Client::all(&world, 23);
    for (i, user) in users.iter_mut().enumerate() {
        user.join(&world, "tea");
        world.settle();
        let is_full = i >= MAX_MEMBERS;
        assert_eq!(user.last_error(), is_full.then(|| "room_full".to_owned()));
    }
    let first = users[0].leave(&world);
    assert!(first);
    world.settle();
    users[22].join(&world, "tea");
    world.settle();
    users[22].read();
    assert_eq!(users[22].n, 20);
    assert_eq!(users[22].peers.len(), 19);
}

#[test]
fn who_comes_back_has_the_former_number_if_it_is_free() {
    let (mut world, mut users) = three();
    users[2].leave(&world);
    world.settle();
    let former = Former {
        n: 2,
        session: SessionId(2),
    };
    users[4].join_as(&world, "tea", Some(former));
    users[5].join_as(&world, "tea", Some(Former { n: 1, ..former }));
    world.settle();
    users.iter_mut().for_each(Client::read);
    assert_eq!((users[4].n, users[5].n), (2, 3));
    let joined = users[0].last("peer_joined");
    assert_eq!(
        joined["peer"]["was"].as_str().or(joined["was"].as_str()),
        Some("0000000000000002")
    );
}

#[test]
fn what_comes_before_its_sender_is_known_is_held() {
    let (mut world, mut users) = three();
    users[4].join(&world, "tea");
    while world.ask() {}
    // The home lets them in, and their node hears of it before the third does.
    world.deliver_between(1, 0);
    world.deliver_between(0, 1);
    users[4].read();
    assert_eq!(users[4].n, 3);
    users[4].say(&To::All);
    world.deliver_between(1, 2);
    users[2].read();
    assert!(users[2].said.is_empty());
    world.settle();
    users[2].read();
    assert_eq!(users[2].said.len(), 1);
    assert_eq!(users[2].peers.len(), 3);
}

#[test]
fn a_way_that_is_full_costs_the_message_and_nobody_the_room() {
    let (mut world, mut users) = three();
    world.lock().is_full = true;
    assert_eq!(users[0].say(&To::All), None);
    let to = SessionId(1).to_string();
    assert_eq!(users[0].say(&To::One(&to)), None);
    world.lock().is_full = false;
    assert_eq!(users[0].say(&To::All), Some(2));
    world.settle();
    assert_whole(&world, &mut users);
}

#[test]
fn a_message_that_one_way_does_not_take_reaches_nobody_and_is_said_again_to_all_once() {
    let (mut world, mut users) = three();
    users[3].join(&world, "tea");
    world.settle();
    for full in [1, 2] {
        world.lock().full_to = Some(full);
        assert_eq!(users[0].say(&To::All), None);
        world.settle();
        let heard = |user: &mut Client| {
            user.read();
            user.said.len()
        };
        assert_eq!(
            users[1..4].iter_mut().map(heard).sum::<usize>(),
            0,
            "{full}"
        );
        // To others there is a way.
        let to = SessionId(3 - full as u64).to_string();
        assert_eq!(users[0].say(&To::One(&to)), Some(1));
        world.lock().full_to = None;
        assert_eq!(users[0].say(&To::All), Some(3));
        world.settle();
        for user in &mut users[1..4] {
            user.read();
            let own = user.member.id == SessionId(3 - full as u64);
            assert_eq!(user.said.len(), 1 + usize::from(own));
            user.said.clear();
        }
    }
    assert_eq!(world.reserved(), 0);
    assert_whole(&world, &mut users);
}

#[test]
fn each_node_gets_one_frame_of_a_message() {
    let (mut world, mut users) = three();
    for user in [4, 5, 7, 8] {
        users[user].join(&world, "tea");
        world.settle();
    }
    assert_eq!(users[0].say(&To::All), Some(6));
    let frames: usize = world.lock().links.values().map(|link| link.len()).sum();
    assert_eq!(frames, 2);
    let to = SessionId(4).to_string();
    assert_eq!(users[0].say(&To::One(&to)), Some(1));
    world.settle();
    users.iter_mut().for_each(Client::read);
    let heard: Vec<_> = users.iter().map(|user| user.said.len()).collect();
    assert_eq!(heard, [0, 1, 1, 0, 2, 1, 0, 1, 1]);
}

#[test]
fn who_is_resumable_hears_of_a_gap() {
    let (world, users) = three();
    world.nodes[0].0.gap(id_of(1, 0), world.now());
    let told = users[0].heard();
    assert!(told.iter().all(|it| it["type"] != "relay_gap"));
    users[0]
        .member
        .outbox
        .marks()
        .resumable
        .store(true, Ordering::Relaxed);
    world.nodes[0].0.gap(id_of(1, 0), world.now());
    let told = users[0].heard();
    let gaps: Vec<_> = told.iter().filter(|it| it["type"] == "relay_gap").collect();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["peer_id"], json!(SessionId(1).to_string()));
}

#[test]
fn a_resumable_member_of_a_dead_node_has_the_seat_until_they_come_back() {
    let (mut world, mut users) = three();
    world.kill(1);
    for node in [0, 2] {
        world.hear_of_death(1, node);
    }
    world.settle();
    let to = SessionId(1).to_string();
    for user in [0, 2] {
        users[user].read();
        assert_eq!(users[user].gone, []);
        assert_eq!(users[user].say(&To::One(&to)), None, "nobody hears it");
        assert_eq!(users[user].say(&To::All), Some(1));
    }
    users[6].join(&world, "tea");
    world.settle();
    users[6].read();
    assert_eq!((users[6].n, users[6].peers.len()), (3, 3));
    let joined = users[6].last("room_joined");
    let members = joined["members"].as_array().expect("a list");
    let away = members.iter().filter(|member| member["away"] == true);
    let away: Vec<_> = away.map(|member| &member["n"]).collect();
    assert_eq!(away, [1]);
    let former = Former {
        n: 1,
        session: SessionId(1),
    };
    users[5].join_as(&world, "tea", Some(former));
    // No time passes: nobody has to be asked.
    world.settle();
    users[5].read();
    assert_eq!((users[5].n, users[5].peers.len()), (1, 3));
    for user in [0, 2, 6] {
        users[user].read();
        assert_eq!(users[user].gone, [], "nobody has seen them go");
        assert_eq!(users[user].peers.get(&SessionId(5)), Some(&1));
        assert_eq!(users[user].peers.len(), 3);
    }
}

#[test]
fn a_seat_that_nobody_comes_back_for_is_free_when_the_time_is_over() {
    let mut world = World::new(0);
    let mut users = Client::all(&world, USERS);
    // The home dies, and with it a member who is resumable.
    for user in [3, 1] {
        users[user].join(&world, "tea");
        world.settle();
    }
    world.kill(0);
    for node in [1, 2] {
        world.hear_of_death(0, node);
    }
    world.settle();
    // A node that has heard of the room only after that.
    users[2].join(&world, "tea");
    world.settle();
    world.pass(9);
    world.settle();
    for user in [1, 2] {
        users[user].read();
        assert_eq!(users[user].gone, []);
        assert_eq!(users[user].peers.get(&SessionId(3)), Some(&0));
    }
    world.pass(2);
    world.settle();
    for user in [1, 2] {
        users[user].read();
        assert_eq!(users[user].gone, [(SessionId(3), "lost".to_owned())]);
        assert_eq!(users[user].peers.len(), 1);
        users[user].leave(&world);
    }
    world.settle();
    // The dead node does not know that it is dead.
    let living = &world.nodes[1..];
    assert!(living.iter().all(|(rooms, _)| rooms.is_empty()));
}
