//! What must hold after each event, and what must hold when it is quiet.

use std::collections::{BTreeMap, BTreeSet};

use voicematch_protocol::SessionId;

use super::super::claim_protocol::{Counts, NodeId, RoomId, TicketId};
use super::{
    CHECK_EACH, MS, SECOND, Time,
    users::{Place, User, View},
    world::World,
};

/// For how long half a room may be alone while its own node is well.
const ALONE: Time = 10 * SECOND;
/// For how long two who fit may wait side by side when it is quiet, and while their nodes are well and reach the engine.
const SIDE_BY_SIDE: [Time; 2] = [2 * SECOND, 8 * SECOND];

/// After the last fault, before two who fit may no longer wait side by side.
const SETTLE: Time = 15 * SECOND;
/// The same for records of those who do not wait.
const GHOSTS_GO: Time = 8 * SECOND;
/// How long who waits may be missing in the index while their node is well and reaches it. They are looked for each 5 s.
const MISSING: Time = 8 * SECOND;
/// How long such a record may be there.
const GHOST: Time = 2 * SECOND;

/// What was seen.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) failure: Option<String>,
    pub(super) figures: Figures,
    /// A room was opened by this event; nothing else can put anybody in two.
    has_opened: bool,
    revoked: BTreeSet<(u64, RoomId)>,
    losses: u64,
    /// For how long who waits has been missing in the index, since the last loss.
    missing: BTreeMap<TicketId, Time>,
    /// Records of those who do not wait, and since when.
    ghosts: BTreeMap<TicketId, Time>,
    /// Two who fit and both wait, and for how long.
    side_by_side: BTreeMap<(TicketId, TicketId), Time>,
}

/// Sums over a run, or over many.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) proposed: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) given_up: u64,
    pub(super) late_accepts: u64,
    pub(super) put_back: u64,
    pub(super) lives: u64,
    pub(super) lost_halves: u64,
    /// Users who were matched with somebody of their own node, and of another one.
    pub(super) here: u64,
    pub(super) elsewhere: u64,
    /// Halves that were alone for over one and over five seconds, and the longest, microseconds.
    pub(super) alone_1s: u64,
    pub(super) alone_5s: u64,
    pub(super) longest_alone: Time,
    /// Halves that were ended when the other one was there.
    pub(super) needless_ends: u64,
    pub(super) stale_entries: u64,
}

impl Figures {
    pub(super) fn add(&mut self, other: &Self) {
        self.proposed += other.proposed;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.given_up += other.given_up;
        self.late_accepts += other.late_accepts;
        self.put_back += other.put_back;
        self.lives += other.lives;
        self.lost_halves += other.lost_halves;
        self.here += other.here;
        self.elsewhere += other.elsewhere;
        self.alone_1s += other.alone_1s;
        self.alone_5s += other.alone_5s;
        self.longest_alone = self.longest_alone.max(other.longest_alone);
        self.needless_ends += other.needless_ends;
        self.stale_entries += other.stale_entries;
    }
}

impl Checks {
    pub(super) fn fail(&mut self, failure: String) {
        self.failure.get_or_insert(failure);
    }

    pub(super) fn add(&mut self, counts: &Counts) {
        self.figures.add(&Figures {
            proposed: counts.proposed,
            accepted: counts.accepted,
            refused: counts.refused,
            given_up: counts.given_up,
            late_accepts: counts.late_accepts,
            put_back: counts.put_back,
            lives: counts.lives,
            lost_halves: counts.lost_halves,
            ..Figures::default()
        });
    }

    /// `judged`: the node could judge it at once.
    pub(super) fn revoked(&mut self, process: u64, room: RoomId, judged: bool) {
        if judged {
            self.revoked.insert((process, room));
        }
    }

    pub(super) fn is_revoked(&self, process: u64, room: RoomId) -> bool {
        self.revoked.contains(&(process, room))
    }

    pub(super) fn opened(&mut self, elsewhere: bool) {
        self.has_opened = true;
        if elsewhere {
            self.figures.elsewhere += 1;
        } else {
            self.figures.here += 1;
        }
    }

    /// Counts for how long a half that has ended was alone.
    pub(super) fn half_ended(&mut self, user: &User) {
        self.figures.alone_1s += u64::from(user.alone > SECOND);
        self.figures.alone_5s += u64::from(user.alone > 5 * SECOND);
    }
}

impl World {
    /// Whether the partner is in the same room with the user of a slot.
    pub(super) fn is_whole(&self, session: SessionId, view: View) -> bool {
        let peer = self.slot_of(view.peer).map(|peer| self.users[peer].place);
        matches!(peer, Some(Place::Room(theirs)) if theirs.room == view.room && theirs.peer == session
 && theirs.initiator != view.initiator)
    }

    /// After each event: nobody is in two rooms. A user has one place; so of the views of others that name them, only one
    /// may be of a whole room.
    pub(super) fn check_event(&mut self) {
        if !std::mem::take(&mut self.checks.has_opened) {
            return;
        }
        let mut named = BTreeMap::new();
        for user in &self.users {
            if let Place::Room(view) = user.place
                && self.is_whole(user.session, view)
                && named.insert(view.peer, view.room).is_some()
            {
                self.checks.fail(format!("{:?} is in two rooms", view.peer));
            }
        }
    }

    pub(super) fn check_state(&mut self) {
        self.check_halves();
        self.check_missing();
        let quiet = self.now.saturating_sub(self.profile.faults_until);
        if quiet > GHOSTS_GO {
            self.check_ghosts();
        }
        self.check_side_by_side(SIDE_BY_SIDE[usize::from(quiet < SETTLE)]);
        if self.now + CHECK_EACH >= self.profile.ends_at {
            self.check_records();
            for slot in 0..self.nodes.len() {
                self.note_counts(slot);
            }
            self.checks.figures.stale_entries = self.engine.stale_entries() as u64;
        }
    }

