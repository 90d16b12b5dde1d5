//! How a session ends, here or for all: its last words become text or gaps, and all of it is stored.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};
use voicematch_protocol::transcribe::{EndReason, Told};

use super::{LAST_WORDS, Session, State, tell};
use crate::{deliver::Closing, record::Record, time::wall_ms};

/// How long a track may take to tell what is missing when nobody waits for its provider any more: that needs only this machine.
const GIVING_UP: Duration = Duration::from_secs(5);

/// How far the end of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    NotYet,
    /// All that was said is text or a gap, and the writer has it, with the end.
    Written,
    /// All who are there know it.
    Told,
}

impl Session {
    /// No more audio is taken, and the session ends. The first reason counts. `over` waits for it.
    pub(crate) fn begin_end(self: &Arc<Self>, reason: EndReason) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(reason);
        self.finish_tracks(&mut state);
        drop(state);
        // In a task of its own: who has asked for it may not wait for it.
        tokio::spawn(self.clone().end(reason));
    }

    /// Waits until the end that has begun is stored, and told to all.
    pub(crate) async fn over(&self) {
        self.is_at(End::Told).await;
    }

    async fn is_at(&self, end: End) {
        let mut now = self.end.subscribe();
        // It cannot fail: the sender is here.
        let _ = now.wait_for(|now| *now >= end).await;
    }

    /// Waits for the last words, stores the end, and tells all.
    async fn end(self: Arc<Self>, reason: EndReason) {
        self.last_words(Instant::now() + LAST_WORDS).await;
        let ended = Record::SessionEnded {
            id: self.row.id,
            ended_ms: wall_ms(),
        };
        let stored = self.parts.writer.write_now(ended);
        self.end.send_replace(End::Written);
        let all_stored = async {
            stored.await;
            self.all_settled().await;
        };
        let _ = timeout(LAST_WORDS, all_stored).await;
        {
            let state = self.lock();
            let told = Told::Ended {
                reason,
                audio_ms: state.audio_ms(),
                segments: state.log.last(),
                stored_through: state.log.stored_through(),
            };
            let told = tell::write(&told);
            for mailbox in state.mailboxes() {
                mailbox.leave(Closing::Ended, told.clone());
            }
        }
        self.end.send_replace(End::Told);
    }

    async fn all_settled(&self) {
        loop {
            let settled = self.settled.notified();
            let is_settled = {
                let state = self.lock();
                state.log.stored_through() == state.log.last()
            };
            if is_settled {
                return;
            }
            settled.await;
        }
    }

    /// Waits until no track is open. What is not text then is a gap.
    async fn last_words(&self, until: Instant) {
        let mut open = self.open_tracks.subscribe();
        if timeout_at(until, open.wait_for(|open| *open == 0))
            .await
            .is_ok()
        {
            return;
        }
        for track in &self.lock().tracks {
            track.bridge.give_up();
        }
        let given_up = timeout(GIVING_UP, open.wait_for(|open| *open == 0)).await;
        if given_up.is_err() {
            let (slug, tracks) = (&self.row.slug, *self.open_tracks.borrow());
            tracing::error!(slug, tracks, "what was said last is neither text nor a gap");
        }
    }

    /// No more audio comes to any track.
    fn finish_tracks(self: &Arc<Self>, state: &mut State) {
        self.tell_all_missed(state);
        for track in &state.tracks {
            track.bridge.finish();
        }
    }

    /// The server stops: the providers are asked for their last words. `send_away` sends the participants away.
    pub(crate) fn drain(self: &Arc<Self>) {
        let mut state = self.lock();
        state.draining = true;
        self.finish_tracks(&mut state);
    }

    /// After `drain`: waits until the writer has all of the session.
    pub(crate) async fn drained(&self, until: Instant) {
        self.last_words(until).await;
        if self.lock().ended.is_some() {
            self.is_at(End::Written).await;
        }
    }

    /// Another process has the session, whose clients reach it at `url`, if that says so.
    pub(crate) fn lose(self: &Arc<Self>, url: &str) {
        // Before the drain: nothing gets a number here any more.
        self.lock().is_lost = true;
        self.drain();
        let state = self.lock();
        let told = tell::write(&Told::Moved { url });
        for mailbox in state.mailboxes() {
            match url.is_empty() {
                true => mailbox.close(Closing::Draining),
                false => mailbox.leave(Closing::Moved, told.clone()),
            }
        }
    }

    /// Sends all away; from a session that has ended with the word that it has.
    pub(crate) async fn send_away(&self) {
        if self.lock().ended.is_some() {
            self.over().await;
        }
        for mailbox in self.lock().mailboxes() {
            mailbox.close(Closing::Draining);
        }
    }
}
