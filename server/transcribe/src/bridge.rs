//! Brings the audio of speakers to a provider, and what it says back, whatever the provider does.
//!
//! A [`Bridge`] is one track: the audio of one speaker from its begin to its end. It has a task of its own, which opens
//! streams at the provider while there is audio, keeps audio until a transcript covers it, and sends it again when a stream
//! is lost. All times are milliseconds since the track's first sample. What cannot be transcribed is reported as a gap.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::Instant,
};

use crate::provider::{Provider, Secret, Utterance, pcm};

mod breaker;
mod budget;
mod buffer;
mod ending;
mod events;
mod gate;
mod health;
mod metrics;
mod noise;
mod opening;
mod pace;
mod stream;
mod telling;
mod timeline;
mod track;
mod transcript;

use budget::Budget;
use buffer::{Buffer, Memory};
use gate::Gate;
use health::{Loudness, Quiet};
pub use metrics::AudioMetrics;
use noise::Noise;

/// How many [`Heard`] may wait. When they do, partials are left out, and finals wait.
const HEARD_DEPTH: usize = 256;

/// The pauses before the tries to delete something at the provider.
const FORGET_PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// Bounds of the bridges of a provider.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// How much audio a track holds at most.
    pub buffer: Duration,
    /// How much all tracks hold together, in bytes.
    pub memory_bytes: u64,
    /// Streams at a time. `None`: as many as the provider says, or any number.
    pub max_streams: Option<usize>,
    /// The longest track, in audio.
    pub max_duration: Duration,
    /// Seconds of audio that may be sent in a day (UTC).
    pub max_seconds_per_day: Option<u64>,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            buffer: Duration::from_secs(10),
            memory_bytes: 256 * 1024 * 1024,
            max_streams: None,
            max_duration: Duration::from_secs(4 * 3600),
            max_seconds_per_day: None,
        }
    }
}

/// What a track is.
#[derive(Clone, Debug, Default)]
pub struct TrackSpec {
    /// What is spoken, as BCP 47, if it is known.
    pub language: Option<String>,
}

/// What becomes of a track's audio.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// What may have been said. `utterance.id` numbers the utterances of the track; `revision` counts from 1. An empty text
    /// withdraws it: it was no speech.
    Partial { utterance: Utterance, revision: u32 },
    /// What was said. `cut`: the provider ended without a final; this is its last partial.
    Final { utterance: Utterance, cut: bool },
    /// This was not transcribed.
    Gap {
        from_ms: u64,
        to_ms: u64,
        reason: GapReason,
    },
    /// How the provider does, when it changes.
    State(ProviderState),
    /// What the speaker and the host are to be told, once each time. The bridge goes on trying, except after
    /// [`Failure::MaxDuration`].
    Failed(Failure),
    /// The provider's name for the work that has begun with the audio at this moment.
    Job { job: String, at_ms: u64 },
    /// From this moment of its work on, the provider hears the audio at that moment of the track, which is not what it heard
    /// before, or comes after a pause. It takes the place of what was told of later moments of the work.
    JobPiece {
        job: String,
        job_ms: u64,
        at_ms: u64,
    },
    /// All that there was has been told.
    Ended,
}

/// How the provider of a track does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderState {
    Ok,
    /// It has more than five seconds to catch up.
    Slow,
    /// Somebody speaks and it says nothing. If it does not answer at all, a new stream is opened.
    Silent,
    Reconnecting {
        retry_in_ms: u64,
    },
    /// It serves as many as it can.
    Busy,
    /// It cannot be reached, or refuses.
    Down,
    /// There is no audio, so no stream is open.
    Paused,
}

/// Why audio was not transcribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The stream was lost, and audio that it had heard is no longer held; it did not end as it should; or it made no word of
    /// what may be speech.
    ProviderLost,
    ProviderDown,
    ProviderBusy,
    ProviderSlow,
    /// All tracks together hold as much as they may.
    Memory,
    /// The seconds of the day are used up.
    Budget,
    /// The samples come at another rate than the speaker has said, and are not taken: see [`Bridges::missed`].
    RateMismatch,
}

