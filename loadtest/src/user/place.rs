//! Which server of several a user goes to: their own, and after a loss the next one, as behind a load balancer.

use std::time::Duration;

use super::User;
use crate::{
    measure::{
        nodes::{FaultKind, Torn},
        reach::{NodeId, Reach},
        sample::{Direction, ErrorKind, Sample},
    },
    user::tag::Tag,
};

/// The breaks that a stay remembers.
const MAX_BREAKS: usize = 8;

/// How many times a user went on to the next server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Place(u8);

impl Place {
    /// The server that `user` goes to, of `servers`. Users of one server go on to all others evenly.
    pub fn node(self, user: u32, servers: usize) -> NodeId {
        let count = u32::try_from(servers.clamp(1, NodeId::MAX)).unwrap_or(1);
        let home = user % count;
        let step = u32::from(self.0) % count;
        let node = match step.checked_sub(1) {
            None => home,
            Some(further) => {
                let others = count - 1;
                let turn = (further + user / count % others) % others;
                (home + 1 + turn) % count
            }
        };
        NodeId(u8::try_from(node).unwrap_or(0))
    }

    pub fn next(self, servers: usize) -> Self {
        let count = u8::try_from(servers.clamp(1, NodeId::MAX)).unwrap_or(1);
        Self((self.0 + 1) % count)
    }
}

impl User {
    /// The server that the user is at, or goes to.
    pub(super) fn node(&self) -> NodeId {
        let servers = self.context.servers.count();
        match servers {
            1 => NodeId::default(),
            _ => self.place.node(self.start.user, servers),
        }
    }

    /// Goes to the next server from now on, if there is another one.
    pub(super) fn go_on(&mut self) {
        self.place = self.place.next(self.context.servers.count());
    }

    /// Connected to the server.
    pub(super) fn arrive(&mut self) {
        if self.context.servers.count() > 1 && !self.here {
            self.here = true;
            let node = self.node();
            let before = self.last_node.replace(node);
            let changed = before.is_some_and(|before| before != node);
            self.tell(Sample::Arrived { node, changed });
        }
    }

    /// The server that the user was connected to last.
    pub(super) fn last_node(&self) -> NodeId {
        self.last_node.unwrap_or(self.node())
    }

    /// No longer connected. `broke`: neither side had closed.
    pub(super) fn depart(&mut self, broke: bool) {
        if std::mem::take(&mut self.here) {
            let node = self.node();
            self.tell(Sample::Departed { node, broke });
            if broke {
                self.note_break(node);
            }
        }
    }

    /// What was under way may be lost with the server.
    fn note_break(&mut self, node: NodeId) {
        let now = self.context.now();
        let named = self.named.iter_mut().flat_map(|named| named.stays());
        for stay in self.room.iter_mut().chain(named) {
            if stay.breaks.len() < MAX_BREAKS {
                stay.breaks.push((node, now));
            }
        }
    }

    /// Something went wrong. Of several servers it is told at which.
    pub(super) fn tell_fault(&self, kind: FaultKind, error: ErrorKind) {
        let node = self.node();
        self.tell_fault_at(node, kind, error);
    }

    pub(super) fn tell_fault_at(&self, node: NodeId, kind: FaultKind, error: ErrorKind) {
        if self.context.servers.count() > 1 {
            return self.tell(Sample::Fault { node, kind, error });
        }
        self.tell(match kind {
            FaultKind::Error | FaultKind::AfterLoss => Sample::Error { error },
            FaultKind::NotConnected => Sample::NotConnected { error },
            FaultKind::Dropped => Sample::Dropped { error },
            FaultKind::NotResumed => Sample::NotResumed,
            FaultKind::NotMoved => Sample::NotMoved,
        });
    }

    /// The user has lost the partner in `room`, with their own server, `node`, or with that of the partner.
    pub(super) fn tear(&mut self, node: Option<NodeId>, room: u64, at: Duration) {
        if self.context.servers.count() > 1 && self.torn.is_none() {
            let torn = Torn {
                node,
                room,
                at,
                matched: None,
            };
            self.torn = Some(Box::new(torn));
            self.tell(Sample::Torn(torn));
        }
    }

    /// The user has a partner again.
    pub(super) fn together_again(&mut self, now: Duration) {
        if let Some(torn) = self.torn.take() {
            let matched = Some(now);
            self.tell(Sample::Torn(Torn { matched, ..*torn }));
        }
    }

    /// How far a message has come to the user. `None`: there is one server.
    pub(super) fn reach_of(&self, tag: Tag) -> Option<Reach> {
        let several = self.context.servers.count() > 1;
        let partner = tag.route.direction != Direction::ToServer;
        (several && partner).then(|| Reach::of(tag.node, self.node()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_one_server_go_on_to_all_others_evenly_and_come_round() {
        for servers in 1..=5 {
            let mut seconds = std::collections::BTreeMap::new();
            for user in 0..120 {
                let mut place = Place::default();
                let mut seen = Vec::new();
                for _ in 0..servers {
                    seen.push(place.node(user, servers).index());
                    place = place.next(servers);
                }
                assert_eq!(place, Place::default());
                assert_eq!(seen[0], user as usize % servers);
                *seconds.entry((seen[0], seen.get(1).copied())).or_insert(0) += 1;
                seen.sort_unstable();
                assert_eq!(seen, (0..servers).collect::<Vec<_>>(), "user {user}");
            }
            assert_eq!(seconds.len(), servers * (servers - 1).max(1), "{seconds:?}");
            let (least, most) = (seconds.values().min(), seconds.values().max());
            assert!(most <= least.map(|least| least + 1).as_ref(), "{seconds:?}");
        }
    }
}
