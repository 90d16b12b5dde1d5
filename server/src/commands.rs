//! What the program does besides serving.

pub(crate) mod configuration;
pub(crate) mod gentoken;
pub(crate) mod healthcheck;
pub(crate) mod manual;
#[cfg(feature = "self-test")]
pub(crate) mod self_test;
#[cfg(feature = "transcribe")]
pub(crate) mod survey;

use std::process::ExitCode;

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;
