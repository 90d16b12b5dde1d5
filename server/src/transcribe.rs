//! Transcription sessions and surveys: the only place that knows both the server and the crate `voicematch_transcribe`.
//!
//! It runs on a thread of its own, so that the relay does not wait for it: requests and sockets are handed over here.

pub mod api;
mod keys;
#[cfg(feature = "mcp")]
mod mcp;
mod socket;
mod survey;
mod token;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use prometheus::IntGauge;
use rustix::process::nice;
use tokio::{
    runtime::{self, Handle},
    sync::{Semaphore, oneshot, watch},
    time::Instant,
};
use voicematch_transcribe::{
    bridge::{AudioMetrics, BridgeConfig, Bridges},
    provider,
    record::RowId,
    sessions::{Config as SessionConfig, Refusal, SessionMetrics, Sessions},
    store::{
        self, Store, StoreError,
        metrics::{QueueFigures, StorageMetrics},
        writer::{Health, Settings as StoreSettings, Writer},
    },
    survey::{Engine, Survey, SurveyMetrics},
};

use crate::{
    admission::guard::Guard,
    io::{Detached, Stream},
};
use api::{Answer, Call, STRANGERS_PER_MINUTE};
#[cfg(feature = "mcp")]
pub use mcp::{Interview, lead};
pub use socket::Visit;
pub use survey::read_file as read_survey;
pub use token::{Opened, Opens, Tokens};
use voicematch_core::{metrics::Metrics, room::ticket::RoomKey};

/// How it is set up.
#[derive(Debug, Clone)]
pub struct TranscribeConfig {
    /// Who transcribes; `None`: nobody, only surveys are held.
    pub provider: Option<String>,
    /// Where the provider's key is.
    pub provider_key: Option<PathBuf>,
    /// Questionnaires.
    pub surveys: Vec<PathBuf>,
    /// The database's URL.
    pub database: String,
    /// Whether the tables may be made and changed.
    pub migrate: bool,
    /// How rows are written.
    pub storage: StoreSettings,
    /// How audio is passed on.
    pub bridge: BridgeConfig,
    /// How sessions are.
    pub sessions: SessionConfig,
    /// The key of tokens; `None`: one that is derived from the key of room tickets.
    pub token_key: Option<PathBuf>,
    /// Threads.
    pub workers: usize,
}

/// Transcripts and files of answers that are on their way at the same time: of each, its order and the pieces that are made are in
/// memory, about 5 MB.
const MAX_EXPORTS: usize = 16;

/// How long the database may take for what is left at the end.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// Transcription and surveys of this server.
pub struct Transcribe {
    sessions: Arc<Sessions>,
    store: Arc<dyn Store>,
    engine: Engine,
    writer: Arc<Writer>,
    tokens: Tokens,
    /// How often an address may do what needs no right.
    strangers: Guard,
    /// Whether somebody transcribes.
    transcribes: bool,
    bridges: Option<Bridges>,
    provider_key: Option<PathBuf>,
    exports: Arc<Semaphore>,
    #[cfg(feature = "mcp")]
    mcp: voicematch_transcribe::survey::mcp::McpService,
    metrics: Arc<Metrics>,
    session_metrics: SessionMetrics,
    storage_metrics: StorageMetrics,
    handle: Handle,
    stopping: watch::Sender<bool>,
}

/// What operators see at a glance.
pub struct Figures {
    /// Connections of `/transcribe`.
    pub connections: i64,
    /// Tracks that are being transcribed.
    pub bridges: i64,
    /// The rows that wait.
    pub queue: QueueFigures,
}

