//! Messages that a user sends at regular times.

use std::time::Duration;

use crate::{
    base::random::due_at_or_after,
    measure::sample::{ErrorKind, Kind, Route, Sample},
    plan::{
        flow::{Call, Message, Relayed, Rounds, RoundsLeft},
        template::{Frame, Values, call_id},
    },
    user::{
        User,
        tag::{Tag, relay},
    },
};

/// A repeated message.
#[derive(Clone, Copy)]
pub enum Sent<'a> {
    Message(&'a Message),
    Call(&'a Call),
}

/// A repeated message that is sent when it is due, whatever the server answers.
pub struct Sending<'a> {
    what: Sent<'a>,
    every: Duration,
    left: RoundsLeft,
    /// When the next one is due; `None`: to be chosen when there is a partner.
    next_due: Option<Duration>,
}

impl<'a> Sending<'a> {
    pub fn new(what: Sent<'a>, every: Duration, often: Rounds, now: Duration) -> Self {
        Self {
            what,
            every,
            left: often.start(now),
            next_due: None,
        }
    }

    pub fn needs_partner(&self) -> bool {
        matches!(self.what, Sent::Message(Message::Relay { .. }))
    }

    pub fn is_done(&self, now: Duration) -> bool {
        self.left.is_over(now)
    }

    pub fn next_wake(&self, matched: bool) -> Option<Duration> {
        let due = self.next_due.filter(|_| matched || !self.needs_partner());
        match (due, self.left.until) {
            (Some(due), Some(until)) => Some(due.min(until)),
            (due, until) => due.or(until),
        }
    }
}

impl User {
    /// Sends all that is due: after a stall several messages, each timed from when it was due.
    pub fn send_due(&mut self, sending: &mut Sending<'_>, now: Duration) -> Result<(), ErrorKind> {
        if sending.needs_partner() && !self.has_partner() {
            sending.next_due = None;
            return Ok(());
        }
        let mut due = match sending.next_due {
            Some(due) => due,
            None if sending.left.times.is_some() => now,
            None => due_at_or_after(self.start.user, sending.every, now),
        };
        while due <= now && !sending.is_done(now) {
            match sending.what {
                Sent::Message(message) => self.send_one(message, due, now)?,
                Sent::Call(call) => self.ask(call, due)?,
            }
            sending.left.count();
            due += sending.every;
        }
        sending.next_due = Some(due);
        Ok(())
    }

    fn send_one(
        &mut self,
        message: &Message,
        due: Duration,
        now: Duration,
    ) -> Result<(), ErrorKind> {
        let lateness = now.saturating_sub(due);
        self.messages = self.messages.wrapping_add(1);
        let (kind, size) = match message {
            Message::Relay { kind, size } => (ledger_kind(*kind), size),
            Message::Custom { size, .. } => (Kind::ECHO, size),
        };
        let len = size.of(self.start.user, self.messages);
        let tag = match message {
            Message::Relay { .. } if self.named.is_some() => {
                self.next_tag_to_all(kind, due, lateness, len)
            }
            Message::Relay { .. } => self.next_tag(kind, due, lateness, len),
            Message::Custom {
                template,
                some_come_back,
                ..
            } if template.has_payload() => {
                Some(self.next_echo_tag(due, lateness, len, *some_come_back))
            }
            Message::Custom { .. } => None,
        };
        let payload = tag.map(Tag::to_payload).unwrap_or_default();
        // Recorded before it is written, because the stay has counted it: the connection may be broken.
        if let Some(tag) = tag
            && self.named.is_none()
        {
            self.tell(Sample::Sent {
                route: tag.route,
                lateness,
            });
        }
        match message {
            Message::Relay { kind, .. } => {
                let text = relay(kind.client_type(), payload)
                    .map_err(|_impossible| ErrorKind::BadMessage)?;
                self.send(Frame::Text, text)?;
            }
            Message::Custom {
                template, frame, ..
            } => {
                let id = call_id(self.context.run, self.start.user, self.requests);
                let text = template.fill(&Values {
                    id: &id,
                    payload: &payload,
                    ..self.values(self.messages)
                });
                self.send(*frame, text)?;
            }
        }
        Ok(())
    }

    /// The tag of the next message to the partner.
    fn next_tag(
        &mut self,
        kind: Kind,
        due: Duration,
        lateness: Duration,
        len: usize,
    ) -> Option<Tag> {
        let node = self.node();
        let stay = self.room.as_mut()?;
        let tag = Tag {
            run: self.context.run,
            room: stay.room,
            sender: self.start.user,
            node,
            seq: stay.sent_in_all(),
            nth: stay.sent[kind.index()],
            route: Route {
                kind,
                direction: stay.direction,
            },
            due,
            lateness,
            len,
        };
        stay.sent[kind.index()] += 1;
        stay.latest.sent(due + lateness);
        Some(tag)
    }
}

/// The type under which the ledger counts a relayed message.
fn ledger_kind(relayed: Relayed) -> Kind {
    match relayed {
        Relayed::Offer => Kind::OFFER,
        Relayed::Answer => Kind::ANSWER,
        Relayed::IceCandidate => Kind::ICE_CANDIDATE,
        Relayed::Message => Kind::MESSAGE,
    }
}
