//! A transcription session, as all users in it know it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::lock;
use crate::measure::words::{Final, Gap, Hearing, Settled, Track, Tracks, settle};

/// The finals whose time at the host is kept, for the fan-out.
const RECENT: usize = 256;

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its host is not connected yet.
    Begun,
    /// It takes audio.
    Open,
    Over,
}

pub struct Session {
    pub slug: String,
    has_host: AtomicBool,
    stage: watch::Sender<Stage>,
    /// Who may still speak.
    speakers: watch::Sender<u32>,
    pub talked: Mutex<Talked>,
}

/// What was said in a session, and what its host was told.
#[derive(Default)]
pub struct Talked {
    pub tracks: Tracks,
    pub heard: Hearing,
    pub told: BTreeMap<i64, Final>,
    pub gaps: Vec<Gap>,
    /// The latest finals, and when the host was told of them.
    pub recent: VecDeque<(i64, Duration)>,
    /// Somebody has come to speak.
    has_begun: bool,
    is_closed: bool,
}

impl Session {
    pub fn new(slug: String) -> Self {
        Self {
            slug,
            has_host: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Begun),
            speakers: watch::Sender::new(0),
            talked: Mutex::default(),
        }
    }

    /// Comes in. False: it is over.
    pub fn enter(&self, speaks: bool) -> bool {
        let mut talked = lock(&self.talked);
        if talked.is_closed {
            return false;
        }
        if speaks {
            talked.has_begun = true;
            self.speakers.send_modify(|speakers| *speakers += 1);
        }
        true
    }

    /// Will say nothing more.
    pub fn leave(&self, spoke: bool) {
        if spoke {
            self.speakers
                .send_modify(|speakers| *speakers = speakers.saturating_sub(1));
        }
    }

    /// Whether the caller is the host now: once.
    pub fn take_host(&self) -> bool {
        !self.has_host.swap(true, Relaxed)
    }

    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub fn speakers(&self) -> watch::Receiver<u32> {
        self.speakers.subscribe()
    }

    pub fn open(&self) {
        self.stage.send_replace(Stage::Open);
    }

    /// Ends the session for all participants, also for those who speak.
    pub fn end(&self) {
        lock(&self.talked).is_closed = true;
        self.stage.send_replace(Stage::Over);
    }

    pub fn is_over(&self) -> bool {
        *self.stage.borrow() == Stage::Over
    }

    /// Everybody who came to speak has spoken. `even_unbegun`: nobody will come any more.
    pub fn is_idle(&self, even_unbegun: bool) -> bool {
        let talked = lock(&self.talked);
        (talked.has_begun || even_unbegun) && *self.speakers.borrow() == 0
    }

    /// Lets nobody in any more, unless somebody speaks. Whether it is so.
    pub fn close_if_idle(&self) -> bool {
        let mut talked = lock(&self.talked);
        // Who enters holds the same lock.
        talked.is_closed |= *self.speakers.borrow() == 0;
        talked.is_closed
    }

    pub fn begin_track(&self, number: u32, track: Track) {
        lock(&self.talked).tracks.0.insert(number, track);
    }

    /// A chunk of a track was sent.
    pub fn said(&self, number: u32) {
        if let Some(track) = lock(&self.talked).tracks.0.get_mut(&number) {
            track.said = track.said.saturating_add(1);
        }
    }
}

impl Talked {
    /// When the host was told of a final, if that was not long ago.
    pub fn told_at(&self, seq: i64) -> Option<Duration> {
        let mut recent = self.recent.iter().rev();
        recent.find(|(known, _)| *known == seq).map(|(_, at)| *at)
    }

    pub fn remember(&mut self, seq: i64, at: Duration) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((seq, at));
    }

    /// What became of its words so far; `stored`: what its transcript has.
    pub fn settle(&self, stored: Option<&BTreeMap<i64, Final>>) -> Settled {
        settle(&self.tracks, &self.heard, &self.gaps, &self.told, stored)
    }
}
