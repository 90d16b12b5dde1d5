//! The shape of the load: who starts when, who sends when, and when it is over. Pure.

use std::time::Duration;

use thiserror::Error;

use crate::{
    payload::{MAX_PAYLOAD_BYTES, MIN_PAYLOAD_BYTES},
    threshold::Threshold,
};

/// The most users that one process may be asked to play.
pub const MAX_USERS: u32 = 1_000_000;

/// The longest that any one duration of a plan may be.
pub const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// The load that one run puts on a server.
///
/// User `i` starts at `i * spacing`. When the last one has started, everybody stays for `duration`, so a
/// run takes `(users - 1) * spacing + duration`.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Users at the same time once all have started; at least 2, as one alone has no partner.
    pub users: u32,
    /// How long all users stay, counted from the start of the last one.
    pub duration: Duration,
    /// Time between the starts of two users.
    pub spacing: Duration,
    /// How long a user waits for a partner before the search counts as failed.
    pub match_timeout: Duration,
    /// Time between two messages of one user.
    pub signal_interval: Duration,
    /// How long TCP connect, WebSocket handshake and the `session` message may take together.
    pub connect_timeout: Duration,
    /// Length of the relayed JSON payload, in bytes.
    pub payload_bytes: usize,
    /// What is asked of the server; empty: the defaults.
    pub thresholds: Vec<Threshold>,
}

/// A plan that cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A user alone cannot be matched; too many do not fit in a process.
    #[error("{0} users cannot be played: give 2 to {MAX_USERS} users (one alone has no partner)")]
    Users(u32),
    /// A duration that is zero or too long.
    #[error("a {name} of {value:?} is out of range: give more than 0 and at most 30 days")]
    Duration {
        /// What it is, in words.
        name: &'static str,
        /// What was given.
        value: Duration,
    },
    /// A payload that cannot carry what the receiver checks, or that servers refuse.
    #[error(
        "a payload of {0} bytes is out of range: give {MIN_PAYLOAD_BYTES} to {MAX_PAYLOAD_BYTES} bytes \
         (it carries sender, sequence and send time)"
    )]
    Payload(usize),
}

impl Plan {
    /// `users` who stay for `duration` once all have started, and the defaults of the command line for
    /// everything else.
    pub fn new(users: u32, duration: Duration) -> Self {
        Self {
            users,
            duration,
            spacing: Duration::from_millis(10),
            match_timeout: Duration::from_secs(30),
            signal_interval: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            payload_bytes: MIN_PAYLOAD_BYTES,
            thresholds: Vec::new(),
        }
    }

    /// Whether the plan can be played.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<(), PlanError> {
        if !(2..=MAX_USERS).contains(&self.users) {
            return Err(PlanError::Users(self.users));
        }
        let positive = [
            ("duration", self.duration),
            ("match timeout", self.match_timeout),
            ("signal interval", self.signal_interval),
            ("connect timeout", self.connect_timeout),
        ];
        for (name, value) in positive {
            if value.is_zero() || value > MAX_DURATION {
                return Err(PlanError::Duration { name, value });
            }
        }
        if self.ramp() > MAX_DURATION {
            return Err(PlanError::Duration {
                name: "spacing",
                value: self.spacing,
            });
        }
        if !(MIN_PAYLOAD_BYTES..=MAX_PAYLOAD_BYTES).contains(&self.payload_bytes) {
            return Err(PlanError::Payload(self.payload_bytes));
        }
        Ok(())
    }

    /// When user `user` (from 0) starts, since the start of the run.
    pub fn start_of(&self, user: u32) -> Duration {
        self.spacing.saturating_mul(user)
    }

    /// How long it takes until the last user has started.
    pub fn ramp(&self) -> Duration {
        self.start_of(self.users.saturating_sub(1))
    }

    /// When the users stop sending, since the start of the run.
    pub fn end(&self) -> Duration {
        self.ramp().saturating_add(self.duration)
    }

    /// How many users have started and not ended at `t`.
    pub fn users_at(&self, t: Duration) -> u32 {
        if t >= self.end() {
            return 0;
        }
        if self.spacing.is_zero() {
            return self.users;
        }
        let started = t.as_nanos() / self.spacing.as_nanos() + 1;
        u32::try_from(started).map_or(self.users, |n| n.min(self.users))
    }

    /// The first moment at or after `t` at which user `user` is due to send.
    ///
    /// Every user sends on a grid of their own, `signal_interval` wide. The grids are shifted against each
    /// other by the golden ratio, which spreads any number of users evenly, so that the server sees a
    /// steady stream and not one burst per interval.
    pub fn signal_at_or_after(&self, user: u32, t: Duration) -> Duration {
        let interval = self.signal_interval.as_nanos();
        // 2^64 / golden ratio: multiplying by it and wrapping around is the fractional part in fixed point.
        let fraction = u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let shift = (u128::from(fraction) * interval) >> 64;
        let periods = t.as_nanos().saturating_sub(shift).div_ceil(interval.max(1));
        nanos(shift + periods * interval)
    }
}

