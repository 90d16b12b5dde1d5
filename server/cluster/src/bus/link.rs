//! One link: what waits to be sent, and what may be wanted once more.

mod waiting;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use prometheus::IntCounterVec;

use super::Outbox;
use super::incoming::Incoming;
use crate::engine::{Publication, lock};
use crate::frames::{self, FRAME, Frame, Header};
use crate::id::NodeId;
use waiting::{Queue, push};

/// What waits on a link: relayed messages.
const WAITING: usize = 1 << 20;
const WAITING_FRAMES: usize = 4_096;

/// What waits on a link of claims and leaves, besides.
const URGENT: usize = 64 << 10;

/// What waits on a link of clients' requests and the answers to them, besides: a body of 256 KiB and some more.
const FORWARDS: usize = 512 << 10;

/// What was sent and not confirmed is kept for so long, as far as it fits: of messages, claims and leaves, and of requests, which
/// so push out nothing but each other.
const RING: [usize; 2] = [256 << 10, FORWARDS];
const RING_TIME: Duration = Duration::from_secs(5);

/// A link is kept alive for so long after the last batch, so that a lost one is noticed.
const LINGER: Duration = Duration::from_secs(5);

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The link has as much to send as it may.
    #[error("the link to the other node is full")]
    Full,
    /// One of the two lives has ended: nothing is sent any more.
    #[error("the other node, or this node's life, has ended")]
    Ended,
}

/// A link to one life of a node.
#[derive(Debug)]
pub struct Link {
    me: NodeId,
    node: NodeId,
    channel: Vec<u8>,
    since: Instant,
    outbox: Arc<Outbox>,
    dropped: IntCounterVec,
    out: Mutex<Out>,
    pub(super) incoming: Mutex<Incoming>,
    /// The last batch of the other direction before which none is missing.
    pub(super) seen: AtomicU64,
}

/// What a frame carries: each has a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Message,
    Urgent,
    Forward,
}

#[derive(Debug, Default)]
struct Out {
    over: bool,
    waiting: Queue,
    relayed: usize,
    frames: usize,
    /// Of `relayed` and `frames`: for messages that are still to come.
    reserved: [usize; 2],
    urgent: usize,
    /// Requests and answers, in batches of their own.
    forwards: Queue,
    forwarded: usize,
    /// In `ready` of the outbox.
    ready: bool,
    /// Nobody listens there, or nobody knows: the engine was away.
    deaf: bool,
    seq: u64,
    ring: VecDeque<Kept>,
    ring_bytes: [usize; 2],
    rooms: Option<u64>,
    used: Option<Instant>,
}

/// A batch that may be wanted once more.
#[derive(Debug)]
struct Kept {
    seq: u64,
    batch: Arc<[u8]>,
    at: Instant,
    /// Which of the two parts of the ring it is in.
    part: usize,
}

impl Link {
    pub(super) fn new(
        me: NodeId,
        node: NodeId,
        channel: Vec<u8>,
        outbox: Arc<Outbox>,
        dropped: IntCounterVec,
    ) -> Self {
        Self {
            me,
            node,
            channel,
            since: Instant::now(),
            outbox,
            dropped,
            out: Mutex::default(),
            incoming: Mutex::default(),
            seen: AtomicU64::new(0),
        }
    }

    /// The life that it goes to.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Sends a relayed message: 1 MiB and 4,096 frames may wait.
    ///
    /// # Errors
    /// If it was not taken: nothing of it is sent.
    pub fn push(self: &Arc<Self>, frame: &Frame<'_>) -> Result<(), NotTaken> {
        self.send(frame, Load::Message)
    }

    /// Keeps room for one message whose body has so many bytes, for [`Self::push_reserved`]. On a link that has ended there is always room.
    ///
    /// # Errors
    /// If there is none.
    pub fn reserve(&self, bytes: usize) -> Result<(), NotTaken> {
        let mut out = lock(&self.out);
        if out.over {
            return Ok(());
        }
        if !out.count(FRAME + bytes, Load::Message) {
            self.dropped("full", 1);
            return Err(NotTaken::Full);
        }
        out.reserved[0] += FRAME + bytes;
        out.reserved[1] += 1;
        Ok(())
    }

    /// Sends a message for which there is room.
    pub fn push_reserved(self: &Arc<Self>, frame: &Frame<'_>) {
        let mut out = lock(&self.out);
        if out.over {
            return self.dropped("ended", 1);
        }
        out.use_reserved(FRAME + frame.body.len());
        if self.put(out, frame, Load::Message) {
            self.ready();
        }
    }

    /// The room that was kept is not needed.
    pub fn release(&self, bytes: usize) {
        let mut out = lock(&self.out);
        let size = FRAME + bytes;
        out.use_reserved(size);
        out.relayed = out.relayed.saturating_sub(size);
        out.frames = out.frames.saturating_sub(1);
    }

