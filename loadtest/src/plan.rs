//! The shape of the load: who starts when, what they do, and when it is over. Pure.

use std::time::{Duration, SystemTime};

use crate::{
    flow::{Flow, Message, Step},
    origin::Origin,
    payload::MIN_PAYLOAD_BYTES,
    threshold::{Threshold, Thresholds},
};

mod check;
mod resize;
mod schedule;
mod share;
mod stage;
#[cfg(test)]
mod tests;

pub(crate) use check::MAX_NAMES;
pub use check::PlanError;
pub(crate) use schedule::Start;
pub use share::{MAX_SHARES, Share};
pub use stage::{Load, Stage};

/// The most users that one process may be asked to play.
pub const MAX_USERS: u32 = 1_000_000;

/// The longest that any one duration of a plan may be.
pub const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most users that may come in a second.
pub const MAX_ARRIVALS: f64 = 100_000.0;

const FAIR_WAIT: Duration = Duration::from_secs(2);

/// The load that one run puts on a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What reports call it.
    pub name: String,
    /// What it is for, in a sentence or two.
    pub description: String,
    /// The parts of the run, one after the other.
    pub stages: Vec<Stage>,
    /// What users do; each user plays one of these, as often as its weight says.
    pub flows: Vec<Flow>,
    /// What a server says first.
    pub greeting: Greeting,
    /// How long a user waits for a partner before the search counts as failed.
    pub match_timeout: Duration,
    /// How long TCP connect, WebSocket handshake and the greeting may take together.
    pub connect_timeout: Duration,
    /// A message that takes longer than this is late.
    pub message_timeout: Duration,
    /// What is asked of the server; empty: the defaults.
    pub thresholds: Vec<Threshold>,
    /// How the breaking point is searched for, in a plan that does.
    pub search: Option<Search>,
    /// The load is this much of the most that the server is known or found to hold.
    pub percent_of_capacity: Option<f64>,
    /// The names of built-in scenarios that are run after it.
    pub then: Vec<String>,
    /// The users of the plan who are played; the others are played elsewhere.
    pub share: Share,
    /// When the run starts, by the clock on the wall; `None`: at once.
    pub start_at: Option<SystemTime>,
}

/// How the breaking point is searched for: ever more users until a threshold fails, then the middle between
/// what held and what did not, then a confirmation.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Users of the first try.
    pub from: u32,
    /// The most users that are tried.
    pub to: u32,
    /// Users of a step in terms of the one before: 2 doubles.
    pub factor: f64,
    /// How close the two ends of the answer are to be, in percent.
    pub precision_percent: f64,
}

/// What a server says when somebody has connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing: a user is ready once the handshake is over.
    None,
    /// A message of this type, which may be `session`.
    Type(String),
}

impl Plan {
    /// `users` who come 10 ms apart and stay for `duration` once all have started, and the defaults of the
    /// command line for everything else.
    pub fn new(users: u32, duration: Duration) -> Self {
        Self::ramp_and_hold(users, Duration::from_millis(10), duration)
    }

    /// User `i` starts at `i * spacing`; when the last one has started, everybody stays for `duration`. So a
    /// run takes `(users - 1) * spacing + duration`.
    pub fn ramp_and_hold(users: u32, spacing: Duration, duration: Duration) -> Self {
        let ramp = spacing.saturating_mul(users.saturating_sub(1));
        Self::of_stages(vec![
            Stage::users("ramp", ramp, 0, users),
            Stage::users("hold", duration, users, users),
        ])
    }

    /// These stages, and the defaults of the command line for everything else.
    pub fn of_stages(stages: Vec<Stage>) -> Self {
        Self {
            name: "users".to_owned(),
            description: String::new(),
            stages,
            flows: vec![Flow::signaling(
                Duration::from_secs(5),
                MIN_PAYLOAD_BYTES,
                None,
            )],
            greeting: Greeting::Type("session".to_owned()),
            match_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(1),
            thresholds: Vec::new(),
            search: None,
            percent_of_capacity: None,
            then: Vec::new(),
            share: Share::WHOLE,
            start_at: None,
        }
    }

