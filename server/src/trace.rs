//! Traces of sessions, as spans of OpenTelemetry: how a user came in (`connect`), each match (`match`) and the end (`close`).
//! What is known of a traced session between its spans is kept here, so that a session carries nothing of it. A span that
//! finds no room among those that wait is counted: who ends one never waits.

#[cfg(feature = "traces")]
mod export;
mod traceparent;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use dashmap::DashMap;
use hyper::{HeaderMap, Uri};
use tokio::sync::mpsc;
use voicematch_core::{
    metrics::{Metrics, Transport},
    room::{Member, Place},
    trace::Trace,
};
use voicematch_protocol::{CloseReason, RoomId, SessionId};

#[cfg(feature = "traces")]
pub use export::start;
use traceparent::Parent;

#[cfg(not(feature = "traces"))]
use crate::sending::Sending;

/// Spans that may wait to be sent, at about 300 bytes each. They are sent each second, so it is also how many may end in a
/// second: those of more than 2,000 sessions.
#[cfg(feature = "traces")]
const MAX_WAITING: usize = 8192;

/// Which sessions are traced, and who is told.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// The collector; spans are posted to `v1/traces` below it.
    pub endpoint: Uri,
    /// The share of the sessions that is traced, 0 to 1.
    pub sample: f64,
}

/// Makes the spans.
pub struct Tracer {
    sample: f64,
    /// The traced sessions that are there.
    sessions: DashMap<SessionId, Traced>,
    queue: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
}

/// A session that is traced.
#[derive(Clone, Copy)]
struct Traced {
    trace: u128,
    /// The span of its first connect, to which the others belong.
    connect: u64,
    begun: Instant,
}

/// A request for a session, until it is known what becomes of it.
pub struct Connect {
    transport: Transport,
    sampled: bool,
    trace: u128,
    parent: Option<u64>,
    /// When the connection was accepted; for a later request over it, when that was there.
    begun: Instant,
    /// When the request was there.
    request: Instant,
    /// When it was known who the user is.
    admitted: Option<Instant>,
}

/// What is sent.
#[derive(Debug)]
#[cfg_attr(not(feature = "traces"), expect(dead_code, reason = "nobody sends it"))]
struct Span {
    name: &'static str,
    trace: u128,
    id: u64,
    parent: Option<u64>,
    /// Whether it is the client's doing, and its parent the client's.
    from_client: bool,
    begun: Instant,
    ended: Instant,
    attributes: Vec<(&'static str, Value)>,
    events: Vec<(&'static str, Instant)>,
    /// Whether the server is at fault.
    is_fault: bool,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "traces"), expect(dead_code, reason = "nobody sends it"))]
enum Value {
    Text(Cow<'static, str>),
    Id(u64),
    Yes(bool),
    Seconds(f64),
}

/// Nobody is told: this build cannot trace.
#[cfg(not(feature = "traces"))]
pub fn start(
    _config: Option<&TraceConfig>,
    _metrics: &Arc<Metrics>,
) -> Result<(Option<Arc<Tracer>>, Sending), String> {
    Ok((None, Sending::default()))
}

impl Tracer {
    /// A request for a session has come, over a connection that was accepted when it had `begun`. A `traceparent` of the
    /// client's is its parent; `trusted`: it also decides whether the session is traced.
    pub fn arrive(
        &self,
        transport: Transport,
        headers: &HeaderMap,
        trusted: bool,
        begun: Instant,
    ) -> Box<Connect> {
        let parent = traceparent::read(headers);
        let sampled = match parent {
            Some(Parent { sampled: false, .. }) => false,
            Some(_) if trusted => true,
            _ => self.samples(),
        };
        Box::new(Connect {
            transport,
            sampled,
            trace: parent.map_or_else(random_trace, |parent| parent.trace),
            parent: parent.map(|parent| parent.span),
            begun,
            request: Instant::now(),
            admitted: None,
        })
    }

    /// A session has begun, and its user was greeted.
    pub fn opened(&self, connect: &Connect, member: &Member) {
        if !connect.sampled {
            return;
        }
        let span = connect.span("opened", Some(member));
        let traced = Traced {
            trace: span.trace,
            connect: span.id,
            begun: span.ended,
        };
        self.sessions.insert(member.id, traced);
        if member.place() == Place::Gone {
            // It may have ended before it was known here.
            self.sessions.remove(&member.id);
        }
        self.end(span);
    }

