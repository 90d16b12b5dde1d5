//! Which process this is: tokens and tickets say who made them.

/// Random at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId(pub [u8; 6]);

impl ProcessId {
    pub fn random() -> Self {
        Self(rand::random())
    }
}
