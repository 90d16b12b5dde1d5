//! Keys of ours that hold something else: another program uses the prefix.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::warn;

use super::{Engine, lock};

/// Between two lines in the log.
const LOG: Duration = Duration::from_secs(30);

/// What calls find another program's value, and what the engine says of it.
pub type Foreign = BTreeMap<&'static str, String>;

#[derive(Debug, Default)]
pub(super) struct Watch {
    found: watch::Sender<Foreign>,
    said: Mutex<Option<Instant>>,
}

impl Watch {
    pub(super) fn good(&self, call: &'static str) {
        if !self.found.borrow().is_empty() {
            self.found
                .send_if_modified(|found| found.remove(call).is_some());
        }
    }

    /// A key is of another type.
    pub(super) fn refused(&self, call: &'static str, error: String) {
        let mut said = lock(&self.said);
        if said.is_none_or(|said| said.elapsed() >= LOG) {
            *said = Some(Instant::now());
            warn!("another program uses the same prefix on the engine: {call}: {error}");
        }
        self.found
            .send_if_modified(|found| found.insert(call, error).is_none());
    }
}

impl Engine {
    /// Which calls find another program's value, now, and each change of that. They do nothing, and are tried again.
    #[must_use]
    pub fn foreign(&self) -> watch::Receiver<Foreign> {
        self.shared.foreign.found.subscribe()
    }
}
