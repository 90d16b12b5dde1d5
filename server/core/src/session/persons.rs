//! The sessions of each user that the app has named. Its lock is taken before an outbox, and after nothing.

use std::sync::Arc;

use dashmap::{DashMap, Entry};
use voicematch_protocol::CloseReason;

use crate::room::Member;

/// By the app's id of the user; the oldest session first.
pub struct Persons {
    sessions: DashMap<Box<str>, Vec<Arc<Member>>>,
    /// The most sessions of one user; 0: no limit.
    max: usize,
}

impl Persons {
    /// `max` sessions of one user; 0: no limit.
    pub fn new(max: usize) -> Self {
        Self {
            sessions: DashMap::new(),
            max,
        }
    }

    /// Adds a session. If there are too many of the user, the oldest is closed.
    pub(super) fn enter(&self, member: &Arc<Member>) {
        let Some(identity) = member.identity.as_deref().filter(|_| self.max > 0) else {
            return;
        };
        let mut sessions = self.sessions.entry(identity.user.clone()).or_default();
        sessions.push(member.clone());
        if sessions.len() > self.max {
            sessions.remove(0).outbox.close(CloseReason::Replaced);
        }
    }

    pub(super) fn leave(&self, member: &Member) {
        let Some(identity) = member.identity.as_deref().filter(|_| self.max > 0) else {
            return;
        };
        if let Entry::Occupied(mut entry) = self.sessions.entry(identity.user.clone()) {
            entry.get_mut().retain(|other| other.id != member.id);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }
}
