//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): a response that does not end
//! carries what the server says; the client sends with requests of their own.
//!
//! The stream writes to the socket itself, as a WebSocket does: the response ends with the connection, so that nothing
//! but the events has to be framed.

mod link;

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Sleep, sleep_until},
};
use voicematch_core::{outbox::Link, session::Session};
use voicematch_protocol::CloseReason;

use super::attachment::Attachment;
pub use link::EventLink;

/// How long a client may take to read our last words.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that a client may send after its request: a proxy may have the next request there already.
const MAX_HEARD: usize = 16 * 1024;

/// The first bytes of a stream: when to come again after a loss, and a comment that fills the buffers of proxies and
/// virus scanners which wait for a first block.
pub fn opening() -> Vec<u8> {
    let mut opening = b"retry: 1000\n:".to_vec();
    opening.resize(opening.len() + 2048, b' ');
    opening.extend_from_slice(b"\n\n");
    opening
}

/// Tells the client to come again at once.
const COME_AGAIN: &[u8] = b"retry: 0\n\n";

struct Stream<R> {
    attachment: Attachment,
    socket: R,
    /// When it ends by itself; once it is closing, at the latest.
    until: Instant,
    closing: bool,
    /// Bytes that have come from the client since the stream began.
    heard: usize,
    waker: Option<Waker>,
}

/// Carries a session until the stream ends, after the time `longest` if not before; `held` is dropped then. It reads from
/// `socket`; the session's link writes to it. Proxies limit a response, and pages keep what they have read of it.
pub async fn serve<R: AsyncRead + Unpin + Send, H: Send>(
    socket: R,
    attachment: Attachment,
    longest: Duration,
    held: H,
) {
    let now = Instant::now();
    let mut stream = Stream {
        attachment,
        socket,
        until: now + longest,
        closing: false,
        heard: 0,
        waker: None,
    };
    let _held = &held;
    let mut timer = std::pin::pin!(sleep_until(now.into()));
    std::future::poll_fn(|cx| stream.poll(cx, timer.as_mut())).await;
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn poll(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<()> {
        let Some(mut session) = self.attachment.lock() else {
            return Poll::Ready(());
        };
        let outbox = &session.member().clone().outbox;
        let moved = !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if moved {
            outbox.register(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
        let status = outbox.status();
        if let Some(reason) = status.closing
            && !self.closing
        {
            session.leave(reason);
            let mut farewell = Vec::new();
            link::farewell(reason, &mut farewell);
            outbox.finish(reason, &farewell);
            self.closing = true;
            self.until = Instant::now() + LINGER;
        }
        if poll_gone(&mut self.socket, &mut self.heard, cx).is_ready() {
            session.lose(CloseReason::Lost, Instant::now());
            return Poll::Ready(());
        }
        if status.queued || self.closing {
            match outbox.poll_flush(cx) {
                Poll::Ready(Err(_)) => {
                    session.lose(CloseReason::Lost, Instant::now());
                    return Poll::Ready(());
                }
                // The client hangs up when it has read so far.
                Poll::Ready(Ok(())) if self.closing => outbox.hang_up(),
                _ => {}
            }
        }
        poll_timer(&mut session, self.until, self.closing, cx, timer)
    }
}

/// Does what is due.
fn poll_timer(
    session: &mut Session,
    until: Instant,
    closing: bool,
    cx: &mut Context<'_>,
    mut timer: Pin<&mut Sleep>,
) -> Poll<()> {
    loop {
        let deadline = match session.deadline() {
            Some(deadline) if !closing => deadline.min(until),
            _ => until,
        };
        timer.as_mut().reset(deadline.into());
        ready!(timer.as_mut().poll(cx));
        let now = Instant::now();
        if now >= until {
            if !closing {
                session.send_framed(COME_AGAIN);
                session.lose(CloseReason::Lost, now);
            }
            return Poll::Ready(());
        }
        if let Err(reason) = session.on_deadline(now) {
            if !session.lose(reason, now) {
                session.member().outbox.close(reason);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(());
        }
    }
}

/// Ready when the client has gone, or says what nobody has asked for. It has nothing to say here, and is not listened to.
fn poll_gone<R: AsyncRead + Unpin>(
    socket: &mut R,
    heard: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut rest = [0; 512];
    loop {
        let mut buf = ReadBuf::new(&mut rest);
        let outcome = ready!(Pin::new(&mut *socket).poll_read(cx, &mut buf));
        *heard += buf.filled().len();
        if outcome.is_err() || buf.filled().is_empty() || *heard > MAX_HEARD {
            return Poll::Ready(());
        }
    }
}

/// Says why, and no more, on a stream that carries no session.
pub fn refuse(link: &dyn Link, reply: &[u8]) {
    // A new connection takes a few hundred bytes at once.
    let _ = link.try_write(&[std::io::IoSlice::new(reply)]);
}
