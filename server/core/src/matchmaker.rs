//! Waiting pools and the pairing decision.
//!
//! A ticket is a user's wish to be matched. It stands in every pool that its criteria name so far; each
//! pool is in order of arrival. A new ticket looks for a partner, posts itself if there is none, and looks
//! once more: if two tickets are posted at the same time, the later one sees the earlier one.
//! [`Claim::pair`] is the one place where a match is decided.
//!
//! Lock order: one pool, then claims, older first. No pool and no claim is held while a seat is taken.

mod across;
mod claim;
mod claims;
mod halves;
mod index;
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard};
}
mod view;
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
use voicematch_protocol::{LeaveReason, SessionId};

use crate::{
    live::Live,
    metrics::Reach,
    room::{Absent, Member, Place, Room, Shared, Side},
    trace::Trace,
};
use across::Across;
pub(crate) use across::Arrived;
pub use across::{Cluster, Seat, Shown};
pub use claim::{Claim, ClaimState, Unclaimed, Unpaired};
pub use index::{Find, Index, Seeker};
pub use view::{PoolView, TicketView, WhyNot};
pub use wish::{MAX_INTERESTS, MAX_WORD_BYTES, PoolKey, PoolKind, Widening, Wish};

/// Settings of the matchmaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchmakerConfig {
    pub widening: Widening,
    /// For how long a user who chose `next` is not matched with the partner they left.
    pub avoid_partner_for: Duration,
    /// For how long the seat of a resumable user is kept whose node has died or has sent them away.
    pub keep_seat_for: Duration,
}

/// A former partner that a user does not want to meet again for some time.
#[derive(Debug, Clone, Copy)]
pub struct Avoid {
    pub partner: SessionId,
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
    /// The room that the last partner had left before.
    former: Option<Arc<Room>>,
    /// The widest kind of pool in which it stands. Only its owner changes it.
    kind: AtomicU8,
    /// The kind of pool whose gauge counts it.
    counted: AtomicU8,
}

impl Ticket {
    /// Whether it is still without a partner: it waits, or somebody on another node is asked.
    fn is_open(&self) -> bool {
        matches!(
            self.claim.state(),
            ClaimState::Waiting | ClaimState::Offered
        )
    }

    /// Whether it can be matched now.
    pub fn is_waiting(&self) -> bool {
        self.claim.state() == ClaimState::Waiting
    }

    /// What its user looks for.
    pub(crate) fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Since when its user waits.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it is out of the pools while its user does not answer.
    pub(crate) fn is_parked(&self) -> bool {
        self.claim.state() == ClaimState::Parked
    }

    /// The `id` of the request.
    pub fn request_id(&self) -> Option<&RawValue> {
        self.request_id.as_deref()
    }

    /// The room that the last partner had left before the user began to wait.
    pub fn former(&self) -> Option<&Arc<Room>> {
        self.former.as_ref()
    }

    fn kind(&self) -> PoolKind {
        PoolKind::ALL[usize::from(self.kind.load(Ordering::Acquire))]
    }

    fn avoids(&self, other: &Self, now: Instant) -> bool {
        self.avoid
            .iter()
            .any(|avoid| avoid.partner == other.member.id && now < avoid.until)
    }

    fn side(&self, now: Instant) -> Side<'_> {
        Side {
            member: &self.member,
            ticket: self.claim.sequence,
            waited: now.saturating_duration_since(self.since),
            request_id: self.request_id(),
        }
    }

    /// The kinds of pool in which it stands, from narrow to wide.
    fn pool_kinds(&self) -> impl Iterator<Item = PoolKind> {
        let widest = self.kind();
        PoolKind::ALL
            .into_iter()
            .filter(move |&kind| kind <= widest)
    }
}

/// Tickets that wait for the same thing, by order of arrival.
type Pool = BTreeMap<u64, Arc<Ticket>>;

/// Shards of the map of pools, each with its own lock. A shard that grows holds up its users: many small
/// shards keep that short.
const POOL_SHARDS: usize = 256;

/// The pools. Users choose the keys, so the hash must be one that they cannot predict; a match takes about
/// ten of them, so it must be fast.
pub struct Matchmaker {
    config: Live<MatchmakerConfig>,
    pools: DashMap<PoolKey, Pool, ahash::RandomState>,
    arrivals: AtomicU64,
    shared: Arc<Shared>,
    trace: Option<Arc<dyn Trace>>,
    /// `None`: there are no other nodes.
    across: Option<Arc<Across>>,
}

/// What has become of a user who has blocked another, beside the block.
pub enum Parted {
    /// They were in a room together, and no longer are.
    Left(Arc<Room>),
    /// They wait with another ticket: a match was being made, and was undone.
    Again(Arc<Ticket>),
    /// Nothing.
    Unmoved,
}

