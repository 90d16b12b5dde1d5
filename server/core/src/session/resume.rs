//! What makes a session resumable: numbers on the client's messages, heartbeats that the client's program answers, and
//! the time without a connection.

use std::{
    num::NonZero,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use voicematch_protocol::{ClientType, CloseReason, ErrorCode, Numbers, ServerMessage};

use super::{
    Pending, Session,
    rejoin::Rejoining,
    requests::{Refusal, id_of, parse_numbers},
    take::Moving,
    token::Tokens,
};
use crate::{
    metrics::Transport,
    outbox::LogLimits,
    pause,
    room::{Place, pending},
};

/// How resumable sessions behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeConfig {
    /// How long a session waits for a new connection.
    pub window: Duration,
    /// How often a user who waits or is in a room is asked whether they are still there.
    pub heartbeat: Duration,
    /// How long after that the answer must have come. A waiting user who owes it for five sixths of this is matched
    /// with nobody.
    pub deadline: Duration,
    /// The most that is kept of what was sent.
    pub log: LogLimits,
    /// Sessions without a connection, in all.
    pub max_detached: usize,
}

impl ResumeConfig {
    fn park_after(&self) -> Duration {
        self.deadline / 6 * 5
    }
}

/// When the next poll is to come while something goes on: a call is being set up, or people talk.
const POLL_BUSY: Duration = Duration::from_millis(250);

/// When the next poll is to come else.
const POLL_QUIET: Duration = Duration::from_secs(5);

/// How long something goes on after a message.
const BUSY_FOR: Duration = Duration::from_secs(15);

/// How late a poll may be.
const POLL_PATIENCE: Duration = Duration::from_secs(10);

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// A connection.
    Connection,
    /// Polls: the next one must come until then. `None`: one is held open.
    Polls { until: Option<Instant> },
    /// Nothing, since then.
    Nothing { since: Instant },
}

/// The count of a session under its user's address; it ends when this is dropped.
pub trait HeldAddress: Send + Sync {
    /// The user has shown something that is forged.
    fn forged(&self, now: Instant);
}

/// The part of a session that only resumable ones have.
pub(super) struct Resume {
    pub(super) tokens: Tokens,
    /// The number of the last message of the client.
    pub(super) received: u64,
    /// The session is about to end with a drain: what the client sends now is for its next one.
    pub(super) takes_no_more: bool,
    /// Counts the connections.
    pub(super) epoch: u32,
    /// The latest transport.
    pub(super) transport: Transport,
    pub(super) carrier: Carrier,
    pinged_at: Option<Instant>,
    next_ping: Instant,
    /// What the last ping said of the next one.
    promised_ms: u64,
    pub(super) parked: bool,
    /// Calls that the client has reported since it asked for a named room. Another node counts anew.
    pub(super) room_reports: u8,
    /// Whether it has a task that keeps the time while no connection does.
    kept: bool,
    /// Something was said, or is about to be: polls are to come soon.
    busy_until: Instant,
    /// When the credentials of TURN servers are to be renewed; `None`: there are none, and it costs little.
    pub(super) renew_ice: Option<Box<Instant>>,
    /// The session is on its way to another node.
    pub(super) moving: Option<Box<Moving>>,
    /// The room for whose other member the user waits.
    pub(super) rejoining: Option<Box<Rejoining>>,
    /// The latest match whose call the client has reported.
    pub(super) reported: Option<NonZero<u64>>,
    /// Counts the session under its user's address, as long as it is there or its end is to be seen.
    pub(super) held: Option<Box<dyn HeldAddress>>,
}

impl Resume {
    pub(super) fn new(
        tokens: Tokens,
        transport: Transport,
        carrier: Carrier,
        beat: Duration,
        now: Instant,
    ) -> Self {
        Self {
            tokens,
            received: 0,
            takes_no_more: false,
            epoch: 1,
            transport,
            carrier,
            pinged_at: None,
            next_ping: now + beat,
            promised_ms: millis(beat),
            parked: false,
            room_reports: 0,
            kept: false,
            busy_until: now,
            renew_ice: None,
            moving: None,
            rejoining: None,
            reported: None,
            held: None,
        }
    }
}

