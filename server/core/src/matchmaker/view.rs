//! What an operator may see of a ticket: why is this user not matched? Nothing here is on the way of a match, and no part
//! of the map of pools is held for longer than it takes to count to [`MAX_COUNTED`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use voicematch_protocol::SessionId;

use super::{Matchmaker, Pool, PoolKey, PoolKind, Seeker, Ticket};

/// Tickets before one's own that are counted, in each pool.
const MAX_COUNTED: usize = 10_000;

/// Others in a pool that are named.
const MAX_OTHERS: usize = 20;

/// A ticket as it stands now.
#[derive(Debug, Clone)]
pub struct TicketView {
    pub language: Option<String>,
    pub region: Option<String>,
    pub interests: Vec<String>,
    pub waited: Duration,
    /// From narrow to wide.
    pub pools: Vec<PoolView>,
    /// The next kind of pool, and when it is joined.
    pub widens: Option<(PoolKind, Duration)>,
}

/// A pool that a ticket names so far.
#[derive(Debug, Clone)]
pub struct PoolView {
    pub kind: PoolKind,
    pub key: PoolKey,
    /// Tickets that stand in it.
    pub waiting: usize,
    /// From 1; `None`: it does not stand there, as its user does not answer, or more than `MAX_COUNTED` are before it.
    pub place: Option<usize>,
    /// Some others, the oldest first, and why they are not matched with it.
    pub others: Vec<(SessionId, Option<WhyNot>)>,
}

/// Why two who stand in one pool are not matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNot {
    SamePerson,
    /// One of them has blocked the other.
    Blocked,
    /// One of them left the other a short while ago.
    FormerPartner,
}

impl Matchmaker {
    /// The ticket of this number, if it stands in a pool.
    pub fn waiting_ticket(&self, number: u64) -> Option<Arc<Ticket>> {
        let of = |pool: &Pool| pool.get(&number).cloned();
        let anyone = self.pools.get(&PoolKey::Anyone).and_then(|pool| of(&pool));
        anyone.or_else(|| self.pools.iter().find_map(|pool| of(&pool)))
    }

    /// A ticket as it stands now.
    pub fn view(&self, ticket: &Ticket, now: Instant) -> TicketView {
        let widening = &self.config.get().widening;
        let widens = ticket.wish.wider(ticket.kind(), widening);
        let waited = now.saturating_duration_since(ticket.since);
        let kinds = ticket.pool_kinds();
        let keys = kinds.flat_map(|kind| ticket.wish.keys(kind).map(move |key| (kind, key)));
        TicketView {
            language: ticket.wish.language().map(str::to_owned),
            region: ticket.wish.region().map(str::to_owned),
            interests: ticket.wish.interests().map(str::to_owned).collect(),
            waited,
            pools: keys
                .map(|(kind, key)| self.view_pool(ticket, kind, &key, now))
                .collect(),
            widens: widens.map(|(kind, after)| (kind, after.saturating_sub(waited))),
        }
    }

    /// What the index knows of a ticket.
    pub fn seeker(&self, ticket: &Ticket, now: Instant) -> Seeker {
        ticket.seeker(&self.shared, now)
    }

    fn view_pool(&self, ticket: &Ticket, kind: PoolKind, key: &PoolKey, now: Instant) -> PoolView {
        let own = ticket.claim.sequence;
        let (mut waiting, mut place, mut others) = (0, None, Vec::new());
        if let Some(pool) = self.pools.get(key) {
            waiting = pool.len();
            let ahead = pool.range(..own).take(MAX_COUNTED + 1).count();
            place = (pool.contains_key(&own) && ahead <= MAX_COUNTED).then_some(ahead + 1);
            let named = pool.iter().filter(|(number, _)| **number != own);
            others = named
                .map(|(_, other)| other.clone())
                .take(MAX_OTHERS)
                .collect();
        }
        let others = others.iter();
        PoolView {
            kind,
            key: key.clone(),
            waiting,
            place,
            others: others
                .map(|other| (other.member.id, self.why_not(ticket, other, now)))
                .collect(),
        }
    }

    fn why_not(&self, one: &Ticket, other: &Ticket, now: Instant) -> Option<WhyNot> {
        if one.member.is_same_person(&other.member) {
            return Some(WhyNot::SamePerson);
        }
        if self.shared.are_apart(&one.member, &other.member, now) {
            return Some(WhyNot::Blocked);
        }
        let avoided = one.avoids(other, now) || other.avoids(one, now);
        avoided.then_some(WhyNot::FormerPartner)
    }
}
