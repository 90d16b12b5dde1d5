//! The engine, Redis or Valkey: two connections under one supervisor.

mod address;
mod bans;
mod blocks;
mod calls;
mod connect;
mod foreign;
mod health;
mod inbox;
mod look;
mod refusals;
mod supervisor;
mod trouble;
mod watched;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::id::NodeId;
use crate::metrics::ClusterMetrics;
use crate::scripts::{BEAT_WITHIN, Script, Scripts};
use crate::settings::{Settings, Topology};
pub use bans::{KeptOut, Word};
pub use blocks::{BlocksRead, KeptApart, MostBlocks, SomeBlocks};
use connect::{Commands, ask};
pub use foreign::Foreign;
use health::Health;
pub use inbox::{Inbox, Message};
pub use look::PoolSeen;
pub(crate) use trouble::Trouble;

/// What of the engine can be used. Nothing while this node cannot register: its beats are refused, or none was good for 3 s.
/// Nothing any more if a task of this crate has ended by a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Scripts are answered. False after a call unanswered for 500 ms, until three were answered within 250 ms.
    pub index: bool,
    /// Messages come back to who published them. False when none has for 2 s.
    pub bus: bool,
}

/// When the index went down last, and how often it came up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    pub(crate) ups: u64,
    pub(crate) down: Instant,
}

/// Why a call has no answer. Whether it was executed is only known of `Refused`, `Stale` and `Down`: it was not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection.
    #[error("no connection to the engine")]
    Down,
    /// No answer within 500 ms.
    #[error("the engine did not answer in time")]
    Silent,
    /// The connection broke.
    #[error("the connection to the engine broke: {0}")]
    Broken(String),
    /// The engine answered with an error.
    #[error("the engine refused: {0}")]
    Refused(String),
    /// The node has been buried, or the call was on its way for too long.
    #[error("the engine did nothing: the call is of an old life, or too late")]
    Stale,
    /// The answer is none of the script's.
    #[error("the engine's answer cannot be understood")]
    Strange,
}

/// A channel, and what goes there.
pub(crate) type Publication = (Vec<u8>, Arc<[u8]>);

/// What a call gives.
pub type Call<T> = Result<T, CallError>;

/// The engine. Clones are the same one; with the last its supervisor ends.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    _supervisor: Arc<Supervisor>,
}

/// Ends the supervisor when it is dropped.
#[derive(Debug)]
struct Supervisor(AbortHandle);

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) metrics: ClusterMetrics,
    pub(crate) scripts: Scripts,
    live: Mutex<Option<Live>>,
    health: Mutex<Health>,
    state: watch::Sender<State>,
    turns: Mutex<Turns>,
    node: Mutex<NodeId>,
    inbox: inbox::Sender,
    foreign: foreign::Watch,
    refusals: refusals::Refusals,
    ended: watched::Ended,
}

/// The connection for commands, as long as it lasts.
#[derive(Clone, Debug)]
struct Live {
    commands: Commands,
    trouble: mpsc::Sender<Trouble>,
}

