//! What is done from time to time: who waits too long is told, and nodes compare what they know of the rooms that they share.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use voicematch_protocol::{RoomId, SessionId};

use super::{
    super::{NamedRoom, NamedRooms, roster::Numbered},
    Act, Home, Joiner, PATIENCE, Who,
    frames::Why,
};
use crate::{
    cluster::{Frame, NodeId},
    outbox::Batch,
};

/// How often a home that has not answered is asked again, and how often it is asked which node is home.
const AGAIN: Duration = Duration::from_secs(1);

/// How often nodes compare.
const COMPARE: Duration = Duration::from_secs(2);

/// Rooms that are compared at a time: 64,000 bytes.
const COMPARED: usize = 4 * super::frames::ROOMS;

/// For how long messages are held whose sender is not known yet.
const EARLY_FOR: Duration = Duration::from_secs(2);

/// Bytes of those, and how many.
const EARLY_BYTES: usize = 1 << 20;
const EARLY: usize = 1024;

/// What members have said of whom their home has not told yet.
#[derive(Default)]
pub(super) struct Early {
    held: VecDeque<Held>,
    bytes: usize,
}

struct Held {
    since: Instant,
    node: NodeId,
    room: RoomId,
    to: SessionId,
    from: SessionId,
    kind: u8,
    body: Box<[u8]>,
}

impl Early {
    fn pop(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.bytes -= held.body.len();
        Some(held)
    }
}

impl NamedRooms {
    /// Call it about ten times a second. `window`: for how long a session without a connection is kept, and the seat of a resumable
    /// member whose node has died.
    pub fn tick(&self, window: Duration, now: Instant) {
        self.act(now, |act| {
            act.judge.window = window;
            act.look_at_kept();
            act.look_at_restless();
            act.drop_early(|held, now| now >= held.since + EARLY_FOR);
            if act.judge.compared.is_none_or(|at| now >= at + COMPARE) {
                act.judge.compared = Some(now);
                // What waits would be old when it comes, and would take the room of what is not said again.
                if act.spread.cluster.bus.is_up() {
                    act.tell_digests();
                }
            }
        });
    }
}

impl NamedRoom {
    /// Hands on what a member of another node has said. `None`: no such member is known. False: nobody has heard it.
    pub(super) fn hear(
        &self,
        node: NodeId,
        frame: &Frame<'_>,
        batch: &Batch,
        now: Instant,
    ) -> Option<bool> {
        let roster = self.roster();
        let is_sender = |member: &&Numbered| {
            let there = member.there.as_ref();
            member.member.id == frame.from && there.is_some_and(|there| there.node == node)
        };
        roster.members.iter().find(is_sender)?;
        let for_all = frame.to == frame.from;
        let hears = |member: &&Numbered| for_all || member.member.id == frame.to;
        let heard = roster.here().filter(hears).map(|member| {
            // A refusal means that this user is being closed, and has been counted.
            let read_at = frame.read_at(now);
            let _ = member.member.outbox.send_batch(batch, Some(read_at));
        });
        Some(heard.count() > 0)
    }

    /// The same on two nodes that know the same of the room.
    pub(super) fn digest(&self) -> u64 {
        let roster = self.roster();
        // SplitMix64 (Steele, Lea, Flood 2014): each bit of the input changes half of the result.
        let mix = |x: u64| {
            let mut x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ x >> 31
        };
        let of = |member: &Numbered| {
            let place = u64::from(member.n).rotate_left(32) ^ member.seat;
            mix(mix(member.member.id.0) ^ place)
        };
        let members = roster.members.iter().map(of);
        members.fold(u64::from(roster.next), |all, one| all ^ one)
    }
}

