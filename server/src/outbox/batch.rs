//! Messages on their way to one user, ready to be written.

use std::ops::Range;

use serde::Serialize;

/// How a transport announces a message of `len` bytes: what it writes before it.
pub type Framing = fn(len: usize, out: &mut Vec<u8>);

/// Messages for one user, framed one after another: what a single read of a partner gave rise to.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    ends: Vec<usize>,
    /// A message whose length is not known before it is written.
    text: Vec<u8>,
}

/// A batch keeps its buffers for the next one, unless a burst has made them larger than this.
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

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes it holds, framing included.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets everything.
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
