//! The home lets somebody in.

use std::sync::Arc;

use voicematch_protocol::{LeaveReason, RoomId, SessionId};

use super::{
    super::{
        CannotJoin, EventKind, MAX_MEMBERS, NamedRoom,
        roster::{Numbered, Roster},
    },
    Act, Joiner, LOST, Who,
    frames::Why,
    kept::NoWay,
};
use crate::{
    cluster::{Halves, NodeId, RemoteLink},
    memory::Share,
    outbox::Outbox,
    room::{Mate, Member},
};

/// Members of named rooms have no halves.
struct NoHalves;

impl Halves for NoHalves {
    fn left(&self, _: RoomId, _: LeaveReason) {}
}

impl Act<'_> {
    /// Lets somebody in, or lets them wait until it is known whether the seat that they want back is free.
    pub(super) fn take_in(&mut self, room: &Arc<NamedRoom>, joiner: Joiner) {
        if self.is_replaced(room, &joiner) {
            return self.refuse(&joiner, Why::Unavailable);
        }
        match self.must_ask(room, &joiner) {
            Ok(false) => self.admit_or_refuse(room, &joiner),
            Ok(true) => {
                let waits =
                    |other: &Joiner| other.there().is_some() && other.there() == joiner.there();
                let entry = self.judge.names.get(&room.name);
                if !entry.is_some_and(|entry| entry.waiting.iter().any(waits)) {
                    self.wait(&room.name, joiner);
                }
            }
            Err(cannot) => self.refuse(&joiner, Why::of(&cannot)),
        }
    }

    /// Lets somebody into a room whose home is here, and tells all of it. The seat of a session that is gone is theirs, see
    /// [`Self::must_ask`].
    pub(super) fn admit(&self, room: &Arc<NamedRoom>, joiner: &Joiner) -> Result<(), CannotJoin> {
        let mut roster = room.roster_mut();
        let mut left = Vec::new();
        if let Who::There { node, session, .. } = &joiner.who
            && let Some(at) = roster.position(*session)
        {
            if !forget_earlier(&mut roster, room, at, (*node, joiner.seat))? {
                drop(roster);
                self.say_roster(room, Some(*node), &[]);
                return Ok(());
            }
            left.push((*session, LeaveReason::Left));
        }
        let former = joiner.was.and_then(|was| roster.position(was));
        if former.is_none() && roster.members.len() >= MAX_MEMBERS {
            return Err(CannotJoin::Full);
        }
        let Some(newcomer) = self.newcomer(room, joiner) else {
            return Ok(());
        };
        // Of two rooms of one name the numbers of one are not those of the other.
        let is_of_here = |before: &Option<RoomId>| before.is_none_or(|before| before == room.id);
        let n = joiner.n.filter(|_| match &joiner.who {
            Who::Here { .. } => true,
            Who::There { room, .. } => is_of_here(room),
        });
        let former = former.map(|at| roster.members.remove(at));
        if let Some(former) = former.as_ref().filter(|former| Some(former.n) != n) {
            roster.tell_left(room, former.member.id, LOST);
        }
        roster.admit(room, newcomer, n);
        if let Who::Here { member, id, .. } = &joiner.who {
            self.rooms.shared.metrics.named_members.inc();
            roster.tell_joined(room, member, &self.rooms.shared.keys, id.as_deref());
            self.rooms.tell(EventKind::RoomJoined, room, member, None);
        }
        roster.find_ways(|node| self.spread.cluster.bus.link(node));
        drop(roster);
        if let Some(former) = former.filter(|former| former.there.is_none()) {
            self.replace(room, &former.member);
        }
        self.say_roster(room, None, &left);
        Ok(())
    }

    /// `None`: they have gone.
    fn newcomer(&self, room: &Arc<NamedRoom>, joiner: &Joiner) -> Option<Numbered> {
        let (member, there) = match &joiner.who {
            Who::Here { member, .. } => {
                if !member.take_promised_seat(room, joiner.seat) {
                    return None;
                }
                (member.clone(), None)
            }
            Who::There {
                node,
                session,
                mate,
                ..
            } => {
                let there = self.there(*node, false)?;
                let member = self.member_there(*node, room.id, *session, mate);
                (member, Some(there))
            }
        };
        Some(Numbered {
            n: 0,
            member,
            was: joiner.was,
            seat: joiner.seat,
            there,
        })
    }

    /// The member that stands for a user of another node.
    pub(super) fn member_there(
        &self,
        node: NodeId,
        room: RoomId,
        session: SessionId,
        mate: &Mate,
    ) -> Arc<Member> {
        let link = self.spread.cluster.bus.link(node);
        let link = Arc::new(RemoteLink {
            link: link.unwrap_or_else(|| Arc::new(NoWay)),
            halves: Arc::new(NoHalves),
            node,
            room,
            to: session,
            from: SessionId(0),
        });
        let metrics = self.rooms.shared.metrics.clone();
        let memory = Share::new(self.spread.cluster.memory.clone(), 0);
        let outbox = Outbox::to_there(link.clone(), metrics, memory);
        Arc::new(mate.member_with(link, outbox))
    }
}

/// A user of another node is in the roster already. False: by this joining; else they have left and come again.
fn forget_earlier(
    roster: &mut Roster,
    room: &NamedRoom,
    at: usize,
    (node, seat): (NodeId, u64),
) -> Result<bool, CannotJoin> {
    let before = &roster.members[at];
    let there = before.there.as_ref().map(|there| there.node);
    // Of an earlier life, whose death is not known here yet.
    if there.is_none_or(|there| there.process != node.process) {
        // Nobody takes the seat of somebody of another node.
        return Err(CannotJoin::Full);
    }
    if before.seat == seat && there == Some(node) {
        return Ok(false);
    }
    let before = roster.members.remove(at);
    roster.tell_left(room, before.member.id, LeaveReason::Left);
    Ok(true)
}
