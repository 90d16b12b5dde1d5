//! Matching across nodes, one node's part: events in, actions out. It does no I/O, reads no clock and holds no lock.
//!
//! An engine (Redis, Valkey) keeps an *index* of who waits, in one order for all nodes. The index may be wrong or lost at any
//! moment: the node that owns a waiting session decides, by comparing and changing the ticket's fate in one step. So no
//! fault can match anybody twice; what faults can do is to leave half a room alone or a ticket out of the index, and
//! the rules below put that right. `cluster_model` plays them against faults, and fails if one is left out.
//!
//! - A node is alive as long as its beat moves ([`membership`]).
//! - What is asked of the index is gathered into calls, one at a time ([`index`]).
//! - A partner on another node is asked: propose, then accept or refuse ([`Claims`]).
//! - Both nodes compare the rooms that they share ([`HalfRooms`]).
//!
//! [`Claims`] and [`HalfRooms`] are the matchmaker's own. The rest stands for what the cluster's crate does.
//!
//! Times are durations since any fixed moment of the node's own monotonic clock, unless they are named as the
//! engine's, which are microseconds of its wall clock.

mod host;
mod index;
mod membership;
mod rooms;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) use voicematch_protocol::RoomId;
use voicematch_protocol::SessionId;

pub(super) use super::claims::Now;
use super::{
    claims::{Claims, Refusal},
    halves::{HalfRooms, Rooms},
};
pub(super) use crate::cluster::{NodeId, TicketId};

use index::Index;
pub(super) use index::{Answer, Call, Operation, OperationKind};
pub(super) use membership::{BeatAnswer, Mark};
use membership::{Change, Membership};
use rooms::Link;

/// A pool, narrower ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pool {
    pub(super) level: u8,
    pub(super) name: u64,
}

/// Who looks for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seeker {
    pub(super) session: SessionId,
    pub(super) person: u64,
    /// Sessions and persons that they may not meet.
    pub(super) avoided: Vec<u64>,
    /// From narrow to wide.
    pub(super) pools: Vec<Pool>,
}

impl Seeker {
    fn avoids(&self, session: SessionId, person: u64) -> bool {
        self.person == person
            || self.session == session
            || self.avoided.contains(&session.0)
            || self.avoided.contains(&person)
    }

    /// Whether two may meet, leaving their pools aside.
    pub(super) fn fits(&self, other: &Self) -> bool {
        !self.avoids(other.session, other.person) && !other.avoids(self.session, self.person)
    }

    /// The narrowest level of the pools in which both stand.
    pub(super) fn shared_level(&self, other: &Self) -> Option<u8> {
        let shared = self.pools.iter().filter(|pool| other.pools.contains(pool));
        shared.map(|pool| pool.level).min()
    }
}

/// What nodes say to each other. `asks`: the receiver answers if it would be silent otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// `until`: the engine's time after which it is refused.
    Propose {
        room: RoomId,
        from: SessionId,
        person: u64,
        to: TicketId,
        until: u64,
    },
    Accept {
        room: RoomId,
        from: SessionId,
        person: u64,
    },
    Refuse {
        room: RoomId,
        why: Refusal,
    },
    /// `ticket`: who was asked, and may still wait.
    Revoke {
        room: RoomId,
        ticket: Option<TicketId>,
    },
    Leave {
        room: RoomId,
    },
    /// A ticket was taken out of the index by who can no longer take it.
    PutBack {
        ticket: TicketId,
    },
    KeepAlive {
        rooms: u64,
        asks: bool,
    },
    Rooms(Rooms),
}

/// What a node has to do after an event, in order.
#[derive(Debug)]
pub(super) enum Action {
    Beat {
        me: NodeId,
        number: u64,
        sent: Now,
    },
    /// `value`: the beat that stood still; none: there was no entry.
    Bury {
        node: NodeId,
        value: Option<u64>,
        generation: u64,
    },
    Call(Call),
    Probe(u64),
    Send {
        to: NodeId,
        frame: Frame,
    },
    Matched {
        ticket: TicketId,
        room: RoomId,
        peer: SessionId,
        peer_person: u64,
        /// None: the peer is here.
        peer_node: Option<NodeId>,
        initiator: bool,
    },
    Cancelled(TicketId),
    /// Half of a room ends: the peer has left or is lost.
    Ended {
        room: RoomId,
        session: SessionId,
    },
}

