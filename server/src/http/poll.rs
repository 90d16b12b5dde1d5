//! `/poll`: a session over requests that wait for messages.

use std::{
    future::poll_fn,
    net::IpAddr,
    task::Poll,
    time::{Duration, Instant},
};

use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH},
};
use serde_json::json;
use tokio::time::timeout_at;
use voicematch_core::{
    identity::Identity,
    metrics::Transport,
    outbox::LogLimits,
    session::{Attached, CannotResume, Context, Resumable, Token},
};
use voicematch_protocol::CloseReason;

#[cfg(feature = "cluster")]
use super::other_nodes;
use super::{
    Public, Reply,
    connection::Connection,
    error::HttpError,
    events::{MOVED, elsewhere, find, is_elsewhere, position, refused, room_to_join},
    wanted::{Wanted, parameter},
};
#[cfg(feature = "cluster")]
use crate::cluster::forward;
use crate::transport::keeper;

/// The longest that a poll is held: below the 30 s after which some proxies give up.
const LONGEST_WAIT: u64 = 25;

/// What one answer holds at the most.
const BATCH: LogLimits = LogLimits {
    messages: 64,
    bytes: 64 * 1024,
};

/// Answers a poll.
pub(super) async fn answer(request: &Request<Incoming>, connection: &Connection) -> Reply {
    let mut wanted = match Wanted::read(request) {
        Ok(wanted) => wanted,
        Err(message) => return HttpError::BadRequest.reply(message),
    };
    let query = request.uri().query().unwrap_or_default();
    let wait = match parameter(query, "wait").map(str::parse) {
        None => LONGEST_WAIT,
        Some(Ok(wait)) if wait <= LONGEST_WAIT => wait,
        Some(_) => return HttpError::BadRequest.reply("wait is 0 to 25, in seconds"),
    };
    let identity = match connection.admit(request, &wanted).await {
        Ok(identity) => identity,
        Err(refusal) => return *refusal,
    };
    if let Wanted::Resume { after, .. } = &mut wanted
        && let Some(value) = request.headers().get(IF_NONE_MATCH)
    {
        let number = position(value);
        if number.is_none() {
            let message = "If-None-Match is the ETag of the last answer that arrived";
            return HttpError::BadRequest.reply(message);
        }
        *after = number;
    }
    let join = match room_to_join(request) {
        Ok(join) => join,
        Err(message) => return HttpError::BadRequest.reply(message),
    };
    let user = connection.user_address(request.headers());
    #[cfg(feature = "cluster")]
    if let Wanted::Resume {
        token: Some(token),
        after,
    } = &wanted
        && let Some(home) = other_nodes::home(token, connection)
    {
        let poll = forward::Request {
            kind: forward::Kind::Poll,
            token: token.text(),
            user,
            after: *after,
            wait_ms: wait * 1_000,
            join: join.map(str::to_owned),
            body: Vec::new(),
        };
        // A poll that goes on is no connect.
        connection.take_connect();
        return other_nodes::forward(home, poll, request.headers(), connection).await;
    }
    let attached = match attach(&wanted, identity, join, request, connection) {
        Ok(attached) => attached,
        Err(why) => {
            let token = match &wanted {
                Wanted::Resume { token, .. } => token.as_ref(),
                Wanted::Plain | Wanted::Begin | Wanted::TooOld => None,
            };
            return refusal(why, token, &connection.public.context);
        }
    };
    // A poll that goes on is no connect.
    let connect = connection.take_connect();
    if !matches!(wanted, Wanted::Resume { .. }) {
        let member = &attached.session.member;
        connection
            .public
            .connected(connect.as_deref(), member, true);
    }
    carry(
        attached,
        user,
        join,
        Duration::from_secs(wait),
        &connection.public,
    )
    .await
}

/// Carries a session with a poll from this address.
pub(super) async fn carry(
    attached: Attached,
    user: IpAddr,
    join: Option<&str>,
    wait: Duration,
    public: &Public,
) -> Reply {
    keeper::keep(attached.session.clone());
    let member = &attached.session.member;
    public.bans.enforce(member, user, Instant::now());
    if let Some(name) = join {
        attached.session.lock_any().join_by_name(name);
    }
    hold(attached, wait).await
}

/// The answer to a poll that carries no session. `token`: what it has shown.
pub(super) fn refusal(why: NotAttached, token: Option<&Token>, context: &Context) -> Reply {
    match why {
        NotAttached::Reply(reply) => *reply,
        NotAttached::CannotResume(CannotResume::TooOld) => {
            keeper::keep_vacant(&context.resumables, token);
            HttpError::TooOld.reply("messages after yours are gone; begin a new session")
        }
        NotAttached::CannotResume(CannotResume::Refused { .. }) => refused(),
        NotAttached::CannotResume(CannotResume::Moved) => HttpError::Moved.reply(MOVED),
    }
}

/// Why a poll carries no session.
pub(super) enum NotAttached {
    CannotResume(CannotResume),
    Reply(Box<Reply>),
}

impl From<CannotResume> for NotAttached {
    fn from(why: CannotResume) -> Self {
        Self::CannotResume(why)
    }
}

