//! The shape of the load: who starts when, what users do, and when the run ends. Pure.

pub mod flow;
pub mod scenario;
pub mod template;
pub mod threshold;

use std::time::{Duration, SystemTime};

use crate::{
    base::{
        random::{fraction_of, mixed},
        server_url::ServerUrl,
    },
    plan::{
        flow::{Flow, Message, Relayed, Step},
        size::MIN_PAYLOAD_BYTES,
        threshold::{Parts, Threshold},
    },
};

mod check;
pub mod limits;
mod phase;
mod resize;
mod resolve;
mod schedule;
mod shard;
pub mod size;
pub mod talk;
#[cfg(test)]
mod tests;
mod transport;

pub use check::PlanError;
pub use phase::{Load, Phase};
pub use resolve::ResolvedPlan;
pub use schedule::Start;
pub use shard::Shard;
pub use transport::{Transport, Transports};

const FAIR_WAIT: Duration = Duration::from_secs(2);

/// The load that one run puts on a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The name in reports.
    pub name: String,
    /// The purpose, in a sentence or two.
    pub description: String,
    /// The parts of the run, one after the other.
    pub phases: Vec<Phase>,
    /// What users do. Each user plays one flow; a flow's weight says how many users play it.
    pub flows: Vec<Flow>,
    /// What the server sends first.
    pub greeting: Greeting,
    /// How users are connected.
    pub transports: Transports,
    /// Sessions outlive their connections, also over WebSockets.
    pub resume: bool,
    /// How long a user waits for a partner before the search counts as failed.
    pub match_timeout: Duration,
    /// How long TCP connect, WebSocket handshake and the greeting may take together.
    pub connect_timeout: Duration,
    /// A message that takes longer than this is late.
    pub message_timeout: Duration,
    /// The thresholds; empty: the defaults.
    pub thresholds: Vec<Threshold>,
    /// How to search for the server's capacity, if the plan does.
    pub search: Option<CapacitySearch>,
    /// The load is this percentage of the server's known or measured capacity.
    pub percent_of_capacity: Option<f64>,
    /// The names of built-in scenarios that run after this one.
    pub then: Vec<String>,
    /// The part of the users that this process plays; other processes play the rest.
    pub shard: Shard,
    /// The wall-clock time of the start; `None`: at once.
    pub start_at: Option<SystemTime>,
}

/// The search for the server's capacity: more and more users until a threshold fails, then the middle between
/// the highest load that held and the lowest that failed, then a confirmation.
#[derive(Debug, Clone, PartialEq)]
pub struct CapacitySearch {
    /// Users of the first try.
    pub from: u32,
    /// The most users to try.
    pub to: u32,
    /// Users of a step divided by those of the step before: 2 doubles.
    pub factor: f64,
    /// How far apart the two ends of the answer may be, in percent.
    pub precision_percent: f64,
}

