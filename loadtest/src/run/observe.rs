//! Reads what the server says of itself while the run is on.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    measure::server_use::Reading,
    plan::origin::{bare_host, port},
    user::net::{http, target::Admin},
};

const EVERY: Duration = Duration::from_secs(1);
/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A metric that tells our server from another program at the guessed address.
const OURS: &str = "websocket_active_connections";

/// Reads the server's metrics once a second, for as long as it is polled.
#[derive(Debug)]
pub struct Observer {
    epoch: Instant,
    latest: Latest,
}

/// The latest reading, for whoever keeps the books.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<Mutex<Option<Reading>>>);

impl Latest {
    /// `None`: nothing was read yet.
    pub fn get(&self) -> Option<Reading> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer {
    /// `epoch`: the start of the run.
    pub fn new(epoch: Instant, latest: Latest) -> Self {
        Self { epoch, latest }
    }

    /// Reads on and on; never ends by itself. Cancel-safe: each reading counts when it is complete.
    pub async fn watch(&self, admin: &Admin) -> Infallible {
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
