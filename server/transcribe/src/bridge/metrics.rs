//! What is counted about audio on its way to text.

use prometheus::{
    Counter, CounterVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, core::Collector,
};

use super::GapReason;
use crate::provider::LossReason;

/// Upper bounds of the buckets of times, in seconds.
const SECONDS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0,
];

/// The metrics of all bridges. A clone is the same metrics.
#[derive(Clone)]
pub struct AudioMetrics {
    pub(super) active: IntGaugeVec,
    pub(super) audio: Counter,
    pub(super) dropped: CounterVec,
    pub(super) gaps: Counter,
    pub(super) finals: IntCounter,
    pub(super) partials: IntCounter,
    pub(super) duplicates: IntCounter,
    pub(super) errors: IntCounter,
    pub(super) reconnects: IntCounterVec,
    pub(super) provider_latency: Histogram,
    pub(super) final_latency: Histogram,
    pub(super) lag: Histogram,
    pub(super) waiting: IntGauge,
    pub(super) breaker_open: IntGaugeVec,
}

impl AudioMetrics {
    /// # Errors
    /// None in practice: the names are right.
    pub fn new() -> prometheus::Result<Self> {
        let dropped = Opts::new(
            "transcribe_audio_dropped_seconds_total",
            "Audio that was received and not transcribed, by reason.",
        );
        let reconnects = Opts::new(
            "transcribe_provider_reconnects_total",
            "Streams of a provider that were lost and had to be opened again, by reason.",
        );
        Ok(Self {
            active: gauges(
                "transcribe_active_bridges",
                "Tracks that are being transcribed.",
            )?,
            audio: Counter::new(
                "transcribe_audio_seconds_total",
                "Audio sent to the provider; what is sent again counts again.",
            )?,
            dropped: CounterVec::new(dropped, &["reason"])?,
            gaps: Counter::new(
                "transcribe_gap_seconds_total",
                "Audio that was reported as not transcribed.",
            )?,
            finals: IntCounter::new(
                "transcribe_finals_total",
                "Utterances that were transcribed.",
            )?,
            partials: IntCounter::new("transcribe_partials_total", "Partial transcripts.")?,
            duplicates: IntCounter::new(
                "transcribe_duplicate_segments_total",
                "Utterances that the provider has sent twice, and that were told once.",
            )?,
            errors: IntCounter::new(
                "transcribe_provider_errors_total",
                "Opens that failed, streams that were lost, and messages of the provider that mean nothing.",
            )?,
            reconnects: IntCounterVec::new(reconnects, &["provider", "reason"])?,
            provider_latency: histogram(
                "transcribe_provider_latency_seconds",
                "From the moment when audio was sent to the provider until it has accepted it.",
            )?,
            final_latency: histogram(
                "transcribe_final_latency_seconds",
                "From the moment when the end of an utterance was received until its final transcript.",
            )?,
            lag: histogram(
                "transcribe_lag_seconds",
                "Audio that was received and that the provider has not accepted yet; each track, each second.",
            )?,
            waiting: IntGauge::new(
                "transcribe_streams_waiting",
                "Tracks that wait because the provider is busy.",
            )?,
            breaker_open: gauges(
                "transcribe_breaker_open",
                "1 while the provider is left alone, because it fails.",
            )?,
        })
    }

    /// # Errors
    /// A metric of the same name is there already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 14] = [
            Box::new(self.active.clone()),
            Box::new(self.audio.clone()),
            Box::new(self.dropped.clone()),
            Box::new(self.gaps.clone()),
            Box::new(self.finals.clone()),
            Box::new(self.partials.clone()),
            Box::new(self.duplicates.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.reconnects.clone()),
            Box::new(self.provider_latency.clone()),
            Box::new(self.final_latency.clone()),
            Box::new(self.lag.clone()),
            Box::new(self.waiting.clone()),
            Box::new(self.breaker_open.clone()),
        ];
        all.into_iter()
            .try_for_each(|metric| registry.register(metric))
    }

    /// Makes all series of a provider, at 0.
    pub(super) fn begin(&self, provider: &str) {
        self.active.with_label_values(&[provider]);
        self.breaker_open.with_label_values(&[provider]);
        for reason in LossReason::ALL {
            self.reconnects.with_label_values(&[provider, reason]);
        }
        for reason in GapReason::ALL {
            self.dropped.with_label_values(&[reason.as_str()]);
        }
    }

    pub(super) fn gap(&self, seconds: f64, reason: GapReason) {
        self.gaps.inc_by(seconds);
        self.dropped
            .with_label_values(&[reason.as_str()])
            .inc_by(seconds);
    }
}

fn histogram(name: &str, help: &str) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))
}

fn gauges(name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(name, help), &["provider"])
}
