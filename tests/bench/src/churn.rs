//! Users that come and go: connect, be matched, exchange three messages each way, say goodbye.

use crate::{
    Problem,
    clock::{SECOND, nanos, now},
    message::{Candidate, find_match, is_error, is_match, mark},
    process::{Sample, Window},
    server::Server,
    users::{Event, Users},
};

/// Messages each way.
const EXCHANGE: u32 = 3;
/// After this long a session has failed.
const STUCK: u64 = 5 * SECOND;

/// What was measured.
pub(crate) struct Churn {
    /// CPU and time.
    pub(crate) window: Window,
    /// Sessions that went through in it.
    pub(crate) done: u64,
    /// Sessions that broke, were refused something, or got stuck.
    pub(crate) failed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connecting,
    Waiting,
    Talking { received: u32 },
    Leaving,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    step: Step,
    since: u64,
}

/// Plays `slots` sessions at once, each followed by the next, and measures for `seconds`.
pub(crate) fn run(
    server: &Server,
    slots: usize,
    payload_bytes: usize,
    seconds: f64,
    busy: bool,
) -> Result<Churn, Problem> {
    let mut users = Users::new(server.address, slots, busy)?;
    let mut candidate = Candidate::new(payload_bytes);
    let find = find_match();
    let fresh = || Session {
        step: Step::Connecting,
        since: now(),
    };
    let mut sessions = vec![fresh(); slots];
    for user in 0..slots {
        users.connect(user)?;
    }
    let (mut done, mut failed) = (0, 0);
    let mut refused = Ok(());
    let begin = now();
    let measure = begin + nanos((seconds / 4.0).min(1.0));
    let stop = measure + nanos(seconds);
    let mut check = begin + SECOND;
    let mut start = None;
    loop {
        let time = now();
        match start {
            None if time >= measure => {
                start = Some(Sample::take(server.pid())?);
                (done, failed) = (0, 0);
            }
            Some(start) if time >= stop => {
                let window = start.until_now(server.pid())?;
                return Ok(Churn {
                    window,
                    done,
                    failed,
                });
            }
            _ => {}
        }
        users.look(|users, user, event| {
            let session = &mut sessions[user];
            match event {
                Event::Closed { in_order } => {
                    if in_order && session.step == Step::Leaving {
                        done += 1;
                    } else {
                        failed += 1;
                    }
                    *session = fresh();
                    if let Err(problem) = users.connect(user) {
                        refused = Err(problem);
                    }
                }
                Event::Text(text) => match session.step {
                    Step::Connecting => {
                        session.step = Step::Waiting;
                        users.send(user, &find);
                    }
                    Step::Waiting if is_match(text) => {
                        session.step = Step::Talking { received: 0 };
                        for _ in 0..EXCHANGE {
                            users.send(user, candidate.stamp(session.since, user));
                        }
                    }
                    Step::Talking { received } if mark(text).is_some() => {
                        session.step = Step::Talking {
                            received: received + 1,
                        };
                        if received + 1 == EXCHANGE {
                            session.step = Step::Leaving;
                            users.close(user);
                        }
                    }
                    _ => failed += u64::from(is_error(text)),
                },
            }
        })?;
        std::mem::replace(&mut refused, Ok(()))?;
        if time > check {
            check = time + SECOND / 5;
            for (user, session) in sessions.iter_mut().enumerate() {
                if time.saturating_sub(session.since) > STUCK {
                    failed += 1;
                    *session = fresh();
                    users.drop_user(user);
                    users.connect(user)?;
                }
            }
        }
    }
}
