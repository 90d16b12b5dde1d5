//! Rooms whose two users are on two nodes: each node has its half.
//!
//! - Each 250 ms a node tells another one the XOR of the rooms that they share.
//! - A node without such a room is silent, unless it is asked: a half that is alone would never be compared otherwise, and who
//!   is suspected would never be heard.
//! - Silent for 600 ms while they share rooms, or without an answer to an offer: suspect, and its tickets are skipped until
//!   it is heard. Then who was posted meanwhile looks again: two who fit would stand side by side otherwise.

use std::time::Duration;

use voicematch_protocol::SessionId;

use super::{
    super::halves::{Half, Rooms},
    Action, ClaimProtocol, Frame, NodeId, Now, RoomId, Rule, TicketId,
};

const KEEP_ALIVE_EACH: Duration = Duration::from_millis(250);
const SILENT: Duration = Duration::from_millis(600);

/// What is known of the way to another node.
pub(super) struct Link {
    heard: Now,
}

impl ClaimProtocol {
    pub(super) fn open_half(
        &mut self,
        room: RoomId,
        ticket: TicketId,
        (peer, peer_person): (SessionId, u64),
        node: NodeId,
        initiator: bool,
    ) {
        self.halves.open(room, node, ticket.session, self.now);
        self.link(node);
        self.actions.push(Action::Matched {
            ticket,
            room,
            peer,
            peer_person,
            peer_node: Some(node),
            initiator,
        });
    }

    fn link(&mut self, node: NodeId) -> &mut Link {
        let new = Link { heard: self.now };
        self.links.entry(node).or_insert(new)
    }

    /// A user has left a room whose other half is elsewhere.
    pub(in super::super) fn leave(&mut self, room: RoomId, now: Now) {
        self.now = now;
        if let Some(half) = self.halves.end(room) {
            self.send(half.node, Frame::Leave { room });
        }
    }

    pub(super) fn half_ended(&mut self, room: RoomId, session: SessionId) {
        self.actions.push(Action::Ended { room, session });
    }

    pub(super) fn end_halves(&mut self, ends: impl Fn(&Half<SessionId>) -> bool) {
        for (room, half) in self.halves.end_all(ends) {
            self.half_ended(room, half.here);
        }
    }

    pub(super) fn heard(&mut self, node: NodeId) {
        let now = self.now;
        self.membership.meet(node);
        self.link(node).heard = now;
        let Some(since) = self.membership.trust(node) else {
            return;
        };
        if self.holds(Rule::LookAfterSuspicion) {
            for id in self.waiting_tickets() {
                let ticket = self.tickets.get(&id);
                if ticket.is_some_and(|ticket| ticket.posts > 0 && ticket.posted_at >= since) {
                    self.look(id);
                }
            }
        }
    }

    pub(super) fn tick_rooms(&mut self) {
        let now = self.now;
        if now < self.next_keep_alive {
            return;
        }
        self.next_keep_alive = now + KEEP_ALIVE_EACH;
        if !self.may_handle() {
            return;
        }
        let suspects = self.membership.suspects();
        let known: Vec<_> = self
            .links
            .iter()
            .map(|(node, link)| (*node, link.heard))
            .collect();
        for (node, heard) in known {
            let any = self.halves.sum(node).is_some();
            if any && now >= heard + SILENT {
                self.membership.suspect(node, now);
            }
            if any || suspects.contains(&node) {
                self.keep_alive(node, true);
            }
        }
        let unknown = suspects
            .into_iter()
            .filter(|node| !self.links.contains_key(node));
        for node in unknown.collect::<Vec<_>>() {
            self.keep_alive(node, true);
        }
    }

    fn keep_alive(&mut self, node: NodeId, asks: bool) {
        let rooms = self.halves.sum(node).unwrap_or(0);
        self.send(node, Frame::KeepAlive { rooms, asks });
    }

    pub(super) fn kept_alive(&mut self, node: NodeId, rooms: u64, asks: bool) {
        let any = self.halves.sum(node).is_some();
        if asks && !any && self.holds(Rule::AnswerKeepAlive) {
            self.keep_alive(node, false);
        }
        let differs = self.halves.compare_sums(node, rooms, self.now);
        if let Some(rooms) = differs.filter(|_| self.holds(Rule::CompareRooms)) {
            self.send(node, Frame::Rooms(rooms));
        }
    }

    /// A part of the other node's list of rooms with this one.
    pub(super) fn compare(&mut self, node: NodeId, rooms: &Rooms) {
        for (room, half) in self.halves.compare_lists(node, rooms, self.now) {
            self.counts.lost_halves += 1;
            self.half_ended(room, half.here);
            self.send(node, Frame::Leave { room });
        }
    }
}
