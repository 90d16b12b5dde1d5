//! The bounded queue of messages to one user.
//!
//! A sender writes straight into the user's socket as long as nothing is queued: no wake-up, no hand-off
//! to the user's own connection. Only the rest that the socket does not take is copied and queued, and only then
//! is the connection woken to write it when the socket has room again.

mod backlog;
mod batch;
mod log;
mod moving;
mod resume;

use std::{
    cell::RefCell,
    io::{self, ErrorKind, IoSlice},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use serde::Serialize;
use voicematch_protocol::CloseReason;

use crate::{
    cluster::{Full, RemoteLink},
    memory::{Memory, Share},
    metrics::Metrics,
    process::ProcessId,
};
use backlog::Backlog;
pub use batch::{Batch, text_frame, text_header};
use log::Log;
pub use log::{Behind, LogLimits};
pub(crate) use log::{Kept, KeptLog};
pub use resume::Attach;

/// What the log of an idle user takes.
#[cfg(test)]
pub(crate) const LOG_BYTES: usize = size_of::<Log>();

thread_local! {
    /// Where a single message is written before it is sent.
    static SINGLE: RefCell<Batch> = RefCell::default();
}

/// Queued messages that one system call writes at the most; the kernel's own limit is 1024.
const MAX_SLICES: usize = 64;

/// A transport's way to a user, as far as an outbox needs it.
pub trait Link: Send + Sync {
    /// Writes what the socket takes at once; `WouldBlock` when that is nothing.
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Reads what the user has sent, where the link is the whole socket; `WouldBlock` when that is nothing.
    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Waits until [`Link::try_write`] may write again. Only the latest waker is kept.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Closes the write side; the user's messages can still be read.
    fn hang_up(&mut self);

    /// Writes a message of a resumable session as this transport carries it: a WebSocket frame, if it says nothing else.
    fn frame(&self, message: Message<'_>, out: &mut Vec<u8>) {
        let (Message::Numbered { text, .. } | Message::Unnumbered { text, .. }) = message;
        text_header(text.len(), out);
        out.extend_from_slice(text);
    }

    /// Writes the last words of this transport.
    fn farewell(&self, reason: CloseReason, out: &mut Vec<u8>);

    /// The way to a user on another node, which is no socket: nothing is written to it.
    fn there(&self) -> Option<&RemoteLink> {
        None
    }
}

impl Link for Arc<RemoteLink> {
    fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(ErrorKind::Unsupported.into()))
    }

    fn hang_up(&mut self) {}

    fn farewell(&self, _: CloseReason, _: &mut Vec<u8>) {}

    fn there(&self) -> Option<&RemoteLink> {
        Some(self)
    }
}

/// A message of a resumable session: JSON, its number included.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// It is kept until the user confirms its number.
    Numbered {
        /// The number.
        seq: u64,
        /// The message.
        text: &'a [u8],
    },
    /// It belongs to the connection and is never sent again.
    Unnumbered {
        /// Its `type`.
        event: &'static str,
        /// The message.
        text: &'a [u8],
    },
}

/// What an outbox holds at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Messages.
    pub messages: u32,
    /// Bytes of messages and their framing.
    pub bytes: u32,
}

/// Why an outbox took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It was full; its user is now being closed as a slow consumer. What it held, and this, is counted as
    /// dropped.
    Full,
    /// Its user is gone or being closed.
    Closed,
    /// The way to the user's node takes no more. The user stays.
    Lost,
}

/// In this order, so that a send touches one cache line of it.
#[derive(Default)]
#[repr(C)]
struct State {
    closing: Option<CloseReason>,
    way: Way,
    /// Of a plain session; `None`: the socket has taken everything.
    backlog: Option<Box<Backlog>>,
    waker: Option<Waker>,
}

/// The way to the user.
enum Way {
    /// That of a plain session.
    Link(Box<dyn Link>),
    /// A resumable session has a log in place of the queue, with the link in it. `None`: the session is over.
    Log(Option<Box<Log>>),
}

impl Default for Way {
    fn default() -> Self {
        Self::Log(None)
    }
}

