//! One user's session: idle -> waiting -> in a room -> gone. It knows no sockets: a transport gives it
//! what the user said, and carries away what lies in the outbox.

mod rate;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::value::RawValue;
use voicematch_protocol::{
    ClientType, Criteria, ErrorCode, IceServer, LeaveReason, Limits, RelayKind, Request,
    ServerMessage,
    server::{RELAY_TAIL, relay_head},
};

use crate::{
    directory::Directory,
    matchmaker::{Avoid, Matchmaker, Ticket, Wish},
    metrics::Metrics,
    outbox::{Batch, Framing, Link, Outbox, OutboxLimits},
    room::{Member, NotRelayed, Place, Room},
};
use rate::Rate;

/// What sessions are allowed, and what they are told at the start.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Told to the user; the transport keeps it.
    pub heartbeat: Duration,
    /// Told to the user; the transport keeps it.
    pub max_message_bytes: usize,
    /// Messages a second in the long run; 0: no limit.
    pub max_messages_per_second: u32,
    /// Messages that may come at once.
    pub message_burst: u32,
    /// How long a user may be silent, neither waiting nor in a room; zero: for ever.
    pub idle_timeout: Duration,
    /// The bounds of each outbox.
    pub outbox: OutboxLimits,
    /// Told to the user.
    pub ice_servers: Vec<IceServer>,
}

/// What all sessions share.
pub struct Context {
    /// What sessions are allowed.
    pub config: SessionConfig,
    /// Who waits.
    pub matchmaker: Matchmaker,
    /// Who is here.
    pub directory: Directory,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Set when the server is about to stop: no new matches.
    pub draining: AtomicBool,
}

/// What one read of a user's messages has given rise to and is not sent yet: the messages for the
/// partner, and the answers to the user. A worker has one, and each read leaves it empty.
#[derive(Default)]
pub struct Pending {
    relay: Batch,
    relayed: [u32; RelayKind::ALL.len()],
    answers: Batch,
}

/// One user's session. Dropping it removes the user from everything.
pub struct Session {
    context: Arc<Context>,
    member: Arc<Member>,
    ticket: Option<Arc<Ticket>>,
    /// The room that relays go to, as long as it is the member's: asked of the seat only when it changes.
    room: Option<Arc<Room>>,
    avoid: Option<Avoid>,
    rate: Rate,
    last_message: Instant,
    left: bool,
}

/// A request that was refused: the code, and what to tell the user.
struct Refusal(ErrorCode, String);

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(code, message.into())
    }
}

impl Session {
    /// Begins a session that writes to `link`, and greets the user.
    pub fn open(
        context: Arc<Context>,
        link: Box<dyn Link>,
        framing: Framing,
        now: Instant,
    ) -> Self {
        let config = &context.config;
        let member = context.directory.admit(|id| {
            Member::new(
                id,
                Outbox::new(config.outbox, framing, link, context.metrics.clone()),
            )
        });
        context.metrics.sessions_open.inc();
        context.metrics.sessions_total.inc();
        let greeting = ServerMessage::Session {
            session_id: member.id,
            heartbeat_ms: u64::try_from(config.heartbeat.as_millis()).unwrap_or(u64::MAX),
            ice_servers: &config.ice_servers,
            limits: Limits {
                max_message_bytes: config.max_message_bytes as u64,
                max_messages_per_second: config.max_messages_per_second,
                message_burst: config.message_burst,
            },
        };
        // If the user has gone already, the transport finds out by itself.
        let _ = member.outbox.send(&greeting);
        let rate = Rate::new(config.max_messages_per_second, config.message_burst, now);
        Self {
            context,
            member,
            ticket: None,
            room: None,
            avoid: None,
            rate,
            last_message: now,
            left: false,
        }
    }

    /// Who this is, to others.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Takes one message of the user. An error means that the connection is to be closed.
    pub fn receive(
        &mut self,
        text: &str,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), LeaveReason> {
        self.last_message = read_at;
        if !self.rate.allows(read_at) {
            return self.over_rate(pending);
        }
        let request = match parse(text) {
            Ok(request) => request,
            Err(refusal) => {
                let id = serde_json::from_str::<IdOnly<'_>>(text)
                    .ok()
                    .and_then(|only| only.id);
                self.refuse(&refusal, id, pending);
                return Ok(());
            }
        };
        if let Err(refusal) = self.carry_out(&request, read_at, pending) {
            self.refuse(&refusal, request.id, pending);
        }
        Ok(())
    }

    /// Counts a transport's own frame, such as a ping, against the user's rate.
    pub fn control_frame(
        &mut self,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), LeaveReason> {
        if self.rate.allows(read_at) {
            Ok(())
        } else {
            self.over_rate(pending)
        }
    }

