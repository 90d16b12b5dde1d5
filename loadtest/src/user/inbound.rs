//! Checks the messages from the server.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;
use voicematch_protocol::{ClientType, CloseReason, ErrorCode, ServerType, ServerView};

use super::{Heard, User, steps::LEAVE_ID};
use crate::{
    measure::{
        ledger::{Receipt, Stay},
        nodes::FaultKind,
        sample::{Across, Delivered, Direction, ErrorKind, Kind, Route, Sample, ServerCode},
    },
    plan::Greeting,
    user::{
        net::connection::Event,
        tag::{Tag, room_key},
    },
};

/// The fields that are read from a message of any server.
#[derive(Deserialize)]
struct TypeOnly<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    session_id: Option<Cow<'a, str>>,
}

/// The type of a message, and the session id if it is a greeting.
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
        let (text, binary) = match event {
            Event::Text(text) => {
                bytes = text;
                (Cow::Borrowed(bytes.as_str()), false)
            }
            Event::Binary(frame) => {
                let text = String::from_utf8_lossy(&frame).into_owned();
                (Cow::Owned(text), true)
            }
            Event::Received(number) => {
                if let Some(resume) = &mut self.resume {
                    resume.received(number);
                }
                return Ok(());
            }
            Event::Trouble(error) => {
                self.tell_error(error);
                return Ok(());
            }
        };
        match self.hear(&text, now)? {
            Heard::New => {}
            Heard::Again | Heard::Ping | Heard::Own => return Ok(()),
        }
        if self.expecting.listens()
            && let Some(kind) = type_of(&text)
        {
            self.expecting.hear(&kind);
        }
        if self.named.is_some() {
            self.on_named_room(now, &text)?;
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
        if tag.is_none() && self.room.is_none() && self.echo.is_some() && Tag::begins_in(&text) {
            self.on_unreadable_echo();
            return Ok(());
        }
        let view = serde_json::from_str::<ServerView<'_>>(&text);
        if (binary || view.is_err()) && self.speaks_our_wire() {
            self.tell_error(match binary {
                true => ErrorKind::BinaryFrame,
                false => ErrorKind::BadMessage,
            });
        }
        match view {
            Ok(view) => self.on_message(now, &view, tag, active),
            Err(_) => Ok(()),
        }
    }

    /// After a greeting of another type, any message is allowed.
    fn speaks_our_wire(&self) -> bool {
        matches!(&self.context.plan.greeting, Greeting::Type(greeting) if greeting == "session")
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
            ServerType::PeerLeft => return self.on_peer_left(now, view, active),
            ServerType::Offer => self.on_relay(now, Kind::OFFER, view, tag),
            ServerType::Answer => self.on_relay(now, Kind::ANSWER, view, tag),
            ServerType::IceCandidate => self.on_relay(now, Kind::ICE_CANDIDATE, view, tag),
            ServerType::Message => self.on_relay(now, Kind::MESSAGE, view, tag),
            // The server may stop after the run.
            ServerType::Draining if self.is_to_move(now, view) => {}
            ServerType::Draining if active => self.tell_error(ErrorKind::ServerDraining),
            ServerType::Rejoined => return self.on_rejoined(now, view),
            ServerType::Error if self.is_rejoining() => {
                let code = ServerCode::new(view.code.as_deref().unwrap_or_default());
                let error = ErrorKind::ServerError(code);
                self.tell_fault_at(self.last_node(), FaultKind::AfterLoss, error);
                return self.on_not_rejoined(now);
            }
            ServerType::Error => self.on_error(view.code.as_deref().unwrap_or_default()),
            _ => {}
        }
        Ok(())
    }

    fn on_match(&mut self, now: Duration, view: &ServerView<'_>) {
        let peer = view.peer_id.as_deref().map(room_key);
        if self.session_id.is_some() && self.session_id == peer {
            self.tell(Sample::SelfMatch);
        }
        let mut searched = None;
        match self.search {
            Some(search) => {
                let late = self.context.waited(search.from, now) > self.context.plan.match_timeout;
                if search.timed_out || late {
                    self.end_search();
                } else {
                    let latency = now.saturating_sub(search.from);
                    self.tell(Sample::Matched { latency });
                    searched = Some(latency);
                }
            }
            None => self.tell(Sample::DoubleMatch),
        }
        // The server's latest word counts: it told the new partner of the room, too.
        self.leave_room(false);
        self.search = None;
        self.leaving = None;
        self.had_partner = true;
        if let Some(resume) = &mut self.resume {
            resume.moved_peer = None;
        }
        if let Some(torn_at) = self.torn_at.take() {
            self.tell(Sample::StormMatched {
                after: now.saturating_sub(torn_at),
            });
        }
        self.together_again(now);
        self.tell(Sample::RoomJoined);
        self.room = Some(Stay {
            node: self.node(),
            searched,
            session: self.session_id,
            peer,
            ..Stay::new(
                room_key(view.room_id.as_deref().unwrap_or_default()),
                self.start.user,
                Direction::of_sender(view.initiator == Some(true)),
                now,
                self.context.plan.message_timeout,
            )
        });
    }

    fn on_peer_left(
        &mut self,
        now: Duration,
        view: &ServerView<'_>,
        active: bool,
    ) -> Result<(), ErrorKind> {
        let drained = view.reason.as_deref() == Some(CloseReason::Draining.as_str());
        if self.resume.is_some() && drained {
            // Both meet again at another server.
            return Ok(());
        }
        if self.is_rejoining() {
            return self.on_not_rejoined(now);
        }
        let room = view.room_id.as_deref().map(room_key);
        let Some(stay) = &self.room else {
            if self.leaving.is_some() && self.leaving == room {
                self.forget_left_room();
            }
            return Ok(());
        };
        let peer = view.peer_id.as_deref().map(room_key);
        let known = self.known_peer();
        let other_peer = known.is_some() && peer.is_some_and(|peer| known != Some(peer));
        if room.is_some_and(|room| room != stay.room) || other_peer {
            self.tell_error(ErrorKind::WrongRoom);
            return Ok(());
        }
        let room = stay.room;
        self.leave_room(true);
        let rematches = active && self.rematches();
        if rematches && view.reason.as_deref() == Some(CloseReason::Lost.as_str()) {
            self.tear(None, room, now);
        }
        if rematches {
            self.ask_for_partner(ClientType::FindMatch)
        } else {
            Ok(())
        }
    }

    /// Checks a relayed message against the user's room.
    fn on_relay(&mut self, now: Duration, kind: Kind, view: &ServerView<'_>, tag: Option<Tag>) {
        if self.named.is_some() {
            return self.on_relay_in_room(now, kind, view, tag);
        }
        let (Some(payload), Some(tag)) = (view.payload, tag) else {
            return self.on_unreadable(kind, view.payload);
        };
        let user = self.start.user;
        let route = tag.route;
        if tag.run != self.context.run {
            if let Some(stay) = &mut self.room {
                stay.foreign = true;
            }
            return self.tell(Sample::Foreign);
        }
        if self.leaving == Some(tag.room) {
            // The server did not know yet that the user had left. The message was under way at that time, one of its
            // sender's last in that room.
            return;
        }
        let known = self.known_peer();
        let Some(stay) = &mut self.room else {
            return self.tell(Sample::WrongPeer { route });
        };
        if tag.room != stay.room || tag.sender == user {
            return self.tell(Sample::WrongPeer { route });
        }
        let receipt = (stay.inbox).receive(tag.sender, tag.seq, route.kind, tag.nth);
        let from = view.from.as_deref().map(room_key);
        let from_partner = from.is_some_and(|from| known.is_none_or(|peer| peer == from));
        let altered = !from_partner || route.kind != kind || tag.altered(payload.get());
        let took = self.context.waited(tag.due + tag.lateness, now);
        // Other shards have other clocks.
        let same_clock =
            self.context.plan.shard.of_user(tag.sender) == self.context.plan.shard.index;
        stay.inbox.slow = same_clock && took > self.context.plan.message_timeout / 2;
        self.tell_gap(receipt);
        self.heard_partner(now);
        self.on_receipt(now, tag, receipt, altered);
    }

    /// Checks a relayed message without a tag.
    fn on_unreadable(&mut self, kind: Kind, payload: Option<&RawValue>) {
        let tagged = payload.is_some_and(|payload| Tag::begins_in(payload.get()));
        match &mut self.room {
            // A sender without tags is not a user of a load test.
            Some(stay) if tagged || stay.inbox.knows_partner() => {
                stay.inbox.receive_unreadable(kind);
                let direction = stay.direction.reverse();
                let route = Route { kind, direction };
                self.tell(Sample::Unreadable { route });
            }
            // It was under way when the user left.
            None if self.leaving.is_some() => {}
            _ => self.tell_error(ErrorKind::BadMessage),
        }
    }

    /// Records messages that this one shows to be lost, or to be late instead of lost.
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

    /// Records the result for a received message.
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
        let reach = self.reach_of(tag);
        if from != shard.index {
            let due_micros = micros(now).saturating_sub(micros(tag.due));
            let [paused, ran] = self.context.pulse.latest(now);
            let lately = now.saturating_sub(ran) <= self.context.plan.message_timeout;
            return self.tell(Sample::DeliveredAcross(Across {
                route,
                reach,
                from,
                due_micros,
                as_sent_micros: due_micros.saturating_sub(micros(tag.lateness)),
                paused_micros: if lately {
                    micros(ran.saturating_sub(paused))
                } else {
                    0
                },
                in_order,
                altered,
            }));
        }
        let latency = now.saturating_sub(tag.due);
        let took = self.context.waited(tag.due + tag.lateness, now);
        self.tell(Sample::Delivered(Delivered {
            route,
            reach,
            latency,
            as_sent: latency.saturating_sub(tag.lateness),
            in_order,
            late: took > self.context.plan.message_timeout,
            altered,
        }));
    }

    fn on_error(&mut self, code: &str) {
        let is = |known: ErrorCode| code == known.as_str();
        if is(ErrorCode::Draining) && self.is_refused_in_drain() {
            return;
        }
        // Right if the partner has just left, or their server is lost, which the server may report before or after this.
        // The ledger decides at the end of the stay.
        match &mut self.room {
            stay if is(ErrorCode::NotInRoom) => {
                if let Some(stay) = stay {
                    stay.refused += 1;
                }
                self.tell(Sample::Refused);
            }
            Some(stay) if is(ErrorCode::RelayLost) => stay.relays_lost += 1,
            _ => self.tell_error(ErrorKind::ServerError(ServerCode::new(code))),
        }
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
