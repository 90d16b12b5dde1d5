//! A matchmaking server that misbehaves on demand.

mod cluster;
mod lasting;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        watch,
    },
};
use tokio_tungstenite::{
    accept_async,
    tungstenite::protocol::{CloseFrame, Message, frame::coding::CloseCode},
};

pub(crate) use cluster::Cluster;
use cluster::{Node, TOLD_AFTER, listen};
pub(crate) use lasting::Lasting;

/// What the server does wrong. Every `Some(n)` means: with each n-th message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub drop: Option<usize>,
    pub duplicate: Option<usize>,
    /// Holds a message back until the sender's next one has been relayed.
    pub reorder: Option<usize>,
    /// Gives a message to a user of another room instead of the partner.
    pub misroute: Option<usize>,
    /// Changes the payload on the way.
    pub alter: Option<usize>,
    /// Changes one digit of the tag in the payload.
    pub alter_tag: Option<usize>,
    /// Names another sender than the partner; or none.
    pub wrong_from: Option<usize>,
    pub no_from: Option<usize>,
    /// Relays a message in a binary frame.
    pub binary: Option<usize>,
    /// Says `peer_left` although nobody left: to the partner, or to the sender too.
    pub false_left: Option<usize>,
    pub false_left_both: Option<usize>,
    /// Does not say `peer_left` to the partner of one who goes on to the next.
    pub leave_untold: bool,
    /// Names both users of a room as the one who makes the offer.
    pub same_role: bool,
    /// Names another session than the partner's.
    pub wrong_peer_id: bool,
    /// Once: pairs two who are in rooms with each other, and their partners with each other.
    pub swap: Option<usize>,
    /// Drops messages between nodes.
    pub drop_remote: Option<usize>,
    /// Tells the partners of users of a node that was killed so many milliseconds later.
    pub told_after_ms: Option<u64>,
    /// Closes connections of this node only.
    pub close_at: Option<usize>,
    /// Relays no message of this type.
    pub drop_type: Option<&'static str>,
    /// Delays each relayed message by this many milliseconds.
    pub late_ms: Option<u64>,
    /// Answers no ping.
    pub no_pong: Option<usize>,
    /// Once: tells everybody that it is about to stop.
    pub draining: Option<usize>,
    /// Answers a message with an error of this code instead of relaying it.
    pub error: Option<(usize, &'static str)>,
    pub never_match: bool,
    /// Tells only the first of two that they are matched.
    pub one_sided: bool,
    pub no_session: bool,
    /// Cuts off the user who sends each n-th message, with this close code.
    pub close: Option<(usize, u16)>,
    /// Rejects each n-th handshake with 503.
    pub refuse: Option<usize>,
    /// Rejects handshakes with 503 while this many users are connected.
    pub room_for: Option<usize>,
}

/// What the server itself counted, to be compared with the report.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub connections: AtomicUsize,
    pub connected: AtomicUsize,
    pub received: AtomicUsize,
    pub dropped: AtomicUsize,
    pub remote: AtomicUsize,
    pub remote_rooms: AtomicUsize,
    pub duplicated: AtomicUsize,
    pub reordered: AtomicUsize,
    pub misrouted: AtomicUsize,
    pub altered: AtomicUsize,
    pub misnamed: AtomicUsize,
    pub binary: AtomicUsize,
    pub told_wrongly: AtomicUsize,
    pub untold: AtomicUsize,
    pub rooms: AtomicUsize,
    pub pings: AtomicUsize,
    pub unanswered: AtomicUsize,
    pub refused: AtomicUsize,
    pub closed: AtomicUsize,
    pub errors: AtomicUsize,
}

impl Counts {
    /// The value of one count.
    pub(crate) fn get(counter: &AtomicUsize) -> usize {
        counter.load(SeqCst)
    }
}

/// A message of a client; the payload stays the bytes it came as.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    id: Option<&'a str>,
}

type Outbox = UnboundedSender<Message>;

#[derive(Clone)]
struct Member {
    id: usize,
    node: usize,
    outbox: Outbox,
}

#[derive(Default)]
struct State {
    waiting: Option<Member>,
    /// Partner by user id.
    partners: std::collections::BTreeMap<usize, Member>,
    held: std::collections::BTreeMap<usize, Message>,
    /// Of everybody who is connected.
    outboxes: std::collections::BTreeMap<usize, Outbox>,
}

impl State {
    /// Somebody in another room.
    fn stranger_to(&self, one: usize, other: usize) -> Member {
        let mut strangers = self.partners.values();
        let stranger = strangers.find(|member| member.id != one && member.id != other);
        stranger.expect("another room").clone()
    }
}

struct Server {
    faults: Faults,
    counts: Arc<Counts>,
    state: Mutex<State>,
}

/// A running fake; ends with the test's runtime.
pub(crate) struct Fake {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
    _alive: watch::Sender<bool>,
}

