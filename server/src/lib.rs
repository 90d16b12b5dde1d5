//! A self-hosted server that pairs people who ask for a match and relays what their browsers need to set
//! up a WebRTC call.
//!
//! Imports run downward only: [`admin`] and [`listen`] -> [`http`] -> [`transport`] -> `voicematch_core`, which decides
//! everything and does no I/O; [`http`] and [`listen`] also -> [`admission`] -> [`io`]. [`trace`] and [`report`] tell others.

pub mod admin;
pub mod admission;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
pub mod drain;
pub mod events;
pub mod fetch;
pub mod files;
pub mod hand_over;
pub mod http;
pub mod io;
pub mod listen;
pub mod log;
pub mod machine;
pub mod profile;
pub mod reload;
pub mod report;
pub mod room_key;
pub mod shed;
pub mod shutdown;
pub mod systemd;
pub mod trace;
#[cfg(feature = "transcribe")]
pub mod transcribe;
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
    time::{MissedTickBehavior, interval, sleep},
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
        Context, Persons, Resumables, Takes,
        close_log::{self, CloseLog},
    },
    trace::Trace,
};

use admission::{
    auth::{Auth, Renewal},
    bans::Bans,
    guard::Guard,
    limits::Admission,
    make_room::MakeRoom,
};
use config::Config;
use events::Events;
use hand_over::{HandOver, Inherited, Succeeded};
use http::Public;
use listen::{
    Address, Bound, BoundAddress, Listeners, SocketFile, activated, certificate::Certificate,
};
use profile::Profiler;
use report::Reports;
use shutdown::Shutdown;
use trace::{Export, Tracer};

/// The flags of the two kinds of addresses.
const LISTEN: &str = "--listen";
const ADMIN_LISTEN: &str = "--admin-listen";
const HAND_OVER: &str = "--hand-over";

