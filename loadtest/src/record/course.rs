//! The course of a run: windows of time, and what the two sides used.

use serde::{Deserialize, Serialize};

/// The course of a run, in windows of one second that are joined as they age.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Upper bounds of the buckets of [`Window::heat`], in milliseconds; the last window bucket is beyond
    /// the last bound.
    pub heat_bounds_ms: Vec<f64>,
    /// In order of time.
    pub windows: Vec<Window>,
}

/// What happened in one stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its begin.
    pub start_ms: f64,
    /// Its length.
    pub length_ms: f64,
    /// Connected users at its end.
    pub connected: u64,
    /// Users in search of a partner at its end.
    pub searching: u64,
    /// Users in rooms at its end.
    pub in_rooms: u64,
    /// Users who set out to connect.
    pub attempts: u64,
    /// Users who got ready to act.
    pub connects: u64,
    /// Users who got a partner.
    pub matches: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Calls answered as expected; in records of before, 0.
    #[serde(default)]
    pub answered: u64,
    /// Errors.
    pub errors: u64,
    /// From the planned start to being ready.
    pub connect: Quantiles,
    /// From asking for a partner to having one.
    pub matching: Quantiles,
    /// From the moment due to the receipt.
    pub message: Quantiles,
    /// From the moment that a call was due to its answer, all calls together; in records of before, none.
    #[serde(default)]
    pub call: Quantiles,
    /// How late the generator itself was.
    pub own_lateness: Quantiles,
    /// Messages by latency, in the buckets of [`Series::heat_bounds_ms`]; empty without any.
    pub heat: Vec<u64>,
    /// The server's CPU, in percent of one core.
    pub server_cpu_percent: Option<f64>,
    /// The server's resident memory.
    pub server_rss_bytes: Option<u64>,
    /// The server's open files.
    pub server_fds: Option<u64>,
    /// The generator's CPU, in percent of one core.
    pub generator_cpu_percent: f64,
    /// The generator's resident memory.
    pub generator_rss_bytes: u64,
}

/// A few quantiles, in milliseconds; `None` for a window without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50_ms: Option<f64>,
    /// The 95th percentile.
    pub p95_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// The largest.
    pub max_ms: Option<f64>,
}

/// What the load generator used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Threads that played users.
    pub workers: u64,
    /// CPU time of the process, in seconds.
    pub cpu_seconds: f64,
    /// The same, in percent of one core over the run.
    pub cpu_percent: f64,
    /// What the busiest thread used of its core, in percent.
    pub busiest_worker_percent: f64,
    /// The longest time that it did not run at all: stopped, or starved of CPU.
    #[serde(default)]
    pub longest_pause_ms: f64,
    /// The largest resident memory.
    pub rss_peak_bytes: u64,
    /// Open files at the most, and as many as there may be.
    pub fds: Option<[u64; 2]>,
}

/// What the server used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Times that its metrics were read.
    pub readings: u64,
    /// CPU time between the first and the last reading, in seconds.
    pub cpu_seconds: f64,
    /// The same, in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory at the first reading.
    pub rss_first_bytes: u64,
    /// At the last.
    pub rss_last_bytes: u64,
    /// The largest.
    pub rss_peak_bytes: u64,
    /// The most open files.
    pub fds_peak: u64,
}
