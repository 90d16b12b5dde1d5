//! What is decided about a connection before it has a session.

pub mod limits;