impl GapReason {
    pub(crate) const ALL: [Self; 7] = [
        Self::ProviderLost,
        Self::ProviderDown,
        Self::ProviderBusy,
        Self::ProviderSlow,
        Self::Memory,
        Self::Budget,
        Self::RateMismatch,
    ];

    /// As it stands in messages, rows and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProviderLost => "provider_lost",
            Self::ProviderDown => "provider_down",
            Self::ProviderBusy => "provider_busy",
            Self::ProviderSlow => "provider_slow",
            Self::Memory => "memory",
            Self::Budget => "budget",
            Self::RateMismatch => "audio_rate_mismatch",
        }
    }
}

/// Why a track is not transcribed at the moment, or any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The provider refuses, or has failed too often.
    ProviderDown,
    /// It has been busy for ten seconds.
    ProviderBusy,
    /// The seconds of the day are used up.
    Budget,
    /// The track is as long as it may be; it ends.
    MaxDuration,
}

/// What all tracks of a provider share. A clone is the same.
#[derive(Clone)]
pub struct Bridges(Arc<Hub>);

struct Hub {
    config: BridgeConfig,
    provider: Arc<dyn Provider>,
    metrics: AudioMetrics,
    gate: Arc<Gate>,
    budget: Budget,
    memory: Arc<Memory>,
    streams: Arc<Semaphore>,
}

impl Bridges {
    #[must_use]
    pub fn new(config: BridgeConfig, provider: Arc<dyn Provider>, metrics: AudioMetrics) -> Self {
        let name = provider.name();
        metrics.begin(name);
        let streams = config
            .max_streams
            .or(provider.default_streams())
            .unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(Hub {
            gate: Gate::new(name, metrics.breaker_open.with_label_values(&[name])),
            budget: Budget::new(config.max_seconds_per_day),
            memory: Memory::new(config.memory_bytes),
            streams: Arc::new(Semaphore::new(streams.min(Semaphore::MAX_PERMITS))),
            config,
            provider,
            metrics,
        }))
    }

    /// Begins a track, on the runtime of the caller. Nothing is opened at the provider before there is audio. The track ends
    /// when it is finished or both its ends are dropped; it needs its receiver to be read.
    #[must_use]
    pub fn open(&self, spec: TrackSpec) -> (Bridge, mpsc::Receiver<Heard>) {
        let hub = Arc::clone(&self.0);
        hub.provider.prepare();
        let bytes = u64::try_from(hub.config.buffer.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(pcm::BYTES_PER_MS);
        let inbox = Inbox {
            language: spec.language.clone(),
            buffer: Buffer::new(bytes, Arc::clone(&hub.memory)),
            is_paused: false,
            is_finished: false,
            is_given_up: false,
            last_frame: Instant::now(),
            noise: Noise::default(),
            quiet: Quiet::default(),
        };
        let shared = Arc::new(Shared {
            inbox: Mutex::new(inbox),
            changed: Notify::new(),
        });
        let (heard, receiver) = mpsc::channel(HEARD_DEPTH);
        let most_bytes = u64::try_from(hub.config.max_duration.as_millis()).unwrap_or(u64::MAX);
        let most_bytes = most_bytes.saturating_mul(pcm::BYTES_PER_MS);
        let bridge = Bridge {
            shared: Arc::clone(&shared),
            most_bytes,
        };
        tokio::spawn(track::Track::new(hub, shared, heard, spec, most_bytes).run());
        (bridge, receiver)
    }

    #[must_use]
    pub fn provider(&self) -> &Arc<dyn Provider> {
        &self.0.provider
    }

    /// Tracks that are open.
    #[must_use]
    pub fn open_tracks(&self) -> i64 {
        self.0
            .metrics
            .active
            .with_label_values(&[self.0.provider.name()])
            .get()
    }

    /// Audio that all tracks hold, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.memory.used()
    }

    /// Counts audio that was not even passed on to a bridge.
    pub fn missed(&self, time: Duration, reason: GapReason) {
        self.0.metrics.gap(time.as_secs_f64(), reason);
    }

    /// Has the provider delete what it keeps of a job, in the background. What it does not delete is named in the log.
    pub fn forget(&self, job: String) {
        let provider = Arc::clone(&self.0.provider);
        tokio::spawn(async move {
            for pause in FORGET_PAUSES {
                tokio::time::sleep(pause).await;
                if provider.delete(&job).await.is_ok() {
                    return;
                }
            }
            tracing::error!(
                job,
                "the provider has not deleted what it keeps of a deleted session"
            );
        });
    }

    /// Uses another key from now on; a provider that refused the old one is asked at once.
    pub fn set_key(&self, key: Secret) {
        self.0.provider.set_key(key);
        self.0.gate.reset();
    }
}

