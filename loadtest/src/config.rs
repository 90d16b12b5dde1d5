//! The command line: raw flags, and what they mean once checked.

mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::{
    access::AccessFlags,
    payload::MIN_PAYLOAD_BYTES,
    plan::{Plan, PlanError},
    record::Record,
    report::{self, FileError, Format},
    target::{Target, TargetError},
    threshold::{Threshold, ThresholdError, Thresholds},
};

use values::{size, time};

const EXAMPLES: &str = "\
Examples:
  loadtest                                       100 users for a minute, on this machine
  loadtest --users 5000 --duration 30m           the baseline that a release is held to
  loadtest --users 1000 --spacing 0ms            a thousand users at the same moment
  loadtest ws://10.0.0.5:8080/ws --admin-url http://10.0.0.5:6060/metrics --report run.html --report run.json
  loadtest --users 5000 --baseline last-release.json --report run.json
  loadtest report run.json --to run.html         the same run, rendered again
  loadtest compare last-release.json run.json    is it worse?

TIME is a number and a unit: 10ms, 5s, 30m, 1h.
A run takes (users - 1) x spacing to bring everybody in, and then --duration under full load.

Exit code:
  0  every target holds            98  the measurement itself is invalid
  2  a flag or a file is wrong     99  a target does not hold
  3  the server cannot be reached  97  worse than the baseline";

/// What is to be done.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "loadtest",
    version,
    args_override_self = true,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// Something other than a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run.
    #[command(flatten)]
    pub flags: Flags,
}

/// What can be done with the record of a run.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Shows a run again, from the JSON that it was reported as
    Report {
        /// What `--report FILE.json` wrote
        record: PathBuf,
        /// Also write it to this file: .html, .md, .json, .csv or .txt; repeatable
        #[arg(long, value_name = "FILE")]
        to: Vec<PathBuf>,
    },
    /// Tells whether a run is worse than another, by figures that allow for chance
    Compare {
        /// The run to compare with
        baseline: PathBuf,
        /// The run to be judged
        record: PathBuf,
        /// Also write the run, with the comparison in it, to this file; repeatable
        #[arg(long, value_name = "FILE")]
        to: Vec<PathBuf>,
    },
}

/// Plays thousands of users against a voicematch server, and judges what they saw.
///
/// Each user connects, asks for a partner, sends an ICE candidate every --signal-interval and checks what the
/// partner's side delivers. A message counts as delivered only when the partner has received it. Latency is
/// timed from the moment an action was due, so that a server that stalls cannot hide it.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// WebSocket URL of the server
    #[arg(env = "LOADTEST_URL", default_value = "ws://127.0.0.1:8080/ws")]
    pub url: String,

    /// Users at the same time; each takes an open file
    #[arg(long, env = "LOADTEST_USERS", default_value_t = 100, value_name = "N")]
    pub users: u32,

    /// How long everybody stays once the last user has started
    #[arg(long, env = "LOADTEST_DURATION", default_value = "1m", value_parser = time, value_name = "TIME")]
    pub duration: Duration,

    /// Time between the starts of two users; 0ms: all at once
    #[arg(long, env = "LOADTEST_SPACING", default_value = "10ms", value_parser = time, value_name = "TIME")]
    pub spacing: Duration,

    /// How long a user waits for a partner; a match that never came counts as this long
    #[arg(long, env = "LOADTEST_MATCH_TIMEOUT", default_value = "30s", value_parser = time, value_name = "TIME")]
    pub match_timeout: Duration,

    /// Time between two messages of one user
    #[arg(long, env = "LOADTEST_SIGNAL_INTERVAL", default_value = "5s", value_parser = time, value_name = "TIME")]
    pub signal_interval: Duration,

    /// How long connect, handshake and the session message may take together
    #[arg(long, env = "LOADTEST_CONNECT_TIMEOUT", default_value = "10s", value_parser = time, value_name = "TIME")]
    pub connect_timeout: Duration,

    /// Length of each message's payload, in bytes
    #[arg(long, env = "LOADTEST_PAYLOAD_BYTES", default_value_t = MIN_PAYLOAD_BYTES, value_name = "BYTES")]
    pub payload_bytes: usize,

    /// Address of the server's Prometheus metrics, or none
    ///
    /// From there come the server's CPU, memory and open files. [default: http://127.0.0.1:6060/metrics when
    /// the server is on this machine and its port is 8080, else none]
    #[arg(long, env = "LOADTEST_ADMIN_URL", value_name = "URL")]
    pub admin_url: Option<String>,

    /// Also write the report to this file: .html, .md, .json, .csv or .txt; repeatable
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

    /// Also write the report as JSON to this file, whatever its name
    #[arg(long, env = "LOADTEST_JSON", value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// What users need to get in.
    #[command(flatten)]
    pub access: AccessFlags,

    /// Serve the generator's own Prometheus metrics at http://ADDRESS/metrics during the run
    #[arg(long, env = "LOADTEST_METRICS_ADDR", value_name = "ADDRESS")]
    pub metrics_addr: Option<SocketAddr>,

    /// No progress on stderr
    #[arg(long, short, env = "LOADTEST_QUIET")]
    pub quiet: bool,

    /// What is asked of the server, such as 'match_latency p95 < 2s over 30s abort after 1m'; repeatable
    #[arg(
        long,
        env = "LOADTEST_THRESHOLD",
        value_name = "THRESHOLD",
        value_delimiter = ';',
        help_heading = "Targets"
    )]
    pub threshold: Vec<String>,

    /// Target: the 95th percentile of match latency stays below this
    #[arg(long, env = "LOADTEST_MAX_MATCH_P95", default_value = "2s", value_parser = time, value_name = "TIME", help_heading = "Targets")]
    pub max_match_p95: Duration,

    /// Target: the 95th percentile of message latency stays below this
    #[arg(long, env = "LOADTEST_MAX_MESSAGE_P95", default_value = "100ms", value_parser = time, value_name = "TIME", help_heading = "Targets")]
    pub max_message_p95: Duration,

    /// Target: connections, matches and messages succeed at least this often, in percent
    #[arg(
        long,
        env = "LOADTEST_MIN_SUCCESS",
        default_value_t = 99.9,
        value_name = "PERCENT",
        help_heading = "Targets"
    )]
    pub min_success: f64,

    /// Target: the server's resident memory stays below this (kB, MB, GB, KiB, MiB, GiB)
    #[arg(long, env = "LOADTEST_MAX_SERVER_RSS", default_value = "2GB", value_name = "SIZE", value_parser = size, help_heading = "Targets")]
    pub max_server_rss: u64,

    /// Target: at most this many messages are duplicate, reordered, altered or with the wrong peer
    #[arg(
        long,
        env = "LOADTEST_MAX_MISDELIVERED",
        default_value_t = 0,
        value_name = "N",
        help_heading = "Targets"
    )]
    pub max_misdelivered: u64,
}

