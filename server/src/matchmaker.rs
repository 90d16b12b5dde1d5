//! Waiting pools and the pairing decision.
//!
//! A ticket is a user's wish to be matched. It stands in every pool that its criteria name so far, and
//! each pool is in order of arrival. A new ticket looks for a partner, posts itself when it finds none,
//! and looks once more: of two who post at the same time, the one who posts later sees the other. Whom it
//! finds it takes with [`Claim::pair`], the one place where a match is decided.
//!
//! Lock order: one pool, then claims, older first. Seats are taken with neither held.

mod claim;
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard};
}
mod wish;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use serde_json::value::RawValue;
use voicematch_protocol::SessionId;

use crate::{
    metrics::Metrics,
    room::{Member, Place, Room, Side, WaiterGone},
};
pub use claim::{Claim, Fate, Taken};
pub use wish::{MAX_INTERESTS, MAX_WORD_BYTES, PoolKey, Widening, Width, Wish};

/// How the matchmaker behaves.
#[derive(Debug, Clone, Copy)]
pub struct MatchmakerConfig {
    /// When criteria widen.
    pub widening: Widening,
    /// For how long a user who chose `next` is not matched with the partner they left.
    pub avoid_partner_for: Duration,
}

/// A partner whom a user does not want to meet again at once.
#[derive(Debug, Clone, Copy)]
pub struct Avoid {
    /// The partner.
    pub partner: SessionId,
    /// From then on they are a stranger again.
    pub until: Instant,
}

/// A user's wish to be matched.
pub struct Ticket {
    claim: Claim,
    member: Arc<Member>,
    wish: Wish,
    since: Instant,
    avoid: Vec<Avoid>,
    request_id: Option<Box<RawValue>>,
    /// The widest kind of pool that it stands in. Changed by its owner only.
    width: AtomicU8,
    /// The kind of pool whose gauge counts it.
    counted: AtomicU8,
}

impl Ticket {
    /// Whether the user still waits.
    pub fn is_waiting(&self) -> bool {
        self.claim.fate() == Fate::Waiting
    }

    /// The `id` of the request.
    pub fn request_id(&self) -> Option<&RawValue> {
        self.request_id.as_deref()
    }

    fn width(&self) -> Width {
        Width::ALL[usize::from(self.width.load(Ordering::Acquire))]
    }

    fn avoids(&self, other: &Self, now: Instant) -> bool {
        self.avoid
            .iter()
            .any(|avoid| avoid.partner == other.member.id && now < avoid.until)
    }

    fn side(&self, now: Instant) -> Side<'_> {
        Side {
            member: &self.member,
            waited: now.saturating_duration_since(self.since),
            request_id: self.request_id(),
        }
    }

    /// The kinds of pool that it stands in, from narrow to wide.
    fn widths(&self) -> impl Iterator<Item = Width> {
        let widest = self.width();
        Width::ALL.into_iter().filter(move |&width| width <= widest)
    }
}

/// People who wait for the same, in order of arrival.
type Pool = BTreeMap<u64, Arc<Ticket>>;

/// Parts of the map of pools, each with a lock of its own. When a part grows, whoever needs it waits: many
/// small parts make that short.
const POOL_SHARDS: usize = 256;

