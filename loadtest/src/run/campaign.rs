//! Runs that depend on each other: a search for the server's capacity, a load that is a percentage of it, and the plans
//! that follow.

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
    base::units::{count, whole},
    plan::{Plan, PlanError},
    record::Record,
    run::{engine::run_until, error::RunError, progress::Progress},
    user::net::target::Target,
};

mod bisection;
mod capacity;
mod explain;

/// How long a search holds each load, if a longer run with its answer follows.
const TRY: Duration = Duration::from_secs(30);

/// Ready when the user asks to end; may be used for several runs.
type Stop<'a> = Shared<BoxFuture<'a, ()>>;

/// Plans to play one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Campaign {
    pub plans: Vec<Plan>,
    /// The server's capacity in users, if it is known.
    pub capacity: Option<u32>,
}

/// An event of a campaign.
#[derive(Debug)]
pub enum CampaignEvent<'a> {
    /// The progress of the present run; four times a second.
    Progress(&'a Progress),
    /// A plan has been played.
    Played(Box<Record>),
    /// The plan of this name is skipped, because no load is known for it.
    Skipped(&'a str),
}

/// The server's capacity in users.
#[derive(Debug, Clone, PartialEq)]
struct KnownCapacity {
    users: u32,
    /// Perhaps more: no load has failed.
    at_least: bool,
    /// The origin of the number, in words.
    from: String,
}

impl Campaign {
    /// Checks that every plan has a load: a percentage of the capacity needs a capacity that is given, found before, or
    /// searched for.
    ///
    /// # Errors
    /// The first plan without a load.
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

    /// The file for a scenario's report. Each of several scenarios gets its own file: run-stress.html beside
    /// run-plan.html.
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

    /// Plays all plans against `target`, and reports events. When `stop` is ready, the present run ends with its
    /// reports, and no other run begins.
    ///
    /// # Errors
    /// The first run that could not take place. Earlier runs have been reported.
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

/// Plays one plan. `None`: no load is known for it.
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
    let users = whole(f64::from(known.users) * percent / 100.0).max(2);
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
