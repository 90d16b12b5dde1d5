//! Reads the server's metrics during the run.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    measure::server_use::Reading,
    user::net::{http, target::Admin},
};

const EVERY: Duration = Duration::from_secs(1);
/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A metric that another program at the guessed address does not have.
const OURS: &str = "websocket_active_connections";

/// Reads the server's metrics once a second, while it is polled.
#[derive(Debug)]
pub struct Observer {
    epoch: Instant,
    latest: Latest,
}

/// The latest reading.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<Mutex<Option<Reading>>>);

impl Latest {
    /// `None`: none yet.
    pub fn get(&self) -> Option<Reading> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer {
    /// `epoch`: the start of the run.
    pub fn new(epoch: Instant, latest: Latest) -> Self {
        Self { epoch, latest }
    }

    /// Reads until it is dropped. Cancel-safe: each reading counts when it is complete.
    pub async fn watch(&self, admin: &Admin) -> Infallible {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(Some(text)) = timeout(READ_TIMEOUT, fetch(admin)).await
                && (admin.given || text.contains(OURS))
                && let Some(reading) = Reading::parse(&text, self.epoch.elapsed())
            {
                let mut latest = self.latest.0.lock().unwrap_or_else(PoisonError::into_inner);
                *latest = Some(reading);
            }
        }
    }
}

/// Reads the metrics of all servers until it is dropped; those without an address are left out.
pub async fn watch_all(epoch: Instant, servers: Vec<(Option<&Admin>, Latest)>) -> Infallible {
    let known = servers.into_iter();
    let known = known.filter_map(|(admin, latest)| Some((admin?, Observer::new(epoch, latest))));
    join_all(known.map(|(admin, observer)| async move { observer.watch(admin).await })).await;
    // There is none.
    std::future::pending().await
}

/// `None`: there is no page, or it is not text.
async fn fetch(admin: &Admin) -> Option<String> {
    let url = &admin.url;
    let page = http::get((url.host.as_str(), url.port), url.authority(), url.path()).await;
    let page = page.ok().filter(|page| page.status == 200)?;
    String::from_utf8(page.body?).ok()
}
