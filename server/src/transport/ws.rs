//! WebSocket: one task a connection, which reads, writes what could not be written at once, and keeps
//! the time.
//!
//! The task is one future that is never cancelled part-way. It reads into a buffer that all connections
//! of a worker share, and keeps only the rest of an unfinished frame.

pub mod frame;
mod reader;

use std::{
    cell::RefCell,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Sleep,
};
use voicematch_protocol::CloseReason;

use reader::Reader;
use voicematch_core::{
    outbox::Link,
    pause,
    session::{Context, Pending, Session},
};

/// How long a connection that we close may take to read our last words and close its side.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that one read takes at the most.
const READ_BYTES: usize = 64 * 1024;

/// Reads that one poll makes before others get their turn.
const READS_PER_POLL: usize = 8;

/// How WebSocket connections behave.
#[derive(Debug, Clone, Copy)]
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

/// One WebSocket connection, which reads from `R`.
struct Connection<R> {
    session: Session,
    socket: R,
    reader: Reader,
    config: WsConfig,
    phase: Phase,
    /// The last ping, if nothing has come since.
    pinged_at: Option<Instant>,
    next_ping: Instant,
    /// The waker that the outbox and the timer have.
    waker: Option<Waker>,
}

/// The rest of a handshake.
pub struct Handshake {
    /// Our reply, which has not been sent yet: it goes out with the first message.
    pub reply: Vec<u8>,
    /// What the client sent behind its request.
    pub early: Vec<u8>,
}

/// Serves a connection whose handshake is done, until it ends; `held` is dropped then. It reads from `socket`
/// and writes to `link`. The session is open when this returns; the future, which is what a connection costs
/// in memory, holds nothing twice.
pub fn serve<R: AsyncRead + Unpin + Send, H: Send>(
    socket: R,
    link: Box<dyn Link>,
    handshake: Handshake,
    context: Arc<Context>,
    config: WsConfig,
    held: H,
) -> impl Future<Output = ()> + Send {
    let mut connection = Connection::new(socket, link, handshake, context, config);
    async move {
        let _held = &held;
        let mut timer = std::pin::pin!(tokio::time::sleep_until(connection.deadline().into()));
        std::future::poll_fn(|cx| connection.poll(cx, timer.as_mut())).await;
    }
}

