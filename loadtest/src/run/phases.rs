//! The phases of a plan, in the form of a record.

use std::time::Duration;

use crate::{
    plan::{Load, Phase, Plan},
    record,
};

/// The phases of the plan, with the loads of `phases`, in the form of a record.
pub fn phases(plan: &Plan, phases: &[Phase]) -> Vec<record::Phase> {
    let phase = |((begin, _), phase): ((Duration, &Phase), &Phase)| {
        let (users, arrivals) = match phase.load {
            Load::Users { from, to } => (Some([from, to].map(u64::from)), None),
            Load::Arrivals { from, to } => (None, Some([from, to])),
        };
        record::Phase {
            name: phase.name.clone(),
            start_ms: begin.as_secs_f64() * 1e3,
            end_ms: (begin + phase.duration).as_secs_f64() * 1e3,
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
    let played = plan.phases_with_begin();
    played
        .zip(phases)
        .filter(|(_, phase)| !phase.duration.is_zero())
        .map(phase)
        .collect()
}