impl Engine {
    /// Begins to connect, on the current runtime, and never stops to. `node` is the life whose messages come into the inbox.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(settings: Settings, node: NodeId, metrics: ClusterMetrics) -> (Self, Inbox) {
        let (inbox, messages) = Inbox::new();
        let shared = Arc::new(Shared {
            scripts: Scripts::new(&settings.prefix),
            settings,
            metrics,
            live: Mutex::new(None),
            health: Mutex::new(Health::default()),
            state: watch::Sender::new(State::default()),
            turns: Mutex::new(Turns {
                ups: 0,
                down: Instant::now(),
            }),
            node: Mutex::new(node),
            inbox,
            foreign: foreign::Watch::default(),
            refusals: refusals::Refusals::default(),
            ended: watched::Ended::default(),
        });
        let supervise = supervisor::supervise(Arc::clone(&shared));
        let _supervisor = Arc::new(Supervisor(watched::spawn(&shared, "supervise", supervise)));
        (
            Self {
                shared,
                _supervisor,
            },
            messages,
        )
    }

    /// What can be used now, and each change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Listens for another life of this node.
    pub fn begin_life(&self, node: NodeId) {
        *lock(&self.shared.node) = node;
        self.trouble(Trouble::Life);
    }

    /// The engine answers, and does not let this node register, for this reason: nothing can be used before a beat is good.
    pub fn cannot_register(&self, why: String) {
        lock(&self.shared.health).refused(why);
        self.shared.tell();
    }

    /// Why this node cannot register, if the engine has refused it.
    #[must_use]
    pub fn why_refused(&self) -> Option<String> {
        lock(&self.shared.health).why_refused().map(str::to_owned)
    }

    /// Whether there is a connection, whatever can be used of it.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        lock(&self.shared.live).is_some()
    }

    pub(crate) fn turns(&self) -> Turns {
        *lock(&self.shared.turns)
    }

    pub(crate) fn metrics(&self) -> &ClusterMetrics {
        &self.shared.metrics
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.shared.scripts
    }

    /// The connections are given up, and made anew.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        if let Some(live) = &*lock(&self.shared.live) {
            // Full: there is trouble already.
            let _ = live.trouble.try_send(trouble);
        }
    }

    /// Calls a script that cannot run too often: it is sent whole if the engine has forgotten it.
    pub(crate) async fn script(
        &self,
        script: Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Call<Value> {
        let body = self.shared.scripts.get(script);
        // A slow engine is one that still relays: a beat may take longer than users wait.
        let most = if script == Script::Beat {
            BEAT_WITHIN
        } else {
            Duration::ZERO
        };
        let most = most.max(self.shared.settings.call);
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&body.sha).arg(keys.len()).arg(keys).arg(args);
        self.shared.call(script.name(), most, async |commands| {
            let answer = ask(commands, &cmd).await;
            if !matches!(&answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
                return answer;
            }
            self.shared.metrics.calls.with_label_values(&[script.name(), "noscript"]).inc();
            // `EVAL` loads it where its keys are, which is one node of a Redis Cluster.
            let mut whole = redis::cmd("EVAL");
            whole.arg(body.text).arg(keys.len()).arg(keys).arg(args);
            ask(commands, &whole).await
        })
        .await
    }

    /// A plain command.
    pub(crate) async fn command(&self, name: &'static str, cmd: &Cmd) -> Call<Value> {
        self.shared
            .call(name, self.shared.settings.call, async |commands| {
                ask(commands, cmd).await
            })
            .await
    }

    /// Connects anew if the engine is no primary any more: publishing to a replica reaches nobody, without an error.
    pub(crate) async fn look_at_role(&self) {
        if self.shared.settings.engine == Topology::Cluster {
            return;
        }
        let answer = self.command("role", &redis::cmd("ROLE")).await;
        if answer.is_ok_and(|role| !connect::is_primary(&role)) {
            self.trouble(Trouble::Role);
        }
    }

    /// Publishes, in one write; the answers say how many took each.
    pub(crate) async fn publish(&self, batches: &[Publication]) -> Call<Vec<u64>> {
        let mut pipe = Pipeline::with_capacity(batches.len());
        for (channel, bytes) in batches {
            pipe.cmd("SPUBLISH").arg(channel).arg(&bytes[..]);
        }
        let answers = self
            .shared
            .call("publish", self.shared.settings.call, async |commands| {
                if let Commands::Cluster(connection) = commands {
                    // A pipeline goes to one slot there.
                    let one = async |cmd: &Cmd| ask(&mut connection.clone(), cmd).await;
                    return try_join_all(pipe.cmd_iter().map(one))
                        .await
                        .map(Value::Array);
                }
                let answers = commands
                    .req_packed_commands(&pipe, 0, batches.len())
                    .await?;
                Value::Array(answers).extract_error()
            });
        let Value::Array(answers) = answers.await? else {
            return Err(CallError::Strange);
        };
        let takers = |answer: &Value| match answer {
            Value::Int(takers) => u64::try_from(*takers).map_err(|_| CallError::Strange),
            _ => Err(CallError::Strange),
        };
        answers.iter().map(takers).collect()
    }
}

