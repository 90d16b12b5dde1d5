//! Flags for the number of users, their pace, and what they do.

use std::time::Duration;

use clap::Args;

use super::{ConfigError, scenario::ScenarioFlags, values::time};
use crate::{
    base::units::parse_rate,
    plan::{
        Phase, Plan, PlanError, Transports, flow::Flow, limits::MAX_USERS, scenario,
        size::MIN_PAYLOAD_BYTES,
    },
};

/// How long users stay by default.
const DURATION: Duration = Duration::from_secs(60);
/// A search that ends at --users begins at this fraction of them at the most.
const STEPS_UP: u32 = 8;

/// The number of users, their pace, and what they do.
#[derive(Debug, Clone, Args)]
pub struct LoadFlags {
    /// Play a scenario: a built-in one (loadtest scenarios lists them), or a file
    ///
    /// The flags below change the scenario: --users sets the most users, --duration the time at full load, --spacing
    /// the pace of its ramps; --stage replaces its phases. In a search for the capacity, --users ends the search, and each
    /// try holds its load for --duration. The scenarios that follow change in the same way; those that play a
    /// percentage of the capacity keep it.
    #[arg(long, env = "LOADTEST_SCENARIO", value_name = "NAME|FILE")]
    pub scenario: Option<String>,

    /// Users at the same time; each needs an open file [default: 100]
    #[arg(long, env = "LOADTEST_USERS", value_name = "N")]
    pub users: Option<u32>,

    /// How long users stay after the last one has started [default: 1m]
    #[arg(long, env = "LOADTEST_DURATION", value_parser = time, value_name = "TIME")]
    pub duration: Option<Duration>,

    /// Time between the starts of two users; 0ms: all at once [default: 10ms]
    #[arg(long, env = "LOADTEST_SPACING", value_parser = time, value_name = "TIME")]
    pub spacing: Option<Duration>,

    /// Go to N users within TIME, or hold N users: 2m:2000; repeatable, one after the other
    #[arg(long, env = "LOADTEST_STAGE", value_parser = stage, value_name = "TIME:N", value_delimiter = ',',
          conflicts_with_all = ["users", "spacing", "arrival_rate"])]
    pub stage: Vec<(Duration, u32)>,

    /// New users each second, whatever the server does, for --duration: 50/s, or 10/m
    #[arg(long, env = "LOADTEST_ARRIVAL_RATE", value_parser = parse_rate, value_name = "N/s", conflicts_with_all = ["users", "spacing"])]
    pub arrival_rate: Option<f64>,

    /// Let --arrival-rate grow or shrink to this rate until the end
    #[arg(long, env = "LOADTEST_RAMP_TO", value_parser = parse_rate, value_name = "N/s", requires = "arrival_rate", conflicts_with = "scenario")]
    pub ramp_to: Option<f64>,

    /// How long each user of --arrival-rate stays [default: 30s]
    #[arg(long, env = "LOADTEST_STAY", value_parser = time, value_name = "TIME", conflicts_with = "scenario")]
    pub stay: Option<Duration>,

    /// The server's capacity in users, for scenarios that play a percentage of it; without it, they search for it
    #[arg(
        long,
        env = "LOADTEST_CAPACITY",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_USERS)),
        requires = "scenario"
    )]
    pub capacity: Option<u32>,

    /// How users are connected: ws, sse (event streams), poll, or mixed (half sse, two fifths ws, a tenth poll)
    #[arg(long, env = "LOADTEST_TRANSPORT", value_parser = |text: &str| text.parse::<Transports>(), value_name = "NAME")]
    pub transport: Option<Transports>,

    /// Let sessions go on over another connection when theirs is lost; over sse and poll they always do
    #[arg(long, env = "LOADTEST_RESUME", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub resume: Option<bool>,

    /// Flags for some scenarios only.
    #[command(flatten)]
    pub within: ScenarioFlags,

    /// How long a user waits for a partner; a search without a match counts as this long [default: 30s]
    #[arg(long, env = "LOADTEST_MATCH_TIMEOUT", value_parser = time, value_name = "TIME")]
    pub match_timeout: Option<Duration>,

    /// A message that takes longer than this is late [default: 1s]
    #[arg(long, env = "LOADTEST_MESSAGE_TIMEOUT", value_parser = time, value_name = "TIME")]
    pub message_timeout: Option<Duration>,

    /// Time between two messages of one user [default: 5s]
    #[arg(long, env = "LOADTEST_SIGNAL_INTERVAL", value_parser = time, value_name = "TIME")]
    pub signal_interval: Option<Duration>,

    /// How long connect, handshake and the session message may take together [default: 10s]
    #[arg(long, env = "LOADTEST_CONNECT_TIMEOUT", value_parser = time, value_name = "TIME")]
    pub connect_timeout: Option<Duration>,

    /// Bytes of each message's payload [default: 192]
    #[arg(long, env = "LOADTEST_PAYLOAD_BYTES", value_name = "BYTES")]
    pub payload_bytes: Option<usize>,
}

