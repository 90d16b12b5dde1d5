//! The parts of a plan, as a record has them.

use std::time::Duration;

use crate::{
    plan::{Load, Plan, Stage},
    record,
};

/// The parts of the plan, with the loads of `stages`, as a record has them.
pub fn phases(plan: &Plan, stages: &[Stage]) -> Vec<record::Phase> {
    let phase = |((begin, _), stage): ((Duration, &Stage), &Stage)| {
        let (users, arrivals) = match stage.load {
            Load::Users { from, to } => (Some([from, to].map(u64::from)), None),
            Load::Arrivals { from, to } => (None, Some([from, to])),
        };
        record::Phase {
            name: stage.name.clone(),
            start_ms: begin.as_secs_f64() * 1e3,
            end_ms: (begin + stage.duration).as_secs_f64() * 1e3,
            users,
            arrivals_per_second: arrivals,
            peak_connected: 0,
            connection_success_percent: None,
            match_success_percent: None,
            match_p95_ms: None,
            message_p99_ms: None,
            errors: 0,
        }
    };
    let played = plan.stages_with_begin();
    played
        .zip(stages)
        .filter(|(_, stage)| !stage.duration.is_zero())
        .map(phase)
        .collect()
}
