//! Who has blocked whom. Two people who are apart are not matched, whichever of them has blocked the other.
//!
//! A person is a user of the app, where it has named one, else a session. What is kept is bounded: of each person, of all,
//! and in time. Nothing is written down: a restart forgets it. Nodes of a cluster tell each other of blocks between users of
//! the app; a session is known by its own node.
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

/// A block that is made again is news for the other nodes only if it lasts longer than the one that they know by this part
/// of its time: of 30 days one.
const NEWS: u32 = 30;

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
    /// Other nodes are to be told: who has blocked whom.
    pub is_news: Option<(u64, u64)>,
}

/// A block that nodes tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub by: u64,
    pub of: u64,
    /// For how long it is remembered still.
    pub left: Duration,
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
    /// Until when all nodes know of it, if both are users of the app. `None`: it is of a session.
    told: Option<Instant>,
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

    /// Whom a person has blocked, the first of them first.
    fn of(&self, by: Person, now: Instant) -> Vec<u64> {
        let numbers = self.by_person.get(&by).into_iter().flatten();
        let own = numbers.filter_map(|number| self.by_age.get(number));
        let own = own.filter(|block| now < block.until);
        own.map(|block| block.of.0).collect()
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

    /// Whom a person does not meet: all whom they have blocked, and as many of those who have blocked them. For each of the
    /// others it is enough that they do not meet this person.
    pub fn apart_of(&self, one: Person, now: Instant) -> Vec<u64> {
        if !self.apart.contains_key(&one) {
            return Vec::new();
        }
        let own = self.lock().of(one, now);
        let mut apart = own.clone();
        if let Some(others) = self.apart.get(&one) {
            let theirs = others.iter().filter(|(_, until)| now < **until);
            let theirs = theirs.map(|(other, _)| other.0);
            let theirs = theirs.filter(|other| !own.contains(other));
            apart.extend(theirs.take(MAX_OF_ONE));
        }
        apart
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

    /// From now on the two are apart. If they were already, it is remembered from now. `of_users`: both are users of the app.
    pub fn block(&self, by: Person, of: Person, of_users: bool, now: Instant) -> Blocked {
        let until = now + self.remembered_for;
        let mut is_news = false;
        let blocked = self.remember((by, of, until), now, |told| {
            is_news = of_users && told.is_none_or(|told| until >= told + self.news());
            if is_news { Some(until) } else { told }
        });
        let is_news = is_news.then_some((by.0, of.0));
        Blocked { is_news, ..blocked }
    }

    /// Another node has told of a block between users of the app. Whether another one was forgotten for it.
    pub fn hear(&self, told: &Told, now: Instant) -> bool {
        let (by, of) = (Person(told.by), Person(told.of));
        let until = now + told.left.min(self.remembered_for);
        let is_known = {
            let made = self.lock();
            let known = made.find(by, of).and_then(|known| made.by_age.get(&known));
            let known = known.and_then(|known| known.told);
            known.is_some_and(|known| until < known + self.news())
        };
        !is_known
            && self
                .remember((by, of, until), now, |_| Some(until))
                .pushes_out
    }

    fn news(&self) -> Duration {
        self.remembered_for / NEWS
    }

    /// All blocks that nodes tell each other, the oldest first.
    pub fn to_tell(&self, now: Instant) -> Vec<Told> {
        let made = self.lock();
        let told = made.by_age.values().filter(|block| block.told.is_some());
        let told = told.map(|block| Told {
            by: block.by.0,
            of: block.of.0,
            left: block.until.saturating_duration_since(now),
        });
        told.filter(|told| !told.left.is_zero()).collect()
    }

    /// `told`: until when all nodes know of it, from when they did.
    fn remember(
        &self,
        (by, of, until): (Person, Person, Instant),
        now: Instant,
        told: impl FnOnce(Option<Instant>) -> Option<Instant>,
    ) -> Blocked {
        let mut made = self.lock();
        while let Some(oldest) = made.oldest(|_, block| block.until <= now) {
            self.forget(&mut made, oldest);
        }
        let number = made.find(by, of);
        let before = number.and_then(|number| made.by_age.get(&number).copied());
        if let Some(number) = number {
            self.forget(&mut made, number);
        }
        let until = before.map_or(until, |before| before.until.max(until));
        let told = told(before.and_then(|before| before.told));
        let number = made.next;
        made.next += 1;
        let block = Block {
            by,
            of,
            until,
            told,
        };
        made.by_age.insert(number, block);
        let own = made.by_person.entry(by).or_default();
        own.push(number);
        let too_many = (own.len() > MAX_OF_ONE).then(|| own[0]);
        let back = made.find(of, by).and_then(|back| made.by_age.get(&back));
        let apart_until = back.map_or(until, |back| back.until.max(until));
        self.set_apart(by, of, apart_until);
        self.set_apart(of, by, apart_until);
        let too_many = too_many.or_else(|| made.oldest(|blocks, _| blocks > self.max));
        if let Some(oldest) = too_many {
            self.forget(&mut made, oldest);
        }
        self.show(&made);
        Blocked {
            is_new: before.is_none(),
            pushes_out: too_many.is_some(),
            is_news: None,
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

    /// Takes over what another node remembers of a person, as long as it would have there. `of_users`: see [`Self::block`].
    pub fn take_over(
        &self,
        person: Person,
        of_users: bool,
        blocks: &[Vec<(u64, Duration)>; 2],
        now: Instant,
    ) {
        let [own, theirs] = blocks;
        let own = own.iter().map(|&(of, left)| (person, Person(of), left));
        let theirs = theirs.iter().map(|&(by, left)| (Person(by), person, left));
        for (by, of, left) in own.chain(theirs).take(2 * MAX_OF_ONE) {
            // It counts from when it was made, which is some time ago.
            let ago = self.remembered_for.saturating_sub(left);
            self.block(by, of, of_users, now.checked_sub(ago).unwrap_or(now));
        }
    }

    /// Whether a person is apart from anybody.
    pub fn is_about(&self, person: Person) -> bool {
        self.apart.contains_key(&person)
    }

    /// How many blocks are remembered at the most.
    pub fn max(&self) -> usize {
        self.max
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
mod tests;
