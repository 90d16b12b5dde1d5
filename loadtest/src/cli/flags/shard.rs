//! Flags for several processes that play one plan together.

use std::time::SystemTime;

use clap::Args;

use super::ConfigError;
use crate::plan::{Plan, Shard};

/// The users that this process plays, and the common start.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "More than one process")]
pub struct ShardFlags {
    /// Play one shard of the plan: 2/5 is the second of five
    ///
    /// Play each shard in a process of its own, on any machine, with the same flags and the same --start-at; then
    /// join their --report FILE.json with loadtest merge.
    #[arg(long, env = "LOADTEST_SHARD", value_name = "K/N")]
    pub shard: Option<Shard>,

    /// When the run starts, in UTC: 2026-01-31T12:00:00Z; processes do not talk to each other
    #[arg(long, env = "LOADTEST_START_AT", value_parser = moment, value_name = "TIME")]
    pub start_at: Option<SystemTime>,
}

impl ShardFlags {
    /// Applies the flags to the plans. `capacity`: the server's known capacity, in users.
    ///
    /// # Errors
    /// A shard without a start time, or a plan that cannot be split.
    pub(super) fn apply(
        &self,
        plans: &mut [Plan],
        capacity: Option<u32>,
    ) -> Result<(), ConfigError> {
        let shard = self.shard.unwrap_or(Shard::WHOLE);
        if !shard.is_whole() && self.start_at.is_none() {
            return Err(ConfigError::NoStart(shard));
        }
        if shard.is_whole() && self.start_at.is_none() {
            return Ok(());
        }
        for plan in plans {
            (plan.shard, plan.start_at) = (shard, self.start_at);
            // A known capacity needs no search.
            if plan.percent_of_capacity.is_some() && capacity.is_some() {
                plan.search = None;
            }
            plan.check()?;
        }
        Ok(())
    }
}

fn moment(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text).map_err(|error| {
        format!("{error}; give a moment in UTC, such as 2026-01-31T12:00:00Z, or: $(date -u -d '+1 min' +%FT%TZ)")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::flags::Cli;

    fn plan(args: &[&str]) -> Result<Plan, String> {
        let cli = Cli::try_parse_from([&["loadtest"], args].concat()).map_err(|e| e.to_string())?;
        let mut config = cli.flags.check().map_err(|e| e.to_string())?;
        Ok(config.campaign.plans.remove(0))
    }

    #[test]
    fn a_shard_needs_the_moment_of_its_start() {
        let at = "2026-01-31T12:00:00Z";
        let got = plan(&["--shard", "2/5", "--start-at", at]).expect("good");
        assert_eq!(got.shard, Shard { index: 1, count: 5 });
        assert_eq!(got.peak_of_shard(), 20);
        let start_at = humantime::parse_rfc3339(at).expect("good");
        assert_eq!(got.start_at, Some(start_at));
        let held = ["--scenario", "endurance", "--capacity", "1000"];
        let got = plan(&[&held[..], &["--shard", "2/5", "--start-at", at]].concat());
        assert_eq!(got.expect("nothing is searched for").search, None);
        let weak = plan(&["--start-at", "2026-01-31 12:00:00"]).expect("good");
        assert_eq!(weak.start_at, Some(start_at));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let at = "--start-at=2026-01-31T12:00:00Z";
        for (args, part) in [
            (&["--shard", "2/5"][..], "--shard 2/5 needs --start-at"),
            (&["--shard", "6/5", at], "2/5"),
            (&["--start-at", "soon"], "date -u"),
            (&["--shard", "5/5", "--users", "4", at], "fewer shards"),
            (
                &["--shard", "1/2", "--scenario", "stress", at],
                "cannot be played in shards",
            ),
            (&["--scenario", "stress", at], "or at a set time"),
            (&["--scenario", "endurance", at], "or at a set time"),
        ] {
            let error = plan(args).expect_err(part);
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
}