    /// Counts bytes that came from the user.
    pub fn count_received(&self, bytes: usize) {
        self.context.metrics.received_bytes(bytes);
    }

    /// Counts a limit of the transport that the user has hit.
    pub fn limit_hit(&self, limit: &'static str) {
        self.context.metrics.limit_hit(limit);
    }

    /// Sends a frame of the transport's own, such as a ping.
    pub fn send_framed(&self, frame: &[u8]) {
        let mut batch = Batch::default();
        batch.push_framed(frame);
        // A refusal means that this session is being closed.
        let _ = self.member.outbox.send_batch(&batch, None);
    }

    /// Queues a frame of the transport among the answers to the user.
    pub fn answer_framed(&self, frame: &[u8], pending: &mut Pending) {
        pending.answers.push_framed(frame);
    }

    /// Sends what is pending. To be called at the end of each read.
    pub fn flush(&mut self, read_at: Instant, pending: &mut Pending) {
        if !pending.relay.is_empty()
            && let Err(refusal) = self.flush_relay(read_at, pending)
        {
            self.refuse(&refusal, None, pending);
        }
        if !pending.answers.is_empty() {
            // A refusal means that this session is being closed.
            let _ = self.member.outbox.send_batch(&pending.answers, None);
            pending.answers.clear();
        }
    }

