//! Clients: what they say, and what they know from what they were told.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    sync::Mutex,
    task::{Context, Poll},
};

use serde_json::Value;

use super::{
    super::{
        super::{To, roster::Former},
        *,
    },
    world::{NODES, World},
};
use crate::outbox::{Batch, Link, Outbox, OutboxLimits, text_frame};

pub(super) const NAMES: usize = 2;

pub(super) fn name_of(name: usize) -> String {
    ["tea", "coffee"][name].to_owned()
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Link for Heard {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut heard = self.0.lock().expect("not poisoned");
        parts.iter().for_each(|part| heard.extend_from_slice(part));
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn hang_up(&mut self) {}

    fn farewell(&self, _: CloseReason, _: &mut Vec<u8>) {}
}

/// A user of node `id % NODES`, resumable if the id is odd, and what they know.
pub(super) struct Client {
    pub(super) member: Arc<Member>,
    node: usize,
    heard: Heard,
    read: usize,
    /// What the user was told when they asked, in place of an answer.
    refused: Option<String>,
    pub(super) name: Option<String>,
    pub(super) room: Option<RoomId>,
    pub(super) n: u32,
    pub(super) peers: BTreeMap<SessionId, u32>,
    pub(super) gone: Vec<(SessionId, String)>,
    /// Why they are out of a room that they have not left.
    pub(super) out: Option<String>,
    /// Who has said something.
    pub(super) said: Vec<SessionId>,
}

impl Client {
    pub(super) fn new(world: &World, id: usize) -> Self {
        let node = id % NODES;
        let (_, metrics) = &world.nodes[node];
        let heard = Heard::default();
        let limits = OutboxLimits {
            messages: 10,
            bytes: 10_000,
        };
        let memory = Memory::new(1 << 20, metrics.buffered_bytes.clone());
        let link = Some(Box::new(heard.clone()) as _);
        let outbox = Outbox::new(limits, link, metrics.clone(), memory);
        Self {
            member: Arc::new(Member::new(SessionId(id as u64), outbox, id % 2 == 1, None)),
            node,
            heard,
            read: 0,
            refused: None,
            name: None,
            room: None,
            n: 0,
            peers: BTreeMap::new(),
            gone: Vec::new(),
            out: None,
            said: Vec::new(),
        }
    }

    pub(super) fn all(world: &World, count: usize) -> Vec<Self> {
        (0..count).map(|id| Self::new(world, id)).collect()
    }

    fn rooms<'a>(&self, world: &'a World) -> &'a NamedRooms {
        &world.nodes[self.node].0
    }

    pub(super) fn join(&mut self, world: &World, name: &str) {
        self.join_as(world, name, None);
    }

    pub(super) fn join_as(&mut self, world: &World, name: &str, former: Option<Former>) {
        self.read();
        // Their session has ended.
        if self.out.as_deref() == Some("replaced") {
            return;
        }
        let joined = self.rooms(world).join(&self.member, name, former, None);
        self.refused = joined
            .err()
            .map(|cannot| cannot.error().0.as_str().to_owned());
    }

    /// As a session does it.
    pub(super) fn leave(&mut self, world: &World) -> bool {
        self.read();
        let rooms = self.rooms(world);
        let waited = rooms.give_up_joining(&self.member);
        let room = self.member.give_up_seat();
        if let Some(room) = &room {
            rooms.leave(room, self.member.id, LeaveReason::Left);
        }
        self.read();
        self.name = None;
        self.room = None;
        self.peers.clear();
        waited || room.is_some()
    }

    /// How many have it.
    pub(super) fn say(&self, to: &To<'_>) -> Option<usize> {
        let room = self.member.named_room()?;
        let text = format!(r#"{{"type":"said","from":"{}"}}"#, self.member.id);
        let mut batch = Batch::default();
        batch.push(&[text.as_bytes()]);
        room.send(self.member.id, to, &batch, Instant::now()).ok()
    }

    pub(super) fn heard(&self) -> Vec<Value> {
        let bytes = self.heard.0.lock().expect("not poisoned").clone();
        let mut rest = &bytes[..];
        let messages = std::iter::from_fn(|| {
            let (message, behind) = text_frame(rest)?;
            rest = behind;
            Some(serde_json::from_slice(message).expect("JSON"))
        });
        messages.collect()
    }

    /// The error after the last request, if there is one.
    pub(super) fn last_error(&self) -> Option<String> {
        let heard = self.heard();
        let last = heard.last().filter(|last| last["type"] == "error");
        let later = last.map(|last| last["code"].as_str().unwrap_or_default().to_owned());
        later.or(self.refused.clone())
    }

    pub(super) fn last(&self, kind: &str) -> Value {
        let mut heard = self.heard();
        heard.retain(|message| message["type"] == kind);
        heard.pop().expect("was told")
    }

    /// Takes in what has come.
    pub(super) fn read(&mut self) {
        let heard = self.heard();
        for message in &heard[self.read..] {
            self.take(message);
        }
        self.read = heard.len();
    }

    fn take(&mut self, message: &Value) {
        let id = |value: &Value| -> u64 {
            u64::from_str_radix(value.as_str().expect("an id"), 16).expect("hexadecimal")
        };
        let peer = |value: &Value| {
            let n = value["n"].as_u64().expect("a number");
            (
                SessionId(id(&value["peer_id"])),
                u32::try_from(n).expect("a number"),
            )
        };
        let of_room = |value: &Value| Some(RoomId(id(&value["room_id"])));
        match message["type"].as_str() {
            Some("room_joined") => {
                let (own, n) = peer(&message["you"]);
                assert_eq!(own, self.member.id);
                (self.n, self.room) = (n, of_room(message));
                self.name = message["room"].as_str().map(str::to_owned);
                let members = message["members"].as_array().expect("a list");
                self.peers = members.iter().map(peer).collect();
                assert_eq!(self.peers.len(), members.len());
            }
            Some("peer_joined") => {
                assert_eq!(of_room(message), self.room);
                let (session, n) = peer(message);
                assert_ne!(session, self.member.id);
                // A user who comes back into a seat has the same number again.
                let was = message["was"].as_str();
                let was = was.and_then(|was| u64::from_str_radix(was, 16).ok());
                let was = was.map(SessionId);
                if let Some(was) = was.filter(|was| self.peers.get(was) == Some(&n)) {
                    self.peers.remove(&was);
                }
                assert_eq!(self.peers.insert(session, n), None, "{session:?} twice");
                assert_eq!(message["offer"], self.n > n);
            }
            Some("peer_left") => {
                assert_eq!(of_room(message), self.room);
                let session = SessionId(id(&message["peer_id"]));
                let reason = message["reason"].as_str().expect("a reason");
                if session == self.member.id {
                    (self.name, self.room) = (None, None);
                    self.peers.clear();
                    self.out = Some(reason.to_owned());
                    return;
                }
                assert!(
                    self.peers.remove(&session).is_some(),
                    "{session:?} was not there"
                );
                self.gone.push((session, reason.to_owned()));
            }
            Some("said") => {
                let from = SessionId(id(&message["from"]));
                assert!(self.peers.contains_key(&from), "{from:?} is not there");
                self.said.push(from);
            }
            Some("error") => assert_eq!(self.name, None, "{message}"),
            other => panic!("unexpected {other:?}"),
        }
    }
}
