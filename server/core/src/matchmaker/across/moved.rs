//! Halves of rooms follow a user whose session goes to another node: see `session/take.rs`, whose names for the nodes
//! are these.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use voicematch_protocol::{CloseReason, LeaveReason, RoomId, SessionId};

use super::{
    super::{Matchmaker, claims::Host},
    Across, LOST,
    frames::frame,
    here,
    host::Here,
    rejoin::there,
};
use crate::{
    cluster::{Frame, FrameKind, Full, NodeId, Nodes},
    outbox::Batch,
    room::{Mate, Member, Room},
};

/// A room of two in which a user arrives.
pub(crate) struct Arrived<'a> {
    pub(crate) room: RoomId,
    pub(crate) partner: SessionId,
    pub(crate) mate: &'a Mate,
    /// Whether the user who arrives made the offer.
    pub(crate) offers: bool,
    /// How long there has been the room.
    pub(crate) age: Duration,
}

/// Somebody on the way here who is in a room. While both of its users are on their way, each from one node to another, what one of
/// them says may come from a node that is not known yet to be theirs.
pub(super) struct Held {
    room: RoomId,
    partner: SessionId,
    member: Arc<Member>,
    /// Where the partner has gone meanwhile.
    node: Option<NodeId>,
    /// The partner has left, and why.
    left: Option<LeaveReason>,
}

impl Across {
    /// Keeps what the partner says to one who is on the way here. False: there is nobody like that.
    pub(super) fn hold(&self, frame: &Frame<'_>, batch: &Batch, now: Instant) -> bool {
        let held = self.held.get(&frame.to);
        let held = held.filter(|held| (held.room, held.partner) == (frame.room, frame.from));
        // A refusal means that it is too much, and is counted.
        held.map(|held| held.member.outbox.send_batch(batch, Some(now)))
            .is_some()
    }

    /// The partner of somebody who is on the way here has gone to another node, too.
    fn follow_held(&self, room: RoomId, partner: SessionId, to: NodeId) {
        let held = self.held.iter_mut();
        for mut held in held.filter(|held| (held.room, held.partner) == (room, partner)) {
            held.node = Some(to);
        }
    }

    fn is_held(&self, member: SessionId, room: RoomId, partner: SessionId) -> bool {
        let held = self.held.get(&member);
        held.is_some_and(|held| (held.room, held.partner) == (room, partner))
    }

    /// The partner of somebody who is on the way here has left.
    pub(super) fn leave_held(&self, room: RoomId, reason: LeaveReason) {
        for mut held in self.held.iter_mut().filter(|held| held.room == room) {
            held.left.get_or_insert(reason);
        }
    }
}

impl Matchmaker {
    /// The other nodes; `None`: there are none.
    pub(crate) fn nodes(&self) -> Option<&dyn Nodes> {
        self.across.as_ref().map(|across| &*across.cluster.nodes)
    }

    /// Says something to another node that must not be lost behind messages.
    pub(crate) fn tell(&self, node: NodeId, frame: &Frame<'_>) -> Result<(), Full> {
        self.across.as_ref().ok_or(Full)?.tell(node, frame)
    }

    /// The same of what may be long.
    pub(crate) fn carry(&self, node: NodeId, frame: &Frame<'_>) -> Result<(), Full> {
        let across = self.across.as_ref().ok_or(Full)?;
        let link = across.cluster.bus.link(node).ok_or(Full)?;
        link.push_frame(frame)
    }

    /// The node that has the other half of a room; `None`: this one has all of it, or none.
    pub(crate) fn node_of_half(&self, room: RoomId) -> Option<NodeId> {
        let judge = self.across.as_ref()?.lock();
        judge.halves.get(room).map(|half| half.node)
    }

    /// A's part, where the partner is here: the room becomes a half with B. False: the partner is leaving.
    pub(crate) fn send_off(
        &self,
        room: &Arc<Room>,
        moving: &Member,
        to: NodeId,
        now: Instant,
    ) -> bool {
        let mut done = false;
        self.judge(now, LOST, |_, here| {
            let partner = room.peer_of(moving.id);
            let link = here.link(to, room.id, moving.id, partner.id);
            let Some(link) = link else { return };
            let there = Mate::of(moving).member(Arc::new(link), partner);
            if let Some(half) = room.rehome(partner, there) {
                here.halves.open(room.id, to, half, here.elapsed());
                here.across.show_rooms(to, here.halves);
                done = true;
            }
        });
        done
    }

    /// The user of such a half does not come to that node either: its seat waits for their ticket, if it may.
    pub(crate) fn keep_seat(&self, room: RoomId, now: Instant) {
        self.judge(now, LOST, |_, here| {
            if let Some(half) = here.halves.end(room) {
                here.across.show_rooms(half.node, here.halves);
                here.lose(room, half);
            }
        });
    }

