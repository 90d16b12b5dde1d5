//! The time, in nanoseconds since this program first asked.

use std::{sync::LazyLock, time::Instant};

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call.
pub(crate) fn now() -> u64 {
    let since = START.elapsed();
    since.as_secs() * SECOND + u64::from(since.subsec_nanos())
}

/// Seconds as nanoseconds.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "options are small and not negative; a cast from f64 saturates"
)]
pub(crate) fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}
