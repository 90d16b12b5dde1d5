//! Who has blocked whom. Two people who are apart are not matched, whichever of them has blocked the other.
//!
//! A person is a user of the app, where it has named one, else a session. What is kept is bounded: of each person, of all,
//! and in time. Nothing is written down: a restart forgets it.
//!
//! Its locks are taken after all others, and while they are held no other is taken.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use prometheus::IntGauge;
use sha2::{Digest, Sha256};
use voicematch_protocol::SessionId;

/// The most that one person blocks at the same time; one more makes the first one a stranger again.
pub const MAX_OF_ONE: usize = 100;

/// How long a block is remembered. That of a session ends with the session.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A person as a number: a session's id, or a hash of the app's id of a user. That two are the same happens to one pair in
/// 2^64, and then only keeps two strangers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Person(u64);

impl Person {
    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Who has blocked whom.
pub struct Blocks {
    /// With whom each person is apart, and until when; each pair stands in it twice.
    apart: DashMap<Person, HashMap<Person, Instant, ahash::RandomState>, ahash::RandomState>,
    made: Mutex<Made>,
    /// How many people are apart from somebody, so that nobody looks while there are none.
    people: AtomicUsize,
    /// Users choose their ids, so the hash must be one that they cannot predict.
    hash: ahash::RandomState,
    /// In place of it: all nodes of a cluster have the same.
    key: Option<[u8; 32]>,
    max: usize,
    remembered_for: Duration,
    remembered: IntGauge,
}

/// What has become of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    /// The one had not blocked the other before.
    pub is_new: bool,
    /// Another block was forgotten for it.
    pub pushes_out: bool,
}

/// Every block, by age and by who has made it.
#[derive(Default)]
struct Made {
    by_age: BTreeMap<u64, Block>,
    /// The numbers of the blocks of each person, the oldest first.
    by_person: HashMap<Person, Vec<u64>, ahash::RandomState>,
    next: u64,
}

#[derive(Clone, Copy)]
struct Block {
    by: Person,
    of: Person,
    until: Instant,
}

impl Made {
    /// The oldest block, if this holds of how many there are and of that one.
    fn oldest(&self, holds: impl FnOnce(usize, &Block) -> bool) -> Option<u64> {
        let (&number, block) = self.by_age.first_key_value()?;
        holds(self.by_age.len(), block).then_some(number)
    }

    fn find(&self, by: Person, of: Person) -> Option<u64> {
        let mut numbers = self.by_person.get(&by)?.iter().copied();
        numbers.find(|number| self.by_age.get(number).is_some_and(|block| block.of == of))
    }
}

impl Blocks {
    /// None yet, and at the most `max`, each for so long. `remembered` shows how many there are.
    pub fn new(max: usize, remembered_for: Duration, remembered: IntGauge) -> Self {
        Self {
            apart: DashMap::with_hasher(ahash::RandomState::new()),
            made: Mutex::default(),
            people: AtomicUsize::new(0),
            hash: ahash::RandomState::new(),
            key: None,
            max,
            remembered_for,
            remembered,
        }
    }

    /// The same, for a node of a cluster: persons have the same numbers on all nodes that have this secret key.
    pub fn keyed(self, key: [u8; 32]) -> Self {
        let key = Some(key);
        Self { key, ..self }
    }

    /// A user of the app, or else a session.
    pub fn person(&self, user: Option<&str>, session: SessionId) -> Person {
        Person(match (user, &self.key) {
            (None, _) => session.0,
            (Some(user), None) => self.hash.hash_one(user),
            (Some(user), Some(key)) => {
                let hash = Sha256::new()
                    .chain_update(key)
                    .chain_update(user)
                    .finalize();
                hash.iter()
                    .take(8)
                    .fold(0, |n, &byte| n << 8 | u64::from(byte))
            }
        })
    }

    /// Whom a person does not meet.
    pub fn apart_of(&self, one: Person, now: Instant) -> Vec<u64> {
        let others = self.apart.get(&one);
        others.map_or_else(Vec::new, |others| {
            let apart = others.iter().filter(|(_, until)| now < **until);
            apart.map(|(other, _)| other.0).collect()
        })
    }

