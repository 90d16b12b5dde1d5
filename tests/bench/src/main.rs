//! Measures a voicematch server, and another one beside it, in one run on one machine.
//!
//! * [`compare`]: the table of medians, server beside baseline
//! * [`growth`]: memory, CPU and latency against the number of users, as a chart
//! * [`load`]: latency near the maximum, alone and disturbed
//! * [`run`]: one repetition: every phase against one fresh server
//! * [`users`]: the simulated users: many WebSocket clients on one thread
//!
//! `README.md` says what each figure means.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: the report goes to standard output, progress to standard error"
)]

mod churn;
mod clock;
mod compare;
mod figures;
mod frame;
mod growth;
mod interrupt;
mod load;
mod machine;
mod message;
mod options;
mod phases;
mod process;
mod run;
mod server;
mod speakers;
mod stats;
mod svg;
mod table;
mod users;

use std::process::ExitCode;

use clap::Parser;
use options::{Cli, Mode};

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Problem(String);

impl Problem {
    /// A problem in words.
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = interrupt::watch().and_then(|()| match cli.mode {
        Some(Mode::Growth(options)) => growth::run(&options),
        Some(Mode::Load(options)) => load::run(&options),
        None => compare::run(&cli.compare),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("voicematch-bench: {problem}");
            ExitCode::FAILURE
        }
    }
}
