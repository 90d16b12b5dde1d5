//! What happens for each message: counted by the worker it happens on, in cache lines of its own, and added up when it is read.

use std::{
    cell::Cell,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use voicematch_protocol::RelayKind;

use super::{LATENCY_BUCKETS, Metrics, Percentiles, percentiles::Latencies};

thread_local! {
    /// The number of this worker thread; other threads have none.
    static WORKER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Sets the number of this worker thread, which no other thread of the process may have.
pub fn enter_worker(index: usize) {
    WORKER.set(index);
}

/// What one worker counts, alone; the last is that of all other threads.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Hot {
    pub(super) relayed: [AtomicU64; RelayKind::ALL.len()],
    pub(super) relayed_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    latency_nanos: AtomicU64,
}

/// The outbox that has been fullest since the start.
#[derive(Default)]
pub(super) struct HighWater {
    pub(super) messages: AtomicI64,
    pub(super) bytes: AtomicI64,
}

impl Metrics {
    /// Places to count for this many workers.
    pub(super) fn hot(workers: usize) -> Box<[Hot]> {
        (0..=workers).map(|_| Hot::default()).collect()
    }

    #[inline]
    fn add(&self, n: u64, counter: impl Fn(&Hot) -> &AtomicU64) {
        let Some((others, workers)) = self.hot.split_last() else {
            return;
        };
        if let Some(own) = workers.get(WORKER.get()) {
            // Nobody else writes here, so that no instruction has to lock the cache line.
            let counter = counter(own);
            counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
        } else {
            counter(others).fetch_add(n, Relaxed);
        }
    }

    /// Messages handed to a partner's outbox.
    pub fn relayed(&self, kind: RelayKind, messages: u64) {
        self.add(messages, |hot| &hot.relayed[kind.index()]);
    }

    /// Bytes of relayed messages, framing included.
    pub fn relayed_bytes(&self, bytes: usize) {
        self.add(bytes as u64, |hot| &hot.relayed_bytes);
    }

    /// Bytes read from WebSocket connections.
    pub fn received_bytes(&self, bytes: usize) {
        self.add(bytes as u64, |hot| &hot.received_bytes);
    }

    /// Bytes written to WebSocket connections.
    pub fn sent_bytes(&self, bytes: usize) {
        self.add(bytes as u64, |hot| &hot.sent_bytes);
    }

    /// From a frame read to the frame written, for this many messages.
    pub fn relay_latency(&self, latency: Duration, messages: usize) {
        let (seconds, messages) = (latency.as_secs_f64(), messages as u64);
        let bucket = LATENCY_BUCKETS
            .iter()
            .position(|&bound| seconds <= bound)
            .unwrap_or(LATENCY_BUCKETS.len());
        self.add(messages, |hot| &hot.latency[bucket]);
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.add(nanos.saturating_mul(messages), |hot| &hot.latency_nanos);
    }

    /// How full an outbox is that could not be written at once.
    pub fn outbox_depth(&self, messages: usize, bytes: usize) {
        self.high_water
            .messages
            .fetch_max(i64::try_from(messages).unwrap_or(i64::MAX), Relaxed);
        self.high_water
            .bytes
            .fetch_max(i64::try_from(bytes).unwrap_or(i64::MAX), Relaxed);
    }

    /// Messages relayed so far.
    pub fn relayed_total(&self) -> u64 {
        RelayKind::ALL
            .iter()
            .map(|&kind| self.sum(|hot| &hot.relayed[kind.index()]))
            .sum()
    }

    /// How long a relay took inside the server.
    pub fn relay_percentiles(&self) -> Percentiles {
        self.relay_latencies().percentiles()
    }

    pub(super) fn sum(&self, counter: impl Fn(&Hot) -> &AtomicU64) -> u64 {
        self.hot.iter().map(|hot| counter(hot).load(Relaxed)).sum()
    }

    pub(super) fn relay_latencies(&self) -> Latencies {
        let mut total = 0;
        Latencies {
            cumulative: std::array::from_fn(|i| {
                total += self.sum(|hot| &hot.latency[i]);
                total
            }),
            seconds: self.sum(|hot| &hot.latency_nanos) as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_percentiles_come_from_what_every_worker_counted() {
        let metrics = Metrics::new(2, &[]).expect("names are unique");
        for worker in 0..2 {
            enter_worker(worker);
            metrics.relay_latency(Duration::from_micros(15), 99);
            metrics.relay_latency(Duration::from_millis(150), 1);
        }
        let found = metrics.relay_percentiles();
        assert_eq!(found.count, 200);
        assert!((1e-5..=2e-5).contains(&found.quantiles[0]), "{found:?}");
        assert!((1e-5..=2e-5).contains(&found.quantiles[3]), "{found:?}");
        metrics.relay_latency(Duration::from_secs(1000), 200);
        assert!(metrics.relay_percentiles().quantiles[3] >= 100.0);
    }

    #[test]
    fn threads_that_are_no_workers_count_together() {
        let metrics = Metrics::new(1, &[]).expect("names are unique");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100_000).for_each(|_| metrics.relayed(RelayKind::Message, 1)));
            }
        });
        assert_eq!(metrics.relayed_total(), 400_000);
    }
}
