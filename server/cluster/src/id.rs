//! What nodes, tickets and pools are called in the engine.

use std::fmt;

/// Bytes of a pool's name: its level (0 to 3, the narrowest first) and 16 of a keyed hash.
pub const POOL_BYTES: usize = 17;

/// One life of a node: six random bytes of the process, two that count its lives.
///
/// Nothing to or from an old life counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 8]);

impl NodeId {
    /// The first life of a process.
    #[must_use]
    pub fn first(process: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = process;
        Self([a, b, c, d, e, f, 0, 1])
    }

    /// The life after this one.
    #[must_use]
    pub fn next_life(self) -> Self {
        let [a, b, c, d, e, f, g, h] = self.0;
        let [g, h] = u16::from_be_bytes([g, h]).wrapping_add(1).to_be_bytes();
        Self([a, b, c, d, e, f, g, h])
    }

    /// The process that lives it.
    #[must_use]
    pub fn process(self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.0;
        [a, b, c, d, e, f]
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// As it is in channels' names and in logs.
impl fmt::Display for NodeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// One search of one session: the session's id (8 bytes), the number of the search (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub [u8; 12]);

impl TicketId {
    /// The ticket of a session's search.
    #[must_use]
    pub fn new(session: [u8; 8], search: u32) -> Self {
        let mut id = [0; 12];
        id[..8].copy_from_slice(&session);
        id[8..].copy_from_slice(&search.to_be_bytes());
        Self(id)
    }

    /// The session that searches.
    #[must_use]
    pub fn session(self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}