/// The time in which requests over connections that were there before are answered as ever, after another server has taken
/// this one's place.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// A server whose addresses are bound.
pub struct Server {
    config: Config,
    public: Vec<Bound>,
    admin: Bound,
    access: admin::Access,
    keys: RoomKeys,
    key_source: room_key::Source,
    auth: Option<Arc<Auth>>,
    events: Option<Events>,
    metrics: Arc<Metrics>,
    certificate: Option<Certificate>,
    /// What the server before has handed over.
    inherited: Option<Inherited>,
    /// Where the server that comes after asks.
    hand_over: Option<HandOver>,
    tracer: Option<Arc<Tracer>>,
    spans: Export,
    reports: Reports,
    #[cfg(feature = "transcribe")]
    transcription: Option<transcribe::Running>,
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Addrs {
    /// `/ws`, `/health`, `/stats`.
    pub public: Vec<BoundAddress>,
    /// `/`, `/metrics`, `/support`, `/debug/pprof/`, `/livez`, `/readyz`.
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
    /// The server that runs there could not be asked for its sockets.
    #[error("--hand-over: the server at {} cannot hand over: {error}", path.display())]
    HandOver {
        /// The Unix socket.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A key that the operator names cannot be used.
    #[error("the key of room tickets: {0}")]
    RoomKey(String),
    /// Nor can the keys of tokens.
    #[error("{0}")]
    TokenKeys(String),
    /// Nor can the token of operators.
    #[error("{0}")]
    AdminToken(String),
    /// Nor can the app be told of events.
    #[error("--event-webhook: {0}")]
    Events(String),
    /// Nor can the certificate.
    #[error("{0}")]
    Certificate(String),
    /// The other nodes cannot be joined, and this one is nothing without them.
    #[error("--cluster-required: {0}")]
    Cluster(String),
    /// Transcription or surveys cannot begin.
    #[error("{0}")]
    Transcription(String),
    /// Rows of transcripts or answers are neither in the database nor on the disk.
    #[error("{0} rows of transcripts and answers could not be stored")]
    Unsaved(u64),
    /// Traces or error reports cannot be sent from here.
    #[error("{0}")]
    Telling(String),
    /// The system refused a thread, a socket or the like.
    #[error("the system refused what the server needs: {0}")]
    System(#[from] std::io::Error),
    /// Two metrics of one name; a fault of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Server {
    /// Binds all addresses, or takes them over from the server that runs. From now on the kernel queues connections;
    /// [`Self::run`] accepts them.
    pub fn bind(config: Config) -> Result<Self, ServerError> {
        let (mut keys, key_source) =
            room_key::load(&config.room_key).map_err(ServerError::RoomKey)?;
        let metrics = Arc::new(Metrics::new(config.workers, &PoolKind::LABELS)?);
        let auth = Auth::load(config.auth.clone(), config.session.rate, &metrics);
        let auth = auth.map_err(ServerError::TokenKeys)?;
        let events = config.events.clone();
        let events = events.map(|events| Events::new(events, &metrics));
        let events = events.transpose().map_err(ServerError::Events)?;
        let certificate = config.tls.clone().map(Certificate::load).transpose();
        let certificate = certificate.map_err(ServerError::Certificate)?;
        #[cfg(feature = "transcribe")]
        let transcription = (config.transcribe.clone())
            .map(|config| transcribe::Running::start(config, &keys.present, &metrics))
            .transpose()
            .map_err(ServerError::Transcription)?;
        // Last, as the other server waits for this one from now on.
        let mut inherited = match &config.hand_over {
            Some(path) => hand_over::ask(path).map_err(|error| ServerError::HandOver {
                path: path.clone(),
                error,
            })?,
            None => None,
        };
        let mut bind = |address: &Address, flag| {
            let inherited = inherited.as_mut().and_then(|old| old.take(flag, address));
            let bound = inherited.unwrap_or_else(|| listen::bind(address, config.unix_socket_mode));
            bound.map_err(|error| ServerError::Bind {
                address: address.clone(),
                flag,
                error,
            })
        };
        let public = config.listen.iter();
        let public: Result<Vec<_>, _> = public.map(|address| bind(address, LISTEN)).collect();
        let public = public?;
        let admin = bind(&config.admin_listen, ADMIN_LISTEN)?;
        let access = admin::Access::new(config.support.clone(), admin.address());
        let access = access.map_err(ServerError::AdminToken)?;
        if let Some(inherited) = &mut inherited {
            inherited.give_up_rest();
            if let Some(secret) = inherited.take_room_key() {
                room_key::inherit(&mut keys, key_source, secret);
            }
        }
        let room_key =
            (key_source == room_key::Source::Memory).then(|| keys.present.secret().to_vec());
        let hand_over = config.hand_over.as_deref().map(|path| {
            let public = public.iter().map(|bound| (LISTEN, bound));
            let bound = public.chain([(ADMIN_LISTEN, &admin)]);
            let hand_over = HandOver::new(path, inherited.is_some(), bound, room_key);
            hand_over.map_err(|error| ServerError::Bind {
                address: Address::Unix(path.to_owned()),
                flag: HAND_OVER,
                error,
            })
        });
        let hand_over = hand_over.transpose()?;
        for name in activated::unused() {
            tracing::warn!(%name, "systemd has passed a socket that no flag names: give --listen systemd:NAME");
        }
        let started = trace::start(config.traces.as_ref(), &metrics);
        let (tracer, spans) = started.map_err(ServerError::Telling)?;
        let reports = report::start(config.reports.clone(), &metrics);
        let reports = reports.map_err(ServerError::Telling)?;
        Ok(Self {
            config,
            public,
            admin,
            access,
            keys,
            key_source,
            auth,
            events,
            metrics,
            certificate,
            inherited,
            hand_over,
            tracer,
            spans,
            reports,
            #[cfg(feature = "transcribe")]
            transcription,
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
            access,
            keys,
            key_source,
            auth,
            events,
            metrics,
            certificate,
            inherited,
            hand_over,
            tracer,
            spans,
            reports,
            #[cfg(feature = "transcribe")]
            transcription,
        } = self;
        // The guards remove the socket files when this function ends.
        let (admin, admin_file) = admin.into_listener()?;
        let workers = Workers::start(config.workers)?;
        let predecessor = inherited.as_ref().map(|old| old.sessions().to_owned());
        metrics.room_key(key_source.as_str());
        let keys = Arc::new(keys);
        let listener = events.as_ref().map(Events::listener);
        #[cfg(feature = "cluster")]
        let (node, person_key) = match config.cluster.clone() {
            Some(cluster) => {
                let key = cluster.person_key();
                (Some(cluster::Node::new(cluster, keys.process)?), Some(key))
            }
            None => (None, None),
        };
        #[cfg(not(feature = "cluster"))]
        let person_key = None;
        let (blocks, told) = (config.max_blocks, listener);
        let shared = Shared::new(metrics.clone(), keys.clone(), blocks, told, person_key);
        let events = events.map(Events::start);
        let shutdown = Shutdown::default();
        let make_room = MakeRoom::default();
        // A ticket brings back a room of two; this many wait for their second member at the most.
        let max_pending = (config.limits.max_connections / 4).max(1);
        metrics.limit("max_rooms", config.max_rooms);
        metrics.limit("max_buffered_bytes", config.max_buffered_bytes);
        show_limits(&metrics, &config);
        let trace = tracer.clone().map(|tracer| tracer as Arc<dyn Trace>);
        let matchmaker = Matchmaker::new(config.matchmaker, shared.clone()).traced(trace.clone());
        let pending_rooms = Arc::new(PendingRooms::new(max_pending, shared.clone()));
        #[cfg(feature = "cluster")]
        let matchmaker = match &node {
            Some(node) => matchmaker.joined(node.cluster(), pending_rooms.clone()),
            None => matchmaker,
        };
        let memory = Memory::new(config.max_buffered_bytes, metrics.buffered_bytes.clone());
        let named_rooms = NamedRooms::new(config.max_rooms, shared.clone());
        #[cfg(feature = "cluster")]
        let named_rooms = match &node {
            Some(node) => named_rooms.joined(node.rooms(memory.clone())),
            None => named_rooms,
        };
        let context = Arc::new(Context {
            config: Live::new(config.session.clone()),
            matchmaker,
            directory: Directory::default(),
            persons: Persons::new(config.sessions_per_user),
            identify: auth.clone().map(|auth| Arc::new(Renewal(auth)) as _),
            named_rooms,
            resumables: Resumables::default(),
            takes: Takes::default(),
            detached: AtomicUsize::new(0),
            pending_rooms,
            shared,
            room_keys: keys,
            metrics: metrics.clone(),
            memory,
            close_log: CloseLog::default(),
            trace,
            draining: AtomicBool::new(false),
        });
        let bans = Arc::new(Bans::default());
        #[cfg(feature = "cluster")]
        let mut cluster = match &node {
            Some(node) => {
                let (node, bans) = (node.clone(), bans.clone());
                Some(cluster::Running::start(node, &context, bans, key_source)?)
            }
            None => None,
        };
        let admin_state = Arc::new(admin::Admin {
            access,
            bans: bans.clone(),
            history: Default::default(),
            #[cfg(feature = "cluster")]
            node: node.clone(),
            #[cfg(feature = "transcribe")]
            transcribe: transcription
                .as_ref()
                .map(|running| running.transcribe.clone()),
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
            bans,
            page: config.page,
            dev_tokens: config.dev_tokens,
            context: context.clone(),
            tracer,
            shutdown: shutdown.clone(),
            predecessor,
            #[cfg(feature = "cluster")]
            node,
            make_room: make_room.clone(),
            #[cfg(feature = "transcribe")]
            transcribe: transcription
                .as_ref()
                .map(|running| running.transcribe.clone()),
        });
        #[cfg(feature = "cluster")]
        if let Some(node) = &shared.node {
            node.serve(http::other_nodes::server(&shared, workers.handles.clone()));
        }
        let guard = Guard::new(config.reconnects_per_minute);
        let admission = Admission::new(config.limits, guard, config.workers, metrics);
        let (serves, serving) = oneshot::channel();
        let (mut accept, public_files) = {
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
                // Whoever waits for it may have gone.
                let _ = serves.send(());
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
            let (admission, shared) = (admission.clone(), shared.clone());
            let handles = workers.handles.clone();
            async move {
                tokio::join!(
                    systemd::watchdog(&handles),
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
                            show_limits(&context.metrics, &config);
                            context.matchmaker.config().replace(config.matchmaker);
                            admission.config().replace(config.limits);
                            admission
                                .guard()
                                .set_per_minute(config.reconnects_per_minute);
                            shared.settings.replace(config.settings());
                            context.config.replace(config.session);
                            #[cfg(feature = "transcribe")]
                            if let Some(transcribe) = &shared.transcribe {
                                transcribe.reload_key();
                            }
                        }
                    },
                    shed::watch(&context, &make_room)
                );
            }
        });
        let succeeded = async {
            // An error means that accepting has ended, which is seen elsewhere.
            let _ = serving.await;
            succession(inherited, hand_over).await
        };
        let alone = async {
            #[cfg(feature = "cluster")]
            if let Some(cluster) = &mut cluster {
                return cluster.refused().await;
            }
            std::future::pending().await
        };
        let (mut refused, mut accepted, mut successor) = (None, None, None);
        tokio::select! {
            () = drain => {}
            why = alone => refused = Some(why),
            ended = &mut accept => accepted = Some(ended),
            succeeded = succeeded => successor = Some(succeeded),
        }
        let has_successor = successor.is_some();
        let mut files: Vec<_> = admin_file.into_iter().chain(public_files).collect();
        if let Some(successor) = successor {
            shutdown.leave();
            accept.abort();
            admin.abort();
            // Before the new one is told: it must find nobody else there.
            let _ = (&mut accept).await;
            files.drain(..).for_each(SocketFile::keep);
            let sessions = successor.leave().await;
            tracing::info!("another server has taken the place of this one");
            let (listeners, file) = {
                let _worker = workers.handles[0].enter();
                Listeners::of_successor(sessions)?
            };
            files.extend(file);
            let accept = listen::accept(listeners, admission, 0, workers.handles.clone(), shared);
            workers.handles[0].spawn(accept);
            // Connections that are kept for a next request are better made anew, there.
            make_room.ask();
            sleep(LAST_REQUESTS).await;
            make_room.ask();
        }
        if !has_successor {
            systemd::stopping();
        }
        shutdown.begin();
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &cluster {
            cluster.node.drain();
        }
        let left = context.directory.len();
        tracing::info!(sessions = left, timeout = ?config.drain_timeout, "draining");
        let unsaved = async {
            #[cfg(feature = "transcribe")]
            if let Some(transcription) = transcription {
                return transcription.drain().await;
            }
            0
        };
        let drained = drain::drain(&context, config.drain_timeout, has_successor, stop);
        let (closed, unsaved) = tokio::join!(drained, unsaved);
        // Until here, and while users are still being closed, the listener answers.
        shutdown::last_words(&context.metrics, &make_room).await;
        #[cfg(feature = "cluster")]
        if let Some(cluster) = cluster {
            cluster.leave().await;
        }
        workers.stop();
        // All rooms have ended now.
        if let Some(events) = events {
            events.flush().await;
        }
        admin.abort();
        watch.abort();
        context.close_log.sum_up();
        tokio::join!(spans.flush(), reports.flush());
        tracing::info!(closed_at_deadline = closed, "stopped");
        if let Some(why) = refused {
            return Err(ServerError::Cluster(why));
        }
        match accepted {
            _ if unsaved > 0 => Err(ServerError::Unsaved(unsaved)),
            Some(Err(error)) => Err(std::io::Error::other(error).into()),
            _ => Ok(()),
        }
    }
}

/// Tells the server before, and whoever has started this one, that it serves; then waits until another server takes its
/// place. Without --hand-over none ever does.
async fn succession(inherited: Option<Inherited>, hand_over: Option<HandOver>) -> Succeeded {
    if let Some(inherited) = inherited {
        match inherited.succeed().await {
            Ok(()) => tracing::info!("the server before has handed over, and drains"),
            Err(error) => tracing::warn!(%error, "the server before could not be succeeded"),
        }
    }
    systemd::ready();
    if let Some(hand_over) = hand_over {
        match hand_over.succeeded().await {
            Ok(successor) => return successor,
            Err(error) => {
                tracing::warn!(%error, "--hand-over: no server can take the place of this one")
            }
        }
    }
    std::future::pending().await
}

/// Shows the limits that a reload can change.
fn show_limits(metrics: &Metrics, config: &Config) {
    metrics.limit("max_connections", config.limits.max_connections);
    metrics.limit("max_detached", config.session.resume.max_detached);
    metrics.limit("outbox_messages", config.session.outbox.messages as usize);
    metrics.limit("outbox_bytes", config.session.outbox.bytes as usize);
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
