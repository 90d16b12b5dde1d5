//! Reads what the server says of itself while the run is on.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    http,
    origin::{bare_host, port},
    target::Admin,
};

const EVERY: Duration = Duration::from_secs(1);
/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes, seconds and files of a process: what is beyond was not measured.
const POSSIBLE: std::ops::RangeInclusive<f64> = 0.0..=1e15;

/// A metric that tells our server from another program at the guessed address.
const OURS: &str = "websocket_active_connections";

/// Reads the server's metrics once a second, for as long as it is polled.
#[derive(Debug)]
pub(crate) struct Observer {
    epoch: Instant,
    latest: Latest,
}

/// The latest reading, for whoever keeps the books.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latest(Arc<Mutex<Option<Reading>>>);

impl Latest {
    /// `None`: nothing was read yet.
    pub(crate) fn get(&self) -> Option<Reading> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer {
    /// `epoch`: the start of the run.
    pub(crate) fn new(epoch: Instant, latest: Latest) -> Self {
        Self { epoch, latest }
    }

    /// Reads on and on; never ends by itself. Cancel-safe: each reading counts when it is complete.
    pub(crate) async fn watch(&self, admin: &Admin) -> Infallible {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(Ok(text)) = timeout(READ_TIMEOUT, fetch(admin)).await
                && (admin.given || text.contains(OURS))
                && let Some(reading) = Reading::parse(&text, self.epoch.elapsed())
            {
                let mut latest = self.latest.0.lock().unwrap_or_else(PoisonError::into_inner);
                *latest = Some(reading);
            }
        }
    }
}

/// One look at the server.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Reading {
    /// Since the start of the run.
    pub at: Duration,
    pub cpu_seconds: f64,
    pub rss_bytes: u64,
    pub fds: u64,
    /// As many as it may have.
    pub max_fds: Option<u64>,
}

impl Reading {
    /// Reads the Prometheus text format
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>). `None`: the memory is not there.
    fn parse(text: &str, at: Duration) -> Option<Self> {
        let rss = value(text, "process_resident_memory_bytes")?;
        Some(Self {
            at,
            cpu_seconds: value(text, "process_cpu_seconds_total").unwrap_or(0.0),
            rss_bytes: whole(rss),
            fds: value(text, "process_open_fds").map_or(0, whole),
            max_fds: value(text, "process_max_fds").map(whole),
        })
    }
}

/// The value of the first sample of a metric.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.split_once('}')?.1,
            None => rest.strip_prefix([' ', '\t'])?,
        };
        value
            .split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
            .filter(|value| POSSIBLE.contains(value))
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

async fn fetch(admin: &Admin) -> io::Result<String> {
    let host = bare_host(&admin.uri).ok_or(io::ErrorKind::InvalidInput)?;
    let port = port(&admin.uri).ok_or(io::ErrorKind::InvalidInput)?;
    let path = admin.uri.path_and_query();
    let authority = admin.uri.authority();
    let answer = http::get(
        (host.as_str(), port),
        authority.map_or(host.as_str(), |authority| authority.as_str()),
        path.map_or("/metrics", |path| path.as_str()),
    )
    .await?;
    if answer.status != 200 {
        return Err(io::Error::other(answer.status.to_string()));
    }
    let page = answer.body.ok_or_else(|| io::Error::other("too long"))?;
    String::from_utf8(page).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP process_open_fds Open file descriptors.\n\
        # TYPE process_open_fds gauge\n\
        process_open_fds 12\n\
        process_open_fds_max 99\n\
        process_max_fds 20000\n\
        process_cpu_seconds_total 1.5\n\
        process_resident_memory_bytes{host=\"a b\"} 4.5e+07 1700000000\n";

    #[test]
    fn prometheus_text_is_read() {
        let at = Duration::from_secs(1);
        let reading = Reading {
            at,
            cpu_seconds: 1.5,
            rss_bytes: 45_000_000,
            fds: 12,
            max_fds: Some(20_000),
        };
        assert_eq!(Reading::parse(TEXT, at), Some(reading));
        for bad in [
            "",
            "process_resident_memory_bytes",
            "process_resident_memory_bytes x",
            "process_resident_memory_bytes -1",
            "process_resident_memory_bytes 1e308",
            "process_resident_memory_bytes NaN",
            "{}",
        ] {
            assert_eq!(Reading::parse(bad, at), None, "{bad}");
        }
    }
}
