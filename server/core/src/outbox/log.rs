//! What a resumable session was sent and may have to be sent again: numbered messages, kept until the user has
//! confirmed them. The outbox locks it and knows the link.
//!
//! ```text
//!  confirmed | entries[..next]: staged or sent | entries[next..]: not yet
//!            ^ first                           ^ first + next
//! ```

mod kept;

use std::{collections::VecDeque, task::Waker, time::Instant};

use super::{Link, Message, small};
use crate::metrics::Metrics;
pub(crate) use kept::{Kept, KeptLog};

/// Bytes of entries that are staged for the link at a time.
const STAGED_BYTES: usize = 64 * 1024;

/// What the log holds of sent messages, and of all messages while nobody is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogLimits {
    /// Messages.
    pub messages: u32,
    /// Bytes of messages. One message is always kept, however long it is.
    pub bytes: u32,
}

/// The user's position lies before the oldest message that is still there.
#[derive(Debug, PartialEq, Eq)]
pub enum Behind {
    /// What comes after it was given up: the session cannot go on.
    TooOld,
    /// The user has proved to have more: it is that of an old request, which comes late.
    Stale,
}

/// What a log does with new messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// It numbers them.
    #[default]
    Open,
    /// Nothing will carry the session any more: it drops them.
    Vacant,
    /// The session is on its way here from another node: they wait for the numbers behind what is still to come from there.
    Held,
}

/// Messages without a number, and their bytes.
#[derive(Default)]
struct Held {
    entries: Vec<Entry>,
    bytes: usize,
}

struct Entry {
    /// JSON, its number included unless it is held.
    text: Box<[u8]>,
    /// When it was read, for messages whose relay is timed.
    read_at: Option<Instant>,
}

/// The numbered messages to one user.
#[derive(Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// Messages that were confirmed or given up: the number of the first entry is one more.
    forgotten: u64,
    /// Entries that were staged or sent.
    next: u32,
    /// Bytes of all entries, and of those that are not sent.
    bytes: usize,
    unsent_bytes: u32,
    /// How many of the forgotten messages were given up since the user last proved to have all before them.
    given_up: u32,
    /// Polls carry the session: nothing is lost yet, although there is no link.
    pub(super) is_polled: bool,
    pub(super) mode: Mode,
    /// What waits for a number, while the mode is [`Mode::Held`].
    held: Option<Box<Held>>,
    /// Framed, and not yet taken by the link.
    staged: Vec<u8>,
    /// Bytes of `staged` that the link has taken.
    taken: u32,
    /// Framed, and to be staged before the next entry: what has no number.
    urgent: Vec<u8>,
    /// Framed, and to be staged after the last entry.
    last_words: Box<[u8]>,
    /// The number of the last message whose sending was measured.
    measured: u64,
    /// The number of the last message that was in the log when the link came.
    replayed: u64,
    limits: LogLimits,
    /// What carries the session. It is here, so that an outbox without a link of its own looks for a log.
    pub(super) link: Option<Box<dyn Link>>,
    /// Memory that the metrics know of.
    counted: u32,
    /// Whom to wake when there is something to take.
    reader: Option<Waker>,
}

