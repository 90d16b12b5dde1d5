//! A task that sends what waits in its queue: spans, or error reports.

use std::time::Duration;

use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

/// How long the end of the server waits for the last ones.
const LAST: Duration = Duration::from_secs(1);

/// Such a task; `None`: nothing is sent.
#[derive(Default)]
pub struct Sending(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Sending {
    /// This task, which sends what is left and ends when it is told to.
    #[cfg(any(feature = "traces", feature = "sentry"))]
    pub fn new(stop: oneshot::Sender<()>, task: JoinHandle<()>) -> Self {
        Self(Some((stop, task)))
    }

    /// Sends the last ones, if that goes fast. `what`: what they are.
    pub async fn flush(self, what: &str) {
        let Some((stop, mut task)) = self.0 else {
            return;
        };
        // Without a receiver the task has ended already.
        let _ = stop.send(());
        if timeout(LAST, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the last {what} could not be sent within {LAST:?}");
        }
    }
}
