//! Nodes whose sessions outlive their connections, and move: a session resumes at any node while its own lives; after that,
//! its user begins a new one, and shows the ticket of the room.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        watch,
    },
    time::sleep,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        handshake::server::{Request, Response},
        http::HeaderValue,
        protocol::{CloseFrame, Message, frame::coding::CloseCode},
    },
};

/// How long a seat is kept for a user whose node has died.
const SEAT_KEPT: Duration = Duration::from_secs(4);
const SUBPROTOCOL: &str = "sec-websocket-protocol";

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    /// Its sessions end.
    Drains,
    /// It drains, and the others take its sessions over.
    HandsOver,
    Dies,
}

#[derive(Default)]
struct Session {
    node: usize,
    outbox: Option<UnboundedSender<Message>>,
    /// The last number that came from the client, and that was given to a message for it.
    received: u64,
    sent: u64,
    log: Vec<(u64, String)>,
    /// The partner, and the room.
    partner: Option<(usize, String)>,
    /// It is gone; what came later than this is for the next one.
    gone: Option<u64>,
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<usize, Session>,
    waiting: Option<usize>,
    rooms: usize,
}

impl State {
    fn tell(&mut self, id: usize, message: Value) {
        self.tell_text(id, &message.to_string());
    }

    fn tell_text(&mut self, id: usize, message: &str) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.sent += 1;
        let fields = message.strip_prefix('{').expect("an object");
        let text = format!("{{\"seq\":{},{fields}", session.sent);
        session.log.push((session.sent, text.clone()));
        if let Some(outbox) = &session.outbox {
            let _ = outbox.send(Message::text(text));
        }
    }

    fn pair(&mut self, first: usize, second: usize) {
        let room = format!("room-{}", self.rooms);
        self.rooms += 1;
        for (me, peer, initiator) in [(first, second, true), (second, first, false)] {
            if let Some(session) = self.sessions.get_mut(&me) {
                session.partner = Some((peer, room.clone()));
            }
            let ticket = format!("{room}/{me}");
            let found = json!({
                "type": "match_found", "room_id": room, "peer_id": peer.to_string(),
                "initiator": initiator, "room_ticket": ticket,
            });
            self.tell(me, found);
        }
    }

    /// The user of a session that is gone has the seat again, in a new session.
    fn rejoin(&mut self, me: usize, ticket: &str) {
        let old = ticket.rsplit_once('/').and_then(|(_, id)| id.parse().ok());
        let seat = old.and_then(|old: usize| self.sessions.get_mut(&old)?.partner.take());
        let Some((peer, room)) = seat else {
            return self.tell(me, json!({"type": "error", "code": "room_gone"}));
        };
        let missed = old.and_then(|old| {
            let old = self.sessions.get_mut(&old)?;
            let gone = old.gone?;
            Some(
                old.log
                    .split_off(old.log.partition_point(|(seq, _)| *seq <= gone)),
            )
        });
        for (one, other) in [(me, peer), (peer, me)] {
            if let Some(session) = self.sessions.get_mut(&one) {
                session.partner = Some((other, room.clone()));
            }
            let rejoined = json!({
                "type": "rejoined", "room_id": room, "peer_id": other.to_string(),
                "initiator": one == me, "room_ticket": format!("{room}/{one}"),
            });
            self.tell(one, rejoined);
        }
        for (_, text) in missed.unwrap_or_default() {
            let fields = text.split_once(',').expect("a number first").1;
            self.tell_text(me, &format!("{{{fields}"));
        }
    }

    /// Nobody has come for the seat.
    fn give_up(&mut self, id: usize) {
        let partner = self.sessions.get_mut(&id).and_then(|it| it.partner.take());
        if let Some((peer, room)) = partner {
            if let Some(session) = self.sessions.get_mut(&peer) {
                session.partner = None;
            }
            let left = json!({
                "type": "peer_left", "reason": "lost", "room_id": room, "peer_id": id.to_string(),
            });
            self.tell(peer, left);
        }
    }
}

struct Server {
    state: Mutex<State>,
    next: AtomicUsize,
    taken: AtomicUsize,
    refused: AtomicUsize,
    received: AtomicUsize,
}

/// Running nodes; they end with the test's runtime.
pub(crate) struct Lasting {
    addresses: Vec<SocketAddr>,
    fates: Vec<watch::Sender<Fate>>,
    server: Arc<Server>,
}

