//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::message::MIN_PAYLOAD;

const SERVER: &str = "target/release/voicematch-server --listen 127.0.0.1:{port} \
                      --admin-listen 127.0.0.1:{admin} --max-messages-per-second 0";

/// Measures what a voicematch server costs and how fast it is, beside another server in the same run.
///
/// Starts a fresh server for each repetition, on one CPU, and plays its users from another.
#[derive(Debug, Parser)]
#[command(
    name = "voicematch-bench",
    version,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) mode: Option<Mode>,
    #[command(flatten)]
    pub(crate) compare: Compare,
}

/// Modes other than the comparison.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Draws memory, CPU and latency against the number of users
    Growth(Growth),
    /// Measures latency near the server's maximum, alone and while other things go on
    Load(Load),
}

/// What all modes need.
#[derive(Debug, Args, serde::Serialize)]
pub(crate) struct Common {
    /// The server's command; {port} stands for the port that it must listen on, on 127.0.0.1, {admin} for
    /// that of its metrics and profiles
    #[arg(long, value_name = "COMMAND", default_value = SERVER)]
    pub(crate) server: String,
    /// Repetitions, each against a fresh server
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) reps: u32,
    /// Size of a relayed payload
    #[arg(long, default_value_t = 120, value_name = "BYTES", value_parser = payload)]
    pub(crate) payload_bytes: usize,
    /// Quiet time before memory is read, so that the allocator has settled
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) settle: f64,
    /// CPUs that the server may use; the generator has the one after them or, if there is none, the last
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) server_cpus: u8,
    /// Leave the choice of CPUs to the kernel
    #[arg(long)]
    pub(crate) no_pin: bool,
    /// Priority of server and generator, as in nice(1); below 0 needs root
    #[arg(long, value_name = "N", allow_hyphen_values = true,
          value_parser = clap::value_parser!(i32).range(-20..=19))]
    pub(crate) nice: Option<i32>,
    /// Write every repetition to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Options of the comparison.
#[derive(Debug, Args, serde::Serialize)]
pub(crate) struct Compare {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) common: Common,
    /// Another server's command, measured in turn with the first
    #[arg(long, value_name = "COMMAND")]
    pub(crate) baseline: Option<String>,
    /// Users held connected
    #[arg(long, default_value_t = 2000, value_parser = even)]
    pub(crate) users: usize,
    /// Messages a second of all users together, in the open loop
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) rate: u64,
    /// Messages outstanding in each pair, in the closed loop
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) window: u32,
    /// Sessions at once while they come and go; 0: leave that out
    #[arg(long, default_value_t = 100, value_parser = even_or_none)]
    pub(crate) slots: usize,
    /// How long each phase is measured
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: f64,
}

/// Options of the chart.
#[derive(Debug, Args, serde::Serialize)]
pub(crate) struct Growth {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) common: Common,
    /// Numbers of users, each measured against fresh servers
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000,10000,18000", value_parser = even)]
    pub(crate) users: Vec<usize>,
    /// Seconds from one message of a user to the next
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) every: f64,
    /// How long each number of users is measured
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Where the chart goes
    #[arg(long, default_value = "growth.svg", value_name = "FILE")]
    pub(crate) svg: PathBuf,
}

/// Options of the measurement near the maximum.
#[derive(Debug, Args, serde::Serialize)]
pub(crate) struct Load {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) common: Common,
    /// Another server's command, measured at the same rate and left alone
    #[arg(long, value_name = "COMMAND")]
    pub(crate) baseline: Option<String>,
    /// Users held connected
    #[arg(long, default_value_t = 10_000, value_parser = even)]
    pub(crate) users: usize,
    /// Part of the server's own maximum at which latency is measured
    #[arg(long, default_value_t = 70, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) share: u32,
    /// Users who come, are greeted and leave, in a second
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) connects: u32,
    /// Speakers whose audio is transcribed; the server's command must say --transcribe fake --state-dir FOLDER
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) speakers: u16,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: f64,
}

fn even_or_none(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n.is_multiple_of(2) && n <= 1_000_000 => Ok(n),
        _ => Err("an even number up to 1000000: users come in pairs".into()),
    }
}

fn even(text: &str) -> Result<usize, String> {
    even_or_none(text).and_then(|n| match n {
        0 => Err("at least 2".into()),
        n => Ok(n),
    })
}

fn payload(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (MIN_PAYLOAD..=60_000).contains(&n) => Ok(n),
        _ => Err(format!(
            "from {MIN_PAYLOAD}, which its mark needs, to 60000"
        )),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("from 0.1 to 3600 seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_mode_parses() {
        let compare = Cli::try_parse_from(["bench", "--users", "10", "--nice", "-5"]);
        assert!(compare.is_ok_and(|cli| cli.mode.is_none() && cli.compare.users == 10));
        let growth = Cli::try_parse_from(["bench", "growth", "--users", "2,4"]);
        assert!(growth.is_ok_and(|cli| {
            matches!(cli.mode, Some(Mode::Growth(growth)) if growth.users == [2, 4])
        }));
        let load = Cli::try_parse_from(["bench", "load", "--share", "50", "--server-cpus", "2"]);
        assert!(load.is_ok_and(|cli| {
            matches!(cli.mode, Some(Mode::Load(load)) if load.share == 50 && load.common.server_cpus == 2)
        }));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for bad in [
            ["--users", "3"],
            ["--users", "0"],
            ["--payload-bytes", "9"],
            ["--seconds", "NaN"],
        ] {
            let parsed = Cli::try_parse_from(["bench"].iter().chain(&bad));
            assert!(parsed.is_err(), "{bad:?}");
        }
    }
}
