//! The part of B, to which the user has come; and of C, which has the partner.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use voicematch_protocol::{CloseReason, LeaveReason, ServerMessage, SessionId};

use super::{
    Key, MovedBody, REST_WITHIN, Taken, Why, number,
    parts::Part,
    state::{AtPlace, InRoom, Rest, State},
};
use crate::{
    address::UserAddress,
    cluster::{Frame, FrameKind, NodeId},
    matchmaker::Wish,
    room::{Member, Place},
    session::{
        Context, HeldAddress, Resumable, Session,
        resume::{Carrier, Resume},
    },
};

/// A session that is made, and not this node's yet.
#[derive(Clone)]
pub(super) struct Made {
    session: Arc<Resumable>,
    room: Option<InRoom>,
}

impl Context {
    /// A part of the state has come.
    pub(super) fn told_state(
        self: &Arc<Self>,
        node: NodeId,
        frame: &Frame<'_>,
        now: Instant,
    ) -> Option<()> {
        let part = Part::read(frame.body)?;
        let (key, whole, held, address) = {
            let mut table = self.takes.lock();
            // One that is over: it is lost on the other node, too.
            let Some((key, coming)) = table.find(frame.to, node, part.take) else {
                return Some(());
            };
            let Some(whole) = coming.parts.add(&part).filter(|_| coming.made.is_none()) else {
                return Some(());
            };
            (key, whole, coming.held.take(), coming.address)
        };
        self.supersede(key);
        let state = serde_json::from_slice::<State>(&whole).ok();
        let made = state.and_then(|state| self.make(key.0, state, (held, address), now));
        let mut table = self.takes.lock();
        let Some(made) = made else {
            let coming = table.coming.remove(&key);
            drop(table);
            self.say_not_taken(node, key.0, part.take, Why::Refused);
            if let Some(mut coming) = coming {
                self.answer(&mut coming, Taken::Refused);
            }
            return Some(());
        };
        if let Some(coming) = table.coming.get_mut(&key) {
            coming.made = Some(made);
            coming.until = now + REST_WITHIN;
        }
        drop(table);
        self.say(node, FrameKind::Owned, key.0, &number(part.take));
        Some(())
    }

    /// A part of the rest has come. With the last one the session is here.
    pub(super) fn told_rest(&self, node: NodeId, frame: &Frame<'_>, now: Instant) -> Option<()> {
        let part = Part::read(frame.body)?;
        let (whole, mut coming) = {
            let mut table = self.takes.lock();
            let Some((key, coming)) = table.find(frame.to, node, part.take) else {
                return Some(());
            };
            let Some(whole) = coming.parts.add(&part).filter(|_| coming.made.is_some()) else {
                return Some(());
            };
            (whole, table.coming.remove(&key)?)
        };
        let made = coming.made.take()?;
        match serde_json::from_slice::<Rest>(&whole) {
            Ok(rest) => {
                self.adopt(made, rest, node, now);
                self.answer(&mut coming, Taken::Here);
            }
            Err(_) => {
                self.discard(&made, true);
                self.answer(&mut coming, Taken::Refused);
            }
        }
        Some(())
    }

    /// The node that has a session has just given it to this take: others, with other tokens, come to nothing.
    fn supersede(&self, by: Key) {
        let others: Vec<_> = {
            let mut table = self.takes.lock();
            let of_session = table.coming.range((by.0, super::Hash::default())..);
            let of_session = of_session.take_while(|(key, _)| key.0 == by.0);
            let others = of_session.filter(|(key, other)| **key != by && other.made.is_some());
            let others: Vec<_> = others.map(|(key, _)| *key).collect();
            let others = others.iter();
            others.filter_map(|key| table.coming.remove(key)).collect()
        };
        for mut other in others {
            if let Some(made) = other.made.take() {
                self.discard(&made, false);
            }
            self.answer(&mut other, Taken::Refused);
        }
    }

    /// What was made of a session is given up, for it is to be asked for once more.
    pub(super) fn give_back(&self, key: Key, made: Option<Made>) -> Option<()> {
        if let Some(made) = made {
            let resume_held = {
                let mut session = made.session.lock_any();
                session
                    .resume
                    .as_mut()
                    .and_then(|resume| resume.held.take())
            };
            self.discard(&made, false);
            if let Some(coming) = self.takes.lock().coming.get_mut(&key) {
                coming.held = resume_held;
            }
        }
        Some(())
    }

    /// The user of a half of this node has gone on to another one, or here.
    pub(super) fn told_moved(&self, node: NodeId, frame: &Frame<'_>, now: Instant) -> Option<()> {
        let body: MovedBody = serde_json::from_slice(frame.body).ok()?;
        let (take, to) = (body.take, NodeId::from_bytes(body.to));
        let came = {
            let mut table = self.takes.lock();
            let found = table.find(frame.from, node, take);
            found.and_then(|(_, coming)| coming.made.clone())
        };
        let came = came.as_ref().map(|made| &made.session.member);
        self.matchmaker.follow(node, frame, to, came, now);
        self.say(node, FrameKind::Followed, frame.from, &number(take));
        Some(())
    }

