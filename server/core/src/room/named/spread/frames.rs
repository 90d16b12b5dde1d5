//! What nodes say to each other of named rooms. Bodies are JSON, so that a later version can say more, but for messages and
//! for what is compared.

mod say;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use voicematch_protocol::{LeaveReason, RoomId, SessionId};

use super::{
    super::{CannotJoin, MAX_MEMBERS, NamedRooms, is_name},
    Joiner, Who,
};
use crate::{
    cluster::{Frame, FrameKind, NodeId, leave_reason},
    outbox::Batch,
    room::Mate,
};

/// Rooms in one frame of those that compare.
pub(super) const ROOMS: usize = 1000;

/// A user of the sender.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Person {
    pub(super) session: SessionId,
    pub(super) seat: u64,
    /// The number that they have, or want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) n: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<SessionId>,
    pub(super) mate: Mate,
}

#[derive(Debug, Serialize, Deserialize)]
struct Join {
    name: Box<str>,
    person: Person,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Here {
    pub(super) name: Box<str>,
    pub(super) people: Vec<Person>,
}

/// A member, as the home says it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seated {
    #[serde(flatten)]
    pub(super) person: Person,
    /// Their node, as [`NodeId::to_bytes`] writes it, a number.
    node: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Members {
    pub(super) name: Box<str>,
    /// The number of the next one.
    pub(super) next: u32,
    pub(super) age_ms: u64,
    pub(super) people: Vec<Seated>,
    /// Who has just left, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) left: Vec<(SessionId, Box<str>)>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    Full,
    TooMany,
    Unavailable,
    /// The session whose seat they want is still in the room.
    UseResume,
    /// Another node is home.
    NotHome,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refused {
    /// That of the joining; absent: the sender is not home of the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seat: Option<u64>,
    why: Why,
}

#[derive(Debug, Serialize, Deserialize)]
struct Left {
    name: Box<str>,
    seat: u64,
    reason: Box<str>,
}

impl Why {
    pub(super) fn cannot_join(self) -> CannotJoin {
        match self {
            Self::Full => CannotJoin::Full,
            Self::TooMany => CannotJoin::TooManyRooms,
            Self::UseResume => CannotJoin::UseResume,
            Self::Unavailable | Self::NotHome => CannotJoin::Unavailable,
        }
    }

    pub(super) fn of(cannot: &CannotJoin) -> Self {
        match cannot {
            CannotJoin::Full => Self::Full,
            CannotJoin::TooManyRooms => Self::TooMany,
            CannotJoin::UseResume => Self::UseResume,
            _ => Self::Unavailable,
        }
    }
}

impl Seated {
    pub(super) fn node(&self) -> NodeId {
        NodeId::from_bytes(self.node.to_be_bytes())
    }

    pub(super) fn n(&self) -> u32 {
        self.person.n.unwrap_or(0)
    }
}

impl Members {
    /// Whether it can be a roster.
    fn is_sound(&self) -> bool {
        let people = &self.people;
        let is_double = |at: usize, it: &Seated| {
            people[..at]
                .iter()
                .any(|other| other.person.session == it.person.session || other.n() == it.n())
        };
        is_name(&self.name)
            && people.len() <= MAX_MEMBERS
            && people.iter().all(|it| it.n() < u32::MAX / 2)
            && !people.iter().enumerate().any(|(at, it)| is_double(at, it))
    }

    /// Why somebody has left, as far as the home says.
    pub(super) fn reason(&self, session: SessionId) -> LeaveReason {
        let mut left = self.left.iter();
        let reason = left.find(|(left, _)| *left == session);
        reason.map_or(super::LOST, |(_, reason)| leave_reason(reason.as_bytes()))
    }
}

impl NamedRooms {
    /// A frame of another node. False: it is not about named rooms. What cannot be understood is counted and dropped.
    pub fn frame(&self, node: NodeId, frame: &Frame<'_>, now: Instant) -> bool {
        let Some(kind) = FrameKind::of(frame.kind).filter(|kind| kind.is_of_named_rooms()) else {
            return false;
        };
        if self.take_frame(node, kind, frame, now).is_none() {
            self.shared.metrics.dropped("bad_frame", 1);
        }
        true
    }

    fn take_frame(
        &self,
        node: NodeId,
        kind: FrameKind,
        frame: &Frame<'_>,
        now: Instant,
    ) -> Option<()> {
        let (room, body) = (frame.room, frame.body);
        match kind {
            FrameKind::NamedSay => {
                let mut batch = Batch::default();
                if !batch.push_frames(body) {
                    return None;
                }
                let known = self.spread.as_ref()?.rooms.get(&room);
                let known = known.map(|room| room.value().clone());
                let heard = known.and_then(|room| room.hear(node, frame, &batch, now));
                match heard {
                    Some(true) => {}
                    Some(false) => self.shared.metrics.dropped("peer_left", batch.len()),
                    // Their home says so a moment later.
                    None => self.act(now, |act| act.hold(node, frame)).unwrap_or(()),
                }
                Some(())
            }
            FrameKind::NamedJoin => {
                let Join { name, person } = serde_json::from_slice(body).ok()?;
                let joiner = joiner(node, person, None, now);
                is_name(&name).then(|| self.act(now, |act| act.join_came(&name, joiner)))?
            }
            FrameKind::NamedRoster => {
                let members: Members = serde_json::from_slice(body).ok()?;
                let is_sound = members.is_sound();
                is_sound.then(|| self.act(now, |act| act.roster_came(node, room, &members)))?
            }
            FrameKind::NamedRefused => {
                let Refused { seat, why } = serde_json::from_slice(body).ok()?;
                self.act(now, |act| act.refused(node, room, seat, why))
            }
            FrameKind::NamedLeft => {
                let Left { name, seat, reason } = serde_json::from_slice(body).ok()?;
                let (who, reason) = ((frame.from, seat), leave_reason(reason.as_bytes()));
                self.act(now, |act| act.left_came(node, &name, who, reason))
            }
            FrameKind::NamedHere => {
                let Here { name, mut people } = serde_json::from_slice(body).ok()?;
                people.truncate(MAX_MEMBERS);
                let joiners = people.into_iter();
                let joiners = joiners.map(|person| joiner(node, person, Some(room), now));
                let joiners = joiners.collect();
                self.act(now, |act| act.here_came(node, room, &name, joiners))
            }
            FrameKind::NamedHomeHas | FrameKind::NamedMirrorHas => {
                let (pairs, []) = body.as_chunks::<16>() else {
                    return None;
                };
                let pairs = pairs.iter().map(|pair| {
                    let pair = u128::from_be_bytes(*pair);
                    #[allow(clippy::cast_possible_truncation, reason = "a half each")]
                    let (room, digest) = ((pair >> 64) as u64, pair as u64);
                    (RoomId(room), digest)
                });
                let pairs: Vec<_> = pairs.take(ROOMS).collect();
                let is_home = kind == FrameKind::NamedHomeHas;
                self.act(now, |act| act.compare(node, &pairs, is_home))
            }
            _ => None,
        }
    }
}

fn joiner(node: NodeId, person: Person, room: Option<RoomId>, now: Instant) -> Joiner {
    let Person {
        session,
        seat,
        n,
        was,
        mate,
    } = person;
    let who = Who::There {
        node,
        session,
        mate,
        room,
    };
    Joiner {
        seat,
        n,
        was,
        since: now,
        who,
    }
}