/// What the flags mean.
#[derive(Debug, Clone)]
pub struct Config {
    /// The load.
    pub plan: Plan,
    /// The server.
    pub target: Target,
    /// Where the report goes.
    pub reports: Vec<(PathBuf, Format)>,
    /// The run to compare with, and its name.
    pub baseline: Option<(Record, String)>,
    /// No progress.
    pub quiet: bool,
    /// Where the generator's own metrics are served.
    pub metrics_addr: Option<SocketAddr>,
}

/// A flag that cannot be meant.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The load cannot be played.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The server's address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// What is asked of the server.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// A report or a baseline.
    #[error(transparent)]
    File(#[from] FileError),
    /// A share that is none.
    #[error("--min-success {0} is not a percentage: give a number from 0 to 100, such as 99.9")]
    Percent(f64),
    /// A limit that nothing can hold.
    #[error("{0} of zero can never hold: give more")]
    Zero(&'static str),
}

impl Flags {
    /// Checks the flags against each other.
    ///
    /// # Errors
    /// The first value that cannot be meant, and what to give instead.
    pub fn check(self) -> Result<Config, ConfigError> {
        let mut plan = Plan {
            users: self.users,
            duration: self.duration,
            spacing: self.spacing,
            match_timeout: self.match_timeout,
            signal_interval: self.signal_interval,
            connect_timeout: self.connect_timeout,
            payload_bytes: self.payload_bytes,
            thresholds: Vec::new(),
        };
        plan.check()?;
        let target = Target::new(&self.url, self.admin_url.as_deref())?
            .with_access(self.access.check().map_err(TargetError::from)?)?;
        if !(0.0..=100.0).contains(&self.min_success) {
            return Err(ConfigError::Percent(self.min_success));
        }
        let limits = [
            ("--max-match-p95", self.max_match_p95.is_zero()),
            ("--max-message-p95", self.max_message_p95.is_zero()),
            ("--max-server-rss", self.max_server_rss == 0),
        ];
        if let Some((flag, _)) = limits.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(flag));
        }
        let thresholds = Thresholds {
            match_p95: self.max_match_p95,
            message_p95: self.max_message_p95,
            success_percent: self.min_success,
            server_rss_bytes: self.max_server_rss,
            misdelivered: self.max_misdelivered,
        };
        plan.thresholds = held_to(&thresholds, &self.threshold)?;
        // Before anything listens to the server: what is wrong with a file is found now, not in half an hour.
        let json = self.json.into_iter().map(|path| Ok((path, Format::Json)));
        let reports = self
            .report
            .into_iter()
            .map(|path| Format::of(&path).map(|format| (path, format)));
        let reports: Vec<_> = json.chain(reports).collect::<Result<_, FileError>>()?;
        for (path, _) in &reports {
            report::touch(path)?;
        }
        let baseline = match self.baseline {
            Some(path) => Some((report::read(&path)?, path.display().to_string())),
            None => None,
        };
        Ok(Config {
            plan,
            target,
            reports,
            baseline,
            quiet: self.quiet,
            metrics_addr: self.metrics_addr,
        })
    }
}

/// The defaults, but for those of which another limit was asked, and what was asked.
fn held_to(defaults: &Thresholds, asked: &[String]) -> Result<Vec<Threshold>, ThresholdError> {
    let asked: Result<Vec<Threshold>, _> = asked.iter().map(|text| text.parse()).collect();
    let asked = asked?;
    let mut all = defaults.list(true, true);
    all.retain(|one| asked.iter().all(|other| other.name() != one.name()));
    all.extend(asked);
    Ok(all)
}

#[cfg(test)]
mod tests {
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
        plan.thresholds = Thresholds::default().list(true, true);
        assert_eq!(config.plan, plan);
        assert_eq!(config.target.url(), "ws://127.0.0.1:8080/ws");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_to_give() {
        let wrong: [(&[&str], &str); 9] = [
            (&["--users", "1"], "1 users"),
            (&["--users", "x"], "x"),
            (&["--duration", "5"], "5s"),
            (&["--duration", "0s"], "duration of 0"),
            (&["--signal-interval", "0s"], "signal interval"),
            (&["--min-success", "101"], "--min-success 101"),
            (&["--max-server-rss", "2XB"], "500MB"),
            (&["--payload-bytes", "12"], "payload of 12"),
            (&["http://localhost"], "ws://"),
        ];
        for (args, part) in wrong {
            let error = check(args).expect_err(part);
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }

    #[test]
    fn every_flag_is_explained_and_has_an_environment_twin() {
        let command = <Cli as clap::CommandFactory>::command();
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
