//! The metrics as Prometheus text and as JSON.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};
use serde_json::{Value, json};
use tokio::runtime::RuntimeMetrics;
use voicematch_protocol::RelayKind;

use super::{LATENCY_BUCKETS, Metrics, process};
use crate::log;

/// A label's name and value.
type Label = (&'static str, String);

impl Metrics {
    /// Prometheus text, format 0.0.4. `workers`: the runtime of each worker, in order.
    pub fn text(&self, workers: &[RuntimeMetrics]) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.gather(workers))
    }

    /// The same as JSON: name to value, or to an object from label value to value; a histogram is its
    /// count, its sum, and its cumulative buckets by upper bound.
    pub fn json(&self, workers: &[RuntimeMetrics]) -> Value {
        let families = self.gather(workers);
        families
            .iter()
            .map(|family| (family.name().to_owned(), family_json(family)))
            .collect()
    }

    fn gather(&self, workers: &[RuntimeMetrics]) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        families.extend(self.session_families());
        families.extend(self.message_families());
        families.extend(runtime_families(workers));
        families.extend(process_families());
        families.extend(allocator_families());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }

    fn session_families(&self) -> [MetricFamily; 3] {
        let waiting = self.waiting_users();
        let in_room = 2 * self.rooms_active.get();
        let idle = (self.sessions_open.get() - waiting - in_room).max(0);
        let state = |name: &str, value: i64| (vec![("state", name.to_owned())], value as f64);
        [
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

    fn message_families(&self) -> [MetricFamily; 5] {
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
            self.relay_histogram(),
        ]
    }

    fn relay_histogram(&self) -> MetricFamily {
        let cumulative = self.cumulative_latency();
        let bucket = |(&bound, &count): (&f64, &u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_sample_count(cumulative[LATENCY_BUCKETS.len()]);
        histogram.set_sample_sum(self.sum(|hot| &hot.latency_nanos) as f64 / 1e9);
        histogram.set_bucket(
            LATENCY_BUCKETS
                .iter()
                .zip(&cumulative)
                .map(bucket)
                .collect(),
        );
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        family(
            "relay_duration_seconds",
            "From a message read to the message written to its receiver's socket.",
            MetricType::HISTOGRAM,
            vec![metric],
        )
    }
}

fn runtime_families(workers: &[RuntimeMetrics]) -> [MetricFamily; 3] {
    let each = |value: &dyn Fn(&RuntimeMetrics) -> f64| {
        let sample = |(i, worker)| (vec![("worker", format!("{i}"))], value(worker));
        workers.iter().enumerate().map(sample).collect::<Vec<_>>()
    };
    [
        counters(
            "runtime_worker_busy_seconds_total",
            "Time each worker thread spent running tasks rather than waiting.",
            each(&|worker| worker.worker_total_busy_duration(0).as_secs_f64()),
        ),
        gauges(
            "runtime_tasks_alive",
            "Tasks alive on each worker thread: about one a connection.",
            each(&|worker| worker.num_alive_tasks() as f64),
        ),
        gauge(
            "runtime_workers",
            "Worker threads that serve connections.",
            workers.len() as f64,
        ),
    ]
}

fn process_families() -> Vec<MetricFamily> {
    let Some(now) = process::Usage::read() else {
        return Vec::new();
    };
    vec![
        counters(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            vec![(vec![], now.cpu_seconds)],
        ),
        counters(
            "log_lines_dropped_total",
            "Log lines that were not written: the reader was too slow, or the write failed.",
            vec![(vec![], log::lost_lines() as f64)],
        ),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            now.resident_bytes as f64,
        ),
        gauge(
            "process_open_fds",
            "Number of open file descriptors.",
            now.open_fds as f64,
        ),
        gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            now.max_fds as f64,
        ),
        gauge(
            "process_threads",
            "Number of OS threads in the process.",
            now.threads as f64,
        ),
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            now.start_time_seconds,
        ),
    ]
}

fn allocator_families() -> Vec<MetricFamily> {
    use tikv_jemalloc_ctl::{epoch, stats};
    // The allocator's numbers stand still between two advances of its epoch.
    if epoch::advance().is_err() {
        return Vec::new();
    }
    let read = [
        ("allocated", stats::allocated::read()),
        ("active", stats::active::read()),
        ("metadata", stats::metadata::read()),
        ("resident", stats::resident::read()),
        ("retained", stats::retained::read()),
    ];
    let samples = read.into_iter().filter_map(|(kind, bytes)| {
        bytes
            .ok()
            .map(|bytes| (vec![("kind", kind.to_owned())], bytes as f64))
    });
    vec![gauges(
        "allocator_bytes",
        "What jemalloc holds, by kind (see its stats.*).",
        samples.collect(),
    )]
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    gauges(name, help, vec![(vec![], value)])
}

fn gauges(name: &str, help: &str, samples: Vec<(Vec<Label>, f64)>) -> MetricFamily {
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

fn counters(name: &str, help: &str, samples: Vec<(Vec<Label>, f64)>) -> MetricFamily {
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

fn family_json(family: &MetricFamily) -> Value {
    let one = |metric: &Metric| match family.get_field_type() {
        MetricType::COUNTER => json!(metric.get_counter().get_value()),
        MetricType::GAUGE => json!(metric.get_gauge().get_value()),
        _ => {
            let histogram = metric.get_histogram();
            let buckets: BTreeMap<String, u64> = histogram
                .get_bucket()
                .iter()
                .map(|bucket| (bucket.upper_bound().to_string(), bucket.cumulative_count()))
                .collect();
            json!({
                "count": histogram.get_sample_count(),
                "sum": histogram.get_sample_sum(),
                "buckets": buckets,
            })
        }
    };
    match family.get_metric() {
        [metric] if metric.get_label().is_empty() => one(metric),
        metrics => metrics
            .iter()
            .map(|metric| {
                let label = metric.get_label().first().map_or("", |label| label.value());
                (label.to_owned(), one(metric))
            })
            .collect(),
    }
}
