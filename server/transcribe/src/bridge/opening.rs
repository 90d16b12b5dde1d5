//! How a track gets a stream: a place among those that may be open, leave to try, and an answer of the provider.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::warn;

use super::{
    ProviderState,
    gate::{Ask, Outcome, Why},
    stream::Stream,
    track::{Opening, Phase, Track},
};
use crate::provider::{Link, OpenError, StreamSpec};

/// How long an open may take.
const OPEN: Duration = Duration::from_secs(10);
/// The time between two attempts doubles from the first to the second of these,
const FIRST_DELAY: Duration = Duration::from_millis(300);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// give or take so much of it, so that tracks do not try all at once.
const SPREAD: f64 = 0.2;
/// How long a track is left alone whose own wishes the provider does not take.
const BAD_CONFIG: Duration = Duration::from_secs(30);
/// How often an interrupted stream is tried before a new one is begun: as often as Gladia's SDK does.
const RESUMES: u32 = 5;

impl Track {
    /// Takes a place among the streams that may be open, or queues for one.
    pub(super) fn queue(&mut self, now: Instant) {
        let streams = Arc::clone(&self.hub.streams);
        match Arc::clone(&streams).try_acquire_owned() {
            Ok(slot) => self.got_slot(Some(slot), now),
            Err(_) => {
                self.busy(now);
                self.phase = Phase::Queued(streams.acquire_owned().boxed());
            }
        }
    }

    pub(super) fn got_slot(&mut self, slot: Option<OwnedSemaphorePermit>, now: Instant) {
        self.not_busy();
        self.slot = slot;
        self.wait_until(now);
    }

    pub(super) fn busy(&mut self, now: Instant) {
        if self.busy_since.is_none() {
            self.busy_since = Some(now);
            self.hub.metrics.waiting.inc();
        }
        self.set_state(ProviderState::Busy);
    }

    pub(super) fn not_busy(&mut self) {
        if self.busy_since.take().is_some() {
            self.hub.metrics.waiting.dec();
        }
    }

    /// Asks for leave to open a stream, and begins to. `true` if the phase has changed.
    pub(super) fn try_open(&mut self, now: Instant) -> bool {
        if self.needs_none(now) {
            self.rest();
            return true;
        }
        // Before it is asked: no change after that is missed.
        self.gate.mark_unchanged();
        let attempt = match self.hub.gate.ask(now) {
            Ask::Go(attempt) => attempt,
            Ask::Later(at, why) => {
                self.phase = Phase::Waiting {
                    until: at,
                    is_at_gate: why != Why::Others,
                };
                match why {
                    Why::Down => {
                        self.away_since.get_or_insert(now);
                        self.down();
                    }
                    Why::Busy => self.busy(now),
                    Why::Others => {}
                }
                return false;
            }
        };
        let language = self.shared.inbox().language.clone();
        if language != self.language {
            // A stream in another language is not gone on with.
            self.interrupted = None;
            self.language = language;
        }
        let spec = StreamSpec {
            language: self.language.clone(),
            resume: self.interrupted.as_ref().map(|lost| lost.resume.clone()),
        };
        let is_resuming = spec.resume.is_some();
        let provider = Arc::clone(&self.hub.provider);
        let open = async move { provider.open(spec).await }.boxed();
        self.phase = Phase::Opening(Opening {
            open,
            attempt,
            is_resuming,
            until: now + OPEN,
        });
        true
    }

    /// Whether nothing is left that is worth a stream: no audio comes, and what was lost with the last stream was silence.
    fn needs_none(&self, now: Instant) -> bool {
        let mut inbox = self.shared.inbox();
        let needs_none =
            inbox.buffer.is_sent() && !inbox.buffer.is_voiced() && Self::is_quiet(&inbox, now);
        if needs_none {
            inbox.buffer.settle_sent();
        }
        needs_none
    }

    pub(super) fn opened(&mut self, opened: Result<Link, OpenError>, now: Instant) {
        let Phase::Opening(opening) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let Opening {
            attempt,
            is_resuming,
            ..
        } = opening;
        let error = match opened {
            Ok(link) => {
                attempt.end(Outcome::Opened);
                self.stream(link, is_resuming, now);
                return;
            }
            Err(error) => error,
        };
        self.away_since.get_or_insert(now);
        if !matches!(error, OpenError::Busy(_) | OpenError::Gone) {
            self.hub.metrics.errors.inc();
        }
        match error {
            OpenError::Busy(wait) => {
                attempt.end(Outcome::Busy(wait));
                self.wait_until(now);
                self.busy(now);
            }
            OpenError::Refused(status) => {
                let provider = self.hub.provider.name();
                warn!(provider, status, "the provider refuses");
                attempt.end(Outcome::Refused);
                self.wait_until(now);
                self.down();
            }
            OpenError::Unreachable => {
                attempt.end(Outcome::Failed);
                self.not_busy();
                self.resume_failed();
                self.retry(now);
            }
            OpenError::BadConfig(problem) => {
                // It concerns this track only: one user's wishes must not keep the others from the provider.
                attempt.end(Outcome::Nothing);
                let provider = self.hub.provider.name();
                warn!(
                    provider,
                    problem, "the provider does not take what was asked of it"
                );
                self.wait_until(now + spread(BAD_CONFIG));
                self.down();
            }
            OpenError::Gone => {
                attempt.end(Outcome::Nothing);
                self.interrupted = None;
                self.wait_until(now);
            }
        }
    }

    fn resume_failed(&mut self) {
        self.resume_failures += 1;
        if self.resume_failures >= RESUMES {
            self.interrupted = None;
        }
    }

    fn stream(&mut self, link: Link, is_resumed: bool, now: Instant) {
        self.not_busy();
        if !is_resumed {
            self.transcript.begin_stream();
        }
        let interrupted = self.interrupted.take().filter(|_| is_resumed);
        let from = interrupted.map_or(0, |interrupted| interrupted.accepted(link.already));
        let mut inbox = self.shared.inbox();
        inbox.buffer.rewind(from);
        inbox.buffer.slack = super::track::SLACK;
        inbox.quiet.is_answered();
        self.accepted = inbox.buffer.peek().map_or(inbox.buffer.end(), |(at, _)| at);
        drop(inbox);
        let is_same_job = link.job == self.job;
        self.job.clone_from(&link.job);
        let stream = Stream::new(link, self.accepted, is_resumed, now);
        if is_same_job {
            // What was sent and not accepted, and what was told of it, counts no more.
            self.tell_piece(stream.job_ms(), self.accepted);
        } else if let Some(job) = self.job.clone() {
            let at_ms = crate::provider::pcm::ms(self.accepted);
            self.tell(super::Heard::Job { job, at_ms });
        }
        self.phase = Phase::Streaming(Box::new(stream));
    }

    /// Tries again, later each time.
    pub(super) fn retry(&mut self, now: Instant) {
        let doubled = FIRST_DELAY * 2_u32.saturating_pow(self.failures.min(8));
        let delay = spread(doubled.min(LONGEST_DELAY));
        self.failures = self.failures.saturating_add(1);
        self.wait_until(now + delay);
        let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.set_state(ProviderState::Reconnecting { retry_in_ms });
    }
}

fn spread(time: Duration) -> Duration {
    time.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * rand::random::<f64>())
}
