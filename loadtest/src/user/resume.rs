//! A session that outlives its connections, as its user keeps it: what was sent and perhaps not received, what has
//! arrived, and the way back.

use std::{borrow::Cow, collections::VecDeque, future::Future, pin::Pin, rc::Rc, time::Duration};

use serde::Deserialize;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    base::random::mixed,
    measure::sample::{Direction, ErrorKind},
    plan::Transport,
    user::{
        WorkerContext,
        connect::within,
        inbound,
        moving::Move,
        net::connection::{Connection, Event, Session, Wanted},
        place::Place,
        tag::Tag,
    },
};

/// The most bytes that are kept until the server has received them.
const MAX_KEPT_BYTES: usize = 1 << 20;
/// A user who has said nothing for so many messages, or bytes, says what has arrived.
const CONFIRM_MESSAGES: u64 = 32;
const CONFIRM_BYTES: usize = 16 << 10;
/// How much later than announced a ping may come.
const PING_LATENESS: Duration = Duration::from_secs(3);
/// The waits before each round of attempts, for a user without any connection; the last one repeats.
const ROUNDS: [u64; 5] = [0, 250, 500, 1000, 2000];
/// The first wait of a user who is not in a room, at the most.
const SPREAD: Duration = Duration::from_millis(400);
/// The waits before a user on another transport tries their own again: four, then a long one, then the last for ever.
const RETURNS: [u64; 6] = [500, 1000, 2000, 4000, 120_000, 30_000];

/// Requests that change where the user is.
const PLACES: [&str; 6] = [
    "find_match",
    "next",
    "cancel_match",
    "leave_room",
    "join_room",
    "rejoin",
];

/// Those that leave a room of two.
const LEAVES: [&str; 2] = ["next", "leave_room"];

fn is_one_of(text: &str, types: &[&str]) -> bool {
    inbound::type_of(text).is_some_and(|kind| types.contains(&&*kind))
}

type Job = Pin<Box<dyn Future<Output = Result<Back, ErrorKind>>>>;

/// Such a session.
pub struct Resume {
    token: String,
    /// The number of the last message that has arrived.
    arrived: u64,
    /// The number of the last message that the user has sent.
    sent: u64,
    /// Messages that the server may not have received, the oldest first.
    kept: VecDeque<(u64, String)>,
    kept_bytes: usize,
    /// The last number that the server was told to have arrived, and the bytes since.
    confirmed: u64,
    unconfirmed_bytes: usize,
    /// How long the server keeps it without a connection.
    window: Duration,
    /// The longest time to the first ping of a connection.
    heartbeat: Duration,
    /// The server's next ping is that far away.
    next_ping: Duration,
    /// When something last came.
    heard: Duration,
    /// The transport that the user prefers, and the one that carries the session.
    pub own: Transport,
    pub now: Transport,
    /// When the connection was lost; `None`: there is one.
    pub lost: Option<Duration>,
    /// When the user last heard nothing from the partner any more.
    pub unheard_since: Option<Duration>,
    /// When the network blocks the transport next.
    pub blocked_at: Option<Duration>,
    /// When the user tries their own transport again.
    pub return_at: Option<Duration>,
    returns: usize,
    /// The attempts to come back, or to begin another session.
    job: Option<Job>,
    /// What brings the user back into their room at another server.
    pub ticket: Option<String>,
    pub moving: Move,
    /// The partner's session after both have moved to another server.
    pub moved_peer: Option<u64>,
    /// What is to be said in the next session, or once its room is there.
    pub held_back: VecDeque<String>,
}

/// A connection that carries the session on.
pub struct Back {
    pub connection: Connection,
    pub transport: Transport,
    /// Which of several servers it leads to.
    pub place: Place,
    /// The server's message `resumed`. Polls bring it with the others, if the session was carried by something else.
    pub first: Option<Utf8Bytes>,
}