impl Fake {
    /// Starts a fake on a free port.
    pub(crate) async fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let counts = Arc::new(Counts::default());
        let state = Mutex::default();
        let server = Arc::new(Server {
            faults,
            counts: Arc::clone(&counts),
            state,
        });
        let (alive, killed) = watch::channel(false);
        let number = 0;
        tokio::spawn(listen(server, listener, Node { number, killed }));
        Self {
            address,
            counts,
            _alive: alive,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }
}

fn nth(counter: &AtomicUsize, every: Option<usize>, message: usize) -> bool {
    let hit = every.is_some_and(|n| message.is_multiple_of(n));
    counter.fetch_add(usize::from(hit), SeqCst);
    hit
}

fn tell_left(user: &Member) {
    let left = json!({"type": "peer_left", "reason": "lost"});
    let _ = user.outbox.send(text(&left));
}

fn text(value: &Value) -> Message {
    Message::text(value.to_string())
}

/// One more who is connected, for as long as this is there; and how many that makes.
struct Connected(usize, Arc<Counts>);

impl Connected {
    fn new(counts: &Arc<Counts>) -> Self {
        let before = counts.connected.fetch_add(1, SeqCst);
        Self(before + 1, Arc::clone(counts))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.1.connected.fetch_sub(1, SeqCst);
    }
}

