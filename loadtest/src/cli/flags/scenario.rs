//! What only some scenarios have: storms, fractions of a capacity, searches.

use clap::Args;

use crate::plan::{Plan, PlanError, limits::MAX_USERS};

/// Changes what a scenario says of its storm, its fraction of the capacity, or its search.
#[derive(Debug, Clone, Default, Args)]
pub struct ScenarioFlags {
    /// How many users lose their connection at once in a storm, in percent
    #[arg(long, env = "LOADTEST_DROP", value_parser = percent, value_name = "PERCENT", requires = "scenario")]
    pub drop: Option<f64>,

    /// How much of what the server holds is played, in percent
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

    /// How close what holds and what does not are in the answer of a search, in percent
    #[arg(long, env = "LOADTEST_PRECISION", value_parser = percent, value_name = "PERCENT", requires = "scenario")]
    pub precision: Option<f64>,
}

impl ScenarioFlags {
    /// The plan with what the flags change in it.
    ///
    /// # Errors
    /// It has nothing of the kind, although it is the one that was `asked_for`.
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
