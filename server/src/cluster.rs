//! Several nodes as one service (`--cluster`): this node joins the others over Redis or Valkey, and tells the matchmaker
//! what it hears of them. All of it runs on one thread of its own. Until it has joined, and while the engine is away,
//! users are matched with those who are here.

mod bans;
mod foreign;
pub mod forward;
mod homes;
mod joined;
mod key;
mod nodes;
mod seats;

use std::{
    future::pending,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tokio::{
    runtime,
    sync::{Notify, oneshot, watch},
    time::{sleep, timeout},
};
use voicematch_cluster::{
    Bus, Changes, ClusterMetrics, Engine, Inbox, Index, Members, NodeId, Settings, State,
    frames::VERSION,
    nodes::{Change, Info},
};
use voicematch_core::{
    matchmaker::Cluster,
    memory::Memory,
    process::ProcessId,
    room::{named, ticket::RoomKeys},
    session::Context,
};

use crate::{ServerError, admission::bans::Bans, every, files, room_key, transport::keeper};
use joined::{deliver, to_core, told};
pub use nodes::{NodeView, PoolOfAll};

/// How often offers to other nodes are looked through for those that nobody has answered: they have a second.
const TICK: Duration = Duration::from_millis(100);

/// How long the engine may take for the last word of this node.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The most bytes of the file of authorities: that of a whole system has 250 KB.
const MAX_AUTHORITIES_BYTES: u64 = 4 << 20;

/// What is hashed for the numbers of persons begins with this.
const PERSON: &[u8] = b"voicematch person 1";

/// Between two attempts of a node that was refused: the others may change.
const REFUSED: Duration = Duration::from_secs(10);

/// How this node is one of several.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Where the engine is.
    pub settings: Settings,
    /// The files that the settings name.
    pub password: Option<PathBuf>,
    pub authorities: Option<PathBuf>,
    /// How long a search waits for others, to ask the engine together.
    pub gather: Duration,
    /// The least time between two writes to other nodes.
    pub flush: Duration,
    /// How long rooms with users of other nodes are held while nothing comes through.
    pub hold: Duration,
    /// Without the others this node is not ready, and one that may not join them ends.
    pub required: bool,
}

/// Whether this node is one of several now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Up,
    /// The engine is away, or was never there: users are matched with those who are here.
    Down,
    /// The other nodes cannot be joined, and why.
    Refused(String),
}

impl Standing {
    /// As `/readyz` says it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Refused(_) => "refused",
        }
    }
}

/// This node, as its other parts see it. It knows the others once it has joined them.
pub struct Node {
    config: ClusterConfig,
    /// Its first life.
    first: NodeId,
    /// Once there is a thread for it.
    engine: OnceLock<Engine>,
    joined: OnceLock<Joined>,
    refused: Mutex<Option<String>>,
    names: homes::Names,
    /// Requests for sessions of other nodes.
    forwards: forward::Forwards,
    bans: bans::Desk,
}

/// What there is once the node has joined.
struct Joined {
    engine: Engine,
    members: Members,
    index: Index,
    bus: Bus,
    seats: seats::Keeper,
}

/// The node and its thread.
pub struct Running {
    /// What the others see.
    pub node: Arc<Node>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    refused: watch::Receiver<Option<String>>,
}

impl ClusterConfig {
    /// Whether the files can be used; they are read again at each connect.
    pub fn check(&self) -> Result<(), String> {
        if let Some(path) = &self.password {
            let password = files::read_secret(path);
            password.map_err(|error| format!("--cluster-password-file: {error}"))?;
        }
        if let Some(path) = &self.authorities {
            let authorities = files::read(path, MAX_AUTHORITIES_BYTES);
            authorities.map_err(|error| format!("--cluster-ca-file: {error}"))?;
        }
        Ok(())
    }

    /// With it persons have the same numbers on all nodes of this cluster, and others elsewhere. The engine may know it: all
    /// that users say to each other passes through there.
    pub fn person_key(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(PERSON)
            .chain_update(self.settings.prefix())
            .finalize()
            .into()
    }
}

impl Node {
    /// A node that has not joined yet.
    ///
    /// # Errors
    /// Never, as long as the names of metrics are valid.
    pub fn new(config: ClusterConfig, process: ProcessId) -> Result<Arc<Self>, ServerError> {
        Ok(Arc::new(Self {
            config,
            first: NodeId::first(process.0),
            engine: OnceLock::new(),
            joined: OnceLock::new(),
            refused: Mutex::default(),
            names: homes::Names::default(),
            forwards: forward::Forwards::new()?,
            bans: bans::Desk::default(),
        }))
    }

