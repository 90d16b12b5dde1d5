//! The second listener, for operators only: `/metrics`, `/debug/pprof/`, `/livez`, `/readyz`.

mod exposition;
mod process;

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    runtime::{Handle, RuntimeMetrics},
    sync::Semaphore,
};

use crate::{
    http::{Reply, error::HttpError, json_reply, reply},
    listen::Listener,
    machine::descriptors::{self, Reserve},
    profile::{MAX_CAPTURE, Profiler, TaskCounts},
    shutdown::Shutdown,
};
use voicematch_core::session::Context;

/// Operators' connections at the same time.
const MAX_CONNECTIONS: usize = 64;

/// Descriptors kept back for operators.
const RESERVE: usize = 16;

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
}

/// Serves operators until the future is dropped.
pub async fn serve(listener: Listener, admin: Arc<Admin>) {
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
                if !descriptors::have_run_out(&error) || !reserve.lend(&error) {
                    tracing::debug!(%error, "cannot accept on the admin address");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(admin.answer(request).await) }
            });
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

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return HttpError::MethodNotAllowed.reply("use GET");
        }
        let path = request.uri().path();
        match path {
            "/livez" => reply(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if self.shutdown.has_begun() => {
                reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n")
            }
            "/readyz" => reply(StatusCode::OK, TEXT, "ok\n"),
            "/metrics" => self.metrics(&request),
            "/debug/pprof" => {
                let mut moved = reply(StatusCode::MOVED_PERMANENTLY, TEXT, "see /debug/pprof/\n");
                moved
                    .headers_mut()
                    .insert(header::LOCATION, HeaderValue::from_static("/debug/pprof/"));
                moved
            }
            _ => match path.strip_prefix("/debug/pprof/") {
                Some(name) => {
                    let query = request.uri().query().unwrap_or_default();
                    self.profiler
                        .clone()
                        .answer(name, query, || self.tasks())
                        .await
                }
                None => {
                    let message = format!(
                        "there is nothing at {path:.80}; try /metrics, /debug/pprof/, /livez or /readyz"
                    );
                    HttpError::NotFound.reply(&message)
                }
            },
        }
    }

    /// Prometheus text, or JSON for a client that accepts nothing else.
    fn metrics(&self, request: &Request<Incoming>) -> Reply {
        let workers: Vec<RuntimeMetrics> = self.workers.iter().map(Handle::metrics).collect();
        let metrics = &self.context.metrics;
        let accept = request
            .headers()
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok());
        if accept.is_some_and(only_json) {
            return json_reply(StatusCode::OK, &exposition::json(metrics, &workers));
        }
        match exposition::text(metrics, &workers) {
            Ok(text) => reply(StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Err(error) => HttpError::Internal.reply(&error.to_string()),
        }
    }

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

const TEXT: &str = "text/plain; charset=utf-8";

fn only_json(accept: &str) -> bool {
    accept.split(',').all(|part| {
        let kind = part.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    })
}
