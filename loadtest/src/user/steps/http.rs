//! Plays requests over HTTP.

use std::{pin::pin, rc::Rc};

use serde_json::Value;
use tokio::time::timeout;

use crate::{
    measure::sample::{ErrorKind, Sample},
    plan::{
        flow::Request,
        template::{MAX_SAVED_BYTES, Values, call_id},
    },
    user::{
        Stop, Until, User,
        net::http::{self, UserRequest},
    },
};

impl User {
    /// Sends a request, and waits for its answer. After a wrong answer the steps go on, unless they need a value
    /// from it.
    pub async fn http(&mut self, request: &Request) -> Result<(), Stop> {
        let call = self.call_id(&request.name);
        let sent = self.context.now();
        let due = self.due.take().unwrap_or(sent);
        self.requests = self.requests.wrapping_add(1);
        self.tell(Sample::CallSent {
            call,
            lateness: sent.saturating_sub(due),
        });
        let id = call_id(self.context.run, self.start.user, self.requests);
        let values = Values {
            id: &id,
            ..self.values(self.requests)
        };
        let path = request.path.fill_path(&values);
        let asked = UserRequest {
            method: &request.method,
            path: &path,
            body: request.body.as_ref().map(|body| body.fill(&values)),
            bearer: None,
            kept: match request.save.is_empty() {
                true => 0,
                false => http::MAX_KEPT_BYTES,
            },
        };
        let context = Rc::clone(&self.context);
        let (user, node) = (self.start.user, self.node());
        let asking = async {
            let server = context.servers.get(request.origin.as_ref(), node);
            let server = server.ok_or(ErrorKind::ConnectFailed)?;
            http::ask(server, user, asked).await
        };
        // Boxed, because it is large and rare: otherwise it would be part of every user's state.
        let asking = Box::pin(asking);
        let mut asking = pin!(timeout(request.within, asking));
        let answer = tokio::select! {
            biased;
            answer = &mut asking => answer,
            stopped = self.listen_until(Until::Stopped) => match stopped {
                // A request that is open then may still be answered.
                Ok(()) | Err(Stop::Over) => tokio::select! {
                    biased;
                    answer = &mut asking => answer,
                    ended = self.listen(&context) => return Err(ended.map_or_else(Stop::Broken, |()| Stop::Over)),
                },
                Err(stop) => return Err(stop),
            },
        };
        let now = self.context.now();
        let waited = now.saturating_sub(due);
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.tell_error(error);
                // A fast refusal is no fast service.
                let waited = waited.max(request.within);
                self.tell(Sample::CallFailed { call, waited });
                return needed(request);
            }
            Err(_elapsed) => {
                self.tell(Sample::CallTimedOut { call, waited });
                return needed(request);
            }
        };
        let status = answer.status;
        if status != request.status {
            self.tell_error(ErrorKind::HttpStatus(status));
        }
        if status != request.status || !self.save(request, answer.body.as_deref()) {
            self.tell(Sample::CallWrong { call });
            return needed(request);
        }
        self.tell(Sample::CallAnswered {
            call,
            latency: waited,
            as_sent: now.saturating_sub(sent),
        });
        Ok(())
    }

    /// Saves the values that later steps need. False: one is missing.
    fn save(&mut self, request: &Request, answer: Option<&[u8]>) -> bool {
        if request.save.is_empty() {
            return true;
        }
        let Some(Ok(answer)) = answer.map(serde_json::from_slice::<Value>) else {
            return false;
        };
        for (name, pointer) in &request.save {
            let text: Box<str> = match answer.pointer(pointer) {
                Some(Value::String(text)) => text.as_str().into(),
                Some(other @ (Value::Number(_) | Value::Bool(_))) => other.to_string().into(),
                _ => return false,
            };
            if text.len() > MAX_SAVED_BYTES {
                return false;
            }
            match self.saved.iter_mut().find(|(known, _)| **known == **name) {
                Some((_, value)) => *value = text,
                None => self.saved.push((name.as_str().into(), text)),
            }
        }
        true
    }

    /// The values for the blanks of the user's n-th message, except those that only that message has.
    pub fn values(&self, seq: u32) -> Values<'_> {
        let now = self.context.now();
        Values {
            user: self.start.user,
            seq,
            run: self.context.run,
            now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            id: "",
            payload: "",
            saved: &self.saved,
        }
    }
}

/// A user who needs a value from the answer cannot go on without it.
fn needed(request: &Request) -> Result<(), Stop> {
    if request.save.is_empty() {
        Ok(())
    } else {
        Err(Stop::Failed)
    }
}
