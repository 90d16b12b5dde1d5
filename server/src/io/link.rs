//! The write side of a socket.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

use tokio::net::{tcp, unix};

/// The write side of a socket. Dropping it does not hang up: closing the socket does, without a system
/// call of its own.
pub struct SocketLink<H: WriteHalf>(Option<H>);

/// What [`SocketLink`] needs of tokio's write halves.
pub trait WriteHalf: Send + Sync {
    /// Writes what the socket takes at once.
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Waits until the socket takes more.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Drops it without a shutdown of the socket.
    fn forget(self);
}

macro_rules! write_half {
    ($half:ty) => {
        impl WriteHalf for $half {
            fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
                match parts {
                    [part] => <$half>::try_write(self, part),
                    parts => self.try_write_vectored(parts),
                }
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.as_ref().poll_write_ready(cx)
            }

            fn forget(self) {
                <$half>::forget(self);
            }
        }
    };
}

write_half!(tcp::OwnedWriteHalf);
write_half!(unix::OwnedWriteHalf);

impl<H: WriteHalf> SocketLink<H> {
    /// Writes to this half.
    pub fn new(half: H) -> Self {
        Self(Some(half))
    }

    /// Writes what the socket takes at once; `WouldBlock` when that is nothing.
    #[inline]
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let half = self.0.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        half.try_write(parts)
    }

    /// Waits until [`Self::try_write`] may write again. Only the latest waker is kept.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Some(half) => half.poll_writable(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Closes the write side; the other side can still be read.
    pub fn hang_up(&mut self) {
        self.0 = None;
    }
}

impl<H: WriteHalf> Drop for SocketLink<H> {
    fn drop(&mut self) {
        if let Some(half) = self.0.take() {
            half.forget();
        }
    }
}