    /// A session goes on over another connection. It is traced if the session is.
    pub fn resumed(&self, connect: &Connect, member: &Member) {
        let Some(traced) = self.traced(member.id) else {
            return;
        };
        let mut span = connect.span("resumed", Some(member));
        span.trace = traced.trace;
        span.parent = Some(traced.connect);
        self.end(span);
    }

    /// Nobody came in.
    pub fn refused(&self, connect: &Connect, reason: impl Into<Cow<'static, str>>, is_fault: bool) {
        if !connect.sampled {
            return;
        }
        let mut span = connect.span("refused", None);
        let reason = Value::Text(reason.into());
        span.attributes.push(("voicematch.reason", reason));
        span.is_fault = is_fault;
        self.end(span);
    }

    /// A connection has ended before it had a request.
    pub fn never_asked(&self, begun: Instant, reason: &'static str) {
        if !self.samples() {
            return;
        }
        let mut span = Span::new("connect", random_trace(), begun);
        span.from_client = true;
        span.attributes = vec![
            ("voicematch.outcome", Value::Text("refused".into())),
            ("voicematch.reason", Value::Text(reason.into())),
        ];
        self.end(span);
    }

    fn samples(&self) -> bool {
        rand::random::<f64>() < self.sample
    }

    fn traced(&self, session: SessionId) -> Option<Traced> {
        self.sessions.get(&session).map(|traced| *traced)
    }

    fn end(&self, span: Span) {
        if let Err(error) = self.queue.try_send(span) {
            let result = match error {
                mpsc::error::TrySendError::Full(_) => "queue_full",
                mpsc::error::TrySendError::Closed(_) => "failed",
            };
            self.metrics.spans.with_label_values(&[result]).inc();
        }
    }
}

impl Trace for Tracer {
    fn matched(&self, room: RoomId, pool: &'static str, users: [(SessionId, Duration); 2]) {
        for (session, waited) in users {
            let Some(traced) = self.traced(session) else {
                continue;
            };
            let now = Instant::now();
            let mut span = traced.span("match", now.checked_sub(waited).unwrap_or(now));
            span.attributes = vec![
                ("session.id", Value::Id(session.0)),
                ("voicematch.room_id", Value::Id(room.0)),
                ("voicematch.pool", Value::Text(pool.into())),
            ];
            self.end(span);
        }
    }

    fn closed(&self, session: SessionId, reason: CloseReason) {
        let Some((_, traced)) = self.sessions.remove(&session) else {
            return;
        };
        let length = traced.begun.elapsed().as_secs_f64();
        let mut span = traced.span("close", Instant::now());
        span.attributes = vec![
            ("session.id", Value::Id(session.0)),
            ("voicematch.reason", Value::Text(reason.as_str().into())),
            ("voicematch.session_seconds", Value::Seconds(length)),
        ];
        span.is_fault = reason == CloseReason::InternalError;
        self.end(span);
    }
}

impl Connect {
    /// It is known now who the user is.
    pub fn admit(&mut self) {
        self.admitted = Some(Instant::now());
    }

    fn span(&self, outcome: &'static str, member: Option<&Member>) -> Span {
        let mut span = Span::new("connect", self.trace, self.begun);
        span.parent = self.parent;
        span.from_client = true;
        span.attributes = vec![
            (
                "voicematch.transport",
                Value::Text(self.transport.as_str().into()),
            ),
            ("voicematch.outcome", Value::Text(outcome.into())),
        ];
        if let Some(member) = member {
            let of_session = [
                ("session.id", Value::Id(member.id.0)),
                ("voicematch.resumable", Value::Yes(member.is_resumable())),
            ];
            span.attributes.extend(of_session);
        }
        span.events.push(("request", self.request));
        span.events
            .extend(self.admitted.map(|admitted| ("admitted", admitted)));
        span
    }
}

impl Traced {
    fn span(&self, name: &'static str, begun: Instant) -> Span {
        let mut span = Span::new(name, self.trace, begun);
        span.parent = Some(self.connect);
        span
    }
}

impl Span {
    /// It ends now.
    fn new(name: &'static str, trace: u128, begun: Instant) -> Self {
        Self {
            name,
            trace,
            // 0 is no id (W3C Trace Context, 3.2.2.4).
            id: rand::random::<u64>().max(1),
            parent: None,
            from_client: false,
            begun,
            ended: Instant::now(),
            attributes: Vec::new(),
            events: Vec::new(),
            is_fault: false,
        }
    }
}

fn random_trace() -> u128 {
    rand::random::<u128>().max(1)
}