    /// Whether nobody has blocked anybody.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.people.load(Ordering::Acquire) == 0
    }

    /// Whether the two are not to meet.
    pub fn are_apart(&self, one: Person, other: Person, now: Instant) -> bool {
        let others = self.apart.get(&one);
        others.is_some_and(|others| others.get(&other).is_some_and(|until| now < *until))
    }

    /// From now on the two are apart. If they were already, it is remembered from now.
    pub fn block(&self, by: Person, of: Person, now: Instant) -> Blocked {
        let mut made = self.lock();
        while let Some(oldest) = made.oldest(|_, block| block.until <= now) {
            self.forget(&mut made, oldest);
        }
        let before = made.find(by, of);
        if let Some(number) = before {
            self.forget(&mut made, number);
        }
        let until = now + self.remembered_for;
        let number = made.next;
        made.next += 1;
        made.by_age.insert(number, Block { by, of, until });
        let own = made.by_person.entry(by).or_default();
        own.push(number);
        let too_many = (own.len() > MAX_OF_ONE).then(|| own[0]);
        self.set_apart(by, of, until);
        self.set_apart(of, by, until);
        let too_many = too_many.or_else(|| made.oldest(|blocks, _| blocks > self.max));
        if let Some(oldest) = too_many {
            self.forget(&mut made, oldest);
        }
        self.show(&made);
        Blocked {
            is_new: before.is_none(),
            pushes_out: too_many.is_some(),
        }
    }

    /// Forgets all that a person has blocked, and who has blocked them: their session has ended.
    pub fn forget_person(&self, person: Person) {
        let mut made = self.lock();
        let others = self.apart.get(&person);
        let others: Vec<Person> =
            others.map_or_else(Vec::new, |others| others.keys().copied().collect());
        for other in others {
            for (by, of) in [(person, other), (other, person)] {
                if let Some(number) = made.find(by, of) {
                    self.forget(&mut made, number);
                }
            }
        }
        self.show(&made);
    }

    /// Whom a person has blocked, and who has blocked them, with how long each is remembered still; of both as many as
    /// one person may block.
    pub fn of(&self, person: Person, now: Instant) -> [Vec<(u64, Duration)>; 2] {
        let made = self.lock();
        let others = self.apart.get(&person);
        let others: Vec<Person> =
            others.map_or_else(Vec::new, |others| others.keys().copied().collect());
        let left = |by, of| {
            let block = made.by_age.get(&made.find(by, of)?)?;
            (now < block.until).then(|| block.until - now)
        };
        let own = others
            .iter()
            .filter_map(|&of| Some((of.0, left(person, of)?)));
        let theirs = others
            .iter()
            .filter_map(|&by| Some((by.0, left(by, person)?)));
        [
            own.take(MAX_OF_ONE).collect(),
            theirs.take(MAX_OF_ONE).collect(),
        ]
    }

    /// Takes over what another node remembers of a person, as long as it would have there.
    pub fn take_over(&self, person: Person, blocks: &[Vec<(u64, Duration)>; 2], now: Instant) {
        let [own, theirs] = blocks;
        let own = own.iter().map(|&(of, left)| (person, Person(of), left));
        let theirs = theirs.iter().map(|&(by, left)| (Person(by), person, left));
        for (by, of, left) in own.chain(theirs).take(2 * MAX_OF_ONE) {
            // It counts from when it was made, which is some time ago.
            let ago = self.remembered_for.saturating_sub(left);
            self.block(by, of, now.checked_sub(ago).unwrap_or(now));
        }
    }

    /// How many blocks are remembered.
    pub fn len(&self) -> usize {
        self.lock().by_age.len()
    }

    /// Forgets one block. The two stay apart as long as the other's block of the first, if there is one.
    fn forget(&self, made: &mut Made, number: u64) {
        let Some(Block { by, of, .. }) = made.by_age.remove(&number) else {
            return;
        };
        if let Some(own) = made.by_person.get_mut(&by) {
            own.retain(|&other| other != number);
            if own.is_empty() {
                made.by_person.remove(&by);
            }
        }
        let back = made
            .find(of, by)
            .and_then(|number| made.by_age.get(&number));
        match back.map(|block| block.until) {
            Some(until) => {
                self.set_apart(by, of, until);
                self.set_apart(of, by, until);
            }
            None => {
                self.bring_together(by, of);
                self.bring_together(of, by);
            }
        }
    }

    fn set_apart(&self, one: Person, other: Person, until: Instant) {
        let mut others = self.apart.entry(one).or_insert_with(|| {
            self.people.fetch_add(1, Ordering::AcqRel);
            HashMap::default()
        });
        others.insert(other, until);
    }

    fn bring_together(&self, one: Person, other: Person) {
        if let Entry::Occupied(mut others) = self.apart.entry(one) {
            others.get_mut().remove(&other);
            if others.get().is_empty() {
                others.remove();
                self.people.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    fn show(&self, made: &Made) {
        let remembered = i64::try_from(made.by_age.len()).unwrap_or(i64::MAX);
        self.remembered.set(remembered);
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEOPLE: u64 = 6;
    const MAX: usize = 7;
    const REMEMBERED: u32 = 20;

    fn blocks(max: usize) -> (Blocks, IntGauge) {
        let gauge = IntGauge::new("blocks", "Blocks.").expect("a name");
        let second = Duration::from_secs(1);
        (Blocks::new(max, REMEMBERED * second, gauge.clone()), gauge)
    }

    fn session(id: u64) -> Person {
        Person(id)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Block(u64, u64),
        Forget(u64),
        Pass(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..PEOPLE, 1..PEOPLE).prop_map(|(by, to)| Step::Block(by, (by + to) % PEOPLE)),
            1 => (0..PEOPLE).prop_map(Step::Forget),
            2 => (1u32..8).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// A list of blocks, the oldest first, tells the same.
        #[test]
        fn who_is_apart_is_as_in_a_list(steps in prop::collection::vec(step(), 1..80)) {
            let (blocks, gauge) = blocks(MAX);
            let start = Instant::now();
            let (mut model, mut now): (Vec<(u64, u64, u32)>, u32) = (Vec::new(), 0);
            let at = |seconds: u32| start + Duration::from_secs(seconds.into());
            for step in steps {
                match step {
                    Step::Pass(seconds) => now += seconds,
                    Step::Forget(person) => {
                        blocks.forget_person(session(person));
                        model.retain(|&(by, of, _)| by != person && of != person);
                    }
                    Step::Block(by, of) => {
                        model.retain(|&(_, _, until)| now < until);
                        let done = blocks.block(session(by), session(of), at(now));
                        let before = model.len();
                        model.retain(|&(a, b, _)| (a, b) != (by, of));
                        prop_assert_eq!(done.is_new, model.len() == before);
                        model.push((by, of, now + REMEMBERED));
                        prop_assert_eq!(done.pushes_out, model.len() > MAX);
                        if model.len() > MAX {
                            model.remove(0);
                        }
                    }
                }
                for (a, b) in (0..PEOPLE).flat_map(|a| (0..PEOPLE).map(move |b| (a, b))) {
                    let apart = model.iter().any(|&(by, of, until)| ((by, of) == (a, b) || (by, of) == (b, a)) && now < until);
                    prop_assert_eq!(blocks.are_apart(session(a), session(b), at(now)), apart, "{} and {}", a, b);
                }
                prop_assert!(blocks.len() >= model.len() && blocks.len() <= MAX);
                prop_assert_eq!(gauge.get(), blocks.len() as i64);
            }
            (0..PEOPLE).for_each(|person| blocks.forget_person(session(person)));
            prop_assert!(blocks.is_empty() && blocks.apart.is_empty());
        }
    }

    #[test]
    fn the_first_of_too_many_is_a_stranger_again_and_only_to_who_blocked_them() {
        let (blocks, _) = blocks(1000);
        let now = Instant::now();
        let most = MAX_OF_ONE as u64;
        blocks.block(session(1), session(0), now);
        for other in 1..=most {
            // Who is blocked by many stays blocked by all.
            blocks.block(session(0), session(other), now);
            blocks.block(session(1000 + other), session(0), now);
        }
        assert!(!blocks.block(session(0), session(1), now).is_new, "again");
        assert!(blocks.block(session(0), session(999), now).pushes_out);

        assert!(
            !blocks.are_apart(session(0), session(2), now),
            "now the oldest"
        );
        for other in (3..=most).chain([1, 999]).chain(1001..=1000 + most) {
            assert!(blocks.are_apart(session(other), session(0), now), "{other}");
        }
    }

    #[test]
    fn users_of_the_app_are_no_sessions_and_keep_their_blocks() {
        let (blocks, _) = blocks(10);
        let now = Instant::now();
        let ann = |session| blocks.person(Some("ann"), SessionId(session));
        let bob = blocks.person(Some("bob"), SessionId(2));
        assert_ne!(ann(1), blocks.person(None, SessionId(1)));
        blocks.block(ann(1), bob, now);
        assert!(
            blocks.are_apart(bob, ann(7), now),
            "another session of the same user"
        );
    }
}