/// What the server sends after a user has connected.
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

    /// User `i` starts at `i * spacing`; after the ramp all users stay for `duration`. So a run takes
    /// `users * spacing + duration`.
    pub fn ramp_and_hold(users: u32, spacing: Duration, duration: Duration) -> Self {
        let ramp = spacing.saturating_mul(users);
        Self::of_phases(vec![
            Phase::users("ramp", ramp, 0, users),
            Phase::users("hold", duration, users, users),
        ])
    }

    /// These phases, and the defaults of the command line for everything else.
    pub fn of_phases(phases: Vec<Phase>) -> Self {
        Self {
            name: "users".to_owned(),
            description: String::new(),
            phases,
            flows: vec![Flow::signaling(
                Duration::from_secs(5),
                MIN_PAYLOAD_BYTES,
                None,
            )],
            greeting: Greeting::Type("session".to_owned()),
            transports: Transports::All(Transport::WebSocket),
            resume: false,
            match_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(1),
            thresholds: Vec::new(),
            search: None,
            percent_of_capacity: None,
            then: Vec::new(),
            shard: Shard::WHOLE,
            start_at: None,
        }
    }

    /// The most users at the same time. For arrivals: an upper bound from the length of their flows.
    pub fn peak_users(&self) -> u32 {
        let longest = self.flows.iter().map(Flow::longest).max();
        let longest = longest.unwrap_or(Duration::MAX);
        let arrived = self.phases.iter().map(|phase| match phase.load {
            Load::Arrivals { from, to } if longest < phase.duration => {
                Phase::arrivals("", longest, from.max(to), from.max(to)).arriving()
            }
            _ => phase.arriving(),
        });
        self.steady_users()
            .saturating_add(arrived.max().unwrap_or(0))
    }

    /// The most users of the phases that name a number of users.
    pub fn steady_users(&self) -> u32 {
        let users = self.phases.iter().map(|phase| match phase.load {
            Load::Users { from, to } => from.max(to),
            Load::Arrivals { .. } => 0,
        });
        users.max().unwrap_or(0)
    }

    fn users_in_all(&self) -> u32 {
        let arriving = self.phases.iter().map(Phase::arriving);
        arriving.fold(self.steady_users(), u32::saturating_add)
    }

    /// When the users stop sending, since the start of the run.
    pub fn end(&self) -> Duration {
        let durations = self.phases.iter().map(|phase| phase.duration);
        durations.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// The time until the most users are there.
    pub fn ramp(&self) -> Duration {
        let peak = self.steady_users();
        let before = self.phases_with_begin().find_map(|(begin, phase)| {
            let Load::Users { to, .. } = phase.load else {
                return None;
            };
            (to == peak).then(|| begin + phase.duration)
        });
        before.unwrap_or_default()
    }

    /// The phases, each with its begin since the start of the run.
    pub fn phases_with_begin(&self) -> impl Iterator<Item = (Duration, &Phase)> {
        let mut next = Duration::ZERO;
        self.phases.iter().map(move |phase| {
            let begin = next;
            next = next.saturating_add(phase.duration);
            (begin, phase)
        })
    }

    /// The phase at `t`, and how long it has run by then.
    pub fn phase_at(&self, t: Duration) -> Option<(&Phase, Duration)> {
        let at = |(begin, phase): (Duration, _)| (phase, t.saturating_sub(begin));
        let mut phases = self.phases_with_begin();
        phases
            .find(|(begin, phase)| t < *begin + phase.duration)
            .map(at)
    }

    /// How many users should be there at `t`, without users of arrival phases.
    pub fn users_at(&self, t: Duration) -> u32 {
        let mut users = 0;
        for (begin, phase) in self.phases_with_begin() {
            let Load::Users { from, to } = phase.load else {
                continue;
            };
            if t >= begin + phase.duration && !(phase.duration.is_zero() && t == begin) {
                users = to;
            } else if t >= begin {
                let turns = phase.turns_until(t - begin);
                users = if from <= to {
                    from + turns
                } else {
                    from - turns
                };
            }
        }
        if t >= self.end() { 0 } else { users }
    }

    /// How many users arrive each second at `t`.
    pub fn arrivals_at(&self, t: Duration) -> f64 {
        self.phase_at(t)
            .map_or(0.0, |(phase, since)| phase.arrival_rate(since))
    }

    /// When user `user` first loses the connection on purpose after `t`.
    pub fn dropped_after(&self, user: u32, t: Duration) -> Option<Duration> {
        self.phases_with_begin()
            .find(|(begin, phase)| *begin > t && mixed(user, u32::MAX) < phase.drop_percent / 100.0)
            .map(|(begin, _)| begin)
    }

    /// The flow that user `user` plays.
    pub fn flow_of(&self, user: u32) -> usize {
        let all: f64 = self.flows.iter().map(|flow| f64::from(flow.weight)).sum();
        let mut at = fraction_of(user) * all;
        for (index, flow) in self.flows.iter().enumerate() {
            at -= f64::from(flow.weight);
            if at < 0.0 {
                return index;
            }
        }
        0
    }

    /// Whether users ask for partners.
    fn has_matches(&self) -> bool {
        self.any_step(&|step| matches!(step, Step::FindMatch | Step::Next))
    }

    /// Every message with a tag should reach a user.
    fn all_come_back(&self) -> bool {
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

    /// Two users who have both waited at least this long could have been matched with each other.
    /// It takes longer where users go from partner to partner: a server does not match a user again with the
    /// partner whom they have just left.
    fn fair_wait(&self) -> Duration {
        if self.any_step(&|step| matches!(step, Step::Next)) {
            self.match_timeout
        } else {
            FAIR_WAIT.min(self.match_timeout)
        }
    }

    /// Whether users send each other messages.
    fn has_relays(&self) -> bool {
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

    /// What the users of the plan do: it decides which thresholds have data.
    pub fn parts(&self) -> Parts {
        let sends = |wanted: Relayed| {
            self.any_step(&move |step| {
                let Step::Send { message, .. } = step else {
                    return false;
                };
                matches!(message, Message::Relay { kind, .. } if *kind == wanted)
            })
        };
        Parts {
            matches: self.has_matches(),
            relays: self.has_relays(),
            setups: sends(Relayed::Offer) || sends(Relayed::Answer),
            calls: !self.calls().is_empty(),
            words: self.has_words(),
        }
    }

    /// Whether speakers send audio of which words are expected.
    fn has_words(&self) -> bool {
        self.any_step(&|step| matches!(step, Step::Talk(talk) if talk.is_numbered()))
    }

    /// Whether users take part in transcription sessions, or in interviews.
    fn has_talks(&self) -> bool {
        self.any_step(&|step| matches!(step, Step::Talk(_) | Step::Interview(_)))
    }

    /// Whether users connect to the server's URL as it is given.
    fn has_plain_connections(&self) -> bool {
        self.any_step(&|step| matches!(step, Step::Connect))
    }

    /// The servers beside the one under test that users ask over HTTP.
    fn origins(&self) -> Vec<ServerUrl> {
        let mut origins = Vec::new();
        for flow in &self.flows {
            flow.origins(&mut origins);
        }
        origins
    }

    /// The thresholds of the plan, or the defaults.
    fn thresholds_or_defaults(&self) -> Vec<Threshold> {
        self.thresholds_with(Vec::new())
    }

    /// The same, where each of `given` replaces the threshold of the same name.
    pub fn thresholds_with(&self, given: Vec<Threshold>) -> Vec<Threshold> {
        let mut all = self.thresholds.clone();
        if all.is_empty() {
            all = threshold::defaults(self.parts());
        }
        all.retain(|one| given.iter().all(|other| other.name() != one.name()));
        all.extend(given);
        let waits = self.any_step(&|step| matches!(step, Step::Expect { .. }));
        if waits && !all.iter().any(Threshold::is_on_flows) {
            all.push(threshold::flows());
        }
        if self.has_words() && !all.iter().any(Threshold::is_on_misdelivered_words) {
            all.push(threshold::misdelivered_words());
        }
        all
    }

    /// The names of the calls, in the order of their ids.
    fn calls(&self) -> Vec<String> {
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
