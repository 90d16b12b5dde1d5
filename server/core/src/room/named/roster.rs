//! Who is in a named room, and what they are told of each other.

use std::sync::Arc;

use serde_json::value::RawValue;
use voicematch_protocol::{RoomMember, RoomSelf, ServerMessage, SessionId};

use super::NamedRoom;
use crate::room::{
    Member,
    ticket::{RoomKeys, TicketSeat},
};

/// The place of a user in a room that has died with another process.
#[derive(Debug, Clone, Copy)]
pub struct Former {
    pub n: u32,
    /// The id by which the others knew them.
    pub session: SessionId,
}

/// A member and their number. `was`: see [`RoomMember::was`].
pub(super) struct Numbered {
    pub(super) n: u32,
    pub(super) member: Arc<Member>,
    was: Option<SessionId>,
}

/// Who is in a room, in the order in which they came.
#[derive(Default)]
pub(super) struct Roster {
    pub(super) members: Vec<Numbered>,
    /// The number of the next one. None is given twice.
    next: u32,
}

impl Roster {
    pub(super) fn position(&self, id: SessionId) -> Option<usize> {
        self.members.iter().position(|other| other.member.id == id)
    }

    /// Adds a newcomer, and tells all of it.
    pub(super) fn admit(
        &mut self,
        room: &NamedRoom,
        member: &Arc<Member>,
        former: Option<Former>,
        keys: &RoomKeys,
        id: Option<&RawValue>,
    ) {
        let is_free = |n: &u32| self.members.iter().all(|other| other.n != *n);
        // Above this nobody could count up any more.
        let n = former
            .map(|former| former.n)
            .filter(|n| *n < u32::MAX / 2)
            .filter(is_free)
            .unwrap_or(self.next);
        self.next = self.next.max(n + 1);
        let newcomer = Numbered {
            n,
            member: member.clone(),
            was: former.map(|former| former.session),
        };
        for other in &self.members {
            // A refusal means that they are leaving.
            let _ = other.member.outbox.send(&ServerMessage::PeerJoined {
                room_id: room.id,
                peer: newcomer.seen_by(other.n),
            });
        }
        self.members.push(newcomer);
        self.tell_joined(room, member, keys, id);
    }

    /// Tells a member of the room and of all others in it.
    pub(super) fn tell_joined(
        &self,
        room: &NamedRoom,
        member: &Member,
        keys: &RoomKeys,
        id: Option<&RawValue>,
    ) {
        let Some(at) = self.position(member.id) else {
            return;
        };
        let n = self.members[at].n;
        let others = self.members.iter().filter(|other| other.n != n);
        let members = others.map(|other| other.seen_by(n));
        let seat = TicketSeat::Named {
            n,
            name: room.name.clone(),
        };
        let ticket = member
            .is_resumable()
            .then(|| keys.sign(room.id, member.id, member.user(), &seat));
        let joined = ServerMessage::RoomJoined {
            room: &room.name,
            room_id: room.id,
            you: RoomSelf {
                peer_id: member.id,
                n,
            },
            members: members.collect(),
            room_ticket: ticket.as_deref(),
            id,
        };
        // A refusal means that the user's task is closing the connection.
        let _ = member.outbox.send(&joined);
    }
}

impl Numbered {
    /// As a member with this number sees them. Who comes back with an old number is no newcomer to those who came after it.
    fn seen_by(&self, n: u32) -> RoomMember {
        RoomMember {
            peer_id: self.member.id,
            n: self.n,
            was: self.was,
            name: self.member.name().map(str::to_owned),
            offer: n > self.n,
            polite: n > self.n,
            batch: self.member.is_resumable(),
            away: self.member.is_away(),
        }
    }
}