/// What the two ends of a track share.
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Notify,
}

struct Inbox {
    /// What is spoken.
    language: Option<String>,
    buffer: Buffer,
    is_paused: bool,
    is_finished: bool,
    /// Nobody waits any longer for what is left.
    is_given_up: bool,
    last_frame: Instant,
    noise: Noise,
    quiet: Quiet,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending end of a track. Dropping it finishes the track.
pub struct Bridge {
    shared: Arc<Shared>,
    most_bytes: u64,
}

impl Bridge {
    /// Takes a frame of audio, as [`pcm`] says. It is kept as it is, so it must not be a small part of a large allocation.
    /// Never waits: what is too much is a gap. Of an odd number of bytes the last one is ignored. Answers with what is not taken:
    /// all after the end, and what would make the track longer than it may be.
    pub fn push(&self, mut frame: Bytes) -> Bytes {
        frame.truncate(frame.len() & !1);
        let now = Instant::now();
        let mut inbox = self.shared.inbox();
        if inbox.is_finished || frame.is_empty() {
            return frame;
        }
        let left = self.most_bytes.saturating_sub(inbox.buffer.end());
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let rest = frame.split_off(left.min(frame.len()));
        let length = frame.len() as u64;
        if length > 0 {
            let is_steady = inbox.noise.hear(&frame);
            let is_voiced = inbox.buffer.push(frame, now);
            let loudness = match (is_voiced, is_steady) {
                (false, _) => Loudness::Quiet,
                (true, true) => Loudness::Noise,
                (true, false) => Loudness::Speech,
            };
            inbox.quiet.add(length, loudness, now);
        }
        inbox.last_frame = now;
        inbox.is_paused = false;
        drop(inbox);
        self.shared.changed.notify_one();
        rest
    }

    /// The audio that comes next was spoken after a pause: [`Heard::JobPiece`] says where it lies.
    pub fn mark_pause(&self) {
        self.shared.inbox().buffer.is_after_pause = true;
    }

    /// What is spoken from now on, as BCP 47, if it is known. If it is another language, the provider's stream ends, and the
    /// next frame opens another one.
    pub fn speak(&self, language: Option<String>) {
        self.shared.inbox().language = language;
    }

    /// No audio comes for now: the provider's stream ends, and the next frame opens another one.
    pub fn pause(&self) {
        self.shared.inbox().is_paused = true;
        self.shared.changed.notify_one();
    }

    /// No audio comes any more. [`Heard::Ended`] follows after what is left.
    pub fn finish(&self) {
        self.shared.inbox().is_finished = true;
        self.shared.changed.notify_one();
    }

    /// Ends the track at once. A sentence that is not final becomes a final as it is, and audio without text a gap. [`Heard::Ended`] follows.
    pub fn give_up(&self) {
        let mut inbox = self.shared.inbox();
        (inbox.is_finished, inbox.is_given_up) = (true, true);
        drop(inbox);
        self.shared.changed.notify_one();
    }

    /// Milliseconds of audio received.
    #[must_use]
    pub fn audio_ms(&self) -> u64 {
        pcm::ms(self.shared.inbox().buffer.end())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.finish();
    }
}
