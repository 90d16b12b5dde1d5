//! A checked plan, with every value that follows from it.

use std::{ops::Deref, sync::Arc, time::Duration};

use crate::base::server_url::ServerUrl;

use super::{Phase, Plan, PlanError, flow::Flow, threshold::Threshold};

/// A plan that can be played, with the values that a run needs, computed once. It dereferences to the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedPlan {
    plan: Plan,
    /// The most users at the same time, of all shards together.
    pub peak_users: u32,
    /// The most users at the same time of this shard.
    pub peak_of_shard: u32,
    /// The phases with the loads of this shard.
    pub phases_of_shard: Vec<Phase>,
    /// When the users stop sending, since the start of the run.
    pub end: Duration,
    /// When the number of users first reaches its maximum.
    pub ramp: Duration,
    /// The names of the calls, in the order of their ids.
    pub calls: Vec<String>,
    /// The names of the flows.
    pub flow_names: Vec<String>,
    /// For each flow, the types of messages that its steps wait for.
    pub expected: Vec<Arc<[String]>>,
    /// The thresholds of the plan, or the defaults.
    pub thresholds: Vec<Threshold>,
    /// Two users who both wait longer than this should have been matched.
    pub fair_wait: Duration,
    /// The servers, beside the one under test, that users ask over HTTP.
    pub origins: Vec<ServerUrl>,
    /// Every message with a tag should reach a user.
    pub all_come_back: bool,
    /// Users take part in transcription sessions or interviews, which are begun at the server's admin address.
    pub has_talks: bool,
    /// Users connect to the server's URL as it is given.
    pub has_plain_connections: bool,
}

impl Plan {
    /// Checks the plan, and computes its values.
    ///
    /// # Errors
    /// The plan cannot be played.
    pub fn resolve(&self) -> Result<ResolvedPlan, PlanError> {
        self.check()?;
        Ok(ResolvedPlan {
            plan: self.clone(),
            peak_users: self.peak_users(),
            peak_of_shard: self.peak_of_shard(),
            phases_of_shard: self.phases_of_shard(),
            end: self.end(),
            ramp: self.ramp(),
            calls: self.calls(),
            flow_names: self.flows.iter().map(|flow| flow.name.clone()).collect(),
            expected: self.flows.iter().map(Flow::expected).collect(),
            thresholds: self.thresholds_or_defaults(),
            fair_wait: self.fair_wait(),
            origins: self.origins(),
            all_come_back: self.all_come_back(),
            has_talks: self.has_talks(),
            has_plain_connections: self.has_plain_connections(),
        })
    }
}

impl Deref for ResolvedPlan {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.plan
    }
}