impl Log {
    pub(super) fn new(limits: LogLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The number of the last message.
    pub(super) fn last(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    /// The number of the last message that was taken, or staged.
    pub(super) fn sent(&self) -> u64 {
        self.forgotten + u64::from(self.next)
    }

    /// The number of the last message that was confirmed, or given up.
    pub(super) fn confirmed(&self) -> u64 {
        self.forgotten
    }

    /// Counts the memory that all logs use.
    pub(super) fn count(&mut self, metrics: &Metrics) {
        let memory = u32::try_from(self.memory()).unwrap_or(u32::MAX);
        if memory != self.counted {
            metrics
                .resume_log_bytes
                .add(i64::from(memory) - i64::from(self.counted));
            self.counted = memory;
        }
    }

    /// Ends that count.
    pub(super) fn uncount(&mut self, metrics: &Metrics) {
        metrics.resume_log_bytes.sub(self.counted.into());
        self.counted = 0;
    }

    /// Messages and bytes that are not sent.
    pub(super) fn unsent(&self) -> (usize, usize) {
        let staged = self.staged.len() - self.taken as usize + self.urgent.len();
        let unsent = self.entries.len() - self.next as usize;
        (unsent, self.unsent_bytes as usize + staged)
    }

    /// Whether the link has all that there is.
    pub(super) fn is_flushed(&self) -> bool {
        let unsent = (self.next as usize) < self.entries.len();
        !unsent && self.staged.is_empty() && self.urgent.is_empty() && self.last_words.is_empty()
    }

    /// Whether the link has only whole messages.
    pub(super) fn is_between_messages(&self) -> bool {
        self.taken == 0
    }

    /// Bytes that it uses.
    pub(super) fn memory(&self) -> usize {
        let framed = self.staged.capacity() + self.urgent.capacity() + self.last_words.len();
        let held = self
            .held
            .as_deref()
            .map_or((0, 0), |held| (held.bytes, held.entries.capacity()));
        let entries = self.entries.capacity() + held.1;
        self.bytes + held.0 + entries * size_of::<Entry>() + framed
    }

    /// How many of the unsent messages are a partner's.
    pub(super) fn relays_unsent(&self) -> usize {
        let unsent = self.entries.iter().skip(self.next as usize);
        unsent.filter(|entry| entry.read_at.is_some()).count()
    }

    /// Gives `message`, a JSON object that is not empty, the next number and keeps it.
    pub(super) fn push(&mut self, message: &[u8], read_at: Option<Instant>) {
        let mut digits = itoa::Buffer::new();
        let number = digits.format(self.last() + 1).as_bytes();
        let parts = [
            br#"{"seq":"#,
            number,
            b",",
            message.get(1..).unwrap_or_default(),
        ];
        let text: Box<[u8]> = parts.concat().into();
        self.bytes += text.len();
        self.unsent_bytes = self.unsent_bytes.saturating_add(small(text.len()));
        self.entries.push_back(Entry { text, read_at });
    }

    /// Adds bytes that are framed and have no number.
    pub(super) fn push_urgent(&mut self, framed: &[u8]) {
        self.urgent.extend_from_slice(framed);
    }

    /// Frames a message without a number.
    pub(super) fn push_unnumbered(&mut self, event: &'static str, text: &[u8]) {
        if let Some(link) = &self.link {
            link.frame(Message::Unnumbered { event, text }, &mut self.urgent);
        }
    }

    /// Nothing goes out after `framed`.
    pub(super) fn finish(&mut self, framed: &[u8]) {
        self.last_words = framed.into();
    }

    /// Stages what is due, if nothing is staged; false: there is nothing to write.
    pub(super) fn stage(&mut self) -> bool {
        let Some(link) = &self.link else {
            return false;
        };
        if self.staged.is_empty() {
            self.staged.append(&mut self.urgent);
            self.urgent = Vec::new();
            while let Some(entry) = self.entries.get(self.next as usize)
                && self.staged.len() < STAGED_BYTES
            {
                let (seq, text) = (self.forgotten + u64::from(self.next) + 1, &entry.text);
                link.frame(Message::Numbered { seq, text }, &mut self.staged);
                self.unsent_bytes = self.unsent_bytes.saturating_sub(small(text.len()));
                self.next += 1;
            }
            if self.next as usize == self.entries.len() {
                self.staged
                    .extend_from_slice(&std::mem::take(&mut self.last_words));
            }
        }
        !self.staged.is_empty()
    }

    /// Exchanges the empty buffer for staged bytes with one that others have used before.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        if self.staged.is_empty() {
            std::mem::swap(&mut self.staged, buffer);
        }
    }

    /// What is to be written.
    pub(super) fn staged(&self) -> &[u8] {
        &self.staged[self.taken as usize..]
    }

    /// The link took that many of the staged bytes.
    pub(super) fn took(&mut self, bytes: usize, metrics: &Metrics) {
        metrics.sent_bytes(bytes);
        self.taken += u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.taken as usize == self.staged.len() {
            self.taken = 0;
            self.staged.clear();
            self.measure(metrics);
        }
    }

