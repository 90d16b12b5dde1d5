//! The end: signals, whether it has come, and the last words.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep},
};

use crate::admission::make_room::MakeRoom;
use voicematch_core::metrics::Metrics;

/// How often it is looked whether connections have ended.
const TICK: Duration = Duration::from_millis(50);

/// After the drain, the time for users to read that they have been closed. With the end of the process it
/// has to fit into two seconds.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// Another process listens here: each connection ends with its next answer. Who begins a session is still let in.
const LEAVING: u8 = 1;

/// Nobody begins a session.
const STOPPING: u8 = 2;

/// Whether the server is about to stop; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<AtomicU8>);

impl Shutdown {
    /// From now on no connection is kept open for another request.
    pub fn leave(&self) {
        self.0.fetch_max(LEAVING, Ordering::Relaxed);
    }

    /// From now on the server is about to stop.
    pub fn begin(&self) {
        self.0.store(STOPPING, Ordering::Relaxed);
    }

    /// Whether connections end with their next answer.
    pub fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LEAVING
    }

    /// Whether the server is about to stop.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed) == STOPPING
    }
}

/// The signals that the server listens to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    replace: Signal,
}

/// A signal after which the server goes on.
pub enum GoOn {
    /// SIGHUP: the configuration is to be read again. It also comes when a terminal closes.
    Reload,
    /// SIGUSR2: a new server is to take the place of this one.
    Replace,
}

impl Signals {
    /// From now on no signal of these ends the process by itself.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            replace: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal that asks the server to stop; returns its name. `on_other` is called for the others.
    pub async fn stop(&mut self, mut on_other: impl FnMut(GoOn)) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => on_other(GoOn::Reload),
                _ = self.replace.recv() => on_other(GoOn::Replace),
            }
        }
    }
}

/// Waits until the last connections have ended, and at most for `LAST_WORDS`.
pub async fn last_words(metrics: &Metrics, make_room: &MakeRoom) {
    let begun = Instant::now();
    while metrics.connections_open.get() > 0 && begun.elapsed() < LAST_WORDS {
        make_room.ask();
        sleep(TICK).await;
    }
}
