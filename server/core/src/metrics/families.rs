//! The metrics as families of Prometheus.

use std::sync::atomic::Ordering::Relaxed;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use voicematch_protocol::RelayKind;

use super::{LATENCY_BUCKETS, Metrics, percentiles::Latencies};

/// A label's name and value.
pub type Label = (&'static str, String);

impl Metrics {
    /// Every family of metrics.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        families.extend(self.session_families());
        families.extend(self.message_families());
        families
    }

    fn session_families(&self) -> [MetricFamily; 4] {
        let waiting = self.waiting_users();
        let in_room = 2 * self.rooms_active.get() + self.named_members.get();
        let sessions = self.sessions_open.get();
        let idle = (sessions - waiting - in_room).max(0);
        let state = |name: &str, value: i64| (vec![("state", name.to_owned())], value as f64);
        [
            gauge(
                "websocket_active_connections",
                "Sessions that are there, whatever carries them (a WebSocket, an event stream, polls, or nothing for a moment), and sockets of /transcribe.",
                (sessions + self.transcribe_sockets.get()) as f64,
            ),
            gauges(
                "sessions",
                "Sessions by state.",
                vec![
                    state("idle", idle),
                    state("waiting", waiting),
                    state("in_room", in_room),
                ],
            ),
            gauge(
                "outbox_high_water_messages",
                "The most messages that any outbox has held since the start.",
                self.high_water.messages.load(Relaxed) as f64,
            ),
            gauge(
                "outbox_high_water_bytes",
                "The most bytes that any outbox has held since the start.",
                self.high_water.bytes.load(Relaxed) as f64,
            ),
        ]
    }

    fn message_families(&self) -> [MetricFamily; 6] {
        let relayed = RelayKind::ALL.iter().map(|&kind| {
            let label = vec![("type", kind.as_str().to_owned())];
            (label, self.sum(|hot| &hot.relayed[kind.index()]) as f64)
        });
        let total = |name, help, value: u64| counters(name, help, vec![(vec![], value as f64)]);
        [
            counters(
                "messages_relayed_total",
                "Messages relayed, by type.",
                relayed.collect(),
            ),
            total(
                "relayed_bytes_total",
                "Bytes of relayed messages, framing included.",
                self.sum(|hot| &hot.relayed_bytes),
            ),
            total(
                "network_receive_bytes_total",
                "Bytes read from WebSocket connections.",
                self.sum(|hot| &hot.received_bytes),
            ),
            total(
                "network_transmit_bytes_total",
                "Bytes written to WebSocket connections.",
                self.sum(|hot| &hot.sent_bytes),
            ),
            histogram(
                "relay_duration_seconds",
                "From a message read to the message written to its receiver's socket, from another node by way of the engine.",
                &self.relay_latencies(),
            ),
            histogram(
                "matchmaking_duration_seconds",
                "Time taken to find a match.",
                &self.match_waits(),
            ),
        ]
    }
}

/// A histogram without labels.
fn histogram(name: &str, help: &str, latencies: &Latencies) -> MetricFamily {
    let Latencies {
        cumulative,
        seconds,
    } = latencies;
    let bucket = |(&bound, &count): (&f64, &u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let buckets = LATENCY_BUCKETS.iter().zip(cumulative).map(bucket);
    let mut histogram = Histogram::default();
    histogram.set_sample_count(cumulative[LATENCY_BUCKETS.len()]);
    histogram.set_sample_sum(*seconds);
    histogram.set_bucket(buckets.collect());
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family(name, help, MetricType::HISTOGRAM, vec![metric])
}

/// A gauge without labels.
pub fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    gauges(name, help, vec![(vec![], value)])
}

/// A gauge by label.
pub fn gauges(name: &str, help: &str, samples: Vec<(Vec<Label>, f64)>) -> MetricFamily {
    let metric = |(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        metric
    };
    family(
        name,
        help,
        MetricType::GAUGE,
        samples.into_iter().map(metric).collect(),
    )
}

/// A counter by label.
pub fn counters(name: &str, help: &str, samples: Vec<(Vec<Label>, f64)>) -> MetricFamily {
    let metric = |(labels, value)| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        metric
    };
    family(
        name,
        help,
        MetricType::COUNTER,
        samples.into_iter().map(metric).collect(),
    )
}

fn labelled(labels: Vec<Label>) -> Metric {
    let pair = |(name, value): Label| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    };
    let mut metric = Metric::default();
    metric.set_label(labels.into_iter().map(pair).collect());
    metric
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
