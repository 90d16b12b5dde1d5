//! Users without sockets, and what they say; for all benchmarks.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::{
    fs,
    io::{self, ErrorKind, IoSlice},
    os::unix::fs::PermissionsExt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context as TaskContext, Poll, Waker},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use voicematch_core::{
    directory::Directory,
    live::Live,
    matchmaker::{Matchmaker, MatchmakerConfig, PoolKind, Widening, Wish},
    memory::Memory,
    metrics::{Metrics, Transport, enter_worker},
    outbox::{Attach, Link, LogLimits, Outbox, OutboxLimits, text_header},
    process::ProcessId,
    room::{Member, Place, Shared, named::NamedRooms, pending::PendingRooms, ticket::RoomKeys},
    session::{
        Arrival, Context, Pending, Persons, RateLimit, Resumable, Resumables, ResumeConfig,
        Session, SessionConfig, Takes, close_log::CloseLog,
    },
};
use voicematch_protocol::{CloseReason, Criteria, SessionId};
use voicematch_server::admission::auth::{
    Auth, AuthConfig, Claims, Grant, KeySources, Shown, Signer, TokenConfig,
};

/// The program's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The wait after which a language is enough.
pub(crate) const WIDEN_AFTER: Duration = Duration::from_secs(5);

const OUTBOX: OutboxLimits = OutboxLimits {
    messages: 256,
    bytes: 1 << 20,
};

/// A socket that counts what it takes, and takes nothing while it is full.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<(AtomicU64, AtomicBool)>);

impl Sink {
    pub(crate) fn taken(&self) -> u64 {
        self.0.0.load(Relaxed)
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.0.1.store(full, Relaxed);
    }
}

impl Link for Sink {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.0.1.load(Relaxed) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.0.0.fetch_add(bytes as u64, Relaxed);
        Ok(bytes)
    }

    fn poll_writable(&self, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn hang_up(&mut self) {}

    fn farewell(&self, _: CloseReason, _: &mut Vec<u8>) {}
}

/// All at zero, for two workers. This thread is the first of them: what a message costs is measured as it is in a server.
pub(crate) fn new_metrics() -> Arc<Metrics> {
    enter_worker(0);
    Arc::new(Metrics::new(2, &PoolKind::LABELS).expect("names are unique"))
}

/// More than any benchmark uses.
fn new_memory(metrics: &Metrics) -> Arc<Memory> {
    Memory::new(1 << 30, metrics.buffered_bytes.clone())
}

/// Nobody waits yet.
pub(crate) fn new_matchmaker(metrics: &Arc<Metrics>) -> Matchmaker {
    let config = MatchmakerConfig {
        widening: Widening {
            language: Some(WIDEN_AFTER),
            region: Some(WIDEN_AFTER * 2),
            anyone: Some(WIDEN_AFTER * 3),
        },
        avoid_partner_for: Duration::from_secs(30),
        keep_seat_for: Duration::from_secs(15),
    };
    Matchmaker::new(config, new_shared(metrics))
}

/// Nobody hears of rooms, as it is unless the operator says otherwise.
fn new_shared(metrics: &Arc<Metrics>) -> Arc<Shared> {
    let keys = Arc::new(RoomKeys::random(ProcessId::random()));
    Shared::new(metrics.clone(), keys, 100, None, None)
}

/// A user without a session, who listens at `sink`.
pub(crate) fn new_member(id: u64, sink: &Sink, metrics: &Arc<Metrics>) -> Arc<Member> {
    let outbox = Outbox::new(
        OUTBOX,
        Some(Box::new(sink.clone())),
        metrics.clone(),
        new_memory(metrics),
    );
    Arc::new(Member::new(SessionId(id), outbox, false, None))
}

/// Checked criteria.
pub(crate) fn wish(language: &str, region: &str, interests: &[&str]) -> Wish {
    let criteria = Criteria {
        language: Some(language.into()),
        region: Some(region.into()),
        interests: interests.iter().map(|&interest| interest.into()).collect(),
    };
    Wish::new(&criteria).expect("valid criteria")
}

