//! The phases of a plan: how many users there are, or how many come, at each moment. Pure.

use std::time::Duration;

use super::{
    PlanError, Transport,
    limits::{MAX_ARRIVALS, MAX_DURATION},
};
use crate::base::units::whole;

/// A part of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// The name in reports.
    pub name: String,
    pub duration: Duration,
    pub load: Load,
    /// The percentage of the users who lose their connection at its begin, all at once.
    pub drop_percent: f64,
    /// Transports that the users' network cuts at its begin, and lets nobody open until its end.
    pub blocked: Vec<Transport>,
}

/// How the load changes during a phase, in a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// A number of users, whatever the server does.
    Users {
        /// At the begin.
        from: u32,
        /// At the end.
        to: u32,
    },
    /// A number of new users each second, who leave at the end of their flow.
    Arrivals {
        /// Users per second at the begin.
        from: f64,
        /// Users per second at the end.
        to: f64,
    },
}

impl Phase {
    /// From `from` to `to` users; equal numbers hold the load.
    pub fn users(name: &str, duration: Duration, from: u32, to: u32) -> Self {
        Self::new(name, duration, Load::Users { from, to })
    }

    /// From `from` to `to` arrivals a second.
    pub fn arrivals(name: &str, duration: Duration, from: f64, to: f64) -> Self {
        Self::new(name, duration, Load::Arrivals { from, to })
    }

    fn new(name: &str, duration: Duration, load: Load) -> Self {
        Self {
            name: name.to_owned(),
            duration,
            load,
            drop_percent: 0.0,
            blocked: Vec::new(),
        }
    }

    /// Whether the phase can be played.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.duration > MAX_DURATION {
            return Err(PlanError::Duration {
                name: "phase",
                value: self.duration,
            });
        }
        if let Load::Arrivals { from, to } = self.load {
            for rate in [from, to] {
                if !(0.0..=MAX_ARRIVALS).contains(&rate) {
                    return Err(PlanError::Arrivals(rate));
                }
            }
            if from + to <= 0.0 {
                return Err(PlanError::Arrivals(0.0));
            }
            if self.duration.is_zero() {
                return Err(PlanError::Duration {
                    name: "phase with arrivals",
                    value: self.duration,
                });
            }
        }
        if !(0.0..=100.0).contains(&self.drop_percent) {
            return Err(PlanError::Percent(self.drop_percent));
        }
        if Transport::ALL.iter().all(|one| self.blocked.contains(one)) {
            return Err(PlanError::AllBlocked);
        }
        Ok(())
    }

    /// Whether the number of users is constant, or users arrive: no ramp.
    pub fn holds(&self) -> bool {
        match self.load {
            Load::Users { from, to } => from == to,
            Load::Arrivals { .. } => true,
        }
    }

    /// Users who are added or removed.
    pub(super) fn change(&self) -> u32 {
        match self.load {
            Load::Users { from, to } => from.abs_diff(to),
            Load::Arrivals { .. } => 0,
        }
    }

    /// When the k-th user (from 0) is added or removed, since the begin.
    ///
    /// A ramp has one equal interval for each user. A user is added at the begin of an interval and removed at the
    /// end of one: so the user who completes the peak is there for a while, whatever follows the ramp.
    pub(super) fn turn(&self, k: u32) -> Duration {
        let intervals = u128::from(self.change().max(1));
        let before = u128::from(k) + u128::from(self.falls());
        nanos(self.duration.as_nanos() * before / intervals)
    }

    /// How many users have been added or removed at `t` since the begin.
    pub(super) fn turns_until(&self, t: Duration) -> u32 {
        let change = self.change();
        let length = self.duration.as_nanos();
        if length == 0 {
            return change;
        }
        // The number of intervals that have begun; `turn` rounds down to whole nanoseconds.
        let begun = ((t.as_nanos() + 1) * u128::from(change)).div_ceil(length);
        let turns = begun.saturating_sub(u128::from(self.falls()));
        u32::try_from(turns).map_or(change, |n| n.min(change))
    }

    /// Whether users are removed.
    fn falls(&self) -> bool {
        matches!(self.load, Load::Users { from, to } if from > to)
    }

    /// How many users come in an arrival phase.
    pub fn arriving(&self) -> u32 {
        let Load::Arrivals { from, to } = self.load else {
            return 0;
        };
        // Just below a whole number is a rounding error: that user would come after the phase is over.
        let all = (f64::midpoint(from, to) * self.duration.as_secs_f64() - 1e-9).ceil();
        whole(all)
    }

    /// When the k-th (from 0) user arrives, since the begin.
    pub(super) fn arrival(&self, k: u32) -> Duration {
        let Load::Arrivals { from, to } = self.load else {
            return Duration::ZERO;
        };
        let slope = (to - from) / self.duration.as_secs_f64();
        // After t seconds from*t + slope*t*t/2 users have come. This is that solved for t, in the form that
        // also holds when the slope is zero.
        let root = (from * from + 2.0 * slope * f64::from(k)).max(0.0).sqrt();
        let seconds = if k == 0 {
            0.0
        } else {
            2.0 * f64::from(k) / (from + root)
        };
        Duration::try_from_secs_f64(seconds).map_or(self.duration, |t| t.min(self.duration))
    }

    /// Users per second at `t` since the begin.
    pub(super) fn arrival_rate(&self, t: Duration) -> f64 {
        let Load::Arrivals { from, to } = self.load else {
            return 0.0;
        };
        let fraction = t.as_secs_f64() / self.duration.as_secs_f64().max(1e-9);
        from + (to - from) * fraction.min(1.0)
    }
}

fn nanos(n: u128) -> Duration {
    Duration::from_nanos(u64::try_from(n).unwrap_or(u64::MAX))
}
