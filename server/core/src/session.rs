//! One user's session: idle -> waiting -> in a room -> gone. It knows no sockets: a transport gives it
//! the user's messages, and the outbox writes to the user.

mod call_report;
pub mod close_log;
mod conduct;
mod drain;
mod ice;
#[cfg(test)]
mod model;
mod persons;
mod rejoin;
mod requests;
mod resumable;
mod resume;
pub mod take;
#[cfg(test)]
mod tests;
mod token;
mod view;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use voicematch_protocol::{
    ClientType, CloseReason, ErrorCode, IceServer, LeaveReason, Limits, RelayKind, ServerMessage,
};

pub use crate::rate::RateLimit;
use crate::{
    address::UserAddress,
    directory::Directory,
    identity::{Due, Identify, Identity},
    live::Live,
    matchmaker::{Avoid, Matchmaker, Ticket},
    memory::Memory,
    metrics::{Metrics, Transport},
    outbox::{Batch, Link, Outbox, OutboxLimits},
    rate::Rate,
    room::{Member, Room, Shared, named::NamedRooms, pending::PendingRooms, ticket::RoomKeys},
    trace::Trace,
};
use close_log::CloseLog;
pub use ice::{IceConfig, Turn};
pub use persons::Persons;
use requests::{Refusal, id_of, parse};
pub use resumable::{Attached, CannotResume, Locked, Resumable, Resumables};
pub use resume::{HeldAddress, ResumeConfig};
use resume::{Resume, millis};
pub use take::Takes;
pub use token::Token;
pub use view::{Carried, SessionView, Wait};

/// The limits of sessions, and what the greeting says.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConfig {
    /// Part of the greeting; the transport keeps to it.
    pub heartbeat: Duration,
    /// Part of the greeting; the transport keeps to it.
    pub max_message_bytes: usize,
    /// How many messages users may send.
    pub rate: RateLimit,
    /// How long a user may be silent, neither waiting nor in a room; zero: for ever.
    pub idle_timeout: Duration,
    /// The bounds of each outbox.
    pub outbox: OutboxLimits,
    /// How resumable sessions behave.
    pub resume: ResumeConfig,
    /// Part of the greeting.
    pub ice: IceConfig,
}

impl SessionConfig {
    /// The longest time between two pings of a resumable session: users who neither wait nor talk are pinged no more often.
    fn longest_beat(&self) -> Duration {
        self.heartbeat.max(self.resume.heartbeat)
    }
}

/// What all sessions share.
pub struct Context {
    pub config: Live<SessionConfig>,
    pub matchmaker: Matchmaker,
    pub directory: Directory,
    pub persons: Persons,
    /// Reads the tokens of `renew_token`, where the app says who may come in.
    pub identify: Option<Arc<dyn Identify>>,
    pub named_rooms: NamedRooms,
    /// Rooms that died with another process.
    pub pending_rooms: Arc<PendingRooms>,
    /// What all rooms share: who hears of them, and who has blocked whom.
    pub shared: Arc<Shared>,
    /// What signs room tickets.
    pub room_keys: Arc<RoomKeys>,
    /// The sessions that outlive a connection.
    pub resumables: Resumables,
    /// Those that are on their way to or from another node.
    pub takes: Takes,
    /// Those that have none now.
    pub detached: AtomicUsize,
    pub metrics: Arc<Metrics>,
    /// What connections use.
    pub memory: Arc<Memory>,
    /// Where unusual ends of sessions are logged.
    pub close_log: CloseLog,
    /// Is told of the ends of sessions.
    pub trace: Option<Arc<dyn Trace>>,
    /// Set when the server is about to stop: no new matches.
    pub draining: AtomicBool,
}

/// Who begins a session.
#[derive(Default)]
pub struct Arrival {
    /// What the app has said of them.
    pub identity: Option<Box<Identity>>,
    /// The count under the address; dropped when the session ends.
    pub held: Option<Box<dyn HeldAddress>>,
    /// Where they are.
    pub address: UserAddress,
}

