//! The part of B that asks, and what becomes of it.

use std::time::Instant;

use tokio::sync::oneshot;
use voicematch_protocol::SessionId;

use super::{
    ASK_AGAIN, Coming, Key, MAX_TAKES, NotTakenBody, STATE_WITHIN, Table, TakeBody, Taken, Taking,
    Why, parts::Parts, receive::Made,
};
use crate::{
    address::UserAddress,
    cluster::{Frame, FrameKind, NodeId},
    session::{Context, HeldAddress, Token, token::Hash},
};

impl Table {
    /// What `node` is asked for by this take.
    pub(super) fn find(
        &mut self,
        session: SessionId,
        node: NodeId,
        take: u64,
    ) -> Option<(Key, &mut Coming)> {
        let first = (session, Hash::default());
        let mut of_session = self.coming.range_mut(first..);
        let (key, coming) = of_session
            .find(|(key, coming)| key.0 != session || (coming.take, coming.node) == (take, node))?;
        (key.0 == session).then_some((*key, coming))
    }
}

impl Coming {
    /// Whether somebody still waits for it.
    fn is_awaited(&self) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| !answer.is_closed())
    }

    fn start_again(&mut self) -> Option<Made> {
        self.parts = Parts::default();
        self.made.take()
    }
}

impl Context {
    /// Asks for the session of a token, which its user shows here, at the node that has it. `None`: it is here, or no other node
    /// has it. `held` gives the count of the user's address to the session.
    pub fn begin_take(
        &self,
        token: &Token,
        after: Option<u64>,
        (held, address): (impl FnOnce() -> Option<Box<dyn HeldAddress>>, UserAddress),
        now: Instant,
    ) -> Option<Taking> {
        let node = self.node_of(token)?;
        let key = (token.session, token.hash());
        let (sender, answer) = oneshot::channel();
        let mut table = self.takes.lock();
        if let Some(coming) = table.coming.get_mut(&key)
            && (coming.made.is_some() || coming.after == after)
        {
            coming.answer = Some(sender);
            // If it is made already, it has the count of the address from which it was asked for first.
            coming.address = address;
            return Some(Taking { answer });
        }
        if table.coming.len() >= MAX_TAKES {
            drop(table);
            self.metrics.limit_hit("takes");
            self.count_take(Taken::Refused);
            return None;
        }
        let take = rand::random();
        let coming = Coming {
            take,
            node,
            after,
            redirected: false,
            again_at: None,
            until: now + STATE_WITHIN,
            parts: Parts::default(),
            made: None,
            held: held(),
            address,
            answer: Some(sender),
        };
        table.coming.insert(key, coming);
        drop(table);
        self.ask(key, node, take, after);
        Some(Taking { answer })
    }

    /// Whether another node has, or may have, the session of a token.
    pub fn is_elsewhere(&self, token: &Token) -> bool {
        self.node_of(token).is_some()
    }

    /// The other node that has, or may have, the session of a token.
    fn node_of(&self, token: &Token) -> Option<NodeId> {
        let nodes = self.matchmaker.nodes()?;
        let draining = self.draining.load(std::sync::atomic::Ordering::Relaxed);
        if draining {
            return None;
        }
        let here = self.resumables.get(token.session);
        let node = match (here, token.process == self.room_keys.process) {
            (Some(here), _) => here.lock_any().goes_to()?,
            (None, true) => self.takes.moved_to(token.session)?,
            (None, false) => nodes.living(token.process)?.node,
        };
        (node != nodes.me()).then_some(node)
    }

    fn ask(&self, (session, hash): Key, node: NodeId, take: u64, after: Option<u64>) {
        let body = TakeBody { take, hash, after };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        self.say(node, FrameKind::Take, session, &body);
    }

    fn count_take(&self, taken: Taken) {
        self.metrics.takes.with_label_values(&[taken.label()]).inc();
    }

    pub(super) fn answer(&self, coming: &mut Coming, taken: Taken) {
        self.count_take(taken);
        if let Some(answer) = coming.answer.take() {
            // The one who asked may have gone.
            let _ = answer.send(taken);
        }
    }

    /// There is no session for this node; or another node does not want one of this node's any more.
    pub(super) fn told_not_taken(
        &self,
        node: NodeId,
        frame: &Frame<'_>,
        now: Instant,
    ) -> Option<()> {
        let body: NotTakenBody = serde_json::from_slice(frame.body).ok()?;
        let mut table = self.takes.lock();
        let Some((key, coming)) = table.find(frame.to, node, body.take) else {
            drop(table);
            self.not_wanted(node, frame, &body, now);
            return Some(());
        };
        let taken = match body.why {
            Why::Again if coming.is_awaited() => {
                coming.again_at = Some(now + ASK_AGAIN);
                let made = coming.start_again();
                drop(table);
                return self.give_back(key, made);
            }
            Why::Moved(to)
                if coming.is_awaited() && !std::mem::replace(&mut coming.redirected, true) =>
            {
                let to = NodeId::from_bytes(to);
                coming.node = to;
                let (take, after, made) = (coming.take, coming.after, coming.start_again());
                drop(table);
                self.give_back(key, made);
                self.ask(key, to, take, after);
                return Some(());
            }
            Why::Forged => Taken::Forged,
            Why::TooOld => Taken::TooOld,
            Why::Refused | Why::Again | Why::Moved(_) => Taken::Refused,
        };
        let coming = table.coming.remove(&key);
        drop(table);
        if let Some(mut coming) = coming {
            if let Some(made) = coming.made.take() {
                self.discard(&made, false);
            }
            self.answer(&mut coming, taken);
        }
        Some(())
    }

    /// A take is over, or its node is to be asked again.
    pub(super) fn coming_due(&self, key: Key, take: u64, now: Instant) {
        let mut table = self.takes.lock();
        let coming = table.coming.get_mut(&key);
        let Some(coming) = coming.filter(|coming| coming.take == take) else {
            return;
        };
        if now < coming.until {
            coming.again_at = None;
            let (node, after) = (coming.node, coming.after);
            drop(table);
            return self.ask(key, node, take, after);
        }
        let coming = table.coming.remove(&key);
        drop(table);
        if let Some(mut coming) = coming {
            self.say_not_taken(coming.node, key.0, take, Why::Refused);
            if let Some(made) = coming.made.take() {
                self.discard(&made, true);
            }
            self.answer(&mut coming, Taken::Timeout);
        }
    }
}
