//! The public listener's HTTP: `/ws`, `/events`, `/poll`, `/send`, `/health`, `/stats`, and the page.

mod connection;
pub mod content;
mod cors;
mod dev_token;
pub mod error;
mod events;
mod forward;
mod handshake;
#[cfg(feature = "cluster")]
pub mod other_nodes;
mod page;
mod poll;
mod send;
mod stream;
mod take;
mod traced;
#[cfg(feature = "transcribe")]
pub mod transcribed;
mod wanted;

use std::{
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    http::uri::Authority,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::json;
use tokio::time::{sleep_until, timeout};

use connection::{Asked, Connection};
use content::Content;
use error::HttpError;
use stream::{Hold, HttpStream};

#[cfg(feature = "transcribe")]
use crate::transcribe::Transcribe;
use crate::{
    admission::{
        auth::Auth,
        bans::Bans,
        limits::{Permit, Refusal},
        make_room::MakeRoom,
        origin::AllowedOrigins,
        proxy::TrustedProxies,
    },
    io::{Peer, Stream, TlsStream, proxy_header},
    shutdown::Shutdown,
    trace::Tracer,
    transport::ws::WsConfig,
};
use voicematch_core::{
    live::Live,
    memory::Share,
    metrics::{Percentiles, QUANTILES},
    session::Context,
};

/// How HTTP connections behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpConfig {
    /// Time for a request's header, and between two requests.
    pub handshake_timeout: Duration,
    /// The longest header, in bytes.
    pub max_header_bytes: usize,
    /// How long an event stream goes on at the most.
    pub event_stream_time: Duration,
}

/// What can be changed while the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How HTTP connections behave.
    pub http: HttpConfig,
    /// Whose `X-Forwarded-...` headers are believed.
    pub proxies: TrustedProxies,
    /// Whether their connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Which pages may connect.
    pub origins: AllowedOrigins,
    /// How connections behave once they are WebSockets.
    pub ws: Arc<WsConfig>,
    /// Whether limits for each address are for loopback too.
    pub limit_loopback: bool,
}

/// What HTTP connections share.
pub struct Public {
    /// What can be changed.
    pub settings: Live<Settings>,
    /// How TCP connections are encrypted; `None`: they are not.
    pub tls: Option<Arc<ServerConfig>>,
    /// Checks the tokens of users; `None`: users need none.
    pub auth: Option<Arc<Auth>>,
    /// Who is kept out.
    pub bans: Arc<Bans>,
    /// Whether the page and the client module are served.
    pub page: bool,
    /// The secret that signs the tokens of `/auth/token`; `None`: it gives none.
    pub dev_tokens: Option<PathBuf>,
    /// What sessions share.
    pub context: Arc<Context>,
    /// Traces who comes in. `None`: nobody is traced.
    pub tracer: Option<Arc<Tracer>>,
    /// Whether the server is about to stop.
    pub shutdown: Shutdown,
    /// Where the server whose place this one has taken gets the requests that carry on its sessions: a Unix socket.
    pub predecessor: Option<PathBuf>,
    /// This node, where it is one of several.
    #[cfg(feature = "cluster")]
    pub node: Option<Arc<crate::cluster::Node>>,
    /// Asks connections without a request to make room.
    pub make_room: MakeRoom,
    /// Transcription and surveys, where they are set up.
    #[cfg(feature = "transcribe")]
    pub transcribe: Option<Arc<Transcribe>>,
}

/// A refused connection holds a place among few, so it has little time to send its request, and to take the answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Memory of a connection until its request is answered: hyper's read buffer.
const BUFFER_BYTES: usize = 8 * 1024;

/// A response of ours.
pub type Reply = Response<Content>;

