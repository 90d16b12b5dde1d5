//! Messages on their way to one user, ready to be written.

use std::ops::Range;

use serde::Serialize;

/// Writes what a transport puts before a message of `len` bytes.
pub type Framing = fn(len: usize, out: &mut Vec<u8>);

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
    pub fn push(&mut self, framing: Framing, parts: &[&[u8]]) {
        framing(parts.iter().map(|part| part.len()).sum(), &mut self.bytes);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push(self.bytes.len());
    }

    /// Appends a message written as JSON.
    pub fn push_json(&mut self, framing: Framing, message: &impl Serialize) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        match serde_json::to_writer(&mut text, message) {
            Ok(()) => self.push(framing, &[&text]),
            Err(error) => tracing::error!(%error, "a message of ours could not be written"),
        }
        self.text = text;
    }

    /// Appends bytes that are framed already, such as a WebSocket control frame.
    pub fn push_framed(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.ends.push(self.bytes.len());
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
