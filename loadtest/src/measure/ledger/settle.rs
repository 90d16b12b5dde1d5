//! Closes the books of a room as soon as both of its members are out of it, so that rooms may come and go
//! without end in the same memory.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use derive_more::AddAssign;
use serde::{Deserialize, Serialize};

use super::{Stay, recent::UNDER_WAY};
use crate::measure::{
    message::{Direction, Kind},
    reach::{NodeId, Pairs, Reach},
};

/// Rooms of which one member is known and the other awaited. The oldest beyond are settled as one-sided, or, if
/// the other may be in another shard of the run, as unknown.
const MAX_OPEN: usize = 200_000;
/// Settled rooms that are kept in mind, so that a third member is seen.
const MAX_REMEMBERED: usize = 65_536;

/// How long the news that a server is lost may take.
const NEWS: Duration = Duration::from_secs(10);

/// What became of the messages of one type in one direction.
#[derive(AddAssign, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Received by the partner at least once.
    pub delivered: u64,
    /// Never received, though the partner was there.
    pub lost: u64,
    /// Never received, because the server of the sender or of the receiver was lost.
    #[serde(default)]
    pub with_node: u64,
    /// Never received, because the partner had left or was leaving.
    pub undeliverable: u64,
    /// Under way when the sender was cut off or the run ended: neither delivered nor lost.
    pub pending: u64,
    /// Sent to a user whose own record is missing, or to a server that sends back some messages only.
    pub unknown: u64,
}

/// Where the two users of a room were told what cannot both be true.
#[derive(AddAssign, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradictions {
    /// Users who were told that their partner left, and the partner was there.
    pub partner_was_there: u64,
    /// Users who were not told that their partner left.
    pub untold_leaves: u64,
    /// Users of rooms in which both, or neither, were to make the offer.
    pub same_roles: u64,
    /// Users to whom another session than their partner's was named.
    pub wrong_peers: u64,
}

/// A user who was told late that the server of their partner was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateNews {
    pub room: u64,
    /// Where the partner's connection broke, and when.
    pub node: NodeId,
    pub broke: Duration,
    pub told: Duration,
}

impl LateNews {
    /// What one of the two users of a room was told of the other.
    fn of(user: &Stay, partner: &Stay) -> Option<Self> {
        let &(node, broke) = partner.breaks.last()?;
        let told = user.partner_left && !partner.partner_left && !user.cut_off;
        let late = user.left > broke.saturating_add(NEWS);
        (partner.node_lost && told && late).then_some(Self {
            room: user.room,
            node,
            broke,
            told: user.left,
        })
    }
}

/// All rooms of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    pub scope: Scope,
    pub settled: [[Settled; Direction::ALL.len()]; Kind::MAX],
    /// Rooms of two, by [`Reach`].
    pub pairs: [Pairs; Reach::ALL.len()],
    /// Of those that are lost, how many no gap told of while the run was on.
    pub unreported: u64,
    /// Refused with `not_in_room` although the partner had not left; these are lost.
    pub wrongly_refused: u64,
    /// Answered with `relay_lost` although the partner's server was not lost; these are lost, too.
    pub wrongly_lost: u64,
    /// Rooms that only one user was told of.
    pub one_sided_rooms: u64,
    /// Users in rooms of more than two.
    pub crowded_users: u64,
    pub contradictions: Contradictions,
    /// Messages that came again because a server was lost: its users say again what it may not have taken.
    pub said_again: u64,
    /// Users who were told late that their partner's server was lost, since this was taken.
    pub late_news: Vec<LateNews>,
    /// When servers were lost: from the first connection that was gone to the last.
    pub losses: Vec<[Duration; 2]>,
    /// Users whose partner's record is missing.
    pub unknown_stays: u64,
    /// Some of those were given up because too many waited.
    pub forgotten: bool,
    pub(super) open: HashMap<u64, Stay>,
    opened: VecDeque<u64>,
    pub(super) closed: HashMap<u64, Closed>,
    closed_order: VecDeque<u64>,
}

/// What a ledger is to know of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// All users of a run.
    #[default]
    Whole,
    /// Those of one shard.
    Shard,
    /// Those of several shards, which each have kept what a ledger keeps.
    Shards,
}

/// A room that is settled.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Closed {
    /// When both of its members were in it.
    pub from: Duration,
    /// When the first of them left.
    pub at: Duration,
    pub crowded: bool,
}

