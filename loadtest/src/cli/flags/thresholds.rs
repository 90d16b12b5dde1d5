//! The flag for the requirements on the server.

use clap::Args;

use super::ConfigError;
use crate::plan::{Plan, threshold::Threshold};

/// The requirements on the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Thresholds")]
pub struct ThresholdFlags {
    /// Requirement on the server, such as 'match_latency p95 < 2s over 30s abort after 1m'; repeatable
    ///
    /// Adds to the thresholds of the scenario, or to the defaults, and replaces the threshold of the same metric and
    /// statistic. Defaults: connections, matches and messages succeed in 99.9 %, match p95 < 2s, message p95 < 100ms, no
    /// message is misdelivered, server memory < 2GB if its metrics can be read.
    #[arg(
        long,
        env = "LOADTEST_THRESHOLD",
        value_name = "THRESHOLD",
        value_delimiter = ';'
    )]
    pub threshold: Vec<String>,
}

impl ThresholdFlags {
    /// The scenario's thresholds, or the defaults; a flag replaces the one of the same name.
    ///
    /// # Errors
    /// The first flag that is not a threshold.
    pub(super) fn thresholds(&self, plan: &Plan) -> Result<Vec<Threshold>, ConfigError> {
        let given = self.threshold.iter().map(|text| text.parse());
        Ok(plan.thresholds_with(given.collect::<Result<_, _>>()?))
    }
}
