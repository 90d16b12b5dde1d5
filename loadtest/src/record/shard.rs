//! The part of a shard's record that only a merge reads.

use serde::{Deserialize, Serialize};

use super::Phase;

/// The data of one shard for a merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardData {
    /// From 1.
    pub index: u32,
    /// Shards in all.
    pub count: u32,
    pub host: String,
    /// How long after the agreed moment it was ready to start, by its own clock.
    pub started_late_ms: f64,
    /// The address of the server's metrics was given.
    pub server_expected: bool,
    /// The whole plan: the same in all shards.
    pub plan: PlanFacts,
    /// Internal to the program: JSON, compressed (zlib), in base64.
    pub books: String,
}

/// The parts of the plan that a merge needs for its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFacts {
    /// The most users that the whole plan has at the same time.
    pub users: u64,
    pub ramp_ms: f64,
    /// A match fails once two users have waited this long at the same time.
    pub fair_wait_ms: f64,
    /// A message is late after this time.
    pub message_timeout_ms: f64,
    /// Without measured figures.
    pub phases: Vec<Phase>,
    pub calls: Vec<String>,
    pub flows: Vec<String>,
    /// The URLs of the servers, if there are several: they are one service.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Each threshold, and whether it was given rather than a default.
    pub thresholds: Vec<(String, bool)>,
}
