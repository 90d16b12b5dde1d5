//! What waits for one participant's connection. Finals do not wait here: the connection reads them from the session's
//! log at its own speed, so that a slow reader costs nobody memory.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Messages that may wait, besides finals and partials.
const MAX_MESSAGES: usize = 256;

/// Utterances of which a partial may wait: more than a session has speakers.
const MAX_PARTIALS: usize = 64;

/// Why a connection is closed from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// A newer connection of the participant has come.
    Replaced,
    /// The client does not read what it is sent.
    SlowReader,
    /// The session has ended; `ended` was told.
    Ended,
    /// The server is about to stop.
    Draining,
    /// Another server has the session; `moved` was told.
    Moved,
}

/// The mailbox of a connection.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    notify: Notify,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<String>,
    /// The newest partial of each utterance, oldest first.
    partials: VecDeque<(String, String)>,
    /// The log, or what is stored of it, has grown.
    log_grew: bool,
    closing: Option<Closing>,
    /// What is said after everything else.
    last_words: Option<String>,
}

/// What a connection finds in its mailbox.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) messages: VecDeque<String>,
    pub(crate) partials: Vec<String>,
    pub(crate) closing: Option<Closing>,
    /// To be said after everything else.
    pub(crate) last_words: Option<String>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a message that must arrive. Too many of them mean that nobody reads.
    pub(crate) fn send(&self, message: String) {
        let mut waiting = self.lock();
        if waiting.messages.len() == MAX_MESSAGES {
            waiting.closing.get_or_insert(Closing::SlowReader);
        } else if waiting.closing.is_none() {
            waiting.messages.push_back(message);
        }
        drop(waiting);
        self.notify.notify_one();
    }

    /// Puts in a partial; it takes the place of the one before of the same utterance.
    pub(crate) fn send_partial(&self, utterance: &str, message: String) {
        let mut waiting = self.lock();
        if let Some((_, old)) = waiting.partials.iter_mut().find(|(of, _)| of == utterance) {
            *old = message;
        } else {
            if waiting.partials.len() == MAX_PARTIALS {
                waiting.partials.pop_front();
            }
            waiting.partials.push_back((utterance.to_owned(), message));
        }
        drop(waiting);
        self.notify.notify_one();
    }

    /// An utterance is over: its partial says nothing new any more.
    pub(crate) fn drop_partial(&self, utterance: &str) {
        self.lock().partials.retain(|(of, _)| of != utterance);
    }

    /// There is something new in the session's log.
    pub(crate) fn log_grew(&self) {
        self.lock().log_grew = true;
        self.notify.notify_one();
    }

    /// The connection is to end, when what waits was sent.
    pub(crate) fn close(&self, closing: Closing) {
        self.lock().closing.get_or_insert(closing);
        self.notify.notify_one();
    }

    /// The connection is to end, with this message, which comes after all that was said in the session.
    pub(crate) fn leave(&self, closing: Closing, last_words: String) {
        let mut waiting = self.lock();
        if waiting.closing.is_none() {
            (waiting.closing, waiting.last_words) = (Some(closing), Some(last_words));
        }
        drop(waiting);
        self.notify.notify_one();
    }

    /// Waits for mail.
    pub(crate) async fn next(&self) -> Mail {
        loop {
            {
                let mut waiting = self.lock();
                let mail = Mail {
                    messages: std::mem::take(&mut waiting.messages),
                    partials: waiting
                        .partials
                        .drain(..)
                        .map(|(_, message)| message)
                        .collect(),
                    closing: waiting.closing,
                    last_words: waiting.last_words.take(),
                };
                if std::mem::take(&mut waiting.log_grew) || mail != Mail::default() {
                    return mail;
                }
            }
            self.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_an_utterance_only_the_newest_partial_waits() {
        let mailbox = Mailbox::default();
        mailbox.send_partial("1", "a".into());
        mailbox.send_partial("2", "b".into());
        mailbox.send_partial("1", "c".into());
        mailbox.send("x".into());
        let mail = mailbox.next().await;
        assert_eq!(mail.partials, ["c", "b"]);
        assert_eq!(mail.messages, ["x"]);
        mailbox.send_partial("1", "d".into());
        mailbox.drop_partial("1");
        mailbox.log_grew();
        assert_eq!(mailbox.next().await, Mail::default());
    }

    #[tokio::test]
    async fn who_does_not_read_is_closed_and_costs_no_more_memory() {
        let mailbox = Mailbox::default();
        (0..10 * MAX_MESSAGES).for_each(|n| mailbox.send(n.to_string()));
        (0..10 * MAX_PARTIALS).for_each(|n| mailbox.send_partial(&n.to_string(), String::new()));
        let mail = mailbox.next().await;
        assert_eq!(mail.messages.len(), MAX_MESSAGES);
        assert_eq!(mail.partials.len(), MAX_PARTIALS);
        assert_eq!(mail.closing, Some(Closing::SlowReader));
    }
}
