//! Sessions, rooms and matching: all that the server decides, without I/O. It knows no sockets, files, flags or runtime:
//! a transport hands in the user's messages and the time, and gives each outbox a [`outbox::Link`] to write to.
//!
//! Imports run downward only: [`session`] -> [`matchmaker`] -> [`room`] -> [`outbox`] -> [`metrics`], and
//! [`session`] -> [`directory`]. [`address`], [`blocks`], [`cluster`], [`events`], [`memory`], [`pause`] and [`trace`] are leaves.

pub mod address;
pub mod blocks;
pub mod cluster;
pub mod directory;
pub mod events;
pub mod identity;
pub mod live;
pub mod matchmaker;
pub mod memory;
pub mod metrics;
pub mod outbox;
pub mod pause;
pub mod process;
mod rate;
pub mod room;
pub mod session;
pub mod trace;
