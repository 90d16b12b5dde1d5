//! Users whose node is gone come back with their tickets, and the partner goes on.

use std::sync::atomic::Ordering;

use super::{between::id_of, *};
use crate::{
    cluster::FrameKind,
    room::{NO_TICKET, NotRelayed, pending::Rejoined},
};

pub(super) fn outlives_connections(user: &User) {
    let marks = user.member.outbox.marks();
    marks.resumable.store(true, Ordering::Relaxed);
}

/// What users remember of their last room, and those who wait for a partner.
#[derive(Default)]
pub(super) struct Tickets {
    last: BTreeMap<usize, Shown>,
    waiting: Vec<(usize, RoomId, SessionId, Instant)>,
}

impl Tickets {
    /// Some of those who have lost their room ask for it.
    pub(super) fn play(&mut self, world: &mut World, users: &[User]) {
        for (i, user) in users.iter().enumerate() {
            if let Some(room) = user.member.room() {
                self.last.insert(i, ticket(&room, user));
            } else if user.member.is_resumable() && world.dice(4) == 0 {
                let ticket = self.last.get(&i).copied();
                if let Some(shown) = ticket.filter(|_| user.member.place() == Place::Idle) {
                    rejoin(world, i % NODES, user, &shown);
                    let until = world.now() + 20 * SECOND;
                    let waits = (i % NODES, shown.room, user.member.id, until);
                    self.waiting.push(waits);
                }
            }
        }
        self.give_up(world);
    }

    /// As sessions do when their time is over.
    pub(super) fn give_up(&mut self, world: &World) {
        let now = world.now();
        let over = self.waiting.extract_if(.., |(.., until)| *until <= now);
        for (node, room, id, _) in over {
            pending(world, node).give_up(room, id, None, Instant::now());
        }
    }
}

fn pending(world: &World, node: usize) -> &crate::room::pending::PendingRooms {
    let across = world.nodes[node].0.across.as_ref();
    &across.expect("one of two").pending
}

fn ticket(room: &Room, user: &User) -> Shown {
    let partner = room.peer_of(user.member.id).id;
    Shown {
        room: room.id,
        session: user.member.id,
        seat: u8::from(room.members()[1].id != user.member.id),
        partner,
        process: id_of(partner.0 as usize % NODES, 0).process_id(),
    }
}

/// As a session does it.
fn rejoin(world: &World, node: usize, user: &User, shown: &Shown) -> Seat {
    let (matchmaker, now) = (&world.nodes[node].0, world.now());
    let seat = matchmaker.take_seat(&user.member, shown, now);
    if seat == Seat::Asked {
        let rejoined = pending(world, node).rejoin(&user.member, shown.room, shown.seat, now);
        if let Ok(Rejoined::Waits { .. }) = rejoined {
            matchmaker.ask_for_seat(&user.member, shown, None, now);
        }
    }
    seat
}

/// Two in a room of two nodes, each with their ticket.
fn pair() -> (World, Vec<User>, [Shown; 2]) {
    let mut world = World::new(0);
    let mut users = world.users();
    users.iter().for_each(outlives_connections);
    for user in 0..2 {
        world.play(&mut users, &Step::Find(user, 0));
        world.settle();
    }
    let room = |user: usize| users[user].member.room().expect("matched");
    let tickets = [0, 1].map(|user| ticket(&room(user), &users[user]));
    (world, users, tickets)
}

/// Node 1 dies, and another process is there.
fn kill(world: &mut World) {
    world.bury(1);
    // It says nothing of its rooms.
    world.lock().links.clear();
}

fn newcomer(world: &World, node: usize) -> User {
    let user = User::new((USERS + node) as u64, &world.nodes[node].1);
    outlives_connections(&user);
    user
}

