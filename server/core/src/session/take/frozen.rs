//! What a session knows of its way to another node.

use std::{sync::atomic::Ordering, time::Instant};

use voicematch_protocol::{CloseReason, RoomId};

use super::{Moving, OWNED_WITHIN};
use crate::{
    cluster::NodeId,
    session::{Session, resume::Carrier},
};

impl Moving {
    pub(super) fn is(&self, take: u64, node: NodeId) -> bool {
        (self.take, self.to) == (take, node)
    }
}

impl Session {
    pub(super) fn moving(&mut self) -> Option<&mut Moving> {
        self.resume.as_mut()?.moving.as_deref_mut()
    }

    /// Whether the session is frozen: on its way to another node.
    pub fn is_moving(&self) -> bool {
        let resume = self.resume.as_ref();
        resume.is_some_and(|resume| resume.moving.is_some())
    }

    /// Whether it is another node's already, and this one only has to hand over the rest.
    pub(in crate::session) fn has_gone(&self) -> bool {
        self.goes_to().is_some()
    }

    /// That node.
    pub(super) fn goes_to(&self) -> Option<NodeId> {
        let moving = self
            .resume
            .as_ref()
            .and_then(|resume| resume.moving.as_ref());
        moving
            .filter(|moving| moving.is_owned)
            .map(|moving| moving.to)
    }

    pub(super) fn begin_moving(
        &mut self,
        take: u64,
        to: NodeId,
        (last, room): (u64, Option<RoomId>),
        now: Instant,
    ) -> bool {
        let Some(resume) = &mut self.resume else {
            return false;
        };
        let before = resume.moving.take();
        let took_no_more = before.map_or(resume.takes_no_more, |before| before.took_no_more);
        resume.takes_no_more = true;
        resume.moving = Some(Box::new(Moving {
            take,
            to,
            last,
            room,
            until: now + OWNED_WITHIN,
            is_owned: false,
            told: false,
            in_room: None,
            partner_at: None,
            took_no_more,
        }));
        took_no_more
    }

    /// The session stays. False: it is another node's already.
    pub(in crate::session) fn stop_moving(&mut self) -> bool {
        let Some(resume) = &mut self.resume else {
            return true;
        };
        if let Some(moving) = resume.moving.take() {
            if moving.is_owned {
                resume.moving = Some(moving);
                return false;
            }
            resume.takes_no_more = moving.took_no_more;
        }
        true
    }

    /// The connection that carries the session, if one does, hears why it does so no more.
    pub(in crate::session) fn end_carrier(&mut self, reason: CloseReason, now: Instant) {
        if self.is_detached() {
            return;
        }
        self.uncount_carrier();
        // For a moment there may be more than may be.
        self.context.detached.fetch_add(1, Ordering::Relaxed);
        self.context.metrics.sessions_detached.inc();
        self.member.set_away(true);
        if let Some(resume) = &mut self.resume {
            resume.epoch += 1;
            resume.carrier = Carrier::Nothing { since: now };
        }
        self.member.outbox.detach(reason);
        self.member.outbox.nudge();
    }

    /// The session is on another node: here it ends without a word.
    pub(super) fn let_go(&mut self) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        (self.room, self.last_room) = (None, None);
        if let Some(ticket) = self.ticket.take() {
            self.context.matchmaker.cancel(&ticket);
        }
        self.member.depart();
        self.context.shared.forget_blocks(&self.member);
        self.context.directory.remove(self.member.id);
        self.context.persons.leave(&self.member);
        self.uncount();
        if let Some(resume) = &mut self.resume {
            resume.moving = None;
            resume.carrier = Carrier::Connection;
            resume.held = None;
        }
        self.context.resumables.remove(&self.member);
        self.context.metrics.sessions_open.dec();
        if let Some(trace) = &self.context.trace {
            trace.closed(self.member.id, CloseReason::Replaced);
        }
        // Its keeper ends.
        self.member.outbox.close(CloseReason::Replaced);
    }
}
