//! A user comes back with a room ticket, and their former session is still in the room. The node of that session is asked
//! whether it lives. A node that is gone does not answer, even if nobody knows yet that it is gone.

use std::{sync::Arc, time::Duration};

use voicematch_protocol::SessionId;

use super::{
    super::{CannotJoin, NamedRoom},
    Act, Home, Joiner, Who,
    frames::Why,
};
use crate::cluster::NodeId;

/// How long a node has to answer, as for rooms of two.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// A user of another node, with the number of their joining.
pub(super) type Named = (NodeId, SessionId, u64);

impl Act<'_> {
    /// Whether somebody must wait until the node of their former session has answered. The home asks.
    pub(super) fn must_ask(&self, room: &NamedRoom, joiner: &Joiner) -> Result<bool, CannotJoin> {
        let Some(was) = joiner.was else {
            return Ok(false);
        };
        let node = {
            let roster = room.roster();
            let Some(at) = roster.position(was) else {
                return Ok(false);
            };
            let there = roster.members[at].there.as_ref();
            let there = there.ok_or(CannotJoin::UseResume)?;
            if there.is_kept() {
                return Ok(false);
            }
            there.node
        };
        // A node that is told something else than it knows says whom it has.
        self.say_digests(node, true, &[(room.id, !room.digest())]);
        Ok(true)
    }

    /// Lets those in whose former session is no longer in the room. `answer`: whom a node has.
    pub(super) fn end_asking(&mut self, name: &str, answer: Option<(NodeId, &[Named])>) {
        let Some(entry) = self.judge.names.get_mut(name) else {
            return;
        };
        let (Home::Here, Some(room)) = (entry.home, entry.room.clone()) else {
            return;
        };
        for joiner in std::mem::take(&mut entry.waiting) {
            match self.former_is_there(&room, &joiner, answer) {
                None => self.wait(name, joiner),
                Some(true) => self.refuse(&joiner, Why::UseResume),
                Some(false) => self.admit_or_refuse(&room, &joiner),
            }
        }
        self.close_if_empty(&room);
    }

    /// `None`: it is not known yet.
    fn former_is_there(
        &self,
        room: &Arc<NamedRoom>,
        joiner: &Joiner,
        answer: Option<(NodeId, &[Named])>,
    ) -> Option<bool> {
        let roster = room.roster();
        let Some(former) = joiner.was.and_then(|was| roster.position(was)) else {
            return Some(false);
        };
        let former = &roster.members[former];
        let Some(there) = &former.there else {
            return Some(true);
        };
        match answer {
            _ if there.is_kept() => Some(false),
            Some((node, named)) if node == there.node => {
                Some(named.contains(&(node, former.member.id, former.seat)))
            }
            _ => (self.now >= joiner.since + ASKED_FOR).then_some(false),
        }
    }

    /// Whether another session has the seat of this one, and its node does not know it yet.
    pub(super) fn is_replaced(&self, room: &NamedRoom, joiner: &Joiner) -> bool {
        let Some((_, session, _)) = joiner.there() else {
            return false;
        };
        let roster = room.roster();
        let mut members = roster.members.iter();
        members.any(|member| member.was == Some(session))
    }

    pub(super) fn admit_or_refuse(&mut self, room: &Arc<NamedRoom>, joiner: &Joiner) {
        if matches!(joiner.who, Who::Here { .. }) {
            self.judge.joining.remove(&joiner.seat);
        }
        if let Err(cannot) = self.admit(room, joiner) {
            self.refuse(joiner, Why::of(&cannot));
        }
    }
}
