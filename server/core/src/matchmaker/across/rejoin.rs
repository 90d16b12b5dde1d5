//! Rooms of two that go on although the node of one of the users is gone: with their ticket they come to another node. The half
//! that lives decides.
//!
//! P is the node that had the user, C that of the partner, X the one to which the user comes.
//!
//! 1. X asks C, each 2 s, as long as the user waits: 20 s, as for a room that is pending.
//! 2. C keeps the seat for a while if P has died, or has sent the user away, and both users are resumable: the half is an
//!    *orphan*. The newcomer has its seat at once.
//! 3. If P lives, C asks it whether the user is still there, and waits for a second. If they are, they resume; else the
//!    newcomer has the seat, and P is told that its user was replaced.
//! 4. If C is gone too, X writes down in the engine who waits. The second to come finds the first there, and asks
//!    their node as in 1.
//!
//! C and X may be one node.

mod seat;
mod seeker;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use voicematch_protocol::{ErrorCode, RoomId, SessionId};

use super::{
    super::{
        Matchmaker,
        claims::{Host, Now},
        halves,
    },
    LOST,
    frames::frame,
    here,
    host::Here,
};
use crate::{
    cluster::{Frame, FrameKind, NodeId},
    process::ProcessId,
    room::{Mate, Member, Room, pending::WAIT},
};

/// How long C waits for P.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// How often X asks: C may have to ask P first.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What a ticket says of a match, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    pub room: RoomId,
    /// The session that had the seat.
    pub session: SessionId,
    /// 0: it made the offer.
    pub seat: u8,
    pub partner: SessionId,
    /// The process that has the partner.
    pub process: ProcessId,
}

/// What has become of a ticket at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// The user has it, and has been told.
    Taken,
    /// The room has ended.
    Ended,
    /// That is to be asked elsewhere: the user waits, and [`Matchmaker::ask_for_seat`] is called.
    Asked,
}

/// Why a user does not have the seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotSeated {
    Ended = 0,
    UseResume = 1,
}

impl NotSeated {
    fn error(self) -> (ErrorCode, &'static str) {
        match self {
            Self::Ended => (ErrorCode::RoomClosed, "this room has ended"),
            Self::UseResume => (
                ErrorCode::UseResume,
                "the session of this ticket is still in the room; it goes on with its resume token",
            ),
        }
    }
}

/// The user of a seat is lost; it is kept for their ticket.
struct Orphan {
    here: Arc<Room>,
    process: u64,
    until: Now,
}

/// Somebody who wants a seat.
#[derive(Clone)]
struct Newcomer {
    session: SessionId,
    /// The session that had the seat.
    former: SessionId,
    seat: u8,
    from: From,
}

#[derive(Clone)]
enum From {
    Here(Arc<Member>),
    There(NodeId, Mate),
}

/// The node of the one who had the seat is asked.
struct Asked {
    node: NodeId,
    newcomer: Newcomer,
    until: Now,
}

/// One of this node who waits for the partner.
struct Seeker {
    member: Arc<Member>,
    shown: Shown,
    /// The `id` of the request.
    id: Option<Box<RawValue>>,
    again_at: Now,
    until: Now,
    /// Who was asked last.
    asked: Option<NodeId>,
    /// The partner is at the node that they had no more.
    partner_gone: bool,
}

/// Seats that are kept, asked about or looked for.
#[derive(Default)]
pub(super) struct Rejoins {
    orphans: BTreeMap<RoomId, Orphan>,
    asked: BTreeMap<RoomId, Asked>,
    seekers: BTreeMap<RoomId, Seeker>,
}

impl Rejoins {
    /// The user who is here has left the room.
    pub(super) fn forget(&mut self, room: RoomId) {
        self.orphans.remove(&room);
    }

    /// Takes an orphan out whose other user was of this process.
    pub(super) fn orphan_of(&mut self, process: u64, room: RoomId) -> Option<Arc<Room>> {
        let orphan = self.orphans.get(&room);
        orphan.filter(|orphan| orphan.process == process)?;
        self.orphans.remove(&room).map(|orphan| orphan.here)
    }

