//! The wire of voicematch: JSON text messages between a user's client and the server.
//!
//! * [`client`]: what a client sends
//! * [`server`]: what the server sends
//! * [`code`]: error codes, leave reasons and the WebSocket close code of each
//! * [`id`]: session and room ids
//! * [`numbered`]: audio that says which chunk it is, for tests
//!
//! Every message is one JSON object with a `type`. Unknown fields are ignored. `fixtures/` holds one
//! golden example of each message.
#![warn(missing_docs)]

pub mod client;
pub mod code;
pub mod id;
pub mod numbered;
pub mod server;
pub mod transcribe;
#[cfg(test)]
mod typescript;

pub use client::{
    CallReport, ClientType, Criteria, JoinRoom, Numbers, Rejoin, RenewToken, Report, Request,
};
pub use code::{
    CallFailure, CallOutcome, CallPath, Candidate, CloseReason, ErrorCode, LeaveReason,
    ReportReason,
};
pub use id::{RoomId, SessionId};
pub use server::{
    IceServer, Limits, RelayKind, ResumedPlace, ResumedRoom, RoomMember, RoomSelf, ServerMessage,
    ServerType, ServerView,
};
