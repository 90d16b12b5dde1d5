//! A session goes on at another node than it began on.
//!
//! A has the session, B is the node to which its user comes with the token, C has the partner, if there is one. C may be A or B.
//!
//! 1. B asks A: `Take`, with the hash of the token's secret.
//! 2. A compares, ends the old connection, and *freezes* the session: it answers nobody, and what others say to it goes into
//!    its log as ever. A search leaves the pools. B gets all of it: `State`, in parts.
//! 3. B makes the session, which nobody can attach to yet, and says `Owned`. What others say to it is *held*.
//! 4. From now on A never carries the session again. It tells C `Moved`; C lets its half of the room follow, silently, and answers
//!    `Followed` behind the last that it has for A.
//! 5. A hands over what has come meanwhile: `Rest`. With it the session is B's, and only now can a connection attach to it
//!    there; A forgets it. What was held follows the rest.
//!
//! Each step may be lost: A without `Owned` for 2 s, or told `NotTaken`, has the session as before, without a connection. B without an
//! answer, or without `Rest`, gives up: its half of the room is an orphan at C then, if C has followed. So there is never
//! a session that is attached on two nodes, and at the worst one that is nowhere: its user gets `resume_refused`, and
//! comes back with the room ticket, or begins anew. A takes a connection of its own for the session back as long as it has not
//! heard `Owned`.
//!
//! Order: what the partner says goes C - A - B before `Followed`, and C - B after it, where it is held for the rest.
//!
//! Locks: a session, then the table of takes, which is held alone and briefly.

mod ask;
mod frozen;
mod give;
mod hand_over;
mod parts;
mod receive;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use voicematch_protocol::{RoomId, SessionId};

use super::{Context, HeldAddress, Resumable, token::Hash};
use crate::{
    address::UserAddress,
    cluster::{Frame, FrameKind, NodeId},
};
use parts::Parts;

/// How long B waits for all of the state.
const STATE_WITHIN: Duration = Duration::from_millis(900);
/// How long B waits before it asks once more for one who is just being matched, or is on the way from yet another node.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long B waits for the rest.
const REST_WITHIN: Duration = Duration::from_millis(600);
/// How long A waits for `Owned`.
const OWNED_WITHIN: Duration = Duration::from_secs(2);
/// How long A waits for C.
const FOLLOWED_WITHIN: Duration = Duration::from_millis(400);
/// How long A tries to hand over the rest, after it has waited for C.
const REST_FOR: Duration = Duration::from_secs(1);
/// The most takes of this node that are under way.
const MAX_TAKES: usize = 4096;
/// How long it is remembered where a session has gone, for those who ask here, and for room tickets of this node.
const MOVED_FOR: Duration = Duration::from_secs(30 * 60);
/// The most that are remembered: about 4 MB.
const MAX_MOVED: usize = 65_536;

/// Within this time a take is over, one way or the other.
pub const TAKE_WITHIN: Duration = Duration::from_millis(1500);

/// What has become of a take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The session is here, without a connection.
    Here,
    /// It is not to be had: it has ended, or is in a named room, or is too large.
    Refused,
    /// The secret of the token is wrong.
    Forged,
    /// The client's position is too old. The session has ended, and its seat in a room of two waits for the room ticket.
    TooOld,
    /// The other node did not answer in time.
    Timeout,
}

impl Taken {
    /// The metric label.
    fn label(self) -> &'static str {
        match self {
            Self::Here => "taken",
            Self::Refused => "refused",
            Self::Forged => "forged",
            Self::TooOld => "too_old",
            Self::Timeout => "timeout",
        }
    }
}

/// A take under way. When this is dropped the session may still come, and stays without a connection.
pub struct Taking {
    /// What has become of it; at the latest after [`TAKE_WITHIN`]. An error: a later request for the session has replaced
    /// this one.
    pub answer: oneshot::Receiver<Taken>,
}

/// Each token of a session is asked for by itself: who knows only the session's id cannot disturb its user.
type Key = (SessionId, Hash);

/// The sessions that are on their way to or from this node.
#[derive(Default)]
pub struct Takes(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// To this node.
    coming: BTreeMap<Key, Coming>,
    /// From this node: when something is due.
    going: BTreeMap<SessionId, Instant>,
    /// Where sessions of this node have gone.
    moved: BTreeMap<SessionId, NodeId>,
    moved_at: VecDeque<(Instant, SessionId)>,
    /// Sessions that nobody carries, and that need a task that keeps their time.
    unkept: Vec<Arc<Resumable>>,
}

/// A session that is to come.
struct Coming {
    take: u64,
    /// Who is asked.
    node: NodeId,
    after: Option<u64>,
    /// Whether the node that was asked has named another one.
    redirected: bool,
    /// When to ask again: the user is being matched.
    again_at: Option<Instant>,
    until: Instant,
    parts: Parts,
    /// Made, and not ours yet.
    made: Option<receive::Made>,
    held: Option<Box<dyn HeldAddress>>,
    address: UserAddress,
    answer: Option<oneshot::Sender<Taken>>,
}

/// What a frozen session knows of its take.
pub(super) struct Moving {
    take: u64,
    to: NodeId,
    /// The number of the last message in the state.
    last: u64,
    /// The room in the state.
    room: Option<RoomId>,
    /// When it is unfrozen, or, once B has it, when C is waited for no more.
    until: Instant,
    /// B has it: there is no way back.
    is_owned: bool,
    /// C has been told.
    told: bool,
    /// Whether the user is still in the room, which has followed; `None`: it has not yet.
    in_room: Option<bool>,
    /// Where the partner is, who may go on, too.
    partner_at: Option<NodeId>,
    /// Whether the session took no more messages before.
    took_no_more: bool,
}

