//! The steps of a flow, played.

use std::{pin::Pin, time::Duration};

use serde_json::value::RawValue;
use voicematch_protocol::ClientType;

use super::{Stop, User};
use crate::{
    flow::{Between, Message, Rounds, Step},
    payload::{Tag, relay, request, request_with_id},
    plan::{due_at_or_after, mixed},
    sample::{ErrorKind, Kind, Route, Sample},
    template::{Frame, Values, call_id},
};

/// The id of every request to leave a room.
pub(super) const LEAVE_ID: &str = "\"leave\"";

/// A message that is sent again and again.
pub(super) struct Sending<'a> {
    message: &'a Message,
    every: Duration,
    left: Option<u32>,
    until: Option<Duration>,
    /// When the next one is due; `None`: to be found out when there is a partner.
    next_due: Option<Duration>,
}

impl Sending<'_> {
    pub(super) fn needs_partner(&self) -> bool {
        matches!(self.message, Message::Relay { .. })
    }

    pub(super) fn is_done(&self, now: Duration) -> bool {
        self.left == Some(0) || self.until.is_some_and(|until| now >= until)
    }

    pub(super) fn next_wake(&self, matched: bool) -> Option<Duration> {
        let due = self.next_due.filter(|_| matched || !self.needs_partner());
        match (due, self.until) {
            (Some(due), Some(until)) => Some(due.min(until)),
            (due, until) => due.or(until),
        }
    }
}

/// When something that is done so often is over.
fn rounds(rounds: Rounds, now: Duration) -> (Option<u32>, Option<Duration>) {
    match rounds {
        Rounds::Times(times) => (Some(times), None),
        Rounds::For(time) => (None, Some(now + time)),
        Rounds::Endless => (None, None),
    }
}

type Played<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + 'a>>;

impl User {
    /// Plays steps in their order. Boxed, because a loop has steps again.
    pub(super) fn steps<'a>(&'a mut self, steps: &'a [Step]) -> Played<'a> {
        Box::pin(async move {
            for step in steps {
                self.step(step).await?;
            }
            Ok(())
        })
    }

    async fn step(&mut self, step: &Step) -> Result<(), Stop> {
        let now = self.stage.now();
        match step {
            Step::Connect => self.connect().await,
            Step::FindMatch => {
                self.ask_for_partner(ClientType::FindMatch)
                    .map_err(Stop::Broken)?;
                self.wait_for_partner().await
            }
            Step::Next => {
                // Whose partner has just left is looking for the next one already.
                if self.search.is_none() {
                    self.leave_by_choice();
                    self.ask_for_partner(ClientType::Next)
                        .map_err(Stop::Broken)?;
                }
                self.wait_for_partner().await
            }
            Step::Leave => {
                if self.search.is_some() {
                    self.wait_for_partner().await?;
                }
                self.leave_by_choice();
                self.say_leave().map_err(Stop::Broken)
            }
            Step::Reconnect => {
                self.tell(Sample::StoppedSending);
                self.close().await;
                self.connect().await
            }
            Step::Close => {
                self.tell(Sample::StoppedSending);
                self.close().await;
                Ok(())
            }
            Step::Expect { kind, within } => {
                self.expected = Some(kind.clone());
                let come = self
                    .live(
                        None,
                        Some(now + *within),
                        Some(|user| user.expected.is_none()),
                    )
                    .await?;
                self.expected = None;
                if come { Ok(()) } else { Err(Stop::Failed) }
            }
            Step::Send {
                message,
                every,
                rounds: often,
            } => {
                let (left, until) = rounds(*often, now);
                let mut sending = Sending {
                    message,
                    every: *every,
                    left,
                    until,
                    next_due: None,
                };
                self.live(Some(&mut sending), None, None).await?;
                Ok(())
            }
            Step::Think(between) => {
                self.live(None, now.checked_add(self.between(*between)), None)
                    .await?;
                Ok(())
            }
            Step::Loop {
                rounds: often,
                steps,
            } => {
                let (mut left, until) = rounds(*often, now);
                while left != Some(0) && until.is_none_or(|until| self.stage.now() < until) {
                    self.steps(steps).await?;
                    left = left.map(|left| left - 1);
                    // Steps that take no time must not keep others, nor the end of the run, from their turn.
                    tokio::task::yield_now().await;
                    if self.is_over() {
                        return Err(Stop::Over);
                    }
                }
                Ok(())
            }
            Step::Call(call) => self.call(call).await,
            Step::Http {
                name,
                path,
                status,
                within,
            } => self.http(name, path, *status, *within).await,
        }
    }

