//! What ends a server, or keeps it from starting.

use crate::listen::Address;

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address could not be bound.
    #[error("cannot listen on {address}: {error}; choose another address or port with {flag}")]
    Bind {
        /// Which.
        address: Address,
        /// The flag that says so.
        flag: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The server that runs there could not be asked for its sockets.
    #[error("--hand-over: the server at {} cannot hand over: {error}", path.display())]
    HandOver {
        /// The Unix socket.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A key that the operator names cannot be used.
    #[error("the key of room tickets: {0}")]
    RoomKey(String),
    /// Nor can the keys of tokens.
    #[error("{0}")]
    TokenKeys(String),
    /// Nor can the token of operators.
    #[error("{0}")]
    AdminToken(String),
    /// Nor can the app be told of events.
    #[error("--event-webhook: {0}")]
    Events(String),
    /// Nor can the certificate.
    #[error("{0}")]
    Certificate(String),
    /// The other nodes cannot be joined, and this one is nothing without them; or a fault has cut it off from them.
    #[error("--cluster: {0}")]
    Cluster(String),
    /// Transcription or surveys cannot begin.
    #[error("{0}")]
    Transcription(String),
    /// Rows of transcripts or answers are neither in the database nor on the disk.
    #[error("{0} rows of transcripts and answers could not be stored")]
    Unsaved(u64),
    /// Traces or error reports cannot be sent from here.
    #[error("{0}")]
    Telling(String),
    /// The system refused a thread, a socket or the like.
    #[error("the system refused what the server needs: {0}")]
    System(#[from] std::io::Error),
    /// Two metrics of one name; a fault of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}
