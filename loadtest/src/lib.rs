//! Plays thousands of voicematch users against a running server, and judges what they saw.
//!
//! Read in this order:
//! * [`plan`]: who starts when, and which [`flow`] of steps they play
//! * `user`: one simulated user, over `client`, who tells `sample`s
//! * `ledger`: what was sent against what was received
//! * `summary`: all samples together, and `series`: their course in time
//! * [`threshold`]: what is asked of the server, and whether it holds
//! * `verdict`: whether the measurement is to be trusted
//! * [`record`]: all of a run as one document
//! * [`merge`]: the records of several processes, each with a share of the users, as one
//! * [`compare`] and [`advice`]: what a record tells against another one, and by itself
//! * [`report`]: a record as text, JSON, Markdown, CSV and HTML
//! * `engine`: leads a run over its `worker` threads
//! * [`campaign`]: more than one run: a search for the breaking point, a share of it, one scenario after another
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let plan = loadtest::Plan::new(100, Duration::from_secs(10));
//! let target = loadtest::Target::new("ws://127.0.0.1:8080/ws", None)?;
//! let record = loadtest::run(&plan, &target, |_progress| {}).await?;
//! assert_eq!(record.exit_code, 0);
//! # Ok(())
//! # }
//! ```

pub mod access;
pub mod advice;
pub mod campaign;
mod client;
pub mod compare;
pub mod config;
mod drift;
mod engine;
pub mod expose;
mod files;
pub mod flow;
mod http;
mod ledger;
mod limits;
pub mod merge;
mod observe;
pub mod origin;
mod pace;
mod packed;
mod payload;
mod phase;
pub mod plan;
mod plausible;
pub mod progress;
mod pulse;
mod rate;
pub mod record;
pub mod report;
pub mod sample;
pub mod scenario;
mod series;
mod steady;
mod summary;
pub mod target;
pub mod template;
pub mod threshold;
mod user;
mod verdict;
mod worker;

pub use access::Access;
pub use campaign::Campaign;
pub use engine::{RunError, run, run_until};
pub use expose::Exposed;
pub use plan::Plan;
pub use progress::Progress;
pub use record::Record;
pub use target::Target;
pub use threshold::{Threshold, Thresholds};
