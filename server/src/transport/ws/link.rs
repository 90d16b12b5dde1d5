//! How an outbox writes to a WebSocket.

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    task::{Context, Poll},
};

use rustix::{
    io::{Errno, writev},
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};
use voicematch_core::outbox::Link;
use voicematch_protocol::CloseReason;

use super::frame;
use crate::io::{SocketLink, TlsWriteHalf};

/// A socket without TLS, whole: others write to it, and its connection reads from it. The system is called without the points of
/// thread cancellation that the C library has.
pub struct PlainLink(OwnedFd);

/// The write side of a socket with TLS.
pub struct TlsLink(SocketLink<TlsWriteHalf>);

impl PlainLink {
    /// The socket must not block.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl TlsLink {
    /// Writes to this half.
    pub fn new(half: TlsWriteHalf) -> Self {
        Self(SocketLink::new(half))
    }
}

impl Link for PlainLink {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match parts {
            [part] => send(&self.0, part, SendFlags::NOSIGNAL),
            // The process ignores SIGPIPE.
            parts => writev(&self.0, parts),
        };
        Ok(written?)
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(&self.0, &mut *into, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                read => return Ok(read?.0),
            }
        }
    }

    /// An event tells the worker, which polls all its sockets.
    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn hang_up(&mut self) {
        // It fails when there is no connection any more.
        let _ = shutdown(&self.0, Shutdown::Write);
    }

    fn farewell(&self, reason: CloseReason, out: &mut Vec<u8>) {
        farewell(reason, out);
    }
}

impl Link for TlsLink {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(parts)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_writable(cx)
    }

    fn hang_up(&mut self) {
        self.0.hang_up();
    }

    fn farewell(&self, reason: CloseReason, out: &mut Vec<u8>) {
        farewell(reason, out);
    }
}

fn farewell(reason: CloseReason, out: &mut Vec<u8>) {
    let code = reason.close_code();
    out.extend_from_slice(&frame::close(code, reason.as_str()));
}
