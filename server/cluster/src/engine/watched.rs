//! Tasks that must not end: without one of them a node is deaf, and the others would not know.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::error;

use super::{Engine, Shared};

/// Whether one has ended.
#[derive(Debug, Default)]
pub(super) struct Ended(watch::Sender<bool>);

impl Ended {
    pub(super) fn is_so(&self) -> bool {
        *self.0.borrow()
    }
}

/// Begins a task that is ended by its handle and never by itself.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    let task = tokio::spawn(work);
    let handle = task.abort_handle();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        if !task.await.is_err_and(|error| error.is_cancelled()) {
            error!("the cluster's task {name} has ended by itself: a fault of this program");
            shared.end();
        }
    });
    handle
}

impl Shared {
    fn end(&self) {
        self.ended.0.send_replace(true);
        self.tell();
    }
}

impl Engine {
    /// Begins a task that works with the engine; see [`spawn`].
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        spawn(&self.shared, name, work)
    }

    /// Nothing can be used any more.
    pub fn end(&self) {
        self.shared.end();
    }

    /// Ready when nothing can be used any more, since a task has ended that must not. The node is to end, too.
    pub async fn ended(&self) {
        // An error cannot be: the sender is this engine's.
        let _ = self
            .shared
            .ended
            .0
            .subscribe()
            .wait_for(|ended| *ended)
            .await;
    }
}
