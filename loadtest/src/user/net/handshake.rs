//! The WebSocket handshake of a client (RFC 6455, section 4.1).

use std::pin::pin;

use http_body_util::Empty;
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri, Version,
    body::Bytes,
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
    http::uri::PathAndQuery,
};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::{
    measure::sample::ErrorKind,
    user::net::{http, stream::Stream},
};

/// Asks for a WebSocket at `path`, with these headers. The second part of the result is what the server sent
/// after its answer.
///
/// # Errors
/// What failed. The caller limits the time.
pub async fn handshake(
    stream: Stream,
    path: &str,
    mut headers: HeaderMap,
) -> Result<(Stream, Bytes), ErrorKind> {
    let key = generate_key();
    for (name, value) in [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_VERSION, "13"),
        (header::SEC_WEBSOCKET_KEY, &key),
    ] {
        let value = HeaderValue::from_str(value).map_err(|_bad| ErrorKind::HandshakeInvalid)?;
        headers.insert(name, value);
    }
    let asked = headers.clone();
    let path = PathAndQuery::try_from(path).map_err(|_bad| ErrorKind::HandshakeInvalid)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;

    let failed = |error| http::kind_of(&error, ErrorKind::HandshakeInvalid);
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut connection = pin!(connection.without_shutdown());
    let mut answer = pin!(sender.send_request(request));
    let (answer, parts) = tokio::select! {
        biased;
        answer = &mut answer => (answer, None),
        parts = &mut connection => (answer.await, Some(parts)),
    };
    check(&answer.map_err(failed)?, &asked, &key)?;
    let parts = match parts {
        Some(parts) => parts,
        None => connection.await,
    };
    let parts = parts.map_err(failed)?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

fn check<B>(answer: &Response<B>, asked: &HeaderMap, key: &str) -> Result<(), ErrorKind> {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ErrorKind::HandshakeRejected(answer.status().as_u16()));
    }
    let headers = answer.headers();
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
    let extended = |headers: &HeaderMap| headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
    let valid = answer.version() == Version::HTTP_11
        && has_token(headers, header::UPGRADE, "websocket")
        && has_token(headers, header::CONNECTION, "upgrade")
        && accept.is_some_and(|accept| *accept == derive_accept_key(key.as_bytes()))
        && (extended(asked) || !extended(headers));
    if !valid {
        return Err(ErrorKind::HandshakeInvalid);
    }
    let offered = |chosen| tokens(asked, header::SEC_WEBSOCKET_PROTOCOL).any(|it| it == chosen);
    let agreed = match tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).next() {
        Some(chosen) => offered(chosen),
        None => !asked.contains_key(header::SEC_WEBSOCKET_PROTOCOL),
    };
    agreed.then_some(()).ok_or(ErrorKind::SubprotocolMismatch)
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|it| it.eq_ignore_ascii_case(token))
}

/// The elements of a list, which may span several lines (RFC 9110, section 5.3).
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}
