//! When a track may open a stream: all tracks of a provider ask the same gate.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus::IntGauge;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use super::breaker::Breaker;

/// How many opens may be under way while all goes well.
const MOST_OPENING: usize = 64;
/// How long a provider that is busy is left alone, unless it says how long.
const BUSY: Duration = Duration::from_secs(2);
/// The longest time for which it is left alone.
const LONGEST_BUSY: Duration = Duration::from_secs(60);
/// When to ask again if others are before.
const SOON: Duration = Duration::from_millis(100);

/// See [`gate`](self).
pub(super) struct Gate {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
    is_open: IntGauge,
    provider: &'static str,
}

struct Inner {
    breaker: Breaker,
    opening: usize,
    /// Since it said that it is busy, streams are opened one at a time, from then on.
    busy_until: Option<Instant>,
}

/// Whether a stream may be opened.
pub(super) enum Ask {
    Go(Attempt),
    /// Not before then.
    Later(Instant, Why),
}

/// Why a stream may not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The breaker is open.
    Down,
    /// The provider has said that it is busy.
    Busy,
    /// Others are opening theirs.
    Others,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Opened,
    Failed,
    /// It will fail for everybody.
    Refused,
    Busy(Option<Duration>),
    /// It says nothing about the provider.
    Nothing,
}

/// An attempt that is under way. Dropped without an outcome it counts as given up.
pub(super) struct Attempt {
    gate: Arc<Gate>,
    outcome: Option<Outcome>,
}

impl Gate {
    pub(super) fn new(provider: &'static str, is_open: IntGauge) -> Arc<Self> {
        let inner = Inner {
            breaker: Breaker::new(),
            opening: 0,
            busy_until: None,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            changed: watch::Sender::new(()),
            is_open,
            provider,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when the provider may be asked again.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn ask(self: &Arc<Self>, now: Instant) -> Ask {
        let mut inner = self.inner();
        let mut most = MOST_OPENING;
        if inner.breaker.has_failed() {
            most = usize::try_from(inner.breaker.failures_left()).unwrap_or(1);
        }
        if let Some(until) = inner.busy_until {
            if now < until {
                return Ask::Later(until, Why::Busy);
            }
            most = 1;
        }
        if inner.opening >= most && !inner.breaker.is_open() {
            let why = if inner.busy_until.is_some() {
                Why::Busy
            } else {
                Why::Others
            };
            return Ask::Later(now + SOON, why);
        }
        match inner.breaker.ask(now) {
            Err(at) => Ask::Later(at, Why::Down),
            Ok(()) => {
                inner.opening += 1;
                Ask::Go(Attempt {
                    gate: Arc::clone(self),
                    outcome: None,
                })
            }
        }
    }

    /// A stream that was opened was lost before the provider had said anything.
    pub(super) fn was_useless(&self, now: Instant) {
        let mut inner = self.inner();
        if !inner.breaker.is_open() {
            inner.breaker.failed(now);
            self.tell(false, inner.breaker.is_open(), "streams are lost at once");
        }
    }

    /// The provider may have become another one: try it.
    pub(super) fn reset(&self) {
        let mut inner = self.inner();
        self.tell(inner.breaker.is_open(), false, "it has a new key");
        inner.breaker = Breaker::new();
        inner.busy_until = None;
        self.changed.send_replace(());
    }

    fn ended(&self, outcome: Option<Outcome>) {
        let now = Instant::now();
        let mut inner = self.inner();
        inner.opening = inner.opening.saturating_sub(1);
        let (was_open, was_busy) = (inner.breaker.is_open(), inner.busy_until.is_some());
        let mut why = "opens fail";
        match outcome {
            Some(Outcome::Opened) => {
                inner.breaker.succeeded(now);
                inner.busy_until = None;
                why = "it answers again";
            }
            Some(Outcome::Failed) => inner.breaker.failed(now),
            Some(Outcome::Refused) => {
                inner.breaker.trip(now);
                why = "it refuses";
            }
            Some(Outcome::Busy(wait)) => {
                // It answers: that is no failure.
                inner.breaker.succeeded(now);
                let wait = wait.unwrap_or(BUSY).clamp(SOON, LONGEST_BUSY);
                inner.busy_until = Some(now + wait);
                why = "it answers again";
            }
            Some(Outcome::Nothing) | None => inner.breaker.gave_up(),
        }
        let is_open = inner.breaker.is_open();
        self.tell(was_open, is_open, why);
        if was_open && !is_open || was_busy && inner.busy_until.is_none() {
            self.changed.send_replace(());
        }
    }

    fn tell(&self, was_open: bool, is_open: bool, why: &str) {
        if was_open == is_open {
            return;
        }
        self.is_open.set(i64::from(is_open));
        let provider = self.provider;
        if is_open {
            warn!(provider, why, "the provider is left alone for a while");
        } else {
            info!(provider, why, "the provider is used again");
        }
    }
}

impl Attempt {
    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.gate.ended(self.outcome);
    }
}