/// What is read of each message.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default)]
    received: Option<u64>,
    #[serde(default)]
    next_ms: Option<u64>,
    #[serde(borrow, default)]
    resume_token: Option<Cow<'a, str>>,
    #[serde(default)]
    resume_window_ms: Option<u64>,
    #[serde(default)]
    heartbeat_ms: Option<u64>,
    #[serde(borrow, default)]
    room_ticket: Option<Cow<'a, str>>,
}

/// What a message is for the session.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next one.
    New,
    /// It came before, over another connection.
    Again,
    /// The server wants to know whether the user is there.
    Ping,
    /// For the session itself.
    Own,
}

impl Resume {
    /// A session that begins with this greeting. `None`: the server does not let it outlive its connection.
    pub fn begin(greeting: &str, own: Transport, now: Transport, at: Duration) -> Option<Self> {
        let read: Envelope<'_> = serde_json::from_str(greeting).ok()?;
        let ms = Duration::from_millis;
        let heartbeat = ms(read.heartbeat_ms.unwrap_or(25_000));
        Some(Self {
            token: read.resume_token?.into_owned(),
            arrived: 0,
            sent: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            confirmed: 0,
            unconfirmed_bytes: 0,
            window: ms(read.resume_window_ms.unwrap_or(15_000)),
            heartbeat,
            next_ping: heartbeat,
            heard: at,
            own,
            now,
            lost: None,
            unheard_since: None,
            blocked_at: None,
            return_at: None,
            returns: 0,
            job: None,
            ticket: None,
            moving: Move::None,
            moved_peer: None,
            held_back: VecDeque::new(),
        })
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// Gives a message its number, and keeps it. A text without fields is not a message.
    ///
    /// # Errors
    /// The server has received too little of what was sent.
    pub fn number(&mut self, text: &str) -> Result<(u64, String), ErrorKind> {
        let fields = text.strip_prefix('{').ok_or(ErrorKind::BadMessage)?;
        self.sent += 1;
        let text = format!("{{\"seq\":{},\"ack\":{},{fields}", self.sent, self.arrived);
        self.has_confirmed();
        self.kept_bytes += text.len();
        if self.kept_bytes > MAX_KEPT_BYTES {
            return Err(ErrorKind::ServerNotReading);
        }
        self.kept.push_back((self.sent, text.clone()));
        Ok((self.sent, text))
    }

    /// Keeps what is to be said later.
    ///
    /// # Errors
    /// It is too much.
    pub fn hold_back(&mut self, text: &str) -> Result<(), ErrorKind> {
        self.kept_bytes += text.len();
        if self.kept_bytes > MAX_KEPT_BYTES {
            return Err(ErrorKind::ServerNotReading);
        }
        self.held_back.push_back(text.to_owned());
        Ok(())
    }

    /// Whether the server has not taken that the user leaves their room.
    pub fn has_untaken_leave(&self) -> bool {
        let mut kept = self.kept.iter();
        kept.any(|(_, text)| is_one_of(text, &LEAVES)) || self.leaves_anew()
    }

    /// Whether the user goes back into a room to say the rest there, and to leave it.
    pub fn leaves_anew(&self) -> bool {
        self.held_back.iter().any(|text| is_one_of(text, &LEAVES))
    }

    /// What the server has not taken, and what was held back, without numbers: all of it, if the user goes back into the `room`
    /// that they leave. Otherwise what is said in this room, as where the user is, or wants to be, is said anew.
    pub fn for_the_next(self, room: Option<u64>, leaves_anew: bool) -> VecDeque<String> {
        let unnumbered = |(_, text): (u64, String)| {
            // The number and what has arrived stand first.
            let fields = text.splitn(3, ',').nth(2).unwrap_or_default();
            format!("{{{fields}")
        };
        let kept = self.kept.into_iter().map(unnumbered);
        let all = kept.chain(self.held_back);
        let is_for_it = |text: &String| {
            let tag = Tag::read(text).filter(|tag| tag.route.direction != Direction::ToServer);
            !is_one_of(text, &PLACES) && tag.is_none_or(|tag| Some(tag.room) == room)
        };
        all.filter(|text| leaves_anew || is_for_it(text)).collect()
    }

    /// Tells the server what has arrived, and that the user is there.
    pub fn pong(&mut self) -> String {
        self.has_confirmed();
        format!(r#"{{"type":"pong","ack":{}}}"#, self.arrived)
    }

    fn has_confirmed(&mut self) {
        self.confirmed = self.arrived;
        self.unconfirmed_bytes = 0;
    }

    /// So much has arrived that the server should know.
    pub fn should_confirm(&self) -> bool {
        self.arrived - self.confirmed >= CONFIRM_MESSAGES || self.unconfirmed_bytes >= CONFIRM_BYTES
    }

    /// Takes a message.
    ///
    /// # Errors
    /// It is not what may come next.
    pub fn hear(&mut self, text: &str, now: Duration) -> Result<Heard, ErrorKind> {
        self.heard = now;
        let read: Envelope<'_> =
            serde_json::from_str(text).map_err(|_bad| ErrorKind::BadMessage)?;
        if let Some(received) = read.received {
            self.received(received);
        }
        if let Some(ticket) = read.room_ticket {
            self.ticket = Some(ticket.into_owned());
        }
        if let Some(next) = read.next_ms {
            self.next_ping = Duration::from_millis(next);
        }
        match (&*read.kind, read.seq) {
            ("ping", _) => Ok(Heard::Ping),
            ("resumed" | "session" | "pong", _) => {
                if read.kind == "resumed" {
                    self.next_ping = self.heartbeat;
                }
                if let Some(token) = read.resume_token {
                    self.token = token.into_owned();
                }
                Ok(Heard::Own)
            }
            (_, Some(seq)) if seq <= self.arrived => Ok(Heard::Again),
            (_, Some(seq)) if seq == self.arrived + 1 => {
                self.arrived = seq;
                self.unconfirmed_bytes += text.len();
                Ok(Heard::New)
            }
            _ => Err(ErrorKind::NumberWrong),
        }
    }

    /// The server has received what was sent up to this number.
    pub fn received(&mut self, number: u64) {
        while let Some((first, _)) = self.kept.front()
            && *first <= number
        {
            if let Some((_, text)) = self.kept.pop_front() {
                self.kept_bytes -= text.len();
            }
        }
    }

    /// What the server has not received, to be sent again.
    pub fn missing(&self) -> impl Iterator<Item = (u64, String)> + '_ {
        self.kept.iter().cloned()
    }

    /// When the connection counts as lost if nothing comes; polls have a limit of their own.
    pub fn silent_at(&self) -> Option<Duration> {
        let pings = self.lost.is_none() && self.now != Transport::Polling;
        pings.then(|| self.heard + self.next_ping + PING_LATENESS)
    }

    /// When something last came.
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// The next moment at which there is something to do for the connection. This process did not run for the time
    /// `paused` since something last came.
    pub fn next_wake(&self, paused: Duration) -> Option<Duration> {
        if self.lost.is_some() {
            return None;
        }
        let silent = self.silent_at().map(|at| at + paused);
        let moments = [
            silent,
            self.blocked_at,
            self.return_at,
            self.moving.next_wake(),
        ];
        moments.into_iter().flatten().min()
    }

    /// When the connection is lost: sets out to come back.
    pub fn come_back(&mut self, way: Way, at: Duration, in_room: bool) {
        self.lost = Some(at);
        self.return_at = None;
        let first_wait = match in_room {
            true => Duration::ZERO,
            false => SPREAD.mul_f64(mixed(way.user, u32::try_from(self.sent).unwrap_or(0))),
        };
        let until = at.saturating_add(self.window);
        self.job = Some(Box::pin(way.back(first_wait, until)));
    }

    /// When the session has ended with its server: sets out to begin another one.
    pub fn begin_anew(&mut self, way: Way, at: Duration, until: Duration) {
        self.lost = Some(at);
        self.return_at = None;
        let way = Way { anew: true, ..way };
        self.job = Some(Box::pin(way.back(Duration::ZERO, until)));
    }

    /// Tries the user's own transport, while another one carries the session.
    pub fn try_return(&mut self, way: Way) {
        self.return_at = None;
        self.job = Some(Box::pin(way.once()));
    }

    /// The user's own transport is being tried, while another one carries the session.
    pub fn returns(&self) -> bool {
        self.lost.is_none() && self.job.is_some()
    }

    /// The way back from where the session is now.
    pub fn way(
        &self,
        context: &Rc<WorkerContext>,
        user: u32,
        path: Option<&str>,
        place: Place,
    ) -> Way {
        Way {
            context: Rc::clone(context),
            user,
            place,
            path: path.map(Into::into),
            token: self.token.clone(),
            arrived: self.arrived,
            own: self.own,
            anew: false,
        }
    }

    /// The user is on this transport from now on.
    pub fn settle(&mut self, transport: Transport, at: Duration) {
        self.job = None;
        self.now = transport;
        self.heard = at;
        if transport == self.own {
            (self.return_at, self.returns) = (None, 0);
        } else {
            self.plan_return(at);
        }
    }

    /// Sets the time of the next try of the user's own transport.
    pub fn plan_return(&mut self, at: Duration) {
        self.job = None;
        let wait = RETURNS[self.returns.min(RETURNS.len() - 1)];
        self.returns += 1;
        self.return_at = Some(at + Duration::from_millis(wait));
    }
}

/// The next end of the attempts to come back. Without attempts, there is none.
pub async fn next_back(resume: &mut Option<Box<Resume>>) -> Result<Back, ErrorKind> {
    match resume.as_mut().and_then(|resume| resume.job.as_mut()) {
        Some(job) => job.await,
        None => std::future::pending().await,
    }
}

/// What a user needs to come back.
pub struct Way {
    context: Rc<WorkerContext>,
    user: u32,
    /// Which of several servers is tried first.
    place: Place,
    /// The path of the connection, unless it is that of the server's URL.
    path: Option<Box<str>>,
    token: String,
    arrived: u64,
    own: Transport,
    /// The session has ended: another one is to begin.
    anew: bool,
}

impl Way {
    /// Tries each transport in turn, again and again, until one carries the session or it is `until` this moment.
    async fn back(self, first_wait: Duration, until: Duration) -> Result<Back, ErrorKind> {
        sleep(first_wait).await;
        let mut round = 0;
        let mut place = self.place;
        loop {
            let mut last = ErrorKind::ConnectTimeout;
            for transport in self.own.and_fallbacks() {
                match self.attempt(*transport, place).await {
                    Ok(back) => return Ok(back),
                    Err(error) if error.ends_session() => return Err(error),
                    Err(error) => last = error,
                }
            }
            round += 1;
            place = place.next(self.context.servers.count());
            let wait = Duration::from_millis(ROUNDS[round.min(ROUNDS.len() - 1)]);
            if self.context.now() + wait >= until {
                return Err(last);
            }
            sleep(wait).await;
        }
    }

