//! Pauses of the process: a suspended machine, a container that was frozen, a thread that got no CPU. Users did
//! nothing wrong while the server did not listen, and what they sent meanwhile arrives at once.
//!
//! Each worker ticks. When a tick is late by far, or a read comes that long after the last one, there was a pause.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How often a worker is to tick.
pub const TICK: Duration = Duration::from_millis(250);

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

/// Ticks. To be called on each worker each [`TICK`].
pub fn tick(now: Instant) {
    runs(now);
    DEADLINE.set(Some(now + SHORTEST));
}