#[derive(Serialize, Deserialize)]
struct TakeBody {
    take: u64,
    hash: Hash,
    after: Option<u64>,
}

/// Why there is no session for B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Why {
    Refused,
    Forged,
    TooOld,
    /// The user is being matched at this moment.
    Again,
    /// It has gone to another node.
    Moved([u8; 8]),
}

#[derive(Serialize, Deserialize)]
struct NotTakenBody {
    take: u64,
    why: Why,
}

#[derive(Serialize, Deserialize)]
struct MovedBody {
    take: u64,
    to: [u8; 8],
}

impl Takes {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions that need a task that keeps their time, each once.
    pub fn unkept(&self) -> Vec<Arc<Resumable>> {
        std::mem::take(&mut self.lock().unkept)
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        let table = self.lock();
        table.coming.is_empty() && table.going.is_empty() && table.unkept.is_empty()
    }

    /// Where a session of this node has gone lately.
    pub fn moved_to(&self, session: SessionId) -> Option<NodeId> {
        self.lock().moved.get(&session).copied()
    }

    /// Whether a session is on its way here, as far as that is known.
    fn is_coming(&self, session: SessionId) -> bool {
        let table = self.lock();
        let mut of_session = table.coming.range((session, Hash::default())..);
        of_session.next().is_some_and(|(key, _)| key.0 == session)
    }

    fn remember(&self, session: SessionId, node: NodeId, now: Instant) {
        let mut table = self.lock();
        table.going.remove(&session);
        if table.moved_at.len() >= MAX_MOVED
            && let Some((_, oldest)) = table.moved_at.pop_front()
        {
            table.moved.remove(&oldest);
        }
        table.moved_at.retain(|(_, moved)| *moved != session);
        table.moved.insert(session, node);
        table.moved_at.push_back((now, session));
    }

    /// The session is here again, or here at last.
    fn is_here(&self, session: SessionId) {
        let mut table = self.lock();
        if table.moved.remove(&session).is_some() {
            table.moved_at.retain(|(_, moved)| *moved != session);
        }
    }

    pub(super) fn keep(&self, session: &Arc<Resumable>) {
        self.lock().unkept.push(session.clone());
    }
}

impl Context {
    /// Takes a frame of another node. Frames of one node come in the order in which it sent them. A frame that cannot be read is
    /// counted and dropped.
    pub fn frame(self: &Arc<Self>, node: NodeId, frame: &Frame<'_>, now: Instant) {
        let taken = match FrameKind::of(frame.kind) {
            Some(FrameKind::Take) => self.asked(node, frame, now),
            Some(FrameKind::State) => self.told_state(node, frame, now),
            Some(FrameKind::NotTaken) => self.told_not_taken(node, frame, now),
            Some(FrameKind::Owned) => self.told_owned(node, frame, now),
            Some(FrameKind::Moved) => self.told_moved(node, frame, now),
            Some(FrameKind::Followed) => self.told_followed(node, frame, now),
            Some(FrameKind::Rest) => self.told_rest(node, frame, now),
            _ if self.named_rooms.frame(node, frame, now) => return,
            _ => return self.matchmaker.frame(node, frame, now),
        };
        if taken.is_none() {
            self.metrics.dropped("bad_frame", 1);
        }
    }

    /// Does what is due in takes; to be called ten times a second on a node of a cluster. Then [`Takes::unkept`] is to be asked.
    pub fn tick_takes(&self, now: Instant) {
        let (coming, going) = {
            let mut table = self.takes.lock();
            while let Some(&(at, session)) = table.moved_at.front()
                && now >= at + MOVED_FOR
            {
                table.moved_at.pop_front();
                table.moved.remove(&session);
            }
            let due = |until: &Instant| now >= *until;
            let coming = table.coming.iter().filter(|(_, coming)| {
                due(&coming.until) || coming.again_at.as_ref().is_some_and(due)
            });
            let coming: Vec<_> = coming.map(|(key, coming)| (*key, coming.take)).collect();
            let going = table.going.iter().filter(|(_, until)| due(until));
            (coming, going.map(|(id, _)| *id).collect::<Vec<_>>())
        };
        for (key, take) in coming {
            self.coming_due(key, take, now);
        }
        for session in going {
            self.going_due(session, now);
        }
    }

    fn say_not_taken(&self, node: NodeId, session: SessionId, take: u64, why: Why) {
        let body = serde_json::to_vec(&NotTakenBody { take, why }).unwrap_or_default();
        self.say(node, FrameKind::NotTaken, session, &body);
    }

    /// What is lost of it ends with a time-out.
    fn say(&self, node: NodeId, kind: FrameKind, session: SessionId, body: &[u8]) {
        let _ = self.matchmaker.tell(node, &about(kind, session, body));
    }
}

fn about(kind: FrameKind, session: SessionId, body: &[u8]) -> Frame<'_> {
    Frame {
        kind: kind as u8,
        room: RoomId(0),
        to: session,
        from: session,
        body,
        age: Duration::ZERO,
    }
}

fn number(take: u64) -> [u8; 8] {
    take.to_be_bytes()
}

fn read_number(body: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(body.try_into().ok()?))
}
