//! Two users in a room whose connections break at any byte, are taken over, and come back over any transport, against a
//! model that is two lists: what one has said, and what the other has heard. And rooms that come back after a kill.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
    task::{Context as TaskContext, Poll, Waker},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::{Value, json};
use voicematch_protocol::CloseReason;

use super::{
    Arrival, Context, Pending, Persons, RateLimit, Resumable, Resumables, ResumeConfig,
    SessionConfig, Takes, Token, close_log::CloseLog,
};
use crate::{
    directory::Directory,
    live::Live,
    matchmaker::{Cluster, Matchmaker, MatchmakerConfig, PoolKind, Widening},
    memory::Memory,
    metrics::{Metrics, Transport},
    outbox::{Attach, Link, LogLimits, OutboxLimits, text_frame},
    process::ProcessId,
    room::{
        Place, Shared,
        named::NamedRooms,
        pending::PendingRooms,
        ticket::{RoomKey, RoomKeys},
    },
};

/// A socket that takes so many bytes and no more, until it breaks.
#[derive(Clone, Default)]
pub(super) struct Wire(pub(super) Arc<Mutex<WireState>>);

#[derive(Default)]
pub(super) struct WireState {
    pub(super) bytes: Vec<u8>,
    pub(super) room: usize,
    is_broken: bool,
}

impl Link for Wire {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock().expect("not poisoned");
        if state.is_broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let taken = bytes.len().min(state.room);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.bytes.extend_from_slice(&bytes[..taken]);
        state.room -= taken;
        Ok(taken)
    }

    fn poll_writable(&self, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.0.lock().expect("not poisoned").room {
            0 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn hang_up(&mut self) {}

    fn farewell(&self, _: CloseReason, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x88, 0]);
    }
}

pub(super) fn new_context(keys: RoomKeys) -> Arc<Context> {
    context_of(keys, 10)
}

/// A context that keeps so many sessions without a connection.
fn context_of(keys: RoomKeys, max_detached: usize) -> Arc<Context> {
    node_context(keys, max_detached, None)
}

/// The same, of a node of this cluster.
pub(super) fn node_context(
    keys: RoomKeys,
    max_detached: usize,
    cluster: Option<Cluster>,
) -> Arc<Context> {
    let metrics = Arc::new(Metrics::new(1, &PoolKind::LABELS).expect("names are unique"));
    let matchmaker = MatchmakerConfig {
        widening: Widening {
            language: None,
            region: None,
            anyone: None,
        },
        avoid_partner_for: Duration::ZERO,
        keep_seat_for: Duration::from_secs(15),
    };
    let keys = Arc::new(keys);
    let shared = Shared::new(metrics.clone(), keys.clone(), 100, None, None);
    let pending_rooms = Arc::new(PendingRooms::new(10, shared.clone()));
    let matchmaker = Matchmaker::new(matchmaker, shared.clone());
    let matchmaker = match cluster {
        Some(cluster) => matchmaker.joined(cluster, pending_rooms.clone()),
        None => matchmaker,
    };
    Arc::new(Context {
        config: Live::new(SessionConfig {
            heartbeat: Duration::from_secs(25),
            max_message_bytes: 1 << 16,
            rate: RateLimit::new(0, 1),
            idle_timeout: Duration::ZERO,
            outbox: OutboxLimits {
                messages: 1000,
                bytes: 1 << 20,
            },
            resume: ResumeConfig {
                window: Duration::from_secs(15),
                heartbeat: Duration::from_secs(7),
                deadline: Duration::from_secs(12),
                log: LogLimits {
                    messages: 1000,
                    bytes: 1 << 20,
                },
                max_detached,
            },
            ice: Default::default(),
        }),
        matchmaker,
        directory: Directory::default(),
        persons: Persons::new(0),
        identify: None,
        named_rooms: NamedRooms::new(100, shared.clone()),
        resumables: Resumables::default(),
        takes: Takes::default(),
        detached: AtomicUsize::new(0),
        pending_rooms,
        shared,
        room_keys: keys,
        memory: Memory::new(1 << 30, metrics.buffered_bytes.clone()),
        metrics,
        close_log: CloseLog::default(),
        trace: None,
        draining: AtomicBool::new(false),
    })
}

