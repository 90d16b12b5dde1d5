//! The users' clocks: when the next message is due, and how late this process was.

pub mod pacer;
pub mod stall;
