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
    os::fd::{AsRawFd, OwnedFd, RawFd},
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
    pause,
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
    places: Vec<Box<[Option<Open>]>>,
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

/// A place for a connection on the worker on whose thread it was made.
pub struct Place(u32);

impl Place {
    /// Watches a socket, which nobody else has yet: nobody can close it meanwhile.
    pub fn new(socket: &OwnedFd) -> io::Result<Self> {
        with_sockets(|sockets| sockets.watch(socket.as_raw_fd()))
            .unwrap_or(Err(ErrorKind::NotConnected.into()))
            .map(Self)
    }

    /// Serves the connection until it ends. The socket is the session's link. `early`: what the client sent behind its request.
    pub fn serve(self, early: Vec<u8>, carried: Carried, config: Arc<WsConfig>, held: Held) {
        let index = self.0;
        std::mem::forget(self);
        let wire = Wire::new(Polled::default(), early, config);
        with_sockets(|sockets| sockets.open(index, wire, carried, held));
    }
}

impl Drop for Place {
    /// It was not needed.
    fn drop(&mut self) {
        with_sockets(|sockets| sockets.free.push(self.0));
    }
}

/// `None`: the worker has ended.
fn with_sockets<T>(act: impl FnOnce(&mut Sockets) -> T) -> Option<T> {
    SOCKETS.with_borrow_mut(|sockets| sockets.as_mut().map(act))
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
            places: Vec::new(),
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

    /// Serves the connections that have a [`Place`] on this thread, until its runtime ends.
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
            bell.sleeps.store(!is_busy, Ordering::SeqCst);
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
    /// Watches a socket under the index of a free place.
    fn watch(&mut self, socket: RawFd) -> io::Result<u32> {
        let Some(index) = self.free.pop().or_else(|| self.add_chunk()) else {
            return Err(ErrorKind::OutOfMemory.into());
        };
        let token = Token(index as usize);
        let both = Interest::READABLE | Interest::WRITABLE;
        let watched = self.registry.register(&mut SourceFd(&socket), token, both);
        if watched.is_err() {
            self.free.push(index);
        }
        watched.map(|()| index)
    }

    /// Takes a connection whose socket is watched.
    fn open(&mut self, index: u32, wire: Wire<Polled>, carried: Carried, held: Held) {
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
        let now = Instant::now();
        *self.place(index) = Some(Open {
            due: now + LONG,
            wire,
            carried,
            waker,
            _held: held,
        });
        self.run(index, now, |_| {});
    }

    /// Makes room for more; returns the first place.
    fn add_chunk(&mut self) -> Option<u32> {
        let first = u32::try_from(self.places.len() * CHUNK).ok()?;
        let end = u32::try_from(self.places.len() * CHUNK + CHUNK).ok()?;
        self.places.push((0..CHUNK).map(|_| None).collect());
        self.free.extend((first + 1..end).rev());
        Some(first)
    }

    #[inline]
    fn place(&mut self, index: u32) -> &mut Option<Open> {
        &mut self.places[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// Does what there is to do. True: there is more.
    fn turn(&mut self, poll: &mut mio::Poll, events: &mut Events) -> bool {
        for _ in 0..LOOKS {
            let mut seen = 0;
            // It fails when a signal comes; then it has found nothing.
            let found = poll.poll(events, Some(Duration::ZERO));
            let now = Instant::now();
            pause::runs(now);
            if found.is_ok() {
                for event in &*events {
                    seen += 1;
                    if let Ok(index) = u32::try_from(event.token().0) {
                        let is_closed = event.is_read_closed() || event.is_error();
                        self.run(index, now, |socket| {
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
                self.run(index, now, |_| {});
            }
            self.woken = woken;
            self.keep_time(now);
            if seen < BUSY {
                return false;
            }
        }
        true
    }

    /// Does what is due.
    fn keep_time(&mut self, now: Instant) {
        while let Some(&Reverse((at, index))) = self.times.peek()
            && at <= now
        {
            self.times.pop();
            if let Some(open) = self.place(index)
                && open.due == at
            {
                open.due = now + LONG;
                self.act(index, |wire, session, _| wire.keep_time(session, now));
            }
        }
    }

    /// Reads, carries out and writes what there is for a connection.
    #[inline]
    fn run(&mut self, index: u32, now: Instant, learn: impl FnOnce(&mut Polled)) {
        if let Some(open) = self.place(index) {
            learn(&mut open.wire.source);
            self.act(index, |wire, session, cx| wire.poll_io(session, now, cx));
        }
    }

    #[inline]
    fn act(
        &mut self,
        index: u32,
        act: impl FnOnce(&mut Wire<Polled>, &mut Session, &mut Context<'_>) -> Poll<()>,
    ) {
        let Some(open) = self.place(index) else {
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
        let open = self.place(index).take();
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