    /// Sends what must not be lost behind messages, claims and leaves: 64 KiB of their own may wait. In order with the others.
    ///
    /// # Errors
    /// If it was not taken: nothing of it is sent.
    pub fn push_urgent(self: &Arc<Self>, frame: &Frame<'_>) -> Result<(), NotTaken> {
        self.send(frame, Load::Urgent)
    }

    /// Sends a request of a client, or the answer to one: 512 KiB of their own may wait. In order among themselves.
    ///
    /// # Errors
    /// If it was not taken: nothing of it is sent.
    pub fn push_forward(self: &Arc<Self>, frame: &Frame<'_>) -> Result<(), NotTaken> {
        self.send(frame, Load::Forward)
    }

    /// The XOR of the ids of the rooms that both nodes share, or `None` without any. A link with rooms is kept alive, and
    /// its node suspected when it says nothing for 600 ms.
    pub fn set_rooms(&self, rooms: Option<u64>) {
        lock(&self.out).rooms = rooms;
        lock(&self.incoming).watch(rooms.is_some(), Instant::now());
    }

    fn send(self: &Arc<Self>, frame: &Frame<'_>, load: Load) -> Result<(), NotTaken> {
        if self.append(frame, load)? {
            self.ready();
        }
        Ok(())
    }

    /// Whether it is the first that waits.
    fn append(&self, frame: &Frame<'_>, load: Load) -> Result<bool, NotTaken> {
        let mut out = lock(&self.out);
        if out.over {
            self.dropped("ended", 1);
            return Err(NotTaken::Ended);
        }
        if !out.count(FRAME + frame.body.len(), load) {
            self.dropped("full", 1);
            return Err(NotTaken::Full);
        }
        Ok(self.put(out, frame, load))
    }

    /// Puts a frame, which is counted, behind the others. Whether it is the first that waits.
    fn put(&self, mut out: MutexGuard<'_, Out>, frame: &Frame<'_>, load: Load) -> bool {
        let full = push(out.queue(load), frame, Instant::now());
        let first = !std::mem::replace(&mut out.ready, true);
        drop(out);
        if full {
            self.outbox.full.notify_one();
        }
        first
    }

    /// What waits, as batches with numbers, which go into the ring. `time`: microseconds of the engine's clock, if it is known; with
    /// it messages, claims and leaves say since when they wait.
    pub(super) fn take(&self, now: Instant, time: Option<i64>, into: &mut Vec<Publication>) {
        let mut out = lock(&self.out);
        out.ready = false;
        if out.deaf {
            return;
        }
        [out.relayed, out.frames] = out.reserved;
        (out.urgent, out.forwarded) = (0, 0);
        for (part, load) in [Load::Message, Load::Forward].into_iter().enumerate() {
            while let Some(waiting) = out.queue(load).pop_front() {
                out.seq += 1;
                let since = time.filter(|_| load == Load::Message);
                let since = since.and_then(|time| waiting.since(now, time));
                let (header, count) = (self.header(out.seq), waiting.count);
                let batch = frames::encode_batch(&header, count, &waiting.bytes, since);
                let batch: Arc<[u8]> = batch.into();
                out.keep(now, Arc::clone(&batch), part);
                into.push((self.channel.clone(), batch));
            }
        }
        out.used = Some(now);
    }

    /// A keep-alive, if the link has rooms, was used not long ago, or its node is suspected and may only be silent. With rooms, and
    /// of a suspect, it asks for an answer: half a room would not be compared otherwise, nor a gap the other way be seen.
    pub(super) fn keep_alive(&self, now: Instant, suspected: bool) -> Option<Publication> {
        let out = lock(&self.out);
        let used = out
            .used
            .is_some_and(|used| now.saturating_duration_since(used) < LINGER);
        let received = || lock(&self.incoming).used_since(now, LINGER);
        let asks = out.rooms.is_some() || suspected;
        if out.over || !(asks || used || out.deaf || received()) {
            return None;
        }
        Some((self.channel.clone(), self.alive(&out, asks).into()))
    }

    /// The answer to a keep-alive that asks for one: not needed with rooms, when it is said anyway.
    pub(super) fn answer(&self) -> Option<Vec<u8>> {
        let out = lock(&self.out);
        let silent = !out.over && out.rooms.is_none();
        silent.then(|| self.alive(&out, false))
    }

    fn alive(&self, out: &Out, asks: bool) -> Vec<u8> {
        let header = self.header(out.seq);
        frames::encode_keep_alive(&header, out.rooms.unwrap_or_default(), asks)
    }