    /// C's part: the user of a half with `from` is at `to` now. `came`: they, if that is here.
    pub(crate) fn follow(
        &self,
        from: NodeId,
        told: &Frame<'_>,
        to: NodeId,
        came: Option<&Arc<Member>>,
        now: Instant,
    ) {
        let room = told.room;
        self.judge(now, LOST, |_, here_now| {
            let half = here_now.halves.get(room);
            let half = half.filter(|half| half.node == from && there(&half.here).id == told.from);
            let Some(current) = half.map(|half| half.here.clone()) else {
                return here_now.across.follow_held(room, told.from, to);
            };
            let partner = here(&current);
            if to == here_now.me() {
                if came.is_some_and(|came| current.unite(partner, came).is_some()) {
                    here_now.halves.end(room);
                    here_now.across.show_rooms(from, here_now.halves);
                }
                return;
            }
            match here_now.link(to, room, told.from, partner.id) {
                Some(link) => {
                    let mate = Mate::of(there(&current));
                    let there = mate.member(Arc::new(link), partner);
                    if let Some(half) = current.rehome(partner, there) {
                        let elapsed = here_now.elapsed();
                        here_now.halves.open(room, to, half, elapsed);
                        here_now.across.show_rooms(to, here_now.halves);
                    }
                }
                // That node has died since.
                None => {
                    if let Some(half) = here_now.halves.end(room) {
                        here_now.lose(room, half);
                    }
                }
            }
            here_now.across.show_rooms(from, here_now.halves);
        });
    }

    /// This node's half of a room is no more, if it has one with this user.
    pub(crate) fn forget_half(&self, room: RoomId, user: SessionId, now: Instant) {
        self.judge(now, LOST, |_, judge| {
            let half = judge.halves.get(room);
            if half.is_none_or(|half| here(&half.here).id != user) {
                return;
            }
            judge.rejoins.forget(room);
            if let Some(half) = judge.halves.end(room) {
                half.here.retire();
                judge.across.show_rooms(half.node, judge.halves);
            }
        });
    }

    /// B's part: a user comes who is in this room. What the partner says is held until [`Self::settle_in`].
    pub(crate) fn hold(&self, member: &Arc<Member>, arrived: &Arrived<'_>) {
        if let Some(across) = &self.across {
            let held = Held {
                room: arrived.room,
                partner: arrived.partner,
                member: member.clone(),
                node: None,
                left: None,
            };
            across.held.insert(member.id, held);
        }
    }

    /// B's part: the user is here, and the partner at `node`, which may be here. `partner`: who has that id here. The error says why
    /// there is no room.
    pub(crate) fn settle_in(
        &self,
        member: &Arc<Member>,
        arrived: &Arrived<'_>,
        node: NodeId,
        partner: Option<&Arc<Member>>,
        now: Instant,
    ) -> Result<(), LeaveReason> {
        let mut settled = false;
        let mut left = None;
        self.judge(now, LOST, |_, here| {
            let held = here.across.held.remove(&member.id).map(|(_, held)| held);
            let node = held.as_ref().and_then(|held| held.node).unwrap_or(node);
            left = held.and_then(|held| held.left);
            settled = left.is_none() && here.settle_in(member, arrived, node, partner);
        });
        match settled {
            true => Ok(()),
            false => Err(left.unwrap_or(LOST)),
        }
    }

    /// B's part: nothing is held for the user any more.
    pub(crate) fn end_hold(&self, member: SessionId) {
        if let Some(across) = &self.across {
            across.held.remove(&member);
        }
    }

    /// B's part: the user does not come after all. Should the partner's half have followed them, their seat waits there for their
    /// ticket.
    pub(crate) fn send_back(&self, room: RoomId, node: NodeId) {
        let reason = CloseReason::Draining.as_str().as_bytes();
        // Should it be lost, the halves are compared.
        let _ = self.tell(node, &frame(FrameKind::Leave, room, reason));
    }
}

impl Here<'_> {
    fn settle_in(
        &mut self,
        member: &Arc<Member>,
        arrived: &Arrived<'_>,
        node: NodeId,
        partner: Option<&Arc<Member>>,
    ) -> bool {
        let room = arrived.room;
        if member.room().is_some_and(|current| current.id == room) {
            // Both are here: the partner's half has become a room of two.
            return true;
        }
        let half = self.halves.get(room);
        let half = half.map(|half| (half.node, half.here.clone()));
        match (half, partner) {
            (Some((before, half)), _) => {
                // Else it is that of a partner who has gone on from here, and is not quite gone.
                let is_partners = node == self.me() && here(&half).id == arrived.partner;
                let united = is_partners && half.unite(here(&half), member).is_some();
                if united {
                    self.halves.end(room);
                    self.across.show_rooms(before, self.halves);
                }
                united
            }
            // The partner is on the way here, too.
            (None, Some(partner))
                if node == self.me() && self.across.is_held(partner.id, room, member.id) =>
            {
                let seat = (arrived.offers, arrived.age);
                let shared = &self.matchmaker.shared;
                Room::gather(room, member, partner, seat, shared, self.now).is_some()
            }
            (None, _) => node != self.me() && self.arrive(member, arrived, node),
        }
    }

    fn arrive(&mut self, member: &Arc<Member>, arrived: &Arrived<'_>, node: NodeId) -> bool {
        let room = arrived.room;
        let link = self.link(node, room, arrived.partner, member.id);
        let half = link.and_then(|link| {
            let there = arrived.mate.member(Arc::new(link), member);
            let seat = (arrived.offers, arrived.age);
            Room::arrive(room, member, there, seat, &self.matchmaker.shared, self.now)
        });
        if let Some(half) = &half {
            self.halves.open(room, node, half.clone(), self.elapsed());
            self.across.show_rooms(node, self.halves);
        }
        half.is_some()
    }
}
