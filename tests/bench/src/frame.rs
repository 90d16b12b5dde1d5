//! WebSocket frames (RFC 6455): masked ones to the server, plain ones from it.

/// The mask of every frame sent. A constant, so that frames can be encoded once and patched in place;
/// not zero, so that a server that forgets to unmask is found out.
pub(crate) const MASK: [u8; 4] = [0x5c, 0xa3, 0x1e, 0xd7];

/// Frame types.
pub(crate) mod opcode {
    /// A text message.
    pub(crate) const TEXT: u8 = 1;
    /// A binary message.
    pub(crate) const BINARY: u8 = 2;
    /// The end of the connection.
    pub(crate) const CLOSE: u8 = 8;
    /// Asks for a pong.
    pub(crate) const PING: u8 = 9;
    /// Answers a ping.
    pub(crate) const PONG: u8 = 10;
}

/// The longest frame that a server has reason to send here.
const MAX_PAYLOAD: usize = 1 << 20;

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// One of [`opcode`].
    pub(crate) opcode: u8,
    /// What it carries.
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

/// Bytes that are no frame which a server may send to these clients.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadFrame;

/// A whole client frame. Its payload is its end: it starts at `frame.len() - payload.len()`.
pub(crate) fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    let len = payload.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => frame.push(0x80 | len),
        (_, Ok(len)) => {
            frame.push(0x80 | 126);
            frame.extend(len.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .enumerate()
            .map(|(i, byte)| byte ^ MASK[i & 3]),
    );
    frame
}

/// The first frame in `bytes`; `None`: not all of it is there yet.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, BadFrame> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    // Whole (FIN), no extensions, not masked.
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Err(BadFrame);
    }
    let (head, len) = match second {
        126 => match rest.first_chunk::<2>() {
            Some(len) => (4, usize::from(u16::from_be_bytes(*len))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(len) => (
                10,
                usize::try_from(u64::from_be_bytes(*len)).map_err(|_| BadFrame)?,
            ),
            None => return Ok(None),
        },
        len => (2, usize::from(len)),
    };
    if len > MAX_PAYLOAD {
        return Err(BadFrame);
    }
    Ok(bytes.get(head..head + len).map(|payload| Frame {
        opcode: first & 15,
        payload,
        len: head + len,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server would make of a client's frame: the same, without the mask.
    fn as_server(frame: &[u8], payload: usize) -> Vec<u8> {
        let head = frame.len() - payload - MASK.len();
        let mut plain = frame[..head].to_vec();
        plain[1] &= 0x7f;
        plain.extend(
            frame[head + 4..]
                .iter()
                .enumerate()
                .map(|(i, b)| b ^ MASK[i & 3]),
        );
        plain
    }

    #[test]
    fn every_length_comes_back() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload: Vec<u8> = (b'a'..=b'z').cycle().take(len).collect();
            let plain = as_server(&encode(opcode::TEXT, &payload), len);
            let whole = Frame {
                opcode: opcode::TEXT,
                payload: &payload,
                len: plain.len(),
            };
            assert_eq!(decode(&plain), Ok(Some(whole)), "{len}");
            assert_eq!(decode(&plain[..plain.len() - 1]), Ok(None), "{len}");
        }
    }

    #[test]
    fn a_client_frame_is_masked() {
        let frame = encode(opcode::TEXT, b"hello");
        assert_eq!(frame[..2], [0x81, 0x85]);
        assert_eq!(frame[2..6], MASK);
        assert_ne!(&frame[6..], b"hello");
        assert_eq!(decode(&frame), Err(BadFrame));
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        assert_eq!(decode(&[0x01, 0x00]), Err(BadFrame), "a fragment");
        assert_eq!(decode(&[0xc1, 0x00]), Err(BadFrame), "compressed");
        let long = [0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(decode(&long), Err(BadFrame), "4 GiB");
        assert_eq!(decode(&[]), Ok(None));
        assert_eq!(decode(&[0x81, 126, 0]), Ok(None));
    }
}
