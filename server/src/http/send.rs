//! `/send`: what a client without a WebSocket says, by requests.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use hyper::{HeaderMap, Request, StatusCode, body::Incoming, header};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::time::timeout;
use voicematch_core::{
    memory::Share,
    metrics::Transport,
    session::{CannotResume, Context, Pending, Resumable, Token},
};
use voicematch_protocol::CloseReason;

#[cfg(feature = "cluster")]
use super::other_nodes;
use super::{
    Reply, connection::Connection, error::HttpError, events::refused, forward, json_reply,
    poll::closed, wanted::Wanted,
};

#[cfg(feature = "cluster")]
use crate::cluster;

/// The most bytes of a body.
pub(super) const MAX_BODY_BYTES: usize = 256 * 1024;

/// The most bytes of a body that has the token in it: what a beacon may have
/// (<https://fetch.spec.whatwg.org/#http-network-or-cache-fetch>).
const MAX_BEACON_BYTES: usize = 64 * 1024;

/// The most messages in a body.
const MAX_MESSAGES: usize = 64;

/// The time for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

thread_local! {
    /// What the messages of one body give rise to; each body leaves it empty.
    static PENDING: RefCell<Pending> = RefCell::default();
}

/// Answers a request that sends messages.
pub(super) async fn answer(request: Request<Incoming>, connection: &Connection) -> Reply {
    let wanted = match Wanted::read(&request) {
        Ok(wanted) => wanted,
        Err(message) => return HttpError::BadRequest.reply(message),
    };
    // A session can only be carried on here, so that only the origin matters.
    let resume = Wanted::Resume {
        token: None,
        after: None,
    };
    if let Some(refusal) = connection.refusal(&request, &resume) {
        return refusal;
    }
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let context = &connection.public.context;
    let find = |token: Option<Token>| {
        let token = token.ok_or(CannotResume::Refused { forged: false });
        let found = token.and_then(|token| context.resumables.find(&token));
        let failed = |why: &CannotResume| {
            connection.failed(headers, why);
            context.metrics.resume("refused", None, Transport::Polling);
        };
        found.inspect_err(failed).ok()
    };
    #[cfg(feature = "cluster")]
    if let Wanted::Resume {
        token: Some(token), ..
    } = &wanted
        && let Some(home) = other_nodes::home(token, connection)
    {
        let body = read_body(headers, body, MAX_BODY_BYTES, None, context).await;
        return match body {
            Ok((body, _)) => pass_on(home, token, body, headers, connection).await,
            Err(refusal) => refusal,
        };
    }
    // A body costs memory: who shows a token that opens nothing has to send none.
    let (known, longest) = match wanted {
        Wanted::Resume { token, .. } => match find(token) {
            Some(session) => (Some(session), MAX_BODY_BYTES),
            None => return refused(),
        },
        // A message brings no session here.
        Wanted::TooOld => return refused(),
        Wanted::Plain | Wanted::Begin => (None, MAX_BEACON_BYTES),
    };
    // A body counts as memory of the session, so that only its own user pays for it.
    let own = known.as_ref().map(|session| session.member.outbox.memory());
    let (body, _memory) = match read_body(headers, body, longest, own, context).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let (shown, messages) = match read_messages(&body) {
        Ok(read) => read,
        Err(message) => return HttpError::BadRequest.reply(&message),
    };
    let session = match &known {
        Some(session) => session.clone(),
        None => {
            let token = shown.and_then(Token::parse);
            if let Some(token) = &token
                && forward::ask_with_body(token, &parts, &body, connection).await
            {
                // The answer comes from another process.
                return std::future::pending().await;
            }
            #[cfg(feature = "cluster")]
            if let Some(token) = &token
                && let Some(home) = other_nodes::home(token, connection)
            {
                return pass_on(home, token, body.clone(), headers, connection).await;
            }
            match find(token) {
                Some(session) => session,
                None => return refused(),
            }
        }
    };
    if let Some(refusal) = connection.carry(headers) {
        return refusal;
    }
    receive(&session, &messages, body.len(), context)
}

/// Passes a body on to the node of its session.
#[cfg(feature = "cluster")]
async fn pass_on(
    home: voicematch_core::cluster::NodeId,
    token: &Token,
    body: Vec<u8>,
    headers: &HeaderMap,
    connection: &Connection,
) -> Reply {
    let send = cluster::forward::Request {
        kind: cluster::forward::Kind::Send,
        token: token.text(),
        user: connection.user_address(headers),
        after: None,
        wait_ms: 0,
        join: None,
        body,
    };
    other_nodes::forward(home, send, headers, connection).await
}

/// Carries out the messages in a body that another node has passed on.
#[cfg(feature = "cluster")]
pub(super) fn take(session: &Resumable, body: &[u8], context: &Context) -> Reply {
    match read_messages(body) {
        Ok((_, messages)) => receive(session, &messages, body.len(), context),
        Err(message) => HttpError::BadRequest.reply(&message),
    }
}

/// `bytes`: of the whole body.
fn receive(session: &Resumable, messages: &[&RawValue], bytes: usize, context: &Context) -> Reply {
    let longest = context.config.get().max_message_bytes;
    if messages.len() > MAX_MESSAGES {
        return HttpError::TooLarge.reply("send 64 messages at once, at the most");
    }
    if messages.iter().any(|message| message.get().len() > longest) {
        context.metrics.limit_hit("max_message_bytes");
        return HttpError::TooLarge.reply(&format!("a message has {longest} bytes at the most"));
    }
    context.metrics.received_bytes(bytes);
    carry_out(session, messages)
}