/// It and its thread.
pub struct Running {
    /// What requests and sockets are handed to.
    pub transcribe: Arc<Transcribe>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// How much lower the priority of its threads is, as in nice(1): they have a third of a processor beside a worker that wants all
/// of it.
const NICE: i32 = 5;

impl Running {
    /// Opens the database, writes what an earlier process has left, and begins. The error says what to do.
    pub fn start(
        config: TranscribeConfig,
        room_key: &RoomKey,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let key = keys::of_tokens(&config, room_key)?;
        let metrics = metrics.clone();
        let (opened, is_open) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // Its own threads, which begin with what this one has. Where both want the processor the relay goes first.
            if let Err(error) = nice(NICE) {
                tracing::debug!(%error, "transcription has the priority of the relay");
            }
            let runtime = runtime::Builder::new_multi_thread()
                .worker_threads(config.workers)
                .thread_name("transcribe")
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(opened.send(Err(no_threads(&error)))),
            };
            let handle = runtime.handle().clone();
            let transcribe = match runtime.block_on(Transcribe::open(config, &key, metrics, handle))
            {
                Ok(transcribe) => Arc::new(transcribe),
                Err(error) => return drop(opened.send(Err(error))),
            };
            let sessions = transcribe.sessions.clone();
            let _ = opened.send(Ok(transcribe));
            runtime.block_on(async {
                tokio::select! {
                    () = sessions.keep() => {}
                    // A dropped sender means stop too.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        };
        let thread = thread::Builder::new()
            .name("transcribe-main".into())
            .spawn(run);
        let thread = thread.map_err(|error| no_threads(&error))?;
        let transcribe = is_open.recv();
        let transcribe = transcribe
            .map_err(|_| "transcription ended while it began; see the log".to_owned())??;
        Ok(Self {
            transcribe,
            stop,
            thread,
        })
    }

    /// The last words are transcribed, written, and all are sent away. Returns how many rows are neither in the database
    /// nor on the disk.
    pub async fn drain(self) -> u64 {
        let transcribe = self.transcribe.clone();
        let left = self.transcribe.handle.spawn(async move {
            transcribe.stopping.send_replace(true);
            let until = || Instant::now() + LAST_WRITES;
            transcribe.sessions.drain(until).await
        });
        let left = left.await.ok().flatten();
        if let Some(left) = &left {
            tracing::warn!(
                spilled = left.spilled,
                lost = left.lost,
                "the database did not take all rows: the spilled ones are written at the next start"
            );
        }
        let _ = self.stop.send(());
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
        left.map_or(0, |left| left.lost)
    }
}

fn no_threads(error: &std::io::Error) -> String {
    format!("the threads of transcription could not be started: {error}")
}

/// Milliseconds of audio that others than this process have sent to their providers on this day, as far as the database says it.
async fn spent_elsewhere(store: &dyn Store, day: i64, process: RowId) -> Result<i64, StoreError> {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let noted = store.spent_ms(day, process).await?;
    // A server without the bound has noted nothing but its tracks.
    Ok(noted.max(store.audio_ms(day * DAY_MS).await?))
}

impl TranscribeConfig {
    /// Reads the files that the flags name, as the start will: what is wrong with them.
    pub fn check_files(&self) -> Vec<String> {
        let token_key = self
            .token_key
            .iter()
            .map(|_| keys::given_for_tokens(self).err());
        let provider_key = self
            .provider_key
            .iter()
            .map(|_| keys::of_provider(self).err());
        let surveys = self.surveys.iter().map(|path| survey_of_flag(path).err());
        let all = token_key.chain(provider_key).chain(surveys);
        all.flatten().collect()
    }
}

fn survey_of_flag(path: &Path) -> Result<Survey, String> {
    survey::read_file(path).map_err(|error| format!("--survey: {error}"))
}

impl Transcribe {
    async fn open(
        config: TranscribeConfig,
        key: &[u8],
        metrics: Arc<Metrics>,
        handle: Handle,
    ) -> Result<Self, String> {
        let registry = metrics.registry();
        let failed = |error: prometheus::Error| format!("metrics: {error}");
        let surveys = config.surveys.iter().map(|path| survey_of_flag(path));
        let surveys = surveys.collect::<Result<Vec<Survey>, String>>()?;
        let provider_key = keys::of_provider(&config)?;
        let provider = config.provider.as_deref();
        let provider = provider
            .map(|text| provider::parse(text, provider_key))
            .transpose()?;
        let store = store::connect(&config.database, config.migrate).await;
        let store = store.map_err(|error| format!("--database: {error}"))?;
        let storage_metrics = StorageMetrics::new().map_err(failed)?;
        storage_metrics.register(registry).map_err(failed)?;
        let writer = Writer::start(store.clone(), config.storage, storage_metrics.clone()).await;
        let writer = Arc::new(writer.map_err(|error| format!("--database: {error}"))?);
        let audio_metrics = AudioMetrics::new().map_err(failed)?;
        audio_metrics.register(registry).map_err(failed)?;
        let bridges = provider
            .clone()
            .map(|provider| Bridges::new(config.bridge, provider, audio_metrics));
        if let Some(bridges) = &bridges
            && let Some(day) = bridges.bounded_day()
        {
            let spent = spent_elsewhere(&*store, day, writer.id()).await;
            let spent = spent.map_err(|error| format!("--database: {error}"))?;
            bridges.spent_elsewhere(day, spent);
        }
        let survey_metrics = SurveyMetrics::new().map_err(failed)?;
        survey_metrics.register(registry).map_err(failed)?;
        let engine = Engine::new(store.clone(), writer.clone(), surveys, survey_metrics);
        let name = provider.as_ref().map_or("none", |provider| provider.name());
        let session_metrics = SessionMetrics::new(registry).map_err(failed)?;
        let sessions = Sessions::new(
            config.sessions,
            writer.clone(),
            store.clone(),
            bridges.clone(),
            name,
            session_metrics.clone(),
        );
        Ok(Self {
            sessions,
            store,
            #[cfg(feature = "mcp")]
            mcp: mcp::new(engine.clone()),
            engine,
            writer,
            tokens: Tokens::new(key),
            strangers: Guard::new(STRANGERS_PER_MINUTE),
            transcribes: provider.is_some(),
            bridges,
            provider_key: config.provider_key,
            exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
            metrics,
            session_metrics,
            storage_metrics,
            handle,
            stopping: watch::Sender::new(false),
        })
    }

    /// Answers a request to `/api/...`, on the threads of transcription.
    pub async fn call(self: &Arc<Self>, call: Call) -> Answer {
        let transcribe = self.clone();
        let answer = self
            .handle
            .spawn(async move { transcribe.answer_call(call).await });
        answer.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request of the transcription API was not answered");
            let code = voicematch_protocol::transcribe::TranscribeError::Internal;
            self.refuse(&Refusal::new(code, "the server failed here; see its log"))
        })
    }

