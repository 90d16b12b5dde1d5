//! What all of these tests use.

use std::time::{Duration, Instant};

use prometheus::Registry;
use voicematch_cluster::{ClusterMetrics, Engine, Inbox, NodeId, Settings, State};

/// Longer than anything takes, on a machine that does other things, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One node's connection, and what it counts.
pub(crate) struct Connected {
    pub(crate) engine: Engine,
    pub(crate) inbox: Inbox,
    pub(crate) registry: Registry,
    pub(crate) node: NodeId,
}

pub(crate) const UP: State = State {
    index: true,
    bus: true,
};

pub(crate) fn node(number: u8) -> NodeId {
    NodeId::first([number; 6])
}

impl Connected {
    pub(crate) fn new(settings: Settings, number: u8) -> Self {
        let metrics = ClusterMetrics::new().expect("metrics");
        let registry = Registry::new();
        metrics.register(&registry).expect("registered");
        let node = node(number);
        let (engine, inbox) = Engine::start(settings, node, metrics);
        Self {
            engine,
            inbox,
            registry,
            node,
        }
    }

    /// One that is up.
    pub(crate) async fn up(settings: Settings) -> Self {
        let connected = Self::new(settings, 1);
        connected.becomes(UP).await;
        connected
    }

    pub(crate) async fn becomes(&self, state: State) {
        self.reaches("another state", |now| now == state).await;
    }

    pub(crate) async fn reaches(&self, what: &str, so: impl Fn(State) -> bool) {
        let mut watch = self.engine.state();
        let waited = tokio::time::timeout(PATIENCE, watch.wait_for(|state| so(*state))).await;
        assert!(
            waited.is_ok_and(|waited| waited.is_ok()),
            "never {what}: {:?}",
            *self.engine.state().borrow()
        );
    }

    /// The sum of a counter's or gauge's values whose labels contain this one.
    pub(crate) fn count(&self, name: &str, label: &str) -> f64 {
        count(&self.registry, name, label)
    }
}

pub(crate) fn count(registry: &Registry, name: &str, label: &str) -> f64 {
    let families = registry.gather();
    let metrics = families
        .iter()
        .filter(|family| family.name() == name)
        .flat_map(prometheus::proto::MetricFamily::get_metric);
    let labelled = metrics.filter(|metric| {
        label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
    });
    labelled
        .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
        .sum()
}