/// What a transport's task has to do for its outbox.
#[derive(Debug, Clone, Copy, Default)]
pub struct Status {
    /// Something waits to be written.
    pub queued: bool,
    /// The connection is to be closed, for this reason.
    pub closing: Option<CloseReason>,
}

/// Nothing can carry the session any more: its seat is kept for its user's next one.
pub(crate) const VACANT: u8 = 1;
/// The user is on another node.
pub(crate) const THERE: u8 = 2;
/// A drain has sent the user to another node, which takes the session, or whose room ticket takes its seat.
pub(crate) const ADRIFT: u8 = 3;

/// What others ask of how a session is carried. They stand here because they cost no memory here, and there is a member for
/// each user.
#[derive(Default)]
pub(crate) struct Marks {
    /// The session outlives its connections.
    pub(crate) resumable: AtomicBool,
    /// The user has no connection now.
    pub(crate) away: AtomicBool,
    /// [`VACANT`], [`THERE`], [`ADRIFT`], or 0: a session of this node.
    pub(crate) whose: AtomicU8,
    /// The user has blocked somebody, or was blocked.
    pub(crate) has_blocks: AtomicBool,
    /// The user has asked for something that a server in a drain does not begin.
    pub(crate) asked_in_vain: AtomicBool,
}

/// The bounded queue to one user. What a send touches comes first; see [`crate::room::Member`].
#[repr(C)]
pub struct Outbox {
    metrics: Arc<Metrics>,
    /// Something is queued, or the connection is to be closed: the task has to look at the state. Written
    /// with the state locked.
    busy: AtomicBool,
    marks: Marks,
    state: Mutex<State>,
    memory: Share,
    limits: OutboxLimits,
}

impl Outbox {
    /// An outbox that writes to `link`; a resumable session's gets its link by [`Self::attach`].
    pub fn new(
        limits: OutboxLimits,
        link: Option<Box<dyn Link>>,
        metrics: Arc<Metrics>,
        memory: Arc<Memory>,
    ) -> Self {
        let state = State {
            way: link.map_or_else(Way::default, Way::Link),
            ..State::default()
        };
        Self {
            metrics,
            busy: AtomicBool::new(false),
            marks: Marks::default(),
            state: Mutex::new(state),
            memory: Share::new(memory, 0),
            limits,
        }
    }

    /// The outbox of a partner on another node: it keeps nothing.
    pub fn there(&self, link: Arc<RemoteLink>) -> Self {
        Self::to_there(link, self.metrics.clone(), self.memory.another())
    }

    /// The same without a user who is here.
    pub fn to_there(link: Arc<RemoteLink>, metrics: Arc<Metrics>, memory: Share) -> Self {
        let marks = Marks::default();
        marks.whose.store(THERE, Ordering::Relaxed);
        let state = State {
            way: Way::Link(Box::new(link)),
            ..State::default()
        };
        let limits = OutboxLimits {
            messages: 0,
            bytes: 0,
        };
        Self {
            metrics,
            busy: AtomicBool::new(false),
            marks,
            state: Mutex::new(state),
            memory,
            limits,
        }
    }

