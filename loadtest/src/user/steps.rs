//! Plays the steps of a flow.

pub mod call;
pub mod echo;
pub mod expect;
pub mod http;
pub mod send;

use std::{pin::Pin, time::Duration};

use serde_json::value::RawValue;
use voicematch_protocol::ClientType;

use send::{Sending, Sent};

use super::{Stop, Until, User};
use crate::{
    base::random::mixed,
    measure::sample::{ErrorKind, Sample, ServerCode},
    plan::{
        flow::{Between, MATCH_FOUND, Step},
        template::Frame,
    },
    user::tag::{request, request_with_id},
};

/// The id of every request to leave a room.
pub(super) const LEAVE_ID: &str = "\"leave\"";

type Played<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + 'a>>;

impl User {
    /// Plays steps in order. Boxed, because a loop contains steps.
    pub(super) fn steps<'a>(&'a mut self, steps: &'a [Step]) -> Played<'a> {
        Box::pin(async move {
            for step in steps {
                self.step(step).await?;
            }
            Ok(())
        })
    }

    async fn step(&mut self, step: &Step) -> Result<(), Stop> {
        let now = self.context.now();
        match step {
            Step::Connect => {
                self.path = None;
                self.connect().await
            }
            Step::ConnectTo(path) => {
                let path = path.fill_path(&self.values(self.messages));
                self.path = Some(path.into());
                self.connect().await
            }
            Step::FindMatch => {
                self.expecting.forget();
                self.ask_for_partner(ClientType::FindMatch)
                    .map_err(Stop::Broken)?;
                self.wait_for_partner().await
            }
            Step::Next => {
                self.expecting.forget();
                // A user whose partner has just left is searching already.
                if self.search.is_none() {
                    self.leave_by_choice().map_err(Stop::Broken)?;
                    self.ask_for_partner(ClientType::Next)
                        .map_err(Stop::Broken)?;
                }
                self.wait_for_partner().await
            }
            Step::Leave => {
                if self.search.is_some() {
                    self.wait_for_partner().await?;
                }
                self.expecting.forget();
                self.leave_by_choice().map_err(Stop::Broken)?;
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
                self.expecting.want(kind);
                let deadline = now.saturating_add(*within);
                self.listen_until(Until::HoldsOrTime(|user| user.expecting.is_met(), deadline))
                    .await?;
                if self.expecting.take() {
                    return Ok(());
                }
                self.tell_error(ErrorKind::ExpectTimedOut(ServerCode::new(kind)));
                Err(Stop::Failed)
            }
            Step::Send {
                message,
                every,
                rounds: often,
            } => {
                let mut sending = Sending::new(Sent::Message(message), *every, *often, now);
                self.listen_until(Until::Sent(&mut sending)).await
            }
            Step::Think(between) => {
                self.due = None;
                let deadline = now.saturating_add(self.between(*between));
                self.listen_until(Until::Time(deadline)).await
            }
            Step::Loop {
                rounds: often,
                steps,
            } => {
                let mut left = often.start(now);
                while !left.is_over(self.context.now()) {
                    self.steps(steps).await?;
                    left.count();
                    // Steps that take no time must not block other users or the end of the run.
                    tokio::task::yield_now().await;
                    if self.is_over() {
                        return Err(Stop::Over);
                    }
                }
                Ok(())
            }
            Step::JoinRoom(room) => self.join_room(room).await,
            Step::Call(call) => self.call(call).await,
            Step::Http(request) => self.http(request).await,
            // Boxed, because they are large and rare.
            Step::Talk(talk) => Box::pin(self.talk(talk)).await,
            Step::Interview(interview) => Box::pin(self.interview(interview)).await,
        }
    }

    fn between(&self, between: Between) -> Duration {
        let Between { from, to } = between;
        let n = self.messages ^ self.requests.rotate_left(16);
        from + (to.saturating_sub(from)).mul_f64(mixed(self.start.user, n))
    }

    fn leave_by_choice(&mut self) -> Result<(), ErrorKind> {
        let named = self.leave_named_room(false);
        self.leaving = named.or(self.room.as_ref().map(|stay| stay.room));
        self.leave_room(false);
        self.go_on_if_gathered(self.context.now())
    }

    /// The answer is found by its id: it may say that the partner left first, which is no fault.
    fn say_leave(&mut self) -> Result<(), ErrorKind> {
        let id = RawValue::from_string(LEAVE_ID.to_owned());
        let text = id.and_then(|id| request_with_id(ClientType::LeaveRoom, Some(&id), None));
        self.send(
            Frame::Text,
            text.map_err(|_impossible| ErrorKind::BadMessage)?,
        )
    }

    pub(super) fn say(&mut self, kind: ClientType) -> Result<(), ErrorKind> {
        let text = request(kind, None).map_err(|_impossible| ErrorKind::BadMessage)?;
        self.send(Frame::Text, text)
    }

    /// Sends a message that needs no answer.
    pub(super) fn send(&mut self, frame: Frame, text: String) -> Result<(), ErrorKind> {
        if self.resume.is_some() {
            return self.send_numbered(&text);
        }
        match (&mut self.connection, frame) {
            (Some(connection), Frame::Text) => connection.send(None, text),
            (Some(connection), Frame::Binary) => connection.send_binary(text.into_bytes()),
            (None, _) => Ok(()),
        }
    }

    pub(super) fn ask_for_partner(&mut self, kind: ClientType) -> Result<(), ErrorKind> {
        self.search = Some(super::PartnerSearch {
            from: self.context.now(),
            timed_out: false,
            refused: false,
        });
        self.tell(Sample::Searching {
            again: self.had_partner,
        });
        self.say(kind)
    }

    async fn wait_for_partner(&mut self) -> Result<(), Stop> {
        let over =
            |user: &Self| user.room.is_some() || user.search.is_none_or(|search| search.timed_out);
        self.listen_until(Until::Holds(over)).await?;
        // A user whose search timed out stays in the queue, and goes on after a late match.
        self.listen_until(Until::Holds(|user| user.room.is_some()))
            .await?;
        self.expecting.drop_one(MATCH_FOUND);
        Ok(())
    }
}
