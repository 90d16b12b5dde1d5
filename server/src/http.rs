//! The public listener's HTTP: `/ws` (handshake checks and upgrade), `/health`, `/stats`.

mod stream;

use std::{convert::Infallible, sync::Arc, sync::atomic::Ordering, time::Duration};

use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpStream;

use stream::{Hold, HttpStream};

use crate::{
    admission::limits::{Permit, Refusal},
    metrics::{Percentiles, QUANTILES},
    session::Context,
    shutdown::Shutdown,
    transport::ws::{self, WsConfig},
};

/// How HTTP connections behave.
#[derive(Debug, Clone, Copy)]
pub struct HttpConfig {
    /// Time for a request's header, and between two requests.
    pub handshake_timeout: Duration,
    /// The longest header, in bytes.
    pub max_header_bytes: usize,
}

/// What HTTP connections share.
pub struct Public {
    /// How they behave.
    pub config: HttpConfig,
    /// How they behave once they are WebSockets.
    pub ws: WsConfig,
    /// What sessions share.
    pub context: Arc<Context>,
    /// Whether the server is about to stop.
    pub shutdown: Shutdown,
}

/// A response of ours: small, and whole.
pub type Reply = Response<Full<Bytes>>;

/// Serves one connection until it ends or has become a WebSocket.
pub async fn serve(stream: TcpStream, permit: Permit, public: Arc<Public>) {
    let permit = Arc::new(permit);
    let hold = Hold::default();
    let stream = HttpStream::new(stream, hold.clone());
    let service = service_fn(|request| {
        let mut reply = answer(request, &permit, &public);
        let upgrading = reply.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !upgrading {
            // One request a connection: pipelined ones would be answered before anybody else is heard.
            let offers_upgrade = reply.headers().contains_key(header::UPGRADE);
            let value = if offers_upgrade {
                "upgrade, close"
            } else {
                "close"
            };
            reply
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static(value));
        }
        hold.store(upgrading, Ordering::Relaxed);
        let class = reply.status().as_str().chars().next().unwrap_or('0');
        public
            .context
            .metrics
            .http_requests
            .with_label_values(&[format!("{class}xx")])
            .inc();
        std::future::ready(Ok::<_, Infallible>(reply))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(public.config.handshake_timeout)
        .max_buf_size(public.config.max_header_bytes)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = public.shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        let metrics = &public.context.metrics;
        if error.is_timeout() {
            metrics.limit_hit("handshake_timeout");
        } else if error.is_parse_too_large() {
            metrics.limit_hit("max_header_bytes");
        }
        tracing::debug!(%error, "an HTTP connection ended badly");
    }
}

fn answer(mut request: Request<Incoming>, permit: &Arc<Permit>, public: &Arc<Public>) -> Reply {
    if let Some(refusal) = permit.refusal() {
        return refused(refusal);
    }
    match (request.method(), request.uri().path()) {
        (_, "/ws") => handshake(&mut request, permit, public),
        (&Method::GET | &Method::HEAD, "/health") => health(public),
        (&Method::GET | &Method::HEAD, "/stats") => json_reply(StatusCode::OK, &stats(public)),
        (_, "/health" | "/stats") => method_not_allowed(),
        (_, path) => {
            let message = format!("there is nothing at {path:.80}; try /ws, /health or /stats");
            json_reply(StatusCode::NOT_FOUND, &json!({ "error": message }))
        }
    }
}

/// Checks a WebSocket handshake (RFC 6455 section 4.2.1) and hands the connection over.
fn handshake(request: &mut Request<Incoming>, permit: &Arc<Permit>, public: &Arc<Public>) -> Reply {
    let bad = |status, message: &str| json_reply(status, &json!({ "error": message }));
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    if request.version() != Version::HTTP_11 {
        return bad(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "a WebSocket handshake needs HTTP/1.1",
        );
    }
    if !is_upgrade_request(request) {
        let mut reply = bad(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket endpoint; connect with ws://",
        );
        reply
            .headers_mut()
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return reply;
    }
    let headers = request.headers();
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .map(HeaderValue::as_bytes)
        != Some(b"13")
    {
        let mut reply = bad(
            StatusCode::UPGRADE_REQUIRED,
            "Sec-WebSocket-Version must be 13",
        );
        reply.headers_mut().insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        return reply;
    }
    if !headers
        .get(header::SEC_WEBSOCKET_KEY)
        .is_some_and(is_handshake_key)
    {
        return bad(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key must be 16 bytes in base64",
        );
    }
    if public.shutdown.has_begun() {
        return bad(
            StatusCode::SERVICE_UNAVAILABLE,
            "this server is about to stop; connect again to reach another",
        );
    }
    let (response, upgraded) = match upgrade(request) {
        Ok(upgrade) => upgrade,
        Err(error) => return bad(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    tokio::spawn(hand_over(upgraded, permit.clone(), public.clone()));
    response.map(|_| Full::default())
}

/// Waits until the reply is sent, and gives the bare TCP stream to a task of its own: what HTTP needed for
/// the handshake is freed before the long wait.
async fn hand_over(upgraded: UpgradeFut, permit: Arc<Permit>, public: Arc<Public>) {
    let Ok(socket) = upgraded.await else { return };
    let upgraded = socket.into_inner().into_inner();
    match upgraded.downcast::<TokioIo<HttpStream>>() {
        Ok(parts) => {
            let (stream, reply) = parts.io.into_inner().into_parts();
            tokio::spawn(ws::serve(
                stream,
                ws::Handshake {
                    reply,
                    early: parts.read_buf.to_vec(),
                },
                public.context.clone(),
                public.ws,
                permit,
            ));
        }
        Err(_) => tracing::error!("an upgraded connection was not the TCP stream that it began as"),
    }
}

/// 16 bytes in base64 are 22 digits and two signs of padding.
fn is_handshake_key(key: &HeaderValue) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.as_bytes() {
        [digits @ .., b'=', b'='] => digits.len() == 22 && digits.iter().all(is_digit),
        _ => false,
    }
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
    let status = match refusal {
        Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::AddressFull => StatusCode::TOO_MANY_REQUESTS,
    };
    let mut reply = json_reply(status, &json!({ "error": refusal.message() }));
    reply
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    reply
}

fn method_not_allowed() -> Reply {
    let mut reply = json_reply(
        StatusCode::METHOD_NOT_ALLOWED,
        &json!({ "error": "use GET" }),
    );
    reply
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    reply
}

/// A reply with a JSON body.
pub fn json_reply(status: StatusCode, body: &serde_json::Value) -> Reply {
    reply(status, "application/json", format!("{body}\n"))
}

/// A reply with a body of the given content type.
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
