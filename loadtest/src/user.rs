//! One simulated user: connects, asks for a partner, signals, listens, closes.

use std::{pin::pin, rc::Rc, time::Duration};

use serde_json::value::RawValue;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use voicematch_protocol::{ClientType, ErrorCode, ServerType, ServerView};

use crate::{
    client::{Connection, Endpoint, Event},
    ledger::{Inbox, Receipt, Stay},
    pace::Pacer,
    payload::{Tag, request, room_key},
    phase::{Phase, reached},
    plan::Plan,
    sample::{Delivered, Direction, ErrorKind, Kind, Route, Sample, ServerCode, Sink, Unmatched},
};

/// A message that takes longer than this is late.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// What all users of a worker share.
pub(crate) struct Stage {
    pub plan: Plan,
    pub endpoint: Endpoint,
    /// The start of the run.
    pub epoch: Instant,
    /// Tells this run's messages from those of another.
    pub run: u32,
    pub phase: watch::Receiver<Phase>,
    pub sink: Sink,
    pub pacer: Rc<Pacer>,
}

impl Stage {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// Plays user `index` from their start to the end of the run.
pub(crate) async fn play(index: u32, stage: Rc<Stage>) {
    (stage.sink)(Sample::Connecting { again: false });
    let joined = tokio::select! {
        biased;
        () = reached(&stage.phase, Phase::Settling) => return (stage.sink)(Sample::ConnectingEnded),
        joined = join(index, &stage) => joined,
    };
    let connection = match joined {
        Ok(connection) => connection,
        Err(error) => {
            return (stage.sink)(Sample::NotConnected { error });
        }
    };
    let latency = stage.now().saturating_sub(stage.plan.start_of(index));
    (stage.sink)(Sample::Connected { latency });
    let mut user = User {
        index,
        stage,
        connection,
        search: None,
        room: None,
    };
    let stayed = user.stay().await;
    if let (Err(_), Some(room)) = (&stayed, &mut user.room) {
        room.stay.cut_off = true;
    }
    user.leave_room(false);
    user.end_search();
    let User {
        stage, connection, ..
    } = user;
    match stayed {
        Ok(()) => finish(index, &stage, connection).await,
        Err(error) => (stage.sink)(Sample::Dropped { error }),
    }
}

/// Connects and reads the `session` message.
async fn join(index: u32, stage: &Stage) -> Result<Connection, ErrorKind> {
    let mut error = ErrorKind::ConnectTimeout;
    let joining = async {
        let mut connection = stage.endpoint.connect(index).await?;
        error = ErrorKind::NoSession;
        while !is_session(&connection.next().await?) {}
        Ok(connection)
    };
    match timeout(stage.plan.connect_timeout, joining).await {
        Ok(joined) => joined,
        Err(_elapsed) => Err(error),
    }
}

fn is_session(event: &Event) -> bool {
    let Event::Text(text) = event else {
        return false;
    };
    serde_json::from_str::<ServerView<'_>>(text).is_ok_and(|view| view.kind == ServerType::Session)
}

/// Closes in good order, not all users in the same instant.
async fn finish(index: u32, stage: &Stage, connection: Connection) {
    const BETWEEN_CLOSES: Duration = Duration::from_micros(100);
    sleep((BETWEEN_CLOSES * index).min(Duration::from_secs(2))).await;
    if let Err(error) = connection.close().await {
        (stage.sink)(Sample::Error { error });
    }
    (stage.sink)(Sample::Closed);
}

/// A connected user.
struct User {
    index: u32,
    stage: Rc<Stage>,
    connection: Connection,
    search: Option<Search>,
    room: Option<Room>,
}

/// A user's wait for a partner.
#[derive(Clone, Copy)]
struct Search {
    from: Duration,
    timed_out: bool,
}

/// The room a user is in.
struct Room {
    stay: Stay,
    peer_id: Option<Box<str>>,
    /// When the next message is due.
    next_due: Duration,
}

impl User {
    /// Everything between the `session` message and the close.
    async fn stay(&mut self) -> Result<(), ErrorKind> {
        let sent = self.take_part().await;
        (self.stage.sink)(Sample::StoppedSending);
        sent?;
        self.live(Phase::Closing).await
    }

