//! Who waits on all nodes, in one order: what the matchmaker asks of an index, and is answered.

use std::time::{Duration, Instant};

use super::{PoolKey, PoolKind, Ticket};
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
    /// Sessions and persons that they may not meet.
    pub avoided: Vec<u64>,
    /// From narrow to wide.
    pub pools: Vec<(PoolKind, PoolKey)>,
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
            avoided: left.chain(apart).collect(),
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
