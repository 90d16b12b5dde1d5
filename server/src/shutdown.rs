//! The end: signals, drain, deadline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep},
};
use voicematch_protocol::{CloseReason, ServerMessage, SessionId};

use crate::admission::make_room::MakeRoom;
use voicematch_core::{metrics::Metrics, room::Place, session::Context};

/// The longest time over which reconnects are spread.
const MAX_SPREAD: Duration = Duration::from_secs(10);

/// How often a draining server looks whether sessions have ended.
const TICK: Duration = Duration::from_millis(50);

/// After the drain, the time for users to read that they have been closed. With the end of the process it
/// has to fit into two seconds.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// Whether the server is about to stop; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<AtomicBool>);

impl Shutdown {
    /// From now on the server is about to stop.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The signals that the server listens to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on no signal of these ends the process by itself.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal that asks the server to stop; returns its name. SIGHUP does not, it also comes when a
    /// terminal closes: `on_hangup` is called.
    pub async fn stop(&mut self, mut on_hangup: impl FnMut()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => on_hangup(),
            }
        }
    }
}

/// When a user is to reconnect, from the start of the drain: the id decides, which is random.
fn reconnect_in(id: SessionId, spread: Duration) -> Duration {
    let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(id.0 % spread_ms)
}

/// Sends `draining` to all users, lets rooms go on, and closes users outside rooms. After `timeout`, or when
/// `stop` is ready, closes the rest. Returns how many it had to close then.
pub async fn drain(context: &Context, timeout: Duration, stop: impl Future<Output = ()>) -> usize {
    context.draining.store(true, Ordering::Relaxed);
    context.metrics.draining.set(1);
    tokio::select! {
        () = rooms_end(context, timeout) => {}
        () = stop => {}
    }
    let rest = context.directory.members();
    for member in &rest {
        member.outbox.close(CloseReason::Draining);
    }
    rest.len()
}

/// Waits until all have left, at most for `timeout`.
async fn rooms_end(context: &Context, timeout: Duration) {
    let spread = (timeout / 2).min(MAX_SPREAD);
    for member in context.directory.members() {
        let advice = reconnect_in(member.id, spread);
        let reconnect_in_ms = u64::try_from(advice.as_millis()).unwrap_or(u64::MAX);
        // A refusal means that they are leaving already.
        let _ = member
            .outbox
            .send(&ServerMessage::Draining { reconnect_in_ms });
    }
    let begun = Instant::now();
    while begun.elapsed() < timeout && !context.directory.is_empty() {
        for member in context.directory.members() {
            let overstayed = begun.elapsed() >= reconnect_in(member.id, spread);
            if overstayed && member.place() != Place::InRoom {
                member.outbox.close(CloseReason::Draining);
            }
        }
        sleep(TICK).await;
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
