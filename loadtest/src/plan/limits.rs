//! The largest plan that one process can play.

use std::time::Duration;

pub const MAX_USERS: u32 = 1_000_000;

/// The length of a plan, or of any one time in it.
pub const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Users who arrive each second.
pub const MAX_ARRIVALS: f64 = 100_000.0;

/// Phases, flows, or calls of a plan: each needs memory for its figures.
pub const MAX_NAMES: usize = 200;

pub const MAX_SHARDS: u32 = 500;