impl Pending {
    /// Clears what a panic may have left behind.
    pub fn clear(&mut self) {
        self.relay.clear();
        self.relayed = Default::default();
        self.answers.clear();
    }
}

/// What one read of a user's messages has given rise to and is not sent yet: the messages for the
/// partner, and the answers to the user. A worker has one, and each read leaves it empty.
#[derive(Default)]
pub struct Pending {
    relay: Batch,
    relayed: [u32; RelayKind::ALL.len()],
    answers: Batch,
}

/// One user's session. Dropping it removes the user from everything. What each message touches stands first.
#[repr(C)]
pub struct Session {
    context: Arc<Context>,
    member: Arc<Member>,
    /// The room that relays go to, as long as it is the member's: asked of the seat only when it changes.
    room: Option<Arc<Room>>,
    resume: Option<Box<Resume>>,
    last_message: Instant,
    /// When the ticket's criteria widen, or a former partner may be met again.
    next_step: Option<Instant>,
    /// For the ticket `waiting` has not been sent yet.
    is_untold: bool,
    left: bool,
    rate: Rate,
    ticket: Option<Arc<Ticket>>,
    /// The room before, as far as the seat does not know it, for who blocks or reports the last partner, or their call.
    last_room: Option<Arc<Room>>,
    avoid: Vec<Avoid>,
}

impl Session {
    /// Begins a session that ends with its connection. It writes to `link`, and greets the user; `preface` goes out before the
    /// greeting.
    pub fn open(
        context: Arc<Context>,
        link: Box<dyn Link>,
        preface: &[u8],
        arrival: Arrival,
        now: Instant,
    ) -> Self {
        let config = context.config.get();
        context.count_session(Transport::WebSocket);
        let mut draining = false;
        // The greeting comes first: no other code, nor the drain, finds the user before `admit` returns.
        let member = context.directory.admit(|id| {
            let outbox = context.outbox(Some(link));
            draining = context.draining.load(Ordering::Relaxed);
            let mut first = Batch::default();
            first.push_framed(preface);
            let ice_servers = config.ice.of(id, SystemTime::now());
            let member = Member::new(id, outbox, false, arrival.identity);
            member.set_address(arrival.address);
            first.push_json(&greeting(config, &member, None, &ice_servers));
            // If the user has gone already, the transport finds out by itself.
            let _ = member.outbox.send_batch(&first, None);
            member
        });
        Self::begin(context, member, None, draining, now)
    }

    /// A session whose user has been greeted.
    fn begin(
        context: Arc<Context>,
        member: Arc<Member>,
        resume: Option<Box<Resume>>,
        draining: bool,
        now: Instant,
    ) -> Self {
        if draining {
            // The drain has passed already, so this user gets no `draining`.
            member.outbox.close(CloseReason::Draining);
        }
        context.persons.enter(&member);
        Self::new(context, member, resume, now)
    }

    /// An idle session, which is in no list yet.
    fn new(
        context: Arc<Context>,
        member: Arc<Member>,
        resume: Option<Box<Resume>>,
        now: Instant,
    ) -> Self {
        let rate = Rate::new(now);
        Self {
            context,
            member,
            room: None,
            resume,
            last_message: now,
            next_step: None,
            is_untold: false,
            left: false,
            rate,
            ticket: None,
            last_room: None,
            avoid: Vec::new(),
        }
    }

    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Takes one message of the user. An error means that the connection is to be closed.
    pub fn receive(
        &mut self,
        text: &str,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), CloseReason> {
        self.tell_waiting();
        if self.resume.is_some() && !self.take_numbers(text, read_at, pending)? {
            return Ok(());
        }
        self.last_message = read_at;
        let limit = rate_limit(self.context.config.get(), &self.member);
        if !self.rate.allows(limit, read_at) {
            return self.over_rate(pending);
        }
        let request = match parse(text) {
            Ok(request) => request,
            Err(refusal) => {
                let id = id_of(text);
                self.refuse(&refusal, id, pending);
                return Ok(());
            }
        };
        let done = match request.kind {
            ClientType::Leave => return Err(CloseReason::Closed),
            ClientType::JoinRoom | ClientType::Rejoin => {
                self.go_to_room(text, &request, read_at, pending)
            }
            ClientType::RenewToken => self.renew_token(text, &request, read_at, pending),
            ClientType::Block | ClientType::Report => {
                self.block_or_report(text, &request, read_at, pending)
            }
            ClientType::CallReport => self.call_report(text, &request, pending),
            _ => self.carry_out(&request, read_at, pending),
        };
        if let Err(refusal) = done {
            self.refuse(&refusal, request.id, pending);
        }
        if self.resume.is_some() {
            self.ping_if_owed(read_at);
        }
        Ok(())
    }

