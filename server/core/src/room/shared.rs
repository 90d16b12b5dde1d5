//! What all rooms and the matching share, and who is kept apart.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{Member, ticket::RoomKeys};
use crate::{
    blocks::{self, Blocked, Blocks, Person, Told},
    events::{Data, Event, EventKind, Listener},
    metrics::Metrics,
};

/// What all rooms share.
pub struct Shared {
    pub metrics: Arc<Metrics>,
    /// They sign the room tickets of those who are in a room.
    pub keys: Arc<RoomKeys>,
    /// Who does not meet whom.
    pub blocks: Blocks,
    /// Who hears of rooms, if anybody does.
    pub listener: Option<Arc<dyn Listener>>,
}

impl Shared {
    /// At the most so many blocks are remembered. `person_key`: for a node of a cluster, see [`Blocks::keyed`].
    pub fn new(
        metrics: Arc<Metrics>,
        keys: Arc<RoomKeys>,
        max_blocks: usize,
        listener: Option<Arc<dyn Listener>>,
        person_key: Option<[u8; 32]>,
    ) -> Arc<Self> {
        let remembered = metrics.blocks_remembered.clone();
        let blocks = Blocks::new(max_blocks, blocks::REMEMBERED_FOR, remembered);
        Arc::new(Self {
            blocks: match person_key {
                Some(key) => blocks.keyed(key),
                None => blocks,
            },
            metrics,
            keys,
            listener,
        })
    }

    /// Tells of an event, if somebody wants to hear of it.
    #[inline]
    pub fn tell(&self, kind: EventKind, data: impl FnOnce() -> Data) {
        if let Some(listener) = &self.listener
            && listener.wants(kind)
        {
            let (at, data) = (SystemTime::now(), data());
            listener.hear(Event { kind, at, data });
        }
    }

    /// Whether one of the two has blocked the other. For a user whom the app has not named, and who has no part in any
    /// block, that is one look at the user.
    #[inline]
    pub fn are_apart(&self, one: &Member, other: &Member, now: Instant) -> bool {
        let may_be = match one.identity {
            None => one.outbox.marks().has_blocks.load(Ordering::Acquire),
            Some(_) => !self.blocks.is_empty(),
        };
        may_be
            && self
                .blocks
                .are_apart(self.person(one), self.person(other), now)
    }

    /// From now on the two are not to meet.
    pub fn block(&self, by: &Member, of: &Member, now: Instant) -> Blocked {
        let of_users = by.identity.is_some() && of.identity.is_some();
        let (person, other) = (self.person(by), self.person(of));
        let blocked = self.blocks.block(person, other, of_users, now);
        if blocked.pushes_out {
            self.metrics.limit_hit("max_blocks");
        }
        for member in [by, of] {
            member
                .outbox
                .marks()
                .has_blocks
                .store(true, Ordering::Release);
        }
        blocked
    }

    /// Another node has told of a block.
    pub fn hear_block(&self, told: &Told, now: Instant) {
        if self.blocks.hear(told, now) {
            self.metrics.limit_hit("max_blocks");
        }
    }

    /// The session ends, and so do its blocks, unless the app knows the user.
    pub fn forget_blocks(&self, member: &Member) {
        if member.identity.is_none() && member.outbox.marks().has_blocks.load(Ordering::Acquire) {
            self.blocks.forget_person(self.person(member));
        }
    }

    /// The user's person as a number, and those whom they do not meet.
    pub fn persons_apart(&self, member: &Member, now: Instant) -> (u64, Vec<u64>) {
        let person = self.person(member);
        (person.number(), self.blocks.apart_of(person, now))
    }

    /// What is remembered of the user's blocks: see [`Blocks::of`].
    pub(crate) fn blocks_of(&self, member: &Member, now: Instant) -> [Vec<(u64, Duration)>; 2] {
        match self.blocks.is_empty() {
            true => Default::default(),
            false => self.blocks.of(self.person(member), now),
        }
    }

    /// Takes over what another node remembers of the user's blocks. Those that are about them may be known here.
    pub(crate) fn take_over_blocks(
        &self,
        member: &Member,
        blocks: &[Vec<(u64, Duration)>; 2],
        now: Instant,
    ) {
        let (person, of_users) = (self.person(member), member.identity.is_some());
        self.blocks.take_over(person, of_users, blocks, now);
        if self.blocks.is_about(person) {
            member
                .outbox
                .marks()
                .has_blocks
                .store(true, Ordering::Release);
        }
    }

    fn person(&self, member: &Member) -> Person {
        self.blocks.person(member.user(), member.id)
    }

    /// Milliseconds since the start, and never 0.
    pub(super) fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.metrics.started);
        (since.as_secs() * 1000 + u64::from(since.subsec_millis())).max(1)
    }
}