/// Memory of a body, as it comes.
pub(super) struct BodyMemory<'a> {
    /// The session's; else that of the body alone.
    share: Result<&'a Share, Share>,
    bytes: usize,
}

impl BodyMemory<'_> {
    fn grow(&mut self, to: usize) {
        let share = match &self.share {
            Ok(share) => share,
            Err(share) => share,
        };
        share.change(self.bytes, to);
        self.bytes = to;
    }
}

impl Drop for BodyMemory<'_> {
    fn drop(&mut self) {
        self.grow(0);
    }
}

/// The body of a request, of this many bytes at the most, and its memory: that of `own`, if it is of a session.
pub(super) async fn read_body<'a>(
    headers: &HeaderMap,
    mut body: Incoming,
    longest: usize,
    own: Option<&'a Share>,
    context: &Context,
) -> Result<(Vec<u8>, BodyMemory<'a>), Reply> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("text/plain");
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // Pages may send text/plain to anybody, and with a beacon nothing else.
    if !["application/json", "text/plain"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
    {
        let message = "send application/json, or text/plain with JSON in it";
        return Err(HttpError::UnsupportedMediaType.reply(message));
    }
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let Some(length) = length else {
        return Err(HttpError::LengthRequired.reply("say Content-Length"));
    };
    if length > longest {
        let message = format!("this body may have {longest} bytes at the most");
        return Err(HttpError::TooLarge.reply(&message));
    }
    if own.is_none() && context.memory.is_exceeded() {
        context.metrics.refused("max_buffered_bytes");
        let message = "the server has no memory left for you; try again later";
        return Err(HttpError::ServerFull.reply(message));
    }
    let share = own.ok_or_else(|| Share::new(context.memory.clone(), 0));
    let mut memory = BodyMemory { share, bytes: 0 };
    let read = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            memory.grow(bytes.len() + data.len());
            bytes.extend_from_slice(&data);
        }
        Ok::<_, hyper::Error>(bytes)
    };
    match timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(bytes)) => Ok((bytes, memory)),
        Ok(Err(_)) => Err(HttpError::BadRequest.reply("the body ended too early")),
        Err(_) => Err(HttpError::RequestTimeout.reply("a body must come within 10 s")),
    }
}

/// What a page sends when it is left: a beacon has no headers for a token.
#[derive(Deserialize)]
struct Beacon<'a> {
    #[serde(borrow)]
    token: &'a str,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// The messages in a body, and the token if it is there.
fn read_messages(body: &[u8]) -> Result<(Option<&str>, Vec<&RawValue>), String> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    let wrong = |error: serde_json::Error| format!("the body is not JSON: {error:.200}");
    if text.trim_start().starts_with('[') {
        return Ok((None, serde_json::from_str(text).map_err(wrong)?));
    }
    if let Ok(Beacon { token, messages }) = serde_json::from_str(text) {
        return Ok((Some(token), messages));
    }
    Ok((None, vec![serde_json::from_str(text).map_err(wrong)?]))
}

#[derive(Deserialize)]
struct Numbered {
    #[serde(default)]
    seq: Option<u64>,
}

/// What stops a body before its end.
enum Stop {
    Gap,
    Draining,
    Budget,
    Ended(CloseReason),
}

fn carry_out(session: &Resumable, messages: &[&RawValue]) -> Reply {
    let now = Instant::now();
    let mut session = session.lock_any();
    if let Some(reason) = session.member().outbox.status().closing {
        return closed(reason, session.received());
    }
    let deadline = session.deadline();
    let stop = PENDING.with_borrow_mut(|pending| {
        pending.clear();
        let mut stop = None;
        for message in messages {
            let seq =
                serde_json::from_str::<Numbered>(message.get()).map_or(None, |found| found.seq);
            if session.takes_no_more() && seq.is_some_and(|seq| seq > session.received()) {
                stop = Some(Stop::Draining);
            } else if seq.is_some_and(|seq| seq > session.received() + 1) {
                stop = Some(Stop::Gap);
            } else if !session.may_send(now) {
                stop = Some(Stop::Budget);
            } else if let Err(reason) = session.receive(message.get(), now, pending) {
                stop = Some(Stop::Ended(reason));
            }
            if stop.is_some() {
                break;
            }
        }
        session.flush(now, pending);
        stop
    });
    session.tell_waiting();
    session.expect_talk(now);
    let received = session.received();
    // Who keeps the time of this session sleeps until the old deadline.
    if session.deadline() < deadline || deadline.is_none() {
        session.member().outbox.nudge();
    }
    match stop {
        None => json_reply(StatusCode::OK, &json!({ "received": received })),
        Some(Stop::Gap) => {
            let message =
                "messages are missing before this one; send again what comes after received";
            HttpError::Gap.reply_with(message, json!({ "received": received }))
        }
        Some(Stop::Draining) => {
            let message = "this session ends; send the rest in your next one";
            HttpError::Draining.reply_with(message, json!({ "received": received }))
        }
        Some(Stop::Budget) => {
            let message = "too many messages; send the rest again later";
            HttpError::RateLimited.reply_with(message, json!({ "received": received }))
        }
        Some(Stop::Ended(reason)) => {
            session.member().outbox.close(reason);
            session.leave(reason);
            match reason {
                CloseReason::Closed => json_reply(StatusCode::OK, &json!({ "received": received })),
                reason => closed(reason, received),
            }
        }
    }
}