    /// The most users that are to be there at the same time; of arrivals, as many as may still be there by
    /// the length of their flows.
    pub fn peak_users(&self) -> u32 {
        let longest = self.flows.iter().map(Flow::longest).max();
        let longest = longest.unwrap_or(Duration::MAX);
        let arrived = self.stages.iter().map(|stage| match stage.load {
            Load::Arrivals { from, to } if longest < stage.duration => {
                Stage::arrivals("", longest, from.max(to), from.max(to)).arriving()
            }
            _ => stage.arriving(),
        });
        self.steady_users()
            .saturating_add(arrived.max().unwrap_or(0))
    }

    /// The most users of the stages that say how many there are.
    pub(crate) fn steady_users(&self) -> u32 {
        let users = self.stages.iter().map(|stage| match stage.load {
            Load::Users { from, to } => from.max(to),
            Load::Arrivals { .. } => 0,
        });
        users.max().unwrap_or(0)
    }

    fn users_in_all(&self) -> u32 {
        let arriving = self.stages.iter().map(Stage::arriving);
        arriving.fold(self.steady_users(), u32::saturating_add)
    }

    /// When the users stop sending, since the start of the run.
    pub fn end(&self) -> Duration {
        let durations = self.stages.iter().map(|stage| stage.duration);
        durations.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How long it takes until the most users are there.
    pub fn ramp(&self) -> Duration {
        let peak = self.steady_users();
        let before = self.stages_with_begin().find_map(|(begin, stage)| {
            let Load::Users { to, .. } = stage.load else {
                return None;
            };
            (to == peak).then(|| begin + stage.duration)
        });
        before.unwrap_or_default()
    }

    /// The stages, each with its begin since the start of the run.
    pub fn stages_with_begin(&self) -> impl Iterator<Item = (Duration, &Stage)> {
        let mut next = Duration::ZERO;
        self.stages.iter().map(move |stage| {
            let begin = next;
            next = next.saturating_add(stage.duration);
            (begin, stage)
        })
    }

    /// The stage at `t`, and how long it has been on.
    pub fn stage_at(&self, t: Duration) -> Option<(&Stage, Duration)> {
        let at = |(begin, stage): (Duration, _)| (stage, t.saturating_sub(begin));
        let mut stages = self.stages_with_begin();
        stages
            .find(|(begin, stage)| t < *begin + stage.duration)
            .map(at)
    }

    /// How many users the plan wants to be there at `t`, without those who arrive by a rate.
    pub fn users_at(&self, t: Duration) -> u32 {
        let mut users = 0;
        for (begin, stage) in self.stages_with_begin() {
            let Load::Users { from, to } = stage.load else {
                continue;
            };
            if t >= begin + stage.duration && !(stage.duration.is_zero() && t == begin) {
                users = to;
            } else if t >= begin {
                let turns = stage.turns_until(t - begin);
                users = if from <= to {
                    from + turns
                } else {
                    from - turns
                };
            }
        }
        if t >= self.end() { 0 } else { users }
    }

    /// How many users come each second at `t`.
    pub fn arrivals_at(&self, t: Duration) -> f64 {
        self.stage_at(t)
            .map_or(0.0, |(stage, since)| stage.arrival_rate(since))
    }

    /// When user `user` loses the connection on purpose for the first time after `t`.
    pub(crate) fn dropped_after(&self, user: u32, t: Duration) -> Option<Duration> {
        self.stages_with_begin()
            .find(|(begin, stage)| *begin > t && mixed(user, u32::MAX) < stage.drop_percent / 100.0)
            .map(|(begin, _)| begin)
    }

    /// The flow that user `user` plays.
    pub(crate) fn flow_of(&self, user: u32) -> usize {
        let all: f64 = self.flows.iter().map(|flow| f64::from(flow.weight)).sum();
        let mut at = share_of(user) * all;
        for (index, flow) in self.flows.iter().enumerate() {
            at -= f64::from(flow.weight);
            if at < 0.0 {
                return index;
            }
        }
        0
    }

    /// Whether users ask for partners.
    pub fn has_matches(&self) -> bool {
        self.any_step(&|step| matches!(step, Step::FindMatch | Step::Next))
    }

    /// Every message that carries a tag is to come to somebody.
    pub(crate) fn all_come_back(&self) -> bool {
        !self.any_step(&|step| {
            let Step::Send { message, .. } = step else {
                return false;
            };
            matches!(
                message,
                Message::Custom {
                    some_come_back: true,
                    ..
                }
            )
        })
    }

    /// Two users who wait at the same time, both at least this long, could have been paired with each other.
    /// Where users go from one partner to the next, that takes longer: a server does not give them the partner
    /// whom they have just left.
    pub(crate) fn fair_wait(&self) -> Duration {
        if self.any_step(&|step| matches!(step, Step::Next)) {
            self.match_timeout
        } else {
            FAIR_WAIT.min(self.match_timeout)
        }
    }

    /// Whether users send each other messages.
    pub fn has_relays(&self) -> bool {
        self.any_step(&|step| {
            matches!(
                step,
                Step::Send {
                    message: Message::Relay { .. },
                    ..
                }
            )
        })
    }

    /// Whether users open WebSocket connections.
    pub fn has_connections(&self) -> bool {
        self.any_step(&|step| matches!(step, Step::Connect | Step::ConnectTo(_)))
    }

    /// Whether users open WebSocket connections to the URL of the server as it is given.
    pub(crate) fn has_plain_connections(&self) -> bool {
        self.any_step(&|step| matches!(step, Step::Connect))
    }

    /// The servers beside the one under test that users ask over HTTP.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let mut origins = Vec::new();
        for flow in &self.flows {
            flow.origins(&mut origins);
        }
        origins
    }