impl Matchmaker {
    /// Nobody waits.
    pub fn new(config: MatchmakerConfig, shared: Arc<Shared>) -> Self {
        Self {
            config: Live::new(config),
            pools: DashMap::with_hasher_and_shard_amount(ahash::RandomState::new(), POOL_SHARDS),
            arrivals: AtomicU64::new(0),
            shared,
            trace: None,
            across: None,
        }
    }

    /// The same, which tells `trace` of its matches.
    pub fn traced(self, trace: Option<Arc<dyn Trace>>) -> Self {
        Self { trace, ..self }
    }

    /// Its settings, which can be replaced.
    pub fn config(&self) -> &Live<MatchmakerConfig> {
        &self.config
    }

    /// The number of pools that hold a ticket; for tests and diagnosis.
    pub fn pool_count(&self) -> usize {
        self.pools.iter().filter(|pool| !pool.is_empty()).count()
    }

    /// Matches an idle user at once, or lets them wait. A user who is not idle gets their place as the error.
    /// The ticket serves to cancel the wait, and to [`Self::advance`] it as time passes.
    pub fn find(
        &self,
        member: &Arc<Member>,
        wish: Wish,
        avoid: Vec<Avoid>,
        request_id: Option<Box<RawValue>>,
        now: Instant,
    ) -> Result<Arc<Ticket>, Place> {
        let ticket = self.ticket(member, wish, avoid, request_id, now)?;
        self.begin(&ticket, now);
        Ok(ticket)
    }

    fn begin(&self, ticket: &Arc<Ticket>, now: Instant) {
        if self.across.is_some() {
            self.post(ticket, ticket.pool_kinds());
            return self.look(ticket, now);
        }
        if !self.search(ticket, false, now) {
            self.post(ticket, ticket.pool_kinds());
            self.search_posted(ticket, now);
        }
    }

    /// The same for a user who is away: the ticket is parked, and keeps its place in the order. They wait since `since`.
    pub fn find_later(
        &self,
        member: &Arc<Member>,
        wish: Wish,
        avoid: Vec<Avoid>,
        request_id: Option<Box<RawValue>>,
        since: Instant,
    ) -> Result<Arc<Ticket>, Place> {
        let ticket = self.ticket(member, wish, avoid, request_id, since)?;
        ticket.claim.park();
        Ok(ticket)
    }

    fn ticket(
        &self,
        member: &Arc<Member>,
        wish: Wish,
        avoid: Vec<Avoid>,
        request_id: Option<Box<RawValue>>,
        now: Instant,
    ) -> Result<Arc<Ticket>, Place> {
        let claim = self.next_claim();
        let former = member.start_waiting(claim.sequence)?;
        let kind = wish.narrowest();
        Ok(Arc::new(Ticket {
            claim,
            member: member.clone(),
            wish,
            since: now,
            avoid,
            request_id,
            former,
            kind: AtomicU8::new(kind as u8),
            counted: AtomicU8::new(UNCOUNTED),
        }))
    }

    fn next_claim(&self) -> Claim {
        Claim::new(self.arrivals.fetch_add(1, Ordering::Relaxed))
    }

    /// A user blocks another: from now on the two are not matched, and if they are in a room together they leave it.
    /// `ticket`: the last one of the user who blocks, with which nobody else does anything meanwhile.
    pub fn part(
        &self,
        member: &Arc<Member>,
        other: &Member,
        ticket: Option<&Ticket>,
        now: Instant,
    ) -> (bool, Parted) {
        let blocked = self.shared.block(member, other, now);
        if let (Some(across), Some((by, of))) = (&self.across, blocked.is_news) {
            across.tell_block(by, of);
        }
        let is_new = blocked.is_new;
        // A match that was decided before this moment, and is being made, may be with the other one. Who makes it
        // finds that this user has gone, and goes on waiting.
        let claimed = ticket.filter(|ticket| ticket.claim.state() == ClaimState::Claimed);
        if let Some(undone) = claimed
            && member.stop_waiting(undone.claim.sequence)
            && let Some(again) = self.find_again(undone, now)
        {
            return (is_new, Parted::Again(again));
        }
        self.look_anew(ticket, now);
        let room = member.room();
        let room = room.filter(|room| self.shared.are_apart(member, room.peer_of(member.id), now));
        let left = room.and_then(|_| member.leave_room(LeaveReason::Left));
        (is_new, left.map_or(Parted::Unmoved, Parted::Left))
    }

