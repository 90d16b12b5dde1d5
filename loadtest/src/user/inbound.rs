//! What the server says, checked.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;
use voicematch_protocol::{ClientType, ErrorCode, ServerType, ServerView};

use super::{Room, User, steps::LEAVE_ID};
use crate::{
    measure::{
        ledger::{Inbox, Latest, Receipt, Stay},
        sample::{Across, Delivered, Direction, ErrorKind, Kind, Sample, ServerCode},
    },
    plan::Greeting,
    user::{
        net::websocket::Event,
        tag::{Tag, room_key},
    },
};

/// What is read of a message of any server.
#[derive(Deserialize)]
struct TypeOnly<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    session_id: Option<Cow<'a, str>>,
}

/// The type of a message, and the id of the session that it may begin.
pub(super) fn greeting(text: &str) -> Option<(Cow<'_, str>, Option<String>)> {
    let message: TypeOnly<'_> = serde_json::from_str(text).ok()?;
    Some((message.kind, message.session_id.map(Cow::into_owned)))
}

/// The type of a message, if it has one.
pub(super) fn type_of(text: &str) -> Option<Cow<'_, str>> {
    let message: TypeOnly<'_> = serde_json::from_str(text).ok()?;
    Some(message.kind)
}

impl User {
    pub(super) fn on_event(&mut self, event: Event, active: bool) -> Result<(), ErrorKind> {
        let now = self.context.now();
        let bytes;
        let text = match event {
            Event::Text(text) => {
                bytes = text;
                Cow::Borrowed(bytes.as_str())
            }
            Event::Binary(frame) => Cow::Owned(String::from_utf8_lossy(&frame).into_owned()),
        };
        if self.expecting.listens()
            && let Some(kind) = type_of(&text)
        {
            self.expecting.hear(&kind);
        }
        if self.on_answer(now, &text) {
            return Ok(());
        }
        let tag = Tag::read(&text);
        if let Some(tag) = tag
            && tag.route.direction == Direction::ToServer
        {
            self.on_echo(now, tag, &text);
            return Ok(());
        }
        match serde_json::from_str::<ServerView<'_>>(&text) {
            Ok(view) => self.on_message(now, &view, tag, active),
            Err(_) => {
                // A server that greets in another way may say what it likes.
                if self.context.plan.greeting == Greeting::Type("session".to_owned()) {
                    self.tell_error(ErrorKind::BadMessage);
                }
                Ok(())
            }
        }
    }

    fn on_message(
        &mut self,
        now: Duration,
        view: &ServerView<'_>,
        tag: Option<Tag>,
        active: bool,
    ) -> Result<(), ErrorKind> {
        if view.id.is_some_and(|id| id.get() == LEAVE_ID) {
            self.leaving = None;
            return Ok(());
        }
        match view.kind {
            ServerType::Waiting => self.leaving = None,
            ServerType::MatchFound => self.on_match(now, view),
            ServerType::PeerLeft => return self.on_peer_left(active),
            ServerType::Offer
            | ServerType::Answer
            | ServerType::IceCandidate
            | ServerType::Message => match (view.payload, tag) {
                (Some(payload), Some(tag)) => {
                    self.on_relay(now, payload, tag, view.from.as_deref());
                }
                _ => self.tell_error(ErrorKind::BadMessage),
            },
            ServerType::Error => self.on_error(view.code.as_deref().unwrap_or_default()),
            _ => {}
        }
        Ok(())
    }

    fn on_match(&mut self, now: Duration, view: &ServerView<'_>) {
        let Some(search) = self.search else {
            return self.tell(Sample::DoubleMatch);
        };
        if self.session_id.is_some() && self.session_id == view.peer_id.as_deref().map(room_key) {
            self.tell(Sample::SelfMatch);
        }
        let latency = now.saturating_sub(search.from);
        if search.timed_out || latency > self.context.plan.match_timeout {
            self.end_search();
        } else {
            self.tell(Sample::Matched { latency });
        }
        self.search = None;
        self.leaving = None;
        self.had_partner = true;
        if let Some(torn_at) = self.torn_at.take() {
            self.tell(Sample::StormMatched {
                after: now.saturating_sub(torn_at),
            });
        }
        self.tell(Sample::RoomJoined);
        self.room = Some(Room {
            stay: Stay {
                room: room_key(view.room_id.as_deref().unwrap_or_default()),
                user: self.start.user,
                joined: now,
                left: now,
                direction: Direction::of_sender(view.initiator == Some(true)),
                sent: [0; Kind::MAX],
                refused: 0,
                latest: Latest::new(self.context.plan.message_timeout),
                settled: false,
                partner_left: false,
                cut_off: false,
                foreign: false,
                some_come_back: false,
                inbox: Inbox::default(),
            },
            peer_id: view.peer_id.as_deref().map(room_key),
        });
    }

    fn on_peer_left(&mut self, active: bool) -> Result<(), ErrorKind> {
        if self.room.is_none() {
            return Ok(());
        }
        self.leave_room(true);
        let plan = &self.context.plan;
        if active && plan.flows[plan.flow_of(self.start.user)].rematch {
            self.ask_for_partner(ClientType::FindMatch)
        } else {
            Ok(())
        }
    }

    /// Checks a relayed message against the room the user is in.
    fn on_relay(&mut self, now: Duration, payload: &RawValue, tag: Tag, from: Option<&str>) {
        let user = self.start.user;
        let route = tag.route;
        if tag.run != self.context.run {
            if let Some(room) = &mut self.room {
                room.stay.foreign = true;
            }
            return self.tell(Sample::Foreign);
        }
        if self.leaving == Some(tag.room) {
            // The server did not know yet that the user had left. Of its sender's messages this is one that was
            // under way to a user who had left.
            return;
        }
        let Some(room) = &mut self.room else {
            return self.tell(Sample::WrongPeer { route });
        };
        let named_other =
            from.is_some_and(|from| room.peer_id.is_some_and(|id| id != room_key(from)));
        if tag.room != room.stay.room || tag.sender == user || named_other {
            return self.tell(Sample::WrongPeer { route });
        }
        let receipt = (room.stay.inbox).receive(tag.sender, tag.seq, route.kind, tag.nth);
        let altered = tag.altered(payload.get());
        self.tell_gap(receipt);
        self.on_receipt(now, tag, receipt, altered);
    }

    /// Tells whether a message shows that others are lost, or one of them is not.
    pub(super) fn tell_gap(&self, receipt: Receipt) {
        match receipt {
            Receipt::InOrder { missed } if missed > 0 => {
                let missed = missed.into();
                self.tell(Sample::Gap { missed });
            }
            Receipt::Reordered => self.tell(Sample::Gap { missed: -1 }),
            _ => {}
        }
    }

    /// Tells what a received message turned out to be.
    pub(super) fn on_receipt(&self, now: Duration, tag: Tag, receipt: Receipt, altered: bool) {
        let route = tag.route;
        let in_order = match receipt {
            Receipt::InOrder { .. } => true,
            Receipt::Reordered => false,
            Receipt::Duplicate => return self.tell(Sample::Duplicate { route }),
            Receipt::WrongPeer => return self.tell(Sample::WrongPeer { route }),
        };
        let shard = self.context.plan.shard;
        let from = shard.of_user(tag.sender);
        if from != shard.index {
            let due_micros = micros(now).saturating_sub(micros(tag.due));
            return self.tell(Sample::DeliveredAcross(Across {
                route,
                from,
                due_micros,
                as_sent_micros: due_micros.saturating_sub(micros(tag.lateness)),
                in_order,
                altered,
            }));
        }
        let latency = now.saturating_sub(tag.due);
        let as_sent = latency.saturating_sub(tag.lateness);
        // What came while this process did not run was not late by the server's doing.
        let paused = self.context.pulse.paused(tag.due + tag.lateness, now);
        self.tell(Sample::Delivered(Delivered {
            route,
            latency,
            as_sent,
            in_order,
            late: as_sent.saturating_sub(paused) > self.context.plan.message_timeout,
            altered,
        }));
    }

    fn on_error(&mut self, code: &str) {
        if code != ErrorCode::NotInRoom.as_str() {
            return self.tell_error(ErrorKind::ServerError(ServerCode::new(code)));
        }
        // Right when the partner has just left, which the server may say before or after this. The
        // ledger decides, once the stay is over.
        self.tell(Sample::Refused);
        if let Some(room) = &mut self.room {
            room.stay.refused += 1;
        }
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
