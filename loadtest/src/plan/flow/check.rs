//! Whether a flow can be played. Checked before the run.

use std::{borrow::Cow, time::Duration};

use thiserror::Error;

use super::{
    Between, Call, Flow, JoinRoom, MATCH_FOUND, Message, Relayed, Request, Rounds, Step, any,
    bounds,
};
use crate::plan::{Greeting, talk::Talk, template::Template};

/// A flow that cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("flow {flow:?}, step {step}: {what}", step = path(.steps))]
pub struct FlowError {
    pub flow: String,
    /// Which step, from 0; for a step in a loop: the loop's place, then the place in the loop, and so on.
    pub steps: Vec<usize>,
    /// What is wrong, and what to do.
    pub what: Cow<'static, str>,
}

fn path(steps: &[usize]) -> String {
    let steps: Vec<_> = steps.iter().map(|step| (step + 1).to_string()).collect();
    steps.join(".")
}

impl Flow {
    /// Whether the steps can be played against a server that greets like this.
    ///
    /// # Errors
    /// The first step that cannot be played.
    pub fn check(&self, greeting: &Greeting) -> Result<(), FlowError> {
        let mut place = Place {
            greeting: match greeting {
                Greeting::None => None,
                Greeting::Type(kind) => Some(kind),
            },
            ..Place::default()
        };
        let error = |steps, what: Cow<'static, str>| FlowError {
            flow: self.name.clone(),
            steps,
            what,
        };
        if self.steps.is_empty() {
            return Err(error(
                vec![0],
                "a flow needs steps, such as \"connect\", \"find_match\"".into(),
            ));
        }
        bounds::check(&self.steps, 0)
            .map_err(|(steps, what)| (steps, what.into()))
            .and_then(|()| place.go(&self.steps))
            .map_err(|(steps, what)| error(steps, what))
    }
}

impl Rounds {
    fn is_none(self) -> bool {
        self == Self::Times(0) || self == Self::For(Duration::ZERO)
    }
}

/// The user's situation after the steps so far.
#[derive(Default)]
struct Place<'a> {
    connected: bool,
    matched: bool,
    /// With several, in a room.
    in_room: bool,
    saved: Vec<&'a str>,
    /// The type that the server greets with.
    greeting: Option<&'a str>,
    /// The type that the latest step waited for; pauses do not count.
    taken: Option<&'a str>,
}

