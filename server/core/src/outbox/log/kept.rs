//! A log that goes to another node, and what is said to its user meanwhile.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Behind, Entry, Log, LogLimits, Mode, small};

/// One message of a log that goes to another node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// JSON, its number included.
    text: Box<RawValue>,
    /// How long ago it was read, for messages whose relay is timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
}

/// A log that goes to another node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptLog {
    forgotten: u64,
    given_up: u32,
    next: u32,
    entries: Vec<Kept>,
}

impl KeptLog {
    /// The number of the last message.
    pub(crate) fn last(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    pub(crate) fn entries(self) -> Vec<Kept> {
        self.entries
    }
}

impl Log {
    /// Whether the log can go on behind message `after`; what came up to it is confirmed then.
    pub(in crate::outbox) fn check_position(&mut self, after: u64) -> Result<(), Behind> {
        if after < self.forgotten - u64::from(self.given_up) {
            return Err(Behind::Stale);
        }
        if after < self.forgotten {
            return Err(Behind::TooOld);
        }
        self.confirm(after);
        Ok(())
    }

    /// A copy of what comes behind message `after`, which is not beyond the last one.
    pub(in crate::outbox) fn copy(&self, after: u64, now: Instant) -> KeptLog {
        let skip = usize::try_from(after.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skip).filter_map(|entry| {
            let text = String::from_utf8(entry.text.to_vec()).ok()?;
            let age = entry.read_at.map(|at| now.saturating_duration_since(at));
            Some(Kept {
                text: RawValue::from_string(text).ok()?,
                age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            })
        });
        KeptLog {
            forgotten: self.forgotten.max(after),
            given_up: self.given_up,
            next: self.next.saturating_sub(small(skip)),
            entries: entries.collect(),
        }
    }

    /// Goes on from the log of another node, for a new one. New messages are held until [`Self::release`].
    pub(in crate::outbox) fn adopt(&mut self, kept: KeptLog, now: Instant) {
        self.forgotten = kept.forgotten;
        self.mode = Mode::Held;
        self.append(kept.entries, now);
        self.next = kept.next.min(small(self.entries.len()));
        self.given_up = kept
            .given_up
            .min(u32::try_from(kept.forgotten).unwrap_or(u32::MAX));
        let unsent = self.entries.range(self.next as usize..);
        self.unsent_bytes = small(unsent.map(|entry| entry.text.len()).sum());
        self.measured = self.sent();
    }

    fn append(&mut self, entries: Vec<Kept>, now: Instant) {
        for Kept { text, age_ms } in entries {
            let text: Box<[u8]> = text.get().as_bytes().into();
            self.bytes += text.len();
            self.unsent_bytes = self.unsent_bytes.saturating_add(small(text.len()));
            let read_at = age_ms.map(|age| {
                let at = now.checked_sub(Duration::from_millis(age));
                at.unwrap_or(now)
            });
            self.entries.push_back(Entry { text, read_at });
        }
    }

    /// Keeps a message until it can have a number.
    pub(in crate::outbox) fn hold(&mut self, message: &[u8], read_at: Option<Instant>) {
        let held = self.held.get_or_insert_default();
        let text: Box<[u8]> = message.into();
        held.bytes += text.len();
        held.entries.push(Entry { text, read_at });
    }

    /// Whether more is held than the limits allow.
    pub(in crate::outbox) fn holds_too_much(&self) -> bool {
        let LogLimits { messages, bytes } = self.limits;
        self.held.as_deref().is_some_and(|held| {
            let count = held.entries.len();
            count > 1 && (count > messages as usize || held.bytes > bytes as usize)
        })
    }

    /// What has come to the other node has come here, in `rest`: what was held follows it.
    pub(in crate::outbox) fn release(&mut self, rest: Vec<Kept>, now: Instant) {
        self.append(rest, now);
        self.mode = Mode::Open;
        let held = self.held.take().unwrap_or_default();
        for Entry { text, read_at } in held.entries {
            self.push(&text, read_at);
        }
    }
}
