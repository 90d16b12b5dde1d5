//! How an outbox writes events.

use std::{
    io::{self, IoSlice, Write},
    task::{Context, Poll},
};

use voicematch_core::outbox::{Link, Message};
use voicematch_protocol::CloseReason;

use crate::io::{SocketLink, WriteHalf};

/// The write side of an event stream.
pub struct EventLink<H: WriteHalf>(pub SocketLink<H>);

impl<H: WriteHalf> Link for EventLink<H> {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(parts)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_writable(cx)
    }

    fn hang_up(&mut self) {
        self.0.hang_up();
    }

    fn frame(&self, message: Message<'_>, out: &mut Vec<u8>) {
        frame(message, out);
    }

    fn farewell(&self, reason: CloseReason, out: &mut Vec<u8>) {
        farewell(reason, out);
    }
}

/// The last event; none where the session goes on, and the client is only to come again.
pub(super) fn farewell(reason: CloseReason, out: &mut Vec<u8>) {
    let Some(code) = reason.close_code() else {
        return;
    };
    let close = serde_json::json!({ "code": code, "reason": reason.as_str() });
    // Writing to memory does not fail.
    let _ = write!(out, "event: close\ndata: {close}\n\n");
}

fn frame(message: Message<'_>, out: &mut Vec<u8>) {
    let text = match message {
        Message::Numbered { seq, text } => {
            let _ = writeln!(out, "id: {seq}");
            text
        }
        Message::Unnumbered { event, text } => {
            let _ = writeln!(out, "event: {event}");
            text
        }
    };
    // JSON has line ends only where it may have spaces, but a line end would end the field.
    for line in text.split(|&byte| byte == b'\n' || byte == b'\r') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_number_and_no_line_end_within() {
        let mut out = Vec::new();
        let text = b"{\"seq\":7,\"payload\":{\r\n\"a\":1}}";
        frame(Message::Numbered { seq: 7, text }, &mut out);
        let lines = "id: 7\ndata: {\"seq\":7,\"payload\":{\ndata: \ndata: \"a\":1}}\n\n";
        assert_eq!(String::from_utf8(out), Ok(lines.to_owned()));
        let mut out = Vec::new();
        let text = b"{}";
        frame(
            Message::Unnumbered {
                event: "ping",
                text,
            },
            &mut out,
        );
        assert_eq!(out, b"event: ping\ndata: {}\n\n");
    }
}