impl<R: AsyncRead + Unpin> Connection<R> {
    fn new(
        socket: R,
        link: Box<dyn Link>,
        handshake: Handshake,
        context: Arc<Context>,
        config: WsConfig,
    ) -> Self {
        let now = Instant::now();
        Self {
            session: Session::open(context, link, frame::text_header, &handshake.reply, now),
            socket,
            reader: Reader::new(config.max_message_bytes, handshake.early),
            config,
            phase: Phase::Open,
            pinged_at: None,
            next_ping: now + config.heartbeat,
            waker: None,
        }
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        let moved = !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if moved {
            self.session.member().outbox.register(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
        let status = self.session.member().outbox.status();
        if let Some(reason) = status.closing
            && self.phase == Phase::Open
        {
            self.close(reason, reason.close_code());
        }
        let untold = self.session.is_untold();
        let read = self.poll_read(cx);
        if let Poll::Ready(reason) = read {
            self.session.leave(reason);
            return Poll::Ready(());
        }
        if untold {
            self.session.tell_waiting();
        } else if self.session.is_untold() {
            // The other ready connections come first.
            cx.waker().wake_by_ref();
        }
        if (status.queued || self.phase != Phase::Open) && self.poll_write(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_timer(cx, timer.as_mut(), moved)
    }

    /// Reads and carries out messages until there are no more. Ready when the connection has ended.
    fn poll_read(&mut self, cx: &mut TaskContext<'_>) -> Poll<CloseReason> {
        SCRATCH.with_borrow_mut(|Scratch { read, pending }| {
            pending.clear();
            if self.reader.has_early() {
                self.carry_out(&mut [], Instant::now(), pending);
            }
            for _ in 0..READS_PER_POLL {
                let mut buf = ReadBuf::new(read);
                let outcome = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf));
                let received = buf.filled_mut();
                if outcome.is_err() || received.is_empty() {
                    return Poll::Ready(CloseReason::Lost);
                }
                let now = Instant::now();
                pause::runs(now);
                self.pinged_at = None;
                self.session.count_received(received.len());
                if self.phase == Phase::Open {
                    self.carry_out(received, now, pending);
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Carries out the messages of one read.
    fn carry_out(&mut self, received: &mut [u8], now: Instant, pending: &mut Pending) {
        let outcome = self.reader.read(received, &mut self.session, now, pending);
        self.session.flush(now, pending);
        match outcome {
            Ok(()) => {}
            Err(reader::End::ClosedByPeer(code)) => self.close(CloseReason::Closed, code),
            Err(reader::End::Violation(reason)) => {
                if reason == CloseReason::TooLarge {
                    self.session.limit_hit("max_message_bytes");
                }
                self.close(reason, reason.close_code());
            }
        }
    }

    /// Ready when all has been said and the connection is to end.
    fn poll_write(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let outbox = &self.session.member().outbox;
        let written = ready!(outbox.poll_flush(cx));
        match self.phase {
            _ if written.is_err() => {
                self.session.leave(CloseReason::Lost);
                Poll::Ready(())
            }
            Phase::Closing {
                by_client: true, ..
            } => Poll::Ready(()),
            Phase::Closing { .. } => {
                // The client hangs up its side when it has read so far.
                outbox.hang_up();
                Poll::Pending
            }
            Phase::Open => Poll::Pending,
        }
    }

    /// Does what is due. The clock is read only when the timer has run down; the timer, which knows whom to
    /// wake, is polled only then, and when it or the task has `moved`.
    fn poll_timer(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut timer: Pin<&mut Sleep>,
        mut moved: bool,
    ) -> Poll<()> {
        loop {
            let deadline = self.deadline();
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
            } else if self.on_deadline(now).is_ready() {
                return Poll::Ready(());
            }
        }
    }

    /// When there is something to do without anybody having said anything.
    fn deadline(&self) -> Instant {
        if let Phase::Closing { until, .. } = self.phase {
            return until;
        }
        let beat = match self.pinged_at {
            Some(pinged_at) => pinged_at + self.config.heartbeat_deadline,
            None => self.next_ping,
        };
        self.session
            .deadline()
            .map_or(beat, |deadline| deadline.min(beat))
    }

    fn on_deadline(&mut self, now: Instant) -> Poll<()> {
        if matches!(self.phase, Phase::Closing { until, .. } if now >= until) {
            return Poll::Ready(());
        }
        if self
            .session
            .deadline()
            .is_some_and(|deadline| deadline <= now)
            && let Err(reason) = self.session.on_deadline(now)
        {
            self.close(reason, reason.close_code());
            return Poll::Pending;
        }
        match self.pinged_at {
            Some(pinged_at) if now >= pinged_at + self.config.heartbeat_deadline => {
                pause::runs(now);
                if let Some(pause) = pause::since(pinged_at) {
                    // The answer may be here, and was not read yet.
                    self.pinged_at = Some(pause.end);
                } else {
                    let reason = CloseReason::HeartbeatTimeout;
                    self.close(reason, reason.close_code());
                }
            }
            None if now >= self.next_ping => {
                self.session.send_framed(&frame::PING);
                self.pinged_at = Some(now);
                self.next_ping = now + self.config.heartbeat;
            }
            _ => {}
        }
        Poll::Pending
    }

    /// Leaves everything at once, and gives the client a moment to hear why.
    fn close(&mut self, reason: CloseReason, code: Option<u16>) {
        self.session.leave(reason);
        self.reader.abandon(&self.session);
        let text = if reason == CloseReason::Closed {
            ""
        } else {
            reason.as_str()
        };
        self.session
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
