//! What was received and is not yet handled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

/// Bytes of messages that were received and not yet handled. What comes beyond is dropped: a gap like any other.
const INBOX_BYTES: usize = 8 << 20;

/// Messages in the inbox, which their bytes bound before.
const INBOX_MESSAGES: usize = 65_536;

/// A message as it was published.
#[derive(Debug)]
pub struct Message {
    /// It was published to all nodes, not to this one.
    pub control: bool,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// What other nodes published to this one, in the engine's order. Bounded: 8 MiB that are not taken.
#[derive(Debug)]
pub struct Inbox {
    messages: mpsc::Receiver<Message>,
    waiting: Arc<AtomicUsize>,
}

impl Inbox {
    pub(super) fn new() -> (Sender, Self) {
        let (sender, messages) = mpsc::channel(INBOX_MESSAGES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let sender = Sender {
            messages: sender,
            waiting: Arc::clone(&waiting),
        };
        (sender, Self { messages, waiting })
    }

    /// The next message; `None` once the engine has been dropped.
    pub async fn take(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        self.waiting
            .fetch_sub(message.bytes.len(), Ordering::Relaxed);
        Some(message)
    }
}

/// The engine's end of the inbox.
#[derive(Debug)]
pub(super) struct Sender {
    messages: mpsc::Sender<Message>,
    waiting: Arc<AtomicUsize>,
}

impl Sender {
    /// Whether there is room for it.
    pub(super) fn send(&self, message: Message) -> bool {
        let bytes = message.bytes.len();
        let waiting = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let sent = waiting + bytes <= INBOX_BYTES && self.messages.try_send(message).is_ok();
        if !sent {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}