impl Ledger {
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    /// Enters one stay.
    pub fn add(&mut self, stay: Stay) {
        if stay.foreign {
            return self.unknown(&stay);
        }
        if stay.direction == Direction::ToServer {
            return self.settle(&stay, &stay, None);
        }
        if let Some(partner) = self.open.remove(&stay.room) {
            let reach = Reach::of(stay.node, partner.node);
            self.settle(&stay, &partner, Some(reach));
            self.settle(&partner, &stay, Some(reach));
            let pairs = &mut self.pairs[reach as usize];
            pairs.rooms += 1;
            let searched = [stay.searched, partner.searched].into_iter().flatten();
            searched.for_each(|time| pairs.matching.record(time));
            self.contradictions += Contradictions::of(&stay, &partner);
            let late = [(&stay, &partner), (&partner, &stay)];
            let late = late.map(|(user, partner)| LateNews::of(user, partner));
            self.late_news.extend(late.into_iter().flatten());
            if stay.node_lost || partner.node_lost {
                let again = [&stay.inbox, &partner.inbox].map(|inbox| u64::from(inbox.duplicates));
                self.said_again += again[0] + again[1];
            }
            let from = stay.joined.max(partner.joined);
            self.remember(stay.room, from, stay.left.min(partner.left));
            return;
        }
        // Overlapping in time: a new room under an old name is another room.
        let third = self
            .closed
            .get_mut(&stay.room)
            .filter(|room| stay.joined < room.at);
        if let Some(room) = third {
            self.crowded_users += if room.crowded { 1 } else { 3 };
            room.crowded = true;
            return self.unknown(&stay);
        }
        self.opened.push_back(stay.room);
        self.open.insert(stay.room, stay);
        self.forget_oldest();
    }

    /// Settles what still waits for a partner's record: there will be none, because nobody else was told of
    /// the room, or, if the records are not `complete`, perhaps because that one is missing.
    pub fn close(&mut self, complete: bool) {
        for (_, stay) in std::mem::take(&mut self.open) {
            if complete {
                self.one_sided(&stay);
            } else {
                self.unknown(&stay);
            }
        }
        self.opened.clear();
    }

    /// All types and directions together.
    pub fn total(&self) -> Settled {
        let mut all = Settled::default();
        for part in self.settled.iter().flatten() {
            all += *part;
        }
        all
    }

    /// What `sender` sent, against what `receiver` got. `reach`: `None` if there is nobody else.
    fn settle(&mut self, sender: &Stay, receiver: &Stay, reach: Option<Reach>) {
        let partner = receiver.inbox.partner;
        let heard = partner.is_none_or(|partner| partner == sender.user);
        // The server may hold for gone who does not know it yet.
        let left = match sender.partner_left {
            true => receiver.left.min(sender.left),
            false => receiver.left,
        };
        let mut lost = 0;
        // What was refused was answered, and does not come any more.
        let came = if heard { receiver.inbox.received() } else { 0 };
        let mut unanswered = u64::from(sender.sent_in_all()).saturating_sub(
            u64::from(came) + u64::from(sender.refused) + u64::from(sender.relays_lost),
        );
        for kind in 0..Kind::MAX {
            let sent = u64::from(sender.sent[kind]);
            let count = |counts: &[u32; Kind::MAX]| if heard { u64::from(counts[kind]) } else { 0 };
            let delivered = count(&receiver.inbox.unique).min(sent);
            let missing = sent - delivered;
            // Messages come in order, so one that is missing before the last that was received was lost on
            // the way, and one after it may have come when the partner had gone.
            let gaps = count(&receiver.inbox.next_nth)
                .saturating_sub(delivered)
                .min(missing);
            let mut part = Settled {
                delivered,
                ..Settled::default()
            };
            let after = missing - gaps;
            if sender.some_come_back {
                part.unknown = missing;
            } else if sender.cut_off && !sender.partner_left {
                (part.lost, part.pending) = (gaps, after);
            } else {
                // What had its time to come and did not is lost; the receiver left, or the run is over.
                if receiver.settled {
                    let in_time = match receiver.inbox.slow {
                        true => after,
                        false => sender.latest.in_time(after, receiver.left),
                    };
                    part.pending = in_time.min(unanswered);
                    unanswered -= part.pending;
                } else {
                    part.undeliverable = sender.latest.under_way(after, left);
                }
                part.lost = missing - part.undeliverable - part.pending;
            }
            if sender.node_lost || receiver.node_lost {
                part.with_node = std::mem::take(&mut part.lost);
                part.with_node += std::mem::take(&mut part.undeliverable);
                if sender.cut_off {
                    part.with_node += std::mem::take(&mut part.pending);
                }
            }
            lost += part.lost;
            self.settled[kind][sender.direction as usize] += part;
            if let Some(reach) = reach {
                self.pairs[reach as usize].settled += part;
            }
        }
        let reported = match heard && !sender.some_come_back {
            true => u64::from(receiver.inbox.missed()),
            false => 0,
        };
        self.unreported += lost.saturating_sub(reported);
        // At the end of the run the partner leaves when all is answered.
        if !sender.partner_left || sender.settled {
            self.wrongly_refused += u64::from(sender.refused).min(lost);
        }
        if !sender.node_lost && !receiver.node_lost {
            self.wrongly_lost += u64::from(sender.relays_lost);
        }
    }

