//! The limits of the machine: memory, file descriptors, and the time in which the process runs.

pub mod descriptors;
pub mod memory;
pub mod pause;
