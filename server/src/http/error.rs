//! Refusals over HTTP: a status, and a JSON body with `code` for programs and `error` for people.

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
    /// Pages of this origin may not connect.
    OriginNotAllowed,
    /// There is nothing at this path.
    NotFound,
    /// Another method than GET or HEAD.
    MethodNotAllowed,
    /// Another profile is being taken.
    CaptureRunning,
    /// Not a WebSocket handshake of version 13.
    UpgradeRequired,
    /// The user's address has its full number of connections.
    TooManyConnections,
    /// A fault of the server.
    Internal,
    /// This build cannot do that.
    NotSupported,
    /// The server has its full number of connections.
    ServerFull,
    /// The server is about to stop.
    Draining,
    /// A WebSocket handshake in HTTP/1.0.
    HttpVersion,
}

impl HttpError {
    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::OriginNotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::CaptureRunning => StatusCode::CONFLICT,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::TooManyConnections => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotSupported => StatusCode::NOT_IMPLEMENTED,
            Self::ServerFull | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::CaptureRunning => "capture_running",
            Self::UpgradeRequired => "upgrade_required",
            Self::TooManyConnections => "too_many_connections",
            Self::Internal => "internal_error",
            Self::NotSupported => "not_supported",
            Self::ServerFull => "server_full",
            Self::Draining => "draining",
            Self::HttpVersion => "http_version_not_supported",
        }
    }

    /// The header that goes with it.
    const fn header(self) -> Option<(header::HeaderName, &'static str)> {
        match self {
            Self::MethodNotAllowed => Some((header::ALLOW, "GET")),
            Self::UpgradeRequired => Some((header::UPGRADE, "websocket")),
            Self::TooManyConnections | Self::ServerFull | Self::Draining => {
                Some((header::RETRY_AFTER, "5"))
            }
            _ => None,
        }
    }

    /// The reply. `message` says what was wrong and what to do.
    pub fn reply(self, message: &str) -> Reply {
        let body = json!({ "code": self.code(), "error": message });
        let mut reply = json_reply(self.status(), &body);
        if let Some((name, value)) = self.header() {
            reply
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        reply
    }
}
