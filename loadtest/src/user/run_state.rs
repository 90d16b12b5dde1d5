//! The parts of a run that all users go through together.

use tokio::sync::watch;

/// The part of the run that everybody is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Users start, search and send.
    Running,
    /// Nobody starts or sends any more; what is under way may still arrive.
    Draining,
    /// Everybody closes.
    Closing,
}

/// Waits until the run has come to `phase`, or nobody leads it any more.
pub async fn reached(phases: &watch::Receiver<RunState>, phase: RunState) {
    let mut phases = phases.clone();
    // An error says that the run was dropped; it is then over for this user too.
    let _ = phases.wait_for(|now| *now >= phase).await;
}
