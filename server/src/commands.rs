//! What the program does besides serving.

pub(crate) mod configuration;
pub(crate) mod gentoken;
pub(crate) mod healthcheck;
pub(crate) mod manual;
#[cfg(feature = "self-test")]
pub(crate) mod self_test;
#[cfg(feature = "transcribe")]
pub(crate) mod survey;

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// Prints this.
fn print(text: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    printed(out.write_all(text).and_then(|()| out.flush()))
}

/// What printing means for the program: a reader who has gone (`| head`) has read enough.
fn printed(done: io::Result<()>) -> Outcome {
    match done {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
