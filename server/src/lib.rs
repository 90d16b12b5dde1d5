//! A self-hosted server that pairs people who ask for a match and relays what their browsers need to set
//! up a WebRTC call.
//!
//! Imports run downward only:
//! [`listen`] -> [`http`] -> [`admission`] -> [`io`] -> [`transport`] -> [`session`] -> [`matchmaker`] ->
//! [`room`] -> [`outbox`], and [`session`] also -> [`directory`]. [`metrics`] and [`shutdown`] are leaves that
//! others may use.

pub mod admin;
pub mod admission;
pub mod config;
pub mod directory;
pub mod http;
pub mod io;
pub mod listen;
pub mod matchmaker;
pub mod metrics;
pub mod outbox;
pub mod profile;
pub mod room;
pub mod session;
pub mod shutdown;
pub mod transport;

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicBool},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::{Instant, sleep},
};

use admission::limits::Admission;
use config::Config;
use directory::Directory;
use http::Public;
use listen::{Address, Bound, BoundAddress};
use matchmaker::{Matchmaker, Width};
use metrics::Metrics;
use profile::Profiler;
use session::Context;
use shutdown::Shutdown;

/// How long connections may take, after the drain, to read that they have been closed.
const LAST_WORDS: Duration = Duration::from_millis(2500);

/// A server whose addresses are bound.
pub struct Server {
    config: Config,
    public: Bound,
    admin: Bound,
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Addrs {
    /// `/ws`, `/health`, `/stats`.
    pub public: BoundAddress,
    /// `/metrics`, `/debug/pprof/`, `/livez`, `/readyz`.
    pub admin: BoundAddress,
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address could not be bound.
    #[error("cannot listen on {address}: {error}; choose another address or port with {flag}")]
    Bind {
        /// Which.
        address: Address,
        /// The flag that says so.
        flag: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The system refused a thread, a socket or the like.
    #[error("the system refused what the server needs: {0}")]
    System(#[from] std::io::Error),
    /// Two metrics of one name; a fault of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Server {
    /// Binds both addresses. From now on the kernel queues connections; [`Self::run`] accepts them.
    pub fn bind(config: Config) -> Result<Self, ServerError> {
        let bind = |address: &Address, flag| {
            listen::bind(address, config.unix_socket_mode).map_err(|error| ServerError::Bind {
                address: address.clone(),
                flag,
                error,
            })
        };
        let public = bind(&config.listen, "--listen")?;
        let admin = bind(&config.admin_listen, "--admin-listen")?;
        Ok(Self {
            config,
            public,
            admin,
        })
    }

    /// The bound addresses, with the ports that were taken for port 0.
    pub fn addrs(&self) -> Addrs {
        Addrs {
            public: self.public.address().clone(),
            admin: self.admin.address().clone(),
        }
    }

    /// Serves until `stop`, then drains. Joins all parts: the one place to see what runs beside what.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self {
            config,
            public,
            admin,
        } = self;
        // The files go when this function ends, whatever way.
        let (admin, _admin_file) = admin.into_listener()?;
        let workers = Workers::start(config.workers)?;
        let metrics = Arc::new(Metrics::new(config.workers, &Width::LABELS)?);
        let shutdown = Shutdown::default();
        let context = Arc::new(Context {
            config: config.session,
            matchmaker: Matchmaker::new(config.matchmaker, metrics.clone()),
            directory: Directory::default(),
            metrics: metrics.clone(),
            draining: AtomicBool::new(false),
        });
        let admin_state = Arc::new(admin::Admin {
            context: context.clone(),
            workers: workers.handles.clone(),
            shutdown: shutdown.clone(),
            profiler: Arc::new(Profiler::default()),
        });
        let admin = tokio::spawn(admin::serve(admin, admin_state));
        let shared = Arc::new(Public {
            config: config.http,
            proxies: config.proxies,
            origins: config.origins,
            ws: config.ws,
            context: context.clone(),
            shutdown: shutdown.clone(),
        });
        let (accept, _public_file) = {
            let stop = shutdown.clone();
            let admission = Admission::new(config.limits, config.workers, metrics);
            let handles = workers.handles.clone();
            let (listener, file) = {
                let _worker = workers.handles[0].enter();
                public.into_listener()?
            };
            let accept = async move {
                listen::accept(
                    listener,
                    admission,
                    config.max_accepts_per_second,
                    handles,
                    shared,
                    stop.begun(),
                )
                .await;
            };
            (workers.handles[0].spawn(accept), file)
        };
        tokio::pin!(accept);
        let accepted = tokio::select! {
            () = stop => None,
            ended = &mut accept => Some(ended),
        };
        shutdown.begin();
        let left = context.directory.len();
        tracing::info!(sessions = left, timeout = ?config.drain_timeout, "draining");
        let closed = shutdown::drain(&context, config.drain_timeout).await;
        workers.stop().await;
        admin.abort();
        tracing::info!(closed_at_deadline = closed, "stopped");
        match accepted {
            Some(Err(error)) => Err(std::io::Error::other(error).into()),
            _ => Ok(()),
        }
    }
}

/// The threads that serve connections, each with a runtime of its own: a connection never moves between
/// them, and no task is woken on another thread to relay a message.
struct Workers {
    handles: Vec<Handle>,
    threads: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Workers {
    fn start(count: usize) -> std::io::Result<Self> {
        let mut workers = Self {
            handles: Vec::new(),
            threads: Vec::new(),
        };
        for index in 0..count.max(1) {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (stop, stopped) = oneshot::channel();
            workers.handles.push(runtime.handle().clone());
            let run = move || {
                metrics::enter_worker(index);
                // A dropped sender means stop too.
                let _ = runtime.block_on(stopped);
            };
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(run)?;
            workers.threads.push((stop, thread));
        }
        Ok(workers)
    }

    /// Waits a moment for the last connections to end, then ends the threads.
    async fn stop(self) {
        let begun = Instant::now();
        let busy = || {
            self.handles
                .iter()
                .any(|worker| worker.metrics().num_alive_tasks() > 0)
        };
        while busy() && begun.elapsed() < LAST_WORDS {
            sleep(Duration::from_millis(10)).await;
        }
        for (stop, thread) in self.threads {
            let _ = stop.send(());
            // The thread ends at once; what it says at the end is logged by the panic hook.
            let _ = thread.join();
        }
    }
}
