//! What goes wrong, and when.

use rand::RngExt;

use super::world::{Event, World};
use super::{MS, NODES, SECOND, Time};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A node does nothing for a time.
    Freeze,
    FlushAll,
    /// The engine refuses connections.
    Away,
    /// The engine is stopped: commands wait, and are carried out late.
    Stalled,
    /// Each answer takes so long that nobody is matched, and comes.
    Slow,
    /// Half of the tickets are forgotten.
    Forget,
    /// One of the two keys of the index is evicted.
    Evict,
    /// A replica that lacks the last second takes over.
    FailOver,
    LoseAnswers,
    /// A node is cut off from the engine.
    Cut,
    Kill,
    /// The engine's clock jumps by an hour.
    Clock,
}

impl World {
    pub(super) fn next_fault(&mut self) {
        if !self.has_faults() {
            return;
        }
        let kinds = self.profile.faults;
        if !kinds.is_empty() {
            let kind = kinds[self.rng.random_range(0..kinds.len())];
            self.fault(kind);
        }
        let [from, to] = self.profile.fault_each;
        let pause = self.rng.random_range(from..to) * MS;
        self.after(pause, Event::Fault);
    }

    fn fault(&mut self, kind: Fault) {
        let slot = self.rng.random_range(0..NODES);
        let now = self.now;
        let until = self.profile.faults_until;
        let upto = |time: Time| until.min(now + time);
        match kind {
            Fault::Freeze => {
                let time = self.rng.random_range(300..self.profile.longest_freeze) * MS;
                self.freeze(slot, upto(time));
            }
            Fault::FlushAll => self.engine.flush_all(),
            Fault::Away => {
                self.away_until = upto(self.rng.random_range(200..6000) * MS);
                self.disconnect();
            }
            Fault::Stalled => self.stalled_until = upto(self.rng.random_range(200..6000) * MS),
            Fault::Slow => {
                self.slow_until = upto(self.rng.random_range(8_000..25_000) * MS);
                self.slow = self.rng.random_range(260..950) * MS;
            }
            Fault::Forget => {
                let rng = &mut self.rng;
                self.engine.forget(|| rng.random_bool(0.5));
            }
            Fault::Evict => {
                let records = self.rng.random_bool(0.5);
                self.engine.evict(records);
            }
            Fault::FailOver => {
                let at = self.rng.random_range(0..self.snapshots.len().max(1));
                if let Some(older) = self.snapshots.get(at) {
                    self.engine.data = older.clone();
                    self.engine.losses += 1;
                }
                self.away_until = upto(self.rng.random_range(600..4000) * MS);
                self.disconnect();
            }
            Fault::LoseAnswers => {
                self.lose_answers_until = upto(self.rng.random_range(200..3000) * MS);
            }
            Fault::Cut => {
                self.nodes[slot].cut_until = upto(self.rng.random_range(300..12_000) * MS);
            }
            Fault::Kill if self.nodes[slot].protocol.is_some() => self.kill(slot),
            Fault::Kill => {}
            Fault::Clock => {
                let hour = 3600 * SECOND;
                let back = self.rng.random_bool(0.5);
                self.engine.ahead = if back {
                    self.engine.ahead - hour
                } else {
                    self.engine.ahead + hour
                };
            }
        }
    }
}
