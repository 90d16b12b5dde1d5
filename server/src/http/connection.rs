//! One connection of the public listener: who it is from, what it may do, and what it is doing.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use hyper::{
    HeaderMap, Request,
    header::{self, HeaderValue},
};

use super::{
    Public, REFUSAL_TIMEOUT, Reply,
    error::HttpError,
    forward::Forward,
    refused,
    wanted::{Wanted, jwt},
};
use crate::{
    admission::{
        auth::{NotAdmitted, Shown},
        limits::{Permit, counted_address},
    },
    io::Peer,
    trace::Connect,
};
use voicematch_core::{
    identity::Identity,
    session::{Arrival, CannotResume, HeldAddress},
};

/// How long a connection may stay between two requests: longer than a proxy keeps one (nginx: 60 s), so that it is the
/// proxy that closes, and never while a request is on its way.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A connection that speaks HTTP.
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) permit: Arc<Permit>,
    pub(super) public: Arc<Public>,
    /// When it was accepted.
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    /// When the next request must be there; `None`: one is being answered.
    until: Option<Instant>,
    /// Whether a request has come.
    greeted: bool,
    /// The request that is to have the socket.
    asked: Option<Asked>,
    /// What the tracer has to hear of the request that is being answered.
    connect: Option<Box<Connect>>,
}

/// A request that is to have the socket.
pub(super) enum Asked {
    /// When HTTP has written its answer.
    WebSocket(Box<SocketRequest>),
    /// At once, as HTTP does not write its answer.
    Stream(StreamRequest),
    /// At once, too.
    Forward(Forward),
    /// When HTTP has written its answer.
    #[cfg(feature = "transcribe")]
    Transcribe(Box<super::transcribed::Handed>),
}

/// A request that becomes a WebSocket.
pub(super) struct SocketRequest {
    pub(super) wanted: Wanted,
    /// Where the user is.
    pub(super) user: IpAddr,
    /// Who begins a session.
    pub(super) identity: Option<Box<Identity>>,
    /// What the tracer has to hear.
    pub(super) connect: Option<Box<Connect>>,
}

/// A request whose answer is a stream.
pub(super) struct StreamRequest {
    pub(super) wanted: Wanted,
    /// Where the user is.
    pub(super) user: IpAddr,
    /// Who begins a session.
    pub(super) identity: Option<Box<Identity>>,
    /// The named room that the user joins.
    pub(super) join: Option<String>,
    /// The header lines of its answer that are not the same for all.
    pub(super) headers: HeaderMap,
}

