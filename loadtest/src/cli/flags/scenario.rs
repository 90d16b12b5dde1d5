//! Flags for some scenarios only: storms, percentages of a capacity, searches.

use clap::Args;

use crate::plan::{Plan, PlanError, limits::MAX_USERS};

/// Changes the storm, the percentage of the capacity, or the search of a scenario.
#[derive(Debug, Clone, Default, Args)]
pub struct ScenarioFlags {
    /// Percentage of users who lose their connection at once in a storm
    #[arg(long, env = "LOADTEST_DROP", value_parser = percent, value_name = "PERCENT", requires = "scenario")]
    pub drop: Option<f64>,

    /// Percentage of the server's capacity to play
    #[arg(long, env = "LOADTEST_PERCENT_OF_CAPACITY", value_parser = percent, value_name = "PERCENT", requires = "scenario")]
    pub percent_of_capacity: Option<f64>,

    /// Users of the first try of a search
    #[arg(
        long,
        env = "LOADTEST_SEARCH_FROM",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_USERS)),
        requires = "scenario"
    )]
    pub search_from: Option<u32>,

    /// Largest difference between the load that holds and the load that fails at the end of a search, in percent
    #[arg(long, env = "LOADTEST_PRECISION", value_parser = percent, value_name = "PERCENT", requires = "scenario")]
    pub precision: Option<f64>,
}

impl ScenarioFlags {
    /// Applies the flags to the plan.
    ///
    /// # Errors
    /// The plan has nothing of the kind, although it is the one that was `asked_for`.
    pub(super) fn change(&self, mut plan: Plan, asked_for: bool) -> Result<Plan, PlanError> {
        let mut unmatched = None;
        if let Some(percent) = self.drop {
            let mut storms = plan.phases.iter_mut().filter(|it| it.drop_percent > 0.0);
            match storms.next() {
                Some(first) => {
                    first.drop_percent = percent;
                    storms.for_each(|storm| storm.drop_percent = percent);
                }
                None => unmatched = Some("--drop"),
            }
        }
        if let Some(percent) = self.percent_of_capacity {
            match &mut plan.percent_of_capacity {
                Some(fraction) => *fraction = percent,
                None => unmatched = Some("--percent-of-capacity"),
            }
        }
        match &mut plan.search {
            Some(search) => {
                search.from = self.search_from.unwrap_or(search.from);
                search.precision_percent = self.precision.unwrap_or(search.precision_percent);
            }
            None if self.search_from.is_some() => unmatched = Some("--search-from"),
            None if self.precision.is_some() => unmatched = Some("--precision"),
            None => {}
        }
        match unmatched.filter(|_| asked_for && plan.then.is_empty()) {
            None => Ok(plan),
            Some(flag) => Err(PlanError::NotInIt {
                flag,
                scenario: plan.name,
            }),
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let read = number.parse().ok();
    read.filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| "give more than 0 % and at most 100 %, such as 50%".to_owned())
}
