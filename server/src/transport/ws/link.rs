//! How an outbox writes to a WebSocket.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

use voicematch_core::outbox::Link;
use voicematch_protocol::CloseReason;

use super::frame;
use crate::io::{SocketLink, WriteHalf};

/// The write side of a WebSocket.
pub struct WsLink<H: WriteHalf>(pub SocketLink<H>);

impl<H: WriteHalf> Link for WsLink<H> {
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
        let code = reason.close_code();
        out.extend_from_slice(&frame::close(code, reason.as_str()));
    }
}
