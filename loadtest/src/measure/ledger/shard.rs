//! The ledgers of shards, joined: a room whose members are in two of them is settled by both.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Ledger, Scope, Stay,
    settle::{Closed, Contradictions, Settled},
};
use crate::measure::{
    message::{Direction, Kind},
    reach::{NodeId, Pairs, Reach},
};

/// What the ledger of one shard tells that of the whole.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LedgerShard {
    settled: [[Settled; Direction::ALL.len()]; Kind::MAX],
    #[serde(default)]
    pairs: [Pairs; Reach::ALL.len()],
    wrongly_refused: u64,
    #[serde(default)]
    wrongly_lost: u64,
    crowded_users: u64,
    #[serde(default)]
    contradictions: Contradictions,
    #[serde(default)]
    said_again: u64,
    /// Stays that could no longer be kept until the partner's record comes, among others.
    unknown_stays: u64,
    forgotten: bool,
    /// The stays whose partner's record is not in this shard, by room.
    unsettled: Vec<Stay>,
    /// The rooms that were settled last, by room.
    closed: Vec<(u64, Closed)>,
}

impl LedgerShard {
    /// All of the users were at this server.
    pub fn at_node(&mut self, node: NodeId) {
        self.unsettled.iter_mut().for_each(|stay| stay.node = node);
    }

    /// Tells times by a clock that is this much behind the shard's own. Not `settled`: this shard may have ended
    /// while users of others were still sending.
    pub fn by_clock(&mut self, ahead_micros: i64, settled: bool) {
        let shift = |time: &mut Duration| *time = shifted(*time, ahead_micros);
        for stay in &mut self.unsettled {
            shift(&mut stay.joined);
            shift(&mut stay.left);
            stay.breaks.iter_mut().for_each(|(_, at)| shift(at));
            stay.latest.times().for_each(shift);
            stay.settled &= settled;
        }
        for (_, closed) in &mut self.closed {
            shift(&mut closed.from);
            shift(&mut closed.at);
        }
    }
}

/// The same moment by a clock that is this much behind; nothing was before the start.
pub fn shifted(time: Duration, ahead_micros: i64) -> Duration {
    let by = Duration::from_micros(ahead_micros.unsigned_abs());
    if ahead_micros < 0 {
        time.saturating_add(by)
    } else {
        time.saturating_sub(by)
    }
}

impl Ledger {
    /// What others have to know. The ledger stays as it is.
    pub fn shard(&self) -> LedgerShard {
        let mut unsettled: Vec<Stay> = self.open.values().cloned().collect();
        unsettled.sort_by_key(|stay| stay.room);
        let mut closed: Vec<_> = self.closed.iter().map(|(room, at)| (*room, *at)).collect();
        closed.sort_by_key(|(room, _)| *room);
        LedgerShard {
            settled: self.settled,
            pairs: self.pairs.clone(),
            wrongly_refused: self.wrongly_refused,
            wrongly_lost: self.wrongly_lost,
            crowded_users: self.crowded_users,
            contradictions: self.contradictions,
            said_again: self.said_again,
            unknown_stays: self.unknown_stays,
            forgotten: self.forgotten,
            unsettled,
            closed,
        }
    }

    /// Joins the shards of one server, whose names for rooms are its own. What then still waits for a partner
    /// is for [`Ledger::take_unsettled`] or [`Ledger::close`].
    pub fn of_shards(shards: impl IntoIterator<Item = LedgerShard>) -> Self {
        let mut all = Self::new(Scope::Shards);
        let mut unsettled = Vec::new();
        for mut shard in shards {
            unsettled.append(&mut shard.unsettled);
            let closed = std::mem::take(&mut shard.closed);
            all.add_counts(&shard);
            closed
                .into_iter()
                .for_each(|(room, closed)| all.join_closed(room, closed));
        }
        // After all rooms of which somebody has seen two members.
        unsettled.into_iter().for_each(|stay| all.add(stay));
        all
    }

    /// Joins ledgers of several servers. Two addresses may lead to one server: what waits for a partner in one
    /// ledger may find them in another.
    pub fn of_servers(ledgers: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::new(Scope::Shards);
        for mut ledger in ledgers {
            let unsettled = ledger.take_unsettled();
            all.add_counts(&ledger.shard());
            all.late_news.append(&mut ledger.late_news);
            unsettled.into_iter().for_each(|stay| all.add(stay));
        }
        all
    }

    fn take_unsettled(&mut self) -> Vec<Stay> {
        let mut stays: Vec<Stay> = std::mem::take(&mut self.open).into_values().collect();
        stays.sort_by_key(|stay| stay.room);
        stays
    }

    fn add_counts(&mut self, shard: &LedgerShard) {
        // Without `..`: a new field that is not added does not compile.
        let LedgerShard {
            settled,
            pairs,
            wrongly_refused,
            wrongly_lost,
            crowded_users,
            contradictions,
            said_again,
            unknown_stays,
            forgotten,
            unsettled: _,
            closed: _,
        } = shard;
        let mine = self.settled.iter_mut().flatten();
        for (mine, theirs) in mine.zip(settled.iter().flatten()) {
            *mine += *theirs;
        }
        for (mine, theirs) in self.pairs.iter_mut().zip(pairs) {
            mine.merge(theirs);
        }
        self.wrongly_refused += wrongly_refused;
        self.wrongly_lost += wrongly_lost;
        self.crowded_users += crowded_users;
        self.contradictions += *contradictions;
        self.said_again += said_again;
        self.unknown_stays += unknown_stays;
        self.forgotten |= forgotten;
    }

    /// Enters a room that a shard has settled; two members in each of two shards are one too many.
    fn join_closed(&mut self, room: u64, theirs: Closed) {
        let Some(mine) = self.closed.get_mut(&room) else {
            self.closed.insert(room, theirs);
            return;
        };
        if theirs.from >= mine.at || mine.from >= theirs.at {
            return;
        }
        for closed in [*mine, theirs] {
            self.crowded_users += if closed.crowded { 0 } else { 2 };
        }
        mine.crowded = true;
    }
}
