//! A connection's hold on a resumable session.

use std::time::Instant;

use voicematch_core::session::{Attached, Locked};
use voicematch_protocol::CloseReason;

use super::keeper;

/// A connection's hold on a resumable session. When it is dropped, the session goes on without it.
pub struct Attachment(Attached);

impl Attachment {
    /// The connection that `attached` is about holds the session.
    pub fn new(attached: Attached) -> Self {
        Self(attached)
    }

    /// The session; `None`: another connection carries it now.
    pub fn lock(&self) -> Option<Locked<'_>> {
        self.0.session.lock(self.0.epoch)
    }

    /// The session, whatever carries it.
    pub fn lock_any(&self) -> Locked<'_> {
        self.0.session.lock_any()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let goes_on = self
            .lock()
            .is_some_and(|mut session| session.lose(CloseReason::Lost, Instant::now()));
        if goes_on {
            keeper::keep(self.0.session.clone());
        }
    }
}