/// Serves one connection until it ends, or has become a WebSocket or an event stream.
pub async fn serve(stream: Stream, peer: Peer, permit: Permit, public: Arc<Public>) {
    let header_timeout = match permit.refusal() {
        Some(_) => public
            .settings
            .get()
            .http
            .handshake_timeout
            .min(REFUSAL_TIMEOUT),
        None => public.settings.get().http.handshake_timeout,
    };
    let begun = Instant::now();
    let prepared = if public.begins_with_http(peer) {
        Ok(Ok((stream, peer)))
    } else {
        // Boxed, as its memory is not needed afterwards.
        let prepared = Box::pin(timeout(header_timeout, prepare(stream, peer, &public)));
        tokio::select! {
            prepared = prepared => prepared,
            () = public.make_room.asked(begun) => return,
        }
    };
    let (stream, user) = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(reason)) => {
            public.context.metrics.refused(reason);
            public.never_asked(begun, reason);
            return;
        }
        Err(_) => {
            public.context.metrics.limit_hit("handshake_timeout");
            public.never_asked(begun, "handshake_timeout");
            return;
        }
    };
    // The user of a connection that a proxy passes on counts as soon as they are known.
    let permit = match user {
        Peer::Ip(address) if user != peer => permit.enter_user(address),
        _ => Some(permit),
    };
    let Some(permit) = permit else { return };
    let until = begun + header_timeout;
    let connection = Connection::new(user, permit, public, begun, until);
    // Boxed, as this future is moved to its task, and most of it is what HTTP needs.
    Box::pin(speak(stream, connection, begun, until)).await;
}

/// Speaks HTTP until the connection ends, or a request has the socket. The first request must be there at `until`.
async fn speak(stream: Stream, connection: Connection, begun: Instant, until: Instant) {
    let public = &connection.public;
    let _memory = Share::new(public.context.memory.clone(), BUFFER_BYTES);
    let hold = Hold::default();
    let stream = HttpStream::new(stream, hold.clone());
    let service = service_fn(|request| answer(request, &connection, &hold));
    let mut http = http1::Builder::new()
        .max_buf_size(public.settings.get().http.max_header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut timer = std::pin::pin!(sleep_until(until.into()));
    let run = std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if connection.wants_socket() && hold.is_flushed() {
            return Poll::Ready(None);
        }
        #[cfg(feature = "transcribe")]
        if hold.has_taken_piece() {
            connection.is_read();
        }
        match connection.deadline() {
            Some(deadline) => {
                if timer.deadline() != deadline.into() {
                    timer.as_mut().reset(deadline.into());
                }
                timer.as_mut().poll(cx).map(|()| None)
            }
            None => Poll::Pending,
        }
    });
    let outcome = tokio::select! {
        biased;
        outcome = run => outcome,
        () = asked_to_go(public, &connection, begun) => return,
    };
    let metrics = &public.context.metrics;
    match outcome {
        Some(Ok(())) | None => {
            if let Some(asked) = connection.take_asked() {
                let parts = http.into_parts();
                let (stream, reply) = parts.io.into_inner().into_parts();
                give_socket(stream, &reply, parts.read_buf, asked, &connection);
            } else if outcome.is_none() && !connection.is_greeted() {
                metrics.limit_hit("handshake_timeout");
                public.never_asked(begun, "handshake_timeout");
            }
        }
        Some(Err(error)) => {
            if error.is_parse_too_large() {
                metrics.limit_hit("max_header_bytes");
            }
            tracing::debug!(%error, "an HTTP connection ended badly");
        }
    }
}

/// Gives the bare socket to a task of its own: the memory that HTTP needed is freed before the long wait. `reply`: what
/// the client has not been sent yet; `early`: what it sent behind its request.
fn give_socket(stream: Stream, reply: &[u8], early: Bytes, asked: Asked, connection: &Connection) {
    match asked {
        Asked::WebSocket(request) => {
            handshake::start(stream, reply, &early, connection, *request);
        }
        Asked::Stream(request) => events::start(stream, connection, request),
        #[cfg(feature = "transcribe")]
        Asked::Transcribe(handed) => {
            // It has left before it was answered.
            if !reply.is_empty() {
                let (reply, early) = (reply.to_vec(), early.to_vec());
                let held = connection.permit.clone();
                handed
                    .transcribe
                    .serve(stream, reply, early, handed.visit, held);
            }
        }
        Asked::Forward(forward) => {
            tokio::spawn(forward.run(stream, early, connection.permit.clone()));
        }
    }
}

impl Public {
    /// Whether nothing comes before HTTP on a connection of this peer: neither TLS nor a PROXY header.
    fn begins_with_http(&self, peer: Peer) -> bool {
        self.tls.is_none() && !self.sends_proxy_header(peer)
    }

    /// Whether this server has all sessions that its page asks for. A node of a cluster has not, and a server that
    /// transcribes may share its database with others.
    fn is_alone(&self) -> bool {
        #[cfg(feature = "cluster")]
        if self.node.is_some() {
            return false;
        }
        #[cfg(feature = "transcribe")]
        if self.transcribe.is_some() {
            return false;
        }
        true
    }

