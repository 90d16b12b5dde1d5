use std::{
    collections::HashMap,
    io::{self, IoSlice},
    sync::Mutex,
    task::{Context, Poll},
};

use proptest::prelude::*;
use voicematch_protocol::{CloseReason, Criteria, LeaveReason};

use super::*;
use crate::{
    blocks::{Blocks, Told},
    identity::Identity,
    memory::Memory,
    metrics::Metrics,
    outbox::{Link, Outbox, OutboxLimits, text_frame},
    process::ProcessId,
    room::ticket::RoomKeys,
};

mod across;

/// What one user has been told, in order, one frame after another.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Link for Heard {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut heard = self.0.lock().expect("not poisoned");
        parts.iter().for_each(|part| heard.extend_from_slice(part));
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn hang_up(&mut self) {}

    fn farewell(&self, _: CloseReason, _: &mut Vec<u8>) {}
}

impl Heard {
    fn messages(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().expect("not poisoned").clone();
        let mut rest = &bytes[..];
        let messages = std::iter::from_fn(|| {
            let (message, behind) = text_frame(rest)?;
            rest = behind;
            Some(serde_json::from_slice(message).expect("JSON"))
        });
        messages.collect()
    }
}

/// A session without a socket.
struct User {
    member: Arc<Member>,
    heard: Heard,
    ticket: Option<Arc<Ticket>>,
    /// What still stands in the pools after the user has vanished.
    ghost: Option<Arc<Ticket>>,
    avoid: Vec<Avoid>,
    /// Whom this user has blocked.
    blocked: Vec<SessionId>,
}

impl User {
    fn new(id: u64, metrics: &Arc<Metrics>) -> Self {
        let heard = Heard::default();
        let limits = OutboxLimits {
            messages: 10,
            bytes: 10_000,
        };
        let memory = Memory::new(1 << 20, metrics.buffered_bytes.clone());
        let outbox = Outbox::new(
            limits,
            Some(Box::new(heard.clone())),
            metrics.clone(),
            memory,
        );
        // Every third one is known to the app.
        let user = format!("user {id}").into();
        let identity = Identity::new(user, Instant::now() + 3600 * SECOND);
        let identity = id.is_multiple_of(3).then(|| Box::new(identity));
        let member = Arc::new(Member::new(SessionId(id), outbox, false, identity));
        Self {
            member,
            heard,
            ticket: None,
            ghost: None,
            avoid: Vec::new(),
            blocked: Vec::new(),
        }
    }

    fn find(&mut self, matchmaker: &Matchmaker, wish: Wish, now: Instant) {
        self.avoid.retain(|avoid| now < avoid.until);
        let avoid = self.avoid.clone();
        if let Ok(ticket) = matchmaker.find(&self.member, wish, avoid, None, now) {
            self.ticket = Some(ticket);
        }
    }

    fn cancel(&mut self, matchmaker: &Matchmaker) {
        let ticket = self.ticket.take();
        let matched = ticket.filter(|ticket| !matchmaker.cancel(ticket));
        self.ticket = matched.filter(|_| self.member.place() == Place::Waiting);
    }

    fn next(&mut self, matchmaker: &Matchmaker, wish: Wish, now: Instant) {
        if let Some(room) = self.member.leave_room(LeaveReason::Next) {
            let partner = room.peer_of(self.member.id).id;
            let until = now + matchmaker.config().get().avoid_partner_for;
            self.avoid.push(Avoid { partner, until });
        }
        self.find(matchmaker, wish, now);
    }

    fn block(&mut self, matchmaker: &Matchmaker, other: &Member, now: Instant) {
        let ticket = self.ticket.as_deref();
        let (_, parted) = matchmaker.part(&self.member, other, ticket, now);
        if let Parted::Again(ticket) = parted {
            self.ticket = Some(ticket);
        }
        self.blocked.push(other.id);
    }

    fn die(&mut self, matchmaker: &Matchmaker) {
        let ticket = self.ticket.take();
        let matched = ticket.filter(|ticket| !matchmaker.cancel(ticket));
        self.member.go(CloseReason::Lost);
        if let Some(ticket) = matched {
            matchmaker.bury(&ticket);
        }
    }

    /// Dies, and what would take the ticket out of the pools comes later.
    fn vanish(&mut self) {
        self.member.go(CloseReason::Lost);
        if let Some(ticket) = self.ticket.take() {
            self.ghost = Some(ticket);
        }
    }

