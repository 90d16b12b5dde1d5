//! What a user does: steps, one after the other. Pure.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use voicematch_protocol::ClientType;

use crate::{
    base::server_url::ServerUrl,
    plan::{
        size::Size,
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
    /// What reports call it.
    pub name: String,
    /// How many users play it, in terms of the other flows' weights.
    pub weight: u32,
    /// What they do, in this order.
    pub steps: Vec<Step>,
    /// A user whose partner leaves asks for another one.
    pub rematch: bool,
    /// A user whose connection breaks or fails connects again, later each time; without it they stay away.
    pub reconnect: bool,
}

/// One thing that a user does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Opens a connection, and waits for the greeting.
    Connect,
    /// The same with this path and query in the place of those of the server's URL.
    ConnectTo(Template),
    /// Asks for a partner, and waits until there is one.
    FindMatch,
    /// Leaves the partner, asks for another, and waits until there is one.
    Next,
    /// Leaves the room.
    Leave,
    /// Closes the connection in good order, and opens another.
    Reconnect,
    /// Closes the connection in good order.
    Close,
    /// Waits for a message, unless one has come that no other step has waited for.
    Expect {
        /// The value of its field `type`.
        kind: String,
        /// How long; without the message there is an error, and the flow ends there.
        within: Duration,
    },
    /// Sends a message again and again.
    Send {
        /// What.
        message: Message,
        /// The time from one to the next.
        every: Duration,
        /// How often.
        rounds: Rounds,
    },
    /// Does nothing.
    Think(Between),
    /// Does steps again and again.
    Loop {
        /// How often.
        rounds: Rounds,
        /// What.
        steps: Vec<Self>,
    },
    /// Sends a request, and waits for its answer.
    Call(Call),
    /// Sends a request over HTTP, and waits for its answer.
    Http(Request),
}

impl Step {
    /// What the step sends that is filled in.
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

/// A request over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What reports call it.
    pub name: String,
    /// `GET`, `POST` and so on.
    pub method: Method,
    /// Who is asked; `None`: the server under test.
    pub origin: Option<ServerUrl>,
    /// Path and query, such as `/health`.
    pub path: Template,
    /// What is sent.
    pub body: Option<Template>,
    /// The status that is right.
    pub status: u16,
    /// How long it may take.
    pub within: Duration,
    /// What later steps need of the answer: the name of a variable, and where in the JSON its value is, as a JSON
    /// pointer (RFC 6901).
    pub save: Vec<(String, String)>,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A message for the partner, which the ledger follows.
    Relay {
        /// Its type.
        kind: Relayed,
        /// The bytes of its payload.
        size: Size,
    },
    /// Any message; the ledger follows one that has `{{payload}}` in it and comes back as it was.
    Custom {
        /// Its text.
        template: Template,
        /// Text or binary.
        frame: Frame,
        /// The bytes of `{{payload}}`.
        size: Size,
        /// The server sends back some of them only: those that do not come are not missed.
        some_come_back: bool,
    },
}

/// The types that a server gives on to the partner.
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
    /// All of them, with their names on the wire.
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
    /// What reports call it.
    pub name: String,
    /// The request. The answer to one with `{{id}}` is the message that has the same id in it; to one
    /// without, the next message of type `answer`.
    pub template: Template,
    /// Text or binary.
    pub frame: Frame,
    /// The bytes of `{{payload}}`.
    pub size: Size,
    /// The type that the answer has to be of; with another one it is wrong.
    pub answer: Option<String>,
    /// How long it may take.
    pub within: Duration,
    /// The time from one request to the next, whether or not that one has been answered.
    pub every: Duration,
    /// How often it is sent.
    pub rounds: Rounds,
}

/// How often something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// So many times.
    Times(u32),
    /// For so long.
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

/// The rounds that are left of something that is repeated.
#[derive(Debug, Clone, Copy)]
pub struct RoundsLeft {
    pub times: Option<u32>,
    /// In time since the start of the run.
    pub until: Option<Duration>,
}

impl RoundsLeft {
    pub fn is_over(self, now: Duration) -> bool {
        self.times == Some(0) || self.until.is_some_and(|until| now >= until)
    }

    /// One round is done.
    pub fn count(&mut self) {
        self.times = self.times.map(|times| times.saturating_sub(1));
    }
}

/// A time between two others, each as likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    /// The shortest.
    pub from: Duration,
    /// The longest.
    pub to: Duration,
}

impl Between {
    /// Until the plan or the run is over for the user.
    pub const ENDLESS: Self = Self {
        from: Duration::MAX,
        to: Duration::MAX,
    };
}

impl Flow {
    /// A flow with these steps, with the defaults for everything else.
    pub fn new(name: &str, steps: Vec<Step>) -> Self {
        Self {
            name: name.to_owned(),
            weight: 1,
            steps,
            rematch: true,
            reconnect: false,
        }
    }

    /// Finds a partner, and sends ICE candidates of `bytes` bytes every `interval` for so long, or for the
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

    /// Gives what is sent to partners without end another interval, and all that is sent to them another size.
    pub fn adjust(&mut self, interval: Option<Duration>, bytes: Option<usize>) {
        adjust(&mut self.steps, interval, bytes);
    }

    /// The longest that the steps take by themselves, without waiting for partners.
    pub fn longest(&self) -> Duration {
        longest(&self.steps)
    }

    /// Whether one of the steps, in loops too, is `wanted`.
    pub fn any_step(&self, wanted: &dyn Fn(&Step) -> bool) -> bool {
        any(&self.steps, wanted)
    }

    /// The types of messages that its steps wait for, each once.
    pub fn expected(&self) -> Arc<[String]> {
        let mut kinds = Vec::new();
        expected(&self.steps, &mut kinds);
        kinds.into()
    }

    /// Adds the servers that are asked over HTTP and are not in `origins` yet.
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
        Step::Expect { within, .. } | Step::Http(Request { within, .. }) => *within,
        Step::Call(call) => call.rounds.longest(call.every).saturating_add(call.within),
        Step::Think(between) => between.to,
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
            Step::Loop { steps, .. } => calls(steps, names),
            _ => {}
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
