//! The contract between the sessions and what traces them.

use std::time::Duration;

use voicematch_protocol::{CloseReason, RoomId, SessionId};

/// Is told what becomes of sessions, by the thread on which it happens: it must not wait.
pub trait Trace: Send + Sync {
    /// Two users were matched, in a kind of pool, and neither can leave before this returns; with how long each had waited.
    fn matched(&self, room: RoomId, pool: &'static str, users: [(SessionId, Duration); 2]);

    /// A session has ended.
    fn closed(&self, session: SessionId, reason: CloseReason);
}
