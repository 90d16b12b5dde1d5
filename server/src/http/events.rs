//! `/events`: a session over server-sent events.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use hyper::{
    HeaderMap, Request,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};
use tokio::io::AsyncRead;
use voicematch_core::{metrics::Transport, outbox::Attach, session::Resumable};

use super::{
    Reply,
    connection::{Connection, StreamRequest},
    cors,
    error::HttpError,
    wanted::Wanted,
};
use crate::{
    io::{SocketLink, Stream, WriteHalf},
    transport::{
        attachment::Attachment,
        sse::{self, EventLink},
    },
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Looks at a request for a stream. A refusal is answered at once; else the connection is asked for its socket.
pub(super) fn ask(request: &Request<Incoming>, connection: &Connection) -> Option<Reply> {
    let mut wanted = match Wanted::read(request) {
        Ok(wanted) => wanted,
        Err(message) => return Some(HttpError::BadRequest.reply(message)),
    };
    if let Some(refusal) = connection.refusal(request, &wanted) {
        return Some(refusal);
    }
    if let Wanted::Resume { token, after } = &mut wanted {
        // An `EventSource` that comes again by itself says what it has in this header.
        if let Some(last) = request.headers().get(LAST_EVENT_ID) {
            *after = Some(
                last.to_str()
                    .ok()
                    .and_then(|id| id.parse().ok())
                    .unwrap_or(0),
            );
        }
        let context = &connection.public.context;
        let known = token
            .as_ref()
            .is_some_and(|token| context.resumables.find(context, token).is_ok());
        if !known {
            context
                .metrics
                .resume("refused", None, Transport::EventStream);
            return Some(refused());
        }
    }
    connection.ask_for_socket(StreamRequest {
        wanted,
        headers: cors::headers(request.headers(), connection),
    });
    None
}

/// The answer to a token that opens no session.
pub(super) fn refused() -> Reply {
    HttpError::ResumeRefused.reply("this token opens no session; begin a new one without a token")
}

/// Opens the session, or finds it, and hands the socket to the stream.
pub(super) fn start(stream: Stream, connection: &Connection, request: &StreamRequest) {
    match stream {
        Stream::Tcp(stream) => {
            let (socket, half) = stream.into_split();
            start_on(socket, half, connection, request);
        }
        Stream::Unix(stream) => {
            let (socket, half) = stream.into_split();
            start_on(socket, half, connection, request);
        }
    }
}

fn start_on<R: AsyncRead + Unpin + Send + 'static, H: WriteHalf + 'static>(
    socket: R,
    half: H,
    connection: &Connection,
    request: &StreamRequest,
) {
    let (now, transport) = (Instant::now(), Transport::EventStream);
    let context = &connection.public.context;
    let mut preface = head(200, "OK", "text/event-stream", &request.headers);
    preface.extend_from_slice(&sse::opening());
    let mut attach = Some(Attach {
        link: Box::new(EventLink(SocketLink::new(half))),
        preface: &preface,
    });
    let attached = match &request.wanted {
        Wanted::Plain | Wanted::Begin => {
            let held = connection.take_address();
            Ok(Resumable::open(
                context,
                transport,
                attach.take(),
                held,
                now,
            ))
        }
        Wanted::Resume { token, after } => {
            context.resume(token.as_ref(), *after, transport, &mut attach, now)
        }
    };
    match (attached, attach) {
        (Ok(attached), _) => {
            // The session holds the count of its address.
            drop(connection.take_address());
            let held = Arc::clone(&connection.permit);
            tokio::spawn(sse::serve(socket, Attachment::new(attached), held));
        }
        (Err(refused), Some(Attach { link, .. })) => {
            let code = refused.reason().as_str();
            let body = format!("{{\"code\":\"{code}\",\"error\":\"begin a new session\"}}\n");
            let mut reply = head(401, "Unauthorized", "application/json", &request.headers);
            reply.extend_from_slice(body.as_bytes());
            sse::refuse(&*link, &reply);
        }
        (Err(_), None) => {}
    }
}

/// The head of an answer that ends with its connection.
fn head(status: u16, reason: &str, content_type: &str, more: &HeaderMap) -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut head = format!(
        "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Type: {content_type}\r\n\
         Cache-Control: no-store, no-transform\r\nX-Accel-Buffering: no\r\nConnection: close\r\n"
    )
    .into_bytes();
    for (name, value) in more {
        let parts = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
        parts.iter().for_each(|part| head.extend_from_slice(part));
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The value of a header that holds a position, as in `"41"`, `W/"41"` or `41`.
pub(super) fn position(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?.trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    text.trim_matches('"').parse().ok()
}
