//! What is decided about a connection before it has a session.

pub mod auth;
pub mod bans;
pub mod guard;
pub mod limits;
pub mod make_room;
pub mod origin;
pub mod proxy;