    /// When [`Self::on_deadline`] has something to do.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if let Some(ticket) = &self.ticket
            && let Some(step) = self.context.matchmaker.next_step(ticket, now)
        {
            return Some(step);
        }
        let idle_timeout = self.context.config.idle_timeout;
        (!idle_timeout.is_zero()).then(|| self.last_message + idle_timeout)
    }

    /// Widens the user's criteria when it is time. An error means that the user was idle for too long.
    pub fn on_deadline(&mut self, now: Instant) -> Result<(), LeaveReason> {
        let place = self.member.place();
        match place {
            Place::Waiting => {
                if let Some(ticket) = &self.ticket {
                    self.context.matchmaker.advance(ticket, now);
                }
            }
            Place::Idle => {
                let idle_timeout = self.context.config.idle_timeout;
                if !idle_timeout.is_zero() && now >= self.last_message + idle_timeout {
                    self.context.metrics.limit_hit("idle_timeout");
                    return Err(LeaveReason::IdleTimeout);
                }
            }
            Place::InRoom | Place::Gone => {}
        }
        if place != Place::Idle {
            // The idle time counts from the end of waiting or of being with others.
            self.last_message = now;
        }
        Ok(())
    }

    /// Removes the user from everything. The first reason counts.
    pub fn leave(&mut self, reason: LeaveReason) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        self.room = None;
        if let Some(ticket) = self.ticket.take() {
            self.context.matchmaker.cancel(&ticket);
        }
        self.member.go(reason);
        self.context.directory.remove(self.member.id);
        self.context.metrics.sessions_open.dec();
        self.context.metrics.closed(reason);
        match reason {
            LeaveReason::Closed | LeaveReason::Lost | LeaveReason::Draining => {
                tracing::debug!(session = %self.member.id, reason = reason.as_str(), "left");
            }
            _ => tracing::info!(session = %self.member.id, reason = reason.as_str(), "closed"),
        }
    }

    fn over_rate(&mut self, pending: &mut Pending) -> Result<(), LeaveReason> {
        self.context.metrics.limit_hit("max_messages_per_second");
        self.context.metrics.dropped("rate_limited", 1);
        if self.rate.goes_on() {
            return Err(LeaveReason::RateLimited);
        }
        let config = &self.context.config;
        let message = format!(
            "more than {} messages a second; this one was dropped. Send less, or be disconnected",
            config.max_messages_per_second
        );
        self.refuse(&Refusal(ErrorCode::RateLimited, message), None, pending);
        Ok(())
    }

    fn carry_out(
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
                pending.answers.push_json(
                    self.member.outbox.framing(),
                    &ServerMessage::Pong { id: request.id },
                );
                return Ok(());
            }
            _ => {
                // What follows speaks to users directly: it must not overtake what was said before it.
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
                if let Some(partner) = self.leave_room(LeaveReason::Next) {
                    let until = now + self.context.matchmaker.config().avoid_partner_for;
                    self.avoid = Some(Avoid { partner, until });
                }
                self.find(wish, request.id, now)
            }
            ClientType::CancelMatch => {
                let cancelled = self
                    .ticket
                    .take()
                    .is_some_and(|ticket| self.context.matchmaker.cancel(&ticket));
                if !cancelled {
                    let text =
                        "you are not waiting: nothing was asked for, or the match was faster";
                    return Err(Refusal::new(ErrorCode::NotWaiting, text));
                }
                self.acknowledge(request.id, pending);
                Ok(())
            }
            ClientType::LeaveRoom => {
                if self.leave_room(LeaveReason::Left).is_none() {
                    return Err(not_in_room());
                }
                self.acknowledge(request.id, pending);
                Ok(())
            }
            _ => Err(Refusal::new(
                ErrorCode::UnknownType,
                "this type is not known; see the list in the README",
            )),
        }
    }

    fn find_match(&mut self, request: &Request<'_>, now: Instant) -> Result<(), Refusal> {
        let wish = self.check_find(request)?;
        self.find(wish, request.id, now)
    }

    fn check_find(&self, request: &Request<'_>) -> Result<Wish, Refusal> {
        if self.context.draining.load(Ordering::Relaxed) {
            let text = "this server is about to stop; connect again to reach another";
            return Err(Refusal::new(ErrorCode::Draining, text));
        }
        let criteria = request.criteria.as_ref();
        Wish::new(criteria.unwrap_or(&Criteria::default()))
            .map_err(|message| Refusal(ErrorCode::InvalidCriteria, message))
    }

    fn find(&mut self, wish: Wish, id: Option<&RawValue>, now: Instant) -> Result<(), Refusal> {
        let avoid = self.avoid.filter(|avoid| now < avoid.until);
        let found = self.context.matchmaker.find(
            &self.member,
            wish,
            avoid,
            id.map(RawValue::to_owned),
            now,
        );
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
        self.member.confirm_waiting(ticket.request_id());
        self.ticket = ticket.is_waiting().then_some(ticket);
        Ok(())
    }

    fn leave_room(&mut self, reason: LeaveReason) -> Option<voicematch_protocol::SessionId> {
        self.room = None;
        self.member.leave_room(reason)
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
        if pending.relay.is_empty()
            && !self
                .room
                .as_ref()
                .is_some_and(|room| self.member.is_in(room))
        {
            self.room = self.member.room();
        }
        let Some(room) = &self.room else {
            return Err(not_in_room());
        };
        let peer = room.peer_of(self.member.id);
        if request
            .to
            .as_deref()
            .is_some_and(|to| to.as_bytes() != peer.id.digits())
        {
            return Err(Refusal::new(
                ErrorCode::UnknownPeer,
                "to names nobody in this room",
            ));
        }
        let (head, len) = relay_head(kind, self.member.id);
        pending.relay.push(
            peer.outbox.framing(),
            &[&head[..len], payload.get().as_bytes(), RELAY_TAIL],
        );
        pending.relayed[kind.index()] += 1;
        if kind == RelayKind::Message && request.id.is_some() {
            self.flush_relay(read_at, pending)?;
            self.acknowledge(request.id, pending);
        }
        Ok(())
    }

    /// Hands the pending relays to the partner.
    fn flush_relay(&mut self, read_at: Instant, pending: &mut Pending) -> Result<(), Refusal> {
        let relayed = std::mem::take(&mut pending.relayed);
        let Some(room) = &self.room else {
            return Ok(());
        };
        let outcome = self.member.relay(room, &pending.relay, read_at);
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
            Err(NotRelayed::Refused(refused)) => {
                metrics.dropped(refused.label(), pending.relay.len())
            }
            Err(NotRelayed::NotInRoom) => metrics.dropped("peer_left", pending.relay.len()),
        }
        pending.relay.clear();
        outcome.map_err(|_| {
            self.room = None;
            not_in_room()
        })
    }

    fn acknowledge(&self, id: Option<&RawValue>, pending: &mut Pending) {
        if let Some(id) = id {
            pending
                .answers
                .push_json(self.member.outbox.framing(), &ServerMessage::Ack { id });
        }
    }

    fn refuse(&self, refusal: &Refusal, id: Option<&RawValue>, pending: &mut Pending) {
        let Refusal(code, message) = refusal;
        self.context.metrics.error(*code);
        let error = ServerMessage::Error {
            code: *code,
            message,
            temporary: code.temporary(),
            id,
        };
        pending
            .answers
            .push_json(self.member.outbox.framing(), &error);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave(LeaveReason::Lost);
        self.member.outbox.detach();
    }
}

/// What is read of a message that is otherwise unreadable.
#[derive(Deserialize)]
struct IdOnly<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

fn parse(text: &str) -> Result<Request<'_>, Refusal> {
    if !text.trim_start().starts_with('{') {
        return Err(Refusal::new(
            ErrorCode::BadJson,
            "a message is one JSON object with a \"type\"",
        ));
    }
    serde_json::from_str(text).map_err(|error| {
        let code = if error.is_data() {
            ErrorCode::BadMessage
        } else {
            ErrorCode::BadJson
        };
        Refusal(code, error.to_string())
    })
}

fn not_in_room() -> Refusal {
    Refusal::new(
        ErrorCode::NotInRoom,
        "you are in no room, or your partner has just left; send find_match",
    )
}
