//! When each user starts, and when the plan removes the user. Pure.

use std::time::Duration;

use super::{Load, Plan, phase::Phase};

/// One user's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Since the start of the run.
    pub at: Duration,
    /// The user's number. Users who are there at the same time have different numbers.
    pub user: u32,
    /// When the plan removes the user; `None`: at the end of the flow or of the run.
    pub until: Option<Duration>,
    /// The user came in an arrival phase, and leaves at the end of the flow.
    pub arrived: bool,
}

impl Plan {
    /// The starts of the users with numbers `first`, `first + step`, and so on, in order of time.
    pub fn starts(&self, first: u32, step: u32) -> impl Iterator<Item = Start> + '_ {
        let step = step.max(1);
        let mut begin = Duration::ZERO;
        let mut arrived = self.steady_users();
        (0..self.phases.len()).flat_map(move |index| {
            let phase = &self.phases[index];
            let at = begin;
            begin = begin.saturating_add(phase.duration);
            let base = arrived;
            arrived = arrived.saturating_add(phase.arriving());
            let (lowest, count) = newcomers(phase, base);
            // The first user of the phase with such a number.
            let skip = (first + step - lowest % step) % step;
            (skip..count)
                .step_by(usize::try_from(step).unwrap_or(usize::MAX))
                .map(move |k| self.start(index, at, lowest, k))
        })
    }

    fn start(&self, index: usize, begin: Duration, lowest: u32, k: u32) -> Start {
        let phase = &self.phases[index];
        let user = lowest + k;
        let arrived = matches!(phase.load, Load::Arrivals { .. });
        let turn = if arrived {
            phase.arrival(k)
        } else {
            phase.turn(k)
        };
        Start {
            at: begin + turn,
            user,
            until: (!arrived)
                .then(|| self.taken_out(user, index + 1, begin + phase.duration))
                .flatten(),
            arrived,
        }
    }

    /// When the phases from `index` on, which begin at `begin`, remove user `user`.
    fn taken_out(&self, user: u32, index: usize, mut begin: Duration) -> Option<Duration> {
        for phase in self.phases.get(index..)? {
            if let Load::Users { from, to } = phase.load
                && (to..from).contains(&user)
            {
                return Some(begin + phase.turn(from - 1 - user));
            }
            begin += phase.duration;
        }
        None
    }
}

/// The lowest number of a phase's new users, and how many there are.
fn newcomers(phase: &Phase, base: u32) -> (u32, u32) {
    match phase.load {
        Load::Users { from, to } => (from, to.saturating_sub(from)),
        Load::Arrivals { .. } => (base, phase.arriving()),
    }
}
