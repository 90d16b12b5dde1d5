//! Error reports: what is logged as an error, panics too, goes to a service that speaks Sentry's protocol. What is sent is
//! chosen here and nothing else: no token, query, address or user. A server that fails again and again stays quiet about it,
//! and who logs an error never waits.
//!
//! The service's own crate is not used: it would look into every panic's stack on the thread that panics, gathers more than
//! may be sent, so that it would have to be taken out again, and brings thirty others; an envelope is three lines.

mod dsn;
#[cfg(feature = "sentry")]
mod envelope;
#[cfg(feature = "sentry")]
mod layer;
#[cfg(feature = "sentry")]
mod limiter;
#[cfg(feature = "sentry")]
mod scrub;
#[cfg(feature = "sentry")]
mod send;

pub use dsn::Dsn;
#[cfg(feature = "sentry")]
pub use layer::ErrorLayer;
#[cfg(feature = "sentry")]
pub use send::start;

#[cfg(not(feature = "sentry"))]
use crate::sending::Sending;

/// Where errors are reported.
#[derive(Debug, Clone)]
pub struct ReportConfig {
    /// The service, with its key.
    pub dsn: Dsn,
    /// Where this server runs, as in `production`.
    pub environment: String,
}

/// Nothing is reported: this build cannot.
#[cfg(not(feature = "sentry"))]
pub fn start(
    _config: Option<ReportConfig>,
    _metrics: &std::sync::Arc<voicematch_core::metrics::Metrics>,
) -> Result<Sending, String> {
    Ok(Sending::default())
}
