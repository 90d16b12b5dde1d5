//! The outbox of a resumable session: it keeps what it has sent, and its link can be exchanged.

use std::{
    cell::RefCell,
    io::{self, ErrorKind, IoSlice},
    sync::MutexGuard,
    task::{Context, Poll, Waker},
    time::Instant,
};

use voicematch_protocol::CloseReason;

use super::{
    Batch, Behind, Link, Log, LogLimits, Outbox, Refused, State, Way, log::Mode, text_frame,
};

thread_local! {
    /// The buffer in which messages are framed that the socket takes at once.
    static FRAMED: RefCell<Vec<u8>> = RefCell::default();
}

/// The most bytes that this buffer keeps.
const KEPT_BYTES: usize = 64 * 1024;

/// A link to come, and what it writes first.
pub struct Attach<'a> {
    pub link: Box<dyn Link>,
    /// Bytes of the transport's own, such as the reply to a handshake.
    pub preface: &'a [u8],
}

impl Outbox {
    /// From now on messages are numbered and kept. For a new outbox.
    pub fn keep_log(&self, limits: LogLimits) {
        self.lock().way = Way::Log(Some(Box::new(Log::new(limits))));
    }

    /// Exchanges the link, and sends again what came after message `after`. `first` makes the first message of the new
    /// link, from the number of messages that follow it; nothing can come between. The old link says that it is replaced,
    /// and its task is woken. Without a new link messages wait to be taken.
    pub fn attach(
        &self,
        attach: &mut Option<Attach<'_>>,
        after: u64,
        event: &'static str,
        first: impl FnOnce(u64) -> Vec<u8>,
    ) -> Result<Vec<u8>, Behind> {
        let mut state = self.lock();
        let memory = state.memory();
        let log = state.log().ok_or(Behind::Stale)?;
        let whole = log.is_between_messages();
        let replay = log.rewind(after)?;
        log.is_polled = attach.is_none();
        if let Some(old) = log.link.take() {
            say_farewell(old, whole, CloseReason::Replaced);
        }
        let first = first(replay);
        if let Some(attach) = attach.take() {
            log.link = Some(attach.link);
            log.push_urgent(attach.preface);
            log.push_unnumbered(event, &first);
        }
        self.metrics.replayed.inc_by(replay);
        // A link that fails is found by its task.
        let _ = self.write_log(&mut state);
        self.settle(memory, &mut state);
        if let Some(old_task) = state.waker.take() {
            old_task.wake();
        }
        self.wake(&mut state);
        Ok(first)
    }

    /// Begins again after message `after`, for a transport that asks for messages: what it took last may be lost. Who
    /// else waits for messages is woken.
    pub fn rewind(&self, after: u64) -> Result<u64, Behind> {
        let mut state = self.lock();
        let memory = state.memory();
        let replay = match state.log() {
            Some(log) => {
                let replay = log.go_back(after);
                log.is_polled |= replay.is_ok();
                log.wake_reader();
                replay
            }
            None => Err(Behind::Stale),
        };
        self.settle(memory, &mut state);
        replay
    }

    /// Drops the link, which says why; messages are kept from now on.
    pub fn detach(&self, reason: CloseReason) {
        let mut state = self.lock();
        let memory = state.memory();
        if let Some(log) = state.log() {
            if let Some(link) = log.link.take() {
                say_farewell(link, log.is_between_messages(), reason);
            }
            log.cut();
            log.is_polled = false;
            log.wake_reader();
        }
        self.settle(memory, &mut state);
    }

    /// The session has ended and stays for a poll, so that all it keeps is within the limits of the log. `wanted`: what it
    /// keeps may still be asked for.
    pub fn shrink(&self, wanted: bool) {
        let mut state = self.lock();
        let memory = state.memory();
        let unsent = state.relays_queued();
        if let Some(log) = state.log()
            && !(wanted && log.trim())
        {
            log.discard();
            self.metrics.dropped("peer_closed", unsent);
        }
        self.settle(memory, &mut state);
    }

    /// Nobody will read what comes from now on: it is dropped.
    pub fn vacate(&self) {
        let mut state = self.lock();
        let memory = state.memory();
        let unsent = state.relays_queued();
        if let Some(log) = state.log() {
            log.discard();
            log.mode = Mode::Vacant;
            self.metrics.dropped("peer_closed", unsent);
        }
        self.settle(memory, &mut state);
    }

    /// The user has all messages up to this number.
    pub fn confirm(&self, number: u64) {
        let mut state = self.lock();
        let memory = state.memory();
        if let Some(log) = state.log() {
            log.confirm(number);
        }
        self.settle(memory, &mut state);
    }

    /// Lets the task that keeps the time look at it again.
    pub fn nudge(&self) {
        self.wake(&mut self.lock());
    }

    /// The number of the last message that the user has confirmed.
    pub fn confirmed(&self) -> u64 {
        self.lock().read_log().map_or(0, Log::confirmed)
    }

    /// Whether the user has confirmed all messages.
    pub fn is_confirmed(&self) -> bool {
        self.lock()
            .read_log()
            .is_none_or(|log| log.confirmed() == log.last())
    }

