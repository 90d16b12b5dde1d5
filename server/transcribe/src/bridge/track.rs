//! The task of a track: waits for what happens, and keeps a stream open while there is audio.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::future::pending;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    Failure, GapReason, Heard, Hub, Inbox, ProviderState, Shared, TrackSpec,
    gate::Attempt,
    stream::{Interrupted, Stream},
    transcript::Transcript,
};
use crate::provider::{BoxFuture, Event, Link, OpenError, pcm};

/// So long without a frame is a pause.
const IDLE: Duration = Duration::from_secs(20);
/// How long a track that is finished waits for a stream for what it has left.
const FINISH: Duration = Duration::from_secs(5);
/// How long it may take to end, all in all.
const FINISH_ALL: Duration = Duration::from_secs(15);
/// A provider that is away for so long is down.
const DOWN: Duration = Duration::from_secs(10);
/// How often a track looks whether something is due.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// A gap is told when it is so long, and before if audio goes on.
const LONG_GAP: u64 = 60 * pcm::BYTES_PER_SECOND;
/// How much goes at once when a stream is too slow.
pub(super) const SLACK: u64 = 2 * pcm::BYTES_PER_SECOND;

/// See [`track`](self).
pub(super) struct Track {
    pub(super) hub: Arc<Hub>,
    pub(super) shared: Arc<Shared>,
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) outgoing: VecDeque<Heard>,
    /// The language of its stream.
    pub(super) language: Option<String>,
    most_bytes: u64,
    pub(super) phase: Phase,
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// The stream that was lost, if it may go on, and how often that has failed.
    pub(super) interrupted: Option<Interrupted>,
    pub(super) resume_failures: u32,
    /// Opens that failed and streams that were lost since one has lasted.
    pub(super) failures: u32,
    /// Since when there is no stream although there is audio.
    pub(super) away_since: Option<Instant>,
    /// Since when the provider is busy.
    pub(super) busy_since: Option<Instant>,
    pub(super) state: Option<ProviderState>,
    pub(super) failed: Option<Failure>,
    pub(super) job: Option<String>,
    /// Changes while it waits at the gate.
    pub(super) gate: watch::Receiver<()>,
    pub(super) transcript: Transcript,
    /// The position up to which the provider has accepted audio.
    pub(super) accepted: u64,
    finished_at: Option<Instant>,
    pub(super) next_lag: Instant,
}

/// What a track does.
pub(super) enum Phase {
    /// There is no audio to send.
    Idle,
    /// As many streams as may are open.
    Queued(BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>),
    /// It tries again then, or, if it waits for the gate, when that has changed.
    Waiting {
        until: Instant,
        is_at_gate: bool,
    },
    Opening(Opening),
    Streaming(Box<Stream>),
    Over,
}

/// A stream that is being opened.
pub(super) struct Opening {
    pub(super) open: BoxFuture<'static, Result<Link, OpenError>>,
    pub(super) attempt: Attempt,
    pub(super) is_resuming: bool,
    /// When it is given up.
    pub(super) until: Instant,
}

/// What has happened.
enum Woken {
    /// Something may be due: a time has come, audio has, or a stream has room for it.
    Look,
    /// The gate has changed.
    Gate,
    Slot(Option<OwnedSemaphorePermit>),
    Opened(Result<Link, OpenError>),
    Event(Option<Event>),
    /// Nobody hears us.
    Deaf,
}

impl Phase {
    async fn next(&mut self) -> Woken {
        match self {
            Self::Idle | Self::Waiting { .. } | Self::Over => pending().await,
            Self::Queued(slot) => Woken::Slot(slot.await.ok()),
            Self::Opening(opening) => Woken::Opened((&mut opening.open).await),
            Self::Streaming(stream) => tokio::select! {
                event = stream.link.events.recv() => Woken::Event(event),
                _ = stream.link.audio.reserve(), if stream.is_blocked => Woken::Look,
            },
        }
    }
}