type Wrong = (Vec<usize>, Cow<'static, str>);

impl<'a> Place<'a> {
    fn go(&mut self, steps: &'a [Step]) -> Result<(), Wrong> {
        let last = steps.len().saturating_sub(1);
        for (index, step) in steps.iter().enumerate() {
            let wrong = |what: Cow<'static, str>| Err((vec![index], what));
            let endless = matches!(
                step,
                Step::Send {
                    rounds: Rounds::Endless,
                    ..
                } | Step::Call(Call {
                    rounds: Rounds::Endless,
                    ..
                }) | Step::Loop {
                    rounds: Rounds::Endless,
                    ..
                } | Step::Think(Between::ENDLESS)
                    | Step::Talk(Talk { time: None, .. })
            );
            if endless && index < last {
                return wrong(
                    "this never ends before the run, so later steps cannot start: give `times` or `for`"
                        .into(),
                );
            }
            if let Some(name) = self.missing(step) {
                return wrong(
                    format!("{{{{{name}}}}} is unknown here: put the http step that saves it before this one")
                        .into(),
                );
            }
            if let Err(what) = self.step(step) {
                return wrong(what.into());
            }
            if let Step::Loop { steps, .. } = step {
                // Checked twice: the end of a loop must also fit its beginning.
                for _round in 0..2 {
                    self.go(steps).map_err(|(mut path, what)| {
                        path.insert(0, index);
                        (path, what)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// A variable of the step that no earlier step has saved.
    fn missing(&self, step: &'a Step) -> Option<&'a str> {
        let mut names = step.templates().flat_map(Template::saved);
        names.find(|name| !self.saved.contains(name))
    }

    fn step(&mut self, step: &'a Step) -> Result<(), &'static str> {
        const UNCONNECTED: &str = "nobody is connected here: put \"connect\" before it";
        self.taken = match step {
            Step::Expect { kind, .. } if self.taken == Some(kind) => return Err(TAKEN),
            Step::Connect | Step::ConnectTo(_) | Step::Reconnect => self.greeting,
            Step::FindMatch | Step::Next => Some(MATCH_FOUND),
            Step::Think(_) | Step::Expect { .. } | Step::Loop { .. } => self.taken,
            _ => None,
        };
        match step {
            Step::Connect | Step::ConnectTo(_) if self.connected => {
                return Err(
                    "there is a connection already: take this one out, or put \"close\" before it",
                );
            }
            Step::Connect | Step::ConnectTo(_) => self.connected = true,
            Step::Think(between) if between.from > between.to => {
                return Err("the first time is longer than the second");
            }
            Step::Think(_) => {}
            Step::Http(Request { within, .. }) if within.is_zero() => return Err(NO_TIME),
            Step::Http(request) => {
                let names = request.save.iter().map(|(name, _)| name.as_str());
                self.saved.extend(names);
            }
            Step::Loop { rounds, steps } => return check_loop(*rounds, steps),
            Step::Talk(_) | Step::Interview(_) if self.connected => {
                return Err("this has connections of its own: put \"close\" before it");
            }
            Step::Talk(talk) => talk.check()?,
            Step::Interview(interview) => interview.check()?,
            _ if !self.connected => return Err(UNCONNECTED),
            Step::FindMatch | Step::JoinRoom(_) if self.in_room => return Err(IN_ROOM),
            Step::Next if self.in_room => return Err(IN_ROOM),
            Step::JoinRoom(_) if self.matched => {
                return Err("there is a partner here: put \"leave\" before it");
            }
            Step::JoinRoom(room) => {
                room.check()?;
                (self.matched, self.in_room) = (true, true);
            }
            Step::FindMatch if self.matched => {
                return Err(
                    "there is a partner already: take \"next\", or put \"leave\" before it",
                );
            }
            Step::FindMatch => self.matched = true,
            Step::Next | Step::Leave if !self.matched => return Err(UNMATCHED),
            Step::Leave | Step::Reconnect => (self.matched, self.in_room) = (false, false),
            Step::Close => {
                (self.connected, self.matched, self.in_room) = (false, false, false);
            }
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
            Message::Relay { size, kind } => {
                if !self.matched {
                    return Err(UNMATCHED);
                }
                if self.in_room && *kind != Relayed::Message {
                    return Err("in a room of several only `message` goes to all: send that");
                }
                size.check()?;
            }
            Message::Custom { size, .. } => size.check()?,
        }
        check_pace(every, rounds)
    }
}

impl JoinRoom {
    fn check(&self) -> Result<(), &'static str> {
        const LONGEST: usize = 40;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.name.is_empty() || self.name.len() > LONGEST || !self.name.chars().all(fits) {
            return Err("the name of a room has 1 to 40 of the characters A-Z, a-z, 0-9, _ and -");
        }
        if !(2..=20).contains(&self.members) {
            return Err("a room has 2 to 20 `members`");
        }
        if self.within.is_zero() {
            return Err(NO_TIME);
        }
        Ok(())
    }
}

fn check_pace(every: Duration, rounds: Rounds) -> Result<(), &'static str> {
    if rounds.is_none() {
        return Err(NOTHING);
    }
    if every.is_zero() && !matches!(rounds, Rounds::Times(_)) {
        return Err("nothing can be sent every 0s: give a longer time");
    }
    Ok(())
}

const IN_ROOM: &str = "the user is in a room of several here: put \"leave\" before it";
const TAKEN: &str =
    "the step before has waited for this message already, and it comes once: take this one out";
const NO_TIME: &str = "nothing comes within 0s: give a longer time";
const NOTHING: &str = "this is never done: give 1 or more `times`, or `for` more than 0s";
const UNMATCHED: &str = "there is no partner here: put \"find_match\" or a `join_room` before it";

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
    check_pace(call.every, call.rounds)?;
    if call.within.is_zero() {
        return Err(NO_TIME);
    }
    if !call.template.has_id() && call.answer.is_none() {
        return Err(
            "answers cannot be matched to requests: put {{id}} into the request, or give the type of the `answer`",
        );
    }
    Ok(())
}