    /// The process of a partner on another node.
    pub(crate) fn process_there(&self) -> Option<ProcessId> {
        match &self.lock().way {
            Way::Link(link) => link.there().map(|there| there.node.process_id()),
            Way::Log(_) => None,
        }
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Messages and bytes that are not written yet.
    pub fn unsent(&self) -> (usize, usize) {
        let state = self.lock();
        match (&state.backlog, state.read_log()) {
            (Some(backlog), _) => (backlog.len(), backlog.bytes()),
            (None, log) => log.map_or((0, 0), Log::unsent),
        }
    }

    /// The memory that this user's connection uses.
    pub fn memory(&self) -> &Share {
        &self.memory
    }

    /// Sends one message.
    pub fn send(&self, message: &impl Serialize) -> Result<(), Refused> {
        SINGLE.with_borrow_mut(|batch| {
            batch.clear();
            batch.push_json(message);
            self.send_batch(batch, None)
        })
    }

    /// Sends a batch, in order and whole. `read_at`: when its messages were read, if their relay is timed.
    pub fn send_batch(&self, batch: &Batch, read_at: Option<Instant>) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closing.is_some() {
            return Err(Refused::Closed);
        }
        let mut written = 0;
        if state.backlog.is_none() {
            let Way::Link(link) = &state.way else {
                return self.log_batch(state, batch, read_at);
            };
            match link.try_write(&[IoSlice::new(&batch.bytes)]) {
                Ok(n) => written = n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    if let Some(there) = link.there() {
                        // Only what a partner says goes there; the other node tells its user the rest.
                        let pushed = read_at.map(|_| there.push(&batch.bytes));
                        return pushed.map_or(Err(Refused::Closed), |pushed| {
                            pushed.map_err(|Full| Refused::Lost)
                        });
                    }
                    self.close_locked(&mut state, CloseReason::Lost);
                    return Err(Refused::Closed);
                }
            }
            self.metrics.sent_bytes(written);
            if written == batch.bytes.len() {
                if let Some(read_at) = read_at {
                    self.metrics.relay_latency(read_at.elapsed(), batch.len());
                }
                return Ok(());
            }
        }
        self.enqueue(&mut state, batch, written, read_at)
    }

    /// Queues the rest of `batch` after its first `written` bytes.
    fn enqueue(
        &self,
        state: &mut State,
        batch: &Batch,
        written: usize,
        read_at: Option<Instant>,
    ) -> Result<(), Refused> {
        let before = state.backlog_memory();
        let backlog = state.backlog.get_or_insert_default();
        backlog.push_rest(batch, written, read_at);
        let (messages, bytes) = (backlog.len(), backlog.bytes());
        self.memory.change(before, state.backlog_memory());
        self.metrics.outbox_depth(messages, bytes);
        let too_many = messages as u64 > self.limits.messages.into();
        if too_many || bytes as u64 > self.limits.bytes.into() {
            let limit = if too_many {
                "outbox_messages"
            } else {
                "outbox_bytes"
            };
            self.metrics.limit_hit(limit);
            self.metrics.dropped("outbox_full", state.relays_queued());
            self.discard(state);
            self.close_locked(state, CloseReason::SlowConsumer);
            return Err(Refused::Full);
        }
        self.wake(state);
        Ok(())
    }

    /// Counts the memory that a change has taken or given back; `before`: what the queue used then.
    #[inline]
    fn settle(&self, before: usize, state: &mut State) {
        self.memory.change(before, state.memory());
        if let Some(log) = state.log() {
            log.count(&self.metrics);
        }
    }

    fn discard(&self, state: &mut State) {
        let memory = state.memory();
        state.discard_queue();
        self.settle(memory, state);
    }

    /// Asks the user's task to close the connection, after what is queued. The first reason stays.
    pub fn close(&self, reason: CloseReason) {
        self.close_locked(&mut self.lock(), reason);
    }

    /// The same, without what is queued.
    pub fn abandon(&self, reason: CloseReason) {
        let mut state = self.lock();
        self.metrics.dropped("memory_limit", state.relays_queued());
        self.discard(&mut state);
        self.close_locked(&mut state, reason);
    }

    fn close_locked(&self, state: &mut State, reason: CloseReason) {
        if state.closing.is_none() {
            state.closing = Some(reason);
            self.wake(state);
        }
    }

    fn wake(&self, state: &mut State) {
        self.busy.store(true, Ordering::Release);
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
        if let Some(log) = state.log() {
            log.wake_reader();
        }
    }

    /// Lets the transport say its last words: `frame` goes behind what is queued, and nothing after it.
    pub fn finish(&self, reason: CloseReason, frame: &[u8]) {
        let mut state = self.lock();
        state.closing.get_or_insert(reason);
        let memory = state.memory();
        if let Some(log) = state.log() {
            log.finish(frame);
        } else {
            state.backlog.get_or_insert_default().push(frame);
        }
        self.settle(memory, &mut state);
        self.wake(&mut state);
    }

    /// Reads what the user has sent, where the link is the whole socket; `WouldBlock` when that is nothing.
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let state = self.lock();
        let link = match &state.way {
            Way::Link(link) => Some(link),
            Way::Log(log) => log.as_ref().and_then(|log| log.link.as_ref()),
        };
        link.ok_or(ErrorKind::NotConnected)?.try_read(into)
    }

    /// Tells the user that nothing more will come.
    pub fn hang_up(&self) {
        match &mut self.lock().way {
            Way::Link(link) => link.hang_up(),
            Way::Log(Some(log)) => {
                if let Some(link) = &mut log.link {
                    link.hang_up();
                }
            }
            Way::Log(None) => {}
        }
    }

    /// Drops the link and the queue; later senders get [`Refused::Closed`].
    pub fn end(&self) {
        let mut state = self.lock();
        self.metrics.dropped("peer_closed", state.relays_queued());
        state.closing.get_or_insert(CloseReason::Lost);
        let memory = state.memory();
        if let Some(log) = state.log() {
            log.uncount(&self.metrics);
        }
        let closing = state.closing;
        *state = State {
            closing,
            ..State::default()
        };
        self.memory.change(memory, 0);
    }

    /// From now on `waker` is woken when [`Self::status`] has something to tell.
    pub fn register(&self, waker: &Waker) {
        self.lock().waker = Some(waker.clone());
    }

    /// What is to be done. To be asked at the start of each poll of the user's task, and cheap when that is
    /// nothing.
    pub fn status(&self) -> Status {
        if !self.busy.load(Ordering::Acquire) {
            return Status::default();
        }
        let state = self.lock();
        Status {
            queued: state.is_queued(),
            closing: state.closing,
        }
    }

    /// Writes queued messages as far as the socket takes them; ready when the queue is empty.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if matches!(state.way, Way::Log(_)) {
            let memory = state.memory();
            let flushed = self.flush_log(&mut state, cx);
            self.settle(memory, &mut state);
            return flushed;
        }
        let memory = state.backlog_memory();
        let flushed = self.flush(&mut state, cx);
        self.memory.change(memory, state.backlog_memory());
        flushed
    }

    fn flush(&self, state: &mut State, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(backlog) = &mut state.backlog {
            let Way::Link(link) = &state.way else {
                return Poll::Ready(Err(ErrorKind::NotConnected.into()));
            };
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = backlog.fill(&mut slices);
            match link.try_write(&slices[..count]) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.metrics.sent_bytes(written);
                    backlog.took(written, &self.metrics);
                    if backlog.is_empty() {
                        state.backlog = None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => match link.poll_writable(cx)
                {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                },
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if state.closing.is_none() {
            self.busy.store(false, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message is not longer: the largest that a flag allows is 64 MiB.
fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl State {
    fn log(&mut self) -> Option<&mut Log> {
        match &mut self.way {
            Way::Link(_) => None,
            Way::Log(log) => log.as_deref_mut(),
        }
    }

    fn read_log(&self) -> Option<&Log> {
        match &self.way {
            Way::Link(_) => None,
            Way::Log(log) => log.as_deref(),
        }
    }

    /// Bytes that the backlog or the log uses.
    fn memory(&self) -> usize {
        let log = self.read_log().map_or(0, Log::memory);
        self.backlog_memory() + log
    }

    fn backlog_memory(&self) -> usize {
        self.backlog.as_deref().map_or(0, Backlog::memory)
    }

    fn is_queued(&self) -> bool {
        self.backlog.is_some() || self.read_log().is_some_and(|log| !log.is_flushed())
    }

    /// How many of the queued messages are a partner's.
    fn relays_queued(&self) -> usize {
        let relays = self.backlog.as_deref().map_or(0, Backlog::relays);
        relays + self.read_log().map_or(0, Log::relays_unsent)
    }

    /// Forgets what is queued, but for the rest of a message that the socket has begun to take.
    fn discard_queue(&mut self) {
        if let Some(log) = self.log() {
            log.discard();
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.discard();
            if backlog.is_empty() {
                self.backlog = None;
            }
        }
    }
}