impl Session {
    /// Looks at the numbers of a message of a resumable session. False: the message is dealt with. An error means that
    /// the session is to be closed.
    #[inline(never)]
    pub(super) fn take_numbers(
        &mut self,
        text: &str,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<bool, CloseReason> {
        self.heard(read_at);
        let Numbers { kind, seq, ack } = match parse_numbers(text) {
            Ok(numbers) => numbers,
            Err(refusal) => {
                if self.control_frame(read_at, pending)? {
                    self.refuse(&refusal, id_of(text), pending);
                }
                return Ok(false);
            }
        };
        if let Some(ack) = ack {
            self.member.outbox.confirm(ack);
        }
        match (kind, seq) {
            (ClientType::Pong, _) => {
                self.context.metrics.request(kind);
                self.control_frame(read_at, pending)?;
                Ok(false)
            }
            (ClientType::Ping | ClientType::Leave, _) => Ok(true),
            (_, Some(seq)) => self.is_next(seq, read_at, pending),
            (_, None) => {
                if self.control_frame(read_at, pending)? {
                    let text =
                        "seq is missing: number your messages 1, 2, 3 in a resumable session";
                    let refusal = Refusal(ErrorCode::BadMessage, text.into());
                    self.refuse(&refusal, None, pending);
                }
                Ok(false)
            }
        }
    }

    /// Whether a message with this number is to be taken: it is new, and the next. Its number is used up
    /// then, whatever becomes of it, as a client that sends it again must not wait for ever.
    fn is_next(
        &mut self,
        seq: u64,
        now: Instant,
        pending: &mut Pending,
    ) -> Result<bool, CloseReason> {
        let Some(resume) = &mut self.resume else {
            return Ok(true);
        };
        if resume.takes_no_more && seq > resume.received {
            return Ok(false);
        }
        if seq == resume.received + 1 {
            resume.received = seq;
            return Ok(true);
        }
        let received = resume.received;
        if seq <= received {
            self.context.metrics.duplicates_dropped.inc();
            let limit = super::rate_limit(self.context.config.get(), &self.member);
            // No warning: who sends again does what is right.
            if !self.rate.allows(limit, now) && self.rate.goes_on(limit) {
                self.context.metrics.limit_hit("max_messages_per_second");
                return Err(CloseReason::RateLimited);
            }
        } else if self.control_frame(now, pending)? {
            self.context.metrics.error(ErrorCode::Gap);
            let next = received + 1;
            let message =
                format!("message {seq} came, and {next} is missing; send again from {next}");
            pending.answers.push_json(&ServerMessage::Error {
                code: ErrorCode::Gap,
                message: &message,
                temporary: ErrorCode::Gap.temporary(),
                received: Some(received),
                id: None,
            });
        }
        Ok(false)
    }

    /// The number of the last message of the client.
    pub fn received(&self) -> u64 {
        self.resume.as_ref().map_or(0, |resume| resume.received)
    }

    /// Whether the client is to keep new messages for its next session.
    pub fn takes_no_more(&self) -> bool {
        let resume = self.resume.as_ref();
        resume.is_some_and(|resume| resume.takes_no_more)
    }

    /// The user's program is there. Who speaks over another connection while none carries the session could not hear of
    /// a match, and stays parked.
    pub(super) fn heard(&mut self, now: Instant) {
        let Some(resume) = &mut self.resume else {
            return;
        };
        resume.pinged_at = None;
        if matches!(resume.carrier, Carrier::Nothing { .. }) {
            return;
        }
        if self.set_parked(false)
            && let Some(ticket) = &self.ticket
        {
            self.next_step = self.context.matchmaker.unpark(ticket, now);
        }
    }

    /// Takes the user out of the pools until they are heard again.
    pub(super) fn park(&mut self) {
        let (Some(_), Some(ticket)) = (&self.resume, &self.ticket) else {
            return;
        };
        if self.context.matchmaker.park(ticket) {
            self.set_parked(true);
            self.next_step = None;
        }
    }

    /// Whether the user's ticket is parked now; returns whether it was.
    pub(super) fn set_parked(&mut self, parked: bool) -> bool {
        let Some(resume) = &mut self.resume else {
            return false;
        };
        let before = std::mem::replace(&mut resume.parked, parked);
        match (before, parked) {
            (false, true) => self.context.metrics.parked.inc(),
            (true, false) => self.context.metrics.parked.dec(),
            _ => {}
        }
        before
    }

    fn can_be_matched(&self) -> bool {
        let ticket = self.ticket.as_ref();
        ticket.is_some_and(|ticket| ticket.is_waiting())
    }

    /// How often the user is pinged, where they are now.
    fn beat(&self) -> Duration {
        let config = self.context.config.get();
        match self.member.place() {
            Place::Waiting | Place::InRoom => config.resume.heartbeat,
            Place::Idle | Place::Gone => config.longest_beat(),
        }
    }

    /// Pings at once if the last ping has promised less than the user's new place asks for.
    pub(super) fn ping_if_owed(&mut self, now: Instant) {
        let promised_ms = self.resume.as_ref().map(|resume| resume.promised_ms);
        if promised_ms.is_some_and(|promised_ms| millis(self.beat()) < promised_ms) {
            self.ping(now);
        }
    }

    pub(super) fn ping(&mut self, now: Instant) {
        let beat = self.beat();
        let Some(resume) = &mut self.resume else {
            return;
        };
        if resume.carrier != Carrier::Connection {
            return;
        }
        let ping = ServerMessage::Ping {
            received: resume.received,
            next_ms: millis(beat),
        };
        resume.pinged_at.get_or_insert(now);
        resume.next_ping = now + beat;
        resume.promised_ms = millis(beat);
        match serde_json::to_vec(&ping) {
            Ok(ping) => self.member.outbox.send_unnumbered("ping", &ping),
            Err(error) => tracing::error!(%error, "a ping could not be written"),
        }
    }

    /// When [`Self::on_resume_deadline`] has something to do.
    pub(super) fn resume_deadline(&self) -> Option<Instant> {
        let rejoining = self.resume.as_ref()?.rejoining.as_deref();
        let own = self.carrier_deadline();
        let rejoining = rejoining.map(|rejoining| rejoining.until);
        [own, rejoining, self.renew_ice_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the user is to be told of new credentials; who is away gets them on coming back.
    fn renew_ice_at(&self) -> Option<Instant> {
        let resume = self.resume.as_ref()?;
        let due = resume.renew_ice.as_deref().copied();
        due.filter(|_| !self.is_detached())
    }

    /// Tells the user of new credentials when it is time.
    fn renew_ice(&mut self, now: Instant) {
        if self.renew_ice_at().is_none_or(|due| due > now) {
            return;
        }
        let ice = &self.context.config.get().ice;
        let ice_servers = ice.of(self.member.id, SystemTime::now());
        let message = ServerMessage::IceServers {
            ice_servers: &ice_servers,
        };
        // A refusal means that this session is being closed.
        let _ = self.member.outbox.send(&message);
        if let Some(resume) = &mut self.resume {
            resume.renew_ice = ice.renew_after().map(|after| Box::new(now + after));
        }
    }

    fn carrier_deadline(&self) -> Option<Instant> {
        let resume = self.resume.as_ref()?;
        let config = &self.context.config.get().resume;
        match resume.carrier {
            Carrier::Nothing { since } if self.member.is_vacant() => Some(since + pending::WAIT),
            Carrier::Nothing { since } => Some(since + config.window),
            Carrier::Polls { until } => until,
            Carrier::Connection => Some(match resume.pinged_at {
                None => resume.next_ping,
                Some(pinged) if self.can_be_matched() => pinged + config.park_after(),
                Some(pinged) => pinged + config.deadline,
            }),
        }
    }

    /// Does what is due. An error means that the user is not there.
    pub(super) fn on_resume_deadline(&mut self, now: Instant) -> Result<(), CloseReason> {
        self.rejoin_over(now);
        self.renew_ice(now);
        if self
            .carrier_deadline()
            .is_none_or(|deadline| deadline > now)
        {
            return Ok(());
        }
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        match (resume.carrier, resume.pinged_at) {
            (Carrier::Nothing { since }, _) => {
                if let Some(pause) = pause_since(since, now) {
                    resume.carrier = Carrier::Nothing { since: pause };
                    return Ok(());
                }
                Err(match self.member.is_vacant() {
                    true => CloseReason::TooOld,
                    false => CloseReason::Lost,
                })
            }
            (Carrier::Polls { .. }, _) => Err(CloseReason::HeartbeatTimeout),
            (Carrier::Connection, None) => {
                self.ping(now);
                Ok(())
            }
            (Carrier::Connection, Some(pinged)) => {
                if let Some(pause) = pause_since(pinged, now) {
                    // The answer may be here, and was not read yet.
                    resume.pinged_at = Some(pause);
                    return Ok(());
                }
                if now >= pinged + self.context.config.get().resume.deadline {
                    return Err(CloseReason::HeartbeatTimeout);
                }
                self.park();
                Ok(())
            }
        }
    }

    /// The connection has ended, for this reason. Returns whether the session goes on without one.
    pub fn lose(&mut self, reason: CloseReason, now: Instant) -> bool {
        let in_room = self.member.place() == Place::InRoom;
        let draining = self.context.draining.load(Ordering::Relaxed);
        let cause = match self.resume.as_ref().map(|resume| resume.carrier) {
            _ if self.left => return false,
            Some(Carrier::Nothing { .. }) => return true,
            Some(Carrier::Polls { .. })
                if matches!(reason, CloseReason::Lost | CloseReason::HeartbeatTimeout) =>
            {
                "poll"
            }
            Some(Carrier::Connection) if reason == CloseReason::Lost => "connection",
            Some(Carrier::Connection) if reason == CloseReason::HeartbeatTimeout => "heartbeat",
            _ => {
                self.leave(reason);
                return false;
            }
        };
        self.context.metrics.lost(cause);
        if (draining && !in_room) || !self.count_detached() {
            self.leave(reason);
            return false;
        }
        self.park();
        self.member.set_away(true);
        self.member.outbox.detach(reason);
        if let Some(resume) = &mut self.resume {
            self.context.metrics.detached(resume.transport);
            resume.carrier = Carrier::Nothing { since: now };
            resume.pinged_at = None;
        }
        tracing::debug!(session = %self.member.id, reason = reason.as_str(), "detached");
        true
    }

    /// Counts a session without a connection; false: there may be no more.
    fn count_detached(&self) -> bool {
        let (context, max) = (&self.context, self.context.config.get().resume.max_detached);
        let fits = context.detached.fetch_add(1, Ordering::Relaxed) < max;
        if fits {
            context.metrics.sessions_detached.inc();
        } else {
            context.detached.fetch_sub(1, Ordering::Relaxed);
            context.metrics.limit_hit("max_detached");
        }
        fits
    }

    /// A poll is held now. Returns its epoch.
    pub(super) fn polled(&mut self, now: Instant) -> u32 {
        self.heard(now);
        let Some(resume) = &mut self.resume else {
            return 0;
        };
        if !self.left {
            resume.carrier = Carrier::Polls { until: None };
        }
        resume.epoch += 1;
        resume.epoch
    }

    /// A poll was answered, or its connection is lost. `delivered`: it took messages. Returns when the next one is to
    /// come, where polls are not held.
    pub fn poll_over(&mut self, delivered: bool, now: Instant) -> Duration {
        if delivered {
            self.expect_talk(now);
        }
        let forgotten = self.left && self.ended_until().is_none();
        let Some(resume) = self.resume.as_mut().filter(|_| !forgotten) else {
            return Duration::ZERO;
        };
        let next = match resume.busy_until > now {
            true => POLL_BUSY,
            false => POLL_QUIET,
        };
        resume.carrier = Carrier::Polls {
            until: Some(now + next + POLL_PATIENCE),
        };
        next
    }

    /// Until when a session that has ended is kept for the poll that is to see its end; `None`: nobody polls.
    pub fn ended_until(&self) -> Option<Instant> {
        match self.resume.as_ref()?.carrier {
            Carrier::Polls { until } if self.left => until,
            _ => None,
        }
    }

    /// A session that ends while a poll is held is kept for a while, and no longer.
    pub(super) fn end_polls(&mut self) {
        if let Some(resume) = &mut self.resume
            && let Carrier::Polls { until: None } = resume.carrier
        {
            let until = Some(Instant::now() + POLL_PATIENCE);
            resume.carrier = Carrier::Polls { until };
        }
    }

    /// Forgets a session that has ended: its token opens nothing any more.
    pub fn forget(&mut self) {
        self.context.resumables.remove(&self.member);
        if let Some(resume) = &mut self.resume
            && self.left
        {
            resume.carrier = Carrier::Connection;
            resume.held = None;
        }
    }

    /// More is to be said soon.
    pub fn expect_talk(&mut self, now: Instant) {
        if let Some(resume) = &mut self.resume {
            resume.busy_until = now + BUSY_FOR;
        }
    }

    /// Whether the user's budget has room for one more message.
    pub fn may_send(&self, now: Instant) -> bool {
        let limit = super::rate_limit(self.context.config.get(), &self.member);
        self.rate.has_room(limit, now)
    }

    /// Whether the session needs a task that keeps the time from now on. True only once, until
    /// [`Self::needs_no_keeper`].
    pub fn take_keeper(&mut self) -> bool {
        let resume = self.resume.as_mut();
        resume.is_some_and(|resume| !std::mem::replace(&mut resume.kept, true))
    }

    /// Whether a connection keeps the time, or the session is over: its keeper ends then.
    pub fn needs_no_keeper(&mut self) -> bool {
        let ended = self.left && self.ended_until().is_none();
        let Some(resume) = &mut self.resume else {
            return true;
        };
        resume.kept = !ended && resume.carrier != Carrier::Connection;
        !resume.kept
    }

    /// Whether the session can outlive its connection.
    pub fn is_resumable(&self) -> bool {
        self.resume.is_some()
    }

    /// Whether nothing carries the session now.
    pub fn is_detached(&self) -> bool {
        let carrier = self.resume.as_ref().map(|resume| resume.carrier);
        matches!(carrier, Some(Carrier::Nothing { .. }))
    }

    /// Takes a session that ends out of the counts.
    pub(super) fn uncount(&mut self) {
        self.uncount_carrier();
        self.set_parked(false);
    }

    /// Ends the count of what carries the session.
    pub(super) fn uncount_carrier(&self) {
        let metrics = &self.context.metrics;
        match &self.resume {
            None => metrics.detached(Transport::WebSocket),
            Some(resume) => {
                if matches!(resume.carrier, Carrier::Nothing { .. }) {
                    self.context.detached.fetch_sub(1, Ordering::Relaxed);
                    metrics.sessions_detached.dec();
                } else {
                    metrics.detached(resume.transport);
                }
            }
        }
    }

    /// A connection carries the session from now on.
    pub(super) fn carry(&mut self, transport: Transport, carrier: Carrier, now: Instant) {
        self.uncount_carrier();
        self.member.set_away(false);
        self.context.metrics.attached(transport);
        let beat = self.beat();
        let renew_ice = self.context.config.get().ice.renew_after();
        if let Some(resume) = &mut self.resume {
            resume.transport = transport;
            resume.carrier = carrier;
            // `resumed` has told new ones.
            resume.renew_ice = renew_ice.map(|after| Box::new(now + after));
            resume.next_ping = now + beat;
            resume.promised_ms = millis(beat);
        }
        self.heard(now);
    }
}

/// The end of a pause of this process after `since`: nobody could have been heard in it.
fn pause_since(since: Instant, now: Instant) -> Option<Instant> {
    pause::runs(now);
    pause::since(since).map(|pause| pause.end)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
