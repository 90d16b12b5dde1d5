//! Why a run could not take place.

use std::{io, time::Duration};

use thiserror::Error;

use crate::{plan::PlanError, record::Exit};

#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("cannot reach {url}: {reason}. {advice}")]
    Unreachable {
        url: String,
        reason: String,
        advice: String,
    },
    /// Each user needs a file descriptor, and there are too few.
    #[error(
        "{users} users need more open files than this process may have: {fit} fit. \
         Raise the hard limit (ulimit -Hn, LimitNOFILE=), give fewer users, or split the plan with --shard"
    )]
    TooFewFiles { users: u32, fit: u64 },
    /// This process missed the common start of all shards.
    #[error(
        "the start was {} ago, and the other shards did not wait: start all of them again with a later --start-at",
        humantime::format_duration(Duration::from_secs(late.as_secs()))
    )]
    TooLate { late: Duration },
    /// The common start of all shards is far away: perhaps a mistake.
    #[error(
        "the start is {} away: give --start-at a moment of the next 24 hours, by UTC",
        humantime::format_duration(Duration::from_secs(left.as_secs()))
    )]
    TooFar {
        /// How long it is until then.
        left: Duration,
    },
    /// Asked to end while the first connection was under way.
    #[error("ended before the first user started: nothing was measured")]
    Stopped,
    /// A file of audio of the scenario.
    #[error("{file}: {reason}")]
    Audio { file: String, reason: String },
    /// A worker thread could not start, or panicked.
    #[error("a worker of the load generator failed: {0}")]
    Worker(#[source] io::Error),
}

impl RunError {
    pub fn exit_code(&self) -> Exit {
        match self {
            Self::Plan(_)
            | Self::TooFewFiles { .. }
            | Self::TooLate { .. }
            | Self::TooFar { .. }
            | Self::Audio { .. } => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Stopped | Self::Worker(_) => Exit::Invalid,
        }
    }
}
