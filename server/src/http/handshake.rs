//! `/ws`: checks a WebSocket handshake and hands the connection over.

use std::sync::Arc;

use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Version,
    body::Incoming,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;

use super::{Public, Reply, error::HttpError, refused, stream::HttpStream};
use crate::{
    admission::limits::Permit,
    io::{Peer, SocketLink, Stream},
    transport::ws,
};

/// The subprotocol that is this wire; programs that offer none speak it too.
const SUBPROTOCOL: &str = "voicematch.1";

/// Offers that carry a token. They are never answered: the answer would show the token.
const TOKEN_PREFIXES: [&str; 2] = ["token.", "resume."];

/// A connection before it is a WebSocket.
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) permit: Arc<Permit>,
    pub(super) public: Arc<Public>,
}

impl Connection {
    /// Answers a handshake (RFC 6455 section 4.2.1).
    pub(super) fn upgrade(&self, mut request: Request<Incoming>) -> Reply {
        if let Some(refusal) = self.refusal(&request) {
            return refusal;
        }
        let protocol = subprotocol(request.headers());
        let (response, upgraded) = match upgrade(&mut request) {
            Ok(upgrade) => upgrade,
            Err(error) => return HttpError::BadRequest.reply(&error.to_string()),
        };
        tokio::spawn(hand_over(
            upgraded,
            self.permit.clone(),
            self.public.clone(),
        ));
        let mut reply = response.map(|_| Full::default());
        if let Some(protocol) = protocol {
            reply
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        reply
    }

    /// Why this request cannot become a WebSocket.
    fn refusal(&self, request: &Request<Incoming>) -> Option<Reply> {
        if request.version() != Version::HTTP_11 {
            return Some(HttpError::HttpVersion.reply("a WebSocket handshake needs HTTP/1.1"));
        }
        if !is_upgrade_request(request) {
            let message = "this is a WebSocket endpoint; connect with ws://";
            return Some(HttpError::UpgradeRequired.reply(message));
        }
        let headers = request.headers();
        let version = headers.get(header::SEC_WEBSOCKET_VERSION);
        if version.is_none_or(|version| version != "13") {
            let mut reply = HttpError::UpgradeRequired.reply("Sec-WebSocket-Version must be 13");
            let version = HeaderValue::from_static("13");
            reply
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_VERSION, version);
            return Some(reply);
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        if !key.is_some_and(is_handshake_key) {
            let message = "Sec-WebSocket-Key must be 16 bytes in base64";
            return Some(HttpError::BadRequest.reply(message));
        }
        let behind_proxy = self.public.proxies.trusts(self.peer);
        if !self.public.origins.allow(headers, behind_proxy) {
            return Some(self.refuse_origin(headers));
        }
        if self.public.context.memory.is_exceeded() {
            let message = "the server has no memory left for you; try again later";
            return Some(HttpError::ServerFull.reply(message));
        }
        if self.public.shutdown.has_begun() {
            let message = "this server is about to stop; connect again to reach another";
            return Some(HttpError::Draining.reply(message));
        }
        if behind_proxy {
            let user = self.public.proxies.user(self.peer, headers);
            return self.permit.count_user(user).err().map(refused);
        }
        None
    }

    fn refuse_origin(&self, headers: &HeaderMap) -> Reply {
        let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
        let origin = String::from_utf8_lossy(origin.unwrap_or_default());
        tracing::debug!(%origin, "a page was refused; --allowed-origin lets it in");
        self.public.context.metrics.refused("origin");
        HttpError::OriginNotAllowed.reply(&format!(
            "pages of {origin:.100} may not connect; start the server with --allowed-origin to let them in"
        ))
    }
}

/// The subprotocol to answer: our own if it is offered, else the first that carries no token. Browsers close
/// a connection if they have offered some and none is answered.
fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let offers = lines.flat_map(|line| line.split(',')).map(str::trim);
    let mut offers = offers.filter(|offer| {
        !offer.is_empty()
            && !TOKEN_PREFIXES
                .iter()
                .any(|prefix| offer.starts_with(prefix))
    });
    let first = offers.next()?;
    let ours = first == SUBPROTOCOL || offers.any(|offer| offer == SUBPROTOCOL);
    let answer = if ours { SUBPROTOCOL } else { first };
    HeaderValue::from_str(answer).ok()
}

/// Waits until the reply is sent, and gives the bare stream to a task of its own: the memory that HTTP needed for the
/// handshake is freed before the long wait.
async fn hand_over(upgraded: UpgradeFut, permit: Arc<Permit>, public: Arc<Public>) {
    let Ok(socket) = upgraded.await else { return };
    let upgraded = socket.into_inner().into_inner();
    let Ok(parts) = upgraded.downcast::<TokioIo<HttpStream>>() else {
        tracing::error!("an upgraded connection is not the stream that was accepted");
        return;
    };
    let (stream, reply) = parts.io.into_inner().into_parts();
    let handshake = ws::Handshake {
        reply,
        early: parts.read_buf.to_vec(),
    };
    let (context, config) = (public.context.clone(), public.ws);
    match stream {
        Stream::Tcp(stream) => {
            let (socket, link) = stream.into_split();
            let link = Box::new(SocketLink::new(link));
            tokio::spawn(ws::serve(socket, link, handshake, context, config, permit));
        }
        Stream::Unix(stream) => {
            let (socket, link) = stream.into_split();
            let link = Box::new(SocketLink::new(link));
            tokio::spawn(ws::serve(socket, link, handshake, context, config, permit));
        }
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
