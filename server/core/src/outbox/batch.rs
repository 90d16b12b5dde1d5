//! Messages on their way to one user, ready to be written.
//!
//! They are framed for WebSocket, whatever the receiver is: most are that, and no sender has to ask. A link with another
//! framing takes the bare message out of the frame.

use std::ops::Range;

use serde::Serialize;

/// The first byte of a text message in one frame (RFC 6455 section 5.2).
const TEXT_FIN: u8 = 0x81;

/// Writes the header of a text message of `len` bytes in one WebSocket frame.
pub fn text_header(len: usize, out: &mut Vec<u8>) {
    if len <= 125 {
        #[allow(clippy::cast_possible_truncation, reason = "at most 125")]
        out.extend_from_slice(&[TEXT_FIN, len as u8]);
    } else if let Ok(len) = u16::try_from(len) {
        out.extend_from_slice(&[TEXT_FIN, 126]);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.extend_from_slice(&[TEXT_FIN, 127]);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// The message in the frame that `bytes` begin with, and what follows the frame. `None`: that is no whole text message.
pub fn text_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[first, short], rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = match short {
        126 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*len), rest)
        }
        short => (short.into(), rest),
    };
    if first != TEXT_FIN {
        return None;
    }
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// Messages for one user, framed one after another: those that one read of the partner brought.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Scratch space for a message whose length is not known before it is written.
    text: Vec<u8>,
}

/// The most bytes that an emptied batch keeps for the next one.
const KEPT_BATCH_BYTES: usize = 256 * 1024;

impl Batch {
    /// Appends a message made of `parts`, each copied once.
    pub fn push(&mut self, parts: &[&[u8]]) {
        text_header(parts.iter().map(|part| part.len()).sum(), &mut self.bytes);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push(self.bytes.len());
    }

    /// Appends a message written as JSON.
    pub fn push_json(&mut self, message: &impl Serialize) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        match serde_json::to_writer(&mut text, message) {
            Ok(()) => self.push(&[&text]),
            Err(error) => tracing::error!(%error, "a message of ours could not be written"),
        }
        self.text = text;
    }

    /// Appends bytes that are framed already, such as a WebSocket control frame.
    pub fn push_framed(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.ends.push(self.bytes.len());
    }

    /// Appends messages that are framed already, as another node has sent them. False: that they are not, and nothing is
    /// appended.
    pub fn push_frames(&mut self, frames: &[u8]) -> bool {
        let (start, count) = (self.bytes.len(), self.ends.len());
        let mut rest = frames;
        while !rest.is_empty() {
            let Some((_, behind)) = text_frame(rest) else {
                self.ends.truncate(count);
                return false;
            };
            rest = behind;
            self.ends.push(start + frames.len() - rest.len());
        }
        self.bytes.extend_from_slice(frames);
        true
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes, framing included.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The messages, framed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.shrink_to(KEPT_BATCH_BYTES);
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(self.ends.iter().copied())
            .map(|(start, end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_message_reads_back_from_its_frame(lens in prop::collection::vec(prop_oneof![0..300usize, 65_000..66_000usize], 1..4)) {
            let mut batch = Batch::default();
            let texts: Vec<_> = lens.iter().zip(b'a'..).map(|(len, byte)| vec![byte; *len]).collect();
            for text in &texts {
                batch.push(&[text]);
            }
            let mut rest = &batch.bytes[..];
            for text in &texts {
                let (message, behind) = text_frame(rest).expect("a frame");
                prop_assert_eq!(message, &text[..]);
                rest = behind;
            }
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_is_no_whole_text_message_has_no_message() {
        for bytes in [
            &[][..],
            &[0x81],
            &[0x81, 3, b'a'],
            &[0x8a, 0],
            &[0x81, 126, 0],
            &[0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(text_frame(bytes), None, "{bytes:02x?}");
        }
    }
}
