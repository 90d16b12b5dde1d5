//! The closed lists that labels are from, where the wire does not have them.

/// Why a connection was refused.
pub const REFUSALS: [&str; 6] = [
    "max_connections",
    "max_connections_per_address",
    "origin",
    "descriptors",
    "accept_error",
    "refusals_busy",
];

/// The limits whose hits are counted.
pub const LIMITS: [&str; 12] = [
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
    "descriptors",
];

/// Why a message was not relayed.
pub(super) const DROPS: [&str; 5] = [
    "memory_limit",
    "outbox_full",
    "peer_closed",
    "peer_left",
    "rate_limited",
];
