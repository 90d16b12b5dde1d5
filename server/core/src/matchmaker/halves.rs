//! The halves of rooms whose two users are on two nodes: each node has its own, and both compare.
//!
//! Each node tells another one the XOR of the rooms that they share. Different for 2 s: it sends its list, in parts, one with each
//! sum that it is told, and a half of at least 3 s without the other one ends. A younger one may still be on its way there.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use voicematch_protocol::RoomId;

use super::claims::Now;
use crate::cluster::NodeId;

const DIFFERENT_FOR: Duration = Duration::from_secs(2);
const OLD_HALF: Duration = Duration::from_secs(3);
/// Rooms in one part of a list: 32,000 bytes, half of what may wait on a link besides messages.
pub(super) const PART: usize = 4000;

/// All rooms from one id to another one that a node shares with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rooms {
    pub(super) first: RoomId,
    /// Belongs to it.
    pub(super) last: RoomId,
    pub(super) rooms: Vec<RoomId>,
}

/// This node's half of a room.
pub(super) struct Half<T> {
    /// Who is here.
    pub(super) here: T,
    pub(super) node: NodeId,
    since: Now,
}

/// What is shared with a node.
#[derive(Default)]
struct With {
    sum: u64,
    rooms: usize,
}

/// A node's sum is another than ours.
struct Different {
    since: Now,
    /// Where the next part of our list begins.
    next: RoomId,
}

/// All halves of this node.
pub(super) struct HalfRooms<T> {
    halves: BTreeMap<RoomId, Half<T>>,
    with: BTreeMap<NodeId, With>,
    different: BTreeMap<NodeId, Different>,
}

impl<T> Default for HalfRooms<T> {
    fn default() -> Self {
        Self {
            halves: BTreeMap::new(),
            with: BTreeMap::new(),
            different: BTreeMap::new(),
        }
    }
}

impl<T> HalfRooms<T> {
    pub(super) fn open(&mut self, room: RoomId, node: NodeId, here: T, now: Now) {
        self.end(room);
        let half = Half {
            here,
            node,
            since: now,
        };
        self.halves.insert(room, half);
        let with = self.with.entry(node).or_default();
        with.sum ^= room.0;
        with.rooms += 1;
    }

    pub(super) fn get(&self, room: RoomId) -> Option<&Half<T>> {
        self.halves.get(&room)
    }

    /// Takes a half out.
    pub(super) fn end(&mut self, room: RoomId) -> Option<Half<T>> {
        let half = self.halves.remove(&room)?;
        if let Entry::Occupied(mut with) = self.with.entry(half.node) {
            with.get_mut().sum ^= room.0;
            with.get_mut().rooms -= 1;
            if with.get().rooms == 0 {
                with.remove();
            }
        }
        Some(half)
    }

    /// The same, if it is one with `node`.
    pub(super) fn end_with(&mut self, node: NodeId, room: RoomId) -> Option<Half<T>> {
        let is_with = self.get(room).is_some_and(|half| half.node == node);
        is_with.then(|| self.end(room)).flatten()
    }

    /// Takes all out that fit.
    pub(super) fn end_all(&mut self, fits: impl Fn(&Half<T>) -> bool) -> Vec<(RoomId, Half<T>)> {
        let fitting = self.halves.iter().filter(|(_, half)| fits(half));
        let rooms: Vec<_> = fitting.map(|(room, _)| *room).collect();
        let ended = rooms.into_iter();
        ended
            .filter_map(|room| Some((room, self.end(room)?)))
            .collect()
    }

    /// This node's halves of the rooms with a node.
    pub(super) fn with(&self, node: NodeId) -> impl Iterator<Item = &T> {
        let halves = self.halves.values();
        halves
            .filter(move |half| half.node == node)
            .map(|half| &half.here)
    }

    /// The XOR of the rooms with a node; none: there are no rooms.
    pub(super) fn sum(&self, node: NodeId) -> Option<u64> {
        self.with.get(&node).map(|with| with.sum)
    }

    /// The other node's sum. Returns a part of this node's list, if it is time to send it.
    pub(super) fn compare_sums(&mut self, node: NodeId, sum: u64, now: Now) -> Option<Rooms> {
        if self.sum(node).unwrap_or(0) == sum {
            self.different.remove(&node);
            return None;
        }
        let different = self.different.entry(node).or_insert(Different {
            since: now,
            next: RoomId(0),
        });
        if now < different.since + DIFFERENT_FOR {
            return None;
        }
        let first = different.next;
        let halves = self.halves.range(first..);
        let halves = halves.filter(|(_, half)| half.node == node);
        let rooms: Vec<_> = halves.map(|(room, _)| *room).take(PART).collect();
        let full = rooms.last().filter(|_| rooms.len() == PART);
        let last = full.copied().unwrap_or(RoomId(u64::MAX));
        different.next = RoomId(last.0.wrapping_add(1));
        if different.next == RoomId(0) {
            different.since = now;
        }
        Some(Rooms { first, last, rooms })
    }

