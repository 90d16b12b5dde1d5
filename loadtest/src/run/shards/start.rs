//! What all shards of a run agree on without talking to each other: its number, and its start.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep};

use crate::{
    plan::{ResolvedPlan, threshold::Threshold},
    record::{PlanFacts, ShardData},
    run::{error::RunError, phases, progress::Progress},
    user::tag::room_key,
};

/// How late a run may start.
const MAX_LATE: Duration = Duration::from_secs(1);
/// The farthest start that is allowed: a later date is a mistake.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 3600);
/// How long before their first user workers are started.
const AHEAD: Duration = Duration::from_millis(200);

/// The number of the whole run: equal in all its shards, different for other runs.
pub fn run_number(plan: &ResolvedPlan) -> u32 {
    let start = plan.start_at.unwrap_or(UNIX_EPOCH);
    let since = start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (count, users) = (plan.shard.count, plan.peak_users);
    let hash = room_key(&format!(
        "{} {count} {users} {}",
        since.as_nanos(),
        plan.name
    ));
    // Both halves count.
    u32::try_from((hash ^ hash >> 32) & u64::from(u32::MAX)).unwrap_or_default()
}

/// Checks that the start is ahead, and not far.
///
/// # Errors
/// It is past by more than a little, or far away.
pub fn check_start(plan: &ResolvedPlan) -> Result<(), RunError> {
    let Some(at) = plan.start_at else {
        return Ok(());
    };
    match at.duration_since(SystemTime::now()) {
        Ok(left) if left > MAX_AHEAD => Err(RunError::TooFar { left }),
        Err(past) if past.duration() > MAX_LATE => Err(RunError::TooLate {
            late: past.duration(),
        }),
        _ => Ok(()),
    }
}

/// Waits until shortly before the start, and returns the start by this process's own clock.
///
/// # Errors
/// The start is past.
pub async fn wait_for_start(
    plan: &ResolvedPlan,
    on_progress: &mut impl FnMut(&Progress),
) -> Result<Instant, RunError> {
    check_start(plan)?;
    let Some(start_at) = plan.start_at else {
        return Ok(Instant::now());
    };
    // The wall clock may be changed while we wait, so it is read again and again.
    while let Ok(left) = start_at.duration_since(SystemTime::now())
        && left > AHEAD
    {
        on_progress(&Progress {
            starts_in: Some(left),
            planned: plan.end,
            users: plan.peak_of_shard,
            ..Progress::default()
        });
        sleep((left - AHEAD).min(Duration::from_millis(250))).await;
    }
    check_start(plan)?;
    Ok(instant_of(start_at))
}

/// The moment `at` on the monotonic clock.
fn instant_of(at: SystemTime) -> Instant {
    // The process may pause between the two readings: the closest pair of a few is the best.
    let pairs = (0..5).map(|_| {
        let (before, wall) = (Instant::now(), SystemTime::now());
        (before.elapsed(), before, wall)
    });
    let (_, now, wall) = pairs
        .min_by_key(|(apart, ..)| *apart)
        .unwrap_or_else(|| (Duration::ZERO, Instant::now(), SystemTime::now()));
    match at.duration_since(wall) {
        Ok(left) => now + left,
        Err(past) => now.checked_sub(past.duration()).unwrap_or(now),
    }
}

/// The shard's part of the record, without the ledgers.
pub fn shard_data(
    plan: &ResolvedPlan,
    urls: Vec<String>,
    server_expected: bool,
    late: Duration,
) -> ShardData {
    let millis = |time: Duration| crate::record::digits(time.as_secs_f64() * 1e3);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    ShardData {
        index: plan.shard.index + 1,
        count: plan.shard.count,
        host: host.trim().to_owned(),
        started_late_ms: millis(late),
        server_expected,
        plan: PlanFacts {
            users: u64::from(plan.peak_users),
            ramp_ms: millis(plan.ramp),
            fair_wait_ms: millis(plan.fair_wait),
            message_timeout_ms: millis(plan.message_timeout),
            phases: phases::phases(plan, &plan.phases),
            calls: plan.calls.clone(),
            flows: plan.flow_names.clone(),
            servers: if urls.len() > 1 { urls } else { Vec::new() },
            thresholds: plan.thresholds.iter().map(Threshold::saved).collect(),
        },
        books: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Shard};

    fn plan(index: u32, count: u32, at: u64) -> Plan {
        Plan {
            shard: Shard { index, count },
            start_at: Some(UNIX_EPOCH + Duration::from_secs(at)),
            ..Plan::new(100, Duration::from_secs(9))
        }
    }

    fn resolved(plan: &Plan) -> ResolvedPlan {
        plan.resolve().expect("it can be played")
    }

    fn number(plan: &Plan) -> u32 {
        run_number(&resolved(plan))
    }

    #[test]
    fn all_shards_of_a_run_have_its_number_and_no_others() {
        let one = number(&plan(0, 5, 1000));
        assert_eq!(number(&plan(4, 5, 1000)), one);
        let named = Plan {
            name: "other".to_owned(),
            ..plan(0, 5, 1000)
        };
        for other in [plan(0, 4, 1000), plan(0, 5, 1001), named] {
            assert_ne!(number(&other), one, "{other:?}");
        }
    }

    #[test]
    fn a_moment_that_is_past_is_refused() {
        let in_past = |seconds| Plan {
            start_at: Some(SystemTime::now() - Duration::from_secs(seconds)),
            ..plan(0, 2, 0)
        };
        let error = check_start(&resolved(&in_past(90)))
            .expect_err("past")
            .to_string();
        assert!(error.contains("1m 30s ago"), "{error}");
        assert!(check_start(&resolved(&in_past(0))).is_ok());
        assert!(check_start(&resolved(&Plan::new(2, Duration::from_secs(1)))).is_ok());
    }

    #[tokio::test]
    async fn the_start_is_waited_for_and_told() {
        let start_at = SystemTime::now() + Duration::from_millis(600);
        let plan = Plan {
            start_at: Some(start_at),
            ..plan(0, 2, 0)
        };
        let mut totals = Vec::new();
        let epoch = wait_for_start(&resolved(&plan), &mut |progress| {
            totals.push(progress.starts_in)
        })
        .await;
        let epoch = epoch.expect("in time");
        assert!(!totals.is_empty() && totals.iter().all(Option::is_some));
        let left = epoch.saturating_duration_since(Instant::now());
        let wall = start_at
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        assert!(
            left.abs_diff(wall) < Duration::from_millis(1),
            "{left:?} is not {wall:?}"
        );
        assert!(left <= AHEAD, "workers are started when it is near");
    }
}
