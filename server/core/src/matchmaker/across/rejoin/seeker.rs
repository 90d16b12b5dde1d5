//! The part of the node to which the user has come: it looks for the partner.

use std::sync::Arc;

use voicematch_protocol::{RoomId, ServerMessage, SessionId};

use super::{
    super::{super::claims::Host, LOST, frames::frame, here, host::Here},
    ASK_AGAIN, NotSeated, Wants, newcomer, there,
};
use crate::{
    cluster::{Frame, FrameKind, NodeId},
    room::{Again, Mate, NoHalf, Room},
};

impl Here<'_> {
    /// X's part: asks the node that has the partner, or writes down who waits.
    pub(super) fn seek_partner(&mut self, room: RoomId) {
        let again_at = self.elapsed() + ASK_AGAIN;
        let Some(seeker) = self.rejoins.seekers.get_mut(&room) else {
            return;
        };
        seeker.again_at = again_at;
        let (member, shown) = (seeker.member.clone(), seeker.shown);
        let node = match seeker.partner_gone {
            true => None,
            false => self.across.cluster.nodes.living(shown.process),
        };
        match node {
            Some(living) if living.node == self.me() => {
                self.wanted(room, newcomer(&member, &shown));
            }
            Some(living) => self.ask(room, living.node, shown.partner),
            None => self.across.cluster.seats.offer(room, shown.seat, member.id),
        }
    }

    pub(super) fn ask(&mut self, room: RoomId, node: NodeId, partner: SessionId) {
        let Some(seeker) = self.rejoins.seekers.get_mut(&room) else {
            return;
        };
        seeker.asked = Some(node);
        let wants = Wants {
            former: seeker.shown.session,
            seat: seeker.shown.seat,
            mate: Mate::of(&seeker.member),
        };
        let body = serde_json::to_vec(&wants).unwrap_or_default();
        let ask = Frame {
            to: partner,
            from: seeker.member.id,
            ..frame(FrameKind::Rejoin, room, &body)
        };
        self.across.say(node, &ask);
    }

    /// X's part: the newcomer has the seat.
    pub(super) fn rejoined(
        &mut self,
        node: NodeId,
        room: RoomId,
        (to, from): (SessionId, SessionId),
        mate: &Mate,
    ) {
        let is_open = self.halves.get(room).is_some_and(|half| {
            (half.node, here(&half.here).id, there(&half.here).id) == (node, to, from)
        });
        if !is_open && self.open_other_half(node, room, (to, from), mate).is_err() {
            let lost = LOST.as_str().as_bytes();
            let leave = frame(FrameKind::Leave, room, lost);
            self.across.say(node, &leave);
        }
    }

    pub(super) fn open_other_half(
        &mut self,
        node: NodeId,
        room: RoomId,
        (to, from): (SessionId, SessionId),
        mate: &Mate,
    ) -> Result<(), NoHalf> {
        let seeker = self.rejoins.seekers.get(&room);
        let seeker = seeker.filter(|seeker| {
            seeker.member.id == to
                && seeker.asked == Some(node)
                && self.across.pending.waits(room, to)
        });
        let seeker = seeker.ok_or(NoHalf::Gone)?;
        let (member, offers) = (seeker.member.clone(), seeker.shown.seat == 0);
        let link = self.link(node, room, from, to).ok_or(NoHalf::Gone)?;
        let again = Again {
            room,
            here: &member,
            there: mate.member(Arc::new(link), &member),
            offers,
            before: None,
        };
        if self.are_apart(&member, &again.there) {
            return Err(NoHalf::Gone);
        }
        let shared = &self.matchmaker.shared;
        let opened = Room::reopen_half(again, shared, self.now, || Ok(()))?;
        self.across.pending.went_on(room, to);
        self.rejoins.seekers.remove(&room);
        self.halves.open(room, node, opened, self.elapsed());
        self.across.show_rooms(node, self.halves);
        Ok(())
    }

    /// X's part: the newcomer does not have it.
    pub(super) fn not_rejoined(
        &mut self,
        node: NodeId,
        room: RoomId,
        to: SessionId,
        why: NotSeated,
    ) {
        let living = self.across.cluster.nodes.living(node.process_id());
        let Some(seeker) = self.rejoins.seekers.get_mut(&room) else {
            return;
        };
        if seeker.asked != Some(node) || seeker.member.id != to {
            return;
        }
        if seeker.partner_gone {
            // The partner was written down, and has gone since: they may be again.
            return;
        }
        let is_going = living.is_none_or(|living| living.draining);
        if why == NotSeated::Ended && is_going {
            // It has sent both away.
            seeker.partner_gone = true;
            return self.seek_partner(room);
        }
        self.give_up_seat(room, to, why);
    }

    /// Tells one of this node that they do not have the seat.
    pub(super) fn give_up_seat(&mut self, room: RoomId, session: SessionId, why: NotSeated) {
        let seeker = self.rejoins.seekers.get(&room);
        if seeker.is_none_or(|seeker| seeker.member.id != session) {
            return;
        }
        let Some(seeker) = self.rejoins.seekers.remove(&room) else {
            return;
        };
        if !self.across.pending.give_up(room, session, None, self.now) {
            return;
        }
        let (code, message) = why.error();
        self.matchmaker.shared.metrics.error(code);
        // A refusal means that the user is leaving.
        let _ = seeker.member.outbox.send(&ServerMessage::Error {
            code,
            message,
            temporary: code.temporary(),
            received: None,
            id: seeker.id.as_deref(),
        });
    }
}