    fn between(&self, between: Between) -> Duration {
        let Between { from, to } = between;
        let n = self.messages ^ self.requests.rotate_left(16);
        from + (to.saturating_sub(from)).mul_f64(mixed(self.start.user, n))
    }

    fn leave_by_choice(&mut self) {
        self.leaving = self.room.as_ref().map(|room| room.stay.room);
        self.leave_room(false);
    }

    /// The answer is told by its id: it may be that the partner was faster, which is no fault.
    fn say_leave(&mut self) -> Result<(), ErrorKind> {
        let id = RawValue::from_string(LEAVE_ID.to_owned());
        let text = id.and_then(|id| request_with_id(ClientType::LeaveRoom, Some(&id), None));
        self.send(
            Frame::Text,
            text.map_err(|_impossible| ErrorKind::BadMessage)?,
        )
    }

    fn say(&mut self, kind: ClientType) -> Result<(), ErrorKind> {
        let text = request(kind, None).map_err(|_impossible| ErrorKind::BadMessage)?;
        self.send(Frame::Text, text)
    }

    /// Sends what is no request of a call.
    pub(super) fn send(&mut self, frame: Frame, text: String) -> Result<(), ErrorKind> {
        match (&mut self.connection, frame) {
            (Some(connection), Frame::Text) => connection.send(text),
            (Some(connection), Frame::Binary) => connection.send_binary(text.into_bytes()),
            (None, _) => Ok(()),
        }
    }

    pub(super) fn ask_for_partner(&mut self, kind: ClientType) -> Result<(), ErrorKind> {
        self.search = Some(super::Search {
            from: self.stage.now(),
            timed_out: false,
        });
        self.tell(Sample::Searching {
            again: self.had_partner,
        });
        self.say(kind)
    }

    async fn wait_for_partner(&mut self) -> Result<(), Stop> {
        let over =
            |user: &Self| user.room.is_some() || user.search.is_none_or(|search| search.timed_out);
        self.live(None, None, Some(over)).await?;
        // Who found nobody in time stays in the queue, and goes on once somebody has come.
        self.live(None, None, Some(|user| user.room.is_some()))
            .await?;
        Ok(())
    }

    /// Sends all that is due: more than one message after a stall, each timed from when it was due.
    pub(super) fn send_due(
        &mut self,
        sending: &mut Sending<'_>,
        now: Duration,
    ) -> Result<(), ErrorKind> {
        if sending.needs_partner() && self.room.is_none() {
            sending.next_due = None;
            return Ok(());
        }
        let mut due = match sending.next_due {
            Some(due) => due,
            None if sending.left.is_some() => now,
            None => due_at_or_after(self.start.user, sending.every, now),
        };
        while due <= now && !sending.is_done(now) {
            self.send_one(sending.message, due, now)?;
            sending.left = sending.left.map(|left| left - 1);
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
            Message::Relay { kind, size } => (kind.kind(), size),
            Message::Custom { size, .. } => (Kind::ECHO, size),
        };
        let len = size.of(self.start.user, self.messages);
        let tag = match message {
            Message::Relay { .. } => self.next_tag(kind, due, lateness, len),
            Message::Custom { template, .. } if template.has_payload() => {
                Some(self.next_echo_tag(due, lateness, len))
            }
            Message::Custom { .. } => None,
        };
        let payload = tag.map(Tag::to_payload).unwrap_or_default();
        match message {
            Message::Relay { kind, .. } => {
                let text = relay(kind.client_type(), payload)
                    .map_err(|_impossible| ErrorKind::BadMessage)?;
                self.send(Frame::Text, text)?;
            }
            Message::Custom {
                template, frame, ..
            } => {
                let id = call_id(self.stage.run, self.start.user, self.requests);
                let text = template.fill(&Values {
                    user: self.start.user,
                    seq: self.messages,
                    run: self.stage.run,
                    now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
                    id: &id,
                    payload: &payload,
                });
                self.send(*frame, text)?;
            }
        }
        if let Some(tag) = tag {
            self.tell(Sample::Sent {
                route: tag.route,
                lateness,
            });
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
        let stay = &mut self.room.as_mut()?.stay;
        let tag = Tag {
            run: self.stage.run,
            room: stay.room,
            sender: self.start.user,
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