/// One user's client, and the network between.
struct Client {
    context: Arc<Context>,
    session: Arc<Resumable>,
    epoch: u32,
    wire: Wire,
    transport: Transport,
    /// What the next connection shows, what came before it, and the tokens that must open nothing any more.
    token: String,
    older: Vec<String>,
    used_up: Vec<String>,
    /// Sent by the client, and not known to have arrived.
    unconfirmed: Vec<(u64, Value)>,
    /// How many of these are on their way.
    on_the_way: usize,
    sent: u64,
    arrived: u64,
    /// What each side of the model has.
    said: Vec<u64>,
    heard: Vec<u64>,
    others: Vec<Value>,
    pending: Pending,
}

const NOW: fn() -> Instant = Instant::now;

impl Client {
    fn begin(context: &Arc<Context>) -> Self {
        let wire = Wire::default();
        wire.0.lock().expect("not poisoned").room = usize::MAX;
        let attach = Attach {
            link: Box::new(wire.clone()),
            preface: &[],
        };
        let transport = Transport::WebSocket;
        let attached = Resumable::open(context, transport, Some(attach), Arrival::default(), NOW());
        let first: Value = serde_json::from_slice(&attached.first).expect("JSON");
        let mut client = Self {
            context: context.clone(),
            session: attached.session,
            epoch: attached.epoch,
            wire,
            transport,
            token: first["resume_token"].as_str().expect("a token").to_owned(),
            older: Vec::new(),
            used_up: Vec::new(),
            unconfirmed: Vec::new(),
            on_the_way: 0,
            sent: 0,
            arrived: 0,
            said: Vec::new(),
            heard: Vec::new(),
            others: Vec::new(),
            pending: Pending::default(),
        };
        client.read();
        client
    }

    /// Takes a numbered message of the server.
    fn take(&mut self, message: Value) {
        let Some(seq) = message["seq"].as_u64() else {
            return;
        };
        assert_eq!(seq, self.arrived + 1, "{message}");
        self.arrived = seq;
        match message["type"].as_str() {
            Some("message") => self
                .heard
                .push(message["payload"].as_u64().expect("a number")),
            _ => self.others.push(message),
        }
    }

    /// Reads all whole messages that have come through the wire.
    fn read(&mut self) {
        let mut bytes = std::mem::take(&mut self.wire.0.lock().expect("not poisoned").bytes);
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while let Some((message, behind)) = text_frame(rest) {
            messages.push(serde_json::from_slice(message).expect("JSON"));
            rest = behind;
        }
        let used = bytes.len() - rest.len();
        bytes.drain(..used);
        self.wire
            .0
            .lock()
            .expect("not poisoned")
            .bytes
            .splice(..0, bytes);
        for message in messages {
            self.take(message);
        }
    }

    /// Gives the socket room, and lets the connection's task write.
    fn make_room(&mut self, bytes: usize) {
        {
            let mut wire = self.wire.0.lock().expect("not poisoned");
            wire.room = wire.room.saturating_add(bytes);
        }
        if self.session.lock(self.epoch).is_some() && self.transport != Transport::Polling {
            let mut context = TaskContext::from_waker(Waker::noop());
            let _ = self.session.member.outbox.poll_flush(&mut context);
        }
        self.read();
    }

    /// Takes messages by a poll.
    fn poll(&mut self, messages: u32, answer_arrives: bool) {
        let token = Token::parse(&self.token).expect("a token");
        let session = self.context.resumables.find(&token);
        let session = session.unwrap_or_else(|refused| panic!("{refused:?}"));
        let attached = session
            .poll(&token, Some(self.arrived), NOW())
            .expect("there");
        (self.epoch, self.transport) = (attached.epoch, Transport::Polling);
        self.used_up.append(&mut self.older);
        self.wire = Wire::default();
        let limits = LogLimits {
            messages,
            bytes: 1 << 16,
        };
        let mut body = b"[".to_vec();
        let mut taken = Vec::new();
        let _ = session
            .member
            .outbox
            .take(limits, &mut taken, Waker::noop());
        body.extend_from_slice(&taken);
        body.push(b']');
        if let Some(mut session) = session.lock(self.epoch) {
            session.poll_over(true, NOW());
        }
        if answer_arrives {
            let messages: Vec<Value> = serde_json::from_slice(&body).expect("JSON");
            messages.into_iter().for_each(|message| self.take(message));
        }
        self.go_back();
    }

