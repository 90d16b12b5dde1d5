//! The closed lists that labels are from, where the wire does not have them.

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    EventStream,
    Polling,
}

impl Transport {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::EventStream, Self::Polling];

    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "ws",
            Self::EventStream => "sse",
            Self::Polling => "poll",
        }
    }
}

/// What became of an attempt to resume.
pub(super) const RESUMES: [&str; 3] = ["resumed", "refused", "too_old"];

/// What became of a session that was asked for at another node.
pub(super) const TAKES: [&str; 5] = ["taken", "refused", "forged", "too_old", "timeout"];

/// The same, and that it was not looked at.
pub(super) const RECONNECTS: [&str; 4] = ["resumed", "refused", "too_old", "limited"];

/// How the loss of a connection was found out.
pub(super) const LOSSES: [&str; 3] = ["connection", "heartbeat", "poll"];

/// Why a connection was refused.
pub const REFUSALS: [&str; 15] = [
    "max_connections",
    "max_connections_per_address",
    "origin",
    "descriptors",
    "accept_error",
    "max_buffered_bytes",
    "draining",
    "refusals_busy",
    "proxy_header",
    "tls",
    "token_missing",
    "token_expired",
    "token_invalid",
    "auth_unavailable",
    "banned",
];

/// What became of an attempt to fetch keys.
pub(super) const KEY_FETCHES: [&str; 2] = ["ok", "failed"];

/// What became of a question to the app.
pub(super) const WEBHOOK_RESULTS: [&str; 6] = [
    "admitted",
    "refused",
    "remembered",
    "busy",
    "failed",
    "abandoned",
];

/// Why the app has not got an event.
pub(super) const EVENT_DROPS: [&str; 4] = ["queue_full", "gave_up", "refused", "shutdown"];

/// What became of a request with events.
pub(super) const EVENT_REQUESTS: [&str; 3] = ["ok", "failed", "refused"];

/// The limits whose hits are counted.
pub const LIMITS: [&str; 19] = [
    "max_message_bytes",
    "outbox_messages",
    "outbox_bytes",
    "max_messages_per_second",
    "handshake_timeout",
    "idle_timeout",
    "max_header_bytes",
    "max_connections",
    "max_connections_per_address",
    "max_accepts_per_second",
    "max_buffered_bytes",
    "max_detached",
    "resume_log",
    "max_rooms",
    "max_blocks",
    "reconnects_per_minute",
    "pending_rooms",
    "takes",
    "descriptors",
];

/// Why a message was not relayed.
pub(super) const DROPS: [&str; 8] = [
    "bad_frame",
    "memory_limit",
    "outbox_full",
    "peer_closed",
    "peer_left",
    "rate_limited",
    "relay_lost",
    "unknown_frame",
];

/// What became of a span.
pub(super) const SPAN_RESULTS: [&str; 4] = ["sent", "queue_full", "failed", "refused"];

/// What became of an error.
pub(super) const REPORT_RESULTS: [&str; 7] = [
    "sent",
    "repeated",
    "hourly_limit",
    "queue_full",
    "rate_limited",
    "failed",
    "refused",
];
