//! A server from its first address to its last word: what runs beside what, and how it ends.

mod bind;
mod context;
pub mod error;
mod succession;
mod upkeep;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use voicematch_core::{live::Live, metrics::Metrics, room::ticket::RoomKeys};

#[cfg(feature = "cluster")]
use crate::cluster::{Node, Running};
#[cfg(feature = "transcribe")]
use crate::transcribe;
use crate::{
    admin,
    admission::{auth::Auth, bans::Bans, guard::Guard, limits::Admission, make_room::MakeRoom},
    config::Config,
    drain,
    events::Events,
    hand_over::{HandOver, Inherited},
    http::Public,
    listen::{self, Bound, BoundAddress, Listeners, SocketFile, certificate::Certificate},
    profile::Profiler,
    room_key,
    sending::Sending,
    shutdown::{self, Shutdown},
    systemd,
    trace::Tracer,
    workers::Workers,
};
use context::Parts;
use error::ServerError;
use upkeep::Upkeep;

/// The time in which requests over connections that were there before are answered as ever, after another server has taken
/// this one's place.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// How long the end waits for a service manager that does not read.
const LAST_WORD: Duration = Duration::from_secs(1);

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
    spans: Sending,
    reports: Sending,
    #[cfg(feature = "transcribe")]
    transcription: Option<transcribe::Running>,
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Addrs {
    /// For users.
    pub public: Vec<BoundAddress>,
    /// `/`, `/metrics`, `/support`, `/debug/pprof/`, `/livez`, `/readyz`.
    pub admin: BoundAddress,
}

impl Server {
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
        // A proxy brings users of the internet to loopback. At a Unix socket nobody else can be.
        let behind_proxy = !self.config.proxies.0.is_empty();
        let is_public = self.public.iter().any(|bound| match bound.address() {
            BoundAddress::Tcp(address) => behind_proxy || !address.ip().is_loopback(),
            BoundAddress::Unix(_) => true,
        });
        is_public && self.auth.is_none()
    }

    /// Serves until `drain` is ready, then drains; `stop` ends the drain early. Joins all parts: the one place
    /// to see what runs beside what.
    /// What can be changed while it runs is what the latest of `reloads` says.
    pub async fn run(
        self,
        reloads: mpsc::UnboundedReceiver<Config>,
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
        #[cfg(feature = "cluster")]
        let node = (config.cluster.clone())
            .map(|cluster| Node::new(cluster, keys.process, metrics.registry()))
            .transpose()?;
        let parts = Parts {
            config: &config,
            metrics: metrics.clone(),
            keys,
            auth: auth.clone(),
            events: events.as_ref().map(Events::listener),
            tracer: tracer.clone(),
            #[cfg(feature = "cluster")]
            node: node.clone(),
        };
        let context = parts.context();
        let events = events.map(Events::start);
        let shutdown = Shutdown::default();
        let make_room = MakeRoom::default();
        let bans = Arc::new(Bans::default());
        #[cfg(feature = "cluster")]
        let mut cluster = match &node {
            Some(node) => {
                let (node, bans) = (node.clone(), bans.clone());
                Some(Running::start(node, &context, bans, key_source)?)
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
            let server = crate::http::other_nodes::server(&shared, workers.handles.clone());
            node.serve(server);
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
                // The receiver may have been dropped: the server is stopping already.
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
        let upkeep = Upkeep {
            context: context.clone(),
            admission: admission.clone(),
            shared: shared.clone(),
            make_room: make_room.clone(),
            auth,
            certificate,
        };
        let upkeep = tokio::spawn(upkeep.run(reloads));
        let watchdog = {
            let workers = workers.handles.clone();
            tokio::spawn(async move { systemd::watchdog(&workers).await })
        };
        let take_over = |bans: Vec<_>| {
            shared.bans.hear(bans, Instant::now());
            let members = context.directory.members();
            shared.bans.enforce_all(&members, Instant::now());
        };
        let succeeded = async {
            // An error means that accepting has ended, which is seen elsewhere.
            let _ = serving.await;
            succession::wait(inherited, hand_over, take_over).await
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
            // What lives from now on is the new one.
            watchdog.abort();
            shutdown.leave();
            accept.abort();
            admin.abort();
            // Before the new one is told: it must find nobody else there.
            let _ = (&mut accept).await;
            files.drain(..).for_each(SocketFile::keep);
            let sessions = successor.leave(&shared.bans).await;
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
        let told = (!has_successor).then(systemd::stopping);
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
        watchdog.abort();
        workers.stop();
        // All rooms have ended now.
        if let Some(events) = events {
            events.flush().await;
        }
        admin.abort();
        upkeep.abort();
        context.close_log.sum_up();
        tokio::join!(spans.flush("spans"), reports.flush("error reports"));
        if let Some(told) = told {
            // A drain can be quicker than the thread that tells.
            let _ = timeout(LAST_WORD, told).await;
        }
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
