//! Bounds on a flow: its length, its repetitions and the bytes it sends. Beyond them is a typing error, or the memory
//! would fill up.

use std::time::Duration;

use super::{Between, JoinRoom, Message, Request, Rounds, Step};
use crate::plan::{limits::MAX_DURATION, size::Size, template::Template};

/// The deepest nesting of loops.
const MAX_DEPTH: usize = 8;
/// The most bytes in one burst to a connection, and the longest message.
const MAX_AT_ONCE_BYTES: usize = 512 << 10;
/// An allowance for the envelope of a message.
const FRAME_BYTES: usize = 16;
/// The shortest time between two messages of one user.
const MIN_EVERY: Duration = Duration::from_millis(1);

/// The first step beyond a bound, and what to give instead.
pub(super) fn check(steps: &[Step], depth: usize) -> Result<(), (Vec<usize>, &'static str)> {
    for (index, step) in steps.iter().enumerate() {
        let inner = match step {
            Step::Loop { .. } if depth == MAX_DEPTH => Err((
                Vec::new(),
                "loops go eight deep at the most: take this one out",
            )),
            Step::Loop { steps, .. } => check(steps, depth + 1),
            _ => Ok(()),
        };
        let checked = one(step).map_err(|what| (Vec::new(), what)).and(inner);
        checked.map_err(|(mut path, what)| {
            path.insert(0, index);
            (path, what)
        })?;
    }
    Ok(())
}

fn one(step: &Step) -> Result<(), &'static str> {
    let rounds = |rounds: &Rounds| match rounds {
        Rounds::For(time) => *time,
        _ => Duration::ZERO,
    };
    let longest = match step {
        Step::Expect { within, .. }
        | Step::Http(Request { within, .. })
        | Step::JoinRoom(JoinRoom { within, .. }) => *within,
        Step::Call(call) => rounds(&call.rounds).max(call.every).max(call.within),
        Step::Think(Between::ENDLESS) => Duration::ZERO,
        Step::Think(between) => between.from.max(between.to),
        Step::Send {
            every,
            rounds: often,
            ..
        } => rounds(often).max(*every),
        Step::Loop { rounds: often, .. } => rounds(often),
        _ => Duration::ZERO,
    };
    if longest > MAX_DURATION {
        return Err("this takes more than 30 days: give a shorter time");
    }
    match step {
        Step::Call(call) => {
            let bytes = length(Some(&call.template), &call.size)?;
            pace(bytes, call.every, call.rounds)
        }
        Step::Send {
            message,
            every,
            rounds,
        } => {
            let bytes = match message {
                Message::Relay { size, .. } => length(None, size)?,
                Message::Custom { template, size, .. } => length(Some(template), size)?,
            };
            pace(bytes, *every, *rounds)
        }
        _ => Ok(()),
    }
}

/// Whether a connection can take `bytes` bytes that often.
fn pace(bytes: usize, every: Duration, rounds: Rounds) -> Result<(), &'static str> {
    match rounds {
        Rounds::Times(times) if every.is_zero() => {
            let all = bytes.saturating_mul(usize::try_from(times).unwrap_or(usize::MAX));
            let what = "more than 512 KiB at once: give fewer `times`, or `every`";
            fits(all, what)
        }
        _ if !every.is_zero() && every < MIN_EVERY => {
            Err("one user sends once in 1ms at the most: give a longer time, and more users")
        }
        _ => Ok(()),
    }
}

/// The longest message that the template can produce.
fn length(template: Option<&Template>, size: &Size) -> Result<usize, &'static str> {
    let payload = size.longest();
    let bytes = match template {
        Some(template) => template.longest(payload),
        None => payload,
    };
    fits(bytes, "a message of more than 512 KiB: give a shorter text")?;
    Ok(bytes + FRAME_BYTES)
}

fn fits(bytes: usize, what: &'static str) -> Result<(), &'static str> {
    (bytes <= MAX_AT_ONCE_BYTES).then_some(()).ok_or(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        Greeting,
        flow::{Call, Flow},
        template::Names,
    };

    const FOREVER: Duration = Duration::from_secs(u64::MAX);

    fn send(every: Duration, rounds: Rounds) -> Step {
        let message = Message::Custom {
            template: Template::default(),
            frame: crate::plan::template::Frame::Text,
            size: Size::Fixed(192),
            some_come_back: false,
        };
        Step::Send {
            message,
            every,
            rounds,
        }
    }

    fn wrong(step: Step) -> String {
        let flow = Flow::new("f", vec![Step::Connect, step]);
        let error = flow.check(&Greeting::None).expect_err("beyond all bounds");
        assert_eq!(error.steps[0], 1, "{error}");
        error.to_string()
    }

    #[test]
    fn no_step_takes_longer_than_a_run() {
        let (from, to) = (Duration::ZERO, FOREVER);
        let think = || Step::Think(Between { from, to });
        let every = Duration::from_secs(1);
        for step in [
            think(),
            send(FOREVER, Rounds::Times(2)),
            send(every, Rounds::For(FOREVER)),
            Step::Expect {
                kind: "x".to_owned(),
                within: FOREVER,
            },
            Step::Loop {
                rounds: Rounds::Times(2),
                steps: vec![think()],
            },
            Step::Loop {
                rounds: Rounds::For(FOREVER),
                steps: vec![send(every, Rounds::Times(1))],
            },
        ] {
            let error = wrong(step);
            assert!(error.contains("more than 30 days"), "{error}");
        }
    }

    #[test]
    fn a_connection_takes_all_that_is_sent_at_once() {
        let error = wrong(send(Duration::ZERO, Rounds::Times(u32::MAX)));
        assert!(error.contains("fewer `times`"), "{error}");
        let error = wrong(send(Duration::from_nanos(1), Rounds::Endless));
        assert!(error.contains("once in 1ms"), "{error}");
        let long =
            Template::parse(&"x".repeat(MAX_AT_ONCE_BYTES + 1), &Names::default()).expect("a text");
        let call = Call {
            name: "c".to_owned(),
            template: long,
            frame: crate::plan::template::Frame::Text,
            size: Size::Fixed(192),
            answer: Some("x".to_owned()),
            every: Duration::ZERO,
            rounds: Rounds::Times(1),
            within: Duration::from_secs(1),
        };
        let error = wrong(Step::Call(call));
        assert!(error.contains("a shorter text"), "{error}");
    }

    #[test]
    fn loops_do_not_nest_without_end() {
        let mut step = Step::Think(Between {
            from: MIN_EVERY,
            to: MIN_EVERY,
        });
        for _ in 0..40 {
            let rounds = Rounds::Times(2);
            let steps = vec![step];
            step = Step::Loop { rounds, steps };
        }
        let error = wrong(step);
        assert!(error.contains("eight deep"), "{error}");
    }
}
