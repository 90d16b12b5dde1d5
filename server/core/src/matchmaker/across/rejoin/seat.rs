//! The part of the node that has the partner: it decides who has the seat.

use std::sync::Arc;

use voicematch_protocol::{CloseReason, LeaveReason, RoomId};

use super::{
    super::{frames::frame, here, host::Here},
    Asked, From, HEARD_WITHIN, Newcomer, NotSeated, there,
};
use crate::{
    cluster::{Frame, FrameKind, NodeId},
    room::{Again, Mate, Member, NO_TICKET, Room},
};

impl Here<'_> {
    /// C's part: somebody wants the seat of a former partner of one who is here.
    pub(super) fn wanted(&mut self, room: RoomId, newcomer: Newcomer) {
        if self.rejoins.orphans.contains_key(&room) {
            return self.settle(room, &newcomer);
        }
        let Some(half) = self.halves.get(room) else {
            return self.settle(room, &newcomer);
        };
        let (node, is, partner) = (half.node, there(&half.here).id, here(&half.here).clone());
        if let From::There(from, _) = newcomer.from
            && (from, newcomer.session) == (node, is)
        {
            // The answer was lost.
            return self.say_rejoined(room, &newcomer, &partner);
        }
        let living = self.across.cluster.nodes.living(node.process_id());
        if is != newcomer.former {
            return self.refuse_seat(room, &newcomer, NotSeated::Ended);
        }
        if living.is_none_or(|living| living.node != node) {
            return self.settle(room, &newcomer);
        }
        let before = self.rejoins.asked.get(&room);
        if before.is_some_and(|before| before.newcomer.session == newcomer.session) {
            return;
        }
        let asked = Asked {
            node,
            newcomer,
            until: self.elapsed() + HEARD_WITHIN,
        };
        if let Some(before) = self.rejoins.asked.insert(room, asked) {
            self.refuse_seat(room, &before.newcomer, NotSeated::Ended);
        }
        let ask = Frame {
            to: is,
            from: partner.id,
            ..frame(FrameKind::IsThere, room, &[])
        };
        self.across.say(node, &ask);
    }

    /// P has said whether its user is still there.
    pub(super) fn is_there(&mut self, node: NodeId, room: RoomId, is_there: bool) {
        let asked = self.rejoins.asked.get(&room);
        if asked.is_none_or(|asked| asked.node != node) {
            return;
        }
        if let Some(asked) = self.rejoins.asked.remove(&room) {
            match is_there {
                true => self.refuse_seat(room, &asked.newcomer, NotSeated::UseResume),
                false => self.settle(room, &asked.newcomer),
            }
        }
    }

    pub(super) fn settle(&mut self, room: RoomId, newcomer: &Newcomer) {
        if let Err(why) = self.admit(room, newcomer) {
            self.refuse_seat(room, newcomer, why);
        }
    }

    /// Gives the seat to the newcomer, if there still is one.
    pub(super) fn admit(&mut self, room: RoomId, newcomer: &Newcomer) -> Result<(), NotSeated> {
        let ended = NotSeated::Ended;
        let orphan = self.rejoins.orphans.get(&room).map(|orphan| &orphan.here);
        let half = self.halves.get(room).map(|half| &half.here);
        let Some(current) = orphan.or(half).cloned() else {
            return self.admit_to_pending(room, newcomer);
        };
        let (partner, former) = (here(&current).clone(), there(&current).clone());
        if former.id != newcomer.former {
            return Err(ended);
        }
        match &newcomer.from {
            From::Here(member) => {
                if self.are_apart(member, &partner) {
                    return Err(ended);
                }
                self.let_go(room);
                self.across.pending.went_on(room, member.id);
                self.rejoins.seekers.remove(&room);
                member.stop_waiting(NO_TICKET);
                if !current.hand_over(&former, member, newcomer.seat == 0) {
                    self.end(&current);
                    return Err(ended);
                }
                Ok(())
            }
            From::There(node, mate) => {
                self.reopen(room, (*node, mate), newcomer, &partner, Some(&current))
            }
        }
    }

    /// The same if the partner waits here, too.
    pub(super) fn admit_to_pending(
        &mut self,
        room: RoomId,
        newcomer: &Newcomer,
    ) -> Result<(), NotSeated> {
        let partner = self.across.pending.partner(room, newcomer.seat);
        let (Some(partner), From::There(node, mate)) = (partner, &newcomer.from) else {
            return Err(NotSeated::Ended);
        };
        self.reopen(room, (*node, mate), newcomer, &partner, None)?;
        self.across.pending.went_on(room, partner.id);
        self.rejoins.seekers.remove(&room);
        Ok(())
    }

    /// Opens this node's half with a newcomer of another node, who is told first.
    pub(super) fn reopen(
        &mut self,
        room: RoomId,
        (node, mate): (NodeId, &Mate),
        newcomer: &Newcomer,
        partner: &Arc<Member>,
        before: Option<&Arc<Room>>,
    ) -> Result<(), NotSeated> {
        let ended = NotSeated::Ended;
        let link = self.link(node, room, newcomer.session, partner.id);
        let there = mate.member(Arc::new(link.ok_or(ended)?), partner);
        if self.are_apart(partner, &there) {
            return Err(ended);
        }
        let again = Again {
            room,
            here: partner,
            there,
            offers: newcomer.seat == 1,
            before,
        };
        let body = serde_json::to_vec(&Mate::of(partner)).unwrap_or_default();
        let answer = Frame {
            to: newcomer.session,
            from: partner.id,
            ..frame(FrameKind::Rejoined, room, &body)
        };
        let shared = &self.matchmaker.shared;
        let tell = || self.across.tell(node, &answer);
        let opened = Room::reopen_half(again, shared, self.now, tell).map_err(|_| ended)?;
        self.let_go(room);
        self.halves.open(room, node, opened, self.elapsed());
        self.across.show_rooms(node, self.halves);
        Ok(())
    }

    /// The half or the orphan of before is no more; should the user live who had the seat, they were replaced.
    pub(super) fn let_go(&mut self, room: RoomId) {
        self.rejoins.orphans.remove(&room);
        if let Some(half) = self.halves.end(room) {
            let replaced = LeaveReason::Ended(CloseReason::Replaced).as_str();
            let leave = frame(FrameKind::Leave, room, replaced.as_bytes());
            self.across.say(half.node, &leave);
            self.across.show_rooms(half.node, self.halves);
        }
    }

    pub(super) fn are_apart(&self, one: &Member, other: &Member) -> bool {
        let shared = &self.matchmaker.shared;
        shared.are_apart(one, other, self.now)
    }

    pub(super) fn say_rejoined(&self, room: RoomId, newcomer: &Newcomer, partner: &Member) {
        let body = serde_json::to_vec(&Mate::of(partner)).unwrap_or_default();
        let answer = Frame {
            to: newcomer.session,
            from: partner.id,
            ..frame(FrameKind::Rejoined, room, &body)
        };
        if let From::There(node, _) = newcomer.from {
            self.across.say(node, &answer);
        }
    }

    pub(super) fn refuse_seat(&mut self, room: RoomId, newcomer: &Newcomer, why: NotSeated) {
        match &newcomer.from {
            From::Here(_) => self.give_up_seat(room, newcomer.session, why),
            From::There(node, _) => {
                let body = [why as u8];
                let refuse = Frame {
                    to: newcomer.session,
                    ..frame(FrameKind::NotRejoined, room, &body)
                };
                self.across.say(*node, &refuse);
            }
        }
    }
}
