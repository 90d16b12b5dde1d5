//! The command line: the flags, and their checked values.

pub mod credentials;
mod load;
mod scenario;
mod shard;
mod thresholds;
mod values;

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use thiserror::Error;

use crate::{
    cli::{flags::credentials::AccessFlags, reports},
    plan::{
        Plan, PlanError, Shard,
        scenario::ScenarioError,
        threshold::{self, Threshold, ThresholdError},
    },
    record::Record,
    report::{self, FileError, Format},
    run::campaign::Campaign,
    user::net::target::{Target, TargetError},
};

pub use crate::cli::command_line::command_line;
pub use load::LoadFlags;
pub use shard::ShardFlags;
pub use thresholds::ThresholdFlags;
use values::line;

const EXAMPLES: &str = "\
Examples:
  loadtest                                       100 users for a minute, on this machine
  loadtest --users 5000 --duration 30m           the baseline that a release is held to
  loadtest --users 1000 --spacing 0ms            a thousand users at the same moment
  loadtest ws://10.0.0.5:8080/ws --admin-url http://10.0.0.5:6060/metrics --report run.html --report run.json
  loadtest ws://10.0.0.5:8080/ws ws://10.0.0.6:8080/ws ws://10.0.0.7:8080/ws --scenario node-loss
                                                 three servers that are one service, of which you kill one
  loadtest --scenario stress --report stress.html
                                                 how many users the server holds
  loadtest init my.toml; loadtest check my.toml; loadtest --scenario my.toml
                                                 a load of your own
  loadtest --users 5000 --baseline last-release.json --report run.json
  loadtest report run.json --to run.html         the same run, rendered again
  loadtest compare last-release.json run.json    is it worse?
  loadtest --users 50000 --shard 2/5 --start-at 2026-01-31T12:00:00Z --report 2.json
  loadtest merge 1.json 2.json 3.json 4.json 5.json --to run.html
                                                 one load from five processes

TIME is a number and a unit: 10ms, 5s, 30m, 1h.
A run takes users x spacing to bring everybody in, and then --duration under full load.

Exit code:
  0  every threshold holds         97  worse than the baseline
  2  a flag or a file is wrong     98  the measurement cannot be trusted
  3  no server answers             99  a threshold failed
  130  ended by a second signal, without a report

A search for the capacity exits 0 when some load held.
Of several scenarios the worst counts: 98, then 99, then 97.";

/// Plays thousands of users against a realtime server, and says whether the server can serve them.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "loadtest",
    version,
    args_override_self = true,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// A command other than a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub flags: Flags,
}

impl Cli {
    /// Parses the command line. Ends the process if it is wrong or asks for help.
    pub fn from_command_line() -> Self {
        // A value that begins with '-', such as -5s, reaches its flag, whose error says what to give instead.
        let command = Self::command().mut_args(|arg| match arg.get_action() {
            ArgAction::Set | ArgAction::Append if !arg.is_positional() => {
                arg.allow_hyphen_values(true)
            }
            _ => arg,
        });
        let read = Self::from_arg_matches(&command.get_matches());
        read.unwrap_or_else(|error| error.exit())
    }
}

/// The commands other than a run.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Shows an earlier run again, from its JSON record
    Report {
        /// The file that `--report FILE.json` wrote
        record: PathBuf,
        /// Also write it to this file: .html, .md, .json, .csv or .txt; repeatable
        #[arg(long, value_name = "FILE")]
        to: Vec<PathBuf>,
    },
    /// Tells whether one run is worse than another, beyond what chance explains
    Compare {
        /// The run to compare with
        baseline: PathBuf,
        /// The run to judge
        record: PathBuf,
        /// Also write the judged run, with the comparison, to this file; repeatable
        #[arg(long, value_name = "FILE")]
        to: Vec<PathBuf>,
    },
    /// Joins the records of all shards of a run into one record
    Merge {
        /// The files that the shards wrote with `--report FILE.json`
        #[arg(required = true, value_name = "RUN")]
        records: Vec<PathBuf>,
        /// The servers of shards with different URLs are one service: a room may have users of two of them
        ///
        /// Not needed where each shard was given the URLs of all.
        #[arg(long)]
        cluster: bool,
        /// Also write it to this file: .html, .md, .json, .csv or .txt; repeatable
        #[arg(long, value_name = "FILE")]
        to: Vec<PathBuf>,
    },
    /// Lists the built-in scenarios
    Scenarios,
    /// Checks a scenario, and shows what it does
    Check {
        /// A file, or the name of a built-in scenario
        scenario: String,
    },
    /// Writes a scenario file to start from, with comments
    Init {
        /// The file to write; it must not exist
        #[arg(default_value = "scenario.toml")]
        file: PathBuf,
        /// Start from this built-in scenario
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
    },
    /// Prints the JSON schema of scenario files, for editors
    Schema,
    /// Prints what a shell needs to complete the flags
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Prints the manual page; `loadtest man | man -l -`
    Man,
}