    /// What is asked of the server, or what is asked of any.
    pub(crate) fn thresholds_or_defaults(&self) -> Vec<Threshold> {
        let defaults = Thresholds::default();
        let mut all = self.thresholds.clone();
        if all.is_empty() {
            all = defaults.list(self.has_matches(), self.has_relays());
        }
        self.hold_to_expected(&mut all, &defaults);
        all
    }

    /// Adds what is asked where users wait for messages, unless something was asked of flows.
    pub(crate) fn hold_to_expected(&self, all: &mut Vec<Threshold>, limits: &Thresholds) {
        let waits = self.any_step(&|step| matches!(step, Step::Expect { .. }));
        if waits && !all.iter().any(Threshold::is_on_flows) {
            all.extend(limits.of_expecting());
        }
    }

    /// The names of the calls, in the order of their ids.
    pub fn calls(&self) -> Vec<String> {
        let mut names = Vec::new();
        for flow in &self.flows {
            flow.calls(&mut names);
        }
        names
    }

    fn any_step(&self, wanted: &dyn Fn(&Step) -> bool) -> bool {
        self.flows.iter().any(|flow| flow.any_step(wanted))
    }
}

/// A number from 0 to 1 for each user, which spreads any range of users evenly (golden ratio).
fn share_of(user: u32) -> f64 {
    // 2^64 / golden ratio: multiplying by it and wrapping around is the fractional part in fixed point.
    let fraction = u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    fraction as f64 / 2.0_f64.powi(64)
}

/// A number from 0 to 1 that looks random and is the same in each run (SplitMix64).
pub(crate) fn mixed(user: u32, n: u32) -> f64 {
    let mut z = (u64::from(user) << 32 | u64::from(n)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / 2.0_f64.powi(64)
}

/// The first moment at or after `t` at which user `user` is due, who is due once in every `interval`.
///
/// Every user has a grid of their own. The grids are shifted against each other by the golden ratio, which
/// spreads any number of users evenly, so that the server sees a steady stream and not one burst per
/// interval.
pub(crate) fn due_at_or_after(user: u32, interval: Duration, t: Duration) -> Duration {
    let interval = interval.as_nanos().max(1);
    let fraction = u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let shift = (u128::from(fraction) * interval) >> 64;
    let periods = t.as_nanos().saturating_sub(shift).div_ceil(interval);
    let due = shift + periods * interval;
    Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX))
}