    /// What the matchmaker asks.
    pub fn cluster(self: &Arc<Self>) -> Cluster {
        Cluster {
            index: self.clone(),
            bus: self.clone(),
            nodes: self.clone(),
            seats: self.clone(),
        }
    }

    /// What the named rooms ask.
    pub fn rooms(self: &Arc<Self>, memory: Arc<Memory>) -> named::Cluster {
        named::Cluster {
            bus: self.clone(),
            nodes: self.clone(),
            homes: self.clone(),
            memory,
        }
    }

    /// Whether it is one of several now.
    pub fn standing(&self) -> Standing {
        let refused = self.refused.lock();
        if let Some(why) = &*refused.unwrap_or_else(PoisonError::into_inner) {
            return Standing::Refused(why.clone());
        }
        if let Some(why) = self.engine.get().and_then(foreign::why) {
            return Standing::Refused(why);
        }
        let state = (self.joined.get()).map(|joined| *joined.engine.state().borrow());
        match state {
            Some(State {
                index: true,
                bus: true,
            }) => Standing::Up,
            _ => Standing::Down,
        }
    }

    /// Adds to what `/readyz` says.
    pub fn describe(&self, parts: &mut serde_json::Map<String, serde_json::Value>) {
        let standing = self.standing();
        parts.insert("cluster".into(), standing.as_str().into());
        if let Standing::Refused(why) = standing {
            parts.insert("reason".into(), why.into());
        }
        let others = self.other_versions();
        if !others.is_empty() {
            parts.insert("bus".into(), VERSION.into());
            parts.insert("other_versions_of_the_bus".into(), others.into());
        }
    }

    /// Other versions of the bus that are spoken under the same prefix.
    pub fn other_versions(&self) -> Vec<u8> {
        let joined = self.joined.get();
        joined.map_or(Vec::new(), |joined| {
            joined.members.other_versions().into_iter().collect()
        })
    }

    /// Whether new users may be sent here.
    pub fn is_ready(&self) -> bool {
        !self.config.required || self.standing() == Standing::Up
    }

    /// Tells the others that this node takes nobody any more.
    pub fn drain(&self) {
        if let Some(joined) = self.joined.get() {
            joined.members.drain();
        }
    }