    fn check_halves(&mut self) {
        for slot in 0..self.users.len() {
            let user = &self.users[slot];
            let Place::Room(view) = user.place else {
                continue;
            };
            let node = &self.nodes[user.node];
            let reaches = self.now >= self.away_until.max(self.stalled_until);
            let connected = node.runs(self.now) && self.now >= node.cut_until && reaches;
            if self.is_whole(user.session, view) {
                let user = &mut self.users[slot];
                user.was_whole = true;
                (user.alone, user.alone_well) = (0, 0);
                continue;
            }
            let other = view
                .peer_node
                .and_then(|id| self.nodes.iter().find(|n| n.process == id.process));
            let both =
                reaches && node.is_well(self.now) && other.is_some_and(|n| n.is_well(self.now));
            let user = &mut self.users[slot];
            user.alone += if connected { CHECK_EACH } else { 0 };
            user.alone_well += if both { CHECK_EACH } else { 0 };
            let (alone, well) = (user.alone, user.alone_well);
            let figures = &mut self.checks.figures;
            figures.longest_alone = figures.longest_alone.max(alone);
            if alone > ALONE {
                self.checks.fail(format!(
                    "{:?} is alone in a room: {view:?}",
                    self.users[slot].session
                ));
            }
            if well > self.profile.alone_well {
                let ms = well / MS;
                self.checks.fail(format!(
                    "half a room for {ms} ms while both nodes are well: {view:?}"
                ));
            }
        }
    }

    fn all_waiting(&self) -> Vec<(TicketId, NodeId, super::super::claim_protocol::Seeker)> {
        let protocols = self.nodes.iter().filter_map(|node| node.protocol.as_ref());
        let waiting = protocols.flat_map(|protocol| {
            let me = protocol.me();
            protocol
                .waiting()
                .map(move |(id, seeker)| (id, me, seeker.clone()))
        });
        waiting.collect()
    }

    /// Whether a node runs, and it and the engine reach each other.
    fn does_well(&self, me: NodeId) -> bool {
        let disturbed = self
            .away_until
            .max(self.stalled_until)
            .max(self.slow_until)
            .max(self.lose_answers_until);
        let mut nodes = self.nodes.iter();
        let node = nodes.find(|node| node.process == me.process);
        self.now >= disturbed && node.is_some_and(|node| node.is_well(self.now))
    }

    fn check_missing(&mut self) {
        if std::mem::replace(&mut self.checks.losses, self.engine.losses) != self.engine.losses {
            self.checks.missing.clear();
        }
        let mut missing = BTreeMap::new();
        for (id, me, _) in self.all_waiting() {
            if !self.engine.is_posted(id, me) {
                let before = self.checks.missing.get(&id).copied().unwrap_or(0);
                let adds = if self.does_well(me) { CHECK_EACH } else { 0 };
                missing.insert(id, before + adds);
            }
        }
        if let Some((id, _)) = missing.iter().find(|(_, time)| **time > MISSING) {
            self.checks
                .fail(format!("waits, and is not in the index: {id:?}"));
        }
        self.checks.missing = missing;
    }

    fn check_side_by_side(&mut self, limit: Time) {
        let waiting = self.all_waiting();
        let mut pairs = BTreeMap::new();
        for (at, (a, node, seeker)) in waiting.iter().enumerate() {
            for (b, other_node, other) in &waiting[at + 1..] {
                if seeker.fits(other) && seeker.shared_level(other).is_some() {
                    let before = self.checks.side_by_side.get(&(*a, *b)).copied();
                    let counts = self.does_well(*node) && self.does_well(*other_node);
                    let adds = if counts { CHECK_EACH } else { 0 };
                    pairs.insert((*a, *b), before.unwrap_or(0) + adds);
                }
            }
        }
        if let Some(((a, b), _)) = pairs.iter().find(|(_, time)| **time > limit) {
            self.checks
                .fail(format!("{a:?} and {b:?} fit, and both wait"));
        }
        self.checks.side_by_side = pairs;
    }

    fn check_ghosts(&mut self) {
        let waiting: BTreeSet<_> = self.all_waiting().into_iter().map(|(id, ..)| id).collect();
        let ghosts = self
            .engine
            .records()
            .filter(|(id, _)| !waiting.contains(id));
        let since = |id| self.checks.ghosts.get(&id).copied().unwrap_or(self.now);
        let ghosts: BTreeMap<_, _> = ghosts.map(|(id, _)| (id, since(id))).collect();
        let stays = ghosts.iter().find(|(_, since)| self.now > **since + GHOST);
        if let Some((id, _)) = stays {
            self.checks
                .fail(format!("in the index, and not waiting: {id:?}"));
        }
        self.checks.ghosts = ghosts;
    }

    /// Users have stopped acting for a time: the records are those who wait.
    fn check_records(&mut self) {
        let waiting: BTreeSet<_> = self
            .all_waiting()
            .into_iter()
            .map(|(id, node, _)| (id, node))
            .collect();
        let records: BTreeSet<_> = self.engine.records().collect();
        let users = self
            .users
            .iter()
            .filter(|user| matches!(user.place, Place::Waiting(_)));
        if users.count() != waiting.len() {
            self.checks
                .fail("a user waits, and has no ticket that waits".to_owned());
        }
        if waiting != records {
            let lost: Vec<_> = waiting.difference(&records).collect();
            let left: Vec<_> = records.difference(&waiting).collect();
            self.checks.fail(format!(
                "not in the index: {lost:?}; in the index, and not waiting: {left:?}"
            ));
        }
    }
}