impl Lasting {
    pub(crate) async fn start(nodes: usize) -> Self {
        let server = Arc::new(Server {
            state: Mutex::default(),
            next: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
        });
        let (mut addresses, mut fates) = (Vec::new(), Vec::new());
        for number in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            addresses.push(listener.local_addr().expect("bound"));
            let (fate, fated) = watch::channel(Fate::Lives);
            fates.push(fate);
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut over = fated.clone();
                let accepting = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        let serving = Arc::clone(&server).serve(stream, number, fated.clone());
                        tokio::spawn(serving);
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    _ = over.wait_for(|fate| *fate != Fate::Lives) => {}
                }
            });
        }
        Self {
            addresses,
            fates,
            server,
        }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        let url = |address| format!("ws://{address}/ws");
        self.addresses.iter().map(url).collect()
    }

    pub(crate) fn kill(&self, node: usize) {
        self.fates[node].send_replace(Fate::Dies);
    }

    pub(crate) fn drain(&self, node: usize) {
        self.fates[node].send_replace(Fate::Drains);
    }

    pub(crate) fn hand_over(&self, node: usize) {
        self.fates[node].send_replace(Fate::HandsOver);
    }

    /// Messages that were relayed.
    pub(crate) fn received(&self) -> usize {
        self.server.received.load(SeqCst)
    }

    /// Sessions that went on at another node, and that were gone with theirs.
    pub(crate) fn moved(&self) -> [usize; 2] {
        [&self.server.taken, &self.server.refused].map(|count| count.load(SeqCst))
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    #[allow(
        clippy::result_large_err,
        reason = "the library has this type of callbacks"
    )]
    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        node: usize,
        mut fate: watch::Receiver<Fate>,
    ) {
        let _ = stream.set_nodelay(true);
        let mut resume = None;
        let accepting = accept_hdr_async(stream, |request: &Request, mut response: Response| {
            let offered = request.headers().get(SUBPROTOCOL);
            if let Some(offered) = offered.and_then(|offered| offered.to_str().ok()) {
                resume = read_offer(offered);
                let chosen = HeaderValue::from_static("voicematch.1");
                response.headers_mut().insert(SUBPROTOCOL, chosen);
            }
            Ok(response)
        });
        let Ok(mut socket) = accepting.await else {
            return;
        };
        let (outbox, mut queue) = unbounded_channel();
        let Some(id) = self.attach(node, resume, &outbox) else {
            self.refused.fetch_add(1, SeqCst);
            let frame = CloseFrame {
                code: CloseCode::from(4502),
                reason: "resume_refused".into(),
            };
            let _ = socket.close(Some(frame)).await;
            return;
        };
        loop {
            tokio::select! {
                fate = async { fate.wait_for(|fate| *fate != Fate::Lives).await.map(|fate| *fate) } => {
                    match fate {
                        Ok(Fate::Drains) => return self.drain(id, socket, outbox, queue, true).await,
                        Ok(Fate::HandsOver) => return self.drain(id, socket, outbox, queue, false).await,
                        _ => {}
                    }
                    self.detach(id, &outbox, true);
                    drop(socket);
                    sleep(SEAT_KEPT).await;
                    let mut state = self.lock();
                    let gone = state.sessions.get(&id).is_some_and(|it| it.gone.is_some());
                    if gone {
                        state.give_up(id);
                    }
                    return;
                }
                message = queue.recv() => match message {
                    Some(message) => if socket.send(message).await.is_err() { break },
                    None => break,
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.on_text(id, &text),
                    Some(Ok(Message::Close(_))) => {
                        self.lock().give_up(id);
                        self.detach(id, &outbox, true);
                        // Until the answer is out.
                        while let Some(Ok(_)) = socket.next().await {}
                        return;
                    }
                    Some(Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
            }
        }
        self.detach(id, &outbox, false);
    }

    /// Tells the user to move, and closes when all is acknowledged.
    async fn drain(
        &self,
        id: usize,
        mut socket: tokio_tungstenite::WebSocketStream<TcpStream>,
        outbox: UnboundedSender<Message>,
        mut queue: tokio::sync::mpsc::UnboundedReceiver<Message>,
        gone: bool,
    ) {
        let after = 100 + 50 * u64::try_from(id % 10).expect("small");
        let draining = json!({"type": "draining", "reconnect_in_ms": after});
        self.lock().tell(id, draining);
        let mut end = std::pin::pin!(sleep(Duration::from_millis(after + 200)));
        loop {
            tokio::select! {
                () = &mut end => break,
                Some(message) = queue.recv() => { let _ = socket.send(message).await; }
                Some(Ok(Message::Text(text))) = socket.next() => self.on_text(id, &text),
            }
        }
        self.detach(id, &outbox, gone);
        while let Ok(message) = queue.try_recv() {
            let _ = socket.send(message).await;
        }
        let (code, reason) = match gone {
            true => (4000, "draining"),
            false => (4005, "moved"),
        };
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: reason.into(),
        };
        let _ = socket.close(Some(frame)).await;
    }

    /// `None`: the session is gone.
    fn attach(
        &self,
        node: usize,
        resume: Option<(usize, u64)>,
        outbox: &UnboundedSender<Message>,
    ) -> Option<usize> {
        let mut state = self.lock();
        let Some((id, arrived)) = resume else {
            let id = self.next.fetch_add(1, SeqCst);
            let greeting = json!({
                "type": "session", "session_id": id.to_string(),
                "resume_token": format!("t{id}"), "resume_window_ms": 20_000,
                "heartbeat_ms": 25_000,
            });
            let _ = outbox.send(Message::text(greeting.to_string()));
            let outbox = Some(outbox.clone());
            let session = Session {
                node,
                outbox,
                ..Session::default()
            };
            state.sessions.insert(id, session);
            return Some(id);
        };
        let session = state
            .sessions
            .get_mut(&id)
            .filter(|session| session.gone.is_none())?;
        if session.node != node {
            self.taken.fetch_add(1, SeqCst);
        }
        session.node = node;
        let resumed = json!({"type": "resumed", "received": session.received});
        let _ = outbox.send(Message::text(resumed.to_string()));
        for (_, text) in session.log.iter().filter(|(seq, _)| *seq > arrived) {
            let _ = outbox.send(Message::text(text.clone()));
        }
        session.outbox = Some(outbox.clone());
        Some(id)
    }

    /// Unless a later connection carries the session.
    fn detach(&self, id: usize, outbox: &UnboundedSender<Message>, gone: bool) {
        let mut state = self.lock();
        let later = state.sessions.get(&id).and_then(|it| it.outbox.as_ref());
        if later.is_some_and(|later| !later.same_channel(outbox)) {
            return;
        }
        if state.waiting == Some(id) && gone {
            state.waiting = None;
        }
        if let Some(session) = state.sessions.get_mut(&id) {
            session.outbox = None;
            if gone {
                session.gone.get_or_insert(session.sent);
            }
        }
    }

    fn on_text(&self, id: usize, text: &str) {
        let message: Value = serde_json::from_str(text).expect("loadtest sends JSON");
        let mut state = self.lock();
        let state = &mut *state;
        let Some(session) = state.sessions.get_mut(&id) else {
            return;
        };
        if let Some(seq) = message["seq"].as_u64() {
            if seq <= session.received {
                return;
            }
            session.received = seq;
            let received = json!({"type": "pong", "received": seq});
            if let Some(outbox) = &session.outbox {
                let _ = outbox.send(Message::text(received.to_string()));
            }
        }
        match message["type"].as_str().expect("a type") {
            "pong" => {}
            "find_match" => match state.waiting.take() {
                Some(first) if first != id => state.pair(first, id),
                _ => state.waiting = Some(id),
            },
            "rejoin" => {
                let ticket = message["ticket"].as_str().expect("a ticket").to_owned();
                state.rejoin(id, &ticket);
            }
            kind => {
                self.received.fetch_add(1, SeqCst);
                match &session.partner {
                    Some((peer, _)) => {
                        let (peer, from) = (*peer, id.to_string());
                        // The payload stays as it is: it is compared letter by letter.
                        let relay: Relay<'_> = serde_json::from_str(text).expect("a relay");
                        let payload = relay.payload.get();
                        let relayed =
                            format!(r#"{{"type":"{kind}","from":"{from}","payload":{payload}}}"#);
                        state.tell_text(peer, &relayed);
                    }
                    None => state.tell(id, json!({"type": "error", "code": "not_in_room"})),
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Relay<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// `voicematch.1, resume.t7.12`: the session, and the number of the last message that arrived.
fn read_offer(offered: &str) -> Option<(usize, u64)> {
    let (_, offer) = offered.split_once("resume.t")?;
    let (id, arrived) = offer.split_once('.')?;
    Some((id.parse().ok()?, arrived.parse().ok()?))
}