    fn refuse(&self, why: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

impl Running {
    /// Begins to join the others. `key_source`: where this node's own key of room tickets has come from.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        node: Arc<Node>,
        context: &Arc<Context>,
        bans: Arc<Bans>,
        key_source: room_key::Source,
    ) -> Result<Self, ServerError> {
        let metrics = ClusterMetrics::new()?;
        metrics.register(context.metrics.registry())?;
        node.forwards.register(context.metrics.registry())?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (refuse, refused) = watch::channel(None);
        let part = Part {
            node: node.clone(),
            context: Arc::downgrade(context),
            bans,
            keys: context.room_keys.clone(),
            key_source,
            metrics,
            refuse,
        };
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = part.run() => {}
                    () = homes::answer(&part.node, &part.context) => {}
                    // A dropped sender means stop too.
                    _ = stopped => {}
                }
                if let Some(joined) = part.node.joined.get() {
                    // Else the others see it in a few seconds.
                    let _ = timeout(LAST_WORD, joined.members.leave()).await;
                }
            });
        };
        let thread = thread::Builder::new().name("cluster".into()).spawn(run)?;
        Ok(Self {
            node,
            stop,
            thread,
            refused,
        })
    }

    /// Ready when this node may not join the others and is nothing without them: why.
    pub async fn refused(&mut self) -> String {
        while self.node.config.required && self.refused.changed().await.is_ok() {
            if let Some(why) = self.refused.borrow_and_update().clone() {
                return why;
            }
        }
        pending().await
    }

    /// Tells the others that this node is no more.
    pub async fn leave(self) {
        let _ = self.stop.send(());
        // It takes as long as `LAST_WORD` at most; a panic is in the log already.
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

/// What the thread works with.
struct Part {
    node: Arc<Node>,
    context: Weak<Context>,
    bans: Arc<Bans>,
    keys: Arc<RoomKeys>,
    key_source: room_key::Source,
    metrics: ClusterMetrics,
    refuse: watch::Sender<Option<String>>,
}

impl Part {
    async fn run(&self) {
        let (config, first) = (&self.node.config, self.node.first);
        let (engine, inbox) = Engine::start(config.settings.clone(), first, self.metrics.clone());
        let _ = self.node.engine.set(engine.clone());
        tokio::select! {
            () = self.join(&engine, inbox) => {}
            () = foreign::refuse(&engine, &self.node, &self.refuse) => {}
        }
    }

    /// Does not return.
    async fn join(&self, engine: &Engine, inbox: Inbox) {
        let (config, first) = (&self.node.config, self.node.first);
        self.agree(engine).await;
        let info = Info::new(key::short_id(self.keys.signing()));
        let (members, changes) = Members::start(engine, first, info);
        // From the first beat on the engine's time is known, by which nodes judge what is too late.
        let mut beats = members.beats();
        if beats.changed().await.is_err() {
            return;
        }
        let index = Index::start(engine, &members, config.gather, told(&self.context));
        let bus = Bus::start(
            engine,
            &members,
            inbox,
            config.flush,
            deliver(&self.context, &self.node),
        );
        let seats = seats::Keeper::new(self.context.clone());
        let joined = Joined {
            seats,
            engine: engine.clone(),
            members,
            index,
            bus,
        };
        // It is set here and nowhere else.
        let _ = self.node.joined.set(joined);
        tracing::info!(node = %first, engine = %config.settings, "joined the other nodes");
        self.node.names.renew_all();
        if let Some(context) = self.context.upgrade() {
            context.matchmaker.index_joined(Instant::now());
        }
        let forgotten = Notify::new();
        tokio::join!(
            self.follow(changes, &forgotten),
            async {
                loop {
                    forgotten.notified().await;
                    self.agree(engine).await;
                }
            },
            self.watch(engine),
            self.keep_bans(engine),
            every(TICK, || {
                if let Some(context) = self.context.upgrade() {
                    let now = Instant::now();
                    context.matchmaker.tick(now);
                    context.named_rooms.tick(now);
                    context.tick_takes(now);
                    context.takes.unkept().into_iter().for_each(keeper::keep);
                }
            })
        );
    }

    /// Does not return before the nodes have one key.
    async fn agree(&self, engine: &Engine) {
        let mut state = engine.state();
        loop {
            if state.wait_for(|state| state.index).await.is_err() {
                return pending().await;
            }
            match key::agree(engine, &self.keys, self.key_source).await {
                Ok(()) => {
                    self.node.refuse(None);
                    return;
                }
                // The engine has gone again; the supervisor says so.
                Err(key::Disagreement::Engine) => sleep(TICK).await,
                Err(key::Disagreement::Other(why)) => {
                    tracing::error!("--cluster: this node cannot join the others: {why}");
                    self.node.refuse(Some(why.clone()));
                    self.refuse.send_replace(Some(why));
                    sleep(REFUSED).await;
                }
            }
        }
    }

    /// `forgotten` is told when the engine has lost its data, and the key with them.
    async fn follow(&self, mut changes: Changes, forgotten: &Notify) {
        while let Some(change) = changes.next().await {
            let Some(context) = self.context.upgrade() else {
                return;
            };
            let now = Instant::now();
            match change {
                Change::Died(node) => {
                    self.node.forwards.died(node);
                    context.matchmaker.node_died(to_core(node), now);
                    context.named_rooms.node_died(to_core(node), now);
                }
                Change::NewLife(_) => {
                    self.node.forwards.begin_life();
                    context.matchmaker.begin_life(now);
                    self.node.names.begin_life();
                    context.named_rooms.begin_life(now);
                }
                Change::Generation => {
                    self.node.names.renew_all();
                    self.node.bans.say_again();
                    forgotten.notify_one();
                }
                Change::Joined(_) | Change::Told(_) => {}
            }
        }
    }

    /// Matches users here while the index is away, and ends rooms with other nodes that have not been reached for too long.
    async fn watch(&self, engine: &Engine) {
        let mut state = engine.state();
        let (mut had_index, mut deaf_since) = (true, None);
        loop {
            let now = *state.borrow_and_update();
            if let (true, false, Some(context)) = (had_index, now.index, self.context.upgrade()) {
                tracing::warn!(
                    "the cluster's engine is away: users are matched with those of this node"
                );
                context.matchmaker.index_down(Instant::now());
            }
            if !had_index && now.index {
                tracing::info!("the cluster's engine is back");
                self.node.names.renew_all();
            }
            had_index = now.index;
            deaf_since = match now.bus {
                true => None,
                false => deaf_since.or_else(|| Some(Instant::now())),
            };
            let over = async {
                match deaf_since {
                    Some(since) => {
                        sleep(self.node.config.hold.saturating_sub(since.elapsed())).await
                    }
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = over => {
                    tracing::warn!("no other node has been reached for {:?}: rooms with their users end", self.node.config.hold);
                    if let Some(context) = self.context.upgrade() {
                        context.matchmaker.bus_lost(Instant::now());
                        context.named_rooms.bus_lost(Instant::now());
                    }
                    // Once, until the bus has been back.
                    if state.wait_for(|state| state.bus).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