    /// Comes back over a new connection, whose socket has room for so many bytes.
    fn attach(&mut self, transport: Transport, room: usize) {
        let token = Token::parse(&self.token).expect("a token");
        let wire = Wire::default();
        wire.0.lock().expect("not poisoned").room = room;
        let mut attach = Some(Attach {
            link: Box::new(wire.clone()),
            preface: &[],
        });
        let attached = self.context.resume(
            Some(&token),
            Some(self.arrived),
            transport,
            &mut attach,
            NOW(),
        );
        let attached = attached.unwrap_or_else(|refused| panic!("{refused:?}"));
        self.used_up.append(&mut self.older);
        let old_epoch = std::mem::replace(&mut self.epoch, attached.epoch);
        assert!(
            attached.session.lock(old_epoch).is_none(),
            "the old one speaks no more"
        );
        self.wire = wire;
        self.transport = transport;
        self.on_the_way = 0;
        let bytes = self.wire.0.lock().expect("not poisoned").bytes.clone();
        // Only a client that has read `resumed` has the new token, and knows what to send again.
        if let Some((first, _)) = text_frame(&bytes) {
            let first: Value = serde_json::from_slice(first).expect("JSON");
            assert_eq!(first["type"], "resumed");
            let next = first["resume_token"].as_str().expect("a token").to_owned();
            self.older.push(std::mem::replace(&mut self.token, next));
        }
        self.go_back();
        self.read();
    }

    /// Learns what has arrived, and sends the rest again later.
    fn go_back(&mut self) {
        let received = self.session.lock_any().received();
        self.unconfirmed.retain(|(seq, _)| *seq > received);
        self.on_the_way = 0;
    }

    fn say(&mut self) {
        self.sent += 1;
        let payload = self.said.len() as u64;
        self.said.push(payload);
        let message =
            json!({"type": "message", "payload": payload, "seq": self.sent, "ack": self.arrived});
        self.unconfirmed.push((self.sent, message));
    }

    /// So many of the client's messages arrive; sometimes twice.
    fn deliver(&mut self, count: usize, twice: bool) {
        let from = if twice { 0 } else { self.on_the_way };
        for (_, message) in self.unconfirmed.iter().skip(from).take(count) {
            let Some(mut session) = self.session.lock(self.epoch) else {
                return;
            };
            let received = session.receive(&message.to_string(), NOW(), &mut self.pending);
            assert_eq!(received, Ok(()));
            session.flush(NOW(), &mut self.pending);
        }
        self.on_the_way = self
            .on_the_way
            .max(from + count)
            .min(self.unconfirmed.len());
    }

    fn cut(&mut self) {
        self.wire.0.lock().expect("not poisoned").is_broken = true;
        if let Some(mut session) = self.session.lock(self.epoch) {
            session.lose(CloseReason::Lost, NOW());
        }
        // What was on its way is lost.
        self.go_back();
    }

    fn ask(&mut self, kind: &str) {
        self.sent += 1;
        let message = json!({"type": kind, "seq": self.sent}).to_string();
        let mut session = self.session.lock(self.epoch).expect("attached");
        let received = session.receive(&message, NOW(), &mut self.pending);
        assert_eq!(received, Ok(()));
        session.flush(NOW(), &mut self.pending);
        session.tell_waiting();
    }

