//! From bytes to messages: puts frames and fragments together and hands each whole message to the session.

use std::time::Instant;

use fastwebsockets::OpCode;
use voicematch_protocol::CloseReason;

use super::frame::{self, Header};
use voicematch_core::session::{Pending, Session};

/// Why reading ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client sent a close frame, with this code.
    ClosedByPeer(Option<u16>),
    /// The client broke the protocol or a limit.
    Violation(CloseReason),
}

impl From<CloseReason> for End {
    fn from(reason: CloseReason) -> Self {
        Self::Violation(reason)
    }
}

/// What one connection keeps between two reads: nothing, unless a frame or a message is unfinished.
pub(super) struct Reader {
    max_message_bytes: usize,
    unfinished: Option<Box<Unfinished>>,
    early: bool,
}

#[derive(Default)]
struct Unfinished {
    /// The beginning of a frame; never longer than a frame that is allowed and one read.
    frame: Vec<u8>,
    /// The fragments of a message so far.
    fragments: Option<Vec<u8>>,
    /// Memory of the two that the session knows of.
    counted: usize,
}

impl Reader {
    /// `early`: bytes that came with the handshake.
    pub(super) fn new(max_message_bytes: usize, early: Vec<u8>) -> Self {
        let has_early = !early.is_empty();
        let unfinished = Unfinished {
            frame: early,
            ..Unfinished::default()
        };
        Self {
            max_message_bytes,
            unfinished: has_early.then(|| Box::new(unfinished)),
            early: has_early,
        }
    }

    /// Whether bytes came with the handshake; true only once.
    pub(super) fn has_early(&mut self) -> bool {
        std::mem::take(&mut self.early)
    }

    /// Takes the bytes of one read.
    #[inline]
    pub(super) fn read(
        &mut self,
        received: &mut [u8],
        session: &mut Session,
        now: Instant,
        pending: &mut Pending,
    ) -> Result<(), End> {
        if self.unfinished.is_some() {
            return self.go_on(received, session, now, pending);
        }
        let used = self.frames(received, session, now, pending)?;
        if used < received.len() {
            self.unfinished().frame = received[used..].to_vec();
        }
        self.count_memory(session);
        Ok(())
    }

    /// Takes the bytes that follow the beginning of a frame, or of a message.
    #[inline(never)]
    fn go_on(
        &mut self,
        received: &[u8],
        session: &mut Session,
        now: Instant,
        pending: &mut Pending,
    ) -> Result<(), End> {
        let mut bytes = std::mem::take(&mut self.unfinished().frame);
        bytes.extend_from_slice(received);
        let used = self.frames(&mut bytes, session, now, pending)?;
        if used == 0 {
            self.unfinished().frame = bytes;
        } else if used < bytes.len() {
            self.unfinished().frame = bytes[used..].to_vec();
        }
        self.count_memory(session);
        Ok(())
    }

    fn unfinished(&mut self) -> &mut Unfinished {
        self.unfinished.get_or_insert_default()
    }

    /// Drops the unfinished frame and message.
    pub(super) fn abandon(&mut self, session: &Session) {
        if let Some(unfinished) = self.unfinished.take() {
            session.count_memory(unfinished.counted, 0);
        }
    }

    /// Counts the memory of what is unfinished; what is not any more is dropped.
    #[inline]
    fn count_memory(&mut self, session: &Session) {
        let Some(unfinished) = &mut self.unfinished else {
            return;
        };
        let fragments = unfinished.fragments.as_ref();
        let used = unfinished.frame.capacity() + fragments.map_or(0, Vec::capacity);
        if used != unfinished.counted {
            session.count_memory(unfinished.counted, used);
            unfinished.counted = used;
        }
        if used == 0 && unfinished.fragments.is_none() {
            self.unfinished = None;
        }
    }

    /// Carries out all whole frames; returns their length in bytes.
    fn frames(
        &mut self,
        bytes: &mut [u8],
        session: &mut Session,
        now: Instant,
        pending: &mut Pending,
    ) -> Result<usize, End> {
        let mut used = 0;
        while let Some(header) = Header::read(&bytes[used..])? {
            self.check(&header)?;
            let end = used + header.frame_len();
            let Some(frame) = bytes.get_mut(used..end) else {
                break;
            };
            self.frame(&header, frame, session, now, pending)?;
            used = end;
        }
        Ok(used)
    }

    /// Whether such a frame may come now, judged before its payload is waited for.
    fn check(&self, header: &Header) -> Result<(), CloseReason> {
        let unfinished = self.unfinished.as_ref();
        let so_far = unfinished.and_then(|unfinished| Some(unfinished.fragments.as_ref()?.len()));
        match (header.opcode, so_far) {
            (OpCode::Binary, _) => Err(CloseReason::UnsupportedData),
            (OpCode::Text, Some(_)) | (OpCode::Continuation, None) => {
                Err(CloseReason::ProtocolError)
            }
            (OpCode::Text | OpCode::Continuation, so_far) => {
                let room = self.max_message_bytes - so_far.unwrap_or(0);
                if header.payload_len > room {
                    Err(CloseReason::TooLarge)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn frame(
        &mut self,
        header: &Header,
        frame: &mut [u8],
        session: &mut Session,
        now: Instant,
        pending: &mut Pending,
    ) -> Result<(), End> {
        let payload = header.payload(frame);
        match header.opcode {
            OpCode::Text if header.fin => receive(payload, session, now, pending)?,
            OpCode::Text => {
                charge_fragment(session, now, pending)?;
                self.unfinished().fragments = Some(payload.to_vec());
            }
            OpCode::Continuation => {
                if !header.fin {
                    charge_fragment(session, now, pending)?;
                }
                let mut message = self.unfinished().fragments.take().unwrap_or_default();
                message.extend_from_slice(payload);
                if header.fin {
                    receive(&message, session, now, pending)?;
                } else {
                    self.unfinished().fragments = Some(message);
                }
            }
            OpCode::Ping => {
                if session.control_frame(now, pending)? {
                    session.answer_framed(&frame::pong(payload), pending);
                }
            }
            OpCode::Pong => _ = session.control_frame(now, pending)?,
            OpCode::Close => return Err(End::ClosedByPeer(frame::close_code(payload)?)),
            OpCode::Binary => return Err(CloseReason::UnsupportedData.into()),
        }
        Ok(())
    }
}

/// A message makes no sense without all its fragments, so a fragment over the rate ends the connection.
fn charge_fragment(
    session: &mut Session,
    now: Instant,
    pending: &mut Pending,
) -> Result<(), CloseReason> {
    if session.control_frame(now, pending)? {
        Ok(())
    } else {
        Err(CloseReason::RateLimited)
    }
}

fn receive(
    message: &[u8],
    session: &mut Session,
    now: Instant,
    pending: &mut Pending,
) -> Result<(), CloseReason> {
    let text = std::str::from_utf8(message).map_err(|_| CloseReason::InvalidUtf8)?;
    session.receive(text, now, pending)
}
