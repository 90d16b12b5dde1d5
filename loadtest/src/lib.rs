//! Plays thousands of voicematch users against a running server, and judges what they saw.
//!
//! The rooms, from the top down; a room imports only rooms below it:
//! * `cli`: flags, commands, the live screen
//! * `run`: conducts runs: one, several in a row, several side by side
//! * `user`: one simulated user and its connection to the server
//! * `report`: a record as text, JSON, Markdown, CSV and HTML
//! * `judge`: opinions on a record: thresholds, validity, drift, comparison, advice
//! * `measure`: from samples to figures
//! * `plan`: what is played, and what is asked of the server
//! * [`record`]: all of a run as one document
//! * `base`: units, files, the machine
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let plan = loadtest::Plan::new(100, Duration::from_secs(10));
//! let target = loadtest::Target::new("ws://127.0.0.1:8080/ws", None)?;
//! let record = loadtest::run(&plan, &target, |_progress| {}).await?;
//! assert_eq!(record.exit_code, loadtest::record::Exit::Pass);
//! # Ok(())
//! # }
//! ```

#![allow(
    unreachable_pub,
    reason = "the rooms are private: pub inside one means that the others may use it"
)]

mod base;
mod cli;
#[cfg(test)]
mod golden;
mod judge;
mod measure;
mod plan;
pub mod record;
mod report;
mod run;
mod user;

pub use cli::main;
pub use plan::{
    Plan,
    scenario::{ScenarioError, read as read_scenario},
};
pub use record::Record;
pub use report::terminal;
pub use run::{
    engine::{run, run_until},
    error::RunError,
    progress::Progress,
};
pub use user::net::target::{Target, TargetError};
