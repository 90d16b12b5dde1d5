//! Requests of clients for sessions of other nodes (`/send` and `/poll`): passed on to where the session is, carried out there,
//! and answered. What becomes a connection (`/ws`, `/events`) is none of them.

mod home;
mod wire;

use std::{
    collections::HashMap,
    net::IpAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use prometheus::{IntCounterVec, Opts, Registry};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::timeout};
use voicematch_cluster::NodeId;
use voicematch_core::{
    cluster::{self as core, Nodes as _},
    process::ProcessId,
};

use super::{
    Node,
    joined::{from_core, to_core},
};
pub use home::{Carrying, Server};
use wire::{Asked, Forward, Outcome};

/// The kinds of frames that are of this.
pub(super) const KINDS: RangeInclusive<u8> = wire::FORWARD..=wire::FORGET;

/// Requests under way at the same time, from this node and, again, to it: a poll is one for as long as it is held.
const UNDER_WAY: usize = 16_384;

/// Their bodies, and what has come of their answers, together.
const UNDER_WAY_BYTES: usize = 8 << 20;

/// Until a request is answered, besides the time for which a poll is held.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much sooner than asked for a poll ends at the session's node.
const MARGIN: Duration = Duration::from_secs(1);

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Send,
    Poll,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Poll => "poll",
        }
    }
}

/// A request of a client whose session is on another node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub kind: Kind,
    /// Opens the session.
    pub token: String,
    /// Where the user is.
    pub user: IpAddr,
    /// The number of the last message that the client has; of a poll.
    #[serde(default)]
    pub after: Option<u64>,
    /// How long a poll may be held, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
    /// The named room that a poll joins.
    #[serde(default)]
    pub join: Option<String>,
    /// Of a send.
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// What a request is answered with.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The token is of the session's process, and its secret is wrong: an attempt that counts for the user's address.
    pub forged: bool,
    pub body: Vec<u8>,
}

/// What the session's node makes of a request.
#[derive(Debug)]
pub enum Carried {
    Out(Answer),
    /// The session is there now.
    MovedTo(core::NodeId),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotForwarded {
    /// The node does not answer now, or has too much to do: the request may have been carried out.
    Unreachable,
    /// The node is dead, and the session with it.
    Lost,
}

/// Requests that are under way.
pub(super) struct Forwards {
    out: Mutex<Out>,
    home: home::Home,
    server: OnceLock<Server>,
    count: IntCounterVec,
}

/// Those of this node's clients.
#[derive(Default)]
struct Out {
    last: u64,
    bytes: usize,
    waiting: HashMap<u64, Waiting>,
}

/// One that has not been answered.
struct Waiting {
    node: NodeId,
    kind: Kind,
    /// Of the request and what has come of the answer.
    bytes: usize,
    /// What has come of the answer.
    body: Vec<u8>,
    answer: oneshot::Sender<Result<Carried, NotForwarded>>,
}

impl Out {
    fn take(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }
}

/// Forgets a request that nobody waits for any more, here and at the session's node.
struct Guard<'a> {
    node: &'a Node,
    number: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let unanswered = self.node.forwards.out().take(self.number);
        if let Some(waiting) = unanswered {
            let number = self.number.to_be_bytes();
            let _ = self.node.push(waiting.node, wire::FORGET, &number);
        }
    }
}

impl Forwards {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "session_forwards_total",
            "Requests for sessions of other nodes.",
        );
        let count = IntCounterVec::new(opts, &["kind", "result"])?;
        for kind in [Kind::Send, Kind::Poll] {
            for result in [
                "answered",
                "unanswered",
                "unreachable",
                "lost",
                "full",
                "moved",
                "late",
                "busy",
            ] {
                count.with_label_values(&[kind.as_str(), result]);
            }
        }
        registry.register(Box::new(count.clone()))?;
        Ok(Self {
            out: Mutex::default(),
            home: home::Home::default(),
            server: OnceLock::new(),
            count,
        })
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, kind: Kind, result: &str) {
        let count = self.count.with_label_values(&[kind.as_str(), result]);
        count.inc();
    }

    /// A node is dead: nobody answers there, and nobody waits.
    pub(super) fn died(&self, node: NodeId) {
        self.fail(NotForwarded::Lost, |asked| asked == node);
        self.home.forget_all(|asking| asking == node);
    }

    /// This node begins another life: what the old one was asked, and has asked, is over.
    pub(super) fn begin_life(&self) {
        self.fail(NotForwarded::Unreachable, |_| true);
        self.home.forget_all(|_| true);
    }

    fn fail(&self, why: NotForwarded, of: impl Fn(NodeId) -> bool) {
        let mut out = self.out();
        let numbers = out.waiting.iter().filter(|(_, waiting)| of(waiting.node));
        let numbers: Vec<_> = numbers.map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(waiting) = out.take(number) {
                // Who has asked may have gone.
                let _ = waiting.answer.send(Err(why));
            }
        }
    }
}

impl Node {
    /// Says who carries out what other nodes pass on. To be called once.
    pub fn serve(&self, server: Server) {
        let _ = self.forwards.server.set(server);
    }

