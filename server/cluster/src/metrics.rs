//! What the cluster counts.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Seconds, from a call of an idle engine nearby to one that has been given up.
const SECONDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
];

/// Seconds of messages between nodes, up to those that wait while the engine is away.
const MESSAGE_SECONDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// The metrics of a cluster's node. A clone counts in the same place.
#[derive(Clone, Debug)]
pub struct ClusterMetrics {
    pub(crate) state: IntGaugeVec,
    pub(crate) nodes: IntGaugeVec,
    pub(crate) call_seconds: HistogramVec,
    pub(crate) calls: IntCounterVec,
    pub(crate) reconnects: IntCounterVec,
    pub(crate) lives: IntCounterVec,
    pub(crate) put_back: IntCounterVec,
    pub(crate) bus_seconds: Histogram,
    pub(crate) message_seconds: Histogram,
    pub(crate) gaps: IntCounterVec,
    pub(crate) dropped: IntCounterVec,
    pub(crate) unknown_frames: IntCounter,
    pub(crate) waiting: IntGauge,
}

/// What calls are of: the scripts, and plain commands.
const CALLS: [&str; 13] = [
    "seek", "beat", "bury", "room", "keep", "bans", "blocks", "publish", "probe", "forget", "get",
    "look", "role",
];

/// What becomes of a call.
const RESULTS: [&str; 7] = [
    "ok", "silent", "down", "refused", "closed", "noscript", "stale",
];

impl ClusterMetrics {
    /// # Errors
    /// Never, as long as the names are valid.
    pub fn new() -> prometheus::Result<Self> {
        let seconds = |name, help| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let call_seconds = seconds(
            "cluster_call_seconds",
            "Time until the engine answers a call.",
        );
        let calls = Opts::new("cluster_calls_total", "Calls of the engine.");
        let calls = IntCounterVec::new(calls, &["script", "result"])?;
        for script in CALLS {
            for result in RESULTS {
                calls.with_label_values(&[script, result]);
            }
        }
        let bus_seconds = seconds(
            "bus_seconds",
            "Time that a probe takes through the engine and back to its sender.",
        );
        let message_seconds = HistogramOpts::new(
            "bus_message_seconds",
            "Time from one node's taking a message, or a claim, to its delivery at another node: of the oldest in each batch.",
        )
        .buckets(MESSAGE_SECONDS.to_vec());
        Ok(Self {
            state: gauges(
                "cluster_state",
                "Whether the part of the engine can be used.",
                ("part", &["index", "bus"]),
            )?,
            nodes: gauges(
                "cluster_nodes",
                "Other nodes that this one knows.",
                ("state", &["alive", "dead", "strange", "suspect"]),
            )?,
            call_seconds: HistogramVec::new(call_seconds, &["script"])?,
            calls,
            reconnects: counters(
                "cluster_reconnects_total",
                "Connections to the engine that were given up.",
                (
                    "reason",
                    &["closed", "silent", "role", "life", "timeout", "refused"],
                ),
            )?,
            lives: counters(
                "cluster_lives_total",
                "Lives that this process has begun.",
                ("reason", &["start", "fenced"]),
            )?,
            put_back: counters(
                "match_put_back_total",
                "Tickets that were posted again.",
                ("reason", &["missing", "unknown", "engine", "nodes"]),
            )?,
            bus_seconds: Histogram::with_opts(bus_seconds)?,
            message_seconds: Histogram::with_opts(message_seconds)?,
            gaps: counters(
                "bus_gaps_total",
                "Gaps in what other nodes sent.",
                ("result", &["repaired", "lost"]),
            )?,
            dropped: counters(
                "bus_dropped_total",
                "What did not get through between nodes.",
                (
                    "reason",
                    &[
                        "full",
                        "ended",
                        "packets",
                        "inbox",
                        "changes",
                        "version",
                        "garbage",
                        "twice",
                        "life",
                        "dead",
                        "own",
                        "links",
                        "strangers",
                    ],
                ),
            )?,
            unknown_frames: IntCounter::new(
                "bus_unknown_frames_total",
                "Frames of a kind that this version does not know.",
            )?,
            waiting: IntGauge::new(
                "cluster_waiting",
                "Tickets of this node that wait in the engine.",
            )?,
        })
    }

    /// # Errors
    /// If a name is taken.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 13] = [
            Box::new(self.state.clone()),
            Box::new(self.nodes.clone()),
            Box::new(self.call_seconds.clone()),
            Box::new(self.calls.clone()),
            Box::new(self.reconnects.clone()),
            Box::new(self.lives.clone()),
            Box::new(self.put_back.clone()),
            Box::new(self.bus_seconds.clone()),
            Box::new(self.message_seconds.clone()),
            Box::new(self.gaps.clone()),
            Box::new(self.dropped.clone()),
            Box::new(self.unknown_frames.clone()),
            Box::new(self.waiting.clone()),
        ];
        all.into_iter()
            .try_for_each(|collector| registry.register(collector))
    }
}

/// A label and its values. Each series is there from the start, at 0: Prometheus sees no increase in a series that
/// begins with 1.
type Label<'a> = (&'a str, &'a [&'a str]);

fn counters(
    name: &str,
    help: &str,
    (label, values): Label<'_>,
) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    for value in values {
        counters.with_label_values(&[value]);
    }
    Ok(counters)
}

fn gauges(name: &str, help: &str, (label, values): Label<'_>) -> prometheus::Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    for value in values {
        gauges.with_label_values(&[value]);
    }
    Ok(gauges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_happened_is_told_as_0() {
        let registry = Registry::new();
        let metrics = ClusterMetrics::new().expect("the names are valid");
        metrics.register(&registry).expect("it is empty");
        let series = |name: &str| {
            let all = registry.gather();
            let family = all.iter().find(|family| family.name() == name);
            family.map_or(0, |family| family.get_metric().len())
        };
        assert_eq!(series("cluster_calls_total"), CALLS.len() * RESULTS.len());
        for (name, count) in [
            ("cluster_state", 2),
            ("cluster_nodes", 4),
            ("cluster_reconnects_total", 6),
            ("cluster_lives_total", 2),
            ("match_put_back_total", 4),
            ("bus_gaps_total", 2),
            ("bus_dropped_total", 13),
        ] {
            assert_eq!(series(name), count, "{name}");
        }
    }
}
