//! Requests that want an answer: over the connection, and over HTTP.

use std::time::Duration;

use tokio::time::timeout;

use super::{Stop, User, events::type_of};
use crate::{
    flow::Call,
    http,
    phase::{Phase, reached},
    sample::{CallId, Sample},
    template::{Values, call_id},
};

/// A request whose answer has not come.
pub(super) struct Pending {
    call: CallId,
    id: Option<String>,
    /// The type that the answer has to be of.
    answer: Option<String>,
    due: Duration,
    sent: Duration,
}

impl User {
    fn call_id(&self, name: &str) -> CallId {
        let found = self.stage.calls.iter().position(|known| known == name);
        CallId(u16::try_from(found.unwrap_or(0)).unwrap_or(u16::MAX))
    }

    /// Sends a request, and waits for its answer. Without one the steps go on.
    pub(super) async fn call(&mut self, call: &Call) -> Result<(), Stop> {
        let due = self.stage.now();
        self.requests = self.requests.wrapping_add(1);
        let id = call_id(self.stage.run, self.start.user, self.requests);
        let len = call.size.of(self.start.user, self.requests);
        let text = call.template.fill(&Values {
            user: self.start.user,
            seq: self.requests,
            run: self.stage.run,
            now_ms: u64::try_from(due.as_millis()).unwrap_or(u64::MAX),
            id: &id,
            payload: &"x".repeat(len),
        });
        self.send(call.frame, text).map_err(Stop::Broken)?;
        let sent = self.stage.now();
        let pending = Pending {
            call: self.call_id(&call.name),
            id: call.template.has_id().then_some(id),
            answer: call.answer.clone(),
            due,
            sent,
        };
        self.tell(Sample::CallSent {
            call: pending.call,
            lateness: sent.saturating_sub(due),
        });
        self.pending = Some(pending);
        self.live(
            None,
            Some(sent + call.within),
            Some(|user| user.pending.is_none()),
        )
        .await?;
        if let Some(pending) = self.pending.take() {
            self.tell(Sample::CallTimedOut {
                call: pending.call,
                waited: self.stage.now().saturating_sub(pending.due),
            });
        }
        Ok(())
    }

    /// Whether this is the answer that is waited for.
    pub(super) fn on_answer(&mut self, now: Duration, text: &str) -> bool {
        let Some(pending) = &self.pending else {
            return false;
        };
        let of_type = |wanted: &str| type_of(text).as_deref() == Some(wanted);
        let right_type = match &pending.answer {
            Some(wanted) => of_type(wanted),
            None => !of_type("error"),
        };
        let ours = match &pending.id {
            Some(id) => text.contains(id.as_str()),
            None => right_type,
        };
        if !ours {
            return false;
        }
        let (call, due, sent) = (pending.call, pending.due, pending.sent);
        self.tell(if right_type {
            Sample::CallAnswered {
                call,
                latency: now.saturating_sub(due),
                as_sent: now.saturating_sub(sent),
            }
        } else {
            Sample::CallWrong { call }
        });
        self.pending = None;
        true
    }

    /// Asks for a page, and waits for it. Without it the steps go on.
    pub(super) async fn http(
        &mut self,
        name: &str,
        path: &str,
        status: u16,
        within: Duration,
    ) -> Result<(), Stop> {
        let call = self.call_id(name);
        // A user who comes only for a page is due when the plan lets them come.
        let first = self.requests == 0 && self.connections == 0;
        let sent = self.stage.now();
        let due = if first { self.start.at } else { sent };
        self.requests = self.requests.wrapping_add(1);
        self.tell(Sample::CallSent {
            call,
            lateness: sent.saturating_sub(due),
        });
        let endpoint = &self.stage.endpoint;
        let (address, authority) = (endpoint.address(), endpoint.authority());
        // Boxed, like all that is large and seldom: it would be a part of each user for as long as they are there.
        let asked = tokio::select! {
            biased;
            () = reached(&self.stage.phase, Phase::Settling) => return Err(Stop::Over),
            asked = timeout(within, Box::pin(http::get(address, authority, path))) => asked,
        };
        let now = self.stage.now();
        self.tell(match asked {
            Ok(Ok(answer)) if answer.status == status => Sample::CallAnswered {
                call,
                latency: now.saturating_sub(due),
                as_sent: now.saturating_sub(sent),
            },
            Ok(Ok(_)) => Sample::CallWrong { call },
            Ok(Err(_)) | Err(_) => Sample::CallTimedOut {
                call,
                waited: now.saturating_sub(due),
            },
        });
        Ok(())
    }
}