    fn one_sided(&mut self, stay: &Stay) {
        // A user who gives up while the server matches them does not know of the room, and their partner
        // is told at once.
        let gave_up = stay.partner_left && stay.left.saturating_sub(stay.joined) < UNDER_WAY;
        // Who was to be told of it, or has told, was at a server that was lost.
        let gone = stay.node_lost || stay.partner_left && self.is_near_loss(stay.joined);
        self.one_sided_rooms += u64::from(!gave_up && !gone);
        let nobody = Stay {
            inbox: super::Inbox::default(),
            node_lost: gone,
            ..stay.clone()
        };
        self.settle(stay, &nobody, None);
    }

    fn is_near_loss(&self, at: Duration) -> bool {
        let near = |[from, gone]: &[Duration; 2]| at + NEWS >= *from && at <= *gone + NEWS;
        self.losses.iter().any(near)
    }

    fn unknown(&mut self, stay: &Stay) {
        self.unknown_stays += 1;
        for kind in 0..Kind::MAX {
            let settled = &mut self.settled[kind][stay.direction as usize];
            settled.unknown += u64::from(stay.sent[kind]);
        }
    }

    fn remember(&mut self, room: u64, from: Duration, at: Duration) {
        let closed = Closed {
            from,
            at,
            crowded: false,
        };
        if self.closed.insert(room, closed).is_none() {
            self.closed_order.push_back(room);
        }
        if self.scope != Scope::Shards
            && self.closed_order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.closed_order.pop_front()
        {
            self.closed.remove(&oldest);
        }
    }

    fn forget_oldest(&mut self) {
        // Rooms that were settled in the meantime are still in the order.
        while self.opened.len() > MAX_OPEN && self.scope != Scope::Shards {
            let oldest = self.opened.pop_front();
            match oldest.and_then(|room| self.open.remove(&room)) {
                Some(stay) if self.scope == Scope::Whole => self.one_sided(&stay),
                Some(stay) => {
                    self.forgotten = true;
                    self.unknown(&stay);
                }
                None => {}
            }
        }
    }
}

impl Contradictions {
    /// What the two users of a room were told, against each other.
    fn of(a: &Stay, b: &Stay) -> Self {
        let count =
            |wrong: fn(&Stay, &Stay) -> bool| u64::from(wrong(a, b)) + u64::from(wrong(b, a));
        Self {
            partner_was_there: count(|told, partner| {
                let left_first = partner.left <= told.left.saturating_add(UNDER_WAY);
                // When the server noticed that a connection was cut is not known here.
                let gone =
                    partner.cut_off || partner.node_lost || (!partner.partner_left && left_first);
                told.partner_left && !gone
            }),
            untold_leaves: count(|user, partner| {
                let told = user.partner_left || partner.partner_left;
                let cut_off = user.cut_off || partner.cut_off;
                // The servers that are left tell of the one that is lost.
                let (excused, news) = match partner.node_lost && !user.cut_off {
                    true => (false, user.latest.news().max(NEWS)),
                    false => (cut_off, user.latest.news()),
                };
                !excused && !told && user.left > partner.left.saturating_add(news)
            }),
            same_roles: count(|user, partner| user.direction == partner.direction),
            wrong_peers: count(|user, partner| match (user.peer, partner.session) {
                (Some(named), Some(session)) => {
                    named != session && !user.node_lost && !partner.node_lost
                }
                _ => false,
            }),
        }
    }
}