impl Connection {
    /// Accepted when it had `begun`; its first request must be there at `until`.
    pub(super) fn new(
        peer: Peer,
        permit: Permit,
        public: Arc<Public>,
        begun: Instant,
        until: Instant,
    ) -> Self {
        let state = State {
            until: Some(until),
            greeted: false,
            asked: None,
            connect: None,
        };
        Self {
            peer,
            permit: Arc::new(permit),
            public,
            begun,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come whole, but for its body.
    pub(super) fn begin<B>(&self, request: &Request<B>) {
        let mut state = self.state();
        state.until = None;
        let is_first = !std::mem::replace(&mut state.greeted, true);
        if self.public.tracer.is_some() {
            let begun = if is_first { self.begun } else { Instant::now() };
            state.connect = self.arrived(request, begun);
        }
    }

    /// It was answered. A refused connection is closed when the answer is written.
    pub(super) fn end(&self) {
        let time = match self.permit.refusal() {
            Some(_) => REFUSAL_TIMEOUT,
            None => KEEP_ALIVE,
        };
        self.state().until = Some(Instant::now() + time);
    }

    /// The client takes its answer, which may be long.
    #[cfg(feature = "transcribe")]
    pub(super) fn is_read(&self) {
        if let Some(until) = &mut self.state().until {
            *until = Instant::now() + KEEP_ALIVE;
        }
    }

    /// What the tracer has to hear of the request; `None`: nothing, or it has.
    pub(super) fn take_connect(&self) -> Option<Box<Connect>> {
        self.public
            .tracer
            .as_ref()
            .and_then(|_| self.state().connect.take())
    }

    /// When the next request must be there; `None`: one is being answered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state().until
    }

    /// Whether a request has come.
    pub(super) fn is_greeted(&self) -> bool {
        self.state().greeted
    }

    /// Asks for the socket.
    pub(super) fn ask_for_socket(&self, asked: Asked) {
        self.state().asked = Some(asked);
    }

    /// Whether a request is to have the socket at once.
    pub(super) fn wants_socket(&self) -> bool {
        let asked = &self.state().asked;
        matches!(asked, Some(Asked::Stream(_) | Asked::Forward(_)))
    }

    pub(super) fn take_asked(&self) -> Option<Asked> {
        self.state().asked.take()
    }

    /// Who begins a session, as far as their token says; the answer if the request may neither begin nor carry on one.
    pub(super) async fn admit<B: Sync>(
        &self,
        request: &Request<B>,
        wanted: &Wanted,
    ) -> Result<Option<Box<Identity>>, Box<Reply>> {
        if let Some(refusal) = self.refusal(request, wanted) {
            return Err(Box::new(refusal));
        }
        if matches!(wanted, Wanted::Resume { .. }) {
            return Ok(None);
        }
        let identity = self.identify(request).await?;
        // Each session has a count: that of the connection may be another session's by now.
        let user = self.user_address(request.headers());
        match self.permit.count_user(user) {
            Ok(()) => {
                if self.public.tracer.is_some()
                    && let Some(connect) = &mut self.state().connect
                {
                    connect.admit();
                }
                Ok(identity)
            }
            Err(refusal) => Err(Box::new(refused(refusal))),
        }
    }

    /// The user whom the app lets in, where it is asked, and whom no operator keeps out.
    pub(super) async fn identify<B: Sync>(
        &self,
        request: &Request<B>,
    ) -> Result<Option<Box<Identity>>, Box<Reply>> {
        let Some(auth) = &self.public.auth else {
            return Ok(None);
        };
        let headers = request.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let lines = headers.get_all(header::COOKIE).iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        let cookie = (!lines.is_empty()).then(|| lines.join("; "));
        let shown = Shown {
            token: jwt(request),
            cookie: cookie.as_deref(),
            origin: text(header::ORIGIN),
            address: Some(self.user_address(headers)),
        };
        let why = match auth.admit(shown).await {
            Ok(identity) => {
                return match self.public.bans.of_user(&identity.user, Instant::now()) {
                    Some(until) => Err(Box::new(self.banned(until))),
                    None => Ok(Some(Box::new(identity))),
                };
            }
            Err(why) => why,
        };
        let (label, error) = match why {
            NotAdmitted::Missing => ("token_missing", HttpError::TokenMissing),
            NotAdmitted::Expired => ("token_expired", HttpError::TokenExpired),
            NotAdmitted::Invalid(_) | NotAdmitted::NewKey | NotAdmitted::Refused => {
                ("token_invalid", HttpError::TokenInvalid)
            }
            NotAdmitted::Unavailable => ("auth_unavailable", HttpError::AuthUnavailable),
        };
        self.public.context.metrics.refused(label);
        Err(Box::new(error.reply(&why.message())))
    }

    /// The answer if nobody may begin or carry on a session with this request.
    pub(super) fn refusal<B>(&self, request: &Request<B>, wanted: &Wanted) -> Option<Reply> {
        let headers = request.headers();
        let behind_proxy = self.public.settings.get().proxies.trusts(self.peer);
        if !self
            .public
            .settings
            .get()
            .origins
            .allow(headers, behind_proxy)
        {
            return Some(self.refuse_origin(headers));
        }
        if let Some(refusal) = self.ban(headers) {
            return Some(refusal);
        }
        // Who was there before may come back, also in a drain.
        if matches!(wanted, Wanted::Resume { .. }) {
            let wait = self
                .permit
                .guard()
                .wait(self.user(headers), Instant::now())?;
            self.public
                .context
                .metrics
                .limit_hit("reconnects_per_minute");
            self.public.context.metrics.reconnect("limited");
            return Some(HttpError::TooManyReconnects.reply_after(
                wait,
                "too many tokens from your address that open no session; try again later",
            ));
        }
        let metrics = &self.public.context.metrics;
        if self.public.context.memory.is_exceeded() {
            metrics.refused("max_buffered_bytes");
            let message = "the server has no memory left for you; try again later";
            return Some(HttpError::ServerFull.reply(message));
        }
        if self.public.shutdown.has_begun() {
            metrics.refused("draining");
            let message = "this server is about to stop; connect again to reach another";
            return Some(HttpError::Draining.reply(message));
        }
        None
    }

    /// Whether a request over a connection too many of its address carries on a session that is there: its user has
    /// come in before, and is let in.
    pub(super) fn goes_on<B>(&self, request: &Request<B>) -> bool {
        let Ok(Wanted::Resume {
            token: Some(token), ..
        }) = Wanted::read(request)
        else {
            return false;
        };
        let (headers, context) = (request.headers(), &self.public.context);
        let wait = self.permit.guard().wait(self.user(headers), Instant::now());
        if wait.is_some() {
            return false;
        }
        match context.resumables.find(&token) {
            Ok(_) => self.permit.admit(self.user_address(headers)),
            Err(why) => {
                self.failed(headers, &why);
                false
            }
        }
    }

    /// The address under which the user is counted; `None`: it is exempt.
    pub(super) fn user(&self, headers: &HeaderMap) -> Option<IpAddr> {
        counted_address(
            self.user_address(headers),
            self.public.settings.get().limit_loopback,
        )
    }

    /// The refusal of who is banned by address.
    pub(super) fn ban(&self, headers: &HeaderMap) -> Option<Reply> {
        let bans = &self.public.bans;
        if bans.is_empty() {
            return None;
        }
        let until = bans.of_address(self.user_address(headers), Instant::now())?;
        Some(self.banned(until))
    }

    fn banned(&self, until: Instant) -> Reply {
        self.public.context.metrics.refused("banned");
        let left = until.saturating_duration_since(Instant::now());
        let until = humantime::format_rfc3339_seconds(SystemTime::now() + left);
        HttpError::Banned.reply(&format!(
            "an operator keeps you out until {until}; ask the support of the app"
        ))
    }

    pub(super) fn user_address(&self, headers: &HeaderMap) -> IpAddr {
        match self.public.settings.get().proxies.trusts(self.peer) {
            true => self.public.settings.get().proxies.user(self.peer, headers),
            false => self.peer.address(),
        }
    }

    /// Counts an attempt to carry a session on that failed.
    pub(super) fn failed(&self, headers: &HeaderMap, why: &CannotResume) {
        if matches!(why, CannotResume::Refused { forged: true }) {
            self.permit
                .guard()
                .charge(self.user(headers), Instant::now());
        }
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

    /// The connection carries requests of a session that counts already; the answer if there are too many of the kind.
    pub(super) fn carry(&self, headers: &HeaderMap) -> Option<Reply> {
        let user = self.user_address(headers);
        self.permit.carry(user).err().map(refused)
    }

    /// Who begins a session at this address, with the count of it for the session to hold.
    pub(super) fn arrival(&self, identity: Option<Box<Identity>>, user: IpAddr) -> Arrival {
        let held = self.permit.take_address();
        let held = held.map(|count| Box::new(count) as Box<dyn HeldAddress>);
        Arrival {
            identity,
            held,
            address: user.into(),
        }
    }
}
