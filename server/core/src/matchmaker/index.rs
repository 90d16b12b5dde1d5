//! Who waits on all nodes, in one order: what the matchmaker asks of an index, and is answered.

use std::time::{Duration, Instant};

use super::{PoolKey, PoolKind, Ticket, WhyNot};
use crate::{
    cluster::{NodeId, TicketId},
    room::{Member, Shared},
};

/// Who looks for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeker {
    pub ticket: TicketId,
    /// The same for all sessions of one person, on all nodes.
    pub person: u64,
    /// Sessions that they have left a short while ago.
    pub avoided: Vec<u64>,
    /// Persons whom they have blocked, or who have blocked them.
    pub apart: Vec<u64>,
    /// From narrow to wide.
    pub pools: Vec<(PoolKind, PoolKey)>,
}

impl Seeker {
    /// Why the two are not matched though they stand in one pool, as far as the index knows.
    pub fn why_not(&self, other: &Self) -> Option<WhyNot> {
        let either = |has: &dyn Fn(&Self, &Self) -> bool| has(self, other) || has(other, self);
        if self.person == other.person {
            return Some(WhyNot::SamePerson);
        }
        if either(&|one, other| one.apart.contains(&other.person)) {
            return Some(WhyNot::Blocked);
        }
        let avoids = either(&|one, other| one.avoided.contains(&other.ticket.session.0));
        avoids.then_some(WhyNot::FormerPartner)
    }
}

/// What has become of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// Nobody fits: it waits.
    Posted,
    /// The index did not answer.
    Unknown,
    /// This one was found in a pool of this kind, and waits in the index no more. Its node decides.
    Found {
        ticket: TicketId,
        node: NodeId,
        kind: PoolKind,
    },
}

/// Who waits, in order. It may forget, and never decides. Nothing here may block.
pub trait Index: Send + Sync {
    /// Looks for a partner, or posts the ticket. `waited`: since when it has, for its place in the order. `again`: it may
    /// stand there, with other pools. [`super::Matchmaker::found`] is told what has become of it, once or more often: the
    /// index sees to it that the ticket stays posted until it is withdrawn, or until somebody is found for it, and also
    /// looks by itself after it was down. That somebody was found is told by another task: this one may hold locks.
    fn seek(&self, seeker: Seeker, waited: Duration, again: bool);

    /// Waits no more.
    fn withdraw(&self, ticket: TicketId);

    /// Whether searches are answered. Else those who wait here are searched.
    fn is_up(&self) -> bool;
}

impl Ticket {
    /// Its name on all nodes.
    pub fn id(&self) -> TicketId {
        #[allow(clippy::cast_possible_truncation, reason = "unique within a session")]
        let search = self.claim.sequence as u32;
        TicketId {
            session: self.member.id,
            search,
        }
    }

    pub(super) fn seeker(&self, shared: &Shared, now: Instant) -> Seeker {
        let left = self.avoid.iter().filter(|avoid| now < avoid.until);
        let left = left.map(|avoid| avoid.partner.0);
        let (person, apart) = shared.persons_apart(&self.member, now);
        let kinds = self.pool_kinds();
        let pools = kinds.flat_map(|kind| self.wish.keys(kind).map(move |key| (kind, key)));
        Seeker {
            ticket: self.id(),
            person,
            avoided: left.collect(),
            apart,
            pools: pools.collect(),
        }
    }

    /// Whether its user may be in a room with this one, who is on another node. That node asks for its own.
    pub(super) fn may_meet(&self, there: &Member, shared: &Shared, now: Instant) -> bool {
        let left = self
            .avoid
            .iter()
            .any(|avoid| avoid.partner == there.id && now < avoid.until);
        !left && !there.is_same_person(&self.member) && !shared.are_apart(&self.member, there, now)
    }
}

#[cfg(test)]
mod tests {
    use voicematch_protocol::SessionId;

    use super::*;

    fn seeker(session: u64, person: u64, avoided: &[u64], apart: &[u64]) -> Seeker {
        let session = SessionId(session);
        Seeker {
            ticket: TicketId { session, search: 1 },
            person,
            avoided: avoided.to_vec(),
            apart: apart.to_vec(),
            pools: Vec::new(),
        }
    }

    #[test]
    fn why_two_in_one_pool_are_not_matched_is_the_same_from_either_side() {
        let one = seeker(1, 11, &[3], &[14]);
        for (other, why) in [
            (seeker(2, 12, &[], &[]), None),
            (seeker(2, 11, &[1], &[11]), Some(WhyNot::SamePerson)),
            (seeker(3, 13, &[], &[]), Some(WhyNot::FormerPartner)),
            (seeker(2, 12, &[1], &[]), Some(WhyNot::FormerPartner)),
            (seeker(4, 14, &[1], &[]), Some(WhyNot::Blocked)),
            (seeker(2, 12, &[], &[11]), Some(WhyNot::Blocked)),
            // Numbers of persons are none of sessions.
            (seeker(11, 3, &[11], &[1]), None),
        ] {
            assert_eq!(one.why_not(&other), why);
            assert_eq!(other.why_not(&one), why);
        }
    }
}
