//! What a provider says, and what a track makes of it.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::{
    GapReason, Heard, ProviderState, Quiet,
    track::{Phase, Track},
    transcript::Verdict,
};
use crate::provider::{Event, LossReason, Utterance, pcm};

impl Track {
    pub(super) fn event(&mut self, event: Event, now: Instant) {
        let Phase::Streaming(stream) = &mut self.phase else {
            return;
        };
        if let Event::Lost(reason) = event {
            self.lose(reason, now);
            return;
        }
        let is_said = matches!(event, Event::Partial(_) | Event::Final(_));
        let is_taken = matches!(event, Event::Accepted { .. });
        stream.health.is_ready |= is_said || matches!(event, Event::Ready);
        let is_ready = stream.health.is_ready;
        // A program that is no recogniser takes audio, too.
        stream.has_answered |= is_said || is_taken && is_ready;
        let is_slow = stream.health.is_slow;
        if is_said {
            self.shared.inbox().quiet = Quiet::default();
        }
        if is_ready && !matches!(event, Event::Garbage(_)) {
            self.is_well(is_slow, now);
        } else if is_taken {
            self.shared.inbox().quiet.is_taken();
        }
        let problem = match event {
            Event::Accepted { bytes } => self.has_accepted(bytes, now),
            Event::Partial(said) => self.partial(said),
            Event::Final(said) => self.final_(said, now),
            Event::Garbage(problem) => Some(problem),
            Event::Ready | Event::Lost(_) => None,
        };
        if let Some(problem) = problem {
            self.garbage(problem, now);
        }
    }

    fn is_well(&mut self, is_slow: bool, now: Instant) {
        self.away_since = None;
        let mut inbox = self.shared.inbox();
        inbox.quiet.is_answered();
        inbox.buffer.is_wordless = inbox.quiet.is_wordless(now);
        drop(inbox);
        if !is_slow {
            self.is_in_time();
        }
    }

    /// It takes audio as fast as it comes.
    pub(super) fn is_in_time(&mut self) {
        let is_wordless = self.shared.inbox().buffer.is_wordless;
        self.set_state(match is_wordless {
            true => ProviderState::Silent,
            false => ProviderState::Ok,
        });
    }

    fn has_accepted(&mut self, bytes: u64, now: Instant) -> Option<&'static str> {
        let Phase::Streaming(stream) = &mut self.phase else {
            return None;
        };
        if bytes > stream.timeline.sent() {
            return Some("more accepted than sent");
        }
        let latency = &self.hub.metrics.provider_latency;
        stream.accept(bytes, now, |took| latency.observe(took.as_secs_f64()));
        if bytes > 0 {
            self.accepted = self.accepted.max(stream.timeline.after(bytes));
        }
        None
    }

    fn partial(&mut self, said: Utterance) -> Option<&'static str> {
        let Phase::Streaming(stream) = &mut self.phase else {
            return None;
        };
        let said = match stream.timeline.place(said) {
            Ok(said) => said,
            Err(problem) => return Some(problem),
        };
        if let Some(partial) = self.transcript.partial(said) {
            self.hub.metrics.partials.inc();
            self.tell(partial);
        }
        self.shared.inbox().buffer.is_utterance_open = self.transcript.is_open();
        None
    }

    fn final_(&mut self, said: Utterance, now: Instant) -> Option<&'static str> {
        let Phase::Streaming(stream) = &mut self.phase else {
            return None;
        };
        let said = match stream.timeline.place(said) {
            Ok(said) => said,
            Err(problem) => return Some(problem),
        };
        let end = said.end_ms.unsigned_abs() * pcm::BYTES_PER_MS;
        match self.transcript.last(said) {
            Verdict::Duplicate => {
                self.hub.metrics.duplicates.inc();
                return None;
            }
            Verdict::Backwards => return Some("times that go backwards"),
            Verdict::Nothing => self.shared.inbox().buffer.settle(end),
            Verdict::Told => {
                stream.has_final = true;
                let doubtful = stream.doubtful_below.take().unwrap_or(0);
                self.latency(end, now);
                self.tell_finals(doubtful);
                return None;
            }
        }
        self.tell_finals(0);
        None
    }

    /// Tells what follows from a final. What may be speech below `doubtful` and is told by none of them is a gap.
    fn tell_finals(&mut self, doubtful: u64) {
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        for told in self.transcript.take_told() {
            if let Heard::Final { utterance, .. } = &told {
                self.hub.metrics.finals.inc();
                let position = |ms: i64| ms.unsigned_abs() * pcm::BYTES_PER_MS;
                inbox.buffer.miss(
                    doubtful.min(position(utterance.start_ms)),
                    GapReason::ProviderLost,
                );
                self.tell_gaps(&mut inbox.buffer);
                inbox.buffer.settle(position(utterance.end_ms));
            }
            self.tell(told);
        }
        inbox.buffer.is_utterance_open = self.transcript.is_open();
    }

    /// Observes how long ago the end of an utterance was received.
    fn latency(&self, end: u64, now: Instant) {
        if let Some(received) = self.shared.inbox().buffer.received(end) {
            self.hub
                .metrics
                .final_latency
                .observe(now.duration_since(received).as_secs_f64());
        }
    }

    fn garbage(&mut self, problem: &'static str, now: Instant) {
        self.hub.metrics.errors.inc();
        debug!(
            provider = self.hub.provider.name(),
            problem, "the provider says what means nothing"
        );
        let Phase::Streaming(stream) = &mut self.phase else {
            return;
        };
        if stream.health.garbage(now) {
            self.lose(LossReason::Garbage, now);
        }
    }

    /// Its events have ended: in order if it was told to finish, otherwise not.
    pub(super) fn stream_ended(&mut self, now: Instant) {
        let Phase::Streaming(stream) = &self.phase else {
            return;
        };
        if stream.is_finishing() {
            self.ended_in_order();
        } else {
            self.lose(LossReason::Broken, now);
        }
    }

    /// The provider has said all that there was.
    pub(super) fn ended_in_order(&mut self) {
        let end = self.cut();
        let doubtful = match &self.phase {
            Phase::Streaming(stream) if !stream.health.is_ready => u64::MAX,
            Phase::Streaming(stream) => stream.doubtful_below.unwrap_or(0),
            _ => 0,
        };
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        inbox.buffer.settle(end);
        let doubtful = match inbox.buffer.is_wordless {
            true => u64::MAX,
            false => doubtful,
        };
        inbox.buffer.miss(doubtful, GapReason::ProviderLost);
        inbox.buffer.settle_sent();
        drop(inbox);
        self.rest();
    }
}