fn nanos(n: u128) -> Duration {
    Duration::from_nanos(u64::try_from(n).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new(100, Duration::from_secs(60))
    }

    #[test]
    fn the_run_is_the_ramp_and_then_the_full_load() {
        let plan = plan();
        assert_eq!(plan.start_of(0), Duration::ZERO);
        assert_eq!(plan.start_of(99), Duration::from_millis(990));
        assert_eq!(plan.end(), Duration::from_millis(60_990));
    }

    #[test]
    fn users_ramp_up_stay_and_end() {
        let plan = plan();
        assert_eq!(plan.users_at(Duration::ZERO), 1);
        assert_eq!(plan.users_at(Duration::from_millis(9)), 1);
        assert_eq!(plan.users_at(Duration::from_millis(10)), 2);
        assert_eq!(plan.users_at(Duration::from_millis(990)), 100);
        assert_eq!(plan.users_at(Duration::from_millis(60_989)), 100);
        assert_eq!(plan.users_at(Duration::from_millis(60_990)), 0);
        let burst = Plan {
            spacing: Duration::ZERO,
            ..plan
        };
        assert_eq!(burst.users_at(Duration::ZERO), 100);
    }

    #[test]
    fn a_user_sends_once_in_each_interval() {
        let plan = plan();
        for user in [0, 1, 7, 99] {
            let first = plan.signal_at_or_after(user, Duration::ZERO);
            assert!(
                first < plan.signal_interval,
                "user {user} first sends at {first:?}"
            );
            assert_eq!(plan.signal_at_or_after(user, first), first);
            let next = plan.signal_at_or_after(user, first + Duration::from_nanos(1));
            assert_eq!(next, first + plan.signal_interval);
        }
    }

    #[test]
    fn users_do_not_tick_together() {
        let plan = Plan {
            users: 1000,
            ..plan()
        };
        let mut per_tenth = [0; 10];
        for user in 0..plan.users {
            let at = plan.signal_at_or_after(user, Duration::ZERO);
            let tenth = at.as_nanos() * 10 / plan.signal_interval.as_nanos();
            per_tenth[usize::try_from(tenth).expect("below 10")] += 1;
        }
        assert!(
            per_tenth.iter().all(|n| (98..=102).contains(n)),
            "{per_tenth:?}"
        );
    }

    #[test]
    fn impossible_plans_are_refused() {
        assert_eq!(plan().check(), Ok(()));
        assert_eq!(
            Plan { users: 1, ..plan() }.check(),
            Err(PlanError::Users(1))
        );
        let still = Plan {
            signal_interval: Duration::ZERO,
            ..plan()
        };
        assert!(matches!(
            still.check(),
            Err(PlanError::Duration {
                name: "signal interval",
                ..
            })
        ));
        assert_eq!(
            Plan {
                payload_bytes: 10,
                ..plan()
            }
            .check(),
            Err(PlanError::Payload(10))
        );
        let endless = Plan {
            users: MAX_USERS,
            spacing: Duration::from_secs(60),
            ..plan()
        };
        assert!(endless.check().is_err());
    }
}