/// The rules whose absence the model shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Only who waits can be claimed, in one step.
    Swap,
    Lease,
    Until,
    Revoke,
    Tombstone,
    CheckPosted,
    CompareRooms,
    AnswerKeepAlive,
    BuryAgain,
    BuryAbsent,
    SlowBeats,
    LookAfterSuspicion,
    RecheckApart,
    CallDeadline,
    WithdrawAgain,
    /// The check looks at the pools too; a rule of the engine's script.
    CheckPools,
}

/// A wish to be matched, as its node knows it.
struct Ticket {
    seeker: Seeker,
    since: Now,
    fate: Fate,
    /// Its next look in the index.
    look: Look,
    /// How many calls may have posted it since it was last known to be in no pool.
    posts: u32,
    /// The index has been asked, so that an older state of it may hold the ticket.
    was_asked: bool,
    posted_at: Now,
    check_at: Now,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    /// Somebody on another node is asked.
    Offered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    None,
    Queued,
    /// `again`: once more after this one, since something has changed.
    Asked {
        again: bool,
    },
}

/// What has happened, for metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Frames that were judged, by whatever life.
    pub(super) handled: u64,
    pub(super) proposed: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) given_up: u64,
    /// An answer came to an offer that is no longer there.
    pub(super) late_accepts: u64,
    pub(super) put_back: u64,
    pub(super) lives: u64,
    /// Halves that were ended since the other node did not have theirs.
    pub(super) lost_halves: u64,
    pub(super) inbox_dropped: u64,
}

/// The most frames that wait for the next beat.
const INBOX_FRAMES: usize = 4096;

/// One node's part in matching across nodes.
pub(super) struct ClaimProtocol {
    left_out: &'static [Rule],
    now: Now,
    membership: Membership,
    index: Index,
    tickets: BTreeMap<TicketId, Ticket>,
    claims: Claims,
    halves: HalfRooms<SessionId>,
    /// Offers whose users have gone: an answer to those is not too late.
    withdrawn: BTreeSet<RoomId>,
    links: BTreeMap<NodeId, Link>,
    next_keep_alive: Now,
    inbox: VecDeque<(NodeId, Frame)>,
    next_room: u64,
    actions: Vec<Action>,
    counts: Counts,
}