    pub(super) fn has_rooms(&self) -> bool {
        lock(&self.out).rooms.is_some()
    }

    /// Since when there is this link.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// The other side has these: they are kept no more.
    pub(super) fn confirm(&self, seen: u64) {
        let mut out = lock(&self.out);
        while out.ring.front().is_some_and(|kept| kept.seq <= seen) {
            out.forget(0);
        }
    }

    /// Sends once more what of these is still kept.
    pub(super) fn again(&self, first: u64, last: u64) {
        let out = lock(&self.out);
        let wanted = |kept: &&Kept| (first..=last).contains(&kept.seq);
        for kept in out.ring.iter().filter(wanted) {
            let batch = Arc::clone(&kept.batch);
            if !self.outbox.packet(self.channel.clone(), batch) {
                self.dropped("packets", 1);
            }
        }
    }

    /// What is too old is kept no more.
    pub(super) fn age(&self, now: Instant) {
        let mut out = lock(&self.out);
        let old = |kept: &Kept| now.saturating_duration_since(kept.at) >= RING_TIME;
        while out.ring.front().is_some_and(old) {
            out.forget(0);
        }
    }

    /// Nothing got through for so long: the ring's time stood still, and a keep-alive finds out who listens again.
    pub(super) fn held(&self, time: Duration) {
        let mut out = lock(&self.out);
        out.ring.iter_mut().for_each(|kept| kept.at += time);
        out.deaf = true;
    }

    /// Whether somebody took a packet.
    pub(super) fn taken(self: &Arc<Self>, taken: bool) {
        let mut out = lock(&self.out);
        let listens = std::mem::replace(&mut out.deaf, !taken) && taken;
        let waits = !(out.waiting.is_empty() && out.forwards.is_empty());
        if listens && waits && !std::mem::replace(&mut out.ready, true) {
            drop(out);
            self.ready();
        }
    }

    pub(super) fn channel(&self) -> &[u8] {
        &self.channel
    }

    fn ready(self: &Arc<Self>) {
        lock(&self.outbox.ready).push(Arc::clone(self));
        self.outbox.wake.notify_one();
    }

    pub(super) fn close(&self) {
        let new = Out {
            over: true,
            ..Out::default()
        };
        let old = std::mem::replace(&mut *lock(&self.out), new);
        let waited = old.waiting.iter().chain(&old.forwards);
        let waited = waited.map(|waiting| u64::from(waiting.count));
        self.dropped("ended", waited.sum());
    }

    fn dropped(&self, reason: &str, frames: u64) {
        self.dropped.with_label_values(&[reason]).inc_by(frames);
    }

    pub(super) fn again_packet(&self, first: u64, last: u64) -> Vec<u8> {
        frames::encode_again(&self.header(first), last)
    }

    pub(super) fn heard(&self) -> Option<Instant> {
        lock(&self.incoming).heard()
    }

    fn header(&self, seq: u64) -> Header {
        Header {
            from: self.me,
            to: self.node,
            seq,
            seen: self.seen.load(Ordering::Relaxed),
        }
    }
}

impl Out {
    fn queue(&mut self, load: Load) -> &mut Queue {
        match load {
            Load::Message | Load::Urgent => &mut self.waiting,
            Load::Forward => &mut self.forwards,
        }
    }

    /// Counts a frame of so many bytes; false: there is no room for it.
    fn count(&mut self, size: usize, load: Load) -> bool {
        let (bytes, most) = match load {
            Load::Message => (&mut self.relayed, WAITING),
            Load::Urgent => (&mut self.urgent, URGENT),
            Load::Forward => (&mut self.forwarded, FORWARDS),
        };
        let is_message = load == Load::Message;
        if *bytes + size > most || is_message && self.frames >= WAITING_FRAMES {
            return false;
        }
        *bytes += size;
        self.frames += usize::from(is_message);
        true
    }

    /// What room was kept for is there, or does not come. A link that has ended keeps none.
    fn use_reserved(&mut self, size: usize) {
        let [bytes, frames] = &mut self.reserved;
        *bytes = bytes.saturating_sub(size);
        *frames = frames.saturating_sub(1);
    }

    fn keep(&mut self, now: Instant, batch: Arc<[u8]>, part: usize) {
        self.ring_bytes[part] += batch.len();
        let (seq, at) = (self.seq, now);
        self.ring.push_back(Kept {
            seq,
            batch,
            at,
            part,
        });
        while self.ring_bytes[part] > RING[part] {
            let oldest = self.ring.iter().position(|kept| kept.part == part);
            self.forget(oldest.unwrap_or_default());
        }
    }

    fn forget(&mut self, index: usize) {
        if let Some(kept) = self.ring.remove(index) {
            self.ring_bytes[kept.part] -= kept.batch.len();
        }
    }
}
