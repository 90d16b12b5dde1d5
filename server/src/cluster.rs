//! Several nodes as one service (`--cluster`): this node joins the others over Redis or Valkey, and tells the matchmaker
//! what it hears of them. All of it runs on one thread of its own. Until it has joined, and while the engine is away,
//! users are matched with those who are here.

mod bans;
mod blocks;
mod desk;
mod foreign;
pub mod forward;
mod homes;
mod joined;
mod key;
mod nodes;
mod running;
mod seats;
mod strangers;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use prometheus::Registry;
use sha2::{Digest, Sha256};
use voicematch_cluster::{
    Bus, ClusterMetrics, Engine, Index, Members, NodeId, Settings, State, frames::VERSION,
};
use voicematch_core::{matchmaker::Cluster, memory::Memory, process::ProcessId, room::named};

use crate::{admission::bans::MAX_BANS, files};
use desk::Desk;
pub use nodes::{InPool, NodeView, PoolOfAll};
pub use running::Running;

/// The most bytes of the file of authorities: that of a whole system has 250 KB.
const MAX_AUTHORITIES_BYTES: u64 = 4 << 20;

/// What is hashed for the numbers of persons begins with this.
const PERSON: &[u8] = b"voicematch person 1";

/// How this node is one of several.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Where the engine is.
    pub settings: Settings,
    /// The files that the settings name.
    pub password: Option<PathBuf>,
    pub sentinel_password: Option<PathBuf>,
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
    /// The engine is away, or was never there, or refuses to write, and why: users are matched with those who are here.
    Down(Option<String>),
    /// The other nodes cannot be joined, and why.
    Refused(String),
}

impl Standing {
    /// As `/readyz` says it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down(_) => "down",
            Self::Refused(_) => "refused",
        }
    }

    /// Why it is alone, where there is something to do about it.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Down(why) => why.as_deref(),
            Self::Refused(why) => Some(why),
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
    bans: Desk<bans::Said>,
    blocks: Desk<blocks::Made>,
    metrics: ClusterMetrics,
}

/// What there is once the node has joined.
struct Joined {
    engine: Engine,
    members: Members,
    index: Index,
    bus: Bus,
    seats: seats::Keeper,
}

impl ClusterConfig {
    /// Whether the files can be used; they are read again at each connect.
    pub fn check(&self) -> Result<(), String> {
        if let Some(path) = &self.password {
            let password = files::read_secret(path);
            password.map_err(|error| format!("--cluster-password-file: {error}"))?;
        }
        if let Some(path) = &self.sentinel_password {
            let password = files::read_secret(path);
            password.map_err(|error| format!("--cluster-sentinel-password-file: {error}"))?;
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
    /// If the registry has metrics of these names.
    pub fn new(
        config: ClusterConfig,
        process: ProcessId,
        registry: &Registry,
    ) -> prometheus::Result<Arc<Self>> {
        let metrics = ClusterMetrics::new()?;
        metrics.register(registry)?;
        Ok(Arc::new(Self {
            config,
            first: NodeId::first(process.0),
            engine: OnceLock::new(),
            joined: OnceLock::new(),
            refused: Mutex::default(),
            names: homes::Names::default(),
            forwards: forward::Forwards::new(registry)?,
            bans: Desk::new(MAX_BANS),
            blocks: Desk::new(blocks::WAITING),
            metrics,
        }))
    }

    /// What the matchmaker asks.
    pub fn cluster(self: &Arc<Self>) -> Cluster {
        Cluster {
            index: self.clone(),
            bus: self.clone(),
            nodes: self.clone(),
            seats: self.clone(),
            blocks: self.clone(),
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
            _ => Standing::Down(self.engine.get().and_then(Engine::why_refused)),
        }
    }

    /// Adds to what `/readyz` says.
    pub fn describe(&self, parts: &mut serde_json::Map<String, serde_json::Value>) {
        let standing = self.standing();
        parts.insert("cluster".into(), standing.as_str().into());
        if let Some(why) = standing.why() {
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