    fn confirm(&self) {
        self.session.member.outbox.confirm(self.arrived);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Say,
    Deliver(usize, bool),
    MakeRoom(usize),
    Confirm,
    Cut,
    Attach(bool, usize),
    Poll(u32, bool),
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    let room = prop_oneof![0..100usize, 100..2000usize, Just(1 << 20)];
    let step = prop_oneof![
        4 => Just(Step::Say),
        4 => (1..4usize, any::<bool>()).prop_map(|(count, twice)| Step::Deliver(count, twice)),
        4 => room.clone().prop_map(Step::MakeRoom),
        1 => Just(Step::Confirm),
        1 => Just(Step::Cut),
        2 => (any::<bool>(), room).prop_map(|(ws, room)| Step::Attach(ws, room)),
        1 => (1..5u32, any::<bool>()).prop_map(|(count, arrives)| Step::Poll(count, arrives)),
    ];
    prop::collection::vec((any::<bool>(), step), 0..80)
}

proptest! {
    #[test]
    fn what_is_said_is_heard_once_and_in_order_whatever_happens_to_the_connections(steps in steps()) {
        let context = new_context(RoomKeys::random(ProcessId::random()));
        let mut clients = [Client::begin(&context), Client::begin(&context)];
        clients[0].ask("find_match");
        clients[1].ask("find_match");
        for (which, step) in steps {
            let client = &mut clients[usize::from(which)];
            match step {
                Step::Say => client.say(),
                Step::Deliver(count, twice) => client.deliver(count, twice),
                Step::MakeRoom(bytes) => client.make_room(bytes),
                Step::Confirm => client.confirm(),
                Step::Cut => client.cut(),
                Step::Attach(true, room) => client.attach(Transport::WebSocket, room),
                Step::Attach(false, room) => client.attach(Transport::EventStream, room),
                Step::Poll(count, arrives) => client.poll(count, arrives),
            }
            for (one, other) in [(0, 1), (1, 0)] {
                prop_assert!(clients[one].said.starts_with(&clients[other].heard));
            }
        }
        // In the end the network is well.
        for client in &mut clients {
            client.attach(Transport::WebSocket, usize::MAX);
            client.deliver(usize::MAX / 2, false);
        }
        for client in &mut clients {
            client.make_room(1 << 20);
        }
        for (one, other) in [(0, 1), (1, 0)] {
            prop_assert_eq!(&clients[one].said, &clients[other].heard);
        }
        for client in &clients {
            for token in &client.used_up {
                let token = Token::parse(token).expect("a token");
                let found = context.resumables.find(&token);
                prop_assert!(found.is_err());
            }
        }
        // One goes for good: the other hears it once.
        let [mut left, mut stays] = clients;
        left.cut();
        let later = NOW() + Duration::from_secs(16);
        let over = left.session.lock_any().on_deadline(later);
        prop_assert_eq!(over, Err(CloseReason::Lost));
        left.session.lock_any().leave(CloseReason::Lost);
        stays.make_room(1 << 20);
        let told = stays.others.iter().filter(|message| message["type"] == "peer_left");
        prop_assert_eq!(told.count(), 1);
        stays.session.lock_any().leave(CloseReason::Closed);
        drop((left, stays));
        prop_assert_eq!(context.metrics.buffered_bytes.get(), 0);
        prop_assert_eq!(context.metrics.resume_log_bytes.get(), 0);
        prop_assert_eq!(context.metrics.sessions_detached.get(), 0);
        prop_assert_eq!(context.metrics.rooms_active.get(), 0);
        prop_assert!(context.resumables.is_empty() && context.directory.is_empty());
    }
}

#[test]
fn a_partner_who_does_not_come_back_is_lost_after_a_while() {
    let keys = || RoomKeys {
        process: ProcessId::random(),
        present: RoomKey::new(vec![7; 32]),
        valid_for: Duration::from_secs(60),
        ..RoomKeys::random(ProcessId::random())
    };
    let context = new_context(keys());
    let mut clients = [Client::begin(&context), Client::begin(&context)];
    for client in &mut clients {
        client.ask("find_match");
    }
    for client in &mut clients {
        client.read();
    }
    let found = clients[0].others.iter();
    let mut found = found.filter(|message| message["type"] == "match_found");
    let found = found.next().expect("matched").clone();
    // Another process of the same key.
    let context = new_context(keys());
    let mut back = Client::begin(&context);
    let rejoin = json!({"type": "rejoin", "ticket": found["room_ticket"], "seq": 1}).to_string();
    let now = NOW();
    {
        let mut session = back.session.lock_any();
        let received = session.receive(&rejoin, now, &mut back.pending);
        assert_eq!(received, Ok(()));
        assert_eq!(session.member().place(), Place::Waiting);
        session.heard(now + Duration::from_secs(18));
        assert_eq!(session.on_deadline(now + Duration::from_secs(19)), Ok(()));
        assert_eq!(context.pending_rooms.len(), 1);
        session.heard(now + Duration::from_secs(20));
        assert_eq!(session.on_deadline(now + Duration::from_secs(21)), Ok(()));
        assert_eq!(session.member().place(), Place::Idle);
    }
    assert!(context.pending_rooms.is_empty());
    back.make_room(1 << 20);
    let told = back.others.last().expect("told").clone();
    assert_eq!(
        (&told["type"], &told["reason"]),
        (&json!("peer_left"), &json!("lost"))
    );
    assert_eq!(told["peer_id"], found["peer_id"]);
    // Who leaves while waiting leaves nothing behind.
    let again = rejoin.replace("\"seq\":1", "\"seq\":2");
    {
        let mut session = back.session.lock_any();
        assert_eq!(session.receive(&again, now, &mut back.pending), Ok(()));
        assert_eq!(context.pending_rooms.len(), 1);
        session.leave(CloseReason::Closed);
    }
    assert!(context.pending_rooms.is_empty());
}

/// A client that uses its token as soon as it has read it.
struct Eager {
    context: Arc<Context>,
    wire: Wire,
    was_known: Arc<AtomicBool>,
}

impl Link for Eager {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.wire.try_write(parts)?;
        let state = self.wire.0.lock().expect("not poisoned");
        let text = String::from_utf8_lossy(&state.bytes);
        let token = text.split_once(r#""resume_token":""#);
        let token = token.and_then(|(_, rest)| Token::parse(rest.split('"').next()?));
        let token = token.expect("the greeting has one");
        let found = self.context.resumables.find(&token);
        self.was_known
            .store(found.is_ok(), std::sync::atomic::Ordering::Relaxed);
        Ok(written)
    }

