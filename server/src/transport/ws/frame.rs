//! RFC 6455 frames: a strict reader that knows its limits before it keeps anything, and the little that a
//! server writes.

use fastwebsockets::{OpCode, unmask};
use voicematch_protocol::CloseReason;

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// The longest frame header that a client sends: 2 bytes, 8 of length, 4 of mask.
pub const MAX_HEADER_BYTES: usize = 14;

/// A frame's header, as a client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends here.
    pub fin: bool,
    pub opcode: OpCode,
    pub payload_len: usize,
    pub header_len: usize,
    mask: [u8; 4],
}

impl Header {
    /// Reads a header; `None` if there is not all of it yet. Everything that RFC 6455 forbids a client is
    /// an error at once, before the payload is there: reserved bits and opcodes, no mask, a length not in
    /// its shortest form, control frames that are long or in fragments.
    pub fn read(buf: &[u8]) -> Result<Option<Self>, CloseReason> {
        const BAD: CloseReason = CloseReason::ProtocolError;
        let Some(&[first, second]) = buf.first_chunk() else {
            return Ok(None);
        };
        if first & 0x70 != 0 || second & 0x80 == 0 {
            return Err(BAD);
        }
        let fin = first & 0x80 != 0;
        let opcode = match first & 0x0f {
            0x0 => OpCode::Continuation,
            0x1 => OpCode::Text,
            0x2 => OpCode::Binary,
            0x8 => OpCode::Close,
            0x9 => OpCode::Ping,
            0xa => OpCode::Pong,
            _ => return Err(BAD),
        };
        let short = second & 0x7f;
        let is_control = first & 0x08 != 0;
        if is_control && (!fin || usize::from(short) > MAX_CONTROL_BYTES) {
            return Err(BAD);
        }
        let rest = &buf[2..];
        let (length, extra) = match short {
            126 => {
                let Some(bytes) = rest.first_chunk::<2>() else {
                    return Ok(None);
                };
                (u64::from(u16::from_be_bytes(*bytes)), 2)
            }
            127 => {
                let Some(bytes) = rest.first_chunk::<8>() else {
                    return Ok(None);
                };
                (u64::from_be_bytes(*bytes), 8)
            }
            short => (u64::from(short), 0),
        };
        let shortest = match extra {
            2 => length > 125,
            8 => length > u64::from(u16::MAX) && length >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(BAD);
        }
        let Some(mask) = rest[extra..].first_chunk::<4>() else {
            return Ok(None);
        };
        let payload_len = usize::try_from(length).map_err(|_| CloseReason::TooLarge)?;
        Ok(Some(Self {
            fin,
            opcode,
            payload_len,
            header_len: 2 + extra + 4,
            mask: *mask,
        }))
    }

    /// Header and payload together, in bytes.
    pub fn frame_len(&self) -> usize {
        self.header_len + self.payload_len
    }

    /// The payload of this frame, which begins at the start of `buf`, unmasked in place.
    pub fn payload<'a>(&self, buf: &'a mut [u8]) -> &'a mut [u8] {
        let payload = &mut buf[self.header_len..self.frame_len()];
        unmask(payload, self.mask);
        payload
    }
}

/// A ping without payload.
pub const PING: [u8; 2] = [0x89, 0];

/// A pong with the payload of the ping, which is a control frame's and so short.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    control(0x8a, payload)
}

/// A close frame; without a code it has no payload.
pub fn close(code: Option<u16>, reason: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
    }
    control(0x88, &payload)
}

fn control(first: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_CONTROL_BYTES)];
    let mut frame = Vec::with_capacity(2 + payload.len());
    #[allow(clippy::cast_possible_truncation, reason = "at most 125")]
    frame.extend_from_slice(&[first, payload.len() as u8]);
    frame.extend_from_slice(payload);
    frame
}

/// Checks a close frame's payload; returns the code in it, if there is one (RFC 6455 section 7.4).
pub fn close_code(payload: &[u8]) -> Result<Option<u16>, CloseReason> {
    if payload.is_empty() {
        return Ok(None);
    }
    let (code, reason) = payload
        .split_first_chunk::<2>()
        .ok_or(CloseReason::ProtocolError)?;
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(CloseReason::ProtocolError);
    }
    std::str::from_utf8(reason).map_err(|_| CloseReason::InvalidUtf8)?;
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use voicematch_core::outbox::text_header;

    use super::*;

    fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut frame = Vec::new();
        text_header(payload.len(), &mut frame);
        frame[0] = first;
        frame[1] |= 0x80;
        frame.extend_from_slice(&mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }

    proptest! {
        #[test]
        fn any_frame_reads_back(payload in prop::collection::vec(any::<u8>(), 0..70_000), mask: [u8; 4], cut: prop::sample::Index) {
            let mut frame = masked(0x81, &payload, mask);
            let header = Header::read(&frame).expect("valid").expect("whole");
            prop_assert_eq!(header.frame_len(), frame.len());
            prop_assert_eq!(header.payload(&mut frame), &payload[..]);
            let cut = cut.index(header.header_len);
            prop_assert_eq!(Header::read(&frame[..cut]), Ok(None));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = Header::read(&bytes);
            let _ = close_code(&bytes);
        }
    }

    #[test]
    fn what_a_client_must_not_send_is_refused() {
        let mask = [1, 2, 3, 4];
        let mut unmasked = masked(0x81, b"hi", mask);
        unmasked[1] &= 0x7f;
        let long_form = [0x81, 0x80 | 126, 0, 5, 0, 0, 0, 0];
        let longer_form = [0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
        let negative = [0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for bad in [
            &unmasked[..],
            &masked(0xc1, b"hi", mask),
            &masked(0xa1, b"hi", mask),
            &masked(0x91, b"hi", mask),
            &masked(0x83, b"hi", mask),
            &masked(0x8b, b"hi", mask),
            &masked(0x09, b"hi", mask),
            &masked(0x89, &[0; 126], mask),
            &long_form,
            &longer_form,
            &negative,
        ] {
            assert_eq!(
                Header::read(bad),
                Err(CloseReason::ProtocolError),
                "{:02x?}",
                &bad[..2]
            );
        }
    }

    #[test]
    fn close_codes_are_checked() {
        assert_eq!(close_code(b""), Ok(None));
        assert_eq!(close_code(&1000u16.to_be_bytes()), Ok(Some(1000)));
        for bad in [0u16, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000] {
            assert_eq!(
                close_code(&bad.to_be_bytes()),
                Err(CloseReason::ProtocolError),
                "{bad}"
            );
        }
        assert_eq!(close_code(b"\x03"), Err(CloseReason::ProtocolError));
        assert_eq!(close_code(b"\x03\xe8\xff"), Err(CloseReason::InvalidUtf8));
    }
}
