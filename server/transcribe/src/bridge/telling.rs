//! What a track tells its listener, and when.

use tokio::{sync::mpsc::error::SendError, time::Instant};

use super::{
    Failure, GapReason, Heard, ProviderState,
    buffer::Buffer,
    track::{TICK, Track},
};
use crate::provider::pcm;

impl Track {
    pub(super) fn down(&mut self) {
        self.set_state(ProviderState::Down);
        self.tell_failure(Failure::ProviderDown);
    }

    /// Tells how the provider does, if that is news. Who is down stays down until all is well.
    pub(super) fn set_state(&mut self, state: ProviderState) {
        let was = self.state;
        let stays_down =
            was == Some(ProviderState::Down) && matches!(state, ProviderState::Reconnecting { .. });
        if was == Some(state) || stays_down {
            return;
        }
        self.state = Some(state);
        if state == ProviderState::Ok {
            self.failed = None;
        }
        let reason = match state {
            ProviderState::Silent | ProviderState::Reconnecting { .. } => GapReason::ProviderLost,
            ProviderState::Down => GapReason::ProviderDown,
            ProviderState::Busy => GapReason::ProviderBusy,
            ProviderState::Ok | ProviderState::Slow | ProviderState::Paused => {
                GapReason::ProviderSlow
            }
        };
        self.shared.inbox().buffer.reason = reason;
        self.tell(Heard::State(state));
    }

    pub(super) fn tell_failure(&mut self, failure: Failure) {
        if self.failed != Some(failure) {
            self.failed = Some(failure);
            self.tell(Heard::Failed(failure));
        }
    }

    pub(super) fn tell_gaps(&mut self, buffer: &mut Buffer) {
        for gap in buffer.take_gaps() {
            self.hub
                .metrics
                .gap(pcm::seconds(gap.range.end - gap.range.start), gap.reason);
            let (from_ms, to_ms) = (pcm::ms(gap.range.start), pcm::ms(gap.range.end));
            self.tell(Heard::Gap {
                from_ms,
                to_ms,
                reason: gap.reason,
            });
        }
    }

    pub(super) fn tell(&mut self, heard: Heard) {
        self.outgoing.push_back(heard);
    }

    pub(super) async fn tell_all(&mut self) -> Result<(), SendError<Heard>> {
        while let Some(heard) = self.outgoing.pop_front() {
            if matches!(heard, Heard::Partial { .. }) {
                // The next one says more.
                let _ = self.heard.try_send(heard);
            } else {
                self.heard.send(heard).await?;
            }
        }
        Ok(())
    }

    /// Observes, each second, how much audio the provider has not accepted.
    pub(super) fn observe_lag(&mut self, lag: u64, now: Instant) {
        if now >= self.next_lag {
            self.next_lag = now + TICK;
            self.hub.metrics.lag.observe(pcm::seconds(lag));
        }
    }
}