/// What sessions share. Their rate is counted, but is none that a benchmark reaches.
fn new_context() -> Arc<Context> {
    let metrics = new_metrics();
    let shared = new_shared(&metrics);
    Arc::new(Context {
        config: Live::new(SessionConfig {
            heartbeat: Duration::from_secs(25),
            max_message_bytes: 1 << 16,
            rate: RateLimit::new(1_000_000_000, u32::MAX),
            idle_timeout: Duration::from_secs(600),
            outbox: OUTBOX,
            resume: ResumeConfig {
                window: Duration::from_secs(15),
                heartbeat: Duration::from_secs(7),
                deadline: Duration::from_secs(12),
                log: LogLimits {
                    messages: 256,
                    bytes: 1 << 16,
                },
                max_detached: 100,
            },
            ice: Default::default(),
        }),
        matchmaker: new_matchmaker(&metrics),
        directory: Directory::default(),
        persons: Persons::new(0),
        identify: None,
        named_rooms: NamedRooms::new(100, shared.clone()),
        resumables: Resumables::default(),
        takes: Takes::default(),
        detached: AtomicUsize::new(0),
        pending_rooms: Arc::new(PendingRooms::new(10, shared.clone())),
        room_keys: shared.keys.clone(),
        shared,
        memory: new_memory(&metrics),
        metrics,
        close_log: CloseLog::default(),
        trace: None,
        draining: AtomicBool::new(false),
    })
}

/// Two sessions, and what their worker has not sent yet.
pub(crate) struct Pair {
    pub(crate) first: Session,
    pub(crate) second: Session,
    pub(crate) sink: Sink,
    pending: Pending,
}

impl Pair {
    /// Two who do nothing.
    pub(crate) fn idle() -> Self {
        let (context, sink) = (new_context(), Sink::default());
        let open = || {
            let link = Box::new(sink.clone());
            Session::open(
                context.clone(),
                link,
                &[],
                Arrival::default(),
                Instant::now(),
            )
        };
        Self {
            first: open(),
            second: open(),
            sink: sink.clone(),
            pending: Pending::default(),
        }
    }

    /// Two who are in a room.
    pub(crate) fn matched() -> Self {
        let mut pair = Self::idle();
        pair.meet(Instant::now());
        assert_eq!(pair.first.member().place(), Place::InRoom);
        pair
    }

    /// One read that brings one message of the first user.
    pub(crate) fn say(&mut self, text: &str, now: Instant) {
        say(&mut self.first, text, now, &mut self.pending);
    }

    /// One read that brings the same message of the first user many times.
    pub(crate) fn say_often(&mut self, text: &str, times: u64, now: Instant) {
        for _ in 0..times {
            let received = self.first.receive(text, now, &mut self.pending);
            received.expect("within limits");
        }
        self.first.flush(now, &mut self.pending);
    }

    /// Both ask for a match, and find each other.
    pub(crate) fn meet(&mut self, now: Instant) {
        say(&mut self.first, FIND_MATCH, now, &mut self.pending);
        say(&mut self.second, FIND_MATCH, now, &mut self.pending);
    }
}

/// A user of a plain session, in a room with one whose session outlives its connections.
pub(crate) struct Mixed {
    first: Session,
    _second: Arc<Resumable>,
    pending: Pending,
}

impl Mixed {
    /// Two who are in a room.
    pub(crate) fn matched() -> Self {
        let (context, sink) = (new_context(), Sink::default());
        let now = Instant::now();
        let mut first = Session::open(
            context.clone(),
            Box::new(sink.clone()),
            &[],
            Arrival::default(),
            now,
        );
        let attach = Attach {
            link: Box::new(sink),
            preface: &[],
        };
        let transport = Transport::WebSocket;
        let second =
            Resumable::open(&context, transport, Some(attach), Arrival::default(), now).session;
        let mut pending = Pending::default();
        say(&mut first, FIND_MATCH, now, &mut pending);
        let find = FIND_MATCH.replacen('{', r#"{"seq":1,"#, 1);
        say(&mut second.lock_any(), &find, now, &mut pending);
        assert_eq!(first.member().place(), Place::InRoom);
        Self {
            first,
            _second: second,
            pending,
        }
    }

    /// One read that brings one message of the first user.
    pub(crate) fn say(&mut self, text: &str, now: Instant) {
        say(&mut self.first, text, now, &mut self.pending);
    }
}

/// Twenty users in a named room.
pub(crate) struct Crowd {
    members: Vec<Session>,
    pending: Pending,
}

impl Crowd {
    pub(crate) const SIZE: usize = 20;

