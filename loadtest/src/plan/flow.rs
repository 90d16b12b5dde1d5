//! What a user does: steps, one after the other. Pure.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use voicematch_protocol::ClientType;

use crate::{
    base::server_url::ServerUrl,
    plan::{
        size::Size,
        talk::{Interview, Talk},
        template::{Frame, Template},
    },
};

mod bounds;
mod check;
#[cfg(test)]
mod tests;

pub use check::FlowError;

/// The type of the message that a search for a partner waits for.
pub const MATCH_FOUND: &str = "match_found";

/// What some of the users do.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// The name in reports.
    pub name: String,
    /// How many users play it, relative to the weights of the other flows.
    pub weight: u32,
    pub steps: Vec<Step>,
    /// A user whose partner leaves searches again.
    pub rematch: bool,
    /// A user whose connection is lost connects again, with growing waits; otherwise the user stays away.
    pub reconnect: bool,
}

/// One thing that a user does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Opens a connection, and waits for the greeting.
    Connect,
    /// Like `Connect`, with this path and query instead of those of the server's URL.
    ConnectTo(Template),
    /// Searches for a partner, and waits for the match.
    FindMatch,
    /// Leaves the partner, searches for another one, and waits for the match.
    Next,
    /// Leaves the room.
    Leave,
    /// Closes the connection with a close frame, and opens another.
    Reconnect,
    /// Closes the connection with a close frame.
    Close,
    /// Waits for a message, unless it came before and no other step has waited for it.
    Expect {
        /// The value of its field `type`.
        kind: String,
        /// How long to wait. Without the message, the flow ends there with an error.
        within: Duration,
    },
    /// Joins a named room, and waits until the user is in it. What the user sends to partners goes to all its members.
    JoinRoom(JoinRoom),
    /// Sends a message again and again.
    Send {
        message: Message,
        /// The time between two messages.
        every: Duration,
        rounds: Rounds,
    },
    /// Waits.
    Think(Between),
    /// Repeats steps.
    Loop { rounds: Rounds, steps: Vec<Self> },
    /// Sends a request, and waits for its answer.
    Call(Call),
    /// Sends a request over HTTP, and waits for its answer.
    Http(Request),
    /// Takes part in a transcription session, on connections of its own.
    Talk(Talk),
    /// Holds an interview by the tools of a survey.
    Interview(Interview),
}

impl Step {
    /// The texts with blanks that the step sends.
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let templates = match self {
            Self::ConnectTo(path) => [Some(path), None],
            Self::Send {
                message: Message::Custom { template, .. },
                ..
            } => [Some(template), None],
            Self::Call(call) => [Some(&call.template), None],
            Self::Http(request) => [Some(&request.path), request.body.as_ref()],
            _ => [None, None],
        };
        templates.into_iter().flatten()
    }
}

/// A room of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRoom {
    /// How the names of the rooms begin; the run and a number follow.
    pub name: String,
    /// How many users share a room: users 0 to 7 have the first, 8 to 15 the second.
    pub members: u32,
    /// How long the answer may take.
    pub within: Duration,
}

impl JoinRoom {
    /// The name under which joining is measured, as a call.
    pub const CALL: &str = "join_room";
}

/// A request over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The name in reports.
    pub name: String,
    /// `GET`, `POST` and so on.
    pub method: Method,
    /// The server to ask; `None`: the server under test.
    pub origin: Option<ServerUrl>,
    /// Path and query, such as `/health`.
    pub path: Template,
    /// The body.
    pub body: Option<Template>,
    /// The expected status.
    pub status: u16,
    /// How long the answer may take.
    pub within: Duration,
    /// What later steps need of the answer: the name of a variable, and a JSON pointer (RFC 6901) to its
    /// value.
    pub save: Vec<(String, String)>,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A message for the partner. The ledger follows it.
    Relay {
        kind: Relayed,
        /// The bytes of its payload.
        size: Size,
    },
    /// Any message. The ledger follows it if it has `{{payload}}` and the server sends it back unchanged.
    Custom {
        template: Template,
        frame: Frame,
        /// The size of `{{payload}}`, in bytes.
        size: Size,
        /// The server sends back only some of these messages: a missing one is no error.
        some_come_back: bool,
    },
}