    /// The number of the last message that was taken, or written.
    pub fn taken(&self) -> u64 {
        self.lock().read_log().map_or(0, Log::sent)
    }

    /// Sends a message that is not kept, such as a heartbeat. Without a link it is lost.
    pub fn send_unnumbered(&self, event: &'static str, text: &[u8]) {
        let mut state = self.lock();
        let memory = state.memory();
        if let Some(log) = state.log() {
            log.push_unnumbered(event, text);
            let written = self.write_log(&mut state);
            self.settle(memory, &mut state);
            if written.is_err() || state.is_queued() {
                self.wake(&mut state);
            }
        }
    }

    /// Takes messages for a transport that asks for them, with commas between them, as far as `limits` go. Ready with
    /// the number of the last one if there are some; `waker` is woken when there are.
    pub fn take(&self, limits: LogLimits, out: &mut Vec<u8>, waker: &Waker) -> Poll<u64> {
        let mut state = self.lock();
        let Some(log) = state.log() else {
            return Poll::Pending;
        };
        if log.unsent().0 == 0 {
            log.set_reader(waker);
            return Poll::Pending;
        }
        Poll::Ready(log.take(limits, out, &self.metrics))
    }

    /// Queues a batch for a resumable session, and writes what the link takes at once.
    #[inline(never)]
    pub(super) fn log_batch(
        &self,
        mut state: MutexGuard<'_, State>,
        batch: &Batch,
        read_at: Option<Instant>,
    ) -> Result<(), Refused> {
        let memory = state.memory();
        let Some(log) = state.log() else {
            // There is neither link nor log: the session is over.
            return Err(Refused::Closed);
        };
        match log.mode {
            Mode::Open => {}
            Mode::Vacant => {
                let relays = if read_at.is_some() { batch.len() } else { 0 };
                self.metrics.dropped("peer_closed", relays);
                return Ok(());
            }
            Mode::Held => return self.hold_batch(&mut state, batch, read_at),
        }
        let flushed = log.is_flushed();
        for range in batch.ranges() {
            let frame = &batch.bytes[range];
            match text_frame(frame) {
                Some((message, _)) => log.push(message, read_at),
                None if log.link.is_some() => log.push_urgent(frame),
                None => {}
            }
        }
        if flushed && self.write_log(&mut state).is_err() {
            // Its task finds out; the messages are kept for the next link.
            if let Some(log) = state.log() {
                log.link = None;
            }
        }
        let refused = self.check_log(&mut state);
        self.settle(memory, &mut state);
        if refused.is_ok() && state.is_queued() {
            self.wake(&mut state);
        }
        refused
    }

    /// Ends the session if more is unsent than it may be, and forgets the oldest sent messages beyond the limits.
    pub(super) fn check_log(&self, state: &mut State) -> Result<(), Refused> {
        let Some(log) = state.log() else {
            return Ok(());
        };
        let (messages, bytes) = log.unsent();
        self.metrics.outbox_depth(messages, bytes);
        let kept = log.trim();
        let (limit, reason) = if log.link.is_none() && !log.is_polled {
            if kept {
                return Ok(());
            }
            ("resume_log", CloseReason::ResumeOverflow)
        } else if messages as u64 > self.limits.messages.into() {
            ("outbox_messages", CloseReason::SlowConsumer)
        } else if bytes as u64 > self.limits.bytes.into() {
            ("outbox_bytes", CloseReason::SlowConsumer)
        } else {
            return Ok(());
        };
        self.metrics.limit_hit(limit);
        self.metrics.dropped("outbox_full", state.relays_queued());
        // The caller settles the memory of it.
        state.discard_queue();
        self.close_locked(state, reason);
        Err(Refused::Full)
    }

    /// Writes what the link takes at once.
    fn write_log(&self, state: &mut State) -> io::Result<()> {
        let Some(log) = state.log() else {
            return Ok(());
        };
        FRAMED.with_borrow_mut(|framed| {
            log.lend(framed);
            let written = write(log, self);
            log.lend(framed);
            framed.shrink_to(KEPT_BYTES);
            written
        })
    }

    pub(super) fn flush_log(
        &self,
        state: &mut State,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.write_log(state) {
                Ok(()) if !state.is_queued() => {
                    if state.closing.is_none() {
                        self.busy.store(false, std::sync::atomic::Ordering::Release);
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok(()) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let Some(link) = state.read_log().and_then(|log| log.link.as_ref()) else {
                return Poll::Ready(Err(ErrorKind::NotConnected.into()));
            };
            match link.poll_writable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Says the last words of a link that is given up, unless it is in the middle of a message. Without waiting: a client that lost
/// the connection may not read.
fn say_farewell(mut link: Box<dyn Link>, whole: bool, reason: CloseReason) {
    if whole {
        let mut farewell = Vec::new();
        link.farewell(reason, &mut farewell);
        let _ = link.try_write(&[IoSlice::new(&farewell)]);
    }
    link.hang_up();
}

/// Writes until all is written or the socket is full.
fn write(log: &mut Log, outbox: &Outbox) -> io::Result<()> {
    while log.stage() {
        let Some(link) = &log.link else { break };
        match link.try_write(&[IoSlice::new(log.staged())]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => log.took(written, &outbox.metrics),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
