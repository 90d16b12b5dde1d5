//! The stream under HTTP, which can hold back the reply to a handshake so that it goes out together with
//! the first message: one system call and one packet for each new user.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Stream;

/// What the stream and its owner tell each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    held: AtomicBool,
    /// Something was written, and may not be whole.
    unflushed: AtomicBool,
    /// There was room for a piece of an answer since this was asked last.
    #[cfg(feature = "transcribe")]
    took_piece: AtomicBool,
}

impl Hold {
    /// Holds writes back from now on, or no longer.
    pub(super) fn set(&self, held: bool) {
        self.0.held.store(held, Ordering::Relaxed);
    }

    /// Whether all that was written is with the socket.
    pub(super) fn is_flushed(&self) -> bool {
        !self.0.unflushed.load(Ordering::Relaxed)
    }

    /// There is room for a piece of an answer: the client reads.
    #[cfg(feature = "transcribe")]
    pub(super) fn took_piece(&self) {
        self.0.took_piece.store(true, Ordering::Relaxed);
    }

    /// Whether there was room for one since this was asked last.
    #[cfg(feature = "transcribe")]
    pub(super) fn has_taken_piece(&self) -> bool {
        self.0.took_piece.swap(false, Ordering::Relaxed)
    }

    fn is_held(&self) -> bool {
        self.0.held.load(Ordering::Relaxed)
    }

    fn flushed(&self, flushed: bool) {
        self.0.unflushed.store(!flushed, Ordering::Relaxed);
    }
}

/// A stream whose output can be held back.
pub(super) struct HttpStream {
    stream: Stream,
    hold: Hold,
    held: Vec<u8>,
}

impl HttpStream {
    pub(super) fn new(stream: Stream, hold: Hold) -> Self {
        Self {
            stream,
            hold,
            held: Vec::new(),
        }
    }

    /// The bare stream, and the bytes that were held back.
    pub(super) fn into_parts(self) -> (Stream, Vec<u8>) {
        (self.stream, self.held)
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.hold.is_held() {
            self.held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        self.hold.flushed(false);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hold.is_held() {
            bufs.iter().for_each(|buf| self.held.extend_from_slice(buf));
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        self.hold.flushed(false);
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // HTTP comes here when its own buffer is empty.
        self.hold.flushed(true);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