/// The types of message that the server relays to the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relayed {
    /// `offer`
    Offer,
    /// `answer`
    Answer,
    /// `ice_candidate`
    IceCandidate,
    /// `message`
    Message,
}

impl Relayed {
    /// All types, with their names on the wire.
    pub const ALL: [(&'static str, Self); 4] = [
        ("offer", Self::Offer),
        ("answer", Self::Answer),
        ("ice_candidate", Self::IceCandidate),
        ("message", Self::Message),
    ];

    /// The type of the request.
    pub fn client_type(self) -> ClientType {
        match self {
            Self::Offer => ClientType::Offer,
            Self::Answer => ClientType::Answer,
            Self::IceCandidate => ClientType::IceCandidate,
            Self::Message => ClientType::Message,
        }
    }
}

/// A request with an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The name in reports.
    pub name: String,
    /// The request. Its answer is the message that contains the same id if the request has `{{id}}`; otherwise
    /// the next message of type `answer`.
    pub template: Template,
    pub frame: Frame,
    /// The size of `{{payload}}`, in bytes.
    pub size: Size,
    /// The expected type of the answer; an answer of another type is an error.
    pub answer: Option<String>,
    /// How long the answer may take.
    pub within: Duration,
    /// The time between two requests, whether the first is answered or not.
    pub every: Duration,
    pub rounds: Rounds,
}

/// How often to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// A number of times.
    Times(u32),
    /// For this time.
    For(Duration),
    /// Until the run is over.
    Endless,
}

impl Rounds {
    /// The rounds that are left at the start.
    pub fn start(self, now: Duration) -> RoundsLeft {
        let (times, until) = match self {
            Self::Times(times) => (Some(times), None),
            Self::For(time) => (None, Some(now + time)),
            Self::Endless => (None, None),
        };
        RoundsLeft { times, until }
    }
}

/// The rounds that are left of a repetition.
#[derive(Debug, Clone, Copy)]
pub struct RoundsLeft {
    pub times: Option<u32>,
    /// Until this time since the start of the run.
    pub until: Option<Duration>,
}

impl RoundsLeft {
    pub fn is_over(self, now: Duration) -> bool {
        self.times == Some(0) || self.until.is_some_and(|until| now >= until)
    }

    /// Counts one round as done.
    pub fn count(&mut self) {
        self.times = self.times.map(|times| times.saturating_sub(1));
    }
}

/// A random time between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    pub from: Duration,
    pub to: Duration,
}

impl Between {
    /// Until the user's part of the plan ends.
    pub const ENDLESS: Self = Self {
        from: Duration::MAX,
        to: Duration::MAX,
    };
}

impl Flow {
    /// A flow with these steps, and defaults for everything else.
    pub fn new(name: &str, steps: Vec<Step>) -> Self {
        Self {
            name: name.to_owned(),
            weight: 1,
            steps,
            rematch: true,
            reconnect: false,
        }
    }

    /// Finds a partner, and sends ICE candidates of `bytes` bytes every `interval`, for a time or for the
    /// whole run.
    pub fn signaling(interval: Duration, bytes: usize, stay: Option<Duration>) -> Self {
        let send = Step::Send {
            message: Message::Relay {
                kind: Relayed::IceCandidate,
                size: Size::Fixed(bytes),
            },
            every: interval,
            rounds: stay.map_or(Rounds::Endless, Rounds::For),
        };
        Self::new("signaling", vec![Step::Connect, Step::FindMatch, send])
    }

    /// Changes the interval of endless messages to partners, and the size of all messages to partners.
    pub fn adjust(&mut self, interval: Option<Duration>, bytes: Option<usize>) {
        adjust(&mut self.steps, interval, bytes);
    }

    /// The longest time that the steps take, without waits for partners.
    pub fn longest(&self) -> Duration {
        longest(&self.steps)
    }

    /// Whether one of the steps is `wanted`, also inside loops.
    pub fn any_step(&self, wanted: &dyn Fn(&Step) -> bool) -> bool {
        any(&self.steps, wanted)
    }

