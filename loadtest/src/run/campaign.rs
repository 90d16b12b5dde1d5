//! What a plan asks for beyond one run: to search for the breaking point, to put a share of what was found on the
//! server, and to go on with other plans.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use crate::{
    base::units::count,
    plan::{Plan, PlanError},
    record::Record,
    run::{engine::run_until, error::RunError, progress::Progress},
    user::net::target::Target,
};

mod bisection;
mod capacity;
mod explain;

/// How long the loads of a search are held whose plan is to be run for longer with its answer.
const TRY: Duration = Duration::from_secs(30);

/// Ready when somebody asks to end, for as many runs as there are.
type Stop<'a> = Shared<BoxFuture<'a, ()>>;

/// Plans to be played one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Campaign {
    /// In their order.
    pub plans: Vec<Plan>,
    /// How many users the server is known to hold.
    pub capacity: Option<u32>,
}

/// What is told of a campaign that is on.
#[derive(Debug)]
pub enum CampaignEvent<'a> {
    /// How the run that is on goes; four times a second.
    Progress(&'a Progress),
    /// A plan has been played.
    Played(Box<Record>),
    /// The plan of this name is not played, because there is no load for it.
    Skipped(&'a str),
}

/// How many users the server holds.
#[derive(Debug, Clone, PartialEq)]
struct KnownCapacity {
    users: u32,
    /// Perhaps more: it was never seen to break.
    at_least: bool,
    /// In words.
    from: String,
}

impl Campaign {
    /// Whether every plan has a load: a share of the capacity needs one that is given, found before, or searched for.
    ///
    /// # Errors
    /// The first plan that has none.
    pub fn check(&self) -> Result<(), PlanError> {
        let mut known = self.capacity.is_some();
        for plan in &self.plans {
            let searches = plan.search.is_some();
            if plan.percent_of_capacity.is_some() && !known && !searches {
                return Err(PlanError::NoCapacity(plan.name.clone()));
            }
            known |= searches;
        }
        Ok(())
    }

    /// Where the report of a scenario goes: of several each has a file of its own, run-stress.html beside run-plan.html.
    pub fn report_path(&self, path: &Path, scenario: &str) -> PathBuf {
        if self.plans.len() < 2 {
            return path.to_owned();
        }
        let part = |of: Option<&OsStr>| of.map(|of| of.to_string_lossy().into_owned());
        let stem = part(path.file_stem()).unwrap_or_default();
        let end = part(path.extension()).map_or_else(String::new, |end| format!(".{end}"));
        let known = |c: char| {
            if c.is_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        };
        let scenario: String = scenario.chars().map(known).collect();
        path.with_file_name(format!("{stem}-{scenario}{end}"))
    }

    /// Plays all plans against `target`, and tells of them. When `stop` is ready the run that is on ends in good
    /// order, and no other one begins.
    ///
    /// # Errors
    /// The first run that could not take place; what was played before has been reported.
    pub async fn play(
        &self,
        target: &Target,
        stop: impl Future<Output = ()> + Send,
        mut tell: impl FnMut(CampaignEvent<'_>) + Send,
    ) -> Result<(), RunError> {
        let stop = stop.boxed().shared();
        let given = |users| KnownCapacity {
            users,
            from: "given by --capacity".to_owned(),
            at_least: false,
        };
        let mut known = self.capacity.map(given);
        for plan in &self.plans {
            let record = play(plan, &mut known, target, &stop, &mut tell).await?;
            let stopped = stop.clone().now_or_never().is_some();
            match record {
                Some(record) => tell(CampaignEvent::Played(Box::new(record))),
                None => tell(CampaignEvent::Skipped(&plan.name)),
            }
            if stopped {
                break;
            }
        }
        Ok(())
    }
}

/// Plays one plan; `None`: there is no load for it.
async fn play(
    plan: &Plan,
    known: &mut Option<KnownCapacity>,
    target: &Target,
    stop: &Stop<'_>,
    tell: &mut (impl FnMut(CampaignEvent<'_>) + Send),
) -> Result<Option<Record>, RunError> {
    let mut on_progress = |progress: &Progress| tell(CampaignEvent::Progress(progress));
    let mut capacity = None;
    let to_search = plan.search.as_ref();
    let to_search = to_search.filter(|_| plan.percent_of_capacity.is_none() || known.is_none());
    if let Some(search) = to_search {
        let tried = match plan.percent_of_capacity {
            None => plan.clone(),
            Some(_) => plan.clone().with_hold_of_at_most(TRY),
        };
        let record =
            capacity::search(&tried, search, target, stop.clone(), &mut on_progress).await?;
        capacity = record.capacity.clone();
        let holds = capacity.as_ref().map_or(0, |found| found.holds);
        *known = Some(KnownCapacity {
            users: u32::try_from(holds).unwrap_or(u32::MAX),
            from: format!("found by the search of {}", plan.name),
            at_least: capacity.as_ref().is_none_or(|found| found.breaks.is_none()),
        });
        let stopped = stop.clone().now_or_never().is_some();
        if plan.percent_of_capacity.is_none() || holds == 0 || stopped {
            return Ok(Some(record));
        }
    }
    let (Some(percent), Some(known)) = (plan.percent_of_capacity, known.as_ref()) else {
        let ran = run_until(plan, target, stop.clone(), on_progress).await?;
        return Ok(Some(ran));
    };
    if known.users == 0 {
        return Ok(None);
    }
    let users = bisection::whole(f64::from(known.users) * percent / 100.0).max(2);
    let mut record = run_until(&of_users(plan, users)?, target, stop.clone(), on_progress).await?;
    record.capacity = capacity;
    record.run.load = Some(format!(
        "{percent} % of the {}{} users that the server holds, {}",
        if known.at_least { "at least " } else { "" },
        count(known.users.into()),
        known.from
    ));
    Ok(Some(record))
}

fn of_users(plan: &Plan, users: u32) -> Result<Plan, RunError> {
    Ok(plan.clone().with_users(users)?)
}
