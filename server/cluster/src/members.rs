//! What the task that beats knows of the other nodes.

mod beat;
mod count;
mod versions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use crate::engine::{Call, Engine, lock};
use crate::id::NodeId;
use crate::nodes::{Change, Info, Nodes};
use beat::{beat, bury};
use count::count_nodes;
use versions::Versions;

/// Dead lives that a search is told of: those that may still have tickets. Older ones have been swept.
const TOLD: usize = 256;

/// Nodes under suspicion at once; of others tickets are found, and claims of them fail.
const SUSPECTS: usize = 256;

/// Changes that wait to be taken.
const CHANGES: usize = 4_096;

/// Which nodes live, die and are suspected. Clones are the same.
#[derive(Clone, Debug)]
pub struct Members {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    nodes: Mutex<Nodes>,
    /// With the time since when.
    suspects: Mutex<BTreeMap<NodeId, Instant>>,
    info: Mutex<Info>,
    versions: Versions,
    /// Counts good beats and new lives.
    beats: watch::Sender<u64>,
    /// Counts deaths.
    deaths: watch::Sender<u64>,
    /// Tickets that were posted since then are to look again.
    again: Mutex<Option<Instant>>,
    look_again: Notify,
    began: Instant,
    now: Notify,
}

/// What has changed, in order. Bounded: who does not take them for thousands of changes loses the newest.
#[derive(Debug)]
pub struct Changes(mpsc::Receiver<Change>);

impl Changes {
    /// The next one; `None` once the members have been dropped.
    pub async fn next(&mut self) -> Option<Change> {
        self.0.recv().await
    }
}

impl Members {
    /// Begins to beat, for the life that the engine listens for.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(engine: &Engine, me: NodeId, info: Info) -> (Self, Changes) {
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            nodes: Mutex::new(Nodes::new(me)),
            suspects: Mutex::default(),
            info: Mutex::new(info),
            versions: Versions::default(),
            beats: watch::Sender::new(0),
            deaths: watch::Sender::new(0),
            again: Mutex::default(),
            look_again: Notify::new(),
            began: Instant::now(),
            now: Notify::new(),
        });
        engine.metrics().lives.with_label_values(&["start"]).inc();
        let (tell, changes) = mpsc::channel(CHANGES);
        let task = engine.spawn("beat", beat(Arc::clone(&shared), tell));
        (
            Self {
                shared,
                _task: Arc::new(Task(task)),
            },
            Changes(changes),
        )
    }

    /// The life that this node lives now.
    #[must_use]
    pub fn me(&self) -> NodeId {
        lock(&self.shared.nodes).me()
    }

    /// What others say may be handled: a beat was good in the last 2.5 s.
    #[must_use]
    pub fn lease(&self) -> bool {
        lock(&self.shared.nodes).lease(Instant::now())
    }

    /// Microseconds of the engine's clock, if it has been asked.
    #[must_use]
    pub fn engine_time(&self) -> Option<i64> {
        lock(&self.shared.nodes).engine_time(Instant::now())
    }

    /// The others that live, with what they say of themselves: `None` is no node of this program.
    #[must_use]
    pub fn others(&self) -> Vec<(NodeId, Option<Info>)> {
        lock(&self.shared.nodes)
            .others()
            .map(|(node, info)| (node, info.cloned()))
            .collect()
    }

    /// Dead lives, the newest 256.
    #[must_use]
    pub fn dead(&self) -> Vec<NodeId> {
        lock(&self.shared.nodes)
            .dead()
            .iter()
            .rev()
            .take(TOLD)
            .copied()
            .collect()
    }

    /// Whether this life has ended.
    #[must_use]
    pub fn is_dead(&self, node: NodeId) -> bool {
        lock(&self.shared.nodes).dead().contains(&node)
    }

    /// Nodes whose tickets are passed over, until something is heard of them.
    #[must_use]
    pub fn suspects(&self) -> Vec<NodeId> {
        lock(&self.shared.suspects).keys().copied().collect()
    }

    /// The life that this node lives now, and the number of its last beat.
    pub(crate) fn me_and_beat(&self) -> (NodeId, u64) {
        let nodes = lock(&self.shared.nodes);
        (nodes.me(), nodes.beats())
    }

    /// Whether a beat that was sent since then was good.
    pub(crate) fn beaten_since(&self, time: Instant) -> bool {
        lock(&self.shared.nodes).beaten_since(time)
    }

    /// Whether a node has an entry in the engine, or was met.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        lock(&self.shared.nodes).knows(node)
    }

    /// Watches a node with which this one has something to do: if it has no entry, and none comes, it is dead.
    pub(crate) fn meet(&self, node: NodeId) {
        lock(&self.shared.nodes).meet(node);
    }

    /// Passes over a node's tickets.
    pub fn suspect(&self, node: NodeId) {
        if self.is_dead(node) {
            return;
        }
        {
            let mut suspects = lock(&self.shared.suspects);
            if suspects.len() < SUSPECTS {
                suspects.entry(node).or_insert_with(Instant::now);
            }
        }
        count_nodes(&self.shared);
    }

    /// Something was heard of a node. Tickets that were posted while it was suspected look again.
    pub fn trust(&self, node: NodeId) {
        let since = lock(&self.shared.suspects).remove(&node);
        if let Some(since) = since {
            count_nodes(&self.shared);
            self.shared.look_again(since);
        }
    }

    /// Whether this node does what one has to do for all.
    #[must_use]
    pub fn smallest(&self) -> bool {
        lock(&self.shared.nodes).smallest()
    }

    /// Changes with each good beat and each new life.
    #[must_use]
    pub fn beats(&self) -> watch::Receiver<u64> {
        self.shared.beats.subscribe()
    }

    /// Changes with each death.
    #[must_use]
    pub fn deaths(&self) -> watch::Receiver<u64> {
        self.shared.deaths.subscribe()
    }

    /// Tickets that were posted after this time are to look again: a suspect is trusted, the engine's data were lost, or its
    /// clock was set.
    /// For one who asks.
    pub(crate) async fn look_again(&self) -> Instant {
        loop {
            let again = lock(&self.shared.again).take();
            if let Some(since) = again {
                return since;
            }
            self.shared.look_again.notified().await;
        }
    }

    /// Beats at once: there is news.
    pub fn beat_now(&self) {
        self.shared.now.notify_one();
    }

    /// Tells the others that this node takes nobody any more.
    pub fn drain(&self) {
        lock(&self.shared.info).draining = true;
        self.beat_now();
    }

    /// Buries itself, last, so that the others need not wait for its death.
    ///
    /// # Errors
    /// If the engine does not answer: then the others see that the beat stands still.
    pub async fn leave(&self) -> Call<bool> {
        let info = lock(&self.shared.info).to_string();
        let will = lock(&self.shared.nodes).last_will(Instant::now(), &info);
        let Some(will) = will else { return Ok(false) };
        self._task.0.abort();
        let buried = bury(&self.shared, &will).await?;
        Ok(buried)
    }
}

impl Shared {
    fn look_again(&self, since: Instant) {
        let mut again = lock(&self.again);
        *again = Some(again.map_or(since, |earlier| earlier.min(since)));
        self.look_again.notify_one();
    }
}