impl LoadFlags {
    /// The plan of the flags, and the plans that follow it.
    pub(super) fn plans(&self) -> Result<Vec<Plan>, ConfigError> {
        let mut plans = vec![self.plan(true)?];
        let mut next = 0;
        // Only built-in scenarios are followed by others, and none comes back to itself.
        while let Some(plan) = plans.get(next) {
            next += 1;
            let then = plan.then.iter().map(|name| {
                let flags = Self {
                    scenario: Some(name.clone()),
                    ..self.clone()
                };
                flags.plan(false)
            });
            let then = then.collect::<Result<Vec<_>, _>>()?;
            plans.splice(next..next, then);
        }
        Ok(plans)
    }

    fn plan(&self, asked_for: bool) -> Result<Plan, ConfigError> {
        for (name, value) in [
            ("duration", self.duration),
            ("signal interval", self.signal_interval),
            ("stay", self.stay),
        ] {
            if let Some(value) = value.filter(Duration::is_zero) {
                return Err(PlanError::Duration { name, value }.into());
            }
        }
        let mut plan = match &self.scenario {
            Some(name) => self.changed(scenario::load(name)?, asked_for)?,
            None => self.short_form(),
        };
        plan.transports = self.transport.unwrap_or(plan.transports);
        plan.resume = self.resume.unwrap_or(plan.resume);
        plan.match_timeout = self.match_timeout.unwrap_or(plan.match_timeout);
        plan.message_timeout = self.message_timeout.unwrap_or(plan.message_timeout);
        plan.connect_timeout = self.connect_timeout.unwrap_or(plan.connect_timeout);
        plan.check()?;
        Ok(plan)
    }

    /// Applies the flags to a scenario. A number of users replaces a percentage of the capacity only in the scenario
    /// that was asked for.
    fn changed(&self, mut plan: Plan, asked_for: bool) -> Result<Plan, PlanError> {
        let fixed = self.users.is_some() || !self.stage.is_empty();
        if fixed && asked_for && plan.percent_of_capacity.take().is_some() {
            plan.search = None;
        }
        if !self.stage.is_empty() {
            plan.phases = self.phases();
        }
        if let Some(users) = self.users {
            plan = plan.with_users(users)?;
            if let Some(search) = &mut plan.search {
                search.to = users;
                search.from = search.from.min(users / STEPS_UP).max(2);
            }
        }
        if let Some(rate) = self.arrival_rate {
            plan = plan.with_arrival_rate(rate)?;
        }
        if let Some(spacing) = self.spacing {
            plan = plan.with_spacing(spacing);
        }
        if let Some(duration) = self.duration.filter(|_| self.stage.is_empty()) {
            plan = plan.with_duration(duration);
        }
        for flow in &mut plan.flows {
            flow.adjust(self.signal_interval, self.payload_bytes);
        }
        self.within.change(plan, asked_for)
    }

