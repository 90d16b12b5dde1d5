//! Why there is no connection any more.

/// Why the connections are given up: a value of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The other side closed one, or it broke.
    Closed,
    /// Nothing that was published came back.
    Silent,
    /// The engine is a replica, or the channel is elsewhere.
    Role,
    /// This node has begun a new life, and listens to another channel.
    Life,
    /// Connecting took too long.
    Timeout,
    /// The engine did not let this node in.
    Refused,
}

impl Trouble {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Role => "role",
            Self::Life => "life",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
        }
    }
}
