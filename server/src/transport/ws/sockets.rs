//! The open WebSockets of a worker, over sockets without TLS. The worker polls them itself: a connection needs no task, no timer
//! and no place in tokio's tables, and what a message touches of it lies together.
//!
//! For tokio they are one future, [`Polling::serve`], which waits for an epoll of its own, in which all these sockets are.

use std::{
    any::Any,
    cell::RefCell,
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, ErrorKind},
    os::fd::{AsRawFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Registry, Token, unix::SourceFd};
use tokio::{io::unix::AsyncFd, time::sleep_until};
use voicematch_core::{
    outbox::{Link, Outbox},
    session::Session,
};

use super::{READS_PER_POLL, Source, Wire, WsConfig};
use crate::transport::attachment::Attachment;

/// Events that one look takes at the most.
const EVENTS: usize = 1024;

/// After a look that finds as many events the next one follows at once: there is more to come.
const BUSY: usize = 4;

/// Looks in a row before the worker's tasks get their turn.
const LOOKS: usize = 8;

/// Connections for which memory is taken at a time.
const CHUNK: usize = 64;

/// The bell's, which is no connection's index.
const BELL: Token = Token(usize::MAX);

/// Longer than what is due waits.
const LONG: Duration = Duration::from_secs(24 * 3600);

thread_local! {
    /// Those of this worker, while it serves.
    static SOCKETS: RefCell<Option<Sockets>> = const { RefCell::new(None) };
}

/// What counts a connection; it is dropped when that ends.
pub type Held = Arc<dyn Any + Send + Sync>;

/// What a connection carries.
pub enum Carried {
    /// A session that ends with it.
    Plain(Session),
    /// One that outlives it.
    Resumable(Attachment),
    /// None: the client has been told why, and has until then to read it.
    Refused(Box<dyn Link>, Instant),
}

/// An open connection.
#[repr(C, align(64))]
struct Open {
    /// When its time is looked at next.
    due: Instant,
    wire: Wire<Polled>,
    carried: Carried,
    waker: Waker,
    _held: Held,
}

/// Five cache lines: there is one for each user.
const _: () = assert!(size_of::<Option<Open>>() <= 320);

/// What is known of a socket without a system call.
#[derive(Default)]
struct Polled {
    /// Nothing can be read before the next event.
    is_empty: bool,
    /// The client will say no more: no event tells of the end of what can be read.
    is_closed: bool,
}

/// The connections of a worker.
struct Sockets {
    registry: Registry,
    /// In chunks, so that they stay where they are when there are more. A connection's token is its index.
    open: Vec<Box<[Option<Open>]>>,
    free: Vec<u32>,
    /// By `due`. Entries that are not a connection's latest are passed over.
    times: BinaryHeap<Reverse<(Instant, u32)>>,
    bell: Arc<Bell>,
    /// Empty, with room for those that the bell tells of.
    woken: Vec<u32>,
}

/// Tells the worker of connections to which something has happened elsewhere.
struct Bell {
    woken: Mutex<Vec<u32>>,
    /// The worker sleeps, and has to be woken.
    sleeps: AtomicBool,
    waker: mio::Waker,
}

/// Rings the bell for one connection.
struct Ring {
    bell: Arc<Bell>,
    index: u32,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.woken().push(self.index);
        if self.bell.sleeps.swap(false, Ordering::SeqCst) {
            // It fails when the kernel has no memory; then the next event wakes the worker.
            let _ = self.bell.waker.wake();
        }
    }
}

impl Bell {
    fn woken(&self) -> MutexGuard<'_, Vec<u32>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Polled {
    #[inline]
    fn poll_read(
        &mut self,
        outbox: &Outbox,
        _: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_empty {
            return Poll::Pending;
        }
        match outbox.try_read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_empty = true;
                Poll::Pending
            }
            read => {
                // What comes after a read that took less than it could is told by another event.
                let took_all = read.as_ref().is_ok_and(|&read| read < into.len());
                self.is_empty = took_all && !self.is_closed;
                Poll::Ready(read)
            }
        }
    }
}