impl Server {
    async fn serve(self: Arc<Self>, mut stream: TcpStream, mut node: Node) {
        let id = self.counts.connections.fetch_add(1, SeqCst);
        let connected = Connected::new(&self.counts);
        let full = self.faults.room_for.is_some_and(|most| connected.0 > most);
        // The first connection is the probe, and is let in.
        if full || (id > 0 && nth(&self.counts.refused, self.faults.refuse, id)) {
            let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
            return;
        }
        let _ = stream.set_nodelay(true);
        let Ok(socket) = accept_async(stream).await else {
            return;
        };
        let (mut write, mut read) = socket.split();
        let (outbox, mut queue) = unbounded_channel();
        if !self.faults.no_session {
            let _ = outbox.send(text(
                &json!({"type": "session", "session_id": id.to_string()}),
            ));
        }
        let number = node.number;
        let me = Member {
            id,
            node: number,
            outbox,
        };
        self.lock().outboxes.insert(id, me.outbox.clone());
        loop {
            tokio::select! {
                () = node.death() => {
                    drop((read, write, connected));
                    let late = self.faults.told_after_ms.map(std::time::Duration::from_millis);
                    tokio::time::sleep(late.unwrap_or(TOLD_AFTER)).await;
                    return self.leave(id);
                }
                message = queue.recv() => match message {
                    Some(message) => {
                        let last = message.is_close();
                        if write.send(message).await.is_err() || last { break }
                    }
                    None => break,
                },
                message = read.next() => match message {
                    Some(Ok(Message::Text(request))) => self.on_text(&me, &request),
                    Some(Ok(Message::Close(_))) | Some(Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
            }
        }
        self.leave(id);
        let _ = write.close().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn leave(&self, id: usize) {
        let mut state = self.lock();
        state.outboxes.remove(&id);
        if state
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.id == id)
        {
            state.waiting = None;
        }
        self.leave_room(&mut state, id);
    }

    fn leave_room(&self, state: &mut State, id: usize) {
        if let Some(partner) = state.partners.remove(&id) {
            state.partners.remove(&partner.id);
            if self.faults.leave_untold {
                self.counts.untold.fetch_add(1, SeqCst);
            } else {
                tell_left(&partner);
            }
        }
    }

    fn on_text(&self, me: &Member, request: &str) {
        let request: Request<'_> = serde_json::from_str(request).expect("loadtest sends JSON");
        match (request.kind, request.payload) {
            ("find_match", None) => self.find_match(me),
            ("next", None) => {
                self.leave_room(&mut self.lock(), me.id);
                self.find_match(me);
            }
            (kind @ ("offer" | "answer" | "ice_candidate" | "message"), Some(payload)) => {
                self.relay(me, kind, payload.get());
            }
            ("ping", None) => {
                let number = self.counts.pings.fetch_add(1, SeqCst) + 1;
                if nth(&self.counts.unanswered, self.faults.no_pong, number) {
                    return;
                }
                let pong = json!({"type": "pong", "id": request.id});
                let _ = me.outbox.send(text(&pong));
            }
            other => panic!("loadtest sent {other:?}"),
        }
    }

    fn find_match(&self, me: &Member) {
        if self.faults.never_match {
            return;
        }
        let mut state = self.lock();
        let Some(first) = state.waiting.take() else {
            state.waiting = Some(me.clone());
            return;
        };
        self.pair(&mut state, &first, me);
    }

    fn pair(&self, state: &mut State, first: &Member, second: &Member) {
        let room = format!("room-{}", self.counts.rooms.fetch_add(1, SeqCst));
        let found = |peer: &Member, initiator: bool| {
            let peer_id = match self.faults.wrong_peer_id {
                true => "nobody".to_owned(),
                false => peer.id.to_string(),
            };
            let initiator = initiator || self.faults.same_role;
            text(&json!({
                "type": "match_found", "room_id": room, "peer_id": peer_id, "initiator": initiator
            }))
        };
        let _ = first.outbox.send(found(second, true));
        if !self.faults.one_sided {
            let _ = second.outbox.send(found(first, false));
        }
        let remote = usize::from(first.node != second.node);
        self.counts.remote_rooms.fetch_add(remote, SeqCst);
        state.partners.insert(first.id, second.clone());
        state.partners.insert(second.id, first.clone());
    }

    /// Pairs two users with a stranger and the stranger's partner; all four are told.
    fn swap(&self, state: &mut State, me: &Member, partner: &Member) {
        let stranger = state.stranger_to(me.id, partner.id);
        let other = state.partners[&stranger.id].clone();
        self.pair(state, me, &stranger);
        self.pair(state, partner, &other);
    }

    fn relay(&self, me: &Member, kind: &str, payload: &str) {
        let (faults, counts) = (&self.faults, &self.counts);
        let number = counts.received.fetch_add(1, SeqCst) + 1;
        let mut state = self.lock();
        let Some(partner) = state.partners.get(&me.id).cloned() else {
            let _ = me
                .outbox
                .send(text(&json!({"type": "error", "code": "not_in_room"})));
            return;
        };
        if let Some((every, code)) = faults.error
            && nth(&counts.errors, Some(every), number)
        {
            let _ = me
                .outbox
                .send(text(&json!({"type": "error", "code": code})));
            return;
        }
        let remote = me.node != partner.node;
        if remote {
            let number = counts.remote.fetch_add(1, SeqCst) + 1;
            if nth(&counts.dropped, faults.drop_remote, number) {
                return;
            }
        }
        if let Some((every, code)) = faults.close
            && faults.close_at.is_none_or(|node| node == me.node)
            && nth(&counts.closed, Some(every), number)
        {
            let frame = CloseFrame {
                code: CloseCode::from(code),
                reason: "go".into(),
            };
            let _ = me.outbox.send(Message::Close(Some(frame)));
            return;
        }
        if nth(&counts.dropped, faults.drop, number) {
            return;
        }
        if faults.drop_type == Some(kind) {
            counts.dropped.fetch_add(1, SeqCst);
            return;
        }
        if faults.swap == Some(number) {
            self.swap(&mut state, me, &partner);
            return;
        }
        if faults.draining == Some(number) {
            let drains = text(&json!({"type": "draining", "reconnect_in_ms": 10_000}));
            for outbox in state.outboxes.values() {
                let _ = outbox.send(drains.clone());
            }
        }
        let both = nth(&counts.told_wrongly, faults.false_left_both, number);
        if both || nth(&counts.told_wrongly, faults.false_left, number) {
            state.partners.remove(&partner.id);
            tell_left(&partner);
            if both {
                counts.told_wrongly.fetch_add(1, SeqCst);
                state.partners.remove(&me.id);
                tell_left(me);
            } else {
                // Relays of this side vanish from now on.
                let (gone, _) = unbounded_channel();
                let nobody = Member {
                    outbox: gone,
                    ..partner
                };
                state.partners.insert(me.id, nobody);
            }
            return;
        }
        let mut payload = payload.to_owned();
        if nth(&counts.altered, faults.alter, number) {
            payload = payload.replace("candidate:1", "candidate:2");
        }
        if nth(&counts.altered, faults.alter_tag, number) {
            // A digit of the room.
            let at = payload.find(" vm ").expect("a tag") + 14;
            let digit = if payload[at..].starts_with('1') {
                "2"
            } else {
                "1"
            };
            payload.replace_range(at..=at, digit);
        }
        let mut from = format!(r#""from":"{}","#, me.id);
        if nth(&counts.misnamed, faults.wrong_from, number) {
            from = r#""from":"nobody","#.to_owned();
        }
        if nth(&counts.misnamed, faults.no_from, number) {
            from.clear();
        }
        let relayed = format!(r#"{{"type":"{kind}",{from}"payload":{payload}}}"#);
        let message = match nth(&counts.binary, faults.binary, number) {
            true => Message::binary(relayed),
            false => Message::text(relayed),
        };
        if let Some(ms) = faults.late_ms {
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
                let _ = partner.outbox.send(message);
            });
            return;
        }
        let to = if nth(&counts.misrouted, faults.misroute, number) {
            state.stranger_to(me.id, partner.id)
        } else {
            partner
        };
        if let Some(held) = state.held.remove(&me.id) {
            let _ = to.outbox.send(message);
            let _ = to.outbox.send(held);
            counts.reordered.fetch_add(1, SeqCst);
            return;
        }
        if faults
            .reorder
            .is_some_and(|every| number.is_multiple_of(every))
        {
            state.held.insert(me.id, message);
            return;
        }
        let _ = to.outbox.send(message.clone());
        if nth(&counts.duplicated, faults.duplicate, number) {
            let _ = to.outbox.send(message);
        }
    }
}