fn say(world: &mut World, from: &User, to: &User) {
    let room = from.member.room().expect("in a room");
    let mut batch = Batch::default();
    batch.push(&[br#"{"type":"said"}"#]);
    let said = from.member.relay(&room, &batch, world.now());
    assert_eq!(said, Ok(()));
    world.settle();
    assert_eq!(last_word(to)["type"], "said");
}

fn types(user: &User) -> Vec<String> {
    let heard = user.heard.messages();
    let types = heard.iter().map(|heard| heard["type"].as_str());
    types.map(|kind| kind.expect("a text").to_owned()).collect()
}

fn assert_are_together(world: &mut World, one: &User, other: &User, room: RoomId) {
    assert_eq!(one.partner(), Some(other.member.id));
    assert_eq!(other.partner(), Some(one.member.id));
    for (user, peer) in [(one, other), (other, one)] {
        let told = user.heard.messages();
        let told = told.iter().rfind(|told| told["type"] == "rejoined");
        let told = told.expect("was told");
        assert_eq!(told["room_id"], room.to_string());
        assert_eq!(told["peer_id"], peer.member.id.to_string());
        assert!(told["room_ticket"].is_string());
    }
    assert_eq!(world.rooms(), 1);
    say(world, one, other);
    say(world, other, one);
    for user in [one, other] {
        assert!(!types(user).contains(&"peer_left".to_owned()));
    }
    // It ends as any room.
    one.member.leave_room(LeaveReason::Left);
    world.settle();
    assert_eq!(last_word(other)["reason"], "left");
    assert_eq!(world.rooms(), 0);
}

/// Both come at the same moment, to one node: who was first is told that they wait, and then of the partner.
#[test]
fn who_waits_is_told_so_before_the_partner_comes() {
    let (world, _, tickets) = pair();
    let (pending, now) = (pending(&world, 0), world.now());
    for number in 0..5000 {
        let room = RoomId(number);
        let users = [0, 1].map(|seat| {
            let user = User::new(1000 + 2 * number + seat, &world.nodes[0].1);
            outlives_connections(&user);
            user
        });
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for (user, shown) in users.iter().zip(&tickets) {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    pending.rejoin(&user.member, room, shown.seat, now)
                });
            }
        });
        let told = users.each_ref().map(types);
        let waited = told
            .iter()
            .filter(|told| told[..] == ["rejoining", "rejoined"]);
        let opened = told.iter().filter(|told| told[..] == ["rejoined"]);
        assert_eq!((waited.count(), opened.count()), (1, 1), "{told:?}");
    }
}

#[test]
fn who_comes_to_any_node_has_the_seat_of_a_dead_one() {
    // User 1 was on node 1, which dies; they come to their partner's node, and to another one.
    for node in [0, 1] {
        for waits in [0, 10] {
            let (mut world, mut users, tickets) = pair();
            kill(&mut world);
            assert_eq!(types(&users[0]), ["match_found"], "nobody is told");
            world.play(&mut users, &Step::Pass(waits));
            let back = newcomer(&world, node);
            let seat = rejoin(&world, node, &back, &tickets[1]);
            assert_eq!(seat == Seat::Taken, node == 0);
            world.settle();
            assert_are_together(&mut world, &users[0], &back, tickets[1].room);
            // The ticket has served.
            let again = newcomer(&world, node);
            assert_eq!(
                rejoin(&world, node, &again, &tickets[1]) == Seat::Ended,
                node == 0
            );
            world.settle();
            assert_eq!(again.member.place(), Place::Idle);
        }
    }
}

#[test]
fn a_seat_is_not_kept_for_ever() {
    let (mut world, mut users, tickets) = pair();
    kill(&mut world);
    world.play(&mut users, &Step::Pass(14));
    assert_eq!(types(&users[0]), ["match_found"]);
    // What is said meanwhile is not there.
    let room = users[0].member.room().expect("still");
    assert!(!room.is_closed());
    world.play(&mut users, &Step::Pass(1));
    assert_eq!(last_word(&users[0])["reason"], "lost");
    for node in [0, 1] {
        let late = newcomer(&world, node);
        rejoin(&world, node, &late, &tickets[1]);
        world.settle();
        assert_eq!(late.member.place(), Place::Idle);
        if node == 1 {
            assert_eq!(last_word(&late)["code"], "room_closed");
        }
    }
    assert!(pending(&world, 1).is_empty());
}

