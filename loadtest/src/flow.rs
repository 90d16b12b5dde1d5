//! What a user does: steps, one after the other. Pure.

use std::time::Duration;

use thiserror::Error;
use voicematch_protocol::ClientType;

use crate::{
    payload::Size,
    sample::Kind,
    template::{Frame, Template},
};

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
    /// Waits for a message.
    Expect {
        /// The value of its field `type`.
        kind: String,
        /// How long; without the message the flow ends there.
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
    /// Asks for a page over HTTP, and waits for it.
    Http {
        /// What reports call it.
        name: String,
        /// Its path, such as `/health`.
        path: String,
        /// The status that is right.
        status: u16,
        /// How long it may take.
        within: Duration,
    },
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
    pub(crate) fn client_type(self) -> ClientType {
        match self {
            Self::Offer => ClientType::Offer,
            Self::Answer => ClientType::Answer,
            Self::IceCandidate => ClientType::IceCandidate,
            Self::Message => ClientType::Message,
        }
    }

    /// The type of the ledger.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Offer => Kind::OFFER,
            Self::Answer => Kind::ANSWER,
            Self::IceCandidate => Kind::ICE_CANDIDATE,
            Self::Message => Kind::MESSAGE,
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

/// A flow that cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("flow {flow:?}, step {step}: {what}", step = path(.steps))]
pub struct FlowError {
    /// Its name.
    pub flow: String,
    /// Which step, from 0; inside of a loop, which step of the loop, and so on.
    pub steps: Vec<usize>,
    /// What is wrong, and what to do.
    pub what: &'static str,
}

fn path(steps: &[usize]) -> String {
    let steps: Vec<_> = steps.iter().map(|step| (step + 1).to_string()).collect();
    steps.join(".")
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
    pub(crate) fn adjust(&mut self, interval: Option<Duration>, bytes: Option<usize>) {
        adjust(&mut self.steps, interval, bytes);
    }

    /// The longest that the steps take by themselves, without waiting for partners.
    pub fn longest(&self) -> Duration {
        longest(&self.steps)
    }

    /// Whether one of the steps, in loops too, is `wanted`.
    pub(crate) fn any_step(&self, wanted: &dyn Fn(&Step) -> bool) -> bool {
        any(&self.steps, wanted)
    }

    /// Adds the names of the calls that are not in `names` yet.
    pub(crate) fn calls(&self, names: &mut Vec<String>) {
        calls(&self.steps, names);
    }

    /// Whether the steps can be played.
    ///
    /// # Errors
    /// The first one that cannot.
    pub(crate) fn check(&self) -> Result<(), FlowError> {
        let mut place = Place::default();
        let error = |steps, what| FlowError {
            flow: self.name.clone(),
            steps,
            what,
        };
        if self.steps.is_empty() {
            return Err(error(
                vec![0],
                "a flow needs steps, such as \"connect\", \"find_match\"",
            ));
        }
        place
            .go(&self.steps)
            .map_err(|(steps, what)| error(steps, what))
    }
}

fn longest(steps: &[Step]) -> Duration {
    let each = steps.iter().map(|step| match step {
        Step::Expect { within, .. } | Step::Http { within, .. } => *within,
        Step::Call(call) => call.within,
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
            Step::Call(Call { name, .. }) | Step::Http { name, .. } if !names.contains(name) => {
                names.push(name.clone());
            }
            Step::Loop { steps, .. } => calls(steps, names),
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

    fn is_none(self) -> bool {
        self == Self::Times(0) || self == Self::For(Duration::ZERO)
    }
}

/// Where a user is after the steps so far.
#[derive(Default)]
struct Place {
    connected: bool,
    matched: bool,
}

type Wrong = (Vec<usize>, &'static str);

impl Place {
    fn go(&mut self, steps: &[Step]) -> Result<(), Wrong> {
        let last = steps.len().saturating_sub(1);
        for (index, step) in steps.iter().enumerate() {
            let wrong = |what| Err((vec![index], what));
            let endless = matches!(
                step,
                Step::Send {
                    rounds: Rounds::Endless,
                    ..
                } | Step::Loop {
                    rounds: Rounds::Endless,
                    ..
                } | Step::Think(Between::ENDLESS)
            );
            if endless && index < last {
                return wrong(
                    "this goes on until the end of the run, so that nothing comes after it: give `times` or `for`",
                );
            }
            if let Err(what) = self.step(step) {
                return wrong(what);
            }
            if let Step::Loop { steps, .. } = step {
                self.go(steps).map_err(|(mut path, what)| {
                    path.insert(0, index);
                    (path, what)
                })?;
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), &'static str> {
        const UNCONNECTED: &str = "nobody is connected here: put \"connect\" before it";
        match step {
            Step::Connect if self.connected => {
                return Err(
                    "there is a connection already: take this one out, or put \"close\" before it",
                );
            }
            Step::Connect => self.connected = true,
            Step::Think(between) if between.from > between.to => {
                return Err("the first time is longer than the second");
            }
            Step::Think(_) => {}
            Step::Http { within, .. } if within.is_zero() => return Err(NO_TIME),
            Step::Http { .. } => {}
            Step::Loop { rounds, steps } => return check_loop(*rounds, steps),
            _ if !self.connected => return Err(UNCONNECTED),
            Step::FindMatch => self.matched = true,
            Step::Next | Step::Leave if !self.matched => return Err(UNMATCHED),
            Step::Leave => self.matched = false,
            Step::Reconnect => self.matched = false,
            Step::Close => (self.connected, self.matched) = (false, false),
            Step::Send {
                message,
                every,
                rounds,
            } => return self.check_send(message, *every, *rounds),
            Step::Expect { within, .. } if within.is_zero() => return Err(NO_TIME),
            Step::Call(call) => return check_call(call),
            _ => {}
        }
        Ok(())
    }

    fn check_send(
        &self,
        message: &Message,
        every: Duration,
        rounds: Rounds,
    ) -> Result<(), &'static str> {
        match message {
            Message::Relay { size, .. } => {
                if !self.matched {
                    return Err(UNMATCHED);
                }
                size.check()?;
            }
            Message::Custom { size, .. } => size.check()?,
        }
        if rounds.is_none() {
            return Err(NOTHING);
        }
        if every.is_zero() && !matches!(rounds, Rounds::Times(_)) {
            return Err("nothing can be sent every 0s: give a longer time");
        }
        Ok(())
    }
}

const NO_TIME: &str = "nothing comes within 0s: give a longer time";
const NOTHING: &str = "this is never done: give 1 or more `times`, or `for` more than 0s";
const UNMATCHED: &str = "there is no partner here: put \"find_match\" before it";

fn check_loop(rounds: Rounds, steps: &[Step]) -> Result<(), &'static str> {
    if rounds.is_none() {
        return Err(NOTHING);
    }
    let waits = |step: &Step| match step {
        Step::Think(between) => !between.to.is_zero(),
        Step::Close | Step::Leave | Step::Loop { .. } => false,
        Step::Send { every, .. } => !every.is_zero(),
        _ => true,
    };
    if !any(steps, &waits) {
        return Err("nothing in this loop takes time: add a `think`");
    }
    Ok(())
}

fn check_call(call: &Call) -> Result<(), &'static str> {
    call.size.check()?;
    if call.within.is_zero() {
        return Err(NO_TIME);
    }
    if !call.template.has_id() && call.answer.is_none() {
        return Err(
            "no answer can be told from others: put {{id}} into the request, or give the type of the `answer`",
        );
    }
    Ok(())
}
