//! Who is not let in, and who is put out of a room without having left it.

use std::sync::Arc;

use voicematch_protocol::{CloseReason, LeaveReason, RoomId, ServerMessage};

use super::{
    super::{EventKind, NamedRoom},
    Act, Home, LOST,
    frames::Why,
};
use crate::{cluster::NodeId, room::Member};

impl Act<'_> {
    /// Somebody is not let in, or the sender is not home of a room.
    pub(super) fn refused(&mut self, node: NodeId, room: RoomId, seat: Option<u64>, why: Why) {
        let of_room = |act: &Self| act.spread.rooms.get(&room).map(|room| room.name.clone());
        let name = match seat {
            Some(seat) => self.judge.joining.get(&seat).cloned(),
            None => of_room(self),
        };
        let Some(name) = name else {
            if let Some(seat) = seat {
                self.expel(node, seat, why);
            }
            return;
        };
        let Some(entry) = self.judge.names.get_mut(&name) else {
            return;
        };
        if entry.home != Home::There(node) {
            return;
        }
        if why == Why::NotHome {
            entry.home = Home::Unknown;
            // The next tick asks, so that two who do not agree do not ask for ever.
            self.judge.restless.insert(name);
            return;
        }
        let at = entry.waiting.iter().position(|it| Some(it.seat) == seat);
        if let Some(joiner) = at.map(|at| entry.waiting.remove(at)) {
            self.refuse(&joiner, why);
        }
        self.forget(&name);
    }

    /// A member of this node is not let into the room that their own has become.
    fn expel(&mut self, node: NodeId, seat: u64, why: Why) {
        let rooms = self.judge.names.values();
        let rooms = rooms.filter(|name| name.home == Home::There(node) && why != Why::NotHome);
        let of_seat = |room: &Arc<NamedRoom>| {
            let roster = room.roster();
            let mut here = roster.here();
            let member = here.find(|member| member.seat == seat)?;
            Some((room.clone(), member.member.clone()))
        };
        let found = rooms
            .filter_map(|name| name.room.as_ref())
            .find_map(of_seat);
        let Some((room, member)) = found else {
            return;
        };
        let is_empty = {
            let mut roster = room.roster_mut();
            if let Some(at) = roster.position(member.id) {
                roster.members.remove(at);
            }
            roster.tell_left(&room, member.id, LOST);
            roster.here().next().is_none()
        };
        self.is_out(&room, &member, LOST);
        if is_empty {
            self.drop_mirror(&room);
        }
    }

    /// Another session of the same user has the seat of this one, which ends.
    pub(super) fn replace(&self, room: &Arc<NamedRoom>, member: &Member) {
        let reason = CloseReason::Replaced;
        self.is_out(room, member, LeaveReason::Ended(reason));
        member.outbox.close(reason);
    }

    /// Who is no longer in the roster is told so.
    fn is_out(&self, room: &Arc<NamedRoom>, member: &Member, reason: LeaveReason) {
        self.rooms.shared.metrics.named_members.dec();
        self.rooms
            .tell(EventKind::RoomLeft, room, member, Some(reason));
        member.lose_seat(room);
        member.hear_out(room.id, reason);
    }
}

impl Member {
    /// Tells the user that they are in a room no more, though they have not left it.
    pub(super) fn hear_out(&self, room_id: RoomId, reason: LeaveReason) {
        // A refusal means that they are leaving.
        let _ = self.outbox.send(&ServerMessage::PeerLeft {
            room_id,
            peer_id: self.id,
            reason,
        });
    }
}
