//! What the record of one shard of a run holds for the others.

use serde::{Deserialize, Serialize};

use super::Phase;

/// What a merge needs of a run that was one shard of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardData {
    /// From 1.
    pub index: u32,
    /// Shards in all.
    pub count: u32,
    /// The machine that it ran on.
    pub host: String,
    /// How long after the moment on which all agreed it was ready to start, by its own clock.
    pub started_late_ms: f64,
    /// The server's metrics were asked for by address.
    pub server_expected: bool,
    /// The whole plan, which is the same for all shards.
    pub plan: PlanFacts,
    /// The books, for nobody but the program: JSON, compressed (zlib), in base64.
    pub books: String,
}

/// What figures depend on that are made when all shards are joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFacts {
    /// The most users that the whole plan has at the same time.
    pub users: u64,
    /// How long it takes until they are there.
    pub ramp_ms: f64,
    /// How long two users have to wait at the same time before it is a failure that they were not matched.
    pub fair_wait_ms: f64,
    /// When a message is late.
    pub message_timeout_ms: f64,
    /// The parts of the plan, without what was measured in them.
    pub phases: Vec<Phase>,
    /// The names of the calls.
    pub calls: Vec<String>,
    /// The names of the flows.
    pub flows: Vec<String>,
    /// What is asked of the server, and whether somebody asked for it.
    pub thresholds: Vec<(String, bool)>,
}
