//! Asks connections that have not sent a whole request to make room for others: when memory runs out, and at
//! the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// How long a connection may take for its request even then: it may be on its way.
const SILENT_FOR: Duration = Duration::from_millis(500);

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct MakeRoom(Arc<watch::Sender<()>>);

impl MakeRoom {
    /// Connections that have been silent for `SILENT_FOR` are closed.
    pub fn ask(&self) {
        self.0.send_replace(());
    }

    /// Waits until a connection that came at `since` has to make room.
    pub async fn asked(&self, since: Instant) {
        let mut asked = self.0.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        while asked.changed().await.is_ok() && since.elapsed() < SILENT_FOR {}
    }
}
