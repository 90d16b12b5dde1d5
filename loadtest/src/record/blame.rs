//! Who has to mend an error.

/// Who has to mend an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// This process or its machine: the measurement is not to be trusted.
    Generator,
    /// Between the two, or the server's machine.
    Network,
    /// The server.
    Server,
    /// What was said on the wire is not what was agreed; either side may be at fault.
    Protocol,
}
