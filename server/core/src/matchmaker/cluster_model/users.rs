//! Users who search, cancel, press next, leave, block and vanish.

use std::time::Duration;

use rand::{RngExt, rngs::SmallRng};
use voicematch_protocol::SessionId;

use super::super::claim_protocol::{NodeId, Pool, RoomId, Seeker, TicketId};
use super::{MS, Profile, SECOND, Time};

/// For how long a partner whom one has left by `next` is not met again.
const AVOID_FOR: Time = 30 * SECOND;
/// When the pools widen, shorter than the server's own times so that it happens often.
const WIDEN_AFTER: [Time; 2] = [2 * SECOND, 4 * SECOND];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub(super) room: RoomId,
    pub(super) peer: SessionId,
    /// None: the peer is on the same node.
    pub(super) peer_node: Option<NodeId>,
    /// Makes the offer; the other one does not.
    pub(super) initiator: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Gone,
    Idle,
    Waiting(TicketId),
    Room(View),
}

/// One at a time on a slot: who has gone comes back as another session.
pub(super) struct User {
    pub(super) session: SessionId,
    pub(super) person: u64,
    pub(super) node: usize,
    pub(super) place: Place,
    pub(super) since: Time,
    pub(super) searches: u32,
    interests: Vec<u64>,
    language: Option<u64>,
    /// One rare interest, and no wider pools: perhaps only one other user has it.
    is_rare: bool,
    avoid: Vec<(SessionId, Time)>,
    blocked: Vec<u64>,
    /// For how long the other half of the room has been missing, all in all and while both nodes were well.
    pub(super) alone: Time,
    pub(super) alone_well: Time,
    pub(super) was_whole: bool,
}

impl User {
    /// Slots 0 and 1 are one person, and so are 2 and 3.
    pub(super) fn new(slot: usize) -> Self {
        let person = if slot < 4 { slot / 2 } else { slot } as u64;
        Self {
            session: SessionId(0),
            person: (1 << 32) + person,
            node: 0,
            place: Place::Gone,
            since: 0,
            searches: 0,
            interests: Vec::new(),
            language: None,
            is_rare: false,
            avoid: Vec::new(),
            blocked: Vec::new(),
            alone: 0,
            alone_well: 0,
            was_whole: false,
        }
    }

    pub(super) fn connect(&mut self, session: u64, node: usize) {
        self.session = SessionId(session);
        self.node = node;
        self.place = Place::Idle;
        self.avoid.clear();
        self.blocked.clear();
    }

    pub(super) fn choose_wish(&mut self, rng: &mut SmallRng) {
        self.is_rare = rng.random_bool(0.5);
        if self.is_rare {
            self.language = None;
            self.interests = vec![rng.random_range(3..9)];
            return;
        }
        let words = rng.random_range(0..3);
        self.interests = (0..words).map(|_| rng.random_range(0..3)).collect();
        self.interests.sort_unstable();
        self.interests.dedup();
        self.language = rng.random_bool(0.6).then(|| rng.random_range(0..2));
    }

    /// The pools for this long a wait, narrow ones first.
    fn pools(&self, waited: Time) -> Vec<Pool> {
        let language = self.language.unwrap_or(9);
        let name = |interest: &u64| language * 10 + interest;
        let interests = self.interests.iter().map(|interest| Pool {
            level: 0,
            name: name(interest),
        });
        let mut pools: Vec<_> = interests.collect();
        if self.is_rare {
            return pools;
        }
        let narrow = !pools.is_empty();
        if let Some(name) = self.language
            && (!narrow || waited >= WIDEN_AFTER[0])
        {
            pools.push(Pool { level: 1, name });
        }
        if pools.is_empty() || waited >= WIDEN_AFTER[1] {
            pools.push(Pool { level: 3, name: 0 });
        }
        pools
    }

    pub(super) fn seeker(&self, now: Time) -> Seeker {
        let avoided = self.avoid.iter().filter(|(_, until)| now < *until);
        let sessions = avoided.map(|(session, _)| session.0);
        Seeker {
            session: self.session,
            person: self.person,
            avoided: sessions.chain(self.blocked.iter().copied()).collect(),
            pools: self.pools(now - self.since),
        }
    }

    /// After what time of a wait something changes: pools widen, or a former partner may be met again.
    pub(super) fn looks_after(&self, now: Time) -> Vec<Time> {
        let widens = WIDEN_AFTER.iter().copied().filter(|_| !self.is_rare);
        let avoided = self.avoid.iter().filter(|(_, until)| now < *until);
        widens
            .chain(avoided.map(|(_, until)| until - now))
            .collect()
    }

    /// Why they may not be matched with somebody, if so.
    pub(super) fn refuses(&self, peer: SessionId, person: u64, now: Time) -> Option<&'static str> {
        let left = self.avoid.iter();
        let mut left = left.filter(|(session, until)| *session == peer && now < *until);
        if peer == self.session || person == self.person {
            return Some("with themself");
        }
        if self.blocked.contains(&person) {
            return Some("with somebody they have blocked");
        }
        left.next().map(|_| "with the partner they have just left")
    }

    pub(super) fn avoid(&mut self, session: SessionId, now: Time) {
        self.avoid.retain(|(_, until)| now < *until);
        self.avoid.push((session, now + AVOID_FOR));
    }

    pub(super) fn block(&mut self, person: u64) {
        self.blocked.push(person);
    }
}

/// What a user does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    Connect,
    Find,
    Cancel,
    Next,
    Leave,
    Block,
    Vanish,
}

/// Patient users seldom give up a wait or a room: what goes wrong with those lasts.
pub(super) fn choose(place: Place, patient: bool, profile: &Profile, rng: &mut SmallRng) -> Act {
    let dice = rng.random_range(0..if patient { 1000 } else { 200 });
    let blocks = profile.blocks;
    match place {
        Place::Gone => Act::Connect,
        Place::Idle if dice < 10 => Act::Vanish,
        Place::Idle => Act::Find,
        Place::Waiting(_) if dice < blocks => Act::Block,
        Place::Waiting(_) => match dice - blocks {
            0..10 => Act::Cancel,
            10..15 if profile.vanish => Act::Vanish,
            _ => Act::Nothing,
        },
        Place::Room(_) => match dice {
            0..40 => Act::Next,
            40..60 => Act::Leave,
            60..65 => Act::Block,
            65..70 => Act::Vanish,
            _ => Act::Nothing,
        },
    }
}

pub(super) fn pause(rng: &mut SmallRng) -> Time {
    rng.random_range(200..3000) * MS
}

pub(super) fn micros(time: Time) -> Duration {
    Duration::from_micros(time)
}
