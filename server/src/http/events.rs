//! `/events`: a session over server-sent events.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use hyper::{
    HeaderMap, Request,
    body::Incoming,
    header::{HeaderName, HeaderValue, RETRY_AFTER},
};
use tokio::io::AsyncRead;
use voicematch_core::{
    metrics::Transport,
    outbox::Attach,
    room::named::is_name,
    session::{CannotResume, Resumable, Token},
};

use super::{
    Reply,
    connection::{Asked, Connection, StreamRequest},
    cors,
    error::HttpError,
    wanted::{Wanted, parameter},
};
use crate::{
    io::{SocketLink, Stream, WriteHalf},
    transport::{
        attachment::Attachment,
        keeper,
        sse::{self, EventLink},
    },
};

/// What is said of a session that another node takes over.
pub(super) const MOVED: &str =
    "this server drains, and another one takes the session over; come back to it";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Looks at a request for a stream. A refusal is answered at once; else the connection is asked for its socket.
pub(super) async fn ask(request: &Request<Incoming>, connection: &Connection) -> Option<Reply> {
    let mut wanted = match Wanted::read(request) {
        Ok(wanted) => wanted,
        Err(message) => return Some(HttpError::BadRequest.reply(message)),
    };
    let identity = match connection.admit(request, &wanted).await {
        Ok(identity) => identity,
        Err(refusal) => return Some(*refusal),
    };
    let join = match room_to_join(request) {
        Ok(join) => join,
        Err(message) => return Some(HttpError::BadRequest.reply(message)),
    };
    if let Wanted::Resume { after, .. } = &mut wanted {
        // An `EventSource` that comes again by itself says what it has in this header; empty: nothing yet.
        let last = request.headers().get(LAST_EVENT_ID);
        if let Some(last) = last.filter(|last| !last.is_empty()) {
            let number = last.to_str().ok().and_then(|id| id.parse().ok());
            if number.is_none() {
                let message = "Last-Event-ID is the number of the last message that arrived";
                return Some(HttpError::BadRequest.reply(message));
            }
            *after = number;
        }
    }
    if let Some(refusal) = connection
        .bring_session(request.headers(), &mut wanted)
        .await
    {
        return Some(refusal);
    }
    if let Wanted::Resume { token, .. } = &wanted {
        match find(token.as_ref(), Transport::EventStream, request, connection) {
            Ok(session) if is_elsewhere(&session, join) => return Some(elsewhere()),
            Ok(_) => {}
            Err(_) => return Some(refused()),
        }
    }
    connection.ask_for_socket(Asked::Stream(StreamRequest {
        wanted,
        user: connection.user_address(request.headers()),
        identity,
        join: join.map(str::to_owned),
        headers: cors::headers(request.headers(), connection),
    }));
    None
}

/// The named room that a request asks for: `join=`, or `thread_id=` as in `/chat/events`.
pub(super) fn room_to_join(request: &Request<Incoming>) -> Result<Option<&str>, &'static str> {
    let query = request.uri().query().unwrap_or_default();
    let join = parameter(query, "join").or_else(|| parameter(query, "thread_id"));
    match join {
        Some(name) if !is_name(name) => {
            Err("the name of a room is 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
        }
        join => Ok(join),
    }
}

/// Whether a session is in another room than this one.
pub(super) fn is_elsewhere(session: &Resumable, join: Option<&str>) -> bool {
    let room = session.member.named_room();
    join.is_some_and(|join| room.is_some_and(|room| &*room.name != join))
}

pub(super) fn elsewhere() -> Reply {
    HttpError::AlreadyInRoom.reply("this session is in another room; leave_room first")
}

/// The session that a token opens. Attempts that fail are counted.
pub(super) fn find(
    token: Option<&Token>,
    transport: Transport,
    request: &Request<Incoming>,
    connection: &Connection,
) -> Result<Arc<Resumable>, CannotResume> {
    let context = &connection.public.context;
    let unknown = CannotResume::Refused { forged: false };
    let found = token.ok_or(unknown);
    let found = found.and_then(|token| context.resumables.find(token));
    if let Err(why) = &found {
        connection.failed(request.headers(), why);
        context.metrics.resume("refused", None, transport);
    }
    found
}

/// The answer to a token that opens no session.
pub(super) fn refused() -> Reply {
    HttpError::ResumeRefused.reply("this token opens no session; begin a new one without a token")
}

/// Opens the session, or finds it, and hands the socket to the stream.
pub(super) fn start(stream: Stream, connection: &Connection, request: StreamRequest) {
    match stream {
        Stream::Tcp(stream) => {
            let (socket, half) = stream.into_split();
            start_on(socket, half, connection, request);
        }
        Stream::Unix(stream) => {
            let (socket, half) = stream.into_split();
            start_on(socket, half, connection, request);
        }
        Stream::Tls(stream) => {
            let (socket, half) = stream.into_split();
            start_on(socket, half, connection, request);
        }
    }
}

fn start_on<R: AsyncRead + Unpin + Send + 'static, H: WriteHalf + 'static>(
    socket: R,
    half: H,
    connection: &Connection,
    request: StreamRequest,
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
            let arrival = connection.arrival(request.identity, request.user);
            Ok(Resumable::open(
                context,
                transport,
                attach.take(),
                arrival,
                now,
            ))
        }
        Wanted::Resume { token, after } => {
            let token = token.as_ref();
            let resumed = context.resume(token, *after, transport, &mut attach, now);
            if let Err(CannotResume::TooOld) = resumed {
                keeper::keep_vacant(&context.resumables, token);
            }
            resumed
        }
        Wanted::TooOld => Err(CannotResume::TooOld),
    };
    match (attached, attach) {
        (Ok(attached), _) => {
            // The session holds the count of its address.
            drop(connection.permit.take_address());
            let bans = &connection.public.bans;
            bans.enforce(&attached.session.member, request.user, now);
            let began = !matches!(request.wanted, Wanted::Resume { .. });
            let connect = connection.take_connect();
            let member = &attached.session.member;
            connection
                .public
                .connected(connect.as_deref(), member, began);
            if let Some(name) = &request.join {
                attached.session.lock_any().join_by_name(name);
            }
            let held = Arc::clone(&connection.permit);
            let longest = connection.public.settings.get().http.event_stream_time;
            let attachment = Attachment::new(attached);
            tokio::spawn(sse::serve(socket, attachment, longest, held));
        }
        (Err(refused), Some(Attach { link, .. })) => {
            let code = refused.reason().as_str();
            let connect = connection.take_connect();
            connection.public.not_connected(connect.as_deref(), code);
            let mut headers = request.headers;
            let (status, name, error) = match refused {
                CannotResume::Moved => {
                    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                    (503, "Service Unavailable", MOVED)
                }
                CannotResume::Refused { .. } | CannotResume::TooOld => {
                    (401, "Unauthorized", "begin a new session")
                }
            };
            let body = format!("{{\"code\":\"{code}\",\"error\":\"{error}\"}}\n");
            let mut reply = head(status, name, "application/json", &headers);
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

/// The value of a header that holds a position, as in `"41"`, `W/"41"` or `41`; `"41-gzip"` is what a proxy makes of it
/// (<https://httpd.apache.org/docs/2.4/mod/mod_deflate.html#deflatealteretag>).
pub(super) fn position(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?.trim();
    let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
    text.split('-').next()?.parse().ok()
}