    /// What this token of ours opens, and until when.
    pub fn opened(&self, token: &str) -> Result<Opened, Refusal> {
        self.tokens.verify(token)
    }

    /// Hands a socket over. `reply`: the answer to its handshake, which the client has not been sent yet; `early`: what
    /// it sent behind its request; `held` is dropped when the socket has ended.
    pub fn serve<H: Send + 'static>(
        self: &Arc<Self>,
        stream: Stream,
        reply: Vec<u8>,
        early: Vec<u8>,
        visit: Visit,
        held: H,
    ) {
        let transcribe = self.clone();
        let task = move |socket: Socket| async move {
            let (_held, _counted) = (held, Counted::new(&transcribe.metrics));
            match socket {
                Socket::Detached(detached) => match detached.attach() {
                    Ok(stream) => socket::serve(stream, reply, early, visit, transcribe).await,
                    Err(error) => tracing::debug!(%error, "a socket could not be handed over"),
                },
                Socket::Tls(stream) => {
                    socket::serve(*stream, reply, early, visit, transcribe).await
                }
            }
        };
        let socket = match stream {
            // Its cryptography stays with the runtime that has accepted it.
            Stream::Tls(stream) => Socket::Tls(Box::new(Stream::Tls(stream))),
            stream => match stream.detach() {
                Ok(detached) => Socket::Detached(detached),
                Err(error) => return tracing::debug!(%error, "a socket could not be handed over"),
            },
        };
        self.handle.spawn(task(socket));
    }

    /// Waits until the server stops.
    async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// What operators see at a glance.
    pub fn figures(&self) -> Figures {
        Figures {
            connections: self.sessions.connections(),
            bridges: self.bridges.as_ref().map_or(0, Bridges::open_tracks),
            queue: self.storage_metrics.queue(),
        }
    }

    /// How the storage is.
    pub fn health(&self) -> Health {
        self.writer.health()
    }

    /// Reads the provider's key again.
    pub fn reload_key(&self) {
        if let (Some(bridges), Some(path)) = (&self.bridges, &self.provider_key) {
            match provider::read_key(path) {
                Ok(key) => bridges.set_key(key),
                Err(error) => {
                    tracing::error!(%error, "the provider's key could not be read again; the old one stays")
                }
            }
        }
    }
}

/// A socket that is open.
struct Counted(IntGauge);

impl Counted {
    fn new(metrics: &Metrics) -> Self {
        let sockets = metrics.transcribe_sockets.clone();
        sockets.inc();
        Self(sockets)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A socket on its way to the threads of transcription.
enum Socket {
    Detached(Detached),
    Tls(Box<Stream>),
}
