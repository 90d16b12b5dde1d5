//! What a program writes to its standard error goes to the log, but not more than is good for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::Instant,
};
use tracing::warn;

/// So many bytes of all processes together are logged
const MOST: usize = 4096;
/// in this time.
const WINDOW: Duration = Duration::from_secs(60);

/// What may still be logged.
pub(super) struct Allowance(Mutex<(Instant, usize)>);

impl Allowance {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Instant::now(), MOST)))
    }

    /// How many of so many bytes may be logged now.
    fn take(&self, wanted: usize, now: Instant) -> usize {
        let mut allowance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, left) = &mut *allowance;
        if now.duration_since(*since) >= WINDOW {
            (*since, *left) = (now, MOST);
        }
        let taken = wanted.min(*left);
        *left -= taken;
        taken
    }
}

/// Reads all, and logs what may be.
pub(super) async fn log(mut stderr: impl AsyncRead + Unpin, allowance: Arc<Allowance>) {
    let mut bytes = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut bytes).await {
        let taken = allowance.take(length, Instant::now());
        for line in String::from_utf8_lossy(&bytes[..taken]).lines() {
            // As a value: what would move the cursor of a terminal is escaped.
            warn!(said = ?line, "the recogniser");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_kibibytes_a_minute() {
        let allowance = Allowance::new();
        let now = Instant::now();
        assert_eq!(allowance.take(4000, now), 4000);
        assert_eq!(allowance.take(4000, now), 96);
        assert_eq!(allowance.take(1, now + Duration::from_secs(59)), 0);
        assert_eq!(allowance.take(5000, now + Duration::from_secs(61)), MOST);
    }
}