    async fn take_part(&mut self) -> Result<(), ErrorKind> {
        self.search(false)?;
        self.live(Phase::Settling).await
    }

    /// Reads and, while the run is on, sends; until the run comes to phase `until`.
    async fn live(&mut self, until: Phase) -> Result<(), ErrorKind> {
        let stage = Rc::clone(&self.stage);
        let active = until == Phase::Settling;
        let mut end = pin!(reached(&stage.phase, until));
        let mut timer = pin!(stage.pacer.until(stage.epoch));
        loop {
            let wake = if active { self.next_wake() } else { None };
            if let Some(wake) = wake {
                let deadline = stage.epoch + wake;
                if timer.moment() != deadline {
                    timer.set(stage.pacer.until(deadline));
                }
            }
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                event = self.connection.next() => self.on_event(event?, active)?,
                () = &mut timer, if wake.is_some() => self.on_time()?,
            }
        }
    }

    /// When there is something to do without being told by the server.
    fn next_wake(&self) -> Option<Duration> {
        if let Some(room) = &self.room {
            return Some(room.next_due);
        }
        let waiting = self.search.filter(|search| !search.timed_out)?;
        Some(waiting.from + self.stage.plan.match_timeout)
    }

    fn on_time(&mut self) -> Result<(), ErrorKind> {
        let now = self.stage.now();
        if self.room.is_some() {
            return self.send_due(now);
        }
        let timeout = self.stage.plan.match_timeout;
        if let Some(search) = &mut self.search {
            // The user stays in the queue: whoever comes later may still be paired with them.
            search.timed_out = now.saturating_sub(search.from) >= timeout;
        }
        Ok(())
    }

    /// Sends all that is due: more than one message after a stall, each timed from when it was due.
    fn send_due(&mut self, now: Duration) -> Result<(), ErrorKind> {
        let Some(room) = &mut self.room else {
            return Ok(());
        };
        while room.next_due <= now {
            let route = Route {
                kind: Kind::ICE_CANDIDATE,
                direction: room.stay.direction,
            };
            let lateness = now.saturating_sub(room.next_due);
            let tag = Tag {
                run: self.stage.run,
                room: room.stay.room,
                sender: self.index,
                seq: room.stay.sent_in_all(),
                nth: room.stay.sent[route.kind.index()],
                direction: route.direction,
                due: room.next_due,
                lateness,
            };
            let text = tag
                .to_request(self.stage.plan.payload_bytes)
                .map_err(|_impossible| ErrorKind::BadMessage)?;
            self.connection.send(text)?;
            room.stay.sent[route.kind.index()] += 1;
            (self.stage.sink)(Sample::Sent { route, lateness });
            room.next_due += self.stage.plan.signal_interval;
        }
        Ok(())
    }

    fn search(&mut self, again: bool) -> Result<(), ErrorKind> {
        self.search = Some(Search {
            from: self.stage.now(),
            timed_out: false,
        });
        (self.stage.sink)(Sample::Searching { again });
        let text =
            request(ClientType::FindMatch, None).map_err(|_impossible| ErrorKind::BadMessage)?;
        self.connection.send(text)
    }

    /// The search is over without a match in time.
    fn end_search(&mut self) {
        let Some(search) = self.search.take() else {
            return;
        };
        let to = self.stage.now();
        let waited = to
            .saturating_sub(search.from)
            .min(self.stage.plan.match_timeout);
        (self.stage.sink)(Sample::Unmatched(Unmatched {
            from: search.from,
            to,
            waited,
        }));
    }

    fn leave_room(&mut self, partner_left: bool) {
        let Some(mut room) = self.room.take() else {
            return;
        };
        room.stay.partner_left |= partner_left;
        room.stay.left = self.stage.now();
        (self.stage.sink)(Sample::RoomLeft(Box::new(room.stay)));
    }

