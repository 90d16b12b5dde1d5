//! Who is matched with whom, if the two are on two nodes: the rules, without I/O. The matchmaker carries them out, and
//! `cluster_model` plays them against faults.
//!
//! The index names w of node W to s of node S, and has taken w out. s is now *offered*: nobody else gets them.
//!
//! 1. S proposes, until 0.75 s from now by the engine's clock.
//! 2. W accepts if the time has not passed, the match was not revoked, w waits and the two may still meet. It
//!    makes its half of the room at once. Else it refuses, and puts w back if they still wait.
//! 3. S makes the other half when it is accepted, if the two may still meet; on a refusal s looks again, with the old wait.
//! 4. Without an answer in 1 s S revokes, suspects W, and s looks again; W puts w back if it never heard of it. The time to
//!    propose is shorter than the time to wait, so that an answer in time is never revoked unless it is held up. W keeps
//!    what was revoked for 10 s.
//! 5. Accepted when the offer is gone: revoked at once.
//!
//! - Who is offered refuses as busy, so that offers never go round in a circle. They may cancel: the offer is revoked.
//! - A partner found for somebody who no longer waits is handed back to their node, which would notice only in 5 s.
//! - Both nodes ask again whether the two may meet: who blocks somebody may do so after the index was asked.

use std::{collections::BTreeMap, time::Duration};

use voicematch_protocol::RoomId;

use crate::cluster::{NodeId, TicketId};

const PROPOSE_WITHIN: Duration = Duration::from_millis(750);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const REMEMBER_REVOKED: Duration = Duration::from_secs(10);
/// Most revoked matches that are remembered: 6,500 a second.
const MAX_REVOKED: usize = 65_536;

/// A time of the node's own monotonic clock, since any fixed moment.
pub(super) type Now = Duration;

/// Why a proposal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Cancelled, matched, never there, or the two may not meet.
    Gone,
    /// They are offered to somebody else.
    Busy,
    Late,
}

impl Refusal {
    /// The metric label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Busy => "busy",
            Self::Late => "late",
        }
    }
}

/// Why a match that was accepted does not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotCompleted;

/// The rules that only the model leaves out, to see that it fails without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimRule {
    Until,
    Revoke,
    Tombstone,
}

/// Somebody on another node is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) mine: TicketId,
    pub(super) partner: TicketId,
    pub(super) to: NodeId,
    give_up_at: Now,
}

/// What the rules ask of their node. What compares and changes does so in one step.
pub(super) trait Host {
    /// A user of another node, as that node describes them.
    type Who;

    fn me(&self) -> NodeId;
    fn now(&self) -> Now;
    /// Microseconds of the engine's clock, if it has been asked.
    fn engine_time(&self) -> Option<u64>;
    fn is_dead(&self, node: NodeId) -> bool;
    /// A node did not answer an offer: nobody of it is to be found until it is heard.
    fn unanswered(&mut self, node: NodeId);
    fn holds(&self, _: ClaimRule) -> bool {
        true
    }

    /// Matches two who wait here. False: one of them does not wait, or they may not meet.
    fn pair(&mut self, mine: TicketId, theirs: TicketId) -> bool;
    /// Lets one who waits look in the index.
    fn look(&mut self, ticket: TicketId);
    /// The same for one who was taken out of the index for nothing.
    fn put_back(&mut self, ticket: TicketId);
    /// The same for one of another node.
    fn hand_back(&mut self, node: NodeId, ticket: TicketId);

    /// From waiting to offered.
    fn offer(&mut self, mine: TicketId) -> bool;
    /// From offered to waiting, and looks again.
    fn reopen(&mut self, mine: TicketId);
    /// `until`: microseconds of the engine's clock.
    fn propose(&mut self, room: RoomId, offer: &Offer, until: u64);
    /// From waiting to matched, if the two may meet; then the half of the room. The answer is sent before anybody can speak.
    fn accept(
        &mut self,
        node: NodeId,
        room: RoomId,
        who: &Self::Who,
        to: TicketId,
    ) -> Result<(), Refusal>;
    fn refuse(&mut self, node: NodeId, room: RoomId, to: TicketId, why: Refusal);
    /// From offered to matched, if the two may meet; then the half of the room.
    fn complete(
        &mut self,
        room: RoomId,
        offer: &Offer,
        who: &Self::Who,
    ) -> Result<(), NotCompleted>;
    /// An answer came too late.
    fn came_late(&mut self, room: RoomId);
    /// `ticket`: who was asked, and may still wait.
    fn revoke(&mut self, node: NodeId, room: RoomId, ticket: Option<TicketId>);
    /// Ends this node's half of a room with `node`, if there is one.
    fn end_half(&mut self, node: NodeId, room: RoomId);
}

/// One node's offers, and what was revoked.
#[derive(Default)]
pub(super) struct Claims {
    offers: BTreeMap<RoomId, Offer>,
    revoked: BTreeMap<RoomId, Now>,
}

