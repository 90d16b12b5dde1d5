//! The limits of the machine: memory and file descriptors.

pub mod descriptors;
pub mod memory;
