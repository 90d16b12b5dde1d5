//! The node of the session: it carries out what other nodes pass on.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};
use voicematch_cluster::NodeId;
use voicematch_core::cluster::Nodes as _;

use super::{
    Answer, Carried, Kind, MARGIN, Node, Request, UNDER_WAY, UNDER_WAY_BYTES,
    wire::{self, Forward, Forwarded, Outcome},
};

/// What a frame of an answer holds at the most: two fit on a link.
const PART: usize = 128 << 10;

/// How long an answer waits for room on a link, and between two attempts.
const GIVE_UP: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(10);

/// Carries requests out, whatever they are.
pub struct Server {
    /// Where that is done: not on the thread of the cluster.
    pub workers: Vec<Handle>,
    /// Does it.
    pub carry_out: Box<dyn Fn(Request) -> Carrying + Send + Sync>,
}

/// A request that is being carried out.
pub type Carrying = Pin<Box<dyn Future<Output = Carried> + Send>>;

/// Requests of other nodes' clients that are under way here.
#[derive(Default)]
pub(super) struct Home(Mutex<Served>);

#[derive(Default)]
struct Served {
    bytes: usize,
    tasks: HashMap<(NodeId, u64), (usize, AbortHandle)>,
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, Served> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, node: NodeId, number: u64) {
        self.lock().forget((node, number));
    }

    pub(super) fn forget_all(&self, of: impl Fn(NodeId) -> bool) {
        let mut served = self.lock();
        let keys = served.tasks.keys().filter(|(node, _)| of(*node));
        let keys: Vec<_> = keys.copied().collect();
        keys.into_iter().for_each(|key| served.forget(key));
    }
}

impl Served {
    fn forget(&mut self, key: (NodeId, u64)) {
        if let Some((bytes, task)) = self.tasks.remove(&key) {
            self.bytes -= bytes;
            // One that has ended is not harmed.
            task.abort();
        }
    }
}

impl Node {
    pub(super) fn take_request(self: &Arc<Self>, node: NodeId, head: Forward, body: &[u8]) {
        let Forward {
            number,
            until,
            mut request,
        } = head;
        let kind = request.kind;
        if let (Some(now), Some(until)) = (self.engine_time(), until)
            && now > until
        {
            return self.forwards.count(kind, "late");
        }
        if kind == Kind::Poll {
            // The other node is to have the answer in time.
            let wait = Duration::from_millis(request.wait_ms);
            let wait = wait - MARGIN.min(wait / 2);
            request.wait_ms = u64::try_from(wait.as_millis()).unwrap_or(0);
        }
        let mut served = self.forwards.home.lock();
        let is_full =
            served.tasks.len() >= UNDER_WAY || served.bytes + body.len() > UNDER_WAY_BYTES;
        let is_known = served.tasks.contains_key(&(node, number));
        let Some(server) = self.forwards.server.get().filter(|_| !is_full && !is_known) else {
            drop(served);
            self.forwards.count(kind, "busy");
            let outcome = Some(Outcome::Busy);
            self.push(
                node,
                wire::FORWARDED,
                &wire::encode(&Forwarded { number, outcome }, &[]),
            );
            return;
        };
        request.body = body.to_vec();
        let count = u64::try_from(server.workers.len()).unwrap_or(1).max(1);
        let worker = usize::try_from(number % count).unwrap_or_default();
        let Some(worker) = server.workers.get(worker) else {
            return;
        };
        let (carrying, own) = ((server.carry_out)(request), self.clone());
        let task = worker.spawn(async move {
            let carried = carrying.await;
            own.answer(node, number, carried).await;
            own.forwards.home.forget(node, number);
        });
        served.bytes += body.len();
        // The task ends only when the table is free again.
        let entry = (body.len(), task.abort_handle());
        served.tasks.insert((node, number), entry);
    }

    /// Answers in as many parts as it takes. One that the link does not take for seconds is lost: the client asks again.
    async fn answer(&self, node: NodeId, number: u64, carried: Carried) {
        let (outcome, body) = match carried {
            Carried::MovedTo(node) => {
                let node = u64::from_be_bytes(node.to_bytes());
                (Outcome::MovedTo(node), Vec::new())
            }
            Carried::Out(Answer {
                status,
                headers,
                forged,
                body,
            }) => {
                let outcome = Outcome::Out {
                    status,
                    headers,
                    forged,
                };
                (outcome, body)
            }
        };
        let until = Instant::now() + GIVE_UP;
        let (mut outcome, mut rest) = (Some(outcome), &body[..]);
        while outcome.is_some() {
            let (part, after) = rest.split_at(rest.len().min(PART));
            rest = after;
            let outcome = if rest.is_empty() {
                outcome.take()
            } else {
                None
            };
            let frame = wire::encode(&Forwarded { number, outcome }, part);
            while !self.push(node, wire::FORWARDED, &frame) {
                if Instant::now() > until || self.is_dead(super::to_core(node)) {
                    return;
                }
                sleep(AGAIN).await;
            }
        }
    }
}
