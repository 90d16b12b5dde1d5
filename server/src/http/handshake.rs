//! `/ws`: checks a WebSocket handshake and hands the connection over.

use std::{os::fd::OwnedFd, sync::Arc, time::Instant};

use fastwebsockets::upgrade::{is_upgrade_request, upgrade};
use hyper::{
    HeaderMap, Request, Version,
    body::Incoming,
    header::{self, HeaderValue},
};

use super::{
    Reply,
    connection::{Asked, Connection, SocketRequest},
    content::Content,
    error::HttpError,
    wanted::Wanted,
};
use crate::{
    admission::limits::{Permit, counted_address},
    io::{Stream, TlsReadHalf},
    transport::{
        attachment::Attachment,
        keeper,
        ws::{
            self, PlainLink, TlsLink, WsConfig,
            sockets::{Carried, Place},
        },
    },
};
use voicematch_core::{
    metrics::Transport,
    outbox::{Attach, Link},
    session::{Arrival, CannotResume, Resumable, Session},
};

/// The subprotocol that is this wire; programs that offer none speak it too.
const SUBPROTOCOL: &str = "voicematch.1";

/// Offers that carry a token. They are never answered: the answer would show the token.
const TOKEN_PREFIXES: [&str; 2] = ["token.", "resume."];

impl Connection {
    /// Answers a handshake (RFC 6455 section 4.2.1).
    pub(super) async fn upgrade(&self, mut request: Request<Incoming>) -> Reply {
        let mut wanted = match Wanted::read(&request) {
            Ok(wanted) => wanted,
            Err(message) => return HttpError::BadRequest.reply(message),
        };
        if let Some(refusal) = handshake_refusal(&request) {
            return refusal;
        }
        let identity = match self.admit(&request, &wanted).await {
            Ok(identity) => identity,
            Err(refusal) => return *refusal,
        };
        if let Some(refusal) = self.bring_session(request.headers(), &mut wanted).await {
            return refusal;
        }
        let protocol = subprotocol(request.headers());
        let response = match upgrade(&mut request) {
            Ok((response, _)) => response,
            Err(error) => return HttpError::BadRequest.reply(&error.to_string()),
        };
        self.ask_for_socket(Asked::WebSocket(Box::new(SocketRequest {
            wanted,
            user: self.user_address(request.headers()),
            identity,
            connect: self.take_connect(),
        })));
        let mut reply = response.map(|_| Content::default());
        if let Some(protocol) = protocol {
            reply
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        reply
    }
}

/// Why this request cannot become a WebSocket.
pub(super) fn handshake_refusal(request: &Request<Incoming>) -> Option<Reply> {
    if request.version() != Version::HTTP_11 {
        return Some(HttpError::HttpVersion.reply("a WebSocket handshake needs HTTP/1.1"));
    }
    if !is_upgrade_request(request) {
        let message = "this is a WebSocket endpoint; connect with ws:// or wss://";
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
    None
}

/// The subprotocol to answer: our own if it is offered, else the first that carries no token. Browsers close
/// a connection if they have offered some and none is answered.
pub(super) fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
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

/// Opens the session, or finds it, and serves the connection. `reply`: what the client has not been sent yet; `early`:
/// what it sent behind its request.
pub(super) fn start(
    stream: Stream,
    reply: &[u8],
    early: &[u8],
    connection: &Connection,
    request: SocketRequest,
) {
    if reply.is_empty() {
        // It has left before it was answered.
        return;
    }
    let taken = match stream {
        Stream::Tcp(stream) => stream.into_std().map(OwnedFd::from),
        Stream::Unix(stream) => stream.into_std().map(OwnedFd::from),
        Stream::Tls(stream) => {
            let (source, half) = stream.into_split();
            let link = Box::new(TlsLink::new(half));
            start_on(Reads::Tls(source), link, reply, early, connection, request);
            return;
        }
    };
    match taken.and_then(|socket| Ok((Place::new(&socket)?, socket))) {
        Ok((place, socket)) => {
            let link = Box::new(PlainLink::new(socket));
            start_on(Reads::Plain(place), link, reply, early, connection, request);
        }
        Err(error) => {
            tracing::warn!(%error, "the system cannot watch a socket more; its connection was closed");
        }
    }
}

/// What a connection reads from.
enum Reads {
    /// A plain socket, which the link has.
    Plain(Place),
    Tls(TlsReadHalf),
}

impl Reads {
    /// Serves the connection until it ends.
    fn serve(self, early: &[u8], carried: Carried, config: Arc<WsConfig>, held: Arc<Permit>) {
        let early = early.to_vec();
        match (self, carried) {
            (Self::Plain(place), carried) => place.serve(early, carried, config, held),
            (Self::Tls(source), Carried::Plain(session)) => {
                tokio::spawn(ws::serve(source, early, session, config, held));
            }
            (Self::Tls(source), Carried::Resumable(attachment)) => {
                tokio::spawn(ws::serve_resumable(source, early, attachment, config, held));
            }
            (Self::Tls(source), Carried::Refused(link, until)) => {
                tokio::spawn(ws::linger(source, link, until, held));
            }
        }
    }
}

fn start_on(
    source: Reads,
    link: Box<dyn Link>,
    reply: &[u8],
    early: &[u8],
    connection: &Connection,
    request: SocketRequest,
) {
    let SocketRequest {
        wanted,
        user,
        identity,
        connect,
    } = request;
    let (public, permit) = (&connection.public, Arc::clone(&connection.permit));
    let connect = connect.as_deref();
    let now = Instant::now();
    let context = &public.context;
    let transport = Transport::WebSocket;
    if matches!(wanted, Wanted::Plain) {
        let arrival = Arrival {
            identity,
            held: None,
            address: user.into(),
        };
        let session = Session::open(context.clone(), link, reply, arrival, now);
        public.bans.enforce(session.member(), user, now);
        public.connected(connect, session.member(), true);
        let config = public.settings.get().ws.clone();
        source.serve(early, Carried::Plain(session), config, permit);
        return;
    }
    let mut attach = Some(Attach {
        link,
        preface: reply,
    });
    let attached = match &wanted {
        Wanted::Plain | Wanted::Begin => Ok(Resumable::open(
            context,
            transport,
            attach.take(),
            Arrival {
                identity,
                held: permit.take_address().map(|count| Box::new(count) as _),
                address: user.into(),
            },
            now,
        )),
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
            drop(permit.take_address());
            public.bans.enforce(&attached.session.member, user, now);
            let began = !matches!(wanted, Wanted::Resume { .. });
            public.connected(connect, &attached.session.member, began);
            let attachment = Attachment::new(attached);
            let config = public.settings.get().ws.clone();
            source.serve(early, Carried::Resumable(attachment), config, permit);
        }
        (Err(refused), Some(Attach { mut link, .. })) => {
            if refused == (CannotResume::Refused { forged: true }) {
                let counted = counted_address(user, public.settings.get().limit_loopback);
                permit.guard().charge(counted, now);
            }
            let reason = refused.reason();
            public.not_connected(connect, reason.as_str());
            ws::refuse(reply, &mut *link, reason);
            let carried = Carried::Refused(link, now + ws::LINGER);
            source.serve(&[], carried, public.settings.get().ws.clone(), permit);
        }
        (Err(_), None) => {}
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
