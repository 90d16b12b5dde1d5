//! What held connections do: connect, be matched, relay at a fixed rate, relay as fast as it goes, leave.

use std::time::Duration;

use crate::{
    Problem,
    clock::{SECOND, nanos, now},
    message::{Candidate, find_match, is_error, is_match, mark},
    process::{Sample, Window},
    server::Server,
    stats::{Spread, percentile},
    users::{Event, Users},
};

/// Handshakes under way at once: fewer than any listen queue holds.
const CONNECTING: usize = 64;
/// How long a phase may go on without an end.
const PATIENCE: u64 = 30 * SECOND;
/// Users served between two looks at what has arrived.
const BURST: usize = 32;

/// A server and the users held connected to it.
pub(crate) struct Held<'a> {
    server: &'a Server,
    users: Users,
    count: usize,
    candidate: Candidate,
    /// Who hears each user; filled by [`Held::meet`].
    partners: Vec<usize>,
}

/// How all users were matched.
pub(crate) struct Matching {
    /// CPU and time.
    pub(crate) window: Window,
    /// From the first request to the last answer, in nanoseconds.
    pub(crate) last: u64,
}

/// A relay at a fixed rate.
pub(crate) struct OpenLoop {
    /// CPU and time.
    pub(crate) window: Window,
    /// Messages delivered in it.
    pub(crate) delivered: u64,
    /// Messages sent and never delivered, warm-up included.
    pub(crate) lost: u64,
    /// From the intended time, in nanoseconds, in order.
    pub(crate) latencies: Vec<u64>,
    /// The same, by the second in which the message was due.
    seconds: Vec<Vec<u64>>,
}

/// A relay as fast as it goes.
pub(crate) struct ClosedLoop {
    /// CPU and time.
    pub(crate) window: Window,
    /// Messages delivered in it.
    pub(crate) delivered: u64,
}

/// What must not happen while connections are held.
#[derive(Default)]
struct Trouble {
    closed: u64,
    refused: u64,
}

impl Trouble {
    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Closed { .. } => self.closed += 1,
            Event::Text(text) if is_error(text) => self.refused += 1,
            Event::Text(_) => {}
        }
    }

    fn check(&self, doing: &str, server: &Server) -> Result<(), Problem> {
        if self.closed + self.refused == 0 {
            return Ok(());
        }
        Err(Problem::new(format!(
            "{doing}, the server closed {} connections and refused {} requests; \
             switch its limits off (voicematch-server: --max-messages-per-second 0); {}",
            self.closed,
            self.refused,
            server.last_words()
        )))
    }
}

fn late(doing: &str, done: usize, of: usize, server: &Server) -> Problem {
    Problem::new(format!(
        "{doing}: {done} of {of} after {} s; {}",
        PATIENCE / SECOND,
        server.last_words()
    ))
}

impl<'a> Held<'a> {
    /// Nobody is connected yet.
    pub(crate) fn new(
        server: &'a Server,
        count: usize,
        payload_bytes: usize,
        busy: bool,
    ) -> Result<Self, Problem> {
        Ok(Self {
            server,
            users: Users::new(server.address, count, busy)?,
            count,
            candidate: Candidate::new(payload_bytes),
            partners: Vec::new(),
        })
    }

    /// Connects everybody, and waits until the server has greeted each.
    pub(crate) fn connect(&mut self) -> Result<(), Problem> {
        let (mut started, mut ready) = (0, 0);
        let mut trouble = Trouble::default();
        let until = now() + PATIENCE;
        while ready < self.count {
            while started < self.count && started - ready < CONNECTING {
                self.users.connect(started)?;
                started += 1;
            }
            self.users.look(|_, _, event| match event {
                Event::Text(_) => ready += 1,
                Event::Closed { .. } => trouble.note(&event),
            })?;
            trouble.check("while users connected", self.server)?;
            if now() > until {
                return Err(late("users connected", ready, self.count, self.server));
            }
        }
        Ok(())
    }

    /// Says nothing for a while, and answers pings.
    pub(crate) fn rest(&mut self, seconds: f64) -> Result<(), Problem> {
        let mut trouble = Trouble::default();
        let until = now() + nanos(seconds);
        while now() < until {
            self.users.wait(Duration::from_millis(20), |_, _, event| {
                trouble.note(&event)
            })?;
        }
        trouble.check("while users were silent", self.server)
    }