#[test]
fn who_leaves_a_room_with_an_empty_seat_ends_it() {
    let (mut world, users, tickets) = pair();
    kill(&mut world);
    users[0].member.leave_room(LeaveReason::Left);
    assert_eq!(world.rooms(), 0);
    let late = newcomer(&world, 1);
    rejoin(&world, 1, &late, &tickets[1]);
    world.settle();
    assert_eq!(last_word(&late)["code"], "room_closed");
    assert_eq!(types(&users[0]), ["match_found"]);
    world.pass(20 * SECOND);
    assert_eq!(types(&users[0]), ["match_found"]);
}

#[test]
fn who_is_still_there_resumes() {
    let (mut world, users, tickets) = pair();
    let other = newcomer(&world, 0);
    assert_eq!(rejoin(&world, 0, &other, &tickets[1]), Seat::Asked);
    world.settle();
    assert_eq!(last_word(&other)["code"], "use_resume");
    assert_eq!(other.member.place(), Place::Idle);
    say(&mut world, &users[0], &users[1]);
    assert_eq!(world.rooms(), 1);
}

#[test]
fn a_node_that_was_taken_for_dead_says_that_its_rooms_have_ended() {
    let (mut world, users, _) = pair();
    world.bury(1);
    assert_eq!(types(&users[0]), ["match_found"]);
    world.settle();
    for user in &users[..2] {
        assert_eq!(last_word(user)["reason"], "lost");
    }
    assert_eq!(world.rooms(), 0);
}

#[test]
fn who_does_not_answer_is_replaced() {
    let (mut world, users, tickets) = pair();
    let back = newcomer(&world, 0);
    rejoin(&world, 0, &back, &tickets[1]);
    // The question is lost.
    world.lock().links.clear();
    world.pass(SECOND);
    assert_eq!(users[0].partner(), Some(back.member.id));
    world.settle();
    let told = last_word(&users[1]);
    assert_eq!(
        (&told["type"], &told["reason"]),
        (&"peer_left".into(), &"replaced".into())
    );
    assert_are_together(&mut world, &users[0], &back, tickets[1].room);
}

#[test]
fn who_was_sent_away_by_a_drain_comes_back_elsewhere() {
    let (mut world, users, tickets) = pair();
    users[1].member.go(CloseReason::Draining);
    world.settle();
    assert_eq!(types(&users[0]), ["match_found"], "nobody is told");
    let back = newcomer(&world, 1);
    rejoin(&world, 1, &back, &tickets[1]);
    world.settle();
    assert_are_together(&mut world, &users[0], &back, tickets[1].room);
}

#[test]
fn a_lost_answer_is_given_again() {
    let (mut world, mut users, tickets) = pair();
    kill(&mut world);
    let back = newcomer(&world, 1);
    rejoin(&world, 1, &back, &tickets[1]);
    while world.deliver() {
        let mut between = world.lock();
        for link in between.links.values_mut() {
            link.retain(|frame| frame.kind != FrameKind::Rejoined as u8);
        }
    }
    assert_eq!(back.member.place(), Place::Waiting);
    world.play(&mut users, &Step::Pass(2));
    world.settle();
    assert_are_together(&mut world, &users[0], &back, tickets[1].room);
}

#[test]
fn who_gives_up_before_the_answer_leaves_nobody_behind() {
    let (mut world, users, tickets) = pair();
    kill(&mut world);
    let back = newcomer(&world, 1);
    rejoin(&world, 1, &back, &tickets[1]);
    assert!(pending(&world, 1).give_up(tickets[1].room, back.member.id, None, Instant::now()));
    assert!(!back.member.waits_with(NO_TICKET));
    world.settle();
    assert_eq!(last_word(&users[0])["reason"], "lost");
    assert_eq!((back.member.place(), world.rooms()), (Place::Idle, 0));
}

#[test]
fn what_is_said_to_an_empty_seat_is_refused() {
    let (mut world, users, _) = pair();
    kill(&mut world);
    world.lock().is_full = true;
    let room = users[0].member.room().expect("still");
    let mut batch = Batch::default();
    batch.push(&[br#"{"type":"said"}"#]);
    let said = users[0].member.relay(&room, &batch, world.now());
    assert_eq!(said, Err(NotRelayed::Refused(crate::outbox::Refused::Lost)));
}
