//! One shard of a plan. Several processes play the shards of a plan at the same time. Pure.

use std::{fmt, str::FromStr};

use super::{Load, Phase, Plan, PlanError, limits::MAX_SHARDS};

/// The users with a number `n` where `n % count == index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0. Users of the command line count from 1.
    pub index: u32,
    pub count: u32,
}

impl Shard {
    /// The whole plan.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether it is the whole plan.
    pub fn is_whole(self) -> bool {
        self.count <= 1
    }

    /// The shard that plays user `user`.
    pub fn of_user(self, user: u32) -> u32 {
        user % self.count.max(1)
    }

    /// How many of the users from 0 to `users` this shard plays.
    pub fn of(self, users: u32) -> u32 {
        users.saturating_sub(self.index).div_ceil(self.count.max(1))
    }
}

/// `2/5`: the second of five.
impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((k, count)) if (1..=count).contains(&k) && count <= MAX_SHARDS => Ok(Self {
                index: k - 1,
                count,
            }),
            _ => Err(format!(
                "give the number of the shard and how many there are, from 1/1 to {MAX_SHARDS}/{MAX_SHARDS}: 2/5"
            )),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl Plan {
    /// Like [`Plan::peak_users`], for this shard alone.
    pub fn peak_of_shard(&self) -> u32 {
        let steady = self.steady_users();
        let arrived = self.peak_users() - steady;
        // Arrivals have any number: of ten arrivals, one of four shards may get three.
        self.shard
            .of(steady)
            .saturating_add(arrived.div_ceil(self.shard.count.max(1)))
    }

    /// The users of the `worker`-th worker of this shard: the first number, and the step to the next.
    pub fn users_of_worker(&self, worker: u32, workers: u32) -> (u32, u32) {
        let Shard { index, count } = self.shard;
        (index + count * worker, count * workers)
    }

    /// The phases of this shard: its users and rates only.
    pub(super) fn phases_of_shard(&self) -> Vec<Phase> {
        let mut phases = self.phases.clone();
        for phase in &mut phases {
            match &mut phase.load {
                Load::Users { from, to } => {
                    (*from, *to) = (self.shard.of(*from), self.shard.of(*to));
                }
                Load::Arrivals { from, to } => {
                    let count = f64::from(self.shard.count.max(1));
                    (*from, *to) = (*from / count, *to / count);
                }
            }
        }
        phases
    }

    /// Whether the plan can be played in shards, or at a set time.
    pub(super) fn check_shard(&self) -> Result<(), PlanError> {
        if self.shard.is_whole() && self.start_at.is_none() {
            return Ok(());
        }
        if self.search.is_some() || !self.then.is_empty() {
            return Err(PlanError::NotInShards(self.name.clone()));
        }
        if self.peak_of_shard() == 0 {
            return Err(PlanError::EmptyShard {
                shard: self.shard,
                users: self.peak_users(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_shard_is_written_as_people_count() {
        let shard: Shard = "2/5".parse().expect("good");
        assert_eq!(
            (shard.index, shard.count, shard.to_string()),
            (1, 5, "2/5".to_owned())
        );
        for bad in [
            "", "2", "0/5", "6/5", "1/0", "-1/5", "1/501", "a/b", "1/5/2",
        ] {
            let error = bad.parse::<Shard>().expect_err(bad);
            assert!(error.contains("2/5"), "{bad}: {error}");
        }
    }

    fn phase() -> impl Strategy<Value = Phase> {
        let secs = 0..20_u64;
        prop_oneof![
            (secs, 0..60_u32, 0..60_u32).prop_map(|(t, a, b)| Phase::users(
                "",
                Duration::from_secs(t),
                a,
                b
            )),
            (1..20_u64, 0..9_u32, 1..9_u32).prop_map(|(t, a, b)| Phase::arrivals(
                "",
                Duration::from_secs(t),
                f64::from(a),
                f64::from(b)
            )),
        ]
    }

    proptest! {
        #[test]
        fn all_shards_together_are_the_whole_plan(
            phases in prop::collection::vec(phase(), 1..5),
            count in 1..7_u32,
            workers in 1..4_u32,
        ) {
            let mut plan = Plan::of_phases(phases);
            let mut whole: Vec<_> = plan.starts(0, 1).collect();
            let mut parts = Vec::new();
            for index in 0..count {
                plan.shard = Shard { index, count };
                for worker in 0..workers {
                    let (first, step) = plan.users_of_worker(worker, workers);
                    parts.extend(plan.starts(first, step));
                }
            }
            let order = |start: &crate::plan::Start| (start.at, start.user, start.arrived);
            whole.sort_by_key(order);
            parts.sort_by_key(order);
            prop_assert_eq!(parts, whole);
        }

        #[test]
        fn the_peaks_of_all_shards_are_the_peak(users in 0..10_000_u32, count in 1..50_u32) {
            let sum: u32 = (0..count).map(|index| Shard { index, count }.of(users)).sum();
            prop_assert_eq!(sum, users);
        }
    }
}
