//! Who takes part in a session.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use voicematch_protocol::transcribe::{Role, Start};

use super::tracks::Track;
use crate::{
    deliver::Mailbox,
    record::{Participant, RowId},
};

/// A speaker whose frames go on comes with the next one sooner.
const LATE_FRAME: Duration = Duration::from_millis(500);

/// The name of a participant on the wire.
#[must_use]
pub fn participant_name(id: RowId) -> String {
    format!("p{:x}", id.0)
}

/// A participant of a session that goes on.
pub(crate) struct Person {
    pub(crate) row: Participant,
    pub(crate) role: Role,
    /// The participant's name on the wire.
    pub(crate) name: Arc<str>,
    /// The connection; the newest one of the participant.
    mailbox: Option<Arc<Mailbox>>,
    /// Which connection that is.
    epoch: u64,
    /// Since when no connection is there.
    pub(crate) left: Option<Instant>,
    /// When the last frame came, or a sign of life after it; `None`: the participant has not spoken, pauses, or has said all.
    pub(super) spoke: Option<Instant>,
    /// Where their audio goes; none before the first and after the last of it.
    pub(crate) track: Option<Arc<Track>>,
    /// How their audio is, as they have said last. It holds for their next track, too.
    pub(super) start: Start,
}

impl Person {
    pub(crate) fn new(row: Participant) -> Self {
        let role = Role::ALL.iter().find(|role| role.as_str() == row.role);
        Self {
            role: role.copied().unwrap_or(Role::Listener),
            name: participant_name(row.id).into(),
            row,
            mailbox: None,
            epoch: 0,
            left: None,
            spoke: None,
            track: None,
            start: Start::default(),
        }
    }

    /// A connection has come; the one before, and the number of this one.
    pub(super) fn attach(&mut self, mailbox: Arc<Mailbox>) -> (Option<Arc<Mailbox>>, u64) {
        self.epoch += 1;
        (self.mailbox.replace(mailbox), self.epoch)
    }

    /// Since when nothing that the participant said has come here, now that a connection takes the place of another. That one
    /// may have been dead for long: nobody notices that at once.
    pub(super) fn unheard_since(&mut self, was_there: bool, now: Instant) -> Option<Instant> {
        let silent = self.spoke.take().filter(|at| now >= *at + LATE_FRAME);
        self.left.take().or(silent.filter(|_| was_there))
    }

    /// The connection has gone; false: it was replaced before.
    pub(super) fn detach(&mut self, epoch: u64, now: Instant) -> bool {
        let is_newest = self.epoch == epoch;
        if is_newest {
            self.mailbox = None;
            self.left = Some(now);
        }
        is_newest
    }

    pub(crate) fn is_there(&self) -> bool {
        self.mailbox.is_some()
    }

    pub(super) fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
    }

    pub(super) fn forget_partial(&self, utterance: &str) {
        if let Some(mailbox) = &self.mailbox {
            mailbox.drop_partial(utterance);
        }
    }
}
