//! Requests over the connection, and their answers.

use std::time::Duration;

use crate::{
    measure::sample::{CallId, ErrorKind, Sample},
    plan::{
        flow::Call,
        template::{Values, call_id, calls_in},
    },
    user::{
        Stop, Until, User,
        inbound::type_of,
        steps::send::{Sending, Sent},
    },
};

/// A request without an answer yet.
pub struct Pending {
    call: CallId,
    /// The number of the request, if its id is in the text.
    number: Option<u32>,
    /// The expected type of the answer.
    answer: Option<String>,
    due: Duration,
    sent: Duration,
    /// When it times out.
    until: Duration,
}

impl Pending {
    /// A request that is sent now, and answered by the next message of this type.
    pub fn of_type(call: CallId, answer: String, now: Duration, within: Duration) -> Self {
        Self {
            call,
            number: None,
            answer: Some(answer),
            due: now,
            sent: now,
            until: now + within,
        }
    }
}

impl User {
    pub fn call_id(&self, name: &str) -> CallId {
        let found = self
            .context
            .plan
            .calls
            .iter()
            .position(|known| known == name);
        CallId(u16::try_from(found.unwrap_or(0)).unwrap_or(u16::MAX))
    }

    /// Sends requests when they are due, and waits until each is answered or has timed out. The steps go on without
    /// the answer.
    pub async fn call(&mut self, call: &Call) -> Result<(), Stop> {
        let now = self.context.now();
        let mut sending = Sending::new(Sent::Call(call), call.every, call.rounds, now);
        self.listen_until(Until::Sent(&mut sending)).await?;
        self.listen_until(Until::Holds(|user| user.pending.is_empty()))
            .await
    }

    pub fn ask(&mut self, call: &Call, due: Duration) -> Result<(), ErrorKind> {
        let (user, run) = (self.start.user, self.context.run);
        self.requests = self.requests.wrapping_add(1);
        let len = call.size.of(user, self.requests);
        let sent = self.context.now();
        let text = call.template.fill(&Values {
            id: &call_id(run, user, self.requests),
            payload: &"x".repeat(len),
            ..self.values(self.requests)
        });
        self.send(call.frame, text)?;
        let pending = Pending {
            call: self.call_id(&call.name),
            number: call.template.has_id().then_some(self.requests),
            answer: call.answer.clone(),
            due,
            sent,
            until: sent + call.within,
        };
        self.tell(Sample::CallSent {
            call: pending.call,
            lateness: sent.saturating_sub(due),
        });
        self.pending.push_back(pending);
        Ok(())
    }

    /// When the next request times out. All open requests belong to one step, so it is
    /// the oldest.
    pub fn next_time_out(&self) -> Option<Duration> {
        let pending = self.pending.front()?;
        // A pause of this process is not the server's time.
        let paused = (self.context.pulse).paused(pending.sent, self.context.now());
        Some(pending.until + paused)
    }

    /// Gives up the requests that have timed out.
    pub fn time_out_calls(&mut self, now: Duration) {
        while self.next_time_out().is_some_and(|until| until <= now) {
            let Some(pending) = self.pending.pop_front() else {
                return;
            };
            self.tell(Sample::CallTimedOut {
                call: pending.call,
                waited: now.saturating_sub(pending.due),
            });
        }
    }

    /// Whether this answers an open request. One message may answer several requests by their ids; one
    /// without an id answers the oldest request that expects its type.
    pub fn on_answer(&mut self, now: Duration, text: &str) -> bool {
        self.time_out_calls(now);
        if self.pending.is_empty() {
            return false;
        }
        let kind = type_of(text);
        let right_type = |pending: &Pending| match &pending.answer {
            Some(wanted) => kind.as_deref() == Some(wanted),
            None => kind.as_deref() != Some("error"),
        };
        let before = self.pending.len();
        for number in calls_in(text, self.context.run, self.start.user) {
            let found = (self.pending.iter()).position(|pending| pending.number == Some(number));
            if let Some(pending) = found.and_then(|place| self.pending.remove(place)) {
                self.answered(now, &pending, right_type(&pending));
            }
        }
        if self.pending.len() == before {
            let ours = |pending: &Pending| pending.number.is_none() && right_type(pending);
            let found = self.pending.iter().position(ours);
            if let Some(pending) = found.and_then(|place| self.pending.remove(place)) {
                self.answered(now, &pending, true);
            }
        }
        self.pending.len() < before
    }

    fn answered(&self, now: Duration, pending: &Pending, rightly: bool) {
        let call = pending.call;
        self.tell(if rightly {
            Sample::CallAnswered {
                call,
                latency: now.saturating_sub(pending.due),
                as_sent: now.saturating_sub(pending.sent),
            }
        } else {
            Sample::CallWrong { call }
        });
    }
}
