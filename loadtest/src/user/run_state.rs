//! The states of a run, which all users go through together.

use tokio::sync::watch;

/// The present state of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Users start, search and send.
    Running,
    /// No user starts or sends any more; messages under way may still arrive.
    Draining,
    /// All users close.
    Closing,
}

/// Waits until the run has reached `state`, or its leader is gone.
pub async fn reached(states: &watch::Receiver<RunState>, state: RunState) {
    let mut states = states.clone();
    // An error means that the run was dropped: it is over for this user, too.
    let _ = states.wait_for(|now| *now >= state).await;
}
