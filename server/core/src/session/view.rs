//! What an operator may see of a session. Nothing here is on the way of a message.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use voicematch_protocol::{CloseReason, SessionId};

use super::{Context, Session, resume::Carrier};
use crate::{
    matchmaker::{Seeker, Ticket, TicketView},
    metrics::Transport,
    room::{Member, Standing},
};

/// A session as it is now.
pub struct SessionView {
    pub member: Arc<Member>,
    pub standing: Standing,
    pub carried: Carried,
    /// For whom a waiting user waits.
    pub wait: Option<Wait>,
    /// Messages and bytes that the user has not been sent yet.
    pub unsent: (usize, usize),
    /// Set if the session is about to end.
    pub closing: Option<CloseReason>,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    Connection(Transport),
    Polls,
    /// Nothing, for this time.
    Nothing(Duration),
}

/// For whom a user waits.
pub enum Wait {
    /// For somebody who fits. `parked`: for nobody now, as the user does not answer. `seeker`: as other nodes know them.
    Match {
        ticket: Box<TicketView>,
        parked: bool,
        seeker: Seeker,
    },
    /// For a former partner.
    Partner,
}

impl Context {
    /// The session of this id. It locks nothing for long, and one thing after the other.
    pub fn view(&self, id: SessionId, now: Instant) -> Option<SessionView> {
        let member = self.directory.get(id)?;
        let plain = (Carried::Connection(Transport::WebSocket), false, None);
        let (carried, parked, ticket) = match self.resumables.get(id) {
            Some(resumable) => resumable.lock_any().view(now),
            None => plain,
        };
        let standing = member.standing();
        let wait = match standing {
            Standing::Waiting(None) => Some(Wait::Partner),
            Standing::Waiting(Some(number)) => {
                let ticket = ticket.or_else(|| self.matchmaker.waiting_ticket(number));
                // `None`: it is being matched.
                ticket.map(|ticket| Wait::Match {
                    ticket: Box::new(self.matchmaker.view(&ticket, now)),
                    parked,
                    seeker: self.matchmaker.seeker(&ticket, now),
                })
            }
            _ => None,
        };
        Some(SessionView {
            standing,
            carried,
            wait,
            unsent: member.outbox.unsent(),
            closing: member.outbox.status().closing,
            member,
        })
    }
}

impl Session {
    fn view(&self, now: Instant) -> (Carried, bool, Option<Arc<Ticket>>) {
        let plain = (Carried::Connection(Transport::WebSocket), false);
        let (carried, parked) = self.resume.as_ref().map_or(plain, |resume| {
            let carried = match resume.carrier {
                Carrier::Connection => Carried::Connection(resume.transport),
                Carrier::Polls { .. } => Carried::Polls,
                Carrier::Nothing { since } => {
                    Carried::Nothing(now.saturating_duration_since(since))
                }
            };
            (carried, resume.parked)
        });
        (carried, parked, self.ticket.clone())
    }
}
