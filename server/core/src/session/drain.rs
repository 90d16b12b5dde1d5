//! How a drain ends a resumable session, so that nothing is lost: first it takes no more messages from its client, who keeps
//! them for the next session; then the client confirms what it was sent; then the client hears what was taken, and the end.

use std::{sync::Arc, time::Instant};

use voicematch_protocol::CloseReason;

use super::{Resumable, Session, resume::Carrier};

impl Resumable {
    /// Takes no more numbered messages, and asks the client to confirm what it was sent.
    pub fn stop_taking(&self, now: Instant) {
        let mut session = self.lock_any();
        if let Some(resume) = &mut session.resume {
            resume.takes_no_more = true;
        }
        session.ping(now);
    }

    /// Whether the client can neither confirm nor be told anything now: nothing carries the session, or its next poll is to
    /// confirm something.
    pub fn is_out_of_reach(&self) -> bool {
        let session = self.lock_any();
        match session.resume.as_ref().map(|resume| resume.carrier) {
            Some(Carrier::Nothing { .. }) => true,
            Some(Carrier::Polls { until: Some(_) }) => !self.member.outbox.is_confirmed(),
            _ => false,
        }
    }

    /// Ends the session. The last `ping` says which messages were taken: nothing can come between the two.
    /// `elsewhere`: the user may come to another node, which takes the session; it is kept here for that, without a connection.
    pub fn send_away(self: &Arc<Self>, elsewhere: bool, now: Instant) {
        let mut session = self.lock_any();
        session.ping(now);
        if !(elsewhere && self.set_adrift(&mut session, now)) {
            self.member.outbox.close(CloseReason::Draining);
        }
    }

    /// Ends the connection, and keeps the session for another node, to which the user comes. False: there is no other node, or
    /// it could not go on there.
    fn set_adrift(self: &Arc<Self>, session: &mut Session, now: Instant) -> bool {
        let nodes = self.context.matchmaker.nodes();
        let goes_on = nodes.is_some_and(|nodes| nodes.are_others())
            && !session.left
            && self.member.named_room().is_none()
            && session.resume.as_ref().is_some_and(|resume| {
                // Polls bring no session to another node.
                resume.carrier == Carrier::Connection && resume.rejoining.is_none()
            });
        if goes_on {
            session.park();
            session.end_carrier(CloseReason::Moved, now);
            self.member.set_adrift();
            self.context.takes.keep(self);
        }
        goes_on
    }
}