    /// From now on `waker` is woken when there is something to take.
    pub(super) fn set_reader(&mut self, waker: &Waker) {
        self.reader = Some(waker.clone());
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Takes unsent messages, one JSON text after another with commas between them, for a transport that asks for
    /// them; at the most so many and so many bytes, but one at least. Returns the number of the last one.
    pub(super) fn take(&mut self, limits: LogLimits, out: &mut Vec<u8>, metrics: &Metrics) -> u64 {
        let start = out.len();
        for taken in 0..limits.messages {
            let Some(entry) = self.entries.get(self.next as usize) else {
                break;
            };
            if taken > 0 && out.len() - start + entry.text.len() > limits.bytes as usize {
                break;
            }
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(&entry.text);
            self.unsent_bytes = self.unsent_bytes.saturating_sub(small(entry.text.len()));
            self.next += 1;
        }
        metrics.sent_bytes(out.len() - start);
        self.measure(metrics);
        self.sent()
    }

    /// Measures how long the messages took that have just been sent for the first time.
    fn measure(&mut self, metrics: &Metrics) {
        let sent = self.sent();
        let from = self.measured.max(self.forgotten);
        self.measured = self.measured.max(sent);
        let skip = usize::try_from(from - self.forgotten).unwrap_or(usize::MAX);
        for (i, entry) in self
            .entries
            .range(..self.next as usize)
            .enumerate()
            .skip(skip)
        {
            let number = self.forgotten + i as u64 + 1;
            match entry.read_at {
                Some(read_at) if number > self.replayed => {
                    metrics.relay_latency(read_at.elapsed(), 1);
                }
                Some(read_at) => metrics.replay_delay(read_at.elapsed()),
                None => {}
            }
        }
    }

    /// The user has all messages up to this number.
    pub(super) fn confirm(&mut self, number: u64) {
        let number = number.min(self.sent());
        while self.forgotten < number {
            self.forget_first();
        }
        let missing = self.forgotten - number;
        self.given_up = self
            .given_up
            .min(small(usize::try_from(missing).unwrap_or(usize::MAX)));
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    fn forget_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.forgotten += 1;
            self.bytes -= entry.text.len();
            if self.next > 0 {
                self.next -= 1;
            } else {
                self.unsent_bytes = self.unsent_bytes.saturating_sub(small(entry.text.len()));
            }
        }
    }

    /// Gives up the oldest sent messages until the rest is within the limits. False: the rest is unsent, and more than
    /// the limits allow.
    pub(super) fn trim(&mut self) -> bool {
        let LogLimits { messages, bytes } = self.limits;
        while self.entries.len() > 1
            && (self.entries.len() > messages as usize || self.bytes > bytes as usize)
        {
            if self.next == 0 {
                return false;
            }
            self.forget_first();
            self.given_up = self.given_up.saturating_add(1);
        }
        true
    }

    /// Forgets all messages: the session ends. What the link has begun to take stays.
    pub(super) fn discard(&mut self) {
        self.forgotten = self.last();
        self.entries = VecDeque::new();
        self.urgent = Vec::new();
        self.next = 0;
        self.bytes = 0;
        self.unsent_bytes = 0;
        self.held = None;
    }

    /// The link is gone: what it had begun to take is worth nothing to another one.
    pub(super) fn cut(&mut self) {
        self.staged = Vec::new();
        self.taken = 0;
        self.urgent = Vec::new();
    }

    /// Begins again on another link after message `after`. Returns how many messages will be sent again, or late.
    pub(super) fn rewind(&mut self, after: u64) -> Result<u64, Behind> {
        let replay = self.go_back(after)?;
        self.cut();
        self.replayed = self.last();
        Ok(replay)
    }

    /// Begins again after message `after`. Returns how many messages there are after it.
    pub(super) fn go_back(&mut self, after: u64) -> Result<u64, Behind> {
        if after < self.forgotten - u64::from(self.given_up) {
            return Err(Behind::Stale);
        }
        if after < self.forgotten {
            return Err(Behind::TooOld);
        }
        // A user cannot have what was never sent.
        self.confirm(after);
        self.next = 0;
        self.unsent_bytes = small(self.bytes);
        Ok(self.entries.len() as u64)
    }
}