/// The pools. Users choose the keys, so that the hash is one that they cannot foresee; it is taken some ten
/// times for a match, so that it is a fast one.
pub struct Matchmaker {
    config: MatchmakerConfig,
    pools: DashMap<PoolKey, Pool, ahash::RandomState>,
    arrivals: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Matchmaker {
    /// No pools yet.
    pub fn new(config: MatchmakerConfig, metrics: Arc<Metrics>) -> Self {
        Self {
            config,
            pools: DashMap::with_hasher_and_shard_amount(ahash::RandomState::new(), POOL_SHARDS),
            arrivals: AtomicU64::new(0),
            metrics,
        }
    }

    /// How the matchmaker behaves.
    pub fn config(&self) -> &MatchmakerConfig {
        &self.config
    }

    /// How many pools there are; for tests and diagnosis.
    pub fn pool_count(&self) -> usize {
        self.pools.iter().filter(|pool| !pool.is_empty()).count()
    }

    /// Makes the user wait for a partner, or matches them at once. They must be idle; otherwise the error
    /// says where they are. Their ticket serves to cancel, and to [`Self::advance`] when time passes.
    pub fn find(
        &self,
        member: &Arc<Member>,
        wish: Wish,
        avoid: Vec<Avoid>,
        request_id: Option<Box<RawValue>>,
        now: Instant,
    ) -> Result<Arc<Ticket>, Place> {
        member.start_waiting()?;
        let width = wish.narrowest();
        let ticket = Arc::new(Ticket {
            claim: Claim::new(self.arrivals.fetch_add(1, Ordering::Relaxed)),
            member: member.clone(),
            wish,
            since: now,
            avoid,
            request_id,
            width: AtomicU8::new(width as u8),
            counted: AtomicU8::new(UNCOUNTED),
        });
        if !self.search(&ticket, false, now) {
            self.post(&ticket, ticket.widths());
            self.search_posted(&ticket, now);
        }
        Ok(ticket)
    }

    /// Takes back a wish; false if the match was faster. The user is idle then.
    pub fn cancel(&self, ticket: &Arc<Ticket>) -> bool {
        let cancelled = ticket.claim.cancel();
        if cancelled {
            self.withdraw(ticket);
            ticket.member.stop_waiting();
        }
        cancelled
    }

    /// Joins the wider pools that are due and looks again. Returns when to call next, if ever.
    pub fn advance(&self, ticket: &Arc<Ticket>, now: Instant) -> Option<Instant> {
        while let Some((wider, after)) = ticket.wish.wider(ticket.width(), &self.config.widening) {
            if now < ticket.since + after || !ticket.is_waiting() {
                break;
            }
            ticket.width.store(wider as u8, Ordering::Release);
            self.post(ticket, std::iter::once(wider));
        }
        self.search_posted(ticket, now);
        self.next_step(ticket, now)
    }

    /// When [`Self::advance`] has something to do, if ever.
    pub fn next_step(&self, ticket: &Ticket, now: Instant) -> Option<Instant> {
        if !ticket.is_waiting() {
            return None;
        }
        let wider = ticket.wish.wider(ticket.width(), &self.config.widening);
        let widen_at = wider.map(|(_, after)| ticket.since + after);
        let strangers_at = ticket.avoid.iter().map(|avoid| avoid.until);
        let stranger_at = strangers_at.filter(|&until| now < until).min();
        [widen_at, stranger_at].into_iter().flatten().min()
    }

    /// Looks for a partner for a ticket that stands in pools.
    fn search_posted(&self, ticket: &Arc<Ticket>, now: Instant) {
        if !self.search(ticket, true, now) && !ticket.is_waiting() {
            self.withdraw(ticket);
        }
    }

    /// Looks for a partner, from narrow to wide, and makes the match. False: there is nobody.
    fn search(&self, ticket: &Arc<Ticket>, posted: bool, now: Instant) -> bool {
        while let Some((found, width)) = self.oldest_for(ticket, now) {
            match Claim::pair(&ticket.claim, &found.claim) {
                Err(Taken::Mine) => {
                    // Whoever claimed the ticket may have withdrawn it before it had reached all its pools.
                    self.withdraw(ticket);
                    return true;
                }
                Err(Taken::Theirs) => self.remove(&found),
                Ok(()) => {
                    // Both are out of the pools, and of the count, before they are told.
                    self.withdraw(&found);
                    if posted {
                        self.withdraw(ticket);
                    }
                    match self.open_room(&found, ticket, width, now) {
                        Ok(()) => return true,
                        Err(WaiterGone) => self.reopen(ticket, posted),
                    }
                }
            }
        }
        false
    }

    /// The partner had gone: the survivor waits on, at its old place.
    fn reopen(&self, ticket: &Arc<Ticket>, posted: bool) {
        self.metrics.partners_gone.inc();
        ticket.claim.reopen();
        if posted {
            // Whoever met the claimed ticket has taken it out of their pools.
            self.post(ticket, ticket.widths());
        }
    }

    /// The one who has waited longest in the narrowest pools that have anybody for this ticket.
    fn oldest_for(&self, ticket: &Ticket, now: Instant) -> Option<(Arc<Ticket>, Width)> {
        let fits = |other: &Ticket| {
            other.member.id != ticket.member.id
                && !ticket.avoids(other, now)
                && !other.avoids(ticket, now)
        };
        let oldest_in = |key: PoolKey| {
            let pool = self.pools.get(&key)?;
            pool.values().find(|other| fits(other)).cloned()
        };
        ticket.widths().find_map(|width| {
            let found = ticket
                .wish
                .keys(width)
                .filter_map(oldest_in)
                .min_by_key(|found| found.claim.sequence);
            found.map(|found| (found, width))
        })
    }

    fn open_room(
        &self,
        waiter: &Ticket,
        newcomer: &Ticket,
        width: Width,
        now: Instant,
    ) -> Result<(), WaiterGone> {
        let shared = waiter.wish.shared_interests(&newcomer.wish);
        let (waiter, newcomer) = (waiter.side(now), newcomer.side(now));
        Room::open(&waiter, &newcomer, &shared, &self.metrics)?;
        self.metrics
            .matched(width.index(), [waiter.waited, newcomer.waited]);
        Ok(())
    }

    fn post(&self, ticket: &Arc<Ticket>, widths: impl Iterator<Item = Width>) {
        for key in widths.flat_map(|width| ticket.wish.keys(width)) {
            self.pools
                .entry(key)
                .or_default()
                .insert(ticket.claim.sequence, ticket.clone());
        }
        self.count(ticket, Some(ticket.width()));
    }

    /// Takes a ticket whose fate is decided out of its pools, and off the count of those who wait.
    fn withdraw(&self, ticket: &Ticket) {
        self.remove(ticket);
        self.count(ticket, None);
    }

    /// Takes a ticket out of its pools, unless it has been reopened. Pools that nobody needs go too.
    fn remove(&self, ticket: &Ticket) {
        for key in ticket.widths().flat_map(|width| ticket.wish.keys(width)) {
            let keep = key == PoolKey::Anyone;
            if let Entry::Occupied(mut pool) = self.pools.entry(key)
                && !ticket.is_waiting()
            {
                pool.get_mut().remove(&ticket.claim.sequence);
                if pool.get().is_empty() && !keep {
                    pool.remove();
                }
            }
        }
    }

    /// Counts the ticket as waiting in this kind of pool and in no other.
    fn count(&self, ticket: &Ticket, width: Option<Width>) {
        let now = width.map_or(UNCOUNTED, |width| width as u8);
        let before = ticket.counted.swap(now, Ordering::AcqRel);
        for (place, change) in [(before, -1), (now, 1)] {
            if let Some(gauge) = self.metrics.waiting.get(usize::from(place)) {
                gauge.add(change);
            }
        }
    }
}

/// Stands in [`Ticket::counted`] for "in no gauge".
const UNCOUNTED: u8 = u8::MAX;

#[cfg(test)]
mod claim_model;
#[cfg(test)]
mod tests;
