//! The course of a run: windows of time, and what the two sides used.

use serde::{Deserialize, Serialize};

use super::Record;

/// A window is steady from this fraction of the peak of connected users.
const STEADY: f64 = 0.9;

/// The course of a run, in windows of one second that are joined as they age.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Upper bounds of the buckets of [`Window::heat`], in milliseconds; the last window bucket is beyond
    /// the last bound.
    pub heat_bounds_ms: Vec<f64>,
    /// In order of time.
    pub windows: Vec<Window>,
}

impl Record {
    /// The windows in which nearly all users were connected: after the ramp, before they leave. The first one is
    /// left out, because the ramp still shows in it.
    pub fn steady_windows(&self) -> impl Iterator<Item = &Window> + Clone {
        let windows = &self.series.windows;
        let peak = windows.iter().map(|window| window.connected).max();
        let full = peak.unwrap_or(0) as f64 * STEADY;
        windows
            .iter()
            .filter(move |window| window.connected > 0 && window.connected as f64 >= full)
            .skip(1)
    }
}

/// One stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub start_ms: f64,
    pub length_ms: f64,
    /// Connected users at its end.
    pub connected: u64,
    /// Users searching for a partner at its end.
    pub searching: u64,
    /// Users in rooms at its end.
    pub in_rooms: u64,
    /// Connections that users tried to open.
    pub attempts: u64,
    /// Connections that became ready.
    pub connects: u64,
    /// Matched users.
    pub matches: u64,
    pub sent: u64,
    pub delivered: u64,
    /// Calls answered as expected; 0 in an older record.
    #[serde(default)]
    pub answered: u64,
    /// Sessions that went on over another connection; what they had missed came then.
    #[serde(default)]
    pub resumed: u64,
    pub errors: u64,
    /// From the planned start until the connection is ready.
    pub connect: Quantiles,
    /// From the search to the match.
    pub matching: Quantiles,
    /// From the moment due until the receipt.
    pub message: Quantiles,
    /// The same of messages within one server, and of those between two; of a run over several servers.
    #[serde(default, skip_serializing_if = "Quantiles::is_empty")]
    pub message_local: Quantiles,
    #[serde(default, skip_serializing_if = "Quantiles::is_empty")]
    pub message_remote: Quantiles,
    /// From the moment due until the answer, all calls together; none in an older record.
    #[serde(default)]
    pub call: Quantiles,
    /// How late the generator was.
    pub own_lateness: Quantiles,
    /// Messages by latency, in the buckets of [`Series::heat_bounds_ms`]; empty without any.
    pub heat: Vec<u64>,
    /// The server's CPU, in percent of one core.
    pub server_cpu_percent: Option<f64>,
    pub server_rss_bytes: Option<u64>,
    pub server_fds: Option<u64>,
    /// Segments and answers that waited to be stored at its end; none if the server does not transcribe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_queue: Option<u64>,
    /// The file that stands in for a database that is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_spill_bytes: Option<u64>,
    /// The generator's CPU, in percent of one core.
    pub generator_cpu_percent: f64,
    pub generator_rss_bytes: u64,
}

/// A few quantiles, in milliseconds; `None` for a window without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

impl Quantiles {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the load generator used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Threads that ran users.
    pub workers: u64,
    pub cpu_seconds: f64,
    /// Of one core, over the run.
    pub cpu_percent: f64,
    /// Of one core.
    pub busiest_worker_percent: f64,
    /// The longest time in which it did not run: stopped, or starved of CPU.
    #[serde(default)]
    pub longest_pause_ms: f64,
    pub rss_peak_bytes: u64,
    /// The peak of open files, and their limit.
    pub fds: Option<[u64; 2]>,
}

/// What the server used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// How often its metrics were read.
    pub readings: u64,
    /// CPU time between the first and the last reading, in seconds.
    pub cpu_seconds: f64,
    /// Of one core.
    pub cpu_percent: f64,
    pub rss_first_bytes: u64,
    pub rss_last_bytes: u64,
    pub rss_peak_bytes: u64,
    pub fds_peak: u64,
    /// `None`: it does not transcribe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcription: Option<ServerTranscription>,
}

/// What a server that transcribes said of its storage and its provider, between the first and the last reading.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerTranscription {
    /// The most segments and answers that waited to be stored.
    pub queue_peak: u64,
    /// The largest that the file was which stands in for a database that is away.
    pub spill_peak_bytes: u64,
    /// Commits of the database.
    pub commits: u64,
    pub rows_per_commit: Option<f64>,
    /// How long the database took for a commit.
    pub commit_mean_ms: Option<f64>,
    /// Utterances that were transcribed.
    pub finals: u64,
    /// Of the commits those for whose rows nobody waited, as somebody does for an answer or a new session.
    pub commits_per_1000_finals: Option<f64>,
    /// Audio that the provider was sent, and bills; what is sent again counts again.
    pub billed_seconds: f64,
    /// Opens that failed, streams that were lost, and messages that meant nothing.
    pub provider_errors: u64,
    /// How long the provider took to accept a chunk.
    #[serde(default)]
    pub provider_mean_ms: Option<f64>,
    /// Batches that the database did not take, and that were tried again or went to the file.
    #[serde(default)]
    pub flush_errors: u64,
}
