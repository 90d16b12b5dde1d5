//! The handle to a resumable session: it lives here, and connections come and go.
//!
//! Lock order: a resumable session, then what a session locks (pool, claim, seat, outbox).

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use dashmap::DashMap;
use voicematch_protocol::{CloseReason, ResumedPlace, ResumedRoom, ServerMessage, SessionId};

use super::{
    Arrival, Context, Session, greeting,
    resume::{Carrier, Resume},
    token::{Token, Tokens, accept_nothing},
};
use crate::{
    metrics::{Metrics, Transport},
    outbox::{Attach, Behind},
    room::{Member, Place},
};

/// A session that outlives its connection.
pub struct Resumable {
    pub member: Arc<Member>,
    pub(super) context: Arc<Context>,
    session: Mutex<Session>,
}

/// The resumable sessions of this process.
#[derive(Default)]
pub struct Resumables(DashMap<SessionId, Arc<Resumable>>);

/// Why a session cannot be carried on.
#[derive(Debug, PartialEq, Eq)]
pub enum CannotResume {
    /// The token opens no session: it is wrong, or old, or the session has ended. `forged`: it is of this process, and its
    /// secret is wrong.
    Refused { forged: bool },
    /// The client's position lies before the oldest message that is still there.
    TooOld,
    /// This node drains, and has sent the user to another one, which takes the session over.
    Moved,
}

impl CannotResume {
    /// The reason as a client hears it.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Refused { .. } => CloseReason::ResumeRefused,
            Self::TooOld => CloseReason::TooOld,
            Self::Moved => CloseReason::Moved,
        }
    }
}

/// A connection that carries a session.
pub struct Attached {
    pub session: Arc<Resumable>,
    /// Which connection of the session it is.
    pub epoch: u32,
    /// The first message to the client: `session` or `resumed`. A link has written it already.
    pub first: Vec<u8>,
}

impl Context {
    /// Carries on the session that `token` opens; `None`: what the client showed is no token. See [`Resumable::attach`].
    pub fn resume(
        &self,
        token: Option<&Token>,
        after: Option<u64>,
        transport: Transport,
        attach: &mut Option<Attach<'_>>,
        now: Instant,
    ) -> Result<Attached, CannotResume> {
        let refused = CannotResume::Refused { forged: false };
        let found = token.ok_or(refused).and_then(|token| {
            let session = self.resumables.find(token)?;
            session.attach(token, after, transport, attach, now)
        });
        if let Err(CannotResume::Refused { .. } | CannotResume::Moved) = found {
            self.metrics.resume("refused", None, transport);
        }
        found
    }
}

impl Resumables {
    /// The session that this token opens. It takes the same time whether there is one or not.
    pub fn find(&self, token: &Token) -> Result<Arc<Resumable>, CannotResume> {
        let found = self
            .0
            .get(&token.session)
            .map(|found| found.value().clone());
        // A session that has come from another node may still be shown a token of that.
        let Some(found) = found else {
            accept_nothing(token);
            return Err(CannotResume::Refused { forged: false });
        };
        let accepted = {
            let mut session = found.lock_any();
            let resume = session.resume.as_mut();
            resume.is_some_and(|resume| resume.tokens.accept(token))
        };
        match (accepted, found.member.is_vacant()) {
            (true, false) => Ok(found),
            (true, true) => Err(CannotResume::Refused { forged: false }),
            (false, _) => Err(CannotResume::Refused { forged: true }),
        }
    }

    pub(super) fn insert(&self, session: Arc<Resumable>) {
        self.0.insert(session.member.id, session);
    }

    pub(super) fn remove(&self, member: &Member) {
        self.0.remove(&member.id);
    }

    /// The session of this id.
    pub fn get(&self, id: SessionId) -> Option<Arc<Resumable>> {
        self.0.get(&id).map(|found| found.value().clone())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A locked session.
pub struct Locked<'a>(MutexGuard<'a, Session>);

impl Deref for Locked<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}

