//! WebSocket: a connection reads, writes what could not be written at once, and keeps the time.
//!
//! Its worker polls it: a plain one itself ([`sockets`]), one over TLS by a task of tokio. It is never cancelled part-way. It
//! reads into a buffer that all connections of a worker share, and keeps only the rest of an unfinished frame.

pub mod frame;
mod link;
mod reader;
pub mod sockets;

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    time::{Sleep, sleep_until},
};
use voicematch_protocol::CloseReason;

use super::attachment::Attachment;
use crate::io::TlsReadHalf;
pub use link::{PlainLink, TlsLink};
use reader::Reader;
use voicematch_core::{
    outbox::{Link, Outbox},
    pause,
    session::{Pending, Session},
};

/// How long a connection that we close may take to read our last words and close its side.
pub const LINGER: Duration = Duration::from_secs(2);

/// Bytes that one read takes at the most.
const READ_BYTES: usize = 64 * 1024;

/// Reads that one poll makes before others get their turn.
const READS_PER_POLL: usize = 8;

/// How WebSocket connections behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WsConfig {
    /// How often a connection is pinged.
    pub heartbeat: Duration,
    /// How long after a ping something must have come.
    pub heartbeat_deadline: Duration,
    /// The longest message, in bytes.
    pub max_message_bytes: usize,
}

/// What the connections of a worker share: one of them at a time uses it, and leaves it empty.
struct Scratch {
    read: Box<[u8]>,
    pending: Pending,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        read: vec![0; READ_BYTES].into_boxed_slice(),
        pending: Pending::default(),
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The last words are on their way; what the client still sends is thrown away.
    Closing {
        until: Instant,
        /// The client began it, and waits for us to hang up.
        by_client: bool,
    },
}

/// Where a connection reads from.
trait Source {
    /// Reads what there is; 0: the client says no more. `outbox`: the user's, which has the socket if it is a plain one.
    fn poll_read(
        &mut self,
        outbox: &Outbox,
        cx: &mut TaskContext<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>>;
}

/// One WebSocket connection, without the session. What each message touches stands together.
struct Wire<S> {
    source: S,
    reader: Reader,
    config: Arc<WsConfig>,
    phase: Phase,
    /// The last ping, if nothing has come since.
    pinged_at: Option<Instant>,
    next_ping: Instant,
}

/// The timer of a connection that has a task.
struct Timer<'a> {
    sleep: Pin<&'a mut Sleep>,
    /// The waker that the outbox and the timer have.
    waker: Option<Waker>,
}

/// Serves a connection over TLS whose handshake is done and whose session is open, until it ends, and the session with it;
/// `held` is dropped then. It reads from `source`; the session's link writes to it. `early`: what the client sent behind its
/// request. The future, which is what a connection costs in memory, holds nothing twice.
pub fn serve<H: Send>(
    source: TlsReadHalf,
    early: Vec<u8>,
    mut session: Session,
    config: Arc<WsConfig>,
    held: H,
) -> impl Future<Output = ()> + Send {
    let mut wire = Wire::new(source, early, config);
    async move {
        let _held = &held;
        let sleep = std::pin::pin!(sleep_until(wire.deadline(&session).into()));
        let mut timer = Timer::new(sleep);
        std::future::poll_fn(|cx| wire.poll(&mut session, cx, &mut timer)).await;
    }
}

/// The same for a session that outlives the connection.
pub fn serve_resumable<H: Send>(
    source: TlsReadHalf,
    early: Vec<u8>,
    attachment: Attachment,
    config: Arc<WsConfig>,
    held: H,
) -> impl Future<Output = ()> + Send {
    let mut wire = Wire::new(source, early, config);
    async move {
        let _held = &held;
        let sleep = std::pin::pin!(sleep_until(Instant::now().into()));
        let mut timer = Timer::new(sleep);
        std::future::poll_fn(|cx| match attachment.lock() {
            Some(mut session) => wire.poll(&mut session, cx, &mut timer),
            None => {
                wire.reader.abandon(&attachment.lock_any());
                Poll::Ready(())
            }
        })
        .await;
    }
}

