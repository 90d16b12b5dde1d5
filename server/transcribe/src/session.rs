//! One transcription session while it goes on: who is there, what was said, and whom that is told.

mod attachment;
mod ending;
mod heard;
mod log;
mod missed;
mod people;
mod reconcile;
mod tell;
mod tracks;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use voicematch_protocol::transcribe::{Deliver, EndReason, ProviderState, Role};

pub use attachment::{Attachment, Out, Reaction, Tool};
pub(crate) use log::{Entry, Found, Log};
pub(crate) use people::Person;
pub use people::participant_name;

use ending::End;
use tracks::Track;

use crate::{
    parts::Parts,
    record::{Record, RowId, Session as Row},
    store::writer::{Health, Outcome},
    time::wall_ms,
};

/// How long a session without its host is transcribed, where only the host receives anything.
pub const HOST_GRACE: Duration = Duration::from_secs(60);

/// A session without audio for this long ends.
pub const IDLE: Duration = Duration::from_secs(600);

/// A speaker who comes back within this time goes on with the same track.
pub const TRACK_GRACE: Duration = Duration::from_secs(15);

/// How long the provider and the database may take for the last words of a session that ends.
pub const LAST_WORDS: Duration = Duration::from_secs(5);

/// A session that goes on.
pub(crate) struct Session {
    pub(crate) row: Row,
    pub(crate) deliver: Deliver,
    pub(crate) parts: Arc<Parts>,
    state: Mutex<State>,
    /// This process has been the one that has it.
    held: AtomicBool,
    /// How many tracks are open; and when that changes.
    open_tracks: watch::Sender<usize>,
    /// How far its end is.
    end: watch::Sender<End>,
    /// Told whenever a segment is stored, or lost.
    settled: Notify,
}

/// What changes of it.
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) people: HashMap<RowId, Person>,
    /// All tracks that are open, also those to which nothing more is said.
    tracks: Vec<Arc<Track>>,
    /// Whose each track is, also of those that have ended.
    pub(crate) speakers: HashMap<RowId, RowId>,
    /// The first audio: when it came here, and its time since 1970 in milliseconds.
    epoch: Option<(Instant, i64)>,
    began: Instant,
    last_audio: Instant,
    /// When its host was there last.
    host_seen: Instant,
    paused: bool,
    /// No audio is taken any more: the server stops.
    draining: bool,
    /// Another process numbers the segments now.
    is_lost: bool,
    /// The provider is asked for what a process before was waiting for.
    pub(crate) reconciling: bool,
    pub(crate) ended: Option<EndReason>,
    /// Milliseconds of audio of tracks that have ended.
    pub(crate) audio_ms: u64,
}