fn load(body: &str) -> Cmd {
    redis::cmd("SCRIPT").arg("LOAD").arg(body).to_owned()
}

impl Shared {
    /// One call in our own time, counted; what it shows of the engine is drawn from it.
    async fn call(
        &self,
        name: &'static str,
        most: Duration,
        ask: impl AsyncFnOnce(&mut Commands) -> Result<Value, RedisError>,
    ) -> Call<Value> {
        let live = lock(&self.live).clone();
        let Some(mut live) = live else {
            self.metrics.calls.with_label_values(&[name, "down"]).inc();
            return Err(CallError::Down);
        };
        let began = Instant::now();
        let answer = tokio::select! {
            answer = timeout(most, ask(&mut live.commands)) => answer.ok(),
            // It was given up: no answer comes, and who has asked can ask over the next one.
            () = live.trouble.closed() => None,
        };
        let took = began.elapsed();
        let (result, answer) = match answer {
            None => ("silent", Err(CallError::Silent)),
            Some(Ok(answer)) => {
                self.foreign.good(name);
                ("ok", Ok(answer))
            }
            Some(Err(error)) => self.blame(name, &live, &error),
        };
        self.metrics.calls.with_label_values(&[name, result]).inc();
        self.metrics
            .call_seconds
            .with_label_values(&[name])
            .observe(took.as_secs_f64());
        {
            let mut health = lock(&self.health);
            match &answer {
                Ok(_) | Err(CallError::Refused(_) | CallError::Strange) => {
                    health.answered(took, self.settings.call)
                }
                Err(_) => health.failed(),
            }
        }
        self.tell();
        answer
    }

    /// What an error says of the connection.
    fn blame(
        &self,
        name: &'static str,
        live: &Live,
        error: &RedisError,
    ) -> (&'static str, Call<Value>) {
        let trouble = match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                | ServerErrorKind::Moved
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown,
            ) => Some(Trouble::Role),
            // Other answers that are errors have a code.
            _ if error.code() == Some("WRONGTYPE") => {
                self.foreign.refused(name, refusals::words(error));
                None
            }
            _ if error.code().is_some() => {
                self.refusals.say(name, &refusals::words(error));
                None
            }
            _ => Some(Trouble::Closed),
        };
        if let Some(trouble) = trouble {
            // Full: there is trouble already.
            let _ = live.trouble.try_send(trouble);
        }
        match trouble {
            Some(Trouble::Closed) => ("closed", Err(CallError::Broken(error.to_string()))),
            _ => ("refused", Err(CallError::Refused(refusals::words(error)))),
        }
    }

    /// Tells who watches, if something has changed.
    fn tell(&self) {
        let connected = lock(&self.live).is_some();
        let health = lock(&self.health);
        let time = Instant::now();
        let usable = connected && health.is_registered(time) && !self.ended.is_so();
        let now = State {
            index: usable && health.index(),
            bus: usable && health.bus(time),
        };
        self.state.send_if_modified(|state| {
            let was = std::mem::replace(state, now);
            let mut turns = lock(&self.turns);
            match (was.index, now.index) {
                (false, true) => turns.ups += 1,
                (true, false) => turns.down = Instant::now(),
                _ => {}
            }
            was != now
        });
        drop(health);
        self.metrics
            .state
            .with_label_values(&["index"])
            .set(now.index.into());
        self.metrics
            .state
            .with_label_values(&["bus"])
            .set(now.bus.into());
    }

    /// Into the inbox, unless it is full.
    fn receive(&self, message: Message) {
        if !self.inbox.send(message) {
            self.metrics.dropped.with_label_values(&["inbox"]).inc();
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