/// Plays thousands of users against a voicematch server, and judges the result.
///
/// Each user connects, searches for a partner, sends an ICE candidate every --signal-interval, and checks the
/// messages from the partner. A message counts as delivered only when the partner has received it. Latency is
/// measured from the moment when an action was due, so a server that stalls cannot hide it.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// WebSocket URL of the server; of several servers that are one service, all of them
    ///
    /// Of several, users take turns; one whose connection is lost goes on to the next.
    #[arg(
        env = "LOADTEST_URL",
        value_name = "URL",
        value_delimiter = ' ',
        default_value = "ws://127.0.0.1:8080/ws"
    )]
    pub url: Vec<String>,

    /// How many users come when, and what they do.
    #[command(flatten)]
    pub load: LoadFlags,

    /// Address of the server's Prometheus metrics, or none; of several servers once for each, in their order
    ///
    /// The report shows the server's CPU, memory and open files from there; without a path, from /metrics. [default: http://127.0.0.1:6060/metrics if
    /// the server is on this machine and its port is 8080, else none]
    #[arg(
        long,
        env = "LOADTEST_ADMIN_URL",
        value_name = "URL",
        value_delimiter = ' '
    )]
    pub admin_url: Vec<String>,

    /// Also write the report to this file: .html, .md, .json, .csv or .txt; repeatable
    ///
    /// Each of several scenarios gets files of its own: run.html becomes run-stress.html and so on.
    #[arg(
        long,
        env = "LOADTEST_REPORT",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub report: Vec<PathBuf>,

    /// Compare with this run, the JSON of an earlier report
    #[arg(long, env = "LOADTEST_BASELINE", value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// Name of the software under test, such as a version or a commit, for the reports
    #[arg(long, env = "LOADTEST_BUILD", value_name = "TEXT", value_parser = line)]
    pub build: Option<String>,

    /// What users need to be let in.
    #[command(flatten)]
    pub access: AccessFlags,

    /// Serve the generator's own Prometheus metrics at http://ADDRESS/metrics during the run
    #[arg(long, env = "LOADTEST_METRICS_ADDR", value_name = "ADDRESS")]
    pub metrics_addr: Option<SocketAddr>,

    /// No progress on stderr
    #[arg(long, short, env = "LOADTEST_QUIET")]
    pub quiet: bool,

    /// The users that this process plays.
    #[command(flatten)]
    pub shard: ShardFlags,

    /// The requirements on the server.
    #[command(flatten)]
    pub thresholds: ThresholdFlags,
}

/// The checked values of the flags.
#[derive(Debug, Clone)]
pub struct Config {
    /// The loads, one after the other.
    pub campaign: Campaign,
    pub target: Target,
    /// The files for the report.
    pub reports: Vec<(PathBuf, Format)>,
    /// The run to compare with, and its name.
    pub baseline: Option<(Record, String)>,
    /// The name of the software under test.
    pub build: Option<String>,
    pub quiet: bool,
    /// The address that serves the generator's own metrics.
    pub metrics_addr: Option<SocketAddr>,
}

