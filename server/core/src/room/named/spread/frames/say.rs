//! Writes them.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use voicematch_protocol::{LeaveReason, RoomId, SessionId};

use super::{
    super::{
        super::{NamedRoom, roster::Numbered},
        Act, Joiner, Who,
    },
    Here, Join, Left, Members, Person, ROOMS, Refused, Seated, Why,
};
use crate::{
    cluster::{Frame, FrameKind, NodeId},
    room::{Mate, millis},
};

impl NamedRoom {
    fn members_of(&self, me: NodeId, left: &[(SessionId, LeaveReason)]) -> Members {
        let roster = self.roster();
        let people = roster.members.iter().map(|member| Seated {
            person: member.person(),
            node: u64::from_be_bytes(
                member
                    .there
                    .as_ref()
                    .map_or(me, |there| there.node)
                    .to_bytes(),
            ),
        });
        let left = left.iter();
        Members {
            name: self.name.clone(),
            next: roster.next,
            age_ms: millis(self.opened.elapsed()),
            people: people.collect(),
            left: left
                .map(|(id, reason)| (*id, reason.as_str().into()))
                .collect(),
        }
    }
}

impl Numbered {
    fn person(&self) -> Person {
        Person {
            session: self.member.id,
            seat: self.seat,
            n: Some(self.n),
            was: self.was,
            mate: Mate::of(&self.member),
        }
    }
}

impl Act<'_> {
    /// Says what is put right if it is lost: joiners ask again, and both compare what they know.
    fn say(&self, node: NodeId, frame: &Frame<'_>) {
        if let Some(link) = self.spread.cluster.bus.link(node) {
            let _ = link.tell(frame);
        }
    }

    fn say_json(
        &self,
        node: NodeId,
        kind: FrameKind,
        room: RoomId,
        from: SessionId,
        body: &impl Serialize,
    ) {
        let body = serde_json::to_vec(body).unwrap_or_default();
        let to = SessionId(0);
        let frame = Frame {
            kind: kind as u8,
            room,
            to,
            from,
            body: &body,
            age: Duration::ZERO,
        };
        self.say(node, &frame);
    }

    pub(in super::super) fn say_join(&self, node: NodeId, name: &str, joiner: &Joiner) {
        let Who::Here { member, .. } = &joiner.who else {
            return;
        };
        let person = Person {
            session: member.id,
            seat: joiner.seat,
            n: joiner.n,
            was: joiner.was,
            mate: Mate::of(member),
        };
        let name = name.into();
        self.say_json(
            node,
            FrameKind::NamedJoin,
            RoomId(0),
            member.id,
            &Join { name, person },
        );
    }

    /// To all nodes that have members, or to one.
    pub(in super::super) fn say_roster(
        &self,
        room: &Arc<NamedRoom>,
        to: Option<NodeId>,
        left: &[(SessionId, LeaveReason)],
    ) {
        let nodes: Vec<_> = match to {
            Some(node) => vec![node],
            None => room.roster().nodes.iter().map(|way| way.node).collect(),
        };
        if nodes.is_empty() {
            return;
        }
        let members = room.members_of(self.spread.me(), left);
        for node in nodes {
            self.say_json(
                node,
                FrameKind::NamedRoster,
                room.id,
                SessionId(0),
                &members,
            );
        }
    }

    pub(in super::super) fn say_refused(&self, node: NodeId, room: RoomId, seat: u64, why: Why) {
        let seat = Some(seat);
        self.say_json(
            node,
            FrameKind::NamedRefused,
            room,
            SessionId(0),
            &Refused { seat, why },
        );
    }

    pub(in super::super) fn say_not_home(&self, node: NodeId, room: RoomId) {
        let (seat, why) = (None, Why::NotHome);
        self.say_json(
            node,
            FrameKind::NamedRefused,
            room,
            SessionId(0),
            &Refused { seat, why },
        );
    }

    pub(in super::super) fn say_left(
        &self,
        node: NodeId,
        room: RoomId,
        name: &str,
        (session, seat): (SessionId, u64),
        reason: LeaveReason,
    ) {
        let left = Left {
            name: name.into(),
            seat,
            reason: reason.as_str().into(),
        };
        self.say_json(node, FrameKind::NamedLeft, room, session, &left);
    }

    pub(in super::super) fn say_here(&self, node: NodeId, room: &NamedRoom) {
        let here = Here {
            name: room.name.clone(),
            people: room.roster().here().map(|member| member.person()).collect(),
        };
        self.say_json(node, FrameKind::NamedHere, room.id, SessionId(0), &here);
    }

    /// Nobody of this node is in the room.
    pub(in super::super) fn say_nobody(&self, node: NodeId, room: RoomId) {
        let here = Here {
            name: "".into(),
            people: Vec::new(),
        };
        self.say_json(node, FrameKind::NamedHere, room, SessionId(0), &here);
    }

    pub(in super::super) fn say_digests(
        &self,
        node: NodeId,
        is_home: bool,
        rooms: &[(RoomId, u64)],
    ) {
        let kind = match is_home {
            true => FrameKind::NamedHomeHas,
            false => FrameKind::NamedMirrorHas,
        };
        for part in rooms.chunks(ROOMS) {
            let pairs = part.iter().flat_map(|(room, digest)| [room.0, *digest]);
            let body: Vec<u8> = pairs.flat_map(u64::to_be_bytes).collect();
            let frame = Frame {
                kind: kind as u8,
                room: RoomId(0),
                to: SessionId(0),
                from: SessionId(0),
                body: &body,
                age: Duration::ZERO,
            };
            if let Some(link) = self.spread.cluster.bus.link(node) {
                // Said again in two seconds: it must not take the room of what is not.
                let _ = link.push_frame(&frame);
            }
        }
    }
}
