//! Why a run could not take place.

use std::{io, time::Duration};

use thiserror::Error;

use crate::{plan::PlanError, record::Exit};

/// A run that could not take place.
#[derive(Debug, Error)]
pub enum RunError {
    /// The plan cannot be played.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The first connection failed.
    #[error("cannot reach {url}: {reason}. {advice}")]
    Unreachable {
        /// What was tried.
        url: String,
        /// What happened.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// Each user takes a file descriptor, and there are not enough.
    #[error(
        "{users} users need more open files than this process may have: {fit} fit. \
         Raise the hard limit (ulimit -Hn, LimitNOFILE=), give fewer users, or split the plan with --shard"
    )]
    TooFewFiles {
        /// Asked for.
        users: u32,
        /// Possible.
        fit: u64,
    },
    /// The moment at which all shards start was missed.
    #[error(
        "the start was {} ago, and the other shards did not wait: start all of them anew with a later --start-at",
        humantime::format_duration(Duration::from_secs(late.as_secs()))
    )]
    TooLate {
        /// By how much.
        late: Duration,
    },
    /// The moment at which all shards start is far away, and so perhaps not what was meant.
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
    /// A worker thread could not start, or died.
    #[error("a worker of the load generator failed: {0}")]
    Worker(#[source] io::Error),
}

impl RunError {
    pub fn exit_code(&self) -> Exit {
        match self {
            Self::Plan(_)
            | Self::TooFewFiles { .. }
            | Self::TooLate { .. }
            | Self::TooFar { .. } => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Stopped | Self::Worker(_) => Exit::Invalid,
        }
    }
}