fn carrier(attach: Option<&Attach<'_>>) -> Carrier {
    match attach {
        Some(_) => Carrier::Connection,
        None => Carrier::Polls { until: None },
    }
}

impl Resumable {
    /// The handle to a session that is not among the others yet.
    pub(super) fn of(context: Arc<Context>, member: Arc<Member>, session: Session) -> Arc<Self> {
        Arc::new(Self {
            member,
            context,
            session: Mutex::new(session),
        })
    }

    /// Begins a session. Without a link its messages are taken by polls.
    pub fn open(
        context: &Arc<Context>,
        transport: Transport,
        attach: Option<Attach<'_>>,
        arrival: Arrival,
        now: Instant,
    ) -> Attached {
        let Arrival {
            identity,
            held,
            address,
        } = arrival;
        let config = context.config.get();
        let mut draining = false;
        let carrier = carrier(attach.as_ref());
        let mut attach = attach;
        context.count_session(transport);
        let member = context.directory.admit(|id| {
            let outbox = context.outbox(None);
            outbox.keep_log(config.resume.log);
            draining = context.draining.load(std::sync::atomic::Ordering::Relaxed);
            let member = Member::new(id, outbox, true, identity);
            member.set_address(address);
            member
        });
        let (tokens, token) = Tokens::new(context.room_keys.process, member.id);
        let beat = config.heartbeat.max(config.resume.heartbeat);
        let mut resume = Resume::new(tokens, transport, carrier, beat, now);
        let renew_ice = config.ice.renew_after();
        resume.renew_ice = renew_ice.map(|after| Box::new(now + after));
        resume.held = held;
        let resume = Some(Box::new(resume));
        let session = Session::begin(context.clone(), member.clone(), resume, false, now);
        let session = Arc::new(Self {
            member,
            context: context.clone(),
            session: Mutex::new(session),
        });
        context
            .resumables
            .0
            .insert(session.member.id, session.clone());
        // Last: who has read the greeting may send at once, over another connection.
        let outbox = &session.member.outbox;
        let first = outbox.attach(&mut attach, 0, "session", |_| {
            let id = session.member.id;
            let ice_servers = config.ice.of(id, SystemTime::now());
            json(&greeting(
                config,
                &session.member,
                Some(&token.text()),
                &ice_servers,
            ))
        });
        let first = first.unwrap_or_default();
        if draining {
            // The drain has passed already, so this user gets no `draining`.
            outbox.close(CloseReason::Draining);
        }
        Attached {
            session,
            epoch: 1,
            first,
        }
    }

