//! The flags that say what is asked of the server.

use std::time::Duration;

use clap::Args;

use super::{
    ConfigError,
    values::{size, time},
};
use crate::plan::{
    Plan,
    threshold::{Threshold, Thresholds},
};

/// What is asked of the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Targets")]
pub struct TargetFlags {
    /// What is asked of the server, such as 'match_latency p95 < 2s over 30s abort after 1m'; repeatable
    #[arg(
        long,
        env = "LOADTEST_THRESHOLD",
        value_name = "THRESHOLD",
        value_delimiter = ';'
    )]
    pub threshold: Vec<String>,

    /// Target: the 95th percentile of match latency stays below this [default: 2s]
    #[arg(long, env = "LOADTEST_MAX_MATCH_P95", value_parser = time, value_name = "TIME")]
    pub max_match_p95: Option<Duration>,

    /// Target: the 95th percentile of message latency stays below this [default: 100ms]
    #[arg(long, env = "LOADTEST_MAX_MESSAGE_P95", value_parser = time, value_name = "TIME")]
    pub max_message_p95: Option<Duration>,

    /// Target: connections, matches and messages succeed at least this often, in percent [default: 99.9]
    #[arg(long, env = "LOADTEST_MIN_SUCCESS", value_name = "PERCENT")]
    pub min_success: Option<f64>,

    /// Target: the server's resident memory stays below this (kB, MB, GB, KiB, MiB, GiB) [default: 2GB]
    #[arg(long, env = "LOADTEST_MAX_SERVER_RSS", value_name = "SIZE", value_parser = size)]
    pub max_server_rss: Option<u64>,

    /// Target: at most this many messages are duplicate, reordered, altered or with the wrong peer [default: 0]
    #[arg(long, env = "LOADTEST_MAX_MISDELIVERED", value_name = "N")]
    pub max_misdelivered: Option<u64>,
}

impl TargetFlags {
    /// All that is asked: what the scenario asks, or else the defaults; but for those of which another limit
    /// was asked here, and what was asked here.
    ///
    /// # Errors
    /// The first flag that cannot be meant.
    pub(super) fn thresholds(&self, plan: &Plan) -> Result<Vec<Threshold>, ConfigError> {
        let limits = self.limits()?;
        let (matching, relaying) = (plan.has_matches(), plan.has_relays());
        let scenario = !plan.thresholds.is_empty();
        let mut all = if scenario {
            plan.thresholds.clone()
        } else {
            limits.list(matching, relaying)
        };
        let asked = self.threshold.iter().map(|text| text.parse());
        let asked: Vec<Threshold> = asked.collect::<Result<_, _>>()?;
        let mut instead = asked;
        if scenario {
            instead.extend(limits.list(matching, relaying).into_iter().filter(|limit| {
                let name = limit.name();
                self.given().any(|given| name.starts_with(given))
            }));
        }
        all.retain(|one| instead.iter().all(|other| other.name() != one.name()));
        all.extend(instead);
        plan.hold_to_expected(&mut all, &limits);
        Ok(all)
    }

    fn limits(&self) -> Result<Thresholds, ConfigError> {
        let defaults = Thresholds::default();
        let limits = Thresholds {
            match_p95: self.max_match_p95.unwrap_or(defaults.match_p95),
            message_p95: self.max_message_p95.unwrap_or(defaults.message_p95),
            success_percent: self.min_success.unwrap_or(defaults.success_percent),
            server_rss_bytes: self.max_server_rss.unwrap_or(defaults.server_rss_bytes),
            misdelivered: self.max_misdelivered.unwrap_or(defaults.misdelivered),
        };
        if !(0.0..=100.0).contains(&limits.success_percent) {
            return Err(ConfigError::Percent(limits.success_percent));
        }
        let zero = [
            ("--max-match-p95", limits.match_p95.is_zero()),
            ("--max-message-p95", limits.message_p95.is_zero()),
            ("--max-server-rss", limits.server_rss_bytes == 0),
        ];
        match zero.into_iter().find(|(_, zero)| *zero) {
            Some((flag, _)) => Err(ConfigError::Zero(flag)),
            None => Ok(limits),
        }
    }

    /// How the names of the thresholds begin whose limits were given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let success = self.min_success.is_some();
        let flags = [
            (self.max_match_p95.is_some(), "match_latency"),
            (self.max_message_p95.is_some(), "message_latency"),
            (success, "connection_success"),
            (success, "match_success"),
            (success, "message_success"),
            (self.max_server_rss.is_some(), "server_rss"),
            (self.max_misdelivered.is_some(), "misdelivered"),
        ];
        flags
            .into_iter()
            .filter(|(given, _)| *given)
            .map(|(_, name)| name)
    }
}
