//! Plays thousands of voicematch users against a running server, and judges what they saw.
//!
//! Read in this order:
//! * [`plan`]: who starts and sends when
//! * `user`: one simulated user, over `client`, who tells `sample`s
//! * `ledger`: what was sent against what was received
//! * [`summary`]: all samples together
//! * [`verdict`]: the targets, and whether they hold
//! * [`record`]: all of a run as one document
//! * [`compare`] and [`advice`]: what a record tells against another one, and by itself
//! * [`report`]: a record as text, JSON, Markdown, CSV and HTML
//! * `engine`: leads a run over its `worker` threads
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let plan = loadtest::Plan::new(100, Duration::from_secs(10));
//! let target = loadtest::Target::new("ws://127.0.0.1:8080/ws", None)?;
//! let summary = loadtest::run(&plan, &target, |_progress| {}).await?;
//! let verdict = loadtest::judge(&summary, &loadtest::Thresholds::default());
//! assert_eq!(verdict.exit_code(), 0);
//! # Ok(())
//! # }
//! ```

pub mod access;
pub mod advice;
mod client;
pub mod compare;
pub mod config;
mod engine;
pub mod expose;
mod ledger;
mod limits;
mod observe;
mod payload;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod sample;
mod steady;
pub mod summary;
pub mod target;
mod user;
pub mod verdict;
mod worker;

pub use access::Access;
pub use engine::{RunError, run, run_until};
pub use expose::Exposed;
pub use ledger::Delivery;
pub use plan::Plan;
pub use progress::Progress;
pub use summary::Summary;
pub use target::Target;
pub use verdict::{Thresholds, Verdict, judge};
