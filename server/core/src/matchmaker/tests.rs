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
    memory::Memory,
    outbox::{Link, Outbox, OutboxLimits, text_frame},
    process::ProcessId,
};

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
        let member = Arc::new(Member::new(SessionId(id), outbox, false, None));
        Self {
            member,
            heard,
            ticket: None,
            ghost: None,
            avoid: Vec::new(),
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
        if let Some(ticket) = self.ticket.take() {
            matchmaker.cancel(&ticket);
        }
    }

    fn next(&mut self, matchmaker: &Matchmaker, wish: Wish, now: Instant) {
        if let Some(partner) = self.member.leave_room(LeaveReason::Next) {
            let until = now + matchmaker.config().get().avoid_partner_for;
            self.avoid.push(Avoid { partner, until });
        }
        self.find(matchmaker, wish, now);
    }

    fn die(&mut self, matchmaker: &Matchmaker) {
        self.cancel(matchmaker);
        self.member.go(CloseReason::Lost);
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
    }
}

fn new_matchmaker() -> (Matchmaker, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new(1, &PoolKind::LABELS).expect("names are unique"));
    let keys = Arc::new(RoomKeys::random(ProcessId::random()));
    (Matchmaker::new(config(), metrics.clone(), keys), metrics)
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
    Die(usize),
    Vanish(usize),
    /// Parks whoever waits, or lets them come back.
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
        1 => user.clone().prop_map(Step::Die),
        1 => user.clone().prop_map(Step::Vanish),
        2 => user.prop_map(Step::Park),
        3 => (1u32..12).prop_map(Step::Pass),
    ]
}

/// The matchmaker as one would explain it: a list of those who wait, in order of arrival.
#[derive(Default)]
struct Model {
    waiting: Vec<Waiting>,
    partner: HashMap<usize, usize>,
    avoid: HashMap<usize, Vec<(usize, u32)>>,
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
        if a.parked || b.parked || self.avoids(a, b) || self.avoids(b, a) {
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

/// Threads that find, cancel, leave and die at the same time: whatever the interleaving, in the end nobody
/// is lost, nobody is in two rooms, and no two compatible people both wait.
#[test]
fn threads_at_once_leave_nobody_behind() {
    const THREADS: u64 = 4;
    const USERS_EACH: u64 = 16;
    for round in 0..40 {
        let (matchmaker, metrics) = new_matchmaker();
        let start = Instant::now();
        let users: Vec<User> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (matchmaker, metrics) = (&matchmaker, &metrics);
                    scope
                        .spawn(move || play(matchmaker, metrics, thread * USERS_EACH, round, start))
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        let by_id: HashMap<_, _> = users.iter().map(|user| (user.member.id, user)).collect();
        let mut waiting: Vec<&User> = Vec::new();
        for user in &users {
            match user.member.place() {
                Place::InRoom => {
                    let partner = user.partner().expect("in a room");
                    assert_eq!(by_id[&partner].partner(), Some(user.member.id));
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
    metrics: &Arc<Metrics>,
    first_id: u64,
    seed: u64,
    now: Instant,
) -> Vec<User> {
    let wishes = wishes();
    let mut users: Vec<User> = (0..16).map(|i| User::new(first_id + i, metrics)).collect();
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
            _ => {}
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