    /// Carries the session on over another connection, from behind message `after`; absent: from what was confirmed. The
    /// former connection is told that it is replaced. `token` has been accepted. `attach` is taken if the session goes on.
    pub fn attach(
        self: &Arc<Self>,
        token: &Token,
        after: Option<u64>,
        transport: Transport,
        attach: &mut Option<Attach<'_>>,
        now: Instant,
    ) -> Result<Attached, CannotResume> {
        let mut session = self.lock_any();
        let session = &mut *session;
        let place = place(&self.member);
        let room = match (self.member.room(), self.member.named_room()) {
            (Some(room), _) => Some(ResumedRoom {
                room: None,
                room_id: room.id,
                peers: vec![room.peer_of(self.member.id).id],
            }),
            (_, Some(room)) => Some(ResumedRoom {
                room: Some(room.name.to_string()),
                room_id: room.id,
                peers: room.peers(self.member.id),
            }),
            _ => None,
        };
        if self.member.is_adrift() && !session.left {
            return Err(CannotResume::Moved);
        }
        let refused = CannotResume::Refused { forged: false };
        // A client that connects here ends a move that is not over; if another node has the session already, it is refused.
        let stays = session.stop_moving();
        let (Some(resume), false, true) = (&mut session.resume, session.left, stays) else {
            return Err(refused);
        };
        let outbox = &self.member.outbox;
        if outbox.status().closing.is_some() {
            return Err(refused);
        }
        let epoch = resume.epoch + 1;
        let after = after.unwrap_or_else(|| outbox.confirmed());
        let carrier = carrier(attach.as_ref());
        let ice_servers = self
            .context
            .config
            .get()
            .ice
            .of(self.member.id, SystemTime::now());
        let (received, from, before) = (resume.received, resume.transport, resume.carrier);
        let tokens = &mut resume.tokens;
        let attached = outbox.attach(attach, after, "resumed", |replay| {
            // A poll leaves the token as it is: it would change each time.
            let token = (transport != Transport::Polling).then(|| {
                tokens
                    .rotate(
                        token,
                        self.context.room_keys.process,
                        transport == Transport::EventStream,
                    )
                    .text()
            });
            json(&ServerMessage::Resumed {
                session_id: self.member.id,
                resume_token: token.as_deref(),
                epoch,
                after,
                received,
                replay,
                place,
                room,
                ice_servers: &ice_servers,
            })
        });
        let metrics = &self.context.metrics;
        let first = match attached {
            Ok(first) => first,
            Err(Behind::Stale) => {
                metrics.resume("refused", Some(from), transport);
                return Err(refused);
            }
            Err(Behind::TooOld) => {
                metrics.resume("too_old", Some(from), transport);
                self.give_up(session, now);
                return Err(CannotResume::TooOld);
            }
        };
        resume.epoch = epoch;
        session.carry(transport, carrier, now);
        metrics.resume("resumed", Some(from), transport);
        if let Carrier::Nothing { since } = before {
            metrics.resumed_after(now.saturating_duration_since(since));
        }
        Ok(Attached {
            session: self.clone(),
            epoch,
            first,
        })
    }

    /// Asks for what came after message `after`, without a connection that stays. `token` has been accepted. A poll
    /// before this one ends.
    pub fn poll(
        self: &Arc<Self>,
        token: &Token,
        after: Option<u64>,
        now: Instant,
    ) -> Result<Attached, CannotResume> {
        let mut session = self.lock_any();
        let carrier = session.resume.as_ref().map(|resume| resume.carrier);
        let Some(Carrier::Polls { .. }) = carrier else {
            drop(session);
            return self.attach(token, after, Transport::Polling, &mut None, now);
        };
        // One that has ended is still there for the poll that sees it.
        let ends = session.left || self.member.outbox.status().closing.is_some();
        let after = after.filter(|_| !ends);
        let rewound = after.map(|after| self.member.outbox.rewind(after));
        if let Some(Err(Behind::Stale)) = rewound {
            return Err(CannotResume::Refused { forged: false });
        }
        if let Some(Err(Behind::TooOld)) = rewound {
            self.give_up(&mut session, now);
            return Err(CannotResume::TooOld);
        }
        let epoch = session.polled(now);
        drop(session);
        // Who keeps the time has none to keep while a poll is held.
        self.member.outbox.nudge();
        Ok(Attached {
            session: self.clone(),
            epoch,
            first: Vec::new(),
        })
    }

    /// The session cannot go on. The token was shown by its user, who will begin anew: a seat in a room of two
    /// waits for their ticket.
    fn give_up(&self, session: &mut Session, now: Instant) {
        if !session.vacate(now) {
            session.leave(CloseReason::TooOld);
            self.member.outbox.close(CloseReason::TooOld);
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// The session, if this is still the connection that carries it.
    pub fn lock(&self, epoch: u32) -> Option<Locked<'_>> {
        let session = self.lock_any();
        let current = session.resume.as_ref().map(|resume| resume.epoch);
        (current == Some(epoch)).then_some(session)
    }

    /// The session, whatever carries it.
    pub fn lock_any(&self) -> Locked<'_> {
        Locked(self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn place(member: &Member) -> ResumedPlace {
    match member.place() {
        Place::Idle | Place::Gone => ResumedPlace::Idle,
        Place::Waiting => ResumedPlace::Waiting,
        Place::InRoom => ResumedPlace::InRoom,
    }
}

fn json(message: &ServerMessage<'_>) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_else(|error| {
        tracing::error!(%error, "a message of ours could not be written");
        Vec::new()
    })
}
