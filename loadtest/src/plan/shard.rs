//! One share of a plan, of several that are played by different processes at the same time. Pure.

use std::{fmt, str::FromStr};

use super::{Load, Plan, PlanError, Stage};

/// The most shares that a plan may be split into.
pub const MAX_SHARES: u32 = 500;

/// Which users of a plan are played: those whose number leaves `index` when divided by `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 0; people count from 1.
    pub index: u32,
    /// Shares in all.
    pub count: u32,
}

impl Share {
    /// All users.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether there are no others.
    pub fn is_whole(self) -> bool {
        self.count <= 1
    }

    /// The share that plays user `user`.
    pub fn of_user(self, user: u32) -> u32 {
        user % self.count.max(1)
    }

    /// How many of the users from 0 to `users` this share plays.
    pub fn of(self, users: u32) -> u32 {
        users.saturating_sub(self.index).div_ceil(self.count.max(1))
    }
}

/// `2/5`: the second of five.
impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((k, count)) if (1..=count).contains(&k) && count <= MAX_SHARES => Ok(Self {
                index: k - 1,
                count,
            }),
            _ => Err(format!(
                "give the number of the share and how many there are, from 1/1 to {MAX_SHARES}/{MAX_SHARES}: 2/5"
            )),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl Plan {
    /// As [`Plan::peak_users`], of this plan's share alone.
    pub fn share_of_peak(&self) -> u32 {
        let steady = self.steady_users();
        let arrived = self.peak_users() - steady;
        // Whoever arrives has any number, so that of ten arrivals each of four shares may get three.
        self.share
            .of(steady)
            .saturating_add(arrived.div_ceil(self.share.count.max(1)))
    }

    /// The users of the `worker`-th of several workers who play this share: the first, and the step to the next.
    pub fn users_of_worker(&self, worker: u32, workers: u32) -> (u32, u32) {
        let Share { index, count } = self.share;
        (index + count * worker, count * workers)
    }

    /// The stages as this plan's share plays them: their users and rates are those of the share.
    pub fn stages_of_share(&self) -> Vec<Stage> {
        let mut stages = self.stages.clone();
        for stage in &mut stages {
            match &mut stage.load {
                Load::Users { from, to } => {
                    (*from, *to) = (self.share.of(*from), self.share.of(*to));
                }
                Load::Arrivals { from, to } => {
                    let count = f64::from(self.share.count.max(1));
                    (*from, *to) = (*from / count, *to / count);
                }
            }
        }
        stages
    }

    /// Whether the plan can be played in shares, or at a set time.
    pub(super) fn check_share(&self) -> Result<(), PlanError> {
        if self.share.is_whole() && self.start_at.is_none() {
            return Ok(());
        }
        if self.search.is_some() || !self.then.is_empty() {
            return Err(PlanError::NotInShares(self.name.clone()));
        }
        if self.share_of_peak() == 0 {
            return Err(PlanError::EmptyShare {
                share: self.share,
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
    fn a_share_is_written_as_people_count() {
        let share: Share = "2/5".parse().expect("good");
        assert_eq!(
            (share.index, share.count, share.to_string()),
            (1, 5, "2/5".to_owned())
        );
        for bad in [
            "", "2", "0/5", "6/5", "1/0", "-1/5", "1/501", "a/b", "1/5/2",
        ] {
            let error = bad.parse::<Share>().expect_err(bad);
            assert!(error.contains("2/5"), "{bad}: {error}");
        }
    }

    fn stage() -> impl Strategy<Value = Stage> {
        let secs = 0..20_u64;
        prop_oneof![
            (secs, 0..60_u32, 0..60_u32).prop_map(|(t, a, b)| Stage::users(
                "",
                Duration::from_secs(t),
                a,
                b
            )),
            (1..20_u64, 0..9_u32, 1..9_u32).prop_map(|(t, a, b)| Stage::arrivals(
                "",
                Duration::from_secs(t),
                f64::from(a),
                f64::from(b)
            )),
        ]
    }

    proptest! {
        #[test]
        fn all_shares_together_are_the_whole_plan(
            stages in prop::collection::vec(stage(), 1..5),
            count in 1..7_u32,
            workers in 1..4_u32,
        ) {
            let mut plan = Plan::of_stages(stages);
            let mut whole: Vec<_> = plan.starts(0, 1).collect();
            let mut parts = Vec::new();
            for index in 0..count {
                plan.share = Share { index, count };
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
        fn the_peaks_of_all_shares_are_the_peak(users in 0..10_000_u32, count in 1..50_u32) {
            let sum: u32 = (0..count).map(|index| Share { index, count }.of(users)).sum();
            prop_assert_eq!(sum, users);
        }
    }
}
