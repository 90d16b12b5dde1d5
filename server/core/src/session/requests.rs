//! The requests of users, and how the session carries them out.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use voicematch_protocol::{
    ClientType, Criteria, ErrorCode, JoinRoom, LeaveReason, Numbers, RelayKind, RenewToken,
    Request, ServerMessage,
    server::{RELAY_TAIL, relay_head},
};

use super::{Context, Pending, Session};
use crate::{
    identity::{Identity, Unidentified},
    matchmaker::{Avoid, Ticket, Wish},
    outbox::Refused,
    room::{
        Member, NotRelayed, Place,
        named::{Former, NotSent, To},
    },
};

/// The most former partners that one user avoids at the same time; one more makes the oldest a stranger again.
const MAX_AVOIDED: usize = 16;

/// The longest `id` that is kept while its user waits: nothing else of a request that is, is without a bound.
pub(super) const MAX_KEPT_ID_BYTES: usize = 256;

/// The most characters of detail in an error about a message; the detail may quote the message.
const MAX_DETAIL_CHARS: usize = 200;

/// A refused request: the code, and the text for the user.
pub(super) struct Refusal(pub(super) ErrorCode, pub(super) String);

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(code, message.into())
    }
}

impl Session {
    pub(super) fn carry_out(
        &mut self,
        request: &Request<'_>,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        let kind = match request.kind {
            ClientType::Offer => RelayKind::Offer,
            ClientType::Answer => RelayKind::Answer,
            ClientType::IceCandidate => RelayKind::IceCandidate,
            ClientType::Message => RelayKind::Message,
            ClientType::Ping => {
                self.context.metrics.request(request.kind);
                pending
                    .answers
                    .push_json(&ServerMessage::Pong { id: request.id });
                return Ok(());
            }
            _ => {
                self.context.metrics.request(request.kind);
                // What follows writes to users directly and must not overtake earlier messages.
                self.flush(read_at, pending);
                return self.change_place(request, read_at, pending);
            }
        };
        self.relay(kind, request, read_at, pending)
    }

    fn change_place(
        &mut self,
        request: &Request<'_>,
        now: Instant,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        match request.kind {
            ClientType::FindMatch => self.find_match(request, now),
            ClientType::Next => {
                let wish = self.check_find(request)?;
                // In a drain, too: the user asks the next server, and the partner is to know.
                self.leave_named_room(LeaveReason::Next);
                self.give_up_rejoin(Some(LeaveReason::Next));
                if let Some(partner) = self.leave_room(LeaveReason::Next) {
                    let until = now + self.context.matchmaker.config().get().avoid_partner_for;
                    let partner = partner.id;
                    if self.avoid.len() == MAX_AVOIDED {
                        self.avoid.remove(0);
                    }
                    self.avoid.push(Avoid { partner, until });
                }
                self.find(wish, request.id, now)
            }
            ClientType::CancelMatch => {
                let had_ticket = self.ticket.is_some();
                let ticket = self.ticket.take();
                let matched = ticket.filter(|ticket| !self.context.matchmaker.cancel(ticket));
                let cancelled = had_ticket && matched.is_none();
                // The match that is being made may come to nothing: then the user goes on waiting.
                self.ticket = matched.filter(|_| self.member.place() == Place::Waiting);
                self.set_parked(false);
                let gave_up = cancelled
                    || self.give_up_rejoin(None)
                    || self.context.named_rooms.give_up_joining(&self.member);
                if !gave_up {
                    let text =
                        "you are not waiting: you asked for no match, or it was made already";
                    return Err(Refusal::new(ErrorCode::NotWaiting, text));
                }
                self.acknowledge(request.id, pending);
                Ok(())
            }
            ClientType::LeaveRoom => {
                let why = LeaveReason::Left;
                let left = self.leave_named_room(why) || self.give_up_rejoin(Some(why));
                if !left && self.leave_room(why).is_none() {
                    return Err(not_in_room());
                }
                self.acknowledge(request.id, pending);
                Ok(())
            }
            _ => Err(Refusal::new(
                ErrorCode::UnknownType,
                "this type is not known; server/README.md lists them (The wire)",
            )),
        }
    }

    fn find_match(&mut self, request: &Request<'_>, now: Instant) -> Result<(), Refusal> {
        let wish = self.check_find(request)?;
        self.find(wish, request.id, now)
    }

    fn check_find(&self, request: &Request<'_>) -> Result<Wish, Refusal> {
        check_kept_id(request.id)?;
        let none = Criteria::default();
        let asked = request.criteria.as_ref().unwrap_or(&none);
        let wish = match self.member.identity.as_deref() {
            None => Wish::new(asked),
            Some(identity) if identity.may_match => Wish::new(&identity.criteria(asked)),
            Some(_) => return Err(not_allowed("ask for a match")),
        };
        wish.map_err(|message| Refusal(ErrorCode::InvalidCriteria, message))
    }

    fn find(&mut self, wish: Wish, id: Option<&RawValue>, now: Instant) -> Result<(), Refusal> {
        check_drain(&self.context)?;
        self.avoid.retain(|avoid| now < avoid.until);
        let matchmaker = &self.context.matchmaker;
        let (member, avoid, id) = (&self.member, self.avoid.clone(), id.map(RawValue::to_owned));
        let away = self.is_detached();
        let found = match away {
            false => matchmaker.find(member, wish, avoid, id, now),
            true => matchmaker.find_later(member, wish, avoid, id, now),
        };
        let ticket = found.map_err(|place| match place {
            Place::Waiting => Refusal::new(
                ErrorCode::AlreadyWaiting,
                "you are waiting already; cancel_match first",
            ),
            _ => Refusal::new(
                ErrorCode::AlreadyInRoom,
                "you are in a room; send next or leave_room",
            ),
        })?;
        if let Some(room) = ticket.former() {
            self.last_room = Some(room.clone());
        }
        self.keep_ticket(ticket, now);
        if away {
            self.set_parked(true);
        }
        Ok(())
    }

    /// Keeps a ticket as long as it is needed.
    pub(super) fn keep_ticket(&mut self, ticket: Arc<Ticket>, now: Instant) {
        self.next_step = self.context.matchmaker.next_step(&ticket, now);
        // A match that is being made can still fail; what counts is that the user has no seat in a room yet.
        self.is_untold = self.member.place() == Place::Waiting;
        self.ticket = self.is_untold.then_some(ticket);
    }

    /// Requests whose own fields are read apart, so that they cost the others nothing.
    #[inline(never)]
    pub(super) fn go_to_room(
        &mut self,
        text: &str,
        request: &Request<'_>,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        self.context.metrics.request(request.kind);
        // What follows writes to users directly and must not overtake earlier messages.
        self.flush(read_at, pending);
        // The seat forgets the last partner.
        self.last_room = self.member.last_room().or(self.last_room.take());
        if request.kind == ClientType::Rejoin {
            return self.rejoin(text, request.id, read_at);
        }
        let name = serde_json::from_str::<JoinRoom<'_>>(text).map(|join| join.room);
        let name = name.map_err(|error| Refusal(ErrorCode::BadMessage, error.to_string()))?;
        check_drain(&self.context)?;
        if self.context.named_rooms.is_spread() {
            check_kept_id(request.id)?;
        }
        self.join(&name, None, request.id)?;
        if let Some(resume) = &mut self.resume {
            resume.room_reports = 0;
        }
        Ok(())
    }

    /// Goes on with a new token of the same user.
    #[inline(never)]
    pub(super) fn renew_token(
        &mut self,
        text: &str,
        request: &Request<'_>,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        self.context.metrics.request(request.kind);
        // The answer is written to the user directly and must not overtake earlier messages.
        self.flush(read_at, pending);
        let renew = serde_json::from_str::<RenewToken<'_>>(text);
        let renew = renew.map_err(|error| Refusal(ErrorCode::BadMessage, error.to_string()))?;
        let (Some(identity), Some(identify)) = (&self.member.identity, &self.context.identify)
        else {
            let text = "this server asks for no tokens";
            return Err(Refusal::new(ErrorCode::TokenRefused, text));
        };
        if identity.expires() <= read_at {
            let text = "your token has expired; begin a new session with another one";
            return Err(Refusal::new(ErrorCode::TokenRefused, text));
        }
        if !identity.begin_renewal() {
            let text = "another token of yours is looked at; wait for the answer";
            return Err(Refusal::new(ErrorCode::TokenRefused, text));
        }
        let (member, metrics) = (self.member.clone(), self.context.metrics.clone());
        let id = request.id.map(RawValue::to_owned);
        identify.identify(
            &renew.token,
            self.member.address().ip(),
            Box::new(move |new| {
                let renewed = new.and_then(|new| renew_identity(&member, &new));
                if let Some(identity) = &member.identity {
                    if renewed.as_ref().is_err_and(|why| why.temporary) {
                        identity.announce_again(Instant::now());
                    }
                    identity.end_renewal();
                }
                let (code, id) = (ErrorCode::TokenRefused, id.as_deref());
                // A refusal means that this session is being closed.
                let _ = match (renewed, id) {
                    (Ok(()), None) => Ok(()),
                    (Ok(()), Some(id)) => member.outbox.send(&ServerMessage::Ack { id }),
                    (Err(why), id) => {
                        metrics.error(code);
                        member.outbox.send(&ServerMessage::Error {
                            code,
                            message: &why.message,
                            temporary: why.temporary,
                            received: None,
                            id,
                        })
                    }
                };
            }),
        );
        Ok(())
    }

    /// Joins a named room, unless the user is in it, and tells them what came of it.
    pub fn join_by_name(&mut self, name: &str) {
        let room = self.member.named_room();
        if room.is_some_and(|room| &*room.name == name) {
            return;
        }
        let now = Instant::now();
        let joined = check_drain(&self.context).and_then(|()| self.join(name, None, None));
        if let Err(refusal) = joined {
            let mut pending = Pending::default();
            self.refuse(&refusal, None, &mut pending);
            self.flush(now, &mut pending);
        }
        self.ping_if_owed(now);
    }

    /// `former`: the place that the user had in the room of another process.
    pub(super) fn join(
        &self,
        name: &str,
        former: Option<Former>,
        id: Option<&RawValue>,
    ) -> Result<(), Refusal> {
        let identity = self.member.identity.as_deref();
        if identity.is_some_and(|identity| !identity.may_join(name)) {
            return Err(not_allowed("join this room"));
        }
        let rooms = &self.context.named_rooms;
        rooms
            .join(&self.member, name, former, id)
            .map_err(|cannot| {
                let (code, text) = cannot.error();
                Refusal::new(code, text)
            })
    }

    /// Leaves the named room, if the user is in one, or waits no longer to be let in.
    pub(super) fn leave_named_room(&self, reason: LeaveReason) -> bool {
        let rooms = &self.context.named_rooms;
        if rooms.give_up_joining(&self.member) {
            return true;
        }
        // The seat first: another node may give the room another id meanwhile, and then finds that the user has gone.
        let room = self.member.give_up_seat();
        if let Some(room) = &room {
            rooms.leave(room, self.member.id, reason);
        }
        room.is_some()
    }

    /// Leaves the room of two, if the user is in one. Returns the partner.
    fn leave_room(&mut self, reason: LeaveReason) -> Option<Arc<Member>> {
        self.room = None;
        let room = self.member.leave_room(reason)?;
        let partner = room.peer_of(self.member.id).clone();
        self.last_room = Some(room);
        Some(partner)
    }

    fn relay(
        &mut self,
        kind: RelayKind,
        request: &Request<'_>,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        let Some(payload) = request.payload else {
            return Err(Refusal::new(ErrorCode::BadMessage, "payload is missing"));
        };
        if pending.relay.is_empty() && self.room.as_ref().is_none_or(|room| room.is_closed()) {
            self.room = self.member.room();
            if self.room.is_some() {
                self.ticket = None;
                self.next_step = None;
            }
        }
        let Some(room) = &self.room else {
            return self.relay_named(kind, request, payload, read_at, pending);
        };
        let own = self.member.id;
        let to = request.to.as_deref();
        if to.is_some_and(|to| to.as_bytes() != room.peer_of(own).id.digits()) {
            return Err(unknown_peer());
        }
        let (head, len) = relay_head(kind, self.member.id);
        pending
            .relay
            .push(&[&head[..len], payload.get().as_bytes(), RELAY_TAIL]);
        pending.relayed[kind.index()] += 1;
        if kind == RelayKind::Message && request.id.is_some() {
            self.flush_relay(read_at, pending)?;
            self.acknowledge(request.id, pending);
        }
        Ok(())
    }

    /// Relays in a named room: to one member, or a `message` to all.
    #[inline(never)]
    fn relay_named(
        &mut self,
        kind: RelayKind,
        request: &Request<'_>,
        payload: &RawValue,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        let Some(room) = self.member.named_room() else {
            return Err(not_in_room());
        };
        let to = match &request.to {
            Some(to) => To::One(to),
            None if kind == RelayKind::Message => To::All,
            None => {
                let text = "`to` is missing: in a named room all but `message` is for one member";
                return Err(Refusal::new(ErrorCode::BadMessage, text));
            }
        };
        let (head, len) = relay_head(kind, self.member.id);
        let batch = &mut pending.relay;
        batch.push(&[&head[..len], payload.get().as_bytes(), RELAY_TAIL]);
        let bytes = batch.byte_len();
        let sent = room.send(self.member.id, &to, batch, read_at);
        batch.clear();
        let metrics = &self.context.metrics;
        match sent {
            Ok(receivers) => {
                metrics.relayed(kind, receivers as u64);
                metrics.relayed_bytes(bytes * receivers);
                self.acknowledge(request.id.filter(|_| kind == RelayKind::Message), pending);
                Ok(())
            }
            Err(NotSent::UnknownPeer) => Err(unknown_peer()),
            // The outbox has counted it.
            Err(NotSent::Refused(Refused::Full)) => Err(unknown_peer()),
            Err(NotSent::Refused(Refused::Lost)) => {
                metrics.dropped("relay_lost", 1);
                Err(way_is_full())
            }
            Err(NotSent::Refused(Refused::Closed)) => {
                metrics.dropped("peer_closed", 1);
                Err(unknown_peer())
            }
            Err(NotSent::NotInRoom) => Err(not_in_room()),
        }
    }

    /// Hands the pending relays to the partner.
    pub(super) fn flush_relay(
        &mut self,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        let relayed = std::mem::take(&mut pending.relayed);
        let Some(room) = &self.room else {
            return Ok(());
        };
        let mut outcome = self.member.relay(room, &pending.relay, read_at);
        if outcome == Err(NotRelayed::NotInRoom)
            && let Some(moved) = self.member.room_after(room)
        {
            outcome = self.member.relay(&moved, &pending.relay, read_at);
        }
        let metrics = &self.context.metrics;
        match &outcome {
            Ok(()) => {
                for (&kind, count) in RelayKind::ALL
                    .iter()
                    .zip(relayed)
                    .filter(|(_, count)| *count > 0)
                {
                    metrics.relayed(kind, count.into());
                }
                metrics.relayed_bytes(pending.relay.byte_len());
            }
            Err(NotRelayed::Refused(Refused::Lost)) => return Err(self.relay_lost(pending)),
            // The outbox has counted it.
            Err(NotRelayed::Refused(Refused::Full)) => {}
            Err(NotRelayed::Refused(Refused::Closed)) => {
                metrics.dropped("peer_closed", pending.relay.len());
            }
            Err(NotRelayed::NotInRoom) => metrics.dropped("peer_left", pending.relay.len()),
        }
        pending.relay.clear();
        outcome.map_err(|_| {
            self.room = None;
            not_in_room()
        })
    }

    /// The way to the partner's node is full: the room goes on.
    #[cold]
    fn relay_lost(&self, pending: &mut Pending) -> Refusal {
        self.context
            .metrics
            .dropped("relay_lost", pending.relay.len());
        pending.relay.clear();
        way_is_full()
    }

    pub(super) fn acknowledge(&self, id: Option<&RawValue>, pending: &mut Pending) {
        if let Some(id) = id {
            pending.answers.push_json(&ServerMessage::Ack { id });
        }
    }

    pub(super) fn refuse(&self, refusal: &Refusal, id: Option<&RawValue>, pending: &mut Pending) {
        let Refusal(code, message) = refusal;
        self.context.metrics.error(*code);
        if *code == ErrorCode::Draining {
            self.member.ask_in_vain();
        }
        let error = ServerMessage::Error {
            code: *code,
            message,
            temporary: code.temporary(),
            received: None,
            id,
        };
        pending.answers.push_json(&error);
    }
}