    fn sends_proxy_header(&self, peer: Peer) -> bool {
        let settings = self.settings.get();
        peer == Peer::Successor || settings.proxy_protocol && settings.proxies.trusts(peer)
    }
}

/// The stream over which HTTP is spoken, and who is at its other end, behind a proxy or not; else why the connection is
/// refused, as it is counted.
async fn prepare(
    mut stream: Stream,
    peer: Peer,
    public: &Public,
) -> Result<(Stream, Peer), &'static str> {
    let mut user = peer;
    let is_passed_on = peer == Peer::Successor;
    if public.sends_proxy_header(peer) {
        match proxy_header::read(&mut stream).await {
            Ok(Some(address)) => user = Peer::Ip(address),
            Ok(None) if is_passed_on => user = Peer::Unix,
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection of a proxy was dropped");
                return Err("proxy_header");
            }
        }
    }
    let (tls, socket) = match (&public.tls, stream) {
        (Some(tls), Stream::Tcp(socket)) => (tls.clone(), socket),
        (_, stream) => return Ok((stream, user)),
    };
    match TlsStream::accept(socket, tls, public.context.memory.clone()).await {
        Ok(stream) => Ok((Stream::Tls(stream), user)),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            Err("tls")
        }
    }
}

/// Waits until a connection without a request has to make room.
async fn asked_to_go(public: &Public, connection: &Connection, begun: Instant) {
    loop {
        public.make_room.asked(begun).await;
        if connection.deadline().is_some() {
            return;
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: &Connection,
    hold: &Hold,
) -> Result<Reply, Infallible> {
    connection.begin(&request);
    let cors = cors::headers(request.headers(), connection);
    let mut reply = route(request, connection).await;
    if connection.public.tracer.is_some() {
        connection.tell_refusal(&reply);
    }
    // A file says itself what its answer depends on, and who may read it.
    if !reply.headers().contains_key(header::VARY) {
        reply.headers_mut().extend(cors);
    }
    let upgrading = reply.status() == StatusCode::SWITCHING_PROTOCOLS;
    let last = connection.permit.refusal().is_some() || connection.public.shutdown.is_leaving();
    if last && !upgrading {
        // It holds a place among few, or the server is about to stop.
        let close = HeaderValue::from_static("close");
        reply.headers_mut().insert(header::CONNECTION, close);
    } else if reply.headers().contains_key(header::UPGRADE) && !upgrading {
        let value = HeaderValue::from_static("upgrade");
        reply.headers_mut().insert(header::CONNECTION, value);
    }
    hold.set(upgrading);
    #[cfg(feature = "transcribe")]
    reply.body_mut().tell(hold);
    let class = match reply.status().as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    let requests = &connection.public.context.metrics.http_requests;
    requests.with_label_values(&[class]).inc();
    connection.end();
    Ok(reply)
}

async fn route(request: Request<Incoming>, connection: &Connection) -> Reply {
    if !has_one_host(&request) {
        return HttpError::BadRequest.reply("a request needs exactly one valid Host header");
    }
    let public = &connection.public;
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    let uri = request.uri().clone();
    let path = uri.path();
    match path {
        // These answer beyond the limits: whether the server is well is not a question of them, and the page tells its
        // user of them.
        "/health" if is_get => return health(public),
        "/stats" if is_get => return json_reply(StatusCode::OK, &stats(public)),
        _ => {}
    }
    if public.page
        && let Some(file) = page::find(path)
    {
        let alone = public.is_alone();
        return page::answer(file, request.method(), request.headers(), alone);
    }
    let request = match forward::ask(request, connection).await {
        Ok(Some(refusal)) => return refusal,
        // The answer comes from another process.
        Ok(None) => std::future::pending().await,
        Err(request) => request,
    };
    if let Some(refusal) = connection.permit.refusal()
        && !connection.goes_on(&request)
    {
        return refused(refusal);
    }
    #[cfg(feature = "transcribe")]
    if let Some(transcribe) = &public.transcribe {
        if path == "/transcribe" && request.method() == Method::GET {
            return transcribed::upgrade_to(request, connection, transcribe);
        }
        #[cfg(feature = "mcp")]
        if path == "/mcp" {
            return Box::pin(transcribed::mcp(request, connection, transcribe)).await;
        }
        if path.starts_with("/api/") {
            return Box::pin(transcribed::answer(request, connection, transcribe)).await;
        }
    }
    match (request.method(), path) {
        (&Method::GET, "/ws") => connection.upgrade(request).await,
        (&Method::GET, "/events" | "/chat/events") => match events::ask(&request, connection).await
        {
            Some(refusal) => refusal,
            // The task that gets the socket writes the answer.
            None => std::future::pending().await,
        },
        (&Method::GET, "/poll" | "/chat/poll") => {
            // Boxed, as most connections never come here.
            Box::pin(poll::answer(&request, connection)).await
        }
        (&Method::POST, "/send" | "/chat/send") => {
            Box::pin(send::answer(request, connection)).await
        }
        (method, "/auth/token") => match (&public.dev_tokens, method) {
            (None, _) => nothing_at(path),
            (Some(secret), &Method::POST) => {
                Box::pin(dev_token::answer(request, connection, secret)).await
            }
            (Some(_), &Method::OPTIONS) => cors::preflight(),
            (Some(_), _) => HttpError::PostOnly.reply("use POST"),
        },
        (&Method::GET | &Method::HEAD, "/favicon.ico") => no_icon(),
        (
            &Method::OPTIONS,
            "/ws" | "/health" | "/stats" | "/events" | "/poll" | "/send" | "/chat/events"
            | "/chat/poll" | "/chat/send",
        ) => cors::preflight(),
        (_, "/send" | "/chat/send") => HttpError::PostOnly.reply("use POST"),
        (
            _,
            "/ws" | "/health" | "/stats" | "/favicon.ico" | "/events" | "/poll" | "/chat/events"
            | "/chat/poll",
        ) => HttpError::MethodNotAllowed.reply("use GET"),
        _ => nothing_at(path),
    }
}

fn nothing_at(path: &str) -> Reply {
    HttpError::NotFound.reply(&format!(
        "there is nothing at {path:.80}; try /ws, /events, /poll, /send, /health or /stats"
    ))
}

/// RFC 9112 section 3.2. HTTP/1.0 has no such header.
fn has_one_host(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_valid =
        |host: &HeaderValue| host.is_empty() || Authority::try_from(host.as_bytes()).is_ok();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_valid(host),
        (None, _) => request.version() == Version::HTTP_10,
        (Some(_), Some(_)) => false,
    }
}

/// Browsers ask for an icon at each visit; an error would stand in their console.
fn no_icon() -> Reply {
    let mut reply = Response::new(Content::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    let value = HeaderValue::from_static("max-age=86400");
    reply.headers_mut().insert(header::CACHE_CONTROL, value);
    reply
}

fn health(public: &Public) -> Reply {
    let draining = public.context.draining.load(Ordering::Relaxed);
    let (status, word) = if draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ok")
    };
    let metrics = &public.context.metrics;
    json_reply(
        status,
        &json!({
            "status": word,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": metrics.started.elapsed().as_secs(),
        }),
    )
}

fn stats(public: &Public) -> serde_json::Value {
    let metrics = &public.context.metrics;
    let errors: serde_json::Map<_, _> = metrics
        .errors_by_code()
        .map(|(code, count)| (code.to_owned(), count.into()))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": metrics.started.elapsed().as_secs_f64(),
        "connections": metrics.sessions_open.get(),
        "waiting": metrics.waiting_users(),
        "rooms": metrics.rooms_active.get(),
        "matches": metrics.matches_total(),
        "messages_relayed": metrics.relayed_total(),
        "errors": errors,
        "match_wait_ms": percentiles(metrics.match_percentiles()),
        "relay_ms": percentiles(metrics.relay_percentiles()),
    })
}

/// Percentiles in milliseconds, rounded to microseconds.
fn percentiles(found: Percentiles) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    object.insert("count".into(), found.count.into());
    for (quantile, seconds) in QUANTILES.iter().zip(found.quantiles) {
        object.insert(
            format!("p{}", quantile * 100.0),
            ((seconds * 1e6).round() / 1e3).into(),
        );
    }
    object.into()
}

fn refused(refusal: Refusal) -> Reply {
    let error = match refusal {
        Refusal::Full | Refusal::NoDescriptors => HttpError::ServerFull,
        Refusal::AddressFull => HttpError::TooManyConnections,
    };
    error.reply(refusal.message())
}

/// A reply with a JSON body.
pub fn json_reply(status: StatusCode, body: &serde_json::Value) -> Reply {
    reply(status, "application/json", format!("{body}\n"))
}

/// A reply with a body of the given content type.
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Content>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