impl Act<'_> {
    fn look_at_restless(&mut self) {
        let restless: Vec<_> = self.judge.restless.iter().cloned().collect();
        for name in restless {
            self.look_at(&name);
        }
    }

    fn look_at(&mut self, name: &str) {
        let (now, is_up) = (self.now, self.spread.cluster.homes.is_up());
        let Some(entry) = self.judge.names.get_mut(name) else {
            self.judge.restless.remove(name);
            return;
        };
        let is_late = |joiner: &mut Joiner| now >= joiner.since + PATIENCE;
        let late: Vec<_> = entry.waiting.extract_if(.., is_late).collect();
        let is_due = now >= entry.asked + AGAIN;
        match entry.home {
            Home::Unknown if !entry.asking && is_up && is_due => self.ask(name),
            Home::Unknown if !entry.asking && !is_up => self.found(name, None),
            // The answer was lost.
            Home::Unknown if now >= entry.asked + PATIENCE => entry.asking = false,
            Home::There(node) if is_due => {
                entry.asked = now;
                let waiting = std::mem::take(&mut entry.waiting);
                for joiner in &waiting {
                    self.say_join(node, name, joiner);
                }
                if let Some(entry) = self.judge.names.get_mut(name) {
                    entry.waiting = waiting;
                }
            }
            Home::Here => self.end_asking(name, None),
            _ => {}
        }
        for joiner in late {
            match &joiner.who {
                Who::Here { .. } => self.refuse(&joiner, Why::Unavailable),
                // Their own node tells them.
                Who::There { .. } => {}
            }
        }
        self.forget(name);
        let is_restless =
            |entry: &super::Name| !entry.waiting.is_empty() || entry.home == Home::Unknown;
        if !self.judge.names.get(name).is_some_and(is_restless) {
            self.judge.restless.remove(name);
        }
    }

    /// Tells the others what this node knows of rooms that it shares with them, some of them each time.
    fn tell_digests(&mut self) {
        let mut told: BTreeMap<(NodeId, bool), Vec<(RoomId, u64)>> = BTreeMap::new();
        let from = std::mem::take(&mut self.judge.next);
        let mut count = 0;
        for (name, entry) in self.judge.names.range(from..) {
            let Some(room) = &entry.room else { continue };
            if count >= COMPARED {
                self.judge.next = name.clone();
                break;
            }
            let mut add = |node, is_home| {
                count += 1;
                let rooms = told.entry((node, is_home)).or_default();
                rooms.push((room.id, room.digest()));
            };
            match entry.home {
                Home::Here => {
                    let roster = room.roster();
                    let nodes: Vec<_> = roster.nodes.iter().map(|way| way.node).collect();
                    drop(roster);
                    nodes.into_iter().for_each(|node| add(node, true));
                }
                Home::There(node) => add(node, false),
                Home::Unknown => {}
            }
        }
        for ((node, is_home), rooms) in told {
            self.say_digests(node, is_home, &rooms);
        }
    }

    /// What another node knows of rooms that it shares with this one.
    pub(super) fn compare(&mut self, node: NodeId, pairs: &[(RoomId, u64)], is_home: bool) {
        for &(id, digest) in pairs {
            let room = self.spread.rooms.get(&id).map(|room| room.value().clone());
            let home = room
                .as_ref()
                .and_then(|room| self.judge.names.get(&room.name));
            let home = home.map(|name| name.home);
            match (room, home) {
                (Some(room), Some(Home::Here)) if !is_home => {
                    if room.digest() != digest {
                        self.say_roster(&room, Some(node), &[]);
                    }
                }
                (Some(room), Some(Home::There(home))) if is_home && home == node => {
                    if room.digest() != digest {
                        self.say_here(node, &room);
                    }
                }
                (_, _) if !is_home => self.say_not_home(node, id),
                (Some(room), Some(_)) => self.ask(&room.name),
                _ => self.say_nobody(node, id),
            }
        }
    }

    /// Keeps a message until its sender is known.
    pub(super) fn hold(&mut self, node: NodeId, frame: &Frame<'_>) {
        let early = &mut self.judge.early;
        early.bytes += frame.body.len();
        early.held.push_back(Held {
            since: self.now,
            node,
            room: frame.room,
            to: frame.to,
            from: frame.from,
            kind: frame.kind,
            body: frame.body.into(),
        });
        self.drop_early(|_, _| false);
    }

    fn drop_early(&mut self, is_late: impl Fn(&Held, Instant) -> bool) {
        let early = &mut self.judge.early;
        let mut dropped = 0;
        while early.bytes > EARLY_BYTES
            || early.held.len() > EARLY
            || early
                .held
                .front()
                .is_some_and(|held| is_late(held, self.now))
        {
            if early.pop().is_none() {
                break;
            }
            dropped += 1;
        }
        if dropped > 0 {
            self.rooms.shared.metrics.dropped("peer_left", dropped);
        }
    }

    /// Hands on what was held of those who are in the room now.
    pub(super) fn release(&mut self, room: &NamedRoom) {
        if self
            .judge
            .early
            .held
            .iter()
            .all(|held| held.room != room.id)
        {
            return;
        }
        for _ in 0..self.judge.early.held.len() {
            let Some(held) = self.judge.early.pop() else {
                return;
            };
            let frame = Frame {
                kind: held.kind,
                room: held.room,
                to: held.to,
                from: held.from,
                body: &held.body,
                age: Duration::ZERO,
            };
            let mut batch = Batch::default();
            let is_heard = held.room == room.id
                && batch.push_frames(&held.body)
                && room.hear(held.node, &frame, &batch, self.now).is_some();
            if !is_heard {
                self.judge.early.bytes += held.body.len();
                self.judge.early.held.push_back(held);
            }
        }
    }
}
