//! A connection's hold on a resumable session.

use std::{sync::Arc, time::Instant};

use voicematch_core::session::{Attached, Locked, Resumable};
use voicematch_protocol::CloseReason;

use super::keeper;

/// A connection's hold on a resumable session. When it is dropped, the session goes on without it.
pub struct Attachment {
    session: Arc<Resumable>,
    epoch: u32,
}

impl Attachment {
    /// The connection that `attached` is about holds the session.
    pub fn new(attached: Attached) -> Self {
        // What was said first is not kept: there is one of these for each user.
        let Attached { session, epoch, .. } = attached;
        Self { session, epoch }
    }

    /// The session; `None`: another connection carries it now.
    pub fn lock(&self) -> Option<Locked<'_>> {
        self.session.lock(self.epoch)
    }

    /// The session, whatever carries it.
    pub fn lock_any(&self) -> Locked<'_> {
        self.session.lock_any()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let goes_on = self
            .lock()
            .is_some_and(|mut session| session.lose(CloseReason::Lost, Instant::now()));
        if goes_on {
            keeper::keep(self.session.clone());
        }
    }
}
