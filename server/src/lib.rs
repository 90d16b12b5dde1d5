//! A self-hosted server that pairs people who ask for a match and relays what their browsers need to set
//! up a WebRTC call.
//!
//! Imports run downward only: [`admin`] and [`listen`] -> [`http`] -> [`transport`] -> `voicematch_core`, which decides
//! everything and does no I/O; [`http`] and [`listen`] also -> [`admission`] -> [`io`].

pub mod admin;
pub mod admission;
pub mod config;
pub mod events;
pub mod fetch;
pub mod files;
pub mod http;
pub mod io;
pub mod listen;
pub mod log;
pub mod machine;
pub mod profile;
pub mod reload;
pub mod room_key;
pub mod shed;
pub mod shutdown;
pub mod transport;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{self, Handle},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use voicematch_core::{
    directory::Directory,
    live::Live,
    matchmaker::{Matchmaker, PoolKind},
    memory::Memory,
    metrics::{self, Metrics},
    pause,
    room::{Shared, named::NamedRooms, pending::PendingRooms, ticket::RoomKeys},
    session::{
        Context, Persons, Resumables,
        close_log::{self, CloseLog},
    },
};

use admission::{
    auth::{Auth, Renewal},
    guard::Guard,
    limits::Admission,
    make_room::MakeRoom,
};
use config::Config;
use events::Events;
use http::Public;
use listen::{Address, Bound, BoundAddress, Listeners, certificate::Certificate};
use profile::Profiler;
use shutdown::Shutdown;

/// A server whose addresses are bound.
pub struct Server {
    config: Config,
    public: Vec<Bound>,
    admin: Bound,
    keys: RoomKeys,
    key_source: room_key::Source,
    auth: Option<Arc<Auth>>,
    events: Option<Events>,
    metrics: Arc<Metrics>,
    certificate: Option<Certificate>,
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Addrs {
    /// `/ws`, `/health`, `/stats`.
    pub public: Vec<BoundAddress>,
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
    /// A key that the operator names cannot be used.
    #[error("the key of room tickets: {0}")]
    RoomKey(String),
    /// Nor can the keys of tokens.
    #[error("{0}")]
    TokenKeys(String),
    /// Nor can the app be told of events.
    #[error("--event-webhook: {0}")]
    Events(String),
    /// Nor can the certificate.
    #[error("{0}")]
    Certificate(String),
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
        let (keys, key_source) = room_key::load(&config.room_key).map_err(ServerError::RoomKey)?;
        let metrics = Arc::new(Metrics::new(config.workers, &PoolKind::LABELS)?);
        let auth = Auth::load(config.auth.clone(), config.session.rate, &metrics);
        let auth = auth.map_err(ServerError::TokenKeys)?;
        let events = config.events.clone();
        let events = events.map(|events| Events::new(events, &metrics));
        let events = events.transpose().map_err(ServerError::Events)?;
        let certificate = config.tls.clone().map(Certificate::load).transpose();
        let certificate = certificate.map_err(ServerError::Certificate)?;
        let public = config.listen.iter();
        let public: Result<Vec<_>, _> = public.map(|address| bind(address, "--listen")).collect();
        let public = public?;
        let admin = bind(&config.admin_listen, "--admin-listen")?;
        Ok(Self {
            config,
            public,
            admin,
            keys,
            key_source,
            auth,
            events,
            metrics,
            certificate,
        })
    }

    /// The bound addresses, with the ports that were taken for port 0.
    pub fn addrs(&self) -> Addrs {
        Addrs {
            public: self
                .public
                .iter()
                .map(|bound| bound.address().clone())
                .collect(),
            admin: self.admin.address().clone(),
        }
    }

    /// Whether TCP connections to the public address are encrypted.
    pub fn has_tls(&self) -> bool {
        self.certificate.is_some()
    }

    /// Whether others than users of this machine may begin sessions without a token.
    pub fn lets_everybody_in(&self) -> bool {
        let is_public = self.public.iter().any(|bound| match bound.address() {
            BoundAddress::Tcp(address) => !address.ip().is_loopback(),
            BoundAddress::Unix(_) => false,
        });
        is_public && self.auth.is_none()
    }