impl ClaimProtocol {
    /// `process` and `first_room` are random; rooms are numbered from there.
    pub(super) fn new(process: u64, first_room: u64, left_out: &'static [Rule], now: Now) -> Self {
        Self {
            left_out,
            now,
            membership: Membership::new(NodeId { process, life: 0 }, now),
            index: Index::new(now),
            tickets: BTreeMap::new(),
            claims: Claims::default(),
            halves: HalfRooms::default(),
            withdrawn: BTreeSet::new(),
            links: BTreeMap::new(),
            next_keep_alive: now,
            inbox: VecDeque::new(),
            next_room: first_room,
            actions: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn holds(&self, rule: Rule) -> bool {
        !self.left_out.contains(&rule)
    }

    pub(super) fn me(&self) -> NodeId {
        self.membership.me()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn has_lease(&self, now: Now) -> bool {
        self.membership.has_lease(now)
    }

    /// Who waits, and is not offered to anybody.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (TicketId, &Seeker)> {
        let waiting = self.tickets.iter();
        let waiting = waiting.filter(|(_, ticket)| ticket.fate == Fate::Waiting);
        waiting.map(|(id, ticket)| (*id, &ticket.seeker))
    }

    /// What is to be done after the events so far.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn send(&mut self, to: NodeId, frame: Frame) {
        self.actions.push(Action::Send { to, frame });
    }

    /// Does what is due. Call it at [`Self::next_tick`], or later.
    pub(super) fn tick(&mut self, now: Now) {
        self.now = now;
        if let Some((me, number)) = self.membership.beat(now) {
            let beat = Action::Beat {
                me,
                number,
                sent: now,
            };
            self.actions.push(beat);
        }
        self.tick_index();
        self.claims(|claims, host| claims.tick(host));
        self.tick_rooms();
    }

    /// When there is something to do without an event.
    pub(super) fn next_tick(&self) -> Now {
        let first = [self.membership.next_beat(), self.next_keep_alive];
        let times = first.into_iter().chain(self.claims.next_tick());
        times
            .chain(self.next_of_index())
            .min()
            .unwrap_or(self.next_keep_alive)
    }

    /// The answer to a beat. `me` and `sent` are those of the beat: the lease counts from when it was sent, since the others
    /// have seen it after that.
    pub(super) fn beat_answered(&mut self, me: NodeId, sent: Now, answer: BeatAnswer, now: Now) {
        self.now = now;
        let slow_beats = self.holds(Rule::SlowBeats);
        if me != self.me() || self.membership.is_overdue(sent, now, slow_beats) {
            return;
        }
        let again = self.holds(Rule::BuryAgain);
        let absent = self.holds(Rule::BuryAbsent);
        for change in self.membership.answered(sent, answer, now, again, absent) {
            match change {
                Change::NewLife => self.begin_life(),
                Change::DataLost => self.post_all(),
                Change::Died(node) => self.died(node),
                Change::Bury {
                    node,
                    value,
                    generation,
                } => self.actions.push(Action::Bury {
                    node,
                    value,
                    generation,
                }),
            }
        }
        while self.may_handle()
            && let Some((from, frame)) = self.inbox.pop_front()
        {
            self.handle(from, frame);
        }
    }

    /// Whether a wish to bury somebody was granted.
    pub(super) fn bury_answered(&mut self, node: NodeId, buried: bool, now: Now) {
        self.now = now;
        if buried && self.membership.died(node, now) {
            self.died(node);
        }
    }

    /// The others have buried this node. Nothing to or from the old life counts: offers and remote rooms end, and who
    /// waits is posted anew.
    fn begin_life(&mut self) {
        self.counts.lives += 1;
        self.inbox.clear();
        self.links.clear();
        self.end_halves(|_| true);
        self.claims(|claims, host| claims.begin_life(host));
        self.post_all();
    }

    fn died(&mut self, node: NodeId) {
        self.begin_sweep();
        self.links.remove(&node);
        self.halves.forget(node);
        self.end_halves(|half| half.node == node);
        self.claims(|claims, host| claims.died(host, node));
    }

    /// Without a lease a node may have been buried, and its rooms and offers with it: then no frame is judged.
    fn may_handle(&self) -> bool {
        !self.holds(Rule::Lease) || self.membership.has_lease(self.now)
    }

    /// A frame from another node. Without a lease it waits for the next beat: being cut off is not being dead.
    pub(super) fn frame(&mut self, from: NodeId, to: NodeId, frame: Frame, now: Now) {
        self.now = now;
        if to != self.me() {
            return;
        }
        if self.may_handle() && self.inbox.is_empty() {
            return self.handle(from, frame);
        }
        if self.inbox.len() == INBOX_FRAMES {
            self.counts.inbox_dropped += 1;
            self.inbox.pop_front();
        }
        self.inbox.push_back((from, frame));
    }

    fn handle(&mut self, from: NodeId, frame: Frame) {
        self.counts.handled += 1;
        if self.membership.is_dead(from) {
            return;
        }
        self.heard(from);
        match frame {
            Frame::Propose {
                room,
                from: session,
                person,
                to,
                until,
            } => self.claims(|claims, host| {
                claims.proposed(host, from, room, &(session, person), (to, until));
            }),
            Frame::Accept {
                room,
                from: session,
                person,
            } => self.claims(|claims, host| claims.accepted(host, from, room, &(session, person))),
            Frame::Refuse { room, .. } => {
                self.claims(|claims, host| claims.refused(host, from, room));
            }
            Frame::Revoke { room, ticket } => {
                self.claims(|claims, host| claims.was_revoked(host, from, room, ticket));
            }
            Frame::Leave { room } => self.claims(|claims, host| claims.left(host, from, room)),
            Frame::PutBack { ticket } => self.put_back(ticket),
            Frame::KeepAlive { rooms, asks } => self.kept_alive(from, rooms, asks),
            Frame::Rooms(rooms) => self.compare(from, &rooms),
        }
    }

    fn claims(&mut self, event: impl FnOnce(&mut Claims, &mut Self)) {
        let mut claims = std::mem::take(&mut self.claims);
        event(&mut claims, self);
        self.claims = claims;
    }
}
