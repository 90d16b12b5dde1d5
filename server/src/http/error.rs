//! Refusals over HTTP: a status, and a JSON body with `code` for programs and `error` for people.

use std::time::Duration;

use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};
use serde_json::json;

use super::{Reply, json_reply};

/// Why a request was refused. `server/README.md` lists the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpError {
    /// A header or a parameter is missing or wrong.
    BadRequest,
    /// A request needs a token, or the token that it shows opens no session.
    ResumeRefused,
    /// Messages after the client's position are no longer there.
    TooOld,
    /// A session begins only with a token of the app.
    TokenMissing,
    /// The token of the app has expired.
    TokenExpired,
    /// The token of the app is not accepted.
    TokenInvalid,
    /// It cannot be found out now who the user is.
    AuthUnavailable,
    /// Pages of this origin may not connect.
    OriginNotAllowed,
    /// An operator has banned the user, or their address.
    Banned,
    /// A request to an operator's page by a name that is not the server's.
    HostNotAllowed,
    /// Answers for support need a token that the operator has not set up.
    SupportOff,
    /// There are as many bans as there may be.
    TooManyBans,
    /// There is nothing at this path.
    NotFound,
    /// Another method than GET or HEAD.
    MethodNotAllowed,
    /// Another method than POST.
    PostOnly,
    /// A body did not come in time.
    RequestTimeout,
    /// A later connection carries the session.
    Replaced,
    /// Messages are missing before the one that was sent.
    Gap,
    /// The session has ended.
    Gone,
    /// A body without its length.
    LengthRequired,
    /// A body, or a message in it, that is too long.
    TooLarge,
    /// A body of another kind than JSON.
    UnsupportedMediaType,
    /// More messages than the limit allows.
    RateLimited,
    /// Another profile is being taken.
    CaptureRunning,
    /// Not a WebSocket handshake of version 13.
    UpgradeRequired,
    /// The user's address has its full number of connections.
    TooManyConnections,
    /// Too many tokens from the user's address that open no session.
    TooManyReconnects,
    /// The session is in another room than the one that is asked for.
    AlreadyInRoom,
    /// A fault of the server.
    Internal,
    /// This build cannot do that.
    NotSupported,
    /// The server has its full number of connections.
    ServerFull,
    /// The server is about to stop.
    Draining,
    /// The server that has the session does not answer now.
    NodeUnreachable,
    /// Another server takes the session over.
    Moved,
    /// A WebSocket handshake in HTTP/1.0.
    HttpVersion,
}

impl HttpError {
    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::ResumeRefused
            | Self::TooOld
            | Self::TokenMissing
            | Self::TokenExpired
            | Self::TokenInvalid => StatusCode::UNAUTHORIZED,
            Self::OriginNotAllowed | Self::Banned | Self::HostNotAllowed | Self::SupportOff => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed | Self::PostOnly => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::CaptureRunning
            | Self::Replaced
            | Self::Gap
            | Self::AlreadyInRoom
            | Self::TooManyBans => StatusCode::CONFLICT,
            Self::Gone => StatusCode::GONE,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::TooManyConnections | Self::RateLimited | Self::TooManyReconnects => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotSupported => StatusCode::NOT_IMPLEMENTED,
            Self::ServerFull
            | Self::Draining
            | Self::AuthUnavailable
            | Self::NodeUnreachable
            | Self::Moved => StatusCode::SERVICE_UNAVAILABLE,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::ResumeRefused => "resume_refused",
            Self::TooOld => "too_old",
            Self::TokenMissing => "token_missing",
            Self::TokenExpired => "token_expired",
            Self::TokenInvalid => "token_invalid",
            Self::AuthUnavailable => "auth_unavailable",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::Banned => "banned",
            Self::HostNotAllowed => "host_not_allowed",
            Self::SupportOff => "support_off",
            Self::TooManyBans => "too_many_bans",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed | Self::PostOnly => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Replaced => "replaced",
            Self::Gap => "gap",
            Self::Gone => "session_ended",
            Self::LengthRequired => "length_required",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited => "rate_limited",
            Self::CaptureRunning => "capture_running",
            Self::UpgradeRequired => "upgrade_required",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyReconnects => "too_many_reconnects",
            Self::AlreadyInRoom => "already_in_room",
            Self::Internal => "internal_error",
            Self::NotSupported => "not_supported",
            Self::ServerFull => "server_full",
            Self::Draining => "draining",
            Self::NodeUnreachable => "node_unreachable",
            Self::Moved => "moved",
            Self::HttpVersion => "http_version_not_supported",
        }
    }

    /// The header that goes with it.
    const fn header(self) -> Option<(header::HeaderName, &'static str)> {
        match self {
            Self::ResumeRefused | Self::TooOld | Self::TokenMissing => {
                Some((header::WWW_AUTHENTICATE, "Bearer"))
            }
            // RFC 6750 section 3.1.
            Self::TokenExpired | Self::TokenInvalid => {
                Some((header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""))
            }
            Self::MethodNotAllowed => Some((header::ALLOW, "GET")),
            Self::PostOnly => Some((header::ALLOW, "POST")),
            Self::UpgradeRequired => Some((header::UPGRADE, "websocket")),
            Self::RateLimited | Self::NodeUnreachable | Self::Moved => {
                Some((header::RETRY_AFTER, "1"))
            }
            Self::TooManyConnections
            | Self::ServerFull
            | Self::Draining
            | Self::AuthUnavailable => Some((header::RETRY_AFTER, "5")),
            _ => None,
        }
    }

    /// The reply. `message` says what was wrong and what to do.
    pub fn reply(self, message: &str) -> Reply {
        self.reply_with(message, json!({}))
    }

    /// The same, to be tried again after `wait` and up to half as long again, so that not all come at once.
    pub fn reply_after(self, wait: Duration, message: &str) -> Reply {
        let spread = wait / 2 * u32::from(rand::random::<u8>()) / u32::from(u8::MAX);
        let seconds = (wait + spread).as_secs() + 1;
        let mut reply = self.reply(message);
        reply
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
        reply
    }

    /// The same with more fields in the body.
    pub fn reply_with(self, message: &str, mut body: serde_json::Value) -> Reply {
        if body.get("code").is_none() {
            body["code"] = self.code().into();
        }
        body["error"] = message.into();
        let mut reply = json_reply(self.status(), &body);
        if let Some((name, value)) = self.header() {
            reply
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        reply
    }
}
