//! Calls that the engine refuses: the log says what was refused and why, or nobody would know which right, or which disk, it is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use redis::RedisError;
use tracing::warn;

use super::lock;

/// Between two lines in the log about one kind of call.
const LOG: Duration = Duration::from_secs(30);

/// When the log has said so last, by kind of call.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<&'static str, Instant>>);

/// As the engine says it: its code is what operators look for.
pub(super) fn words(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

impl Refusals {
    pub(super) fn say(&self, call: &'static str, error: &str) {
        let mut said = lock(&self.0);
        if said.get(call).is_none_or(|said| said.elapsed() >= LOG) {
            said.insert(call, Instant::now());
            warn!("the engine refuses {call}: {error}");
        }
    }
}