#[cold]
fn way_is_full() -> Refusal {
    let text =
        "the way to your partner's server is full, and nobody got this; send it again in a moment";
    Refusal::new(ErrorCode::RelayLost, text)
}

fn check_kept_id(id: Option<&RawValue>) -> Result<(), Refusal> {
    if id.is_some_and(|id| id.get().len() > MAX_KEPT_ID_BYTES) {
        let text = format!(
            "the id of find_match, next and join_room is kept while you wait; it has {MAX_KEPT_ID_BYTES} bytes at the most"
        );
        return Err(Refusal(ErrorCode::BadMessage, text));
    }
    Ok(())
}

/// A room that begins in a drain would only make it longer. Users who ask for one are sent on at once.
pub(super) fn check_drain(context: &Context) -> Result<(), Refusal> {
    if context.draining.load(Ordering::Relaxed) {
        let text = "this server is about to stop; connect again to reach another";
        return Err(Refusal::new(ErrorCode::Draining, text));
    }
    Ok(())
}

fn renew_identity(member: &Member, new: &Identity) -> Result<(), Unidentified> {
    let identity = member.identity.as_deref();
    let Some(identity) = identity.filter(|identity| identity.user == new.user) else {
        let text = "this is the token of another user; begin a new session with it";
        return Err(Unidentified {
            message: text.to_owned(),
            temporary: false,
        });
    };
    identity.renew(new);
    Ok(())
}

