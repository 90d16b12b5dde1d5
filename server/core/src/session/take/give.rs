//! The part of A, which has the session.

use std::{sync::Arc, time::Instant};

use voicematch_protocol::{CloseReason, LeaveReason, SessionId};

use super::{
    NotTakenBody, OWNED_WITHIN, TakeBody, Why, about, parts,
    state::{InRoom, State},
};
use crate::{
    cluster::{Frame, FrameKind, Full, NodeId},
    outbox::Behind,
    room::Place,
    session::{Context, Resumable, Session, resume::Carrier},
};

impl Context {
    /// B asks for a session.
    pub(super) fn asked(&self, node: NodeId, frame: &Frame<'_>, now: Instant) -> Option<()> {
        let body: TakeBody = serde_json::from_slice(frame.body).ok()?;
        let id = frame.to;
        let Some(found) = self.resumables.get(id) else {
            let why = self.where_is(id, node);
            self.say_not_taken(node, id, body.take, why);
            return Some(());
        };
        let mut session = found.lock_any();
        if let Err(why) = found.give(&mut session, node, &body, now) {
            self.say_not_taken(node, id, body.take, why);
        }
        Some(())
    }

    /// Where `node` is to ask for a session that is not here.
    pub(super) fn where_is(&self, id: SessionId, node: NodeId) -> Why {
        let moved = self.takes.moved_to(id).filter(|moved| *moved != node);
        match moved {
            _ if self.takes.is_coming(id) => Why::Again,
            Some(moved) => Why::Moved(moved.to_bytes()),
            None => Why::Refused,
        }
    }

    /// B has given up.
    pub(super) fn not_wanted(
        &self,
        node: NodeId,
        frame: &Frame<'_>,
        body: &NotTakenBody,
        now: Instant,
    ) {
        if let Some(found) = self.resumables.get(frame.to) {
            let mut session = found.lock_any();
            let moving = session.moving();
            if moving.is_some_and(|moving| moving.is(body.take, node) && !moving.is_owned) {
                found.unfreeze(&mut session, now);
            }
        }
    }
}

impl Resumable {
    /// Freezes the session and sends all of it to B.
    fn give(
        self: &Arc<Self>,
        session: &mut Session,
        node: NodeId,
        asked: &TakeBody,
        now: Instant,
    ) -> Result<(), Why> {
        let outbox = &self.member.outbox;
        let resume = session.resume.as_mut().ok_or(Why::Refused)?;
        if !resume.tokens.accept_hash(asked.hash) {
            return Err(Why::Forged);
        }
        let is_over = session.left || outbox.status().closing.is_some();
        if let Some(to) = session.goes_to() {
            return Err(Why::Moved(to.to_bytes()));
        }
        if is_over || self.member.is_vacant() {
            return Err(Why::Refused);
        }
        let resume = session.resume.as_ref().ok_or(Why::Refused)?;
        if resume.rejoining.is_some() || self.member.named_room().is_some() {
            // It does not go on elsewhere; and as long as it is here, nobody takes its room ticket.
            session.leave(CloseReason::Lost);
            return Err(Why::Refused);
        }
        match outbox.check_position(asked.after) {
            Ok(()) => {}
            Err(Behind::Stale) => return Err(Why::Refused),
            Err(Behind::TooOld) => {
                self.give_up_elsewhere(session, node, now);
                return Err(Why::TooOld);
            }
        }
        let room = self.freeze(session, now)?;
        let (id, in_room) = (self.member.id, room.as_ref().map(|room| room.room));
        let state = State::of(session, room, now).ok_or(Why::Refused)?;
        let last = state.log.last();
        let took_no_more = session.begin_moving(asked.take, node, (last, in_room), now);
        tracing::debug!(session = %id, %node, took_no_more, "is asked for by another node");
        self.context
            .takes
            .lock()
            .going
            .insert(id, now + OWNED_WITHIN);
        let body = serde_json::to_vec(&state).unwrap_or_default();
        let Some(parts) = parts::split(asked.take, &body) else {
            self.unfreeze(session, now);
            self.give_up_elsewhere(session, node, now);
            return Err(Why::Refused);
        };
        if self.carry(node, FrameKind::State, &parts).is_err() {
            self.unfreeze(session, now);
            return Err(Why::Refused);
        }
        Ok(())
    }

    /// Nobody's connection carries the session any more, and nobody finds it in the pools. The room that it is in.
    fn freeze(&self, session: &mut Session, now: Instant) -> Result<Option<InRoom>, Why> {
        if self.member.place() == Place::Waiting {
            session.tell_waiting();
            session.park();
            if !session
                .ticket
                .as_ref()
                .is_some_and(|ticket| ticket.is_parked())
            {
                return Err(Why::Again);
            }
        }
        let (room, matchmaker) = (self.member.room(), &self.context.matchmaker);
        let in_room = match &room {
            None => None,
            Some(room) => {
                let node = match room.peer_of(self.member.id).is_there() {
                    true => matchmaker.node_of_half(room.id),
                    false => matchmaker.nodes().map(|nodes| nodes.me()),
                };
                // The partner is lost, and may come back with the room ticket: here.
                let node = node.ok_or(Why::Refused)?;
                Some(InRoom::of(room, self.member.id, node))
            }
        };
        session.end_carrier(CloseReason::Replaced, now);
        Ok(in_room)
    }

    /// The session is here as before, without a connection.
    pub(super) fn unfreeze(self: &Arc<Self>, session: &mut Session, now: Instant) {
        session.stop_moving();
        if let Some(resume) = &mut session.resume {
            resume.carrier = Carrier::Nothing { since: now };
        }
        self.context.takes.lock().going.remove(&self.member.id);
        self.context.takes.keep(self);
        self.member.outbox.nudge();
    }

    /// The session cannot go on, and its user is at another node, where they will show their room ticket.
    fn give_up_elsewhere(&self, session: &mut Session, node: NodeId, now: Instant) {
        if let Some(room) = self.member.room() {
            let matchmaker = &self.context.matchmaker;
            if room.peer_of(self.member.id).is_there() {
                // Its node keeps the seat, as it does of those whom a drain sends away.
                let reason = LeaveReason::Ended(CloseReason::Draining);
                self.member.leave_room(reason);
            } else if matchmaker.send_off(&room, &self.member, node, now) {
                self.member.depart();
                matchmaker.keep_seat(room.id, now);
            }
        }
        session.leave(CloseReason::TooOld);
    }

    pub(super) fn carry(
        &self,
        node: NodeId,
        kind: FrameKind,
        parts: &[Vec<u8>],
    ) -> Result<(), Full> {
        let matchmaker = &self.context.matchmaker;
        let mut parts = parts.iter();
        parts.try_for_each(|part| matchmaker.carry(node, &about(kind, self.member.id, part)))
    }
}