    pub(super) fn next_tick(&self) -> Option<Now> {
        let orphans = self.orphans.values().map(|orphan| orphan.until);
        let asked = self.asked.values().map(|asked| asked.until);
        let seekers = self.seekers.values().map(|seeker| seeker.again_at);
        orphans.chain(asked).chain(seekers).min()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Wants {
    /// The session that had the seat.
    former: SessionId,
    seat: u8,
    mate: Mate,
}

impl Matchmaker {
    /// A user of this node shows a ticket of another process. Whether the room is here.
    pub fn take_seat(&self, member: &Arc<Member>, shown: &Shown, now: Instant) -> Seat {
        let mut seat = Seat::Asked;
        self.judge(now, LOST, |_, here| {
            let room = shown.room;
            let is_here = shown.process == here.me().process_id();
            if here.rejoins.orphans.contains_key(&room) {
                seat = match here.admit(room, &newcomer(member, shown)) {
                    Ok(()) => Seat::Taken,
                    Err(_) => Seat::Ended,
                };
            } else if let Some(half) = here.halves.get(room) {
                let had = there(&half.here).id == shown.session;
                if !had {
                    seat = Seat::Ended;
                }
            } else if is_here {
                seat = Seat::Ended;
            }
        });
        seat
    }

    /// The user waits for the partner: looks for them. `id`: that of the request.
    pub fn ask_for_seat(
        &self,
        member: &Arc<Member>,
        shown: &Shown,
        id: Option<&RawValue>,
        now: Instant,
    ) {
        self.judge(now, LOST, |_, here| {
            let now = here.elapsed();
            let seeker = Seeker {
                member: member.clone(),
                shown: *shown,
                id: id.map(RawValue::to_owned),
                again_at: now,
                until: now + WAIT,
                asked: None,
                partner_gone: false,
            };
            here.rejoins.seekers.insert(shown.room, seeker);
            here.seek_partner(shown.room);
        });
    }

    /// The partner of one who waits here has been written down by their node.
    pub fn seat_found(&self, room: RoomId, node: NodeId, session: SessionId, now: Instant) {
        self.judge(now, LOST, |_, here| {
            if let Some(seeker) = here.rejoins.seekers.get_mut(&room) {
                seeker.partner_gone = true;
                here.ask(room, node, session);
            }
        });
    }

    pub(super) fn take_rejoin(&self, node: NodeId, told: &Frame<'_>, now: Instant) -> Option<()> {
        let (room, body) = (told.room, told.body);
        match FrameKind::of(told.kind)? {
            FrameKind::Rejoin => {
                let wants: Wants = serde_json::from_slice(body).ok()?;
                let newcomer = Newcomer {
                    session: told.from,
                    former: wants.former,
                    seat: wants.seat.min(1),
                    from: From::There(node, wants.mate),
                };
                self.judge(now, LOST, |_, here| here.wanted(room, newcomer));
            }
            FrameKind::Rejoined => {
                let mate: Mate = serde_json::from_slice(body).ok()?;
                let who = (told.to, told.from);
                self.judge(now, LOST, |_, here| here.rejoined(node, room, who, &mate));
            }
            FrameKind::NotRejoined => {
                let why = match body {
                    [1] => NotSeated::UseResume,
                    _ => NotSeated::Ended,
                };
                self.judge(now, LOST, |_, here| {
                    here.not_rejoined(node, room, told.to, why);
                });
            }
            FrameKind::IsThere => self.judge(now, LOST, |_, host| {
                let half = host.halves.get(room).filter(|half| half.node == node);
                let is_there = half.is_some_and(|half| {
                    let member = here(&half.here);
                    member.id == told.to && !member.is_vacant() && !member.is_adrift()
                });
                let body = [u8::from(is_there)];
                let answer = frame(FrameKind::There, room, &body);
                host.across.say(node, &answer);
            }),
            FrameKind::There => {
                let is_there = body == [1];
                self.judge(now, LOST, |_, here| here.is_there(node, room, is_there));
            }
            _ => return None,
        }
        Some(())
    }
}

fn newcomer(member: &Arc<Member>, shown: &Shown) -> Newcomer {
    Newcomer {
        session: member.id,
        former: shown.session,
        seat: shown.seat,
        from: From::Here(member.clone()),
    }
}

/// The user of a room who is not here.
pub(super) fn there(room: &Room) -> &Arc<Member> {
    room.peer_of(here(room).id)
}

impl Here<'_> {
    /// The user of a half who is there is lost with their node, or was sent away by it.
    pub(super) fn lose(&mut self, room: RoomId, half: halves::Half<Arc<Room>>) {
        let keep_for = self.matchmaker.config.get().keep_seat_for;
        let mut members = half.here.members().iter();
        if keep_for.is_zero() || !members.all(|member| member.is_resumable()) {
            return self.end(&half.here);
        }
        let orphan = Orphan {
            here: half.here,
            process: half.node.process,
            until: self.elapsed() + keep_for,
        };
        self.rejoins.orphans.insert(room, orphan);
    }

    /// A node has died that was asked whether its users are still there.
    pub(super) fn seats_of_the_dead(&mut self, node: NodeId) {
        let asked = self
            .rejoins
            .asked
            .extract_if(.., |_, asked| asked.node == node);
        for (room, asked) in asked.collect::<Vec<_>>() {
            self.settle(room, &asked.newcomer);
        }
        // Partners may be written down now.
        let rooms: Vec<_> = self.rejoins.seekers.keys().copied().collect();
        for room in rooms {
            let seeker = self.rejoins.seekers.get(&room);
            if seeker.is_some_and(|seeker| seeker.asked == Some(node)) {
                self.seek_partner(room);
            }
        }
    }

    pub(super) fn tick_rejoins(&mut self) {
        let now = self.elapsed();
        let orphans = self
            .rejoins
            .orphans
            .extract_if(.., |_, orphan| orphan.until <= now);
        for (_, orphan) in orphans.collect::<Vec<_>>() {
            self.end(&orphan.here);
        }
        let asked = self
            .rejoins
            .asked
            .extract_if(.., |_, asked| asked.until <= now);
        for (room, asked) in asked.collect::<Vec<_>>() {
            self.settle(room, &asked.newcomer);
        }
        let pending = &self.across.pending;
        (self.rejoins.seekers)
            .retain(|room, seeker| now < seeker.until && pending.waits(*room, seeker.member.id));
        let due = self.rejoins.seekers.iter();
        let due = due.filter(|(_, seeker)| seeker.again_at <= now);
        for room in due.map(|(room, _)| *room).collect::<Vec<_>>() {
            self.seek_partner(room);
        }
    }
}
