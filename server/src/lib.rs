//! A self-hosted server that pairs people who ask for a match and relays what their browsers need to set
//! up a WebRTC call.
//!
//! Imports run downward only: [`admin`] and [`listen`] -> [`http`] -> [`transport`] -> `voicematch_core`, which decides
//! everything and does no I/O; [`http`] and [`listen`] also -> [`admission`] -> [`io`]. [`trace`] and [`report`] tell others, by [`sending`].
//! [`serve`] joins them all to a server.

pub mod admin;
pub mod admission;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
pub mod drain;
pub mod events;
pub mod fetch;
pub mod files;
pub mod hand_over;
pub mod http;
pub mod io;
pub mod listen;
pub mod log;
pub mod machine;
pub mod profile;
pub mod reload;
pub mod report;
pub mod room_key;
pub mod sending;
pub mod serve;
pub mod shed;
pub mod shutdown;
pub mod systemd;
pub mod trace;
#[cfg(feature = "transcribe")]
pub mod transcribe;
pub mod transport;
pub mod workers;

pub use serve::{Addrs, Server, error::ServerError};
