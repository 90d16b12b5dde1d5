//! The end: signals, drain, deadline.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{Instant, sleep},
};
use voicematch_protocol::{LeaveReason, ServerMessage, SessionId};

use crate::{room::Place, session::Context};

/// The longest time over which clients are told to spread their reconnects.
const MAX_SPREAD: Duration = Duration::from_secs(10);

/// How often a draining server looks whether somebody has come to an end.
const TICK: Duration = Duration::from_millis(50);

/// Whether the server is about to stop; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Shutdown {
    /// From now on the server is about to stop.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is.
    pub async fn begun(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system's default, which is to die.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one; returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// When a user is told to reconnect, from the start of draining: their id decides, which is random.
fn reconnect_in(id: SessionId, spread: Duration) -> Duration {
    let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(id.0 % spread_ms)
}

/// Tells everybody to reconnect elsewhere, lets rooms go on, and closes who is in none; after `timeout`
/// closes the rest. Returns how many it had to close at the end.
pub async fn drain(context: &Context, timeout: Duration) -> usize {
    let spread = (timeout / 2).min(MAX_SPREAD);
    context.draining.store(true, Ordering::Relaxed);
    for member in context.directory.members() {
        let advice = reconnect_in(member.id, spread);
        let reconnect_in_ms = u64::try_from(advice.as_millis()).unwrap_or(u64::MAX);
        // A refusal means that they are leaving already.
        let _ = member
            .outbox
            .send(&ServerMessage::Draining { reconnect_in_ms });
    }
    let begun = Instant::now();
    while begun.elapsed() < timeout {
        if context.directory.is_empty() {
            return 0;
        }
        for member in context.directory.members() {
            let overstayed = begun.elapsed() >= reconnect_in(member.id, spread);
            if overstayed && member.place() != Place::InRoom {
                member.outbox.close(LeaveReason::Draining);
            }
        }
        sleep(TICK).await;
    }
    let rest = context.directory.members();
    for member in &rest {
        member.outbox.close(LeaveReason::Draining);
    }
    let closing = Instant::now();
    while !context.directory.is_empty() && closing.elapsed() < Duration::from_secs(1) {
        sleep(TICK).await;
    }
    rest.len()
}