    /// The plan without a scenario: users find a partner and send ICE candidates.
    fn short_form(&self) -> Plan {
        let duration = self.duration.unwrap_or(DURATION);
        let mut plan = if let Some(from) = self.arrival_rate {
            let to = self.ramp_to.unwrap_or(from);
            Plan::of_phases(vec![Phase::arrivals("arrivals", duration, from, to)])
        } else if self.stage.is_empty() {
            let spacing = self.spacing.unwrap_or(Duration::from_millis(10));
            Plan::ramp_and_hold(self.users.unwrap_or(100), spacing, duration)
        } else {
            Plan::of_phases(self.phases())
        };
        let stay = self.stay.unwrap_or(Duration::from_secs(30));
        plan.flows = vec![Flow::signaling(
            self.signal_interval.unwrap_or(Duration::from_secs(5)),
            self.payload_bytes.unwrap_or(MIN_PAYLOAD_BYTES),
            self.arrival_rate.map(|_| stay),
        )];
        plan
    }

    fn phases(&self) -> Vec<Phase> {
        let mut phases = Vec::new();
        let mut before = 0;
        let held = self.duration.map(|duration| (duration, None));
        let given = self.stage.iter().map(|&(time, users)| (time, Some(users)));
        for (time, users) in given.chain(held) {
            let users = users.unwrap_or(before);
            let name = if users == before {
                format!("hold {users}")
            } else {
                format!("{before} to {users}")
            };
            phases.push(Phase::users(&name, time, before, users));
            before = users;
        }
        phases
    }
}

fn stage(text: &str) -> Result<(Duration, u32), String> {
    let parts = text.split_once(':');
    let (length, users) = parts.ok_or("give a time and a number of users, such as 2m:2000")?;
    let users = users.trim().parse();
    let users = users.map_err(|_| format!("{text:?} has no number of users behind the colon"))?;
    Ok((time(length.trim())?, users))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::flags::Cli;

    fn plan(args: &[&str]) -> Result<Plan, String> {
        let cli = Cli::try_parse_from([&["loadtest"], args].concat()).map_err(|e| e.to_string())?;
        cli.flags.load.plan(true).map_err(|e| e.to_string())
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
        assert_eq!(users, [1, 26, 50, 50, 25, 0]);
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
    fn storms_fractions_and_searches_are_changed() {
        let storm = plan(&["--scenario", "reconnect-storm", "--drop", "20%"]).expect("good");
        let dropped: f64 = storm.phases.iter().map(|phase| phase.drop_percent).sum();
        assert_eq!(dropped, 20.0);
        let fraction = [
            "--percent-of-capacity",
            "55",
            "--search-from",
            "100",
            "--precision",
            "5%",
        ];
        let fraction = plan(&[&["--scenario", "endurance"], &fraction[..]].concat()).expect("good");
        assert_eq!(fraction.percent_of_capacity, Some(55.0));
        let search = fraction.search.expect("one");
        assert_eq!((search.from, search.precision_percent), (100, 5.0));
        for flag in [
            "--drop",
            "--percent-of-capacity",
            "--search-from",
            "--precision",
        ] {
            let error = plan(&["--scenario", "churn", flag, "10"]).expect_err(flag);
            assert!(error.contains(flag) && error.contains("churn"), "{error}");
        }
        assert!(
            plan(&["--scenario", "plan", "--drop", "10"]).is_ok(),
            "a later one may have it"
        );
        assert!(plan(&["--scenario", "reconnect-storm", "--drop", "0"]).is_err());
    }

    #[test]
    fn transports_are_chosen_and_sessions_outlive_them() {
        let resumes = |args: &[&str]| plan(args).expect("good").resumes();
        assert!(!resumes(&[]) && !resumes(&["--transport", "ws"]));
        assert!(resumes(&["--transport", "mixed"]) && resumes(&["--transport", "poll"]));
        assert!(resumes(&["--resume"]) && resumes(&["--resume", "--users", "5"]));
        let storm = ["--scenario", "reconnect-storm", "--resume"];
        assert!(resumes(&storm) && !resumes(&storm[..2]));
        assert!(!resumes(&["--scenario", "rooms", "--resume=false"]));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (args, part) in [
            (&["--transport", "quic"][..], "ws, sse, poll or mixed"),
            (
                &["--scenario", "fallback", "--resume=false"],
                "add `resume = true`",
            ),
            (
                &["--scenario", "chat-ack", "--transport", "sse"],
                "greets with `session`",
            ),
            (&["--stage", "5"], "2m:2000"),
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
