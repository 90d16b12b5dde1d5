//! What lies between a node and the engine, and between two nodes: through the engine, one ordered link each way.
//!
//! Lost batches are not repaired, and one that is held up is overtaken: harder than the real links, which ask again. What is
//! sent while the engine is away, or its node cut off from it, waits at the sender.

use std::collections::BTreeMap;

use rand::{RngExt, rngs::SmallRng};

use super::{MS, Profile, Time};

#[derive(Default)]
pub(super) struct Network {
    /// When the last batch of each link that was not held up arrives.
    links: BTreeMap<(usize, u64), Time>,
    /// The same for commands and their answers.
    commands: BTreeMap<(usize, bool), Time>,
}

impl Network {
    /// When a batch from a slot to a process arrives; none: never.
    pub(super) fn deliver(
        &mut self,
        (from, to): (usize, u64),
        sent: Time,
        rng: &mut SmallRng,
        profile: Option<&Profile>,
    ) -> Option<Time> {
        let arrives = sent + rng.random_range(200..1000);
        if let Some(profile) = profile {
            if rng.random_bool(profile.lost_batches) {
                return None;
            }
            if rng.random_bool(profile.late_batches) {
                return Some(arrives + rng.random_range(0..profile.latest * MS));
            }
        }
        let last = self.links.entry((from, to)).or_default();
        *last = arrives.max(*last + 1);
        Some(*last)
    }

    /// When a command, or its answer, is there. One connection: in order.
    pub(super) fn command(
        &mut self,
        slot: usize,
        answer: bool,
        sent: Time,
        rng: &mut SmallRng,
    ) -> Time {
        let last = self.commands.entry((slot, answer)).or_default();
        *last = (sent + rng.random_range(100..500)).max(*last + 1);
        *last
    }
}