    /// All of them are there.
    pub(crate) fn joined() -> Self {
        let (context, sink) = (new_context(), Sink::default());
        let (now, mut pending) = (Instant::now(), Pending::default());
        let mut join = || {
            let link = Box::new(sink.clone());
            let mut session = Session::open(context.clone(), link, &[], Arrival::default(), now);
            say(&mut session, JOIN_ROOM, now, &mut pending);
            assert_eq!(session.member().place(), Place::InRoom);
            session
        };
        Self {
            members: (0..Self::SIZE).map(|_| join()).collect(),
            pending,
        }
    }

    /// One read that brings one message of the first user to all others.
    pub(crate) fn say(&mut self, text: &str, now: Instant) {
        say(&mut self.members[0], text, now, &mut self.pending);
    }
}

fn say(session: &mut Session, text: &str, now: Instant, pending: &mut Pending) {
    session.receive(text, now, pending).expect("within limits");
    session.flush(now, pending);
}

/// A wish as a client writes it.
pub(crate) const FIND_MATCH: &str = r#"{"type":"find_match","id":17,"criteria":{"language":"en","region":"eu","interests":["music","chess"]}}"#;
/// A named room.
const JOIN_ROOM: &str = r#"{"type":"join_room","room":"talk"}"#;
/// The end of a room.
pub(crate) const LEAVE_ROOM: &str = r#"{"type":"leave_room","id":18}"#;
/// A ping as a client writes it.
pub(crate) const PING: &str = r#"{"type":"ping","id":19}"#;

/// A message with an ICE candidate, with a total length of `bytes`.
pub(crate) fn ice_candidate(bytes: usize) -> String {
    let (head, tail) = (
        r#"{"type":"ice_candidate","payload":{"candidate":"candidate:1 1 udp 2122260223 192.168.1.2 54321 typ host"#,
        r#""}}"#,
    );
    let filler = bytes - head.len() - tail.len();
    format!(
        "{head}{}{tail}",
        " generation 0".repeat(filler / 13 + 1).split_at(filler).0
    )
}

/// A text frame as a client sends it. Unmasking it in place a second time masks it again.
pub(crate) fn masked_frame(payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = Vec::new();
    text_header(payload.len(), &mut frame);
    frame[1] |= 0x80;
    frame.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// What tokens are signed with.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Where users show a token by HS256, and one that is good.
pub(crate) struct Door {
    auth: Arc<Auth>,
    pub(crate) token: String,
    /// The secret's.
    _folder: TempDir,
}

impl Door {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwt.secret");
        fs::write(&file, SECRET).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let claims = Claims {
            sub: "user-1234567890".to_owned(),
            name: Some("Ann".to_owned()),
            voicematch: Grant {
                rooms: Some(vec!["tea".to_owned(), "team-*".to_owned()]),
                ..Grant::default()
            },
            ..Claims::default()
        };
        let signer = Signer::load(&file, None).unwrap();
        let token = signer.sign(claims, Duration::from_secs(3600)).unwrap();
        let config = AuthConfig::Tokens(TokenConfig {
            keys: KeySources {
                secret: Some(file),
                ..KeySources::default()
            },
            audience: "voicematch".to_owned(),
            issuer: None,
            leeway: Duration::from_secs(30),
        });
        let auth = Auth::load(config, RateLimit::new(100, 200), &new_metrics());
        Self {
            auth: auth.unwrap().unwrap(),
            token,
            _folder: folder,
        }
    }

    /// Whether it lets the user in.
    pub(crate) fn admits(&self) -> bool {
        let shown = Shown {
            token: Some(&self.token),
            cookie: None,
            origin: None,
            address: None,
        };
        let admitted =
            pin!(self.auth.admit(shown)).poll(&mut TaskContext::from_waker(Waker::noop()));
        matches!(admitted, Poll::Ready(Ok(_)))
    }
}
