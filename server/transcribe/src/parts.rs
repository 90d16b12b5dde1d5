//! What all transcription sessions share.

use std::{sync::Arc, time::Duration};

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use voicematch_protocol::transcribe::TranscribeError;

use crate::{
    bridge::Bridges,
    store::{Store, writer::Writer},
};

/// How sessions are.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sessions that go on at the same time.
    pub max_sessions: usize,
    /// Speakers of a session at the same time.
    pub max_tracks: usize,
    /// How long a session may go on.
    pub max_duration: Duration,
    /// Whether the log says what was said: for development.
    pub log_text: bool,
    /// Where clients reach this process, and no other one: `https://HOST:PORT`, no path. Empty: others cannot send them here.
    pub url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions: 1_000,
            max_tracks: 20,
            max_duration: Duration::from_secs(4 * 3600),
            log_text: false,
            url: String::new(),
        }
    }
}

/// What sessions count.
#[derive(Debug, Clone)]
pub struct SessionMetrics {
    pub(crate) connections: IntGauge,
    pub(crate) sessions_active: IntGauge,
    pub(crate) chunks: IntCounter,
    unheard_seconds: Counter,
    refused: IntCounterVec,
    moved: IntCounterVec,
}

impl SessionMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// One is there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| IntGauge::new(name, help);
        let metrics = Self {
            connections: gauge(
                "transcribe_active_connections",
                "Connections of /transcribe",
            )?,
            sessions_active: gauge(
                "transcribe_sessions_active",
                "Transcription sessions that go on here",
            )?,
            chunks: IntCounter::new(
                "transcribe_audio_chunks_total",
                "Audio frames that were taken",
            )?,
            unheard_seconds: Counter::new(
                "transcribe_unheard_seconds_total",
                "Audio that was not transcribed, as its host was away",
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "transcribe_refused_total",
                    "Requests to /api, connections, messages and frames of /transcribe that were refused, and speakers that were told so, by error code",
                ),
                &["code"],
            )?,
            moved: IntCounterVec::new(
                Opts::new(
                    "transcribe_moved_total",
                    "Requests and connections for a session that another server has, by whether they were told where it is",
                ),
                &["result"],
            )?,
        };
        for told in [true, false] {
            metrics.moved.with_label_values(&[result(told)]);
        }
        for code in TranscribeError::ALL {
            metrics.refused.with_label_values(&[code.as_str()]);
        }
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.sessions_active.clone()))?;
        registry.register(Box::new(metrics.chunks.clone()))?;
        registry.register(Box::new(metrics.unheard_seconds.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.moved.clone()))?;
        Ok(metrics)
    }

    /// Counts what was refused.
    pub fn refused(&self, code: TranscribeError) {
        self.refused.with_label_values(&[code.as_str()]).inc();
    }

    /// Counts who came for a session that another process has. `told`: where that is reached.
    pub(crate) fn moved(&self, told: bool) {
        self.moved.with_label_values(&[result(told)]).inc();
    }

    /// Counts 16 kHz audio of this many bytes.
    pub(crate) fn unheard(&self, bytes: usize) {
        self.unheard_seconds.inc_by(bytes as f64 / 32_000.0);
    }
}

fn result(told: bool) -> &'static str {
    if told { "moved" } else { "elsewhere" }
}

/// What all sessions share.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) writer: Arc<Writer>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bridges: Option<Bridges>,
    pub(crate) provider: &'static str,
    pub(crate) metrics: SessionMetrics,
}
