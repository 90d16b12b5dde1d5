//! What clients report of their calls. A call is of two, also in a named room, and each may report it.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};
use voicematch_protocol::{CallFailure, CallOutcome, CallPath, CallReport, Candidate};

use super::Maker;

/// Upper bounds of the buckets of times, in seconds: close together where most calls are.
const SECONDS: [f64; 15] = [
    0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0,
];

/// The same of the share of audio that was lost: from 2 % on it is heard.
const LOST: [f64; 9] = [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5];

/// The calls that clients have reported.
pub struct Calls {
    calls: IntCounterVec,
    failures: IntCounterVec,
    candidates: IntCounterVec,
    restarts: IntCounter,
    setup: Histogram,
    audio: Histogram,
    lost: Histogram,
}

impl Calls {
    pub(super) fn new(make: &Maker) -> prometheus::Result<Self> {
        let calls = Opts::new(
            "calls_total",
            "Calls that clients have reported, by outcome and by how the voices went; each of the two may report a call.",
        );
        let calls = make.register(IntCounterVec::new(calls, &["outcome", "path"])?)?;
        for outcome in CallOutcome::ALL {
            for path in CallPath::ALL {
                calls.with_label_values(&[outcome.as_str(), path.as_str()]);
            }
        }
        let failures = make.counters(
            "call_failures_total",
            "Calls reported that did not connect, by reason.",
            "reason",
        )?;
        for reason in CallFailure::ALL {
            failures.with_label_values(&[reason.as_str()]);
        }
        let candidates = Opts::new(
            "call_candidates_total",
            "Calls reported, by the kinds of address that the two used (ICE candidate types); local: of who reports.",
        );
        let candidates = make.register(IntCounterVec::new(candidates, &["local", "remote"])?)?;
        for local in Candidate::ALL {
            for remote in Candidate::ALL {
                candidates.with_label_values(&[local.as_str(), remote.as_str()]);
            }
        }
        let histogram = |name: &str, help: &str, bounds: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
            make.register(Histogram::with_opts(options)?)
        };
        Ok(Self {
            calls,
            failures,
            candidates,
            restarts: make.counter(
                "call_restarts_total",
                "How often clients looked for a new path in a call (ICE restarts), as they report it.",
            )?,
            setup: histogram(
                "call_setup_seconds",
                "From a match, or from when two members of a named room have met, to the connection of their call, as clients report it.",
                &SECONDS,
            )?,
            audio: histogram(
                "call_audio_seconds",
                "The same to the first that was heard of the partner, as clients report it.",
                &SECONDS,
            )?,
            lost: histogram(
                "call_lost_audio_ratio",
                "The share of the partner's audio that was lost in a call, as clients report it.",
                &LOST,
            )?,
        })
    }

    /// A call that a client has reported.
    pub fn reported(&self, report: &CallReport) {
        let path = report.path.unwrap_or(CallPath::Unknown);
        let labels = [report.outcome.as_str(), path.as_str()];
        self.calls.with_label_values(&labels).inc();
        if report.outcome != CallOutcome::Connected {
            let reason = report.reason.unwrap_or(CallFailure::Other);
            self.failures.with_label_values(&[reason.as_str()]).inc();
        }
        if let (Some(local), Some(remote)) = (report.local, report.remote) {
            let labels = [local.as_str(), remote.as_str()];
            self.candidates.with_label_values(&labels).inc();
        }
        self.restarts.inc_by(report.restarts.unwrap_or(0).into());
        for (histogram, ms) in [
            (&self.setup, report.setup_ms),
            (&self.audio, report.audio_ms),
        ] {
            if let Some(ms) = ms {
                histogram.observe(f64::from(ms) / 1000.0);
            }
        }
        if let Some(percent) = report.lost_percent {
            self.lost.observe(percent / 100.0);
        }
    }
}
