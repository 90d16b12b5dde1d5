//! Pauses of the process: a suspended machine, a container that was frozen, a thread that got no CPU. Users did
//! nothing wrong while the server did not listen, and what they sent meanwhile arrives at once.
//!
//! Each worker ticks. When a tick is late by far, or a read comes that long after the last one, there was a pause.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

/// How often a worker ticks.
const TICK: Duration = Duration::from_millis(250);

/// The shortest time since a tick that is a pause and not a busy moment.
const SHORTEST: Duration = Duration::from_secs(1);

/// A pause that is over.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    /// When the worker ran again.
    pub end: Instant,
    /// For how long it had not run, at the most: since the last tick.
    pub length: Duration,
}

thread_local! {
    /// When the gap since the last tick is a pause.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
    static LAST_PAUSE: Cell<Option<Pause>> = const { Cell::new(None) };
}

/// Says that this worker runs, before it judges what users did meanwhile. Each read calls this, so that it only
/// compares.
#[inline]
pub fn runs(now: Instant) {
    if let Some(deadline) = DEADLINE.get()
        && now > deadline
    {
        ended(now, now - (deadline - SHORTEST));
    }
}

#[cold]
fn ended(end: Instant, length: Duration) {
    tracing::warn!(?length, "the server was paused; users get the time back");
    LAST_PAUSE.set(Some(Pause { end, length }));
    DEADLINE.set(Some(end + SHORTEST));
}

/// The last pause of this worker that ended after `moment`.
pub fn since(moment: Instant) -> Option<Pause> {
    LAST_PAUSE.get().filter(|pause| pause.end > moment)
}

/// Ticks for ever. To be run on each worker.
pub async fn tick() {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        runs(now);
        DEADLINE.set(Some(now + SHORTEST));
    }
}