impl Session {
    /// A session that begins, or goes on after a restart: then `log` and `epoch_ms` say where.
    pub(crate) fn new(row: Row, log: Log, epoch_ms: Option<i64>, parts: Arc<Parts>) -> Arc<Self> {
        let now = Instant::now();
        let epoch = epoch_ms.map(|first| {
            let passed = u64::try_from(wall_ms() - first).unwrap_or(0);
            // A machine that has booted since then knows no earlier instant: the session's clock begins there.
            let passed = Duration::from_millis(passed);
            now.checked_sub(passed)
                .map_or((now, wall_ms()), |at| (at, first))
        });
        let deliver = Deliver::ALL
            .iter()
            .find(|deliver| deliver.as_str() == row.deliver);
        parts.metrics.sessions_active.inc();
        Arc::new(Self {
            deliver: deliver.copied().unwrap_or(Deliver::Host),
            row,
            parts,
            state: Mutex::new(State {
                log,
                people: HashMap::new(),
                tracks: Vec::new(),
                speakers: HashMap::new(),
                epoch,
                began: epoch.map_or(now, |(first, _)| first),
                last_audio: now,
                host_seen: now,
                paused: false,
                draining: false,
                is_lost: false,
                reconciling: false,
                ended: None,
                audio_ms: 0,
            }),
            held: AtomicBool::new(false),
            open_tracks: watch::Sender::new(0),
            end: watch::Sender::new(End::NotYet),
            settled: Notify::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that this process has it; whether it had it before.
    pub(crate) fn note_held(&self) -> bool {
        self.held.swap(true, SeqCst)
    }

    /// Numbers a segment, gives it to the writer and tells who is to know.
    fn add(self: &Arc<Self>, state: &mut State, entry: Entry) {
        if state.is_lost {
            self.parts.writer.lose_elsewhere();
            tracing::warn!(slug = %self.row.slug, "a final or gap came when another server had the session: it is lost");
            return;
        }
        let in_need = self.parts.writer.health() != Health::Good;
        let entry = state.log.push(entry, in_need);
        if let Some(utterance) = &entry.utterance {
            for person in state.people.values() {
                person.forget_partial(utterance);
            }
        }
        self.tell_log(state);
        let segment = entry.segment.clone();
        let receipt = self.parts.writer.write(Record::Segment(segment));
        let session = self.clone();
        tokio::spawn(async move {
            // What was deleted meanwhile is nobody's loss.
            let stored = matches!(receipt.await, Outcome::Stored(_) | Outcome::Deleted);
            let mut state = session.lock();
            state.log.settle(entry.segment.seq, stored);
            session.tell_log(&state);
            session.settled.notify_waiters();
        });
    }

    /// Milliseconds of the session at `now`; the first audio begins it.
    fn session_ms(&self, state: &mut State, now: Instant) -> u64 {
        let (began, _) = *state.epoch.get_or_insert_with(|| (now, wall_ms()));
        u64::try_from(now.saturating_duration_since(began).as_millis()).unwrap_or(u64::MAX)
    }

    /// Does what is due; why the session has to end, if it has.
    pub(crate) fn tick(self: &Arc<Self>, now: Instant) -> Option<EndReason> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return None;
        }
        if state.host_is_there() {
            state.host_seen = now;
        } else if self.deliver == Deliver::Host
            && !state.paused
            && now >= state.host_seen + HOST_GRACE
        {
            self.pause(&mut state);
        }
        self.drop_left_tracks(&mut state, now);
        let longest = self.parts.config.max_duration;
        if now >= state.began + longest {
            return Some(EndReason::MaxDuration);
        }
        (now >= state.last_audio + IDLE).then_some(EndReason::Idle)
    }

    /// Nobody receives what is said: nothing is transcribed until the host is back.
    fn pause(&self, state: &mut State) {
        state.paused = true;
        for (id, person) in &state.people {
            if let Some(track) = &person.track {
                track.bridge.pause();
                self.tell_state(state, *id, ProviderState::Paused, None);
            }
        }
    }

    /// Whether nobody is here, all that was said is text, and all of that is stored.
    pub(crate) fn is_unused(&self) -> bool {
        let state = self.lock();
        let is_open = state.ended.is_none() && !state.draining && !state.reconciling;
        is_open
            && !state.people.values().any(Person::is_there)
            && *self.open_tracks.borrow() == 0
            && state.log.stored_through() == state.log.last()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.parts.metrics.sessions_active.dec();
    }
}

impl State {
    /// Whether a connection of the host is there.
    fn host_is_there(&self) -> bool {
        self.people
            .values()
            .any(|person| person.role == Role::Host && person.is_there())
    }

    /// A frame of this participant has come, or no more does.
    fn spoke(&mut self, who: RowId, at: Option<Instant>) {
        if let Some(person) = self.people.get_mut(&who) {
            person.spoke = at;
        }
    }

    fn mailboxes(&self) -> impl Iterator<Item = &Arc<crate::deliver::Mailbox>> {
        self.people.values().filter_map(Person::mailbox)
    }

    /// Milliseconds of audio of all tracks.
    pub(crate) fn audio_ms(&self) -> u64 {
        let open = self.tracks.iter().map(|track| track.audio_ms());
        self.audio_ms + open.sum::<u64>()
    }
}