/// Waits until a client over TLS that [`refuse`] has told has gone, or the time is over; `held` is dropped then.
pub async fn linger<H: Send>(
    mut source: TlsReadHalf,
    link: Box<dyn Link>,
    until: Instant,
    held: H,
) {
    let mut rest = [0; 512];
    let gone = async { while source.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout_at(until.into(), gone).await;
    drop((link, held));
}

/// Sends the reply to a handshake, and that its session cannot be carried on.
pub fn refuse(reply: &[u8], link: &mut dyn Link, reason: CloseReason) {
    let mut words = reply.to_vec();
    link.farewell(reason, &mut words);
    // A new connection takes a few hundred bytes at once; one that does not is hopeless.
    let _ = link.try_write(&[IoSlice::new(&words)]);
    link.hang_up();
}

impl Source for TlsReadHalf {
    fn poll_read(
        &mut self,
        _: &Outbox,
        cx: &mut TaskContext<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(into);
        ready!(AsyncRead::poll_read(Pin::new(self), cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<'a> Timer<'a> {
    fn new(sleep: Pin<&'a mut Sleep>) -> Self {
        Self { sleep, waker: None }
    }
}

impl<S: Source> Wire<S> {
    fn new(source: S, early: Vec<u8>, config: Arc<WsConfig>) -> Self {
        Self {
            source,
            reader: Reader::new(config.max_message_bytes, early),
            phase: Phase::Open,
            pinged_at: None,
            next_ping: Instant::now() + config.heartbeat,
            config,
        }
    }

    fn poll(
        &mut self,
        session: &mut Session,
        cx: &mut TaskContext<'_>,
        timer: &mut Timer<'_>,
    ) -> Poll<()> {
        let known = timer.waker.as_ref();
        let moved = !known.is_some_and(|waker| waker.will_wake(cx.waker()));
        if moved {
            session.member().outbox.register(cx.waker());
            timer.waker = Some(cx.waker().clone());
        }
        let now = Instant::now();
        pause::runs(now);
        if self.poll_io(session, now, cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_timer(session, cx, timer.sleep.as_mut(), moved)
    }

    /// Reads, carries out and writes what there is. Ready when the connection has ended. `now`: when its worker found that there
    /// is something; it is the time of what is read.
    fn poll_io(
        &mut self,
        session: &mut Session,
        now: Instant,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let status = session.member().outbox.status();
        if let Some(reason) = status.closing
            && self.phase == Phase::Open
        {
            self.close(session, reason, reason.close_code());
        }
        let untold = session.is_untold();
        let read = self.poll_read(session, now, cx);
        if let Poll::Ready(reason) = read {
            return self.lose(session, reason);
        }
        if untold {
            session.tell_waiting();
        } else if session.is_untold() {
            // The other ready connections come first.
            cx.waker().wake_by_ref();
        }
        if (status.queued || self.phase != Phase::Open) && self.poll_write(session, cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Does all that is due. Ready when the connection has ended.
    fn keep_time(&mut self, session: &mut Session, now: Instant) -> Poll<()> {
        while self.deadline(session) <= now {
            if self.on_deadline(session, now).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Reads and carries out messages until there are no more. Ready when the connection has ended.
    fn poll_read(
        &mut self,
        session: &mut Session,
        now: Instant,
        cx: &mut TaskContext<'_>,
    ) -> Poll<CloseReason> {
        SCRATCH.with_borrow_mut(|Scratch { read, pending }| {
            pending.clear();
            if self.reader.has_early() {
                let lost = self.carry_out(session, &mut [], now, pending);
                if let Some(lost) = lost {
                    return Poll::Ready(lost);
                }
            }
            for _ in 0..READS_PER_POLL {
                let outbox = &session.member().outbox;
                let received = match ready!(self.source.poll_read(outbox, cx, read)) {
                    Ok(0) | Err(_) => return Poll::Ready(CloseReason::Lost),
                    Ok(bytes) => &mut read[..bytes],
                };
                self.pinged_at = None;
                session.count_received(received.len());
                if self.phase == Phase::Open
                    && let Some(lost) = self.carry_out(session, received, now, pending)
                {
                    return Poll::Ready(lost);
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Carries out the messages of one read. Returns why the connection is lost, if it is.
    fn carry_out(
        &mut self,
        session: &mut Session,
        received: &mut [u8],
        now: Instant,
        pending: &mut Pending,
    ) -> Option<CloseReason> {
        let outcome = self.reader.read(received, session, now, pending);
        session.flush(now, pending);
        match outcome {
            Ok(()) => {}
            // A tab that was closed, reloaded or has crashed says 1001; only 1000 is said by a program.
            Err(reader::End::ClosedByPeer(code))
                if code != Some(1000) && session.is_resumable() =>
            {
                return Some(CloseReason::Lost);
            }
            Err(reader::End::ClosedByPeer(code)) => self.close(session, CloseReason::Closed, code),
            Err(reader::End::Violation(reason)) => {
                if reason == CloseReason::TooLarge {
                    session.limit_hit("max_message_bytes");
                }
                self.close(session, reason, reason.close_code());
            }
        }
        None
    }

    /// The connection has ended without a word; a resumable session goes on.
    fn lose(&mut self, session: &mut Session, reason: CloseReason) -> Poll<()> {
        self.reader.abandon(session);
        session.lose(reason, Instant::now());
        Poll::Ready(())
    }

    /// Ready when all has been said and the connection is to end.
    fn poll_write(&mut self, session: &mut Session, cx: &mut TaskContext<'_>) -> Poll<()> {
        let written = ready!(session.member().outbox.poll_flush(cx));
        match self.phase {
            _ if written.is_err() => self.lose(session, CloseReason::Lost),
            Phase::Closing {
                by_client: true, ..
            } => Poll::Ready(()),
            Phase::Closing { .. } => {
                // The client hangs up its side when it has read so far.
                session.member().outbox.hang_up();
                Poll::Pending
            }
            Phase::Open => Poll::Pending,
        }
    }

    /// Does what is due. The clock is read only when the timer has run down; the timer, which knows whom to
    /// wake, is polled only then, and when it or the task has `moved`.
    fn poll_timer(
        &mut self,
        session: &mut Session,
        cx: &mut TaskContext<'_>,
        mut timer: Pin<&mut Sleep>,
        mut moved: bool,
    ) -> Poll<()> {
        loop {
            let deadline = self.deadline(session);
            if timer.deadline() > deadline.into() {
                timer.as_mut().reset(deadline.into());
                moved = true;
            }
            if !moved && !timer.is_elapsed() {
                return Poll::Pending;
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if deadline > now {
                timer.as_mut().reset(deadline.into());
                moved = true;
            } else if self.on_deadline(session, now).is_ready() {
                return Poll::Ready(());
            }
        }
    }

    /// When there is something to do without anybody having said anything.
    fn deadline(&self, session: &Session) -> Instant {
        if let Phase::Closing { until, .. } = self.phase {
            return until;
        }
        let beat = match self.pinged_at {
            // Its heartbeats are messages.
            _ if session.is_resumable() => return session.deadline().unwrap_or(self.next_ping),
            Some(pinged_at) => pinged_at + self.config.heartbeat_deadline,
            None => self.next_ping,
        };
        session
            .deadline()
            .map_or(beat, |deadline| deadline.min(beat))
    }

    fn on_deadline(&mut self, session: &mut Session, now: Instant) -> Poll<()> {
        if matches!(self.phase, Phase::Closing { until, .. } if now >= until) {
            return Poll::Ready(());
        }
        if session.deadline().is_some_and(|deadline| deadline <= now)
            && let Err(reason) = session.on_deadline(now)
        {
            if session.is_resumable() && reason == CloseReason::HeartbeatTimeout {
                return self.lose(session, reason);
            }
            self.close(session, reason, reason.close_code());
            return Poll::Pending;
        }
        match self.pinged_at {
            _ if session.is_resumable() => {}
            Some(pinged_at) if now >= pinged_at + self.config.heartbeat_deadline => {
                pause::runs(now);
                if let Some(pause) = pause::since(pinged_at) {
                    // The answer may be here, and was not read yet.
                    self.pinged_at = Some(pause.end);
                } else {
                    let reason = CloseReason::HeartbeatTimeout;
                    self.close(session, reason, reason.close_code());
                }
            }
            None if now >= self.next_ping => {
                session.send_framed(&frame::PING);
                self.pinged_at = Some(now);
                self.next_ping = now + self.config.heartbeat;
            }
            _ => {}
        }
        Poll::Pending
    }

    /// Leaves everything at once, and gives the client a moment to hear why.
    fn close(&mut self, session: &mut Session, reason: CloseReason, code: Option<u16>) {
        session.leave(reason);
        self.reader.abandon(session);
        let text = if reason == CloseReason::Closed {
            ""
        } else {
            reason.as_str()
        };
        session
            .member()
            .outbox
            .finish(reason, &frame::close(code, text));
        let by_client = reason == CloseReason::Closed;
        self.phase = Phase::Closing {
            until: Instant::now() + LINGER,
            by_client,
        };
    }
}
