//! Surveys: questionnaires, interviews, and the tools that lead them.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/memory.rs"]
mod memory;

mod branching;
mod calls;
mod definition;
mod errors;
mod export;
mod faults;
mod help;
mod interviews;
mod spoken;