    /// Makes the session that another node has described. Nobody can attach to it yet.
    fn make(
        self: &Arc<Self>,
        id: SessionId,
        state: State,
        (held, address): (Option<Box<dyn HeldAddress>>, UserAddress),
        now: Instant,
    ) -> Option<Made> {
        let (avoid, blocks, transport) = (state.avoid(now), state.blocks(), state.transport());
        let config = self.config.get();
        let member = self.directory.admit_as(id, || {
            let outbox = self.outbox(None);
            outbox.keep_log(config.resume.log);
            outbox.adopt_log(state.log, now);
            let identity = state.who.map(|who| Box::new(who.identity(now)));
            let member = Member::new(id, outbox, true, identity);
            member.set_address(address);
            member.set_away(true);
            member
        })?;
        self.remember_blocks(&member, &blocks, now);
        let carrier = Carrier::Nothing { since: now };
        let beat = config.heartbeat.max(config.resume.heartbeat);
        let mut resume = Resume::new(state.tokens, transport, carrier, beat, now);
        resume.received = state.received;
        resume.epoch = state.epoch;
        resume.reported = state.reported;
        resume.held = held;
        self.count_arrival();
        let resume = Some(Box::new(resume));
        let mut session = Session::new(self.clone(), member.clone(), resume, now);
        session.avoid = avoid;
        let room = match state.place {
            AtPlace::Idle => Some(None),
            AtPlace::Waiting {
                wanted,
                waited_us,
                at,
                id,
            } => {
                let wish = Wish::new(&wanted.criteria()).ok();
                wish.map(|wish| session.wait_on(wish, id, (waited_us, at), now))
                    .map(|()| None)
            }
            AtPlace::Room(room) => {
                self.matchmaker.hold(&member, &room.arrived());
                Some(Some(room))
            }
        };
        let Some(room) = room else {
            self.matchmaker.end_hold(member.id);
            session.let_go();
            return None;
        };
        let session = Resumable::of(self.clone(), member, session);
        Some(Made { session, room })
    }

    fn count_arrival(&self) {
        self.metrics.sessions_open.inc();
        self.detached
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.metrics.sessions_detached.inc();
    }

    fn remember_blocks(&self, member: &Member, blocks: &[Vec<(u64, Duration)>; 2], now: Instant) {
        self.shared.take_over_blocks(member, blocks, now);
        // Who is asked first may be the other one.
        let others = blocks.iter().flatten();
        let others = others.filter_map(|(other, _)| self.directory.get(SessionId(*other)));
        others.for_each(|other| other.mark_blocks());
    }

    /// The session is this node's.
    fn adopt(&self, made: Made, rest: Rest, from: NodeId, now: Instant) {
        let Made { session, room } = made;
        let member = &session.member;
        if let Some(room) = &room {
            // All that this user has said to them by way of this node is here.
            self.wait_no_more(room.partner, now);
        }
        let locked = session.lock_any();
        if let Some(room) = room {
            self.settle_room(member, &room, &rest, now);
        }
        member.outbox.release(rest.entries, now);
        if let Some(reason) = rest.closing {
            let reasons = CloseReason::ALL.iter().copied();
            let reason = reasons.into_iter().find(|known| known.as_str() == reason);
            member.outbox.close(reason.unwrap_or(CloseReason::Lost));
        }
        self.persons.enter(member);
        self.resumables.insert(session.clone());
        self.takes.is_here(member.id);
        self.takes.keep(&session);
        drop(locked);
        tracing::debug!(session = %member.id, node = %from, "has come from another node");
    }

    fn settle_room(&self, member: &Arc<Member>, room: &InRoom, rest: &Rest, now: Instant) {
        // They may have been together here already, and the partner has left.
        let is_over = member.last_room().is_some() && member.place() == Place::Idle;
        if !rest.in_room || is_over {
            return self.matchmaker.end_hold(member.id);
        }
        let node = rest.partner_at.map_or(room.node(), NodeId::from_bytes);
        let (arrived, partner) = (room.arrived(), self.directory.get(room.partner));
        let partner = partner.as_ref();
        let settled = (self.matchmaker).settle_in(member, &arrived, node, partner, now);
        if let Err(reason) = settled {
            // A refusal means that the session is being closed.
            let _ = member.outbox.send(&ServerMessage::PeerLeft {
                room_id: room.room,
                peer_id: room.partner,
                reason,
            });
        }
    }

    /// The session does not come. `may_have_followed`: the partner's half may be with this node; then the seat waits there for the room
    /// ticket.
    pub(super) fn discard(&self, made: &Made, may_have_followed: bool) {
        let mut session = made.session.lock_any();
        let member = &made.session.member;
        self.matchmaker.end_hold(member.id);
        if let Some(room) = &made.room {
            if may_have_followed {
                self.matchmaker.send_back(room.room, room.node());
            }
            // The partner is here, and the two were put together already.
            member.leave_room(LeaveReason::Ended(CloseReason::Lost));
        }
        session.let_go();
    }
}

impl Session {
    /// Goes on waiting, out of the pools until a connection carries the session. The user has been told.
    fn wait_on(
        &mut self,
        wish: Wish,
        id: Option<Box<serde_json::value::RawValue>>,
        (waited_us, at): (u64, Option<u64>),
        now: Instant,
    ) {
        let nodes = self.context.matchmaker.nodes();
        let engine = nodes.and_then(|nodes| nodes.engine_time());
        let on_the_way = engine.zip(at).map_or(0, |(now, at)| now.saturating_sub(at));
        // The engine's clock may jump; a take does not take longer.
        let on_the_way = Duration::from_micros(on_the_way).min(super::TAKE_WITHIN);
        let waited = Duration::from_micros(waited_us) + on_the_way;
        let since = now.checked_sub(waited).unwrap_or(now);
        let matchmaker = &self.context.matchmaker;
        // A new member is idle.
        if let Ok(ticket) = matchmaker.find_later(&self.member, wish, self.avoid.clone(), id, since)
        {
            self.ticket = Some(ticket);
            self.set_parked(true);
        }
    }
}