    /// Tries the user's own transport.
    async fn once(self) -> Result<Back, ErrorKind> {
        self.attempt(self.own, self.place).await
    }

    /// A connection counts once the first message has come over it.
    async fn attempt(&self, transport: Transport, place: Place) -> Result<Back, ErrorKind> {
        let servers = &self.context.servers;
        let server = servers.node(place.node(self.user, servers.count()));
        let attempt = async {
            if self.context.plan.blocks(transport, self.context.now()) {
                // Such a network swallows what it does not let through.
                std::future::pending::<()>().await;
            }
            let wanted = Wanted {
                user: self.user,
                path: self.path.as_deref().unwrap_or(&server.path),
                transport,
                session: match self.anew {
                    true => Session::Begin,
                    false => Session::Resume {
                        token: &self.token,
                        arrived: self.arrived,
                    },
                },
            };
            let mut connection = Connection::open(server, wanted).await?;
            if transport == Transport::Polling && !self.anew {
                return Ok(Back {
                    connection,
                    transport,
                    place,
                    first: None,
                });
            }
            loop {
                if let Event::Text(first) = connection.next().await?
                    && (!self.anew || inbound::greeting(&first).is_some_and(is_greeting))
                {
                    return Ok(Back {
                        connection,
                        transport,
                        place,
                        first: Some(first),
                    });
                }
            }
        };
        let attempt = std::pin::pin!(attempt);
        let done = within(&self.context, transport.patience(), attempt).await;
        done.unwrap_or(Err(ErrorKind::ConnectTimeout))
    }
}

/// Whether a message begins a session.
fn is_greeting((kind, _): (Cow<'_, str>, Option<String>)) -> bool {
    kind == "session"
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str = r#"{"type":"session","session_id":"a","resume_token":"t","resume_window_ms":9000,"heartbeat_ms":7000}"#;

    fn begin() -> Resume {
        let ws = Transport::WebSocket;
        Resume::begin(GREETING, ws, ws, Duration::ZERO).expect("a session")
    }

    #[test]
    fn messages_are_numbered_and_kept_until_they_are_received() {
        let mut resume = begin();
        let said = |n| format!(r#"{{"seq":{n},"ack":0,"type":"next"}}"#);
        for n in 1..=3 {
            assert_eq!(resume.number(r#"{"type":"next"}"#), Ok((n, said(n))));
        }
        resume.received(2);
        assert_eq!(resume.missing().collect::<Vec<_>>(), [(3, said(3))]);
        assert_eq!(resume.kept_bytes, said(3).len());
        assert_eq!(resume.number("hi"), Err(ErrorKind::BadMessage));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_KEPT_BYTES));
        assert_eq!(resume.number(&long), Err(ErrorKind::ServerNotReading));
    }

    #[test]
    fn what_comes_is_the_next_or_came_before() {
        let mut resume = begin();
        let mut hear = |text: &str| resume.hear(text, Duration::from_secs(1));
        assert_eq!(hear(r#"{"type":"waiting","seq":1}"#), Ok(Heard::New));
        assert_eq!(hear(r#"{"type":"waiting","seq":1}"#), Ok(Heard::Again));
        let gap = hear(r#"{"type":"waiting","seq":3}"#);
        assert_eq!(gap, Err(ErrorKind::NumberWrong));
        assert_eq!(
            hear(r#"{"type":"waiting"}"#),
            Err(ErrorKind::NumberWrong),
            "without a number"
        );
        let ping = r#"{"type":"ping","received":0,"next_ms":25000}"#;
        assert_eq!(hear(ping), Ok(Heard::Ping));
        assert_eq!(hear("?"), Err(ErrorKind::BadMessage));
        assert_eq!(resume.silent_at(), Some(Duration::from_secs(29)));
        assert_eq!(resume.pong(), r#"{"type":"pong","ack":1}"#);
        let resumed = r#"{"type":"resumed","resume_token":"u","received":0}"#;
        let heard = resume.hear(resumed, Duration::ZERO);
        assert_eq!((heard, resume.token()), (Ok(Heard::Own), "u"));
        let first_ping = Duration::from_secs(7);
        assert_eq!(resume.silent_at(), Some(first_ping + PING_LATENESS));
    }

    #[test]
    fn who_says_nothing_confirms_at_times() {
        let mut resume = begin();
        for seq in 1..=CONFIRM_MESSAGES {
            assert!(!resume.should_confirm());
            let text = format!(r#"{{"type":"message","seq":{seq}}}"#);
            assert_eq!(resume.hear(&text, Duration::ZERO), Ok(Heard::New));
        }
        assert!(resume.should_confirm());
        resume.pong();
        assert!(!resume.should_confirm());
    }

    #[test]
    fn the_users_own_transport_is_tried_again_less_and_less_often() {
        let mut resume = begin();
        let mut at = Duration::ZERO;
        resume.settle(Transport::EventStream, at);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = resume.return_at.expect("a time");
            waits.push((next - at).as_millis());
            at = next;
            resume.plan_return(at);
        }
        assert_eq!(
            waits,
            [500, 1000, 2000, 4000, 120_000, 30_000, 30_000, 30_000]
        );
        resume.settle(Transport::WebSocket, at);
        assert_eq!(resume.return_at, None);
    }
}