/// Serves a connection on the worker on whose thread this is called, until it ends. Its socket, which has this descriptor, is
/// the session's link. `early`: what the client sent behind its request.
pub fn adopt(socket: RawFd, early: Vec<u8>, carried: Carried, config: Arc<WsConfig>, held: Held) {
    SOCKETS.with_borrow_mut(|sockets| {
        if let Some(sockets) = sockets {
            let wire = Wire::new(Polled::default(), early, config);
            sockets.adopt(socket, wire, carried, held);
        }
    });
}

/// The descriptor of an epoll.
struct Epoll(mio::Poll);

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What a worker serves its connections with.
pub struct Polling {
    poll: AsyncFd<Epoll>,
    sockets: Sockets,
}

impl Polling {
    /// For the worker in whose runtime's context this is called.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let bell = Bell {
            woken: Mutex::default(),
            sleeps: AtomicBool::new(false),
            waker: mio::Waker::new(poll.registry(), BELL)?,
        };
        let sockets = Sockets {
            registry: poll.registry().try_clone()?,
            open: Vec::new(),
            free: Vec::new(),
            times: BinaryHeap::new(),
            bell: Arc::new(bell),
            woken: Vec::new(),
        };
        let readable = tokio::io::Interest::READABLE;
        #[expect(
            deprecated,
            reason = "its descriptor is its own and stays the same, which is what the newer function asks for"
        )]
        let poll = AsyncFd::with_interest(Epoll(poll), readable)?;
        Ok(Self { poll, sockets })
    }

    /// Serves the connections that this thread adopts, until its runtime ends.
    pub async fn serve(self) -> io::Result<()> {
        let Self { mut poll, sockets } = self;
        let bell = sockets.bell.clone();
        SOCKETS.set(Some(sockets));
        let _end = End;
        let mut events = Events::with_capacity(EVENTS);
        let mut timer = std::pin::pin!(sleep_until(Instant::now().into()));
        loop {
            let mut is_busy = false;
            let next = SOCKETS.with_borrow_mut(|sockets| {
                let sockets = sockets.as_mut()?;
                is_busy = sockets.turn(&mut poll.get_mut().0, &mut events);
                sockets.times.peek().map(|Reverse((at, _))| *at)
            });
            bell.sleeps.store(true, Ordering::SeqCst);
            if is_busy || !bell.woken().is_empty() {
                tokio::task::yield_now().await;
            } else {
                let next = next.unwrap_or_else(|| Instant::now() + LONG);
                if timer.deadline() != next.into() {
                    timer.as_mut().reset(next.into());
                }
                tokio::select! {
                    biased;
                    ready = poll.readable() => ready?.clear_ready(),
                    () = &mut timer => {}
                }
            }
            bell.sleeps.store(false, Ordering::SeqCst);
        }
    }
}

/// Ends the connections with their worker.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        let sockets = SOCKETS.take();
        drop(sockets);
    }
}

impl Sockets {
    fn adopt(&mut self, socket: RawFd, wire: Wire<Polled>, carried: Carried, held: Held) {
        let Some(index) = self.free.pop().or_else(|| self.add_chunk()) else {
            return;
        };
        let bell = self.bell.clone();
        let waker = Waker::from(Arc::new(Ring { bell, index }));
        match &carried {
            Carried::Plain(session) => session.member().outbox.register(&waker),
            Carried::Resumable(attachment) => {
                if let Some(session) = attachment.lock() {
                    session.member().outbox.register(&waker);
                }
            }
            Carried::Refused(..) => {}
        }
        *self.slot(index) = Some(Open {
            due: Instant::now() + LONG,
            wire,
            carried,
            waker,
            _held: held,
        });
        let token = Token(index as usize);
        let both = Interest::READABLE | Interest::WRITABLE;
        match self.registry.register(&mut SourceFd(&socket), token, both) {
            // It can be written to, so that this is an event already.
            Ok(()) => self.run(index, |_| {}),
            Err(error) => {
                tracing::warn!(%error, "the system cannot watch a socket more; its connection was closed");
                self.close(index);
            }
        }
    }

