//! Runs: one (engine, workers), several in a row (campaign), several side by side (shards).

pub mod campaign;
pub mod engine;
pub mod error;
pub mod metrics_endpoint;
pub mod observe;
pub mod phases;
pub mod progress;
pub mod shards;
pub mod worker;