    /// Takes a transport's own frame, such as a ping or a part of a message, out of the user's budget.
    /// False: the budget is empty, and the frame must be ignored.
    pub fn control_frame(
        &mut self,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<bool, CloseReason> {
        let limit = rate_limit(self.context.config.get(), &self.member);
        let allowed = self.rate.allows(limit, read_at);
        if !allowed {
            self.over_rate(pending)?;
        }
        Ok(allowed)
    }

    /// Counts bytes that came from the user.
    pub fn count_received(&self, bytes: usize) {
        self.context.metrics.received_bytes(bytes);
    }

    /// Counts memory of the transport's own: `to` bytes now, `from` before.
    pub fn count_memory(&self, from: usize, to: usize) {
        self.member.outbox.memory().change(from, to);
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

    /// Whether [`Self::tell_waiting`] would send. Call that after the other ready connections had their turn:
    /// often one of them is the partner, and `waiting` need not be sent at all.
    pub fn is_untold(&self) -> bool {
        self.is_untold
    }

    /// Tells the user that they wait, unless they have been matched meanwhile.
    pub fn tell_waiting(&mut self) {
        if std::mem::take(&mut self.is_untold)
            && let Some(ticket) = &self.ticket
        {
            self.member.confirm_waiting(ticket.request_id());
        }
    }

    /// Sends all pending messages. Call it at the end of each read.
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
    pub fn deadline(&self) -> Option<Instant> {
        let idle_timeout = self.context.config.get().idle_timeout;
        let idle_at = (!idle_timeout.is_zero()).then(|| self.last_message + idle_timeout);
        let own = self.next_step.or(idle_at);
        let expiry = self.member.identity.as_deref().map(Identity::due_at);
        [own, expiry, self.resume_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Widens the user's criteria when it is time. An error means that the user was idle for too long, or does not
    /// answer.
    pub fn on_deadline(&mut self, now: Instant) -> Result<(), CloseReason> {
        if self.resume.is_some() {
            self.on_resume_deadline(now)?;
        }
        self.check_expiry(now)?;
        let idle_timeout = self.context.config.get().idle_timeout;
        if self.next_step.is_some_and(|step| step <= now) {
            let ticket = self.ticket.as_ref();
            let ticket = ticket.filter(|_| !self.context.draining.load(Ordering::Relaxed));
            self.next_step = ticket.and_then(|ticket| self.context.matchmaker.advance(ticket, now));
        } else {
            // The idle time counts from the end of waiting or of being with others.
            let busy_until = self.member.idle_since().unwrap_or(now);
            self.last_message = self.last_message.max(busy_until);
            if !idle_timeout.is_zero() && now >= self.last_message + idle_timeout {
                self.context.metrics.limit_hit("idle_timeout");
                return Err(CloseReason::IdleTimeout);
            }
        }
        Ok(())
    }

    /// Tells the user that the token ends soon, where they can know what that means; an error: it has ended.
    fn check_expiry(&self, now: Instant) -> Result<(), CloseReason> {
        let due = self
            .member
            .identity
            .as_deref()
            .map(|identity| identity.due(now));
        match due {
            Some(Due::End) => Err(CloseReason::TokenExpired),
            Some(Due::Announce(left)) if self.resume.is_some() => {
                let expires_in_ms = millis(left);
                // A refusal means that this session is being closed.
                let message = ServerMessage::TokenExpiring { expires_in_ms };
                let _ = self.member.outbox.send(&message);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Removes the user from everything. The first reason counts.
    pub fn leave(&mut self, reason: CloseReason) {
        if self.has_gone() {
            // It is another node's.
            return;
        }
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        (self.room, self.last_room) = (None, None);
        let ticket = self.ticket.take();
        let matched = ticket.filter(|ticket| !self.context.matchmaker.cancel(ticket));
        // With the ticket of the room the user may come to the next server.
        let returns = reason == CloseReason::Draining;
        self.give_up_rejoin((!returns).then_some(LeaveReason::Ended(reason)));
        self.end_polls();
        self.leave_named_room(LeaveReason::Ended(reason));
        self.member.go(reason);
        if let Some(ticket) = matched {
            self.context.matchmaker.bury(&ticket);
        }
        self.context.shared.forget_blocks(&self.member);
        self.context.directory.remove(self.member.id);
        self.context.persons.leave(&self.member);
        self.uncount();
        if self.resume.is_some() {
            self.member.outbox.close(reason);
            match self.ended_until() {
                None => self.forget(),
                Some(_) => self.member.outbox.shrink(reason != CloseReason::Closed),
            }
        }
        self.context.metrics.sessions_open.dec();
        self.context.metrics.closed(reason);
        if let Some(trace) = &self.context.trace {
            trace.closed(self.member.id, reason);
        }
        match reason {
            CloseReason::Closed | CloseReason::Lost | CloseReason::Draining => {
                tracing::debug!(session = %self.member.id, reason = reason.as_str(), "left");
            }
            _ => self.context.close_log.closed(self.member.id, reason),
        }
    }

    fn over_rate(&mut self, pending: &mut Pending) -> Result<(), CloseReason> {
        self.context.metrics.limit_hit("max_messages_per_second");
        self.context.metrics.dropped("rate_limited", 1);
        let limit = rate_limit(self.context.config.get(), &self.member);
        if self.rate.goes_on(limit) {
            return Err(CloseReason::RateLimited);
        }
        let message = format!(
            "more than {} messages a second; this one was dropped. Send less, or be disconnected",
            limit.per_second
        );
        self.refuse(&Refusal(ErrorCode::RateLimited, message), None, pending);
        Ok(())
    }
}

/// How much this user may send.
#[inline]
fn rate_limit<'a>(config: &'a SessionConfig, member: &'a Member) -> &'a RateLimit {
    let identity = member.identity.as_deref();
    let own = identity.and_then(|identity| identity.rate.as_ref());
    own.unwrap_or(&config.rate)
}

/// The first message of a session. `token`: for a resumable one.
fn greeting<'a>(
    config: &'a SessionConfig,
    member: &'a Member,
    token: Option<&'a str>,
    ice_servers: &'a [IceServer],
) -> ServerMessage<'a> {
    let rate = rate_limit(config, member);
    ServerMessage::Session {
        session_id: member.id,
        resume_token: token,
        resume_window_ms: token.map(|_| millis(config.resume.window)),
        heartbeat_ms: millis(match token {
            Some(_) => config.longest_beat(),
            None => config.heartbeat,
        }),
        ice_servers,
        limits: Limits {
            max_message_bytes: config.max_message_bytes as u64,
            max_messages_per_second: rate.per_second,
            message_burst: rate.burst,
        },
    }
}

impl Context {
    /// Counts a session that begins, before its user can know of it.
    fn count_session(&self, transport: Transport) {
        self.metrics.sessions_open.inc();
        self.metrics.sessions_total.inc();
        self.metrics.attached(transport);
    }

    fn outbox(&self, link: Option<Box<dyn Link>>) -> Outbox {
        let limits = self.config.get().outbox;
        Outbox::new(limits, link, self.metrics.clone(), self.memory.clone())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave(CloseReason::Lost);
        self.member.outbox.end();
    }
}
