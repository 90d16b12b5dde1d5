//! Who is in a named room, and what they are told of each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use voicematch_protocol::{LeaveReason, RoomId, RoomMember, RoomSelf, ServerMessage, SessionId};

use super::NamedRoom;
use crate::{
    cluster::{BusLink, Frame, FrameKind, Full, NodeId},
    outbox::{Batch, Refused},
    room::{
        Member,
        ticket::{RoomKeys, TicketSeat},
    },
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
    pub(super) was: Option<SessionId>,
    /// Which joining of the user's node it was: 0 without other nodes.
    pub(super) seat: u64,
    /// Where the user is, if not here.
    pub(super) there: Option<There>,
}

/// The user is on another node.
pub(super) struct There {
    pub(super) node: NodeId,
    pub(super) since: Instant,
    /// The node has died. Until this moment the seat is kept for the member's room ticket.
    pub(super) kept_until: Option<Instant>,
}

impl There {
    pub(super) fn is_kept(&self) -> bool {
        self.kept_until.is_some()
    }
}

/// The way to a node that has members.
pub(super) struct Way {
    pub(super) node: NodeId,
    pub(super) link: Arc<dyn BusLink>,
    members: usize,
}

/// Who is in a room, in the order in which they came.
#[derive(Default)]
pub(super) struct Roster {
    pub(super) members: Vec<Numbered>,
    /// The number of the next one. None is given twice.
    pub(super) next: u32,
    /// The ways to the other nodes that have members.
    pub(super) nodes: Vec<Way>,
}

impl Roster {
    pub(super) fn position(&self, id: SessionId) -> Option<usize> {
        self.members.iter().position(|other| other.member.id == id)
    }

    /// Gives a newcomer a number, adds them, and tells the others.
    pub(super) fn admit(&mut self, room: &NamedRoom, mut newcomer: Numbered, wanted: Option<u32>) {
        let is_free = |n: &u32| self.members.iter().all(|other| other.n != *n);
        // Above this nobody could count up any more.
        let n = wanted
            .filter(|n| *n < u32::MAX / 2)
            .filter(is_free)
            .unwrap_or(self.next);
        self.next = self.next.max(n + 1);
        newcomer.n = n;
        for other in self.here() {
            other.hear_of(room, &newcomer);
        }
        self.members.push(newcomer);
    }

    /// Those whose users are here.
    pub(super) fn here(&self) -> impl Iterator<Item = &Numbered> {
        self.members.iter().filter(|other| other.there.is_none())
    }

    /// Tells all who are here that somebody has left.
    pub(super) fn tell_left(&self, room: &NamedRoom, peer_id: SessionId, reason: LeaveReason) {
        self.here()
            .for_each(|other| other.hear_left(room, peer_id, reason));
    }

    /// Says something to one member who is there.
    pub(super) fn send_there(
        &self,
        room: RoomId,
        from: SessionId,
        to: SessionId,
        there: &There,
        batch: &Batch,
    ) -> Result<(), Refused> {
        if there.is_kept() {
            return Err(Refused::Lost);
        }
        let way = self.nodes.iter().find(|way| way.node == there.node);
        let way = way.ok_or(Refused::Closed)?;
        let said = way.link.push_frame(&say(room, from, to, batch));
        said.map_err(|Full| Refused::Lost)
    }

    /// Keeps room for a message to all on the ways to all other nodes, or on none: who is told that nobody has it says it again.
    pub(super) fn reserve_there(&self, batch: &Batch) -> Result<(), Refused> {
        let bytes = batch.byte_len();
        for (at, way) in self.nodes.iter().enumerate() {
            if way.link.reserve(bytes).is_err() {
                let before = &self.nodes[..at];
                before.iter().for_each(|way| way.link.release(bytes));
                return Err(Refused::Lost);
            }
        }
        Ok(())
    }

    /// Says what room was kept for to all members who are there, once to each node. Returns how many they are.
    pub(super) fn send_all_there(&self, room: RoomId, from: SessionId, batch: &Batch) -> usize {
        let sent = self.nodes.iter().map(|way| {
            way.link.push_reserved(&say(room, from, from, batch));
            way.members
        });
        sent.sum()
    }

    /// Finds the ways to the nodes that have members now.
    pub(super) fn find_ways(&mut self, link: impl Fn(NodeId) -> Option<Arc<dyn BusLink>>) {
        let mut before = std::mem::take(&mut self.nodes);
        let there = self.members.iter().filter_map(|other| other.there.as_ref());
        for node in there.filter(|there| !there.is_kept()) {
            let node = node.node;
            if let Some(way) = self.nodes.iter_mut().find(|way| way.node == node) {
                way.members += 1;
                continue;
            }
            let known = before.iter().position(|way| way.node == node);
            let known = known.map(|at| before.swap_remove(at).link);
            if let Some(link) = known.or_else(|| link(node)) {
                let members = 1;
                self.nodes.push(Way {
                    node,
                    link,
                    members,
                });
            }
        }
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
        let others = self.members.iter();
        let others = others.filter(|other| other.member.id != member.id);
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

fn say(room: RoomId, from: SessionId, to: SessionId, batch: &Batch) -> Frame<'_> {
    Frame {
        kind: FrameKind::NamedSay as u8,
        room,
        to,
        from,
        body: batch.bytes(),
        age: Duration::ZERO,
    }
}

impl Numbered {
    /// Somebody who is here, without a number yet.
    pub(super) fn here(member: &Arc<Member>, former: Option<Former>, seat: u64) -> Self {
        Self {
            n: 0,
            member: member.clone(),
            was: former.map(|former| former.session),
            seat,
            there: None,
        }
    }

    /// Tells this member that somebody has left.
    pub(super) fn hear_left(&self, room: &NamedRoom, peer_id: SessionId, reason: LeaveReason) {
        // A refusal means that they are leaving too.
        let _ = self.member.outbox.send(&ServerMessage::PeerLeft {
            room_id: room.id,
            peer_id,
            reason,
        });
    }

    /// Tells this member of a newcomer.
    pub(super) fn hear_of(&self, room: &NamedRoom, newcomer: &Self) {
        // A refusal means that they are leaving.
        let _ = self.member.outbox.send(&ServerMessage::PeerJoined {
            room_id: room.id,
            peer: newcomer.seen_by(self.n),
        });
    }

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
