//! The flags that say how many users come when, and what they do.

use std::time::Duration;

use clap::Args;

use super::{ConfigError, values::time};
use crate::{
    flow::Flow,
    payload::MIN_PAYLOAD_BYTES,
    plan::{Plan, PlanError, Stage},
};

/// How long everybody stays, unless told otherwise.
const DURATION: Duration = Duration::from_secs(60);

/// How many users come when, and what they do.
#[derive(Debug, Clone, Args)]
pub struct LoadFlags {
    /// Users at the same time; each takes an open file [default: 100]
    #[arg(long, env = "LOADTEST_USERS", value_name = "N")]
    pub users: Option<u32>,

    /// How long everybody stays once the last user has started [default: 1m]
    #[arg(long, env = "LOADTEST_DURATION", value_parser = time, value_name = "TIME")]
    pub duration: Option<Duration>,

    /// Time between the starts of two users; 0ms: all at once [default: 10ms]
    #[arg(long, env = "LOADTEST_SPACING", value_parser = time, value_name = "TIME")]
    pub spacing: Option<Duration>,

    /// Go to N users within TIME, or stay with as many: 2m:2000; repeatable, one after the other
    #[arg(long, env = "LOADTEST_STAGE", value_parser = stage, value_name = "TIME:N", value_delimiter = ',',
          conflicts_with_all = ["users", "spacing", "arrival_rate"])]
    pub stage: Vec<(Duration, u32)>,

    /// Users who come each second whatever the server does, for --duration: 50/s
    #[arg(long, env = "LOADTEST_ARRIVAL_RATE", value_parser = rate, value_name = "N/s", conflicts_with_all = ["users", "spacing"])]
    pub arrival_rate: Option<f64>,

    /// What --arrival-rate grows or shrinks to until the end
    #[arg(long, env = "LOADTEST_RAMP_TO", value_parser = rate, value_name = "N/s", requires = "arrival_rate")]
    pub ramp_to: Option<f64>,

    /// How long a user stays who came by --arrival-rate
    #[arg(long, env = "LOADTEST_STAY", default_value = "30s", value_parser = time, value_name = "TIME")]
    pub stay: Duration,

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
}

impl LoadFlags {
    /// The plan that is asked for.
    ///
    /// # Errors
    /// It cannot be played.
    pub(super) fn plan(&self) -> Result<Plan, ConfigError> {
        for (name, value) in [
            ("duration", self.duration.unwrap_or(DURATION)),
            ("signal interval", self.signal_interval),
            ("stay", self.stay),
        ] {
            if value.is_zero() {
                return Err(PlanError::Duration { name, value }.into());
            }
        }
        let mut plan = self.shape();
        let staying = self.arrival_rate.map(|_| self.stay);
        plan.flows = vec![Flow::signaling(
            self.signal_interval,
            self.payload_bytes,
            staying,
        )];
        plan.match_timeout = self.match_timeout;
        plan.connect_timeout = self.connect_timeout;
        plan.check()?;
        Ok(plan)
    }

    /// How many users come when.
    fn shape(&self) -> Plan {
        let duration = self.duration.unwrap_or(DURATION);
        if let Some(from) = self.arrival_rate {
            let to = self.ramp_to.unwrap_or(from);
            return Plan::of_stages(vec![Stage::arrivals("arrivals", duration, from, to)]);
        }
        if self.stage.is_empty() {
            let spacing = self.spacing.unwrap_or(Duration::from_millis(10));
            return Plan::ramp_and_hold(self.users.unwrap_or(100), spacing, duration);
        }
        let mut stages = Vec::new();
        let mut before = 0;
        for &(time, users) in &self.stage {
            let name = if users == before {
                format!("hold {users}")
            } else {
                format!("{before} to {users}")
            };
            stages.push(Stage::users(&name, time, before, users));
            before = users;
        }
        if self.duration.is_some() {
            let name = format!("hold {before}");
            stages.push(Stage::users(&name, duration, before, before));
        }
        Plan::of_stages(stages)
    }
}

fn stage(text: &str) -> Result<(Duration, u32), String> {
    let parts = text.split_once(':');
    let (length, users) = parts.ok_or("give a time and a number of users, such as 2m:2000")?;
    let users = users.trim().parse();
    let users = users.map_err(|_| format!("{text:?} has no number of users behind the colon"))?;
    Ok((time(length.trim())?, users))
}

/// Users per second, or per minute.
fn rate(text: &str) -> Result<f64, String> {
    const HELP: &str = "give a number and a unit, such as 50/s or 30/m";
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let number: f64 = number.trim().parse().map_err(|_| HELP)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(HELP.to_owned()),
    };
    if number.is_finite() && number > 0.0 {
        Ok(number / seconds)
    } else {
        Err(HELP.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Cli;

    fn plan(args: &[&str]) -> Result<Plan, String> {
        let cli = Cli::try_parse_from([&["loadtest"], args].concat()).map_err(|e| e.to_string())?;
        cli.flags.load.plan().map_err(|e| e.to_string())
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn stages_follow_each_other() {
        let plan =
            plan(&["--stage", "10s:50", "--stage", "1m:50", "--stage", "20s:0"]).expect("good");
        assert_eq!(plan.peak_users(), 50);
        assert_eq!(plan.end(), secs(90));
        let users = [0, 5, 10, 69, 80, 91].map(|t| plan.users_at(secs(t)));
        assert_eq!(users, [1, 25, 50, 50, 25, 0]);
    }

    #[test]
    fn arrivals_ramp() {
        let plan = plan(&[
            "--arrival-rate",
            "10/s",
            "--ramp-to",
            "30/s",
            "--duration",
            "10s",
            "--stay",
            "2s",
        ])
        .expect("good");
        let rates = [0, 5, 9].map(|t| plan.arrivals_at(secs(t)));
        assert_eq!(rates, [10.0, 20.0, 28.0]);
        assert_eq!(plan.starts(0, 1).count(), 200);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (args, part) in [
            (&["--stage", "5"][..], "2m:2000"),
            (&["--stage", "5s:x"], "no number of users"),
            (&["--arrival-rate", "fast"], "50/s"),
            (&["--ramp-to", "5/s"], "--arrival-rate"),
            (&["--stage", "5s:10", "--users", "5"], "cannot be used with"),
        ] {
            let error = plan(args).expect_err(part);
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
}