    /// Whom a user may meet has changed: the index is to know.
    fn look_anew(&self, ticket: Option<&Ticket>, now: Instant) {
        let across = self.across.as_ref();
        let posted = across
            .zip(ticket)
            .and_then(|(across, ticket)| across.ticket(ticket.id()));
        if let Some(ticket) = posted {
            self.look(&ticket, now);
        }
    }

    /// Lets the user of a ticket whose match was undone wait again, as long as before, behind those who wait.
    fn find_again(&self, undone: &Ticket, now: Instant) -> Option<Arc<Ticket>> {
        let claim = self.next_claim();
        undone.member.start_waiting(claim.sequence).ok()?;
        let ticket = Arc::new(Ticket {
            claim,
            member: undone.member.clone(),
            wish: undone.wish.clone(),
            since: undone.since,
            avoid: undone.avoid.clone(),
            request_id: undone.request_id.clone(),
            former: undone.former.clone(),
            kind: AtomicU8::new(undone.kind() as u8),
            counted: AtomicU8::new(UNCOUNTED),
        });
        self.begin(&ticket, now);
        Some(ticket)
    }

    /// Cancels a ticket and makes its user idle. False: the ticket was matched first.
    pub fn cancel(&self, ticket: &Arc<Ticket>) -> bool {
        let was = ticket.claim.cancel();
        if was.is_some() {
            self.withdraw(ticket);
            ticket.member.stop_waiting(ticket.claim.sequence);
        }
        if was == Some(ClaimState::Offered) {
            self.offer_withdrawn(ticket);
        }
        was.is_some()
    }

    /// Takes a ticket out of the pools while its user does not answer. It keeps its place in the order. False: it was
    /// matched or cancelled first.
    pub fn park(&self, ticket: &Ticket) -> bool {
        let was = ticket.claim.park();
        if was.is_some() {
            self.withdraw(ticket);
        }
        if was == Some(ClaimState::Offered) {
            self.offer_withdrawn(ticket);
        }
        was.is_some()
    }

    /// Puts a parked ticket back at its place, and looks for a partner. Returns the time of the next
    /// [`Self::advance`], if there is one.
    pub fn unpark(&self, ticket: &Arc<Ticket>, now: Instant) -> Option<Instant> {
        if !ticket.claim.unpark() {
            return None;
        }
        self.post(ticket, ticket.pool_kinds());
        self.advance(ticket, now)
    }

    /// Joins the wider pools that are due and looks again. Returns the time of the next call, if there is one.
    pub fn advance(&self, ticket: &Arc<Ticket>, now: Instant) -> Option<Instant> {
        while let Some((wider, after)) = ticket
            .wish
            .wider(ticket.kind(), &self.config.get().widening)
        {
            if now < ticket.since + after || !ticket.is_open() {
                break;
            }
            ticket.kind.store(wider as u8, Ordering::Release);
            self.post(ticket, std::iter::once(wider));
        }
        self.look(ticket, now);
        self.next_step(ticket, now)
    }

    /// The next time at which [`Self::advance`] has something to do, if there is one.
    pub fn next_step(&self, ticket: &Ticket, now: Instant) -> Option<Instant> {
        if !ticket.is_open() {
            return None;
        }
        let wider = ticket
            .wish
            .wider(ticket.kind(), &self.config.get().widening);
        let widen_at = wider.map(|(_, after)| ticket.since + after);
        let strangers_at = ticket.avoid.iter().map(|avoid| avoid.until);
        let stranger_at = strangers_at.filter(|&until| now < until).min();
        [widen_at, stranger_at].into_iter().flatten().min()
    }

    /// Looks for a partner of a ticket that stands in pools.
    fn search_posted(&self, ticket: &Arc<Ticket>, now: Instant) {
        let drains = self.across.as_ref().is_some_and(|across| across.drains());
        if (drains || !self.search(ticket, true, now)) && !ticket.is_open() {
            self.withdraw(ticket);
        }
    }