    /// The types of message that its steps wait for, each once.
    pub fn expected(&self) -> Arc<[String]> {
        let mut kinds = Vec::new();
        expected(&self.steps, &mut kinds);
        kinds.into()
    }

    /// Adds the servers that the steps ask over HTTP and that are not in `origins` yet.
    pub fn origins(&self, origins: &mut Vec<ServerUrl>) {
        origins_of(&self.steps, origins);
    }

    /// Adds the names of the calls that are not in `names` yet.
    pub fn calls(&self, names: &mut Vec<String>) {
        calls(&self.steps, names);
    }
}

fn longest(steps: &[Step]) -> Duration {
    let each = steps.iter().map(|step| match step {
        Step::Expect { within, .. }
        | Step::Http(Request { within, .. })
        | Step::JoinRoom(JoinRoom { within, .. }) => *within,
        Step::Call(call) => call.rounds.longest(call.every).saturating_add(call.within),
        Step::Think(between) => between.to,
        Step::Talk(talk) => talk
            .time
            .unwrap_or(Duration::MAX)
            .saturating_add(talk.within),
        Step::Interview(interview) => {
            let calls = interview
                .within
                .saturating_mul(3)
                .saturating_add(interview.think.to);
            calls.saturating_mul(interview.cycles)
        }
        Step::Send { every, rounds, .. } => rounds.longest(*every),
        Step::Loop { rounds, steps } => rounds.longest(longest(steps)),
        _ => Duration::ZERO,
    });
    each.fold(Duration::ZERO, Duration::saturating_add)
}

fn adjust(steps: &mut [Step], interval: Option<Duration>, bytes: Option<usize>) {
    for step in steps {
        match step {
            Step::Send {
                message: Message::Relay { size, .. },
                every,
                rounds,
            } => {
                if *rounds == Rounds::Endless {
                    *every = interval.unwrap_or(*every);
                }
                if let Some(bytes) = bytes {
                    *size = Size::Fixed(bytes);
                }
            }
            Step::Loop { steps, .. } => adjust(steps, interval, bytes),
            _ => {}
        }
    }
}

fn any(steps: &[Step], wanted: &dyn Fn(&Step) -> bool) -> bool {
    steps
        .iter()
        .any(|step| wanted(step) || matches!(step, Step::Loop { steps, .. } if any(steps, wanted)))
}

fn calls(steps: &[Step], names: &mut Vec<String>) {
    for step in steps {
        match step {
            Step::Call(Call { name, .. }) | Step::Http(Request { name, .. })
                if !names.contains(name) =>
            {
                names.push(name.clone());
            }
            Step::JoinRoom(_) if !names.iter().any(|name| name == JoinRoom::CALL) => {
                names.push(JoinRoom::CALL.to_owned());
            }
            Step::Talk(_) => add_names(&Talk::CALLS, names),
            Step::Interview(_) => add_names(&Interview::CALLS, names),
            Step::Loop { steps, .. } => calls(steps, names),
            _ => {}
        }
    }
}

fn add_names(new: &[&str], names: &mut Vec<String>) {
    for name in new {
        if !names.iter().any(|known| known == name) {
            names.push((*name).to_owned());
        }
    }
}

fn expected(steps: &[Step], kinds: &mut Vec<String>) {
    for step in steps {
        match step {
            Step::Expect { kind, .. } if !kinds.contains(kind) => kinds.push(kind.clone()),
            Step::Loop { steps, .. } => expected(steps, kinds),
            _ => {}
        }
    }
}

fn origins_of(steps: &[Step], origins: &mut Vec<ServerUrl>) {
    for step in steps {
        match step {
            Step::Http(Request {
                origin: Some(origin),
                ..
            }) if !origins.contains(origin) => origins.push(origin.clone()),
            Step::Loop { steps, .. } => origins_of(steps, origins),
            _ => {}
        }
    }
}

impl Rounds {
    fn longest(self, one: Duration) -> Duration {
        match self {
            Self::Times(n) => one.saturating_mul(n),
            Self::For(time) => time,
            Self::Endless => Duration::MAX,
        }
    }
}
