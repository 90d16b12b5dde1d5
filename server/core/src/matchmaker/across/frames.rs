//! What nodes say to each other of claims and rooms, and who does what about it. Bodies that are not one number are JSON, so
//! that a later version can say more.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use voicematch_protocol::{RoomId, SessionId};

use super::{
    super::{Matchmaker, PoolKind, claims::Host, halves::Rooms},
    LOST, here,
};
use crate::{
    cluster::{Frame, FrameKind, NodeId, TicketId, leave_reason},
    outbox::Batch,
    room::Mate,
};

/// What a node says of its user to the node of the other one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) waited_ms: u64,
    /// The index of the kind of pool in which the two were found.
    pub(super) pool: u8,
    pub(super) mate: Mate,
    /// Of a proposal: all that the user has named. Of an answer: those that both have.
    pub(super) interests: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) search: u32,
    /// Microseconds of the engine's clock.
    pub(super) until: u64,
    pub(super) about: About,
}

/// A user of another node.
pub(super) struct Who {
    pub(super) session: SessionId,
    pub(super) about: About,
}

impl About {
    pub(super) fn kind(&self) -> PoolKind {
        let kind = PoolKind::ALL.get(usize::from(self.pool));
        kind.copied().unwrap_or(PoolKind::Anyone)
    }

    pub(super) fn waited(&self) -> Duration {
        Duration::from_millis(self.waited_ms)
    }
}

fn read_rooms(body: &[u8]) -> Option<Rooms> {
    let (ids, []) = body.as_chunks() else {
        return None;
    };
    let mut ids = ids.iter().map(|id| RoomId(u64::from_be_bytes(*id)));
    Some(Rooms {
        first: ids.next()?,
        last: ids.next()?,
        rooms: ids.collect(),
    })
}

/// A frame that is of no session.
pub(super) fn frame(kind: FrameKind, room: RoomId, body: &[u8]) -> Frame<'_> {
    Frame {
        kind: kind as u8,
        room,
        to: SessionId(0),
        from: SessionId(0),
        body,
        age: Duration::ZERO,
    }
}

impl Matchmaker {
    /// Takes a frame of another node. Frames of one node come in the order in which it sent them. A frame that cannot be
    /// read, and one of a kind that only a later version has, is counted and dropped.
    pub fn frame(&self, node: NodeId, frame: &Frame<'_>, now: Instant) {
        let dropped = match FrameKind::of(frame.kind) {
            None => "unknown_frame",
            Some(kind) if self.take_frame(kind, node, frame, now).is_none() => "bad_frame",
            Some(_) => return,
        };
        self.shared.metrics.dropped(dropped, 1);
    }

    fn take_frame(
        &self,
        kind: FrameKind,
        node: NodeId,
        frame: &Frame<'_>,
        now: Instant,
    ) -> Option<()> {
        let (room, body) = (frame.room, frame.body);
        let ticket = |search: u32| TicketId {
            session: frame.to,
            search,
        };
        let who = |about| Who {
            session: frame.from,
            about,
        };
        match kind {
            FrameKind::Relay => return self.hear(node, frame, now),
            FrameKind::Leave => {
                let reason = leave_reason(body);
                self.judge(now, reason, |claims, here| claims.left(here, node, room));
            }
            FrameKind::Propose => {
                let ask: Ask = serde_json::from_slice(body).ok()?;
                let (to, who) = ((ticket(ask.search), ask.until), who(ask.about));
                self.judge(now, LOST, |claims, here| {
                    claims.proposed(here, node, room, &who, to);
                });
            }
            FrameKind::Accept => {
                let who = who(serde_json::from_slice(body).ok()?);
                self.judge(now, LOST, |claims, here| {
                    claims.accepted(here, node, room, &who);
                });
            }
            FrameKind::Refuse => {
                self.judge(now, LOST, |claims, here| claims.refused(here, node, room));
            }
            FrameKind::Revoke => {
                let search = body.try_into().ok().map(u32::from_be_bytes);
                self.judge(now, LOST, |claims, here| {
                    claims.was_revoked(here, node, room, search.map(ticket));
                });
            }
            FrameKind::PutBack => {
                let search = u32::from_be_bytes(body.try_into().ok()?);
                self.judge(now, LOST, |_, here| here.put_back(ticket(search)));
            }
            FrameKind::Rooms => self.compare_rooms(node, &read_rooms(body)?, now),
            FrameKind::Rejoin
            | FrameKind::Rejoined
            | FrameKind::NotRejoined
            | FrameKind::IsThere
            | FrameKind::There => return self.take_rejoin(node, frame, now),
            // Those of named rooms, and of sessions that go on at another node, have been taken out.
            FrameKind::NamedSay
            | FrameKind::NamedJoin
            | FrameKind::NamedRoster
            | FrameKind::NamedRefused
            | FrameKind::NamedLeft
            | FrameKind::NamedHere
            | FrameKind::NamedHomeHas
            | FrameKind::NamedMirrorHas
            | FrameKind::Take
            | FrameKind::State
            | FrameKind::NotTaken
            | FrameKind::Owned
            | FrameKind::Moved
            | FrameKind::Followed
            | FrameKind::Rest => return None,
        }
        Some(())
    }

    fn hear(&self, node: NodeId, frame: &Frame<'_>, now: Instant) -> Option<()> {
        let across = self.across.as_ref()?;
        let mut batch = Batch::default();
        if !batch.push_frames(frame.body) {
            return None;
        }
        let room = {
            let judge = across.lock();
            let half = judge.halves.get(frame.room);
            half.filter(|half| half.node == node)
                .map(|half| half.here.clone())
        };
        let member = room.as_ref().map(|room| here(room));
        let heard = member.is_some_and(|member| {
            let read_at = frame.read_at(now);
            member.id == frame.to && member.hear(frame.room, frame.from, &batch, read_at)
        });
        if !heard && !across.hold(frame, &batch, now) {
            self.shared.metrics.dropped("peer_left", batch.len());
        }
        Some(())
    }

    /// The XOR of the rooms that another node has with this one.
    pub fn rooms_of(&self, node: NodeId, sum: u64, now: Instant) {
        let Some(across) = &self.across else { return };
        let elapsed = now.saturating_duration_since(across.started);
        let differs = across.lock().halves.compare_sums(node, sum, elapsed);
        if let Some(part) = differs {
            let ids = [part.first, part.last].into_iter().chain(part.rooms);
            let body: Vec<u8> = ids.flat_map(|room| room.0.to_be_bytes()).collect();
            across.say(node, &frame(FrameKind::Rooms, RoomId(0), &body));
        }
    }

    fn compare_rooms(&self, node: NodeId, rooms: &Rooms, now: Instant) {
        self.judge(now, LOST, |_, here| {
            let elapsed = here.elapsed();
            for (room, half) in here.halves.compare_lists(node, rooms, elapsed) {
                here.end(&half.here);
                let lost = LOST.as_str().as_bytes();
                here.across.say(node, &frame(FrameKind::Leave, room, lost));
            }
            here.across.show_rooms(node, here.halves);
        });
    }
}