    /// Makes room for more; returns the first place.
    fn add_chunk(&mut self) -> Option<u32> {
        let first = u32::try_from(self.open.len() * CHUNK).ok()?;
        let end = u32::try_from(self.open.len() * CHUNK + CHUNK).ok()?;
        self.open.push((0..CHUNK).map(|_| None).collect());
        self.free.extend((first + 1..end).rev());
        Some(first)
    }

    #[inline]
    fn slot(&mut self, index: u32) -> &mut Option<Open> {
        &mut self.open[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// Does what there is to do. True: there is more.
    fn turn(&mut self, poll: &mut mio::Poll, events: &mut Events) -> bool {
        for _ in 0..LOOKS {
            let mut seen = 0;
            // It fails when a signal comes; then it has found nothing.
            if poll.poll(events, Some(Duration::ZERO)).is_ok() {
                for event in &*events {
                    seen += 1;
                    if let Ok(index) = u32::try_from(event.token().0) {
                        let is_closed = event.is_read_closed() || event.is_error();
                        self.run(index, |socket| {
                            socket.is_empty = false;
                            socket.is_closed |= is_closed;
                        });
                    }
                }
            }
            std::mem::swap(&mut *self.bell.woken(), &mut self.woken);
            let mut woken = std::mem::take(&mut self.woken);
            seen += woken.len();
            for index in woken.drain(..) {
                self.run(index, |_| {});
            }
            self.woken = woken;
            self.keep_time();
            if seen < BUSY {
                return false;
            }
        }
        true
    }

    /// Does what is due.
    fn keep_time(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, index))) = self.times.peek()
            && at <= now
        {
            self.times.pop();
            if let Some(open) = self.slot(index)
                && open.due == at
            {
                open.due = now + LONG;
                self.act(index, |wire, session, _| wire.keep_time(session, now));
            }
        }
    }

    /// Reads, carries out and writes what there is for a connection.
    #[inline]
    fn run(&mut self, index: u32, learn: impl FnOnce(&mut Polled)) {
        if let Some(open) = self.slot(index) {
            learn(&mut open.wire.source);
            self.act(index, Wire::poll_io);
        }
    }

    #[inline]
    fn act(
        &mut self,
        index: u32,
        act: impl FnOnce(&mut Wire<Polled>, &mut Session, &mut Context<'_>) -> Poll<()>,
    ) {
        let Some(open) = self.slot(index) else {
            return;
        };
        // A fault in the handling of one connection ends that one, as if it had a task.
        let next = catch_unwind(AssertUnwindSafe(|| open.act(act)));
        match next {
            Ok(Some(deadline)) => {
                if deadline < open.due {
                    open.due = deadline;
                    self.times.push(Reverse((deadline, index)));
                }
            }
            Ok(None) | Err(_) => self.close(index),
        }
    }

    fn close(&mut self, index: u32) {
        let open = self.slot(index).take();
        // A fault while it ends is in the log already.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(open)));
        self.free.push(index);
    }
}

impl Open {
    /// Acts for it; returns when its time is to be looked at, or nothing when it has ended.
    #[inline]
    fn act(
        &mut self,
        act: impl FnOnce(&mut Wire<Polled>, &mut Session, &mut Context<'_>) -> Poll<()>,
    ) -> Option<Instant> {
        let wire = &mut self.wire;
        let mut cx = Context::from_waker(&self.waker);
        match &mut self.carried {
            Carried::Plain(session) => match act(wire, session, &mut cx) {
                Poll::Pending => Some(wire.deadline(session)),
                Poll::Ready(()) => None,
            },
            Carried::Resumable(attachment) => {
                let Some(mut session) = attachment.lock() else {
                    wire.reader.abandon(&attachment.lock_any());
                    return None;
                };
                match act(wire, &mut session, &mut cx) {
                    Poll::Pending => Some(wire.deadline(&session)),
                    Poll::Ready(()) => None,
                }
            }
            Carried::Refused(link, until) => linger(&**link, *until),
        }
    }
}

/// Throws away what a client says that has been refused; returns until when, or nothing when it has gone.
fn linger(link: &dyn Link, until: Instant) -> Option<Instant> {
    let mut rest = [0; 512];
    for _ in 0..READS_PER_POLL {
        match link.try_read(&mut rest) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            _ => return None,
        }
    }
    (Instant::now() < until).then_some(until)
}