impl Track {
    pub(super) fn new(
        hub: Arc<Hub>,
        shared: Arc<Shared>,
        heard: mpsc::Sender<Heard>,
        spec: TrackSpec,
        most_bytes: u64,
    ) -> Self {
        hub.metrics
            .active
            .with_label_values(&[hub.provider.name()])
            .inc();
        Self {
            gate: hub.gate.changes(),
            hub,
            shared,
            heard,
            outgoing: VecDeque::new(),
            language: spec.language,
            most_bytes,
            phase: Phase::Idle,
            slot: None,
            interrupted: None,
            resume_failures: 0,
            failures: 0,
            away_since: None,
            busy_since: None,
            state: None,
            failed: None,
            job: None,
            transcript: Transcript::default(),
            accepted: 0,
            finished_at: None,
            next_lag: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.look(now);
            if self.tell_all().await.is_err() || matches!(self.phase, Phase::Over) {
                return;
            }
            match self.wait().await {
                Woken::Look => {}
                Woken::Gate => self.wait_until(Instant::now()),
                Woken::Slot(slot) => self.got_slot(slot, Instant::now()),
                Woken::Opened(opened) => self.opened(opened, Instant::now()),
                Woken::Event(Some(event)) => self.event(event, Instant::now()),
                Woken::Event(None) => self.stream_ended(Instant::now()),
                Woken::Deaf => return,
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let due = self.due();
        let is_at_gate = matches!(
            self.phase,
            Phase::Waiting {
                is_at_gate: true,
                ..
            }
        );
        let Self {
            gate,
            shared,
            heard,
            phase,
            ..
        } = self;
        tokio::select! {
            woken = phase.next() => woken,
            () = shared.changed.notified() => Woken::Look,
            Ok(()) = gate.changed(), if is_at_gate => Woken::Gate,
            () = heard.closed() => Woken::Deaf,
            () = sleep_until(due) => Woken::Look,
        }
    }
    /// When to look again at the latest.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let tick = now + TICK;
        match &self.phase {
            Phase::Idle | Phase::Over => now + IDLE,
            Phase::Queued(_) => tick,
            Phase::Waiting { until, .. } => tick.min(*until),
            Phase::Opening(opening) => tick.min(opening.until),
            Phase::Streaming(stream) => tick.min(stream.due()),
        }
    }

    /// Tries again then.
    pub(super) fn wait_until(&mut self, until: Instant) {
        self.phase = Phase::Waiting {
            until,
            is_at_gate: false,
        };
    }

    /// Does all that is due.
    fn look(&mut self, now: Instant) {
        self.look_for_end(now);
        self.look_for_outage(now);
        loop {
            let has_changed = match &self.phase {
                Phase::Idle => self.begin(now),
                Phase::Waiting { until, .. } if now >= *until => self.try_open(now),
                Phase::Opening(opening) if now >= opening.until => {
                    self.opened(Err(OpenError::Unreachable), now);
                    true
                }
                Phase::Streaming(_) => self.pump(now),
                Phase::Queued(_) | Phase::Waiting { .. } | Phase::Opening(_) | Phase::Over => false,
            };
            if !has_changed {
                break;
            }
        }
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        let is_over = matches!(self.phase, Phase::Over);
        if is_over || matches!(self.phase, Phase::Idle) || inbox.buffer.gap_bytes() >= LONG_GAP {
            self.tell_gaps(&mut inbox.buffer);
        }
        if is_over {
            self.tell(Heard::Ended);
        }
    }

    fn look_for_end(&mut self, now: Instant) {
        let shared = Arc::clone(&self.shared);
        if shared.inbox().is_given_up {
            self.hear_rest(now);
            self.give_up(&mut shared.inbox());
            self.phase = Phase::Over;
        }
        let mut inbox = shared.inbox();
        if inbox.buffer.end() >= self.most_bytes && !inbox.is_finished {
            inbox.is_finished = true;
            self.tell_failure(Failure::MaxDuration);
        }
        if !inbox.is_finished {
            return;
        }
        let finished = *self.finished_at.get_or_insert(now);
        let within = match self.phase {
            Phase::Queued(_) | Phase::Waiting { .. } | Phase::Opening(_) => FINISH,
            Phase::Streaming(_) => FINISH_ALL,
            Phase::Idle | Phase::Over => return,
        };
        if now >= finished + within {
            self.give_up(&mut inbox);
            self.phase = Phase::Over;
        }
    }

    fn look_for_outage(&mut self, now: Instant) {
        let is_away = self.away_since.is_some_and(|since| now >= since + DOWN);
        if is_away
            && matches!(self.phase, Phase::Waiting { .. } | Phase::Opening(_))
            && self.busy_since.is_none()
        {
            self.down();
        }
        if self.busy_since.is_some_and(|since| now >= since + DOWN) {
            self.tell_failure(Failure::ProviderBusy);
        }
    }

    /// Without a stream: opens one if there is audio, or ends.
    fn begin(&mut self, now: Instant) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        if !inbox.buffer.is_sent() && self.hub.budget.is_spent(now) {
            inbox.buffer.drop_unsent(GapReason::Budget);
            inbox.buffer.settle_sent();
            self.tell_failure(Failure::Budget);
        }
        if !inbox.buffer.is_sent() {
            drop(inbox);
            self.queue(now);
            return true;
        }
        if inbox.is_finished {
            self.phase = Phase::Over;
            return true;
        }
        false
    }

    /// Whether no audio is to be expected.
    pub(super) fn is_quiet(inbox: &Inbox, now: Instant) -> bool {
        inbox.is_finished || inbox.is_paused || now.duration_since(inbox.last_frame) >= IDLE
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.not_busy();
        self.hub
            .metrics
            .active
            .with_label_values(&[self.hub.provider.name()])
            .dec();
    }
}