/// A flag with a wrong value.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// A shard needs a start time that the other shards know too.
    #[error(
        "--shard {0} needs --start-at: all shards start at the same moment, such as $(date -u -d '+1 min' +%FT%TZ)"
    )]
    NoStart(Shard),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Flags {
    /// Checks the flags against each other.
    ///
    /// # Errors
    /// The first wrong value, and what to give instead.
    pub fn check(self) -> Result<Config, ConfigError> {
        let mut plans = self.load.plans()?;
        self.shard.apply(&mut plans, self.load.capacity)?;
        // Space around a URL, and between several, means nothing.
        let urls = self.url.iter().filter(|url| !url.trim().is_empty());
        let urls: Vec<_> = urls.cloned().collect();
        let urls = if urls.is_empty() {
            self.url.clone()
        } else {
            urls
        };
        let target = Target::of_nodes(&urls, &self.admin_url)?
            .with_access(self.access.check().map_err(TargetError::from)?)?;
        for plan in &mut plans {
            plan.thresholds = self.thresholds.thresholds(plan)?;
            let on_losses = plan.thresholds.iter().any(Threshold::is_on_lost_nodes);
            if target.urls().len() > 1 && !on_losses {
                plan.thresholds.push(threshold::nodes_lost());
            }
            plan.check_names()?;
        }
        let campaign = Campaign {
            plans,
            capacity: self.load.capacity,
        };
        campaign.check()?;
        // A file that cannot be written is an error before the run, not after it.
        let of_plan = |plan: &Plan| {
            self.report
                .iter()
                .map(|path| campaign.report_path(path, &plan.name))
                .collect::<Vec<_>>()
        };
        reports::checked(&campaign.plans.iter().flat_map(of_plan).collect::<Vec<_>>())?;
        let format = |path: PathBuf| Format::of(&path).map(|format| (path, format));
        let reports = self
            .report
            .iter()
            .cloned()
            .map(format)
            .collect::<Result<_, FileError>>()?;
        let baseline = match self.baseline {
            Some(path) => Some((report::read(&path)?, path.display().to_string())),
            None => None,
        };
        Ok(Config {
            campaign,
            target,
            reports,
            baseline,
            build: self.build.filter(|build| !build.trim().is_empty()),
            quiet: self.quiet,
            metrics_addr: self.metrics_addr,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(args: &[&str]) -> Result<Config, String> {
        let cli = Cli::try_parse_from([&["loadtest"], args].concat());
        cli.map_err(|e| e.to_string())?
            .flags
            .check()
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let config = check(&[]).expect("defaults are good");
        let mut plan = Plan::new(100, Duration::from_secs(60));
        plan.thresholds = threshold::defaults(plan.parts());
        assert_eq!(config.campaign.plans, [plan]);
        assert_eq!(config.target.url(), "ws://127.0.0.1:8080/ws");
    }

    #[test]
    fn several_servers_are_held_to_stay() {
        let names = |args: &[&str]| {
            let mut config = check(args).expect("good");
            let plan = config.campaign.plans.remove(0);
            let names = plan.thresholds.iter().map(Threshold::expression);
            let of_nodes = names.filter(|name| name.starts_with("nodes_lost"));
            of_nodes.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names(&["ws://a/ws"]).len(), 0);
        let two = ["ws://a/ws", "ws://b/ws"];
        assert_eq!(names(&two), ["nodes_lost count < 1"]);
        let expected = [&two[..], &["--scenario", "node-loss"]].concat();
        assert_eq!(names(&expected), ["nodes_lost count >= 1"]);
        let both = check(&two).expect("good").target.url();
        assert_eq!(both, "ws://a/ws, ws://b/ws");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_to_give() {
        let wrong: [(&[&str], &str); 8] = [
            (&["--users", "1"], "1 users"),
            (&["--users", "x"], "x"),
            (&["--duration", "5"], "5s"),
            (&["--duration", "0s"], "duration of 0"),
            (&["--signal-interval", "0s"], "signal interval"),
            (&["--threshold", "server_rss max < 2XB"], "500MB"),
            (&["--payload-bytes", "12"], "192 to 65000"),
            (&["http://localhost"], "ws://"),
        ];
        for (args, part) in wrong {
            let error = check(args).expect_err(part);
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }

    #[test]
    fn every_flag_is_explained_and_has_an_environment_twin() {
        let command = Cli::command();
        command.clone().debug_assert();
        for flag in command.get_arguments() {
            let twin = format!("LOADTEST_{}", flag.get_id().as_str().to_uppercase());
            assert_eq!(
                flag.get_env().and_then(|name| name.to_str()),
                Some(&twin[..])
            );
            assert!(flag.get_help().is_some(), "{flag} is not explained");
        }
    }
}
