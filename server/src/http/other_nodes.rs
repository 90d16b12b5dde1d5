//! Requests that carry on sessions of other nodes of the cluster: this node passes them on, and carries out those of the others.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use tokio::runtime::Handle;
use voicematch_core::{
    cluster::NodeId,
    memory::Share,
    metrics::Transport,
    room::named::is_name,
    session::{CannotResume, Resumable, Token},
};

use super::{
    Public, Reply,
    connection::Connection,
    content::Content,
    error::HttpError,
    events::{elsewhere, is_elsewhere, refused},
    poll, send,
};
use crate::cluster::forward::{Answer, Carried, Kind, NotForwarded, Request, Server};

/// The headers that an answer brings from the other node.
const HEADERS: [HeaderName; 5] = [
    CACHE_CONTROL,
    CONTENT_TYPE,
    ETAG,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
];

/// The node of the session that a token opens, if that is another one, which lives.
pub(super) fn home(token: &Token, connection: &Connection) -> Option<NodeId> {
    let public = &connection.public;
    let node = public.node.as_ref()?;
    let context = &public.context;
    if context.resumables.get(token.session).is_some() {
        return None;
    }
    match token.process == context.room_keys.process {
        true => context.takes.moved_to(token.session),
        false => node.home(token.process),
    }
}

/// Passes a request on, and answers with what the other node says.
pub(super) async fn forward(
    home: NodeId,
    request: Request,
    headers: &HeaderMap,
    connection: &Connection,
) -> Reply {
    if let Some(refusal) = connection.carry(headers) {
        return refusal;
    }
    let Some(node) = &connection.public.node else {
        return refused();
    };
    let bytes = request.body.len();
    let _memory = Share::new(connection.public.context.memory.clone(), bytes);
    match node.forward(home, &request).await {
        Ok(answer) => {
            if answer.forged {
                connection.failed(headers, &CannotResume::Refused { forged: true });
            }
            to_reply(answer)
        }
        Err(NotForwarded::Lost) => refused(),
        Err(NotForwarded::Unreachable) => HttpError::NodeUnreachable
            .reply("the server that has this session does not answer; try again"),
    }
}

fn to_reply(answer: Answer) -> Reply {
    let Ok(status) = StatusCode::from_u16(answer.status) else {
        return HttpError::Internal.reply("another node gave an answer that is none");
    };
    let mut reply = Response::new(Content::from(answer.body));
    *reply.status_mut() = status;
    for (name, value) in answer.headers {
        let known = HEADERS.into_iter().find(|known| known.as_str() == name);
        if let (Some(name), Ok(value)) = (known, HeaderValue::try_from(value)) {
            reply.headers_mut().insert(name, value);
        }
    }
    reply
}

/// Carries out what other nodes pass on.
pub fn server(public: &Arc<Public>, workers: Vec<Handle>) -> Server {
    let public = Arc::downgrade(public);
    let carry_out = move |request| Box::pin(carry_out(public.clone(), request)) as _;
    Server {
        workers,
        carry_out: Box::new(carry_out),
    }
}

async fn carry_out(public: Weak<Public>, request: Request) -> Carried {
    let token = Token::parse(&request.token);
    let Some((public, token)) = public.upgrade().zip(token) else {
        return Carried::Out(to_answer(refused(), false));
    };
    let context = &public.context;
    let _memory = Share::new(context.memory.clone(), request.body.len());
    let session = match context.resumables.find(&token) {
        Ok(session) => session,
        Err(why) => {
            if let Some(node) = context.takes.moved_to(token.session) {
                return Carried::MovedTo(node);
            }
            context.metrics.resume("refused", None, Transport::Polling);
            let forged = why == CannotResume::Refused { forged: true };
            return Carried::Out(to_answer(refused(), forged));
        }
    };
    let reply = match request.kind {
        Kind::Send => send::take(&session, &request.body, context),
        Kind::Poll => go_on(session, &token, request, &public).await,
    };
    Carried::Out(to_answer(reply, false))
}

async fn go_on(session: Arc<Resumable>, token: &Token, request: Request, public: &Public) -> Reply {
    let join = request.join.as_deref().filter(|name| is_name(name));
    if is_elsewhere(&session, join) {
        return elsewhere();
    }
    match session.poll(token, request.after, Instant::now()) {
        Ok(attached) => {
            let wait = Duration::from_millis(request.wait_ms);
            poll::carry(attached, request.user, join, wait, public).await
        }
        Err(why) => poll::refusal(why.into(), Some(token), &public.context),
    }
}

fn to_answer(reply: Reply, forged: bool) -> Answer {
    let header = |name: &HeaderName| {
        let value = reply.headers().get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    Answer {
        status: reply.status().as_u16(),
        headers: HEADERS.iter().filter_map(header).collect(),
        forged,
        body: reply.body().whole().to_vec(),
    }
}