#[cold]
fn not_allowed(what: &str) -> Refusal {
    let text = format!("your token does not let you {what}");
    Refusal(ErrorCode::NotAllowed, text)
}

#[derive(Deserialize)]
struct IdOnly<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

pub(super) fn parse(text: &str) -> Result<Request<'_>, Refusal> {
    if let Some(relay) = Request::relay(text) {
        return Ok(relay);
    }
    if !is_object(text) {
        return Err(no_object());
    }
    serde_json::from_str(text).map_err(|error| refusal_of(text, &error))
}

/// The numbers of a message of a resumable session.
pub(super) fn parse_numbers(text: &str) -> Result<Numbers, Refusal> {
    if !is_object(text) {
        return Err(no_object());
    }
    serde_json::from_str(text).map_err(|error| refusal_of(text, &error))
}

#[cold]
fn no_object() -> Refusal {
    let text = "a message is one JSON object with a \"type\"";
    Refusal::new(ErrorCode::BadJson, text)
}

/// Why a message could not be read.
#[cold]
fn refusal_of(text: &str, error: &serde_json::Error) -> Refusal {
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    let code = if is_json {
        ErrorCode::BadMessage
    } else {
        ErrorCode::BadJson
    };
    Refusal(code, detail(error))
}

/// What is wrong with a message, which it may quote.
pub(super) fn detail(error: &serde_json::Error) -> String {
    error.to_string().chars().take(MAX_DETAIL_CHARS).collect()
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The `id` of a message that is otherwise unreadable.
pub(super) fn id_of(text: &str) -> Option<&RawValue> {
    let only = is_object(text).then(|| serde_json::from_str::<IdOnly<'_>>(text));
    only?.ok()?.id
}

pub(super) fn unknown_peer() -> Refusal {
    Refusal::new(ErrorCode::UnknownPeer, "`to` names no member of this room")
}

fn not_in_room() -> Refusal {
    Refusal::new(
        ErrorCode::NotInRoom,
        "you are not in a room, or your partner has just left; send find_match",
    )
}
