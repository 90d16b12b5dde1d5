//! Requests to the server's API, measured as calls.

use std::time::Duration;

use hyper::Method;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    measure::sample::{CallId, ErrorKind, Sample},
    user::{
        WorkerContext,
        net::http::{self, Answer, UserRequest},
    },
};

/// The longest answer that is read: the transcript of twenty speakers for an hour, an export of 200,000 answers.
pub const MAX_BYTES: usize = 128 << 20;

/// A request to the admin address.
pub struct Ask<'a> {
    /// The name under which it is measured.
    pub call: &'a str,
    pub method: Method,
    pub path: &'a str,
    /// JSON.
    pub body: Option<String>,
    pub within: Duration,
}

impl WorkerContext {
    /// A call under way. It ends when it is told what became of it.
    pub(super) fn begin_call(&self, name: &str) -> OpenCall<'_> {
        let place = self.plan.calls.iter().position(|known| known == name);
        let call = CallId(u16::try_from(place.unwrap_or(0)).unwrap_or(u16::MAX));
        (self.sink)(Sample::CallSent {
            call,
            lateness: Duration::ZERO,
        });
        OpenCall {
            context: self,
            call,
            sent: self.now(),
        }
    }

    /// Asks the admin address; the answer, read. `None`: there is no such answer, as was told.
    pub(super) async fn ask<T: DeserializeOwned>(&self, user: u32, ask: Ask<'_>) -> Option<T> {
        let call = self.begin_call(ask.call);
        let asked = UserRequest {
            method: &ask.method,
            path: ask.path,
            body: ask.body,
            bearer: None,
            kept: MAX_BYTES,
        };
        let admin = self.servers.admin()?;
        let answer = timeout(ask.within, Box::pin(http::ask(admin, user, asked))).await;
        call.ended(answer.map_err(|_elapsed| ()))
    }
}

/// See [`WorkerContext::begin_call`].
pub struct OpenCall<'a> {
    context: &'a WorkerContext,
    call: CallId,
    sent: Duration,
}

impl OpenCall<'_> {
    /// Tells what became of a call over HTTP; its answer, read. `Err(())`: none came in time.
    pub fn ended<T: DeserializeOwned>(
        self,
        answer: Result<Result<Answer, ErrorKind>, ()>,
    ) -> Option<T> {
        match answer {
            Err(()) => {
                self.timed_out();
                None
            }
            Ok(Err(error)) => {
                self.failed(error);
                None
            }
            Ok(Ok(answer)) if (200..300).contains(&answer.status) => {
                let read = answer.body.as_deref().map(serde_json::from_slice);
                let read = read.and_then(Result::ok);
                self.answered(read.is_some());
                read
            }
            Ok(Ok(answer)) => {
                self.context
                    .tell_error(ErrorKind::HttpStatus(answer.status));
                self.answered(false);
                None
            }
        }
    }

    /// An answer came, as it was expected or not.
    pub fn answered(self, rightly: bool) {
        let call = self.call;
        let latency = self.context.now().saturating_sub(self.sent);
        (self.context.sink)(match rightly {
            true => Sample::CallAnswered {
                call,
                latency,
                as_sent: latency,
            },
            false => Sample::CallWrong { call },
        });
    }

    pub fn timed_out(self) {
        (self.context.sink)(Sample::CallTimedOut {
            call: self.call,
            waited: self.context.now().saturating_sub(self.sent),
        });
    }

    /// There was no connection, or it broke.
    pub fn failed(self, error: ErrorKind) {
        self.context.tell_error(error);
        self.broken();
    }

    /// The connection broke, which is told elsewhere.
    pub fn broken(self) {
        (self.context.sink)(Sample::CallFailed {
            call: self.call,
            waited: self.context.now().saturating_sub(self.sent),
        });
    }
}
