//! The second listener, for operators only: `/`, `/metrics`, `/support`, `/debug/pprof/`, `/livez`, `/readyz`.

mod access;
mod exposition;
mod history;
mod page;
mod process;
mod routes;
mod support;
#[cfg(feature = "transcribe")]
mod transcription;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{MissedTickBehavior, interval},
};
use tower_service::Service;

use crate::{
    admission::bans::Bans,
    listen::Listener,
    machine::descriptors::{self, Reserve},
    profile::{MAX_CAPTURE, Profiler, TaskCounts},
    shutdown::Shutdown,
};
pub use access::{Access, SupportConfig};
pub use history::History;
use voicematch_core::session::Context;

/// Operators' connections at the same time.
const MAX_CONNECTIONS: usize = 64;

/// Descriptors kept back for operators.
const RESERVE: usize = 16;

/// How often bans that are over are forgotten.
const SWEEP: Duration = Duration::from_secs(5);

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// After this a connection is closed, idle or not: one whose client does not read must not stay for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(MAX_CAPTURE.as_secs() + 60);

/// What the admin listener shows.
pub struct Admin {
    /// What sessions share.
    pub context: Arc<Context>,
    /// The runtimes that serve connections.
    pub workers: Vec<Handle>,
    /// Whether the server is about to stop.
    pub shutdown: Shutdown,
    /// Takes profiles.
    pub profiler: Arc<Profiler>,
    /// Who may ask for what is below `/support`.
    pub access: Access,
    /// Who is kept out.
    pub bans: Arc<Bans>,
    /// What was counted some minutes ago.
    pub history: History,
    /// This node, where it is one of several.
    #[cfg(feature = "cluster")]
    pub node: Option<Arc<crate::cluster::Node>>,
    /// Transcription and surveys, where they are set up.
    #[cfg(feature = "transcribe")]
    pub transcribe: Option<Arc<crate::transcribe::Transcribe>>,
}

/// Serves operators until the future is dropped.
pub async fn serve(listener: Listener, admin: Arc<Admin>) {
    process::prepare();
    let router = routes::router(admin.clone());
    tokio::join!(
        accept(listener, router),
        admin.access.keep(),
        admin.history.keep(&admin.context.metrics),
        async {
            let mut ticks = interval(SWEEP);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                admin.bans.sweep(ticks.tick().await.into_std());
            }
        }
    );
}

async fn accept(listener: Listener, router: Router) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut reserve = Reserve::new(RESERVE);
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => {
                reserve.is_whole();
                stream
            }
            Err(error) => {
                // What is asked most needs none, and the other listener would take it.
                if !descriptors::have_run_out(&error) || !reserve.lend(&error, 1) {
                    tracing::debug!(%error, "cannot accept on the admin address");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                continue;
            }
        };
        let router = router.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(router.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an admin connection ended badly"),
                Err(_) => tracing::debug!("an admin connection had been open for too long"),
            }
            drop(permit);
        });
    }
}

/// Hands a request to the router, which is always ready.
async fn answer(
    mut router: Router,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let request: Request = request.map(Body::new);
    router.call(request).await
}

impl Admin {
    fn tasks(&self) -> TaskCounts {
        let metrics = &self.context.metrics;
        let waiting = metrics.waiting_users();
        let in_room = 2 * metrics.rooms_active.get();
        let sessions = metrics.sessions_open.get();
        let alive: usize = self
            .workers
            .iter()
            .map(|worker| worker.metrics().num_alive_tasks())
            .sum();
        let http = metrics.connections_open.get() - sessions;
        let other = i64::try_from(alive).unwrap_or(i64::MAX) - sessions - http;
        let kinds = [
            (
                ["websocket connection", "session: in a room"].as_slice(),
                in_room,
            ),
            (&["websocket connection", "session: waiting"], waiting),
            (
                &["websocket connection", "session: idle"],
                sessions - waiting - in_room,
            ),
            (&["http connection"], http),
            (&["listener and others"], other),
        ];
        let counted = kinds.into_iter().filter(|(_, count)| *count > 0);
        counted
            .map(|(names, count)| (names.iter().map(|&name| name.to_owned()).collect(), count))
            .collect()
    }
}
