//! Whether a plan can be played. Checked before the run.

use std::time::Duration;

use thiserror::Error;

use super::{
    CapacitySearch, Greeting, Message, Plan, Shard, Step,
    limits::{MAX_ARRIVALS, MAX_DURATION, MAX_NAMES, MAX_USERS},
};
use crate::plan::{flow::FlowError, template::Frame, threshold::Threshold};

/// A plan that cannot be played.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PlanError {
    #[error("a plan without {0}: give at least one")]
    Empty(&'static str),
    /// Too few users, or too many for one process.
    #[error("{0} users cannot be played: give 2 to {MAX_USERS} users (one alone has no partner)")]
    Users(u32),
    /// Not a rate.
    #[error("{0} arrivals a second cannot be played: give more than 0 and at most {MAX_ARRIVALS}")]
    Arrivals(f64),
    /// A duration that is zero or too long.
    #[error("a {name} of {value:?} is out of range: give more than 0 and at most 30 days")]
    Duration {
        /// The setting, in words.
        name: &'static str,
        /// The value.
        value: Duration,
    },
    /// The plan has arrivals, and a number of users was given.
    #[error(
        "this plan says how many users come each second, not how many are there: give --arrival-rate"
    )]
    NoUsers,
    /// The plan has users, and an arrival rate was given.
    #[error("this plan says how many users are there, not how many come each second: give --users")]
    NoArrivals,
    /// Not a percentage.
    #[error("{0} is not a percentage: give 0 to 100")]
    Percent(f64),
    /// A search that would never end.
    #[error(
        "a search from {from} to {to} users by a factor of {factor}: give 2 or more users, not fewer at the \
             end than at the begin, and a factor of 1.1 or more"
    )]
    CapacitySearch {
        /// The first try.
        from: u32,
        /// The last one.
        to: u32,
        factor: f64,
    },
    /// A flag tries to change something that the scenario does not have.
    #[error(
        "{flag} changes nothing in {scenario}: `loadtest check {scenario}` shows what is in it"
    )]
    NotInIt {
        flag: &'static str,
        scenario: String,
    },
    /// A percentage of a capacity that is not known.
    #[error(
        "{0} plays a percentage of the server's capacity: give --capacity, or --users, or a [search] in the scenario"
    )]
    NoCapacity(String),
    /// A threshold on an unknown call or flow.
    #[error(
        "a threshold names {name:?}, which is neither a call nor a flow here: give one of {known}"
    )]
    Unknown {
        /// The unknown name.
        name: String,
        /// The known names.
        known: String,
    },
    /// Too many names: each call keeps latencies of its own, and memory is bounded.
    #[error("{count} {what}: give {MAX_NAMES} at the most")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        count: usize,
    },
    #[error("shard {shard} of {users} users would have no users: split the plan into fewer shards")]
    EmptyShard { shard: Shard, users: u32 },
    /// A series of runs cannot be split: one shard alone cannot know when to go on.
    #[error(
        "scenario {0} is a series of runs, each of which depends on the one before: it cannot be played in shards or at a set time"
    )]
    NotInShards(String),
    /// A plan for sessions that outlive their connections, against a server that has none.
    #[error(
        "only a server that greets with `session` has sessions that go on over another connection: leave `resume`, `block` and transports but ws out"
    )]
    NoSessions,
    /// Binary frames, or text that is no object, where each message has a number in it.
    #[error(
        "over sse and poll, and with `resume`, each message is a JSON object with a number: message text begins with {{ and is sent as text"
    )]
    NotNumbered,
    /// A block that would cut no session that could go on.
    #[error(
        "a phase blocks a transport, and sessions end with their connection: add `resume = true` (--resume), or a transport but ws (--transport)"
    )]
    BlockedWithoutResume,
    #[error("a phase that blocks all transports lets nobody in: leave one out of `block`")]
    AllBlocked,
    /// Users of one session in several processes, of which none would know what the others said.
    #[error(
        "a talk of several `members` cannot be played in shards: give one shard, or `members = 1`"
    )]
    TalkInShards,
    #[error(transparent)]
    Flow(#[from] FlowError),
}

impl Plan {
    /// Whether the plan can be played.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.phases.is_empty() {
            return Err(PlanError::Empty("phase"));
        }
        if self.flows.iter().all(|flow| flow.weight == 0) {
            return Err(PlanError::Empty("flow of a weight above 0"));
        }
        let positive = [
            ("duration", self.end()),
            ("match timeout", self.match_timeout),
            ("connect timeout", self.connect_timeout),
            ("message timeout", self.message_timeout),
        ];
        for (name, value) in positive {
            if value.is_zero() || value > MAX_DURATION {
                return Err(PlanError::Duration { name, value });
            }
        }
        for phase in &self.phases {
            phase.check()?;
        }
        let least = if self.has_matches() { 2 } else { 1 };
        if self.peak_users() > MAX_USERS || self.users_in_all() < least {
            return Err(PlanError::Users(self.peak_users()));
        }
        if let Some(search) = &self.search {
            search.check()?;
        }
        for flow in &self.flows {
            flow.check(&self.greeting)?;
        }
        self.check_transports()?;
        let counts = [
            ("phases", self.phases.len()),
            ("flows", self.flows.len()),
            ("calls and pages", self.calls().len()),
        ];
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count > MAX_NAMES) {
            return Err(PlanError::TooMany { what, count });
        }
        let together = |step: &Step| matches!(step, Step::Talk(talk) if talk.members > 1);
        if !self.shard.is_whole() && self.any_step(&together) {
            return Err(PlanError::TalkInShards);
        }
        self.check_shard()?;
        self.check_names()
    }

    fn check_transports(&self) -> Result<(), PlanError> {
        if !self.resumes() {
            let blocks = self.phases.iter().any(|phase| !phase.blocked.is_empty());
            return match blocks {
                true => Err(PlanError::BlockedWithoutResume),
                false => Ok(()),
            };
        }
        if self.greeting != Greeting::Type("session".to_owned()) {
            return Err(PlanError::NoSessions);
        }
        let unfit = self.any_step(&|step| match step {
            Step::Send {
                message: Message::Custom {
                    template, frame, ..
                },
                ..
            } => !template.is_object() || *frame == Frame::Binary,
            Step::Call(call) => !call.template.is_object() || call.frame == Frame::Binary,
            _ => false,
        });
        match unfit {
            true => Err(PlanError::NotNumbered),
            false => Ok(()),
        }
    }

    /// Whether the plan has all calls and flows that its thresholds name.
    ///
    /// # Errors
    /// The first unknown name.
    pub fn check_names(&self) -> Result<(), PlanError> {
        let mut known = self.calls();
        known.extend(self.flows.iter().map(|flow| flow.name.clone()));
        let named = self.thresholds.iter().filter_map(Threshold::names);
        let mut unknown = named.filter(|name| known.iter().all(|known| known != name));
        match unknown.next() {
            None => Ok(()),
            Some(name) => Err(PlanError::Unknown {
                name: name.to_owned(),
                known: known.join(", "),
            }),
        }
    }
}

impl CapacitySearch {
    fn check(&self) -> Result<(), PlanError> {
        let Self {
            from, to, factor, ..
        } = *self;
        if from < 2 || to < from || to > MAX_USERS || factor.is_nan() || factor < 1.1 {
            return Err(PlanError::CapacitySearch { from, to, factor });
        }
        if self.precision_percent > 0.0 && self.precision_percent <= 100.0 {
            return Ok(());
        }
        Err(PlanError::Percent(self.precision_percent))
    }
}