    /// The node of a process whose sessions are not here, if it lives.
    pub fn home(&self, process: ProcessId) -> Option<core::NodeId> {
        let living = self.living(process)?.node;
        (living != self.me()).then_some(living)
    }

    /// Passes a request on to the node of its session, and waits for the answer. If the session has moved, it is asked for there,
    /// once.
    ///
    /// # Errors
    /// If there is none. Who drops the future wants none.
    pub async fn forward(
        &self,
        mut node: core::NodeId,
        request: &Request,
    ) -> Result<Answer, NotForwarded> {
        let result = async {
            for _ in 0..2 {
                match self.ask(from_core(node), request).await? {
                    Carried::Out(answer) => return Ok(answer),
                    Carried::MovedTo(next) => {
                        self.forwards.count(request.kind, "moved");
                        node = next;
                    }
                }
            }
            Err(("unreachable", NotForwarded::Unreachable))
        }
        .await;
        let name = result
            .as_ref()
            .map_or_else(|(name, _)| *name, |_| "answered");
        self.forwards.count(request.kind, name);
        result.map_err(|(_, why)| why)
    }

    async fn ask(
        &self,
        node: NodeId,
        request: &Request,
    ) -> Result<Carried, (&'static str, NotForwarded)> {
        let unreachable = ("unreachable", NotForwarded::Unreachable);
        if !(self.joined.get()).is_some_and(|joined| joined.engine.state().borrow().bus) {
            return Err(unreachable);
        }
        let patience = PATIENCE + Duration::from_millis(request.wait_ms);
        let until = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        let until = self.engine_time().map(|now| now.saturating_add(until));
        let (answer, answered) = oneshot::channel();
        let (number, _guard) = {
            let mut out = self.forwards.out();
            let bytes = request.body.len();
            if out.waiting.len() >= UNDER_WAY || out.bytes + bytes > UNDER_WAY_BYTES {
                return Err(("full", NotForwarded::Unreachable));
            }
            out.last += 1;
            out.bytes += bytes;
            let (number, kind, body) = (out.last, request.kind, Vec::new());
            let waiting = Waiting {
                node,
                kind,
                bytes,
                body,
                answer,
            };
            out.waiting.insert(number, waiting);
            (number, Guard { node: self, number })
        };
        let head = Asked {
            number,
            until,
            request,
        };
        let frame = wire::encode(&head, &request.body);
        if !self.push(node, wire::FORWARD, &frame) {
            return Err(unreachable);
        }
        match timeout(patience, answered).await {
            Ok(Ok(Ok(carried))) => Ok(carried),
            Ok(Ok(Err(NotForwarded::Lost))) => Err(("lost", NotForwarded::Lost)),
            Ok(_) => Err(unreachable),
            Err(_) => Err(("unanswered", NotForwarded::Unreachable)),
        }
    }

    /// False: the link is full, or the node is dead.
    fn push(&self, node: NodeId, kind: u8, body: &[u8]) -> bool {
        let link = self.joined.get().and_then(|joined| joined.bus.link(node));
        link.is_some_and(|link| link.push_forward(&wire::frame(kind, body)).is_ok())
    }

    /// Takes a frame of another node. `None`: it cannot be read.
    pub(super) fn take_forward(
        self: &Arc<Self>,
        from: core::NodeId,
        kind: u8,
        bytes: &[u8],
    ) -> Option<()> {
        let node = from_core(from);
        match kind {
            wire::FORWARD => {
                let (head, body) = wire::decode::<Forward>(bytes)?;
                self.take_request(node, head, body);
            }
            wire::FORWARDED => {
                let (head, body) = wire::decode::<wire::Forwarded>(bytes)?;
                self.take_answer(node, head, body)?;
            }
            wire::FORGET => {
                let number = u64::from_be_bytes(bytes.try_into().ok()?);
                self.forwards.home.forget(node, number);
            }
            _ => return None,
        }
        Some(())
    }

    fn take_answer(&self, node: NodeId, head: wire::Forwarded, body: &[u8]) -> Option<()> {
        let mut out = self.forwards.out();
        let found = out.waiting.get_mut(&head.number);
        // Nobody waits for it any more.
        let Some(waiting) = found.filter(|waiting| waiting.node == node) else {
            return Some(());
        };
        waiting.body.extend_from_slice(body);
        waiting.bytes += body.len();
        let kind = waiting.kind;
        out.bytes += body.len();
        let is_full = out.bytes > UNDER_WAY_BYTES;
        if head.outcome.is_none() && !is_full {
            return Some(());
        }
        let waiting = out.take(head.number)?;
        drop(out);
        let answer = match head.outcome {
            _ if is_full => {
                self.forwards.count(kind, "full");
                Err(NotForwarded::Unreachable)
            }
            None | Some(Outcome::Busy) => Err(NotForwarded::Unreachable),
            Some(Outcome::MovedTo(node)) => {
                Ok(Carried::MovedTo(to_core(NodeId(node.to_be_bytes()))))
            }
            Some(Outcome::Out {
                status,
                headers,
                forged,
            }) => Ok(Carried::Out(Answer {
                status,
                headers,
                forged,
                body: waiting.body,
            })),
        };
        // Who has asked may have gone.
        let _ = waiting.answer.send(answer);
        Some(())
    }
}