    /// Everybody asks for a match at once.
    pub(crate) fn match_all(&mut self) -> Result<Matching, Problem> {
        let find = find_match();
        let (mut asked, mut matched) = (0, 0);
        let mut trouble = Trouble::default();
        let start = Sample::take(self.server.pid())?;
        let begin = now();
        while matched < self.count {
            let up_to = self.count.min(asked + BURST);
            for user in asked..up_to {
                self.users.send(user, &find);
            }
            asked = up_to;
            self.users.look(|_, _, event| match event {
                Event::Text(text) if is_match(text) => matched += 1,
                event => trouble.note(&event),
            })?;
            trouble.check("while users asked for a match", self.server)?;
            if now() > begin + PATIENCE {
                return Err(late("users matched", matched, self.count, self.server));
            }
        }
        let last = now() - begin;
        let window = start.until_now(self.server.pid())?;
        Ok(Matching { window, last })
    }

    /// Everybody says who they are: now it is known who is whose partner, and that payloads arrive whole.
    pub(crate) fn meet(&mut self) -> Result<(), Problem> {
        let mut partners = vec![usize::MAX; self.count];
        let (mut sent, mut met, mut spoilt) = (0, 0, 0);
        let mut trouble = Trouble::default();
        let begin = now();
        while met < self.count {
            let up_to = self.count.min(sent + BURST);
            for user in sent..up_to {
                self.users.send(user, self.candidate.stamp(now(), user));
            }
            sent = up_to;
            let candidate = &self.candidate;
            self.users.look(|_, user, event| match event {
                Event::Text(text) if sender(text).is_some() => {
                    met += 1;
                    spoilt += usize::from(!candidate.intact(text));
                    partners[user] = sender(text).unwrap_or(usize::MAX);
                }
                event => trouble.note(&event),
            })?;
            trouble.check("while partners met", self.server)?;
            if now() > begin + PATIENCE {
                return Err(late(
                    "first messages delivered",
                    met,
                    self.count,
                    self.server,
                ));
            }
        }
        let mutual = |user: usize| {
            let back = partners.get(partners[user]);
            partners[user] != user && back == Some(&user)
        };
        if spoilt > 0 || !(0..self.count).all(mutual) {
            return Err(Problem::new(format!(
                "the server does not relay as it should: {spoilt} payloads changed on the way, \
                 and each user's messages must reach one partner, and that partner's must come back"
            )));
        }
        self.partners = partners;
        Ok(())
    }

    /// Users send in turn, `rate` messages a second in all, whether or not the server keeps up. `aside` has
    /// its turn between two looks at what has arrived.
    pub(crate) fn open_loop(
        &mut self,
        rate: f64,
        seconds: f64,
        mut aside: impl FnMut() -> Result<(), Problem>,
    ) -> Result<OpenLoop, Problem> {
        let pid = self.server.pid();
        let gap = SECOND as f64 / rate;
        let mut trouble = Trouble::default();
        let mut start = None;
        let mut end = None;
        let (mut sent, mut arrived, mut delivered, mut user) = (0_u64, 0_u64, 0_u64, 0);
        let mut by_second: Vec<Vec<u64>> = Vec::new();
        let begin = now();
        let measure = begin + nanos((seconds / 4.0).min(1.0));
        let stop = measure + nanos(seconds);
        let mut due = begin;
        loop {
            let time = now();
            if start.is_none() && time >= measure {
                start = Some(Sample::take(pid)?);
            }
            if let (None, Some(start), true) = (&end, start, time >= stop) {
                end = Some(start.until_now(pid)?);
            }
            if end.is_some() && (arrived >= sent || time > stop + 5 * SECOND) {
                break;
            }
            for _ in 0..BURST {
                if due > time || due >= stop {
                    break;
                }
                self.users.send(user, self.candidate.stamp(due, user));
                sent += 1;
                user = if user + 1 == self.count { 0 } else { user + 1 };
                due = begin + nanos(sent as f64 * gap / 1e9);
            }
            aside()?;
            let measuring = start.is_some() && end.is_none();
            self.users.look(|_, _, event| match event {
                Event::Text(text) => match mark(text) {
                    Some(mark) => {
                        arrived += 1;
                        delivered += u64::from(measuring);
                        if mark.at >= measure {
                            let second = (mark.at - measure) / SECOND;
                            let second = usize::try_from(second).unwrap_or(usize::MAX);
                            by_second.resize_with(by_second.len().max(second + 1), Vec::new);
                            by_second[second].push(now().saturating_sub(mark.at));
                        }
                    }
                    None => trouble.note(&event),
                },
                Event::Closed { .. } => trouble.note(&event),
            })?;
        }
        trouble.check("in the open loop", self.server)?;
        let mut latencies = by_second.concat();
        latencies.sort_unstable();
        by_second
            .iter_mut()
            .for_each(|second| second.sort_unstable());
        let window = end.ok_or_else(|| Problem::new("the open loop measured nothing"))?;
        Ok(OpenLoop {
            window,
            delivered,
            lost: sent - arrived,
            latencies,
            seconds: by_second,
        })
    }