    fn bury(&mut self, matchmaker: &Matchmaker) {
        if let Some(ghost) = self.ghost.take() {
            matchmaker.cancel(&ghost);
        }
    }

    fn partner(&self) -> Option<SessionId> {
        self.member
            .room()
            .map(|room| room.peer_of(self.member.id).id)
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// For how many seconds blocks count.
const REMEMBERED: u32 = 40;

fn config() -> MatchmakerConfig {
    let after = |seconds: u32| Some(SECOND * seconds);
    let widening = Widening {
        language: after(5),
        region: after(10),
        anyone: after(15),
    };
    MatchmakerConfig {
        widening,
        avoid_partner_for: 30 * SECOND,
        keep_seat_for: 15 * SECOND,
    }
}

fn new_matchmaker() -> (Matchmaker, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new(1, &PoolKind::LABELS).expect("names are unique"));
    let keys = Arc::new(RoomKeys::random(ProcessId::random()));
    let remembered = metrics.blocks_remembered.clone();
    let shared = Shared {
        metrics: metrics.clone(),
        keys,
        blocks: Blocks::new(1000, REMEMBERED * SECOND, remembered),
        listener: None,
    };
    (Matchmaker::new(config(), Arc::new(shared)), metrics)
}

fn wish(language: &str, region: &str, interests: &[&str]) -> Wish {
    let criteria = Criteria {
        language: Some(language.into()),
        region: Some(region.into()),
        interests: interests.iter().map(|&interest| interest.into()).collect(),
    };
    Wish::new(&criteria).expect("valid criteria")
}

#[derive(Debug, Clone)]
enum Step {
    Find(usize, usize),
    Cancel(usize),
    Next(usize, usize),
    Leave(usize),
    /// The first one blocks the second.
    Block(usize, usize),
    Die(usize),
    Vanish(usize),
    /// Parks the users who wait, or lets them come back.
    Park(usize),
    Pass(u32),
}

const USERS: usize = 8;

fn wishes() -> Vec<Wish> {
    vec![
        wish("", "", &[]),
        wish("en", "", &[]),
        wish("de", "eu", &[]),
        wish("en", "eu", &["chess"]),
        wish("", "", &["chess", "go"]),
        wish("de", "us", &["go", "chess", "tea"]),
        wish("", "us", &[]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS;
    let wish = 0..wishes().len();
    prop_oneof![
        5 => (user.clone(), wish.clone()).prop_map(|(user, wish)| Step::Find(user, wish)),
        1 => user.clone().prop_map(Step::Cancel),
        3 => (user.clone(), wish).prop_map(|(user, wish)| Step::Next(user, wish)),
        1 => user.clone().prop_map(Step::Leave),
        2 => (user.clone(), 1..USERS).prop_map(|(user, to)| Step::Block(user, (user + to) % USERS)),
        1 => user.clone().prop_map(Step::Die),
        1 => user.clone().prop_map(Step::Vanish),
        2 => user.prop_map(Step::Park),
        3 => (1u32..12).prop_map(Step::Pass),
    ]
}

/// Two users, whichever is named first.
fn pair(a: usize, b: usize) -> [usize; 2] {
    [a.min(b), a.max(b)]
}

/// The matchmaker as one would explain it: a list of those who wait, in order of arrival.
#[derive(Default)]
struct Model {
    waiting: Vec<Waiting>,
    partner: HashMap<usize, usize>,
    avoid: HashMap<usize, Vec<(usize, u32)>>,
    /// Two who are apart, and until when.
    apart: HashMap<[usize; 2], u32>,
    dead: Vec<usize>,
    now: u32,
}

#[derive(Clone)]
struct Waiting {
    user: usize,
    wish: usize,
    since: u32,
    /// How long they had waited when they last looked, and so joined wider pools.
    looked: u32,
    avoid: Vec<(usize, u32)>,
    parked: bool,
}

impl Model {
    /// The pools in which somebody stands now, with how wide each is.
    fn pools(&self, waiting: &Waiting) -> Vec<(PoolKind, PoolKey)> {
        let wish = &wishes()[waiting.wish];
        let waited = waiting.looked;
        let joined = |kind: PoolKind| match kind {
            _ if kind == wish.narrowest() => true,
            PoolKind::Interest => false,
            PoolKind::Language => waited >= 5,
            PoolKind::Region => waited >= 10,
            PoolKind::Anyone => waited >= 15,
        };
        let joined = PoolKind::ALL.into_iter().filter(|&kind| joined(kind));
        joined
            .flat_map(|kind| {
                wish.keys(kind)
                    .map(move |key| (kind, key))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn avoids(&self, a: &Waiting, b: &Waiting) -> bool {
        a.avoid
            .iter()
            .any(|&(partner, until)| partner == b.user && self.now < until)
    }

    /// How narrow a pool the two share, if they may meet.
    fn shared(&self, a: &Waiting, b: &Waiting) -> Option<PoolKind> {
        let until = self.apart.get(&pair(a.user, b.user));
        let apart = until.is_some_and(|&until| self.now < until);
        if apart || a.parked || b.parked || self.avoids(a, b) || self.avoids(b, a) {
            return None;
        }
        let theirs = self.pools(b);
        let shared = self
            .pools(a)
            .into_iter()
            .filter(|pool| theirs.contains(pool));
        shared.map(|(kind, _)| kind).min()
    }

    fn look(&mut self, user: usize) {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.user == user) else {
            return;
        };
        if self.waiting[at].parked {
            return;
        }
        self.waiting[at].looked = self.now - self.waiting[at].since;
        let me = self.waiting[at].clone();
        let others = self
            .waiting
            .iter()
            .enumerate()
            .filter(|(_, other)| other.user != user);
        let found = others
            .filter_map(|(i, other)| self.shared(&me, other).map(|kind| (kind, i)))
            .min();
        if let Some((_, other)) = found {
            let other = self.waiting[other].user;
            self.partner.insert(user, other);
            self.partner.insert(other, user);
            self.waiting
                .retain(|waiting| ![user, other].contains(&waiting.user));
        }
    }

    fn find(&mut self, user: usize, wish: usize) {
        let busy = self.partner.contains_key(&user)
            || self.waiting.iter().any(|waiting| waiting.user == user);
        if busy || self.dead.contains(&user) {
            return;
        }
        let avoid = self.avoid.get(&user).cloned().unwrap_or_default();
        self.waiting.push(Waiting {
            user,
            wish,
            since: self.now,
            looked: 0,
            avoid,
            parked: false,
        });
        self.look(user);
    }

    fn leave(&mut self, user: usize) -> Option<usize> {
        let partner = self.partner.remove(&user)?;
        self.partner.remove(&partner);
        Some(partner)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Find(user, wish) => self.find(user, wish),
            Step::Cancel(user) => self.waiting.retain(|waiting| waiting.user != user),
            Step::Next(user, wish) => {
                if let Some(partner) = self.leave(user) {
                    self.avoid
                        .entry(user)
                        .or_default()
                        .push((partner, self.now + 30));
                }
                self.find(user, wish);
            }
            Step::Leave(user) => {
                self.leave(user);
            }
            Step::Block(user, other) => {
                self.apart.insert(pair(user, other), self.now + REMEMBERED);
                if self.partner.get(&user) == Some(&other) {
                    self.leave(user);
                }
            }
            Step::Park(user) => {
                let mut waiting = self.waiting.iter_mut();
                if let Some(waiting) = waiting.find(|waiting| waiting.user == user) {
                    waiting.parked = !waiting.parked;
                    self.look(user);
                }
            }
            // Nobody can tell whether the ticket of one who is dead is still there.
            Step::Die(user) | Step::Vanish(user) => {
                self.waiting.retain(|waiting| waiting.user != user);
                self.leave(user);
                self.dead.push(user);
            }
            Step::Pass(seconds) => {
                for _ in 0..seconds {
                    self.now += 1;
                    (0..USERS).for_each(|user| self.look(user));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Step by step the matchmaker does what the model does: the same pairs, the same who wait.
    #[test]
    fn any_sequence_of_steps_ends_as_in_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let (matchmaker, metrics) = new_matchmaker();
        let mut users: Vec<User> = (0..USERS as u64).map(|id| User::new(id, &metrics)).collect();
        let mut model = Model::default();
        let start = Instant::now();
        let wishes = wishes();
        for step in &steps {
            let now = start + SECOND * model.now;
            match *step {
                Step::Find(user, wish) => users[user].find(&matchmaker, wishes[wish].clone(), now),
                Step::Cancel(user) => users[user].cancel(&matchmaker),
                Step::Next(user, wish) => users[user].next(&matchmaker, wishes[wish].clone(), now),
                Step::Leave(user) => drop(users[user].member.leave_room(LeaveReason::Left)),
                Step::Block(user, other) => {
                    let other = users[other].member.clone();
                    users[user].block(&matchmaker, &other, now);
                }
                Step::Die(user) => users[user].die(&matchmaker),
                Step::Vanish(user) => users[user].vanish(),
                Step::Park(user) => {
                    if let Some(ticket) = &users[user].ticket
                        && !matchmaker.park(ticket)
                    {
                        matchmaker.unpark(ticket, now);
                    }
                }
                Step::Pass(seconds) => {
                    for second in 1..=seconds {
                        for user in &users {
                            if let Some(ticket) = &user.ticket {
                                matchmaker.advance(ticket, now + SECOND * second);
                            }
                        }
                    }
                }
            }
            model.step(step);
            for (i, user) in users.iter().enumerate() {
                let partner = model.partner.get(&i).map(|&partner| SessionId(partner as u64));
                prop_assert_eq!(user.partner(), partner, "user {} after {:?}", i, step);
                let waits = model.waiting.iter().any(|waiting| waiting.user == i);
                prop_assert_eq!(user.member.place() == Place::Waiting, waits, "user {} after {:?}", i, step);
            }
            let ghosts = users.iter().filter_map(|user| user.ghost.as_ref());
            let ghosts = ghosts.filter(|ghost| ghost.is_waiting()).count();
            let waiting = model.waiting.iter().filter(|waiting| !waiting.parked).count();
            prop_assert_eq!(metrics.waiting_users(), (waiting + ghosts) as i64);
            prop_assert_eq!(metrics.rooms_active.get(), model.partner.len() as i64 / 2);
        }
        for user in &mut users {
            user.die(&matchmaker);
            user.bury(&matchmaker);
        }
        prop_assert_eq!(matchmaker.pool_count(), 0, "nothing is left behind");
        prop_assert_eq!((metrics.waiting_users(), metrics.rooms_active.get()), (0, 0));
        users.iter().for_each(|user| assert_heard_in_order(&user.heard));
    }
}

/// A user is told of a match only when alone, and of a partner's leaving only when with that partner.
fn assert_heard_in_order(heard: &Heard) {
    let mut room = None;
    for message in heard.messages() {
        match message["type"].as_str() {
            // The user may have left the room before by themself.
            Some("match_found") => room = Some(message["room_id"].clone()),
            Some("peer_left") => assert_eq!(room.take(), Some(message["room_id"].clone())),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// Threads that find, cancel, leave, block and die at the same time: whatever the interleaving, in the end nobody
/// is lost, nobody is in two rooms or with somebody whom either has blocked, and no two compatible people both wait.
#[test]
fn threads_at_once_leave_nobody_behind() {
    const THREADS: usize = 4;
    const USERS_EACH: usize = 16;
    for round in 0..40 {
        let (matchmaker, metrics) = new_matchmaker();
        let start = Instant::now();
        let mut users: Vec<User> = (0..(THREADS * USERS_EACH) as u64)
            .map(|id| User::new(id, &metrics))
            .collect();
        let members: Vec<_> = users.iter().map(|user| user.member.clone()).collect();
        let users: Vec<User> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (matchmaker, members) = (&matchmaker, &members);
                    let own = users.split_off(users.len() - USERS_EACH);
                    scope.spawn(move || play(matchmaker, members, own, round, start))
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        let by_id: HashMap<_, _> = users.iter().map(|user| (user.member.id, user)).collect();
        let apart = |a: &User, b: &User| {
            a.blocked.contains(&b.member.id) || b.blocked.contains(&a.member.id)
        };
        let mut waiting: Vec<&User> = Vec::new();
        for user in &users {
            match user.member.place() {
                Place::InRoom => {
                    let partner = user.partner().expect("in a room");
                    assert_eq!(by_id[&partner].partner(), Some(user.member.id));
                    assert!(
                        !apart(user, by_id[&partner]),
                        "with somebody who is blocked"
                    );
                }
                Place::Waiting => {
                    assert!(
                        user.ticket
                            .as_ref()
                            .is_some_and(|ticket| ticket.is_waiting()),
                        "lost"
                    );
                    waiting.push(user);
                }
                Place::Idle | Place::Gone => {}
            }
            assert_heard_in_order(&user.heard);
        }
        assert_eq!(metrics.waiting_users(), waiting.len() as i64);
        for (i, a) in waiting.iter().enumerate() {
            for b in &waiting[i + 1..] {
                if apart(a, b) {
                    continue;
                }
                let (a, b) = (
                    a.ticket.as_ref().expect("waits"),
                    b.ticket.as_ref().expect("waits"),
                );
                let keys = |ticket: &Ticket| -> Vec<PoolKey> {
                    ticket
                        .pool_kinds()
                        .flat_map(|kind| ticket.wish.keys(kind))
                        .collect()
                };
                let share = keys(a).iter().any(|key| keys(b).contains(key));
                assert!(
                    !share || a.avoids(b, start) || b.avoids(a, start),
                    "both wait for each other"
                );
            }
        }
    }
}

fn play(
    matchmaker: &Matchmaker,
    members: &[Arc<Member>],
    mut users: Vec<User>,
    seed: u64,
    now: Instant,
) -> Vec<User> {
    let wishes = wishes();
    let first_id = users[0].member.id.0;
    // xorshift64: the same steps for the same seed.
    let mut random = (first_id + 1) * 0x9e37_79b9 + (seed + 1) * 0x85eb_ca6b;
    for _ in 0..400 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let user = &mut users[(random >> 8) as usize % 16];
        let wish = wishes[(random >> 16) as usize % wishes.len()].clone();
        match random >> 32 & 15 {
            0..=7 => user.find(matchmaker, wish, now),
            8..=9 => user.cancel(matchmaker),
            10..=13 => user.next(matchmaker, wish, now),
            14 => drop(user.member.leave_room(LeaveReason::Left)),
            _ if random >> 40 & 7 == 0 => user.die(matchmaker),
            // Mostly somebody with whom a match may be being made just now.
            _ => {
                let other = &members[(random >> 44) as usize % members.len()];
                if other.id != user.member.id {
                    user.block(matchmaker, other, now);
                }
            }
        }
    }
    users
}

#[test]
fn a_partner_who_is_gone_when_told_costs_the_survivor_nothing() {
    let (matchmaker, metrics) = new_matchmaker();
    let start = Instant::now();
    let mut users: Vec<User> = (0..3).map(|id| User::new(id, &metrics)).collect();
    users[0].find(&matchmaker, Wish::default(), start);
    // The user's connection broke, but their ticket is still in the pool.
    users[0].member.go(CloseReason::Lost);
    users[1].find(&matchmaker, Wish::default(), start + SECOND);
    assert_eq!(users[1].member.place(), Place::Waiting);
    assert_eq!(metrics.partners_gone.get(), 1);
    users[2].find(&matchmaker, Wish::default(), start + 5 * SECOND);
    assert_eq!(users[1].partner(), Some(SessionId(2)));
    let told = &users[1].heard.messages()[0];
    assert_eq!(
        (&told["type"], &told["waited_ms"]),
        (&"match_found".into(), &4000.into())
    );
    assert_eq!(metrics.waiting_users(), 0);
}

/// One who waits blocks another at the very moment at which that one looks, and a third one looks too: the two never meet,
/// and who is left waits with nobody who fits.
#[test]
fn a_block_at_the_moment_of_the_match_wins_or_ends_it() {
    for _ in 0..3000 {
        let (matchmaker, metrics) = new_matchmaker();
        let now = Instant::now();
        let [mut blocker, mut blocked, mut third] = [1, 2, 4].map(|id| User::new(id, &metrics));
        blocker.find(&matchmaker, Wish::default(), now);
        let barrier = std::sync::Barrier::new(3);
        let other = blocked.member.clone();
        std::thread::scope(|scope| {
            for user in [&mut blocked, &mut third] {
                let (barrier, matchmaker) = (&barrier, &matchmaker);
                scope.spawn(move || {
                    barrier.wait();
                    user.find(matchmaker, Wish::default(), now);
                });
            }
            barrier.wait();
            blocker.block(&matchmaker, &other, now);
        });
        let partners = [&blocker, &blocked, &third].map(User::partner);
        assert_ne!(partners[0], Some(SessionId(2)));
        assert_ne!(partners[1], Some(SessionId(1)));
        let places = [&blocker, &blocked, &third].map(|user| user.member.place());
        let waits = places.map(|place| place == Place::Waiting);
        // Two are together, or the match of the first two has ended and the third has come too late for it.
        let ended = places[..2] == [Place::Idle, Place::Idle];
        assert!(
            partners[2].is_some() || (ended && waits[2]),
            "{partners:?} {places:?}"
        );
        assert_eq!(
            metrics.waiting_users(),
            waits.iter().filter(|&&waits| waits).count() as i64
        );
        for user in [&blocker, &blocked, &third] {
            assert_heard_in_order(&user.heard);
        }
    }
}
