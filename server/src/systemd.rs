//! What the service manager is told (sd_notify(3)): that the server is ready, that it is about to stop, and that it lives.

use std::{process, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

/// Tells that this process serves. From now on the manager watches this process, and not the one before.
pub fn ready() {
    tell(vec![
        NotifyState::MainPid(process::id()),
        NotifyState::Ready,
    ]);
}

/// The server is about to stop. Ends when the manager has been told, which is for ever if it does not read.
pub fn stopping() -> JoinHandle<()> {
    tell(vec![NotifyState::Stopping])
}

/// Says again and again that the server lives, if somebody wants to know (`WatchdogSec=`): as long as each worker carries
/// out what it is given. Who hears nothing for the whole time kills the server.
pub async fn watchdog(workers: &[Handle]) {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        match timeout(patience / 2, answers_of(workers)).await {
            Ok(()) => {
                _ = tell(vec![NotifyState::Watchdog]).await;
                sleep((patience / 3).max(Duration::from_millis(1))).await;
            }
            Err(_) => tracing::error!("a worker does not answer"),
        }
    }
}

/// Waits until each worker has carried out something: for ever, if one has ended.
async fn answers_of(workers: &[Handle]) {
    for worker in workers {
        if worker.spawn(async {}).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// On a thread of its own: a manager that does not read blocks who writes. Without a manager there is nobody to tell.
fn tell(states: Vec<NotifyState<'static>>) -> JoinHandle<()> {
    spawn_blocking(move || {
        if let Err(error) = sd_notify::notify(&states) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::workers::Workers;

    /// Long enough for who answers, on a machine that does other things too.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_worker_that_stands_still_or_has_ended_does_not_answer() {
        let workers = Workers::start(2).expect("threads");
        let handles = workers.handles.clone();
        let soon = Duration::from_millis(200);
        timeout(PATIENCE, answers_of(&handles))
            .await
            .expect("both work");
        let (go_on, stands) = mpsc::channel::<()>();
        handles[1].spawn(async move { stands.recv() });
        assert!(timeout(soon, answers_of(&handles)).await.is_err());
        drop(go_on);
        timeout(PATIENCE, answers_of(&handles))
            .await
            .expect("it goes on");
        workers.stop();
        assert!(timeout(soon, answers_of(&handles)).await.is_err());
    }
}