    /// Serves until `drain` is ready, then drains; `stop` ends the drain early. Joins all parts: the one place
    /// to see what runs beside what.
    /// What can be changed while it runs is what the latest of `reloads` says.
    pub async fn run(
        self,
        mut reloads: mpsc::UnboundedReceiver<Config>,
        drain: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        let Self {
            config,
            public,
            admin,
            keys,
            key_source,
            auth,
            events,
            metrics,
            certificate,
        } = self;
        // The guards remove the socket files when this function ends.
        let (admin, _admin_file) = admin.into_listener()?;
        let workers = Workers::start(config.workers)?;
        metrics.room_key(key_source.as_str());
        let keys = Arc::new(keys);
        let listener = events.as_ref().map(Events::listener);
        let shared = Shared::new(metrics.clone(), keys.clone(), config.max_blocks, listener);
        let events = events.map(Events::start);
        let shutdown = Shutdown::default();
        let make_room = MakeRoom::default();
        // A ticket brings back a room of two; this many wait for their second member at the most.
        let max_pending = (config.limits.max_connections / 4).max(1);
        let context = Arc::new(Context {
            config: Live::new(config.session.clone()),
            matchmaker: Matchmaker::new(config.matchmaker, shared.clone()),
            directory: Directory::default(),
            persons: Persons::new(config.sessions_per_user),
            identify: auth.clone().map(|auth| Arc::new(Renewal(auth)) as _),
            named_rooms: NamedRooms::new(config.max_rooms, shared.clone()),
            resumables: Resumables::default(),
            detached: AtomicUsize::new(0),
            pending_rooms: PendingRooms::new(max_pending, shared.clone()),
            shared,
            room_keys: keys,
            metrics: metrics.clone(),
            memory: Memory::new(config.max_buffered_bytes, metrics.buffered_bytes.clone()),
            close_log: CloseLog::default(),
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
            settings: Live::new(config.settings()),
            tls: match &certificate {
                Some(certificate) => Some(certificate.config().map_err(std::io::Error::other)?),
                None => None,
            },
            auth: auth.clone(),
            dev_tokens: config.dev_tokens,
            context: context.clone(),
            shutdown: shutdown.clone(),
            make_room: make_room.clone(),
        });
        let guard = Guard::new(config.reconnects_per_minute);
        let admission = Admission::new(config.limits, guard, config.workers, metrics);
        let (accept, _public_files) = {
            let (admission, shared) = (admission.clone(), shared.clone());
            let handles = workers.handles.clone();
            let (listeners, files) = {
                let _worker = workers.handles[0].enter();
                Listeners::new(public)?
            };
            let auth = auth.clone();
            let accept = async move {
                // Users are accepted when the keys are there, so that none is refused for want of them.
                if let Some(auth) = &auth {
                    auth.prepare().await;
                }
                listen::accept(
                    listeners,
                    admission,
                    config.max_accepts_per_second,
                    handles,
                    shared,
                )
                .await;
            };
            (workers.handles[0].spawn(accept), files)
        };
        let watch = tokio::spawn({
            let (context, make_room) = (context.clone(), make_room.clone());
            async move {
                tokio::join!(
                    every(files::CHECK, || certificate
                        .iter()
                        .for_each(Certificate::reload)),
                    every(close_log::INTERVAL, || context.close_log.sum_up()),
                    async {
                        if let Some(auth) = &auth {
                            auth.keep().await;
                        }
                    },
                    async {
                        while let Some(config) = reloads.recv().await {
                            context.matchmaker.config().replace(config.matchmaker);
                            admission.config().replace(config.limits);
                            admission
                                .guard()
                                .set_per_minute(config.reconnects_per_minute);
                            shared.settings.replace(config.settings());
                            context.config.replace(config.session);
                        }
                    },
                    shed::watch(&context, &make_room)
                );
            }
        });
        tokio::pin!(accept);
        let accepted = tokio::select! {
            () = drain => None,
            ended = &mut accept => Some(ended),
        };
        shutdown.begin();
        let left = context.directory.len();
        tracing::info!(sessions = left, timeout = ?config.drain_timeout, "draining");
        let closed = shutdown::drain(&context, config.drain_timeout, stop).await;
        // Until here, and while users are still being closed, the listener answers.
        shutdown::last_words(&context.metrics, &make_room).await;
        workers.stop();
        // All rooms have ended now.
        if let Some(events) = events {
            events.flush().await;
        }
        admin.abort();
        watch.abort();
        context.close_log.sum_up();
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
                runtime.block_on(async {
                    tokio::select! {
                        // A dropped sender means stop too.
                        _ = stopped => {}
                        () = every(pause::TICK, || pause::tick(Instant::now())) => {}
                    }
                });
            };
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(run)?;
            workers.threads.push((stop, thread));
        }
        Ok(workers)
    }

    /// Ends the threads, and every connection with them.
    fn stop(self) {
        for (stop, thread) in self.threads {
            let _ = stop.send(());
            // The thread ends at once; a panic is in the log already.
            let _ = thread.join();
        }
    }
}

/// Calls `act` at once and in each `period`, for ever.
async fn every(period: Duration, act: impl Fn()) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        act();
    }
}
