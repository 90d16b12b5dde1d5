//! The users' clocks: when the next message is due, and when this process paused.

pub mod pacer;
pub mod stall;
