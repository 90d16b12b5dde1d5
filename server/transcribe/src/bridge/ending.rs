//! How a stream of a track ends: in order, by a loss, or with nobody to say what was in it.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::{
    GapReason, Heard, Inbox, ProviderState,
    stream::Interrupted,
    track::{Phase, Track},
};
use crate::provider::{LossReason, pcm};

impl Track {
    /// What the provider has said already counts, although nobody has looked at it.
    pub(super) fn hear_rest(&mut self, now: Instant) {
        while let Phase::Streaming(stream) = &mut self.phase
            && let Ok(event) = stream.link.events.try_recv()
        {
            self.event(event, now);
        }
    }

    /// Nobody transcribes what is left.
    pub(super) fn give_up(&mut self, inbox: &mut Inbox) {
        let from = self.cut();
        let reason = match self.state {
            // It was not known to be slow: it does not end as it should.
            Some(ProviderState::Ok) => GapReason::ProviderLost,
            _ => inbox.buffer.reason,
        };
        inbox.buffer.give_up_sent(from, reason);
        inbox.buffer.drop_unsent(reason);
    }

    /// Tells the unfinished utterances as they are. The position up to which that was.
    pub(super) fn cut(&mut self) -> u64 {
        let mut end = 0;
        for cut in self.transcript.cut() {
            if let Heard::Final { utterance, .. } = &cut {
                end = end.max(utterance.end_ms.unsigned_abs() * pcm::BYTES_PER_MS);
            }
            self.hub.metrics.finals.inc();
            self.tell(cut);
        }
        end
    }

    /// There is no stream and no need for one.
    pub(super) fn rest(&mut self) {
        self.phase = Phase::Idle;
        self.slot = None;
        self.interrupted = None;
        self.failures = 0;
        self.away_since = None;
        self.not_busy();
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        inbox.buffer.slack = 0;
        inbox.buffer.is_utterance_open = false;
        let is_pause = inbox.buffer.is_sent() && !inbox.is_finished;
        drop(inbox);
        if is_pause {
            self.set_state(ProviderState::Paused);
        }
    }

    /// The stream is lost. What it had not finished is heard again by the next one.
    pub(super) fn lose(&mut self, reason: LossReason, now: Instant) {
        let Phase::Streaming(stream) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let metrics = &self.hub.metrics;
        metrics.errors.inc();
        let provider = self.hub.provider.name();
        warn!(provider, reason = reason.as_str(), code = ?reason.code(), "a stream of the provider is lost");
        if !stream.was_useful() {
            self.hub.gate.was_useless(now);
        }
        if stream.has_lasted(now) {
            self.failures = 0;
        }
        let was_finishing = stream.is_finishing();
        self.interrupted = if reason.is_resumable() {
            Interrupted::new(*stream)
        } else {
            None
        };
        self.resume_failures = 0;
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        let needs_none =
            inbox.buffer.is_sent() && !inbox.buffer.is_voiced() && Self::is_quiet(&inbox, now);
        inbox.buffer.slack = 0;
        inbox.quiet.is_answered();
        drop(inbox);
        if was_finishing && needs_none {
            self.ended_in_order();
            return;
        }
        self.hub
            .metrics
            .reconnects
            .with_label_values(&[provider, reason.as_str()])
            .inc();
        self.away_since.get_or_insert(now);
        if reason == LossReason::Silent {
            self.set_state(ProviderState::Silent);
        }
        self.retry(now);
    }
}