    /// Looks for a partner, from narrow to wide pools, and makes the match. False: there is no partner.
    fn search(&self, ticket: &Arc<Ticket>, posted: bool, now: Instant) -> bool {
        while let Some((found, kind)) = self.oldest_for(ticket, now) {
            let are_apart = || self.shared.are_apart(&ticket.member, &found.member, now);
            match Claim::pair(&ticket.claim, &found.claim, are_apart) {
                Err(Unpaired::Mine) => {
                    // The claim may have withdrawn the ticket before it had reached all its pools.
                    if !ticket.is_open() {
                        self.withdraw(ticket);
                    }
                    return true;
                }
                Err(Unpaired::Theirs) => self.remove(&found),
                // The block came after the look; the next one sees it.
                Err(Unpaired::Apart) => {}
                Ok(()) => {
                    // Both leave the pools and the count before their users learn of the match.
                    self.withdraw(&found);
                    if posted {
                        self.withdraw(ticket);
                    }
                    match self.open_room(&found, ticket, kind, now) {
                        Ok(()) => return true,
                        Err(Absent::Waiter) => self.reopen(ticket, posted),
                        // Another task has led the user away, or ends the session: the ticket is over.
                        Err(Absent::Newcomer) => {
                            self.reopen(&found, true);
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    /// The partner has gone: the ticket goes on waiting, at its old place in the order.
    fn reopen(&self, ticket: &Arc<Ticket>, posted: bool) {
        self.shared.metrics.partners_gone.inc();
        ticket.claim.reopen();
        if posted {
            // Searches that met the claimed ticket have taken it out of their pools.
            self.post(ticket, ticket.pool_kinds());
        }
        // Who makes this match may be another task than the user's own, which finds a claimed ticket when they go.
        if self.across.is_some() && !ticket.member.waits_with(ticket.claim.sequence) {
            self.cancel(ticket);
        }
    }

    /// The oldest fitting ticket in the narrowest pools that have one.
    fn oldest_for(&self, ticket: &Ticket, now: Instant) -> Option<(Arc<Ticket>, PoolKind)> {
        let fits = |other: &Ticket| {
            !other.member.is_same_person(&ticket.member)
                && !ticket.avoids(other, now)
                && !other.avoids(ticket, now)
                && !self.shared.are_apart(&ticket.member, &other.member, now)
        };
        let oldest_in = |key: PoolKey| {
            let pool = self.pools.get(&key)?;
            pool.values().find(|other| fits(other)).cloned()
        };
        ticket.pool_kinds().find_map(|kind| {
            let found = ticket
                .wish
                .keys(kind)
                .filter_map(oldest_in)
                .min_by_key(|found| found.claim.sequence);
            found.map(|found| (found, kind))
        })
    }

    fn open_room(
        &self,
        waiter: &Ticket,
        newcomer: &Ticket,
        kind: PoolKind,
        now: Instant,
    ) -> Result<(), Absent> {
        let shared = waiter.wish.shared_interests(&newcomer.wish);
        let (waiter, newcomer) = (waiter.side(now), newcomer.side(now));
        let matched = |room: &Room| {
            let reach = match &self.across {
                Some(across) if !across.index().is_up() => Reach::Fallback,
                _ => Reach::Local,
            };
            let waited = [waiter.waited, newcomer.waited];
            self.shared.metrics.matched(kind.index(), reach, waited);
            if let Some(trace) = &self.trace {
                let users = [&waiter, &newcomer].map(|side| (side.member.id, side.waited));
                trace.matched(room.id, PoolKind::LABELS[kind.index()], users);
            }
        };
        Room::open(&waiter, &newcomer, &shared, &self.shared, now, matched)?;
        Ok(())
    }

    fn post(&self, ticket: &Arc<Ticket>, pool_kinds: impl Iterator<Item = PoolKind>) {
        for key in pool_kinds.flat_map(|kind| ticket.wish.keys(kind)) {
            self.pools
                .entry(key)
                .or_default()
                .insert(ticket.claim.sequence, ticket.clone());
        }
        self.count(ticket, Some(ticket.kind()));
        if let Some(across) = &self.across {
            across.posted(ticket);
        }
    }

    /// Takes a claimed or cancelled ticket out of its pools and out of the count of waiting users.
    fn withdraw(&self, ticket: &Ticket) {
        self.remove(ticket);
        self.count(ticket, None);
        if let Some(across) = &self.across {
            across.withdrawn(ticket);
        }
    }

    /// Takes a ticket out of its pools, unless it has been reopened. Empty pools go too.
    fn remove(&self, ticket: &Ticket) {
        for key in ticket.pool_kinds().flat_map(|kind| ticket.wish.keys(kind)) {
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

    /// Counts the ticket in the gauge of this kind of pool and in no other.
    fn count(&self, ticket: &Ticket, kind: Option<PoolKind>) {
        let now = kind.map_or(UNCOUNTED, |kind| kind as u8);
        let before = ticket.counted.swap(now, Ordering::AcqRel);
        for (place, change) in [(before, -1), (now, 1)] {
            if let Some(gauge) = self.shared.metrics.waiting.get(usize::from(place)) {
                gauge.add(change);
            }
        }
    }
}

/// The value of [`Ticket::counted`] for "in no gauge".
const UNCOUNTED: u8 = u8::MAX;

#[cfg(test)]
mod claim_model;
#[cfg(test)]
mod claim_protocol;
#[cfg(test)]
mod cluster_model;
#[cfg(test)]
mod tests;