fn attach(
    wanted: &Wanted,
    identity: Option<Box<Identity>>,
    join: Option<&str>,
    request: &Request<Incoming>,
    connection: &Connection,
) -> Result<Attached, NotAttached> {
    let context = &connection.public.context;
    let now = Instant::now();
    match wanted {
        Wanted::Plain | Wanted::Begin => {
            if let Err(refusal) = connection.permit.may_begin() {
                return Err(NotAttached::Reply(Box::new(super::refused(refusal))));
            }
            let user = connection.user_address(request.headers());
            let arrival = connection.arrival(identity, user);
            // The session has the count now, and the connection stays.
            if let Some(refusal) = connection.carry(request.headers()) {
                return Err(NotAttached::Reply(Box::new(refusal)));
            }
            let transport = Transport::Polling;
            Ok(Resumable::open(context, transport, None, arrival, now))
        }
        Wanted::Resume { token, after } => {
            let token = token.as_ref();
            let session = find(token, Transport::Polling, request, connection)?;
            // Before the poll carries the session: a refusal must leave everything as it is.
            if is_elsewhere(&session, join) {
                return Err(NotAttached::Reply(Box::new(elsewhere())));
            }
            if let Some(refusal) = connection.carry(request.headers()) {
                return Err(NotAttached::Reply(Box::new(refusal)));
            }
            let unknown = CannotResume::Refused { forged: false };
            Ok(session.poll(token.ok_or(unknown)?, *after, now)?)
        }
        // A poll brings no session here.
        Wanted::TooOld => Err(CannotResume::TooOld.into()),
    }
}

/// A poll that is held. If its connection is lost, the session waits for the next one.
struct Held(Attached);

impl Held {
    fn new(attached: Attached) -> Self {
        attached.session.metrics().polls_held.inc();
        Self(attached)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.session.metrics().polls_held.dec();
        if let Some(mut session) = self.0.session.lock(self.0.epoch) {
            session.poll_over(false, Instant::now());
            drop(session);
            self.0.session.member.outbox.nudge();
        }
    }
}

/// What a poll ends with.
enum Outcome {
    Messages(u64),
    Replaced,
    Closed(CloseReason),
}

async fn hold(attached: Attached, wait: Duration) -> Reply {
    let until = Instant::now() + wait;
    let held = Held::new(attached);
    let Attached {
        session,
        epoch,
        first,
    } = &held.0;
    let outbox = &session.member.outbox;
    let mut messages = first.clone();
    let outcome = poll_fn(|cx| {
        // Held while messages are taken: a later connection must not come in between.
        let Some(_locked) = session.lock(*epoch) else {
            return Poll::Ready(Outcome::Replaced);
        };
        match outbox.take(BATCH, &mut messages, cx.waker()) {
            Poll::Ready(last) => Poll::Ready(Outcome::Messages(last)),
            Poll::Pending if !first.is_empty() => Poll::Ready(Outcome::Messages(outbox.taken())),
            Poll::Pending => match outbox.status().closing {
                Some(reason) => Poll::Ready(Outcome::Closed(reason)),
                None => Poll::Pending,
            },
        }
    });
    match timeout_at(until.into(), outcome).await {
        Ok(Outcome::Messages(last)) => {
            let Some(mut locked) = session.lock(*epoch) else {
                return replaced();
            };
            let next = locked.poll_over(true, Instant::now());
            let received = locked.received();
            drop(locked);
            let next = if wait.is_zero() { next } else { Duration::ZERO };
            reply(&messages, received, next, last)
        }
        Ok(Outcome::Replaced) => replaced(),
        Ok(Outcome::Closed(reason)) => {
            // Its keeper may not have seen the end yet.
            let mut ended = session.lock_any();
            ended.leave(reason);
            ended.forget();
            closed(reason, ended.received())
        }
        Err(_) => match session.lock(*epoch) {
            Some(_locked) => not_modified(outbox.taken()),
            None => replaced(),
        },
    }
}

fn replaced() -> Reply {
    HttpError::Replaced.reply("a later connection carries the session")
}

/// The answer to who sees the end of a session, which has taken the messages up to number `received`.
pub(super) fn closed(reason: CloseReason, received: u64) -> Reply {
    let body =
        json!({ "code": reason.close_code(), "reason": reason.as_str(), "received": received });
    HttpError::Gone.reply_with("the session has ended", body)
}

fn reply(messages: &[u8], received: u64, next: Duration, last: u64) -> Reply {
    let (head, next) = (br#"{"messages":["#, next.as_millis());
    let tail = format!("],\"received\":{received},\"poll_after_ms\":{next}}}\n");
    let body = [head, messages, tail.as_bytes()].concat();
    let mut reply = super::reply(StatusCode::OK, "application/json", body);
    mark(&mut reply, last);
    reply
}

/// There is nothing new.
fn not_modified(last: u64) -> Reply {
    let mut reply = Response::new(Default::default());
    *reply.status_mut() = StatusCode::NOT_MODIFIED;
    mark(&mut reply, last);
    reply.headers_mut().remove(CONTENT_TYPE);
    reply
}

fn mark(reply: &mut Reply, last: u64) {
    let headers = reply.headers_mut();
    let value = HeaderValue::from_static("private, no-cache");
    headers.insert(CACHE_CONTROL, value);
    if let Ok(tag) = HeaderValue::try_from(format!("\"{last}\"")) {
        headers.insert(ETAG, tag);
    }
}
