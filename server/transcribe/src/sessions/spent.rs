//! How much of a day's audio was sent to the provider: all servers with one database have one bound.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::Sessions;
use crate::{bridge::Bridges, record::Record};

impl Sessions {
    /// Stores how much audio was sent to the provider today, if that is not what was `noted` last: what is left of the day
    /// is the same after a crash, and for the others.
    pub(super) fn note_spent(&self, noted: Option<(i64, i64)>) -> Option<(i64, i64)> {
        let parts = &self.parts;
        let spent = parts.bridges.as_ref().and_then(Bridges::sent_today);
        if let Some((day, audio_ms)) = spent.filter(|_| spent != noted) {
            let process = parts.writer.id();
            parts.writer.write(Record::Spent {
                day,
                process,
                audio_ms,
            });
        }
        spent
    }

    /// Reads each second how much others have sent today, for ever.
    pub(super) async fn read_spent(self: Arc<Self>) {
        let parts = &self.parts;
        let Some(bridges) = &parts.bridges else {
            return;
        };
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(day) = bridges.bounded_day() {
            ticks.tick().await;
            match parts.store.spent_ms(day, parts.writer.id()).await {
                Ok(audio_ms) => bridges.spent_elsewhere(day, audio_ms),
                Err(error) => {
                    tracing::debug!(%error, "what others have spent today is not known now");
                }
            }
        }
    }
}