    fn on_event(&mut self, event: Event, active: bool) -> Result<(), ErrorKind> {
        let now = self.stage.now();
        let Event::Text(text) = event else {
            self.tell_error(ErrorKind::BadMessage);
            return Ok(());
        };
        let Ok(view) = serde_json::from_str::<ServerView<'_>>(&text) else {
            self.tell_error(ErrorKind::BadMessage);
            return Ok(());
        };
        match view.kind {
            ServerType::MatchFound => self.on_match(now, &view),
            ServerType::PeerLeft => return self.on_peer_left(active),
            ServerType::IceCandidate => match view.payload {
                Some(payload) => self.on_relay(now, payload, view.from.as_deref()),
                None => self.tell_error(ErrorKind::BadMessage),
            },
            ServerType::Error => self.on_error(view.code.as_deref().unwrap_or_default()),
            _ => {}
        }
        Ok(())
    }

    fn tell_error(&self, error: ErrorKind) {
        (self.stage.sink)(Sample::Error { error });
    }

    fn on_match(&mut self, now: Duration, view: &ServerView<'_>) {
        let Some(search) = self.search else {
            return (self.stage.sink)(Sample::DoubleMatch);
        };
        let latency = now.saturating_sub(search.from);
        if search.timed_out || latency > self.stage.plan.match_timeout {
            self.end_search();
        } else {
            (self.stage.sink)(Sample::Matched { latency });
        }
        self.search = None;
        (self.stage.sink)(Sample::RoomJoined);
        self.room = Some(Room {
            stay: Stay {
                room: room_key(view.room_id.as_deref().unwrap_or_default()),
                user: self.index,
                joined: now,
                left: now,
                direction: Direction::of_sender(view.initiator == Some(true)),
                sent: [0; Kind::MAX],
                refused: 0,
                partner_left: false,
                cut_off: false,
                foreign: false,
                inbox: Inbox::default(),
            },
            peer_id: view.peer_id.as_deref().map(Into::into),
            next_due: self.stage.plan.signal_at_or_after(self.index, now),
        });
    }

    fn on_peer_left(&mut self, active: bool) -> Result<(), ErrorKind> {
        if self.room.is_none() {
            return Ok(());
        }
        self.leave_room(true);
        if active { self.search(true) } else { Ok(()) }
    }

    /// Checks a relayed message against the room the user is in.
    fn on_relay(&mut self, now: Duration, payload: &RawValue, from: Option<&str>) {
        let sink = &self.stage.sink;
        let Some(tag) = Tag::read(payload.get()) else {
            return self.tell_error(ErrorKind::BadMessage);
        };
        let room = self.room.as_mut();
        if tag.run != self.stage.run {
            if let Some(room) = room {
                room.stay.foreign = true;
            }
            return sink(Sample::Foreign);
        }
        let route = Route {
            kind: Kind::ICE_CANDIDATE,
            direction: tag.direction,
        };
        let Some(room) = room else {
            return sink(Sample::WrongPeer { route });
        };
        let named_other =
            from.is_some_and(|from| room.peer_id.as_deref().is_some_and(|id| id != from));
        if tag.room != room.stay.room || tag.sender == self.index || named_other {
            return sink(Sample::WrongPeer { route });
        }
        let receipt = (room.stay.inbox).receive(tag.sender, tag.seq, route.kind, tag.nth);
        let in_order = match receipt {
            Receipt::InOrder => true,
            Receipt::Reordered => false,
            Receipt::Duplicate => return sink(Sample::Duplicate { route }),
            Receipt::WrongPeer => return sink(Sample::WrongPeer { route }),
        };
        let altered = payload.get() != tag.to_payload(self.stage.plan.payload_bytes);
        let latency = now.saturating_sub(tag.due);
        let as_sent = latency.saturating_sub(tag.lateness);
        sink(Sample::Delivered(Delivered {
            route,
            sender: tag.sender,
            latency,
            as_sent,
            in_order,
            late: as_sent > MESSAGE_TIMEOUT,
            altered,
        }));
    }

    fn on_error(&mut self, code: &str) {
        if code != ErrorCode::NotInRoom.as_str() {
            return self.tell_error(ErrorKind::ServerError(ServerCode::new(code)));
        }
        // Right when the partner has just left, which the server may say before or after this. The
        // ledger decides, once the stay is over.
        (self.stage.sink)(Sample::Refused);
        if let Some(room) = &mut self.room {
            room.stay.refused += 1;
        }
    }
}