    /// Forgets a node that has died.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.different.remove(&node);
    }

    /// Takes the halves out that a part of the other node's list should have and does not, but for young ones.
    pub(super) fn compare_lists(
        &mut self,
        node: NodeId,
        theirs: &Rooms,
        now: Now,
    ) -> Vec<(RoomId, Half<T>)> {
        if theirs.first > theirs.last {
            return Vec::new();
        }
        let rooms: BTreeSet<_> = theirs.rooms.iter().collect();
        let ours = self.halves.range(theirs.first..=theirs.last);
        let alone = ours.filter(|(room, half)| {
            half.node == node && !rooms.contains(room) && now >= half.since + OLD_HALF
        });
        let alone: Vec<_> = alone.map(|(room, _)| *room).collect();
        let ended = alone.into_iter();
        ended
            .filter_map(|room| Some((room, self.end(room)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: NodeId = NodeId {
        process: 1,
        life: 1,
    };
    const THIRD: NodeId = NodeId {
        process: 2,
        life: 1,
    };

    fn with(rooms: impl Iterator<Item = u64>) -> HalfRooms<()> {
        let mut halves = HalfRooms::default();
        rooms.for_each(|room| halves.open(RoomId(room), OTHER, (), Now::ZERO));
        halves
    }

    /// Both tell their sums four times a second until they agree; returns when, and how many parts were sent.
    fn compare(a: &mut HalfRooms<()>, b: &mut HalfRooms<()>) -> (Now, usize) {
        let (mut now, mut parts) = (OLD_HALF, 0);
        while a.sum(OTHER) != b.sum(OTHER) {
            now += Duration::from_millis(250);
            assert!(now < Duration::from_secs(60), "never");
            let sums = [a.sum(OTHER), b.sum(OTHER)].map(Option::unwrap_or_default);
            if let Some(part) = a.compare_sums(OTHER, sums[1], now) {
                assert!(part.rooms.len() <= PART);
                b.compare_lists(OTHER, &part, now);
                parts += 1;
            }
            if let Some(part) = b.compare_sums(OTHER, sums[0], now) {
                a.compare_lists(OTHER, &part, now);
                parts += 1;
            }
        }
        (now, parts)
    }

    #[test]
    fn twenty_thousand_rooms_are_compared_in_parts() {
        // Any ids: some in the first part, some behind the last.
        let id = |room: u64| room.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut a = with((1..=20_000).map(id));
        let mut b = with((11..=20_010).map(id));
        let (at, parts) = compare(&mut a, &mut b);
        assert_eq!((a.halves.len(), b.halves.len()), (19_990, 19_990));
        assert!(a.halves.keys().eq(b.halves.keys()));
        assert!(parts <= 12, "{parts}");
        assert!(at <= OLD_HALF + DIFFERENT_FOR + Duration::from_secs(2));
    }

    #[test]
    fn whole_parts_and_the_last_ids_are_compared() {
        for count in [0, 1, PART, 2 * PART] {
            // Squares: the XOR of consecutive ids may be none.
            let ids =
                |from: usize| (from..from + count).map(|room| u64::MAX - (room * room) as u64);
            let (mut a, mut b) = (with(ids(0)), with(ids(1)));
            compare(&mut a, &mut b);
            assert_eq!(a.halves.len(), count.saturating_sub(1));
            let (mut a, mut b) = (with(ids(0)), with(std::iter::empty()));
            compare(&mut a, &mut b);
            assert!(a.halves.is_empty());
        }
    }

    #[test]
    fn each_id_belongs_to_a_part() {
        let part = PART as u64;
        let (mut a, mut b) = (with(1..=part + 1), with(1..=part));
        compare(&mut a, &mut b);
        assert_eq!(a.halves.len(), PART);
    }

    #[test]
    fn other_nodes_and_other_ids_and_young_halves_are_left_alone() {
        let mut halves = with([1, 5, 9].into_iter());
        halves.open(RoomId(6), THIRD, (), Now::ZERO);
        halves.open(RoomId(7), OTHER, (), OLD_HALF);
        let part = |first, last, rooms: &[u64]| Rooms {
            first: RoomId(first),
            last: RoomId(last),
            rooms: rooms.iter().map(|room| RoomId(*room)).collect(),
        };
        let mut ended = |part: &Rooms| {
            let ended = halves.compare_lists(OTHER, part, OLD_HALF);
            ended
                .into_iter()
                .map(|(room, _)| room.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(ended(&part(8, 2, &[])), [0; 0]);
        assert_eq!(ended(&part(2, 8, &[8, 2])), [5]);
        assert_eq!(ended(&part(0, u64::MAX, &[9])), [1]);
    }
}