impl Claims {
    /// The index has named `partner` of `node`, and has taken them out. `room`: a new one.
    pub(super) fn found(
        &mut self,
        host: &mut impl Host,
        mine: TicketId,
        (partner, node): (TicketId, NodeId),
        room: RoomId,
    ) {
        if node.process == host.me().process {
            if !host.pair(mine, partner) {
                host.put_back(partner);
                host.look(mine);
            }
            return;
        }
        let (false, Some(engine_time)) = (host.is_dead(node), host.engine_time()) else {
            return host.look(mine);
        };
        if !host.offer(mine) {
            return host.hand_back(node, partner);
        }
        let offer = Offer {
            mine,
            partner,
            to: node,
            give_up_at: host.now() + ANSWER_WITHIN,
        };
        self.offers.insert(room, offer);
        let within = u64::try_from(PROPOSE_WITHIN.as_micros()).unwrap_or(0);
        host.propose(room, &offer, engine_time.saturating_add(within));
    }

    /// W's part: `who` of another node wants to be matched with `to`.
    pub(super) fn proposed<H: Host>(
        &mut self,
        host: &mut H,
        node: NodeId,
        room: RoomId,
        who: &H::Who,
        (to, until): (TicketId, u64),
    ) {
        let accepted = self
            .judge(host, room, until)
            .and_then(|()| host.accept(node, room, who, to));
        if let Err(why) = accepted {
            host.refuse(node, room, to, why);
            host.put_back(to);
        }
    }

    fn judge(&self, host: &impl Host, room: RoomId, until: u64) -> Result<(), Refusal> {
        if host.holds(ClaimRule::Tombstone) && self.revoked.contains_key(&room) {
            return Err(Refusal::Gone);
        }
        let is_late = host.engine_time().is_none_or(|time| time > until);
        if host.holds(ClaimRule::Until) && is_late {
            return Err(Refusal::Late);
        }
        Ok(())
    }

    /// S's part: the other half of the room.
    pub(super) fn accepted<H: Host>(
        &mut self,
        host: &mut H,
        node: NodeId,
        room: RoomId,
        who: &H::Who,
    ) {
        let Some(offer) = self.take(node, room) else {
            host.came_late(room);
            return revoke(host, node, room, None);
        };
        if host.complete(room, &offer, who).is_err() {
            revoke(host, node, room, None);
            host.reopen(offer.mine);
        }
    }

    fn take(&mut self, node: NodeId, room: RoomId) -> Option<Offer> {
        let offer = self.offers.get(&room);
        offer.filter(|offer| offer.to == node)?;
        self.offers.remove(&room)
    }

    /// Also if the partner has left before the news of the match was here.
    pub(super) fn refused(&mut self, host: &mut impl Host, node: NodeId, room: RoomId) {
        if let Some(offer) = self.take(node, room) {
            host.reopen(offer.mine);
        }
    }

    /// W's part: s no longer waits for this match. If W has not heard of it, w is still waiting, and out of the index.
    pub(super) fn was_revoked(
        &mut self,
        host: &mut impl Host,
        node: NodeId,
        room: RoomId,
        ticket: Option<TicketId>,
    ) {
        if self.revoked.len() == MAX_REVOKED {
            self.revoked.pop_first();
        }
        self.revoked.insert(room, host.now() + REMEMBER_REVOKED);
        self.left(host, node, room);
        if let Some(ticket) = ticket {
            host.put_back(ticket);
        }
    }

    /// The partner has left. That may overtake the news of the match.
    pub(super) fn left(&mut self, host: &mut impl Host, node: NodeId, room: RoomId) {
        self.refused(host, node, room);
        host.end_half(node, room);
    }

    /// The user of an offered ticket no longer waits. Returns the room that the offer was for.
    pub(super) fn withdrawn(&mut self, host: &mut impl Host, mine: TicketId) -> Option<RoomId> {
        let mut offers = self.offers.iter();
        let (&room, _) = offers.find(|(_, offer)| offer.mine == mine)?;
        let offer = self.offers.remove(&room)?;
        revoke(host, offer.to, room, Some(offer.partner));
        Some(room)
    }

    /// The offers to a node that has died fail.
    pub(super) fn died(&mut self, host: &mut impl Host, node: NodeId) {
        let gone = self.offers.extract_if(.., |_, offer| offer.to == node);
        for (_, offer) in gone.collect::<Vec<_>>() {
            host.reopen(offer.mine);
        }
    }

    /// Nothing of the old life counts.
    pub(super) fn begin_life(&mut self, host: &mut impl Host) {
        self.revoked.clear();
        for (_, offer) in std::mem::take(&mut self.offers) {
            host.reopen(offer.mine);
        }
    }

    /// Gives up offers without an answer.
    pub(super) fn tick(&mut self, host: &mut impl Host) {
        let now = host.now();
        self.revoked.retain(|_, until| now < *until);
        let silent = self
            .offers
            .extract_if(.., |_, offer| now >= offer.give_up_at);
        for (room, offer) in silent.collect::<Vec<_>>() {
            host.unanswered(offer.to);
            revoke(host, offer.to, room, Some(offer.partner));
            host.reopen(offer.mine);
        }
    }

    /// When an offer is given up.
    pub(super) fn next_tick(&self) -> Option<Now> {
        self.offers.values().map(|offer| offer.give_up_at).min()
    }
}

fn revoke(host: &mut impl Host, node: NodeId, room: RoomId, ticket: Option<TicketId>) {
    if host.holds(ClaimRule::Revoke) {
        host.revoke(node, room, ticket);
    }
}