    /// Each pair plays ping-pong with `outstanding` messages: each received message is answered by another one.
    pub(crate) fn closed_loop(
        &mut self,
        outstanding: u32,
        seconds: f64,
    ) -> Result<ClosedLoop, Problem> {
        let pid = self.server.pid();
        let mut trouble = Trouble::default();
        let mut flying = 0_u64;
        let frame = self.candidate.stamp(now(), 0).to_vec();
        for user in 0..self.count {
            if self.partners[user] > user {
                for _ in 0..outstanding {
                    self.users.send(user, &frame);
                    flying += 1;
                }
            }
        }
        let begin = now();
        let measure = begin + nanos((seconds / 4.0).min(1.0));
        let stop = measure + nanos(seconds);
        let mut start: Option<Sample> = None;
        let mut end = None;
        let mut delivered = 0_u64;
        while end.is_none() || (flying > 0 && now() < stop + 5 * SECOND) {
            let time = now();
            if start.is_none() && time >= measure {
                start = Some(Sample::take(pid)?);
                delivered = 0;
            }
            if let (None, Some(start), true) = (&end, start, time >= stop) {
                end = Some((start.until_now(pid)?, delivered));
            }
            let stopped = end.is_some();
            self.users.look(|users, user, event| match event {
                Event::Text(text) if mark(text).is_some() => {
                    delivered += 1;
                    if stopped {
                        flying -= 1;
                    } else {
                        users.send(user, &frame);
                    }
                }
                event => trouble.note(&event),
            })?;
            if trouble.closed > 0 {
                break;
            }
        }
        trouble.check("in the closed loop", self.server)?;
        match end {
            Some((window, delivered)) if flying == 0 => Ok(ClosedLoop { window, delivered }),
            _ => Err(Problem::new(format!(
                "in the closed loop the server lost {flying} messages"
            ))),
        }
    }

    /// Everybody says goodbye and is hung up on.
    pub(crate) fn leave(mut self) -> Result<(), Problem> {
        let begin = now();
        let mut next = 0;
        while self.users.connected() > 0 {
            let up_to = self.count.min(next + BURST);
            for user in next..up_to {
                self.users.close(user);
            }
            next = up_to;
            self.users.look(|_, _, _| {})?;
            if now() > begin + PATIENCE {
                let left = self.count - self.users.connected();
                return Err(late("connections ended", left, self.count, self.server));
            }
        }
        Ok(())
    }
}

/// Who sent this, if it is a relayed message.
fn sender(text: &[u8]) -> Option<usize> {
    mark(text).map(|mark| mark.from)
}

impl OpenLoop {
    /// A percentile of the latency of all messages, in microseconds.
    pub(crate) fn latency_us(&self, percent: f64) -> f64 {
        percentile(&self.latencies, percent) as f64 / 1e3
    }

    /// The median of the percentiles of each second, in microseconds: a stall of the machine spoils the
    /// second that it falls in, and not the figure.
    pub(crate) fn typical_latency_us(&self, percent: f64) -> f64 {
        let each = |second: &Vec<u64>| percentile(second, percent) as f64 / 1e3;
        let seconds: Vec<_> = self.seconds.iter().map(each).collect();
        Spread::of(&seconds).map_or(0.0, |spread| spread.median)
    }
}
