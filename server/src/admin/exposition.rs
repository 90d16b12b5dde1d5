//! The metrics as Prometheus text and as JSON: those of the core, and those of the process.

use std::collections::BTreeMap;

use prometheus::{
    TextEncoder,
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};
use serde_json::{Value, json};
use tokio::runtime::RuntimeMetrics;
use voicematch_core::metrics::{
    Metrics,
    families::{counters, gauge, gauges},
};

use super::process;
use crate::log;

/// Prometheus text, format 0.0.4. `workers`: the runtime of each worker, in order.
pub(super) fn text(
    metrics: &Metrics,
    workers: &[RuntimeMetrics],
) -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&gather(metrics, workers))
}

/// The same as JSON: name to value, or to an object from label values (with commas between) to value; a histogram is its count, its sum, and
/// its cumulative buckets by upper bound.
pub(super) fn json(metrics: &Metrics, workers: &[RuntimeMetrics]) -> Value {
    let families = gather(metrics, workers);
    families
        .iter()
        .map(|family| (family.name().to_owned(), family_json(family)))
        .collect()
}

fn gather(metrics: &Metrics, workers: &[RuntimeMetrics]) -> Vec<MetricFamily> {
    let mut families = metrics.gather();
    families.extend(runtime_families(workers));
    families.extend(process_families());
    families.extend(allocator_families());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    families
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
        gauges(
            "voicematch_build_info",
            "Always 1; which version this is.",
            vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
        ),
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
                let values = metric.get_label().iter().map(LabelPair::value);
                (values.collect::<Vec<_>>().join(","), one(metric))
            })
            .collect(),
    }
}
