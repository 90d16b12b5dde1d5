//! The part of A from when B has the session.

use std::{sync::Arc, time::Instant};

use voicematch_protocol::{CloseReason, LeaveReason, SessionId};

use super::{
    FOLLOWED_WITHIN, MovedBody, Moving, REST_FOR, Why, about, parts, read_number, state::Rest,
};
use crate::{
    cluster::{Frame, FrameKind, NodeId},
    room::Room,
    session::{Context, Resumable, Session},
};

/// Why a room ends whose partner is lost.
const LOST: LeaveReason = LeaveReason::Ended(CloseReason::Lost);

impl Context {
    /// B has all of the session, or may have: it is B's from now on.
    pub(super) fn told_owned(&self, node: NodeId, frame: &Frame<'_>, now: Instant) -> Option<()> {
        let (id, take) = (frame.to, read_number(frame.body)?);
        let Some(found) = self.resumables.get(id) else {
            self.say_not_taken(node, id, take, self.where_is(id, node));
            return Some(());
        };
        let mut session = found.lock_any();
        let closing = found.member.outbox.status().closing;
        let moving = session.moving().filter(|moving| moving.is(take, node));
        let why = match (moving, closing) {
            (Some(moving), None) => {
                if !std::mem::replace(&mut moving.is_owned, true) {
                    moving.until = now + FOLLOWED_WITHIN;
                }
                found.go_on(&mut session, false, now);
                return Some(());
            }
            (Some(_), Some(_)) => {
                // It is being closed: its keeper does that.
                found.unfreeze(&mut session, now);
                Why::Refused
            }
            // Another node has asked for it since.
            (None, None) => session
                .goes_to()
                .map_or(Why::Again, |to| Why::Moved(to.to_bytes())),
            (None, Some(_)) => Why::Refused,
        };
        self.say_not_taken(node, id, take, why);
        Some(())
    }

    /// C's half of the room is with B now.
    pub(super) fn told_followed(&self, _: NodeId, frame: &Frame<'_>, now: Instant) -> Option<()> {
        let take = read_number(frame.body)?;
        if let Some(found) = self.resumables.get(frame.to) {
            let mut session = found.lock_any();
            let moving = session.moving();
            if moving.is_some_and(|moving| moving.take == take && moving.is_owned) {
                found.go_on(&mut session, true, now);
            }
        }
        Some(())
    }

    /// If this session has gone on to another node, it need not wait for the partner's half.
    pub(super) fn wait_no_more(&self, id: SessionId, now: Instant) {
        if let Some(found) = self.resumables.get(id) {
            let mut session = found.lock_any();
            if session.goes_to().is_some() {
                found.go_on(&mut session, true, now);
            }
        }
    }

    /// A session on its way is to be looked at.
    pub(super) fn going_due(&self, id: SessionId, now: Instant) {
        let Some(found) = self.resumables.get(id) else {
            self.takes.lock().going.remove(&id);
            return;
        };
        let mut session = found.lock_any();
        match session.moving().map(|moving| moving.is_owned) {
            Some(true) => found.go_on(&mut session, false, now),
            Some(false) => found.unfreeze(&mut session, now),
            None => {
                self.takes.lock().going.remove(&id);
            }
        }
    }
}

impl Resumable {
    /// B has the session. Lets the room follow, and hands over the rest as soon as C has `followed`, or has had its time.
    fn go_on(self: &Arc<Self>, session: &mut Session, followed: bool, now: Instant) {
        let (id, matchmaker) = (self.member.id, &self.context.matchmaker);
        let Some(moving) = session.moving() else {
            return;
        };
        let again_at = match moving.in_room {
            Some(_) => now,
            None => moving.until,
        };
        self.context.takes.lock().going.insert(id, again_at);
        if moving.in_room.is_none() {
            let room = self.member.room();
            let room = room.filter(|room| Some(room.id) == moving.room);
            let in_room = match &room {
                None => Some(false),
                Some(room) => self.lead(room, moving, followed, now),
            };
            let Some(in_room) = in_room else { return };
            moving.in_room = Some(in_room);
            if let Some(room) = room {
                let me = matchmaker.nodes().map(|nodes| nodes.me());
                moving.partner_at = match room.peer_of(id).is_there() {
                    true => matchmaker.node_of_half(room.id),
                    false => me,
                };
                matchmaker.forget_half(room.id, id, now);
                room.retire();
            }
            self.member.depart();
        }
        self.hand_over_rest(session, now);
    }

    /// Whether the user is still in the room, which has followed; `None`: that is not known yet.
    fn lead(
        &self,
        room: &Arc<Room>,
        moving: &mut Moving,
        followed: bool,
        now: Instant,
    ) -> Option<bool> {
        let matchmaker = &self.context.matchmaker;
        let is_late = now >= moving.until;
        if !room.peer_of(self.member.id).is_there() {
            if matchmaker.send_off(room, &self.member, moving.to, now) {
                return Some(true);
            }
            // The partner is leaving, and this user hears of it in a moment.
            return is_late.then(|| {
                self.member.leave_room(LOST);
                false
            });
        }
        let Some(node) = matchmaker.node_of_half(room.id) else {
            // The partner's node has died meanwhile.
            self.member.lose_partner(room, LOST);
            return Some(false);
        };
        if !moving.told {
            let partner = room.peer_of(self.member.id).id;
            let body = MovedBody {
                take: moving.take,
                to: moving.to.to_bytes(),
            };
            let body = serde_json::to_vec(&body).unwrap_or_default();
            let told = Frame {
                room: room.id,
                to: partner,
                ..about(FrameKind::Moved, self.member.id, &body)
            };
            moving.told = matchmaker.tell(node, &told).is_ok();
        }
        (followed || is_late).then_some(true)
    }

    /// Hands over what has come since the state; then the session is here no more.
    fn hand_over_rest(self: &Arc<Self>, session: &mut Session, now: Instant) {
        let Some(moving) = session.moving() else {
            return;
        };
        let (take, to, last, until) = (moving.take, moving.to, moving.last, moving.until);
        let in_room = moving.in_room == Some(true);
        let partner_at = moving.partner_at.map(NodeId::to_bytes);
        let outbox = &self.member.outbox;
        let rest = |closing: Option<CloseReason>| {
            let log = outbox.copy_log(Some(last), now);
            let entries = log.filter(|_| closing.is_none());
            let rest = Rest {
                entries: entries.map(|log| log.entries()).unwrap_or_default(),
                in_room,
                partner_at,
                closing: closing.map(|reason| reason.as_str().to_owned()),
            };
            parts::split(take, &serde_json::to_vec(&rest).unwrap_or_default())
        };
        let parts = rest(outbox.status().closing);
        let parts = parts.or_else(|| rest(Some(CloseReason::ResumeOverflow)));
        let sent = self.carry(to, FrameKind::Rest, &parts.unwrap_or_default());
        if sent.is_err() && now < until + REST_FOR {
            return;
        }
        let id = self.member.id;
        session.let_go();
        self.context.takes.remember(id, to, now);
        tracing::debug!(session = %id, node = %to, "has gone to another node");
    }
}