    fn poll_writable(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_writable(cx)
    }

    fn hang_up(&mut self) {}

    fn farewell(&self, reason: CloseReason, out: &mut Vec<u8>) {
        self.wire.farewell(reason, out);
    }
}

#[test]
fn a_session_is_known_before_its_client_can_have_read_the_token() {
    let context = new_context(RoomKeys::random(ProcessId::random()));
    let was_known = Arc::new(AtomicBool::new(false));
    let wire = Wire::default();
    wire.0.lock().expect("not poisoned").room = 1 << 20;
    let attach = Attach {
        link: Box::new(Eager {
            context: context.clone(),
            wire,
            was_known: was_known.clone(),
        }),
        preface: &[],
    };
    let transport = Transport::EventStream;
    Resumable::open(
        &context,
        transport,
        Some(attach),
        Arrival::default(),
        Instant::now(),
    );
    assert!(was_known.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn ten_thousand_sessions_without_a_connection_are_bounded_and_given_back() {
    const MOST: usize = 8_000;
    let context = context_of(RoomKeys::random(ProcessId::random()), MOST);
    let start = NOW();
    let mut sessions = Vec::new();
    for _ in 0..10_000 {
        let attach = Attach {
            link: Box::new(Wire::default()),
            preface: &[],
        };
        let transport = Transport::WebSocket;
        let attached =
            Resumable::open(&context, transport, Some(attach), Arrival::default(), start);
        let session = attached.session;
        let kept = session.lock_any().lose(CloseReason::Lost, start);
        assert_eq!(kept, sessions.len() < MOST);
        if kept {
            let message = json!({ "type": "message", "payload": "x".repeat(100) });
            assert!(session.member.outbox.send(&message).is_ok());
            sessions.push(Arc::downgrade(&session));
        }
    }
    let metrics = &context.metrics;
    let detached = || context.detached.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((detached(), context.resumables.len()), (MOST, MOST));
    assert!(metrics.resume_log_bytes.get() > 100 * MOST as i64);
    for session in &sessions {
        let session = session.upgrade().expect("kept by the context");
        let mut session = session.lock_any();
        let deadline = session.deadline().expect("the end of the window");
        assert_eq!(deadline, start + Duration::from_secs(15));
        let reason = session.on_deadline(deadline).expect_err("nobody came");
        session.leave(reason);
        session.forget();
    }
    assert_eq!((detached(), context.resumables.len()), (0, 0));
    assert_eq!(metrics.resume_log_bytes.get(), 0);
    assert!(sessions.iter().all(|session| session.upgrade().is_none()));
}

#[test]
fn a_seat_for_which_nobody_comes_is_given_up_after_a_while() {
    let context = new_context(RoomKeys::random(ProcessId::random()));
    let mut clients = [Client::begin(&context), Client::begin(&context)];
    for client in &mut clients {
        client.ask("find_match");
        client.read();
    }
    let [user, partner] = &mut clients;
    let now = NOW();
    {
        let mut session = user.session.lock_any();
        assert!(session.vacate(now));
        let wait = crate::room::pending::WAIT;
        assert_eq!(session.deadline(), Some(now + wait));
        assert_eq!(partner.session.member.place(), Place::InRoom);
        let over = session.on_deadline(now + wait);
        assert_eq!(over, Err(CloseReason::TooOld));
        session.leave(CloseReason::TooOld);
    }
    assert_eq!(partner.session.member.place(), Place::Idle);
    let detached = context.detached.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((detached, context.resumables.len()), (0, 1));
}

#[test]
fn what_a_session_keeps_to_outlive_its_connection_is_small() {
    // Beside what a plain one has: there are as many as users.
    let kept = size_of::<super::resume::Resume>() + crate::outbox::LOG_BYTES;
    assert!(kept <= 400, "{kept}");
    assert!(size_of::<Resumable>() <= 176, "in an Arc, with the session");
    let member = size_of::<crate::room::Member>();
    assert!(member + 16 <= 192, "an allocation class: {member}");
}
