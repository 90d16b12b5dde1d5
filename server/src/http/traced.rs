//! What the tracer is told of requests for a session.

use std::time::Instant;

use hyper::{Method, Request};
use serde::Deserialize;
use voicematch_core::{metrics::Transport, room::Member};

use super::{Public, Reply, connection::Connection};
use crate::trace::Connect;

impl Public {
    /// A session has begun, or goes on over another connection.
    pub(super) fn connected(&self, connect: Option<&Connect>, member: &Member, began: bool) {
        if let (Some(tracer), Some(connect)) = (&self.tracer, connect) {
            match began {
                true => tracer.opened(connect, member),
                false => tracer.resumed(connect, member),
            }
        }
    }

    /// A request that was answered with a stream or a WebSocket, over which its user hears that nothing is there.
    pub(super) fn not_connected(&self, connect: Option<&Connect>, reason: &'static str) {
        if let (Some(tracer), Some(connect)) = (&self.tracer, connect) {
            tracer.refused(connect, reason, false);
        }
    }

    /// A connection that has ended before it had a request.
    pub(super) fn never_asked(&self, begun: Instant, reason: &'static str) {
        if let Some(tracer) = &self.tracer {
            tracer.never_asked(begun, reason);
        }
    }
}

impl Connection {
    /// What is known of a request, if it is for a session and sessions are traced. `begun`: since when the client waits.
    pub(super) fn arrived<B>(&self, request: &Request<B>, begun: Instant) -> Option<Box<Connect>> {
        let tracer = self.public.tracer.as_ref()?;
        let transport = match request.uri().path() {
            "/ws" => Transport::WebSocket,
            "/events" | "/chat/events" => Transport::EventStream,
            "/poll" | "/chat/poll" => Transport::Polling,
            _ => return None,
        };
        let trusted = self.public.settings.get().proxies.trusts(self.peer);
        let is_get = request.method() == Method::GET;
        is_get.then(|| tracer.arrive(transport, request.headers(), trusted, begun))
    }

    /// Tells of the refusal, if this reply is one and nobody has been told.
    pub(super) fn tell_refusal(&self, reply: &Reply) {
        let status = reply.status();
        let is_refusal = status.is_client_error() || status.is_server_error();
        let (Some(tracer), true) = (&self.public.tracer, is_refusal) else {
            return;
        };
        let Some(connect) = self.take_connect() else {
            return;
        };
        let reason = match serde_json::from_slice(reply.body().whole()) {
            Ok(Refusal { code }) => code,
            Err(_) => status.as_str().to_owned(),
        };
        tracer.refused(&connect, reason, status.is_server_error());
    }
}

/// The body of a refusal.
#[derive(Deserialize)]
struct Refusal {
    code: String,
}
