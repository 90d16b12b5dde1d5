//! The outbox of a session that goes from one node to another: its log is copied there, and goes on where it was.

use std::time::Instant;

use super::{Batch, Behind, Kept, KeptLog, Outbox, Refused, State, text_frame};
use voicematch_protocol::CloseReason;

impl Outbox {
    /// Whether the session can go on behind message `after`; absent: behind what was confirmed. What came up to it is
    /// confirmed then.
    pub(crate) fn check_position(&self, after: Option<u64>) -> Result<(), Behind> {
        let mut state = self.lock();
        let memory = state.memory();
        let log = state.log().ok_or(Behind::Stale)?;
        let after = after.unwrap_or_else(|| log.confirmed());
        let checked = log.check_position(after);
        self.settle(memory, &mut state);
        checked
    }

    /// A copy of what is kept, behind message `after` or all of it.
    pub(crate) fn copy_log(&self, after: Option<u64>, now: Instant) -> Option<KeptLog> {
        let state = self.lock();
        let log = state.read_log()?;
        Some(log.copy(after.unwrap_or_else(|| log.confirmed()), now))
    }

    /// Goes on from the log of another node, for a new outbox with a log. What others say is held until [`Self::release`].
    pub(crate) fn adopt_log(&self, kept: KeptLog, now: Instant) {
        let mut state = self.lock();
        let memory = state.memory();
        if let Some(log) = state.log() {
            log.adopt(kept, now);
        }
        self.settle(memory, &mut state);
    }

    /// `rest` has come to the other node meanwhile; what others have said here follows it.
    pub(crate) fn release(&self, rest: Vec<Kept>, now: Instant) {
        let mut state = self.lock();
        let memory = state.memory();
        if let Some(log) = state.log() {
            log.release(rest, now);
        }
        // Should it be too much, the session is closed.
        let _ = self.check_log(&mut state);
        self.settle(memory, &mut state);
        self.wake(&mut state);
    }

    /// Keeps a batch until it can have numbers.
    #[cold]
    pub(super) fn hold_batch(
        &self,
        state: &mut State,
        batch: &Batch,
        read_at: Option<Instant>,
    ) -> Result<(), Refused> {
        let memory = state.memory();
        let Some(log) = state.log() else {
            return Err(Refused::Closed);
        };
        let frames = batch.ranges().map(|range| &batch.bytes[range]);
        for (message, _) in frames.filter_map(text_frame) {
            log.hold(message, read_at);
        }
        let too_much = log.holds_too_much();
        if too_much {
            self.metrics.limit_hit("resume_log");
            self.metrics.dropped("outbox_full", state.relays_queued());
            state.discard_queue();
            self.close_locked(state, CloseReason::ResumeOverflow);
        }
        self.settle(memory, state);
        match too_much {
            true => Err(Refused::Full),
            false => Ok(()),
        }
    }
}
