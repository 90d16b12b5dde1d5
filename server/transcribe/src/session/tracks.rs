//! The tracks of a session: from a speaker's frames to the bridge.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use voicematch_protocol::transcribe::{ProviderState, Role, Start, TranscribeError};

use super::{
    Session, State, TRACK_GRACE,
    heard::listen,
    missed::{HOST_AWAY, Missed},
};
use crate::{
    bridge::{Bridge, TrackSpec},
    record::{Record, RowId, Segment, SegmentKind, Track as Row},
    time::wall_ms,
    track::{Clock, Input, Refused},
};

/// How many tracks of a speaker may still be ending when they begin another. A track that would be one more goes on instead.
const MAX_ENDING: usize = 1;

/// The longest name of a language, in bytes.
const MAX_LANGUAGE: usize = 128;

/// One speaker's audio while it is transcribed.
pub(crate) struct Track {
    pub(super) id: RowId,
    pub(super) speaker: RowId,
    pub(super) bridge: Bridge,
    input: Mutex<TrackInput>,
}

pub(super) struct TrackInput {
    input: Input,
    /// Audio has come, and the row is written.
    has_begun: bool,
    clock: Clock,
    /// Pieces of the provider's jobs that were written.
    pieces: i64,
    /// Audio that was not passed on, until it is told as a gap.
    pub(super) missed: Option<Missed>,
}

impl Track {
    pub(super) fn lock(&self) -> MutexGuard<'_, TrackInput> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds of audio so far.
    pub(super) fn audio_ms(&self) -> u64 {
        self.lock().input.audio_ms()
    }

    /// Whether audio has come.
    pub(super) fn has_begun(&self) -> bool {
        self.lock().has_begun
    }

    /// When the audio after the first `audio_ms` was spoken, in milliseconds of the session.
    pub(super) fn at(&self, audio_ms: u64) -> i64 {
        i64::try_from(self.lock().clock.at(audio_ms)).unwrap_or(i64::MAX)
    }

    /// When the first `audio_ms` had been spoken, in milliseconds of the session.
    pub(super) fn until(&self, audio_ms: u64) -> i64 {
        i64::try_from(self.lock().clock.until(audio_ms)).unwrap_or(i64::MAX)
    }

    /// The number of the next piece of the provider's jobs.
    pub(super) fn next_piece(&self) -> i64 {
        let mut input = self.lock();
        input.pieces += 1;
        input.pieces
    }

    pub(super) fn segment(
        &self,
        session: RowId,
        kind: SegmentKind,
        start_ms: i64,
        end_ms: i64,
        text: String,
    ) -> Segment {
        Segment {
            session_id: session,
            // The log says it.
            seq: 0,
            track_id: self.id,
            kind,
            source: "live".into(),
            start_ms,
            end_ms: end_ms.max(start_ms),
            language: None,
            confidence: None,
            text,
            words: None,
            created_ms: wall_ms(),
        }
    }
}

/// What is done with a frame.
pub(super) struct Frame {
    pub(super) ack_ms: Option<u64>,
    pub(super) wait: Duration,
}

impl Session {
    /// The audio of a speaker is as `start` says from now on.
    pub(super) fn start_track(self: &Arc<Self>, who: RowId, start: Start) -> Result<(), Refused> {
        let language = start.language.clone().or_else(|| self.row.language.clone());
        if language
            .as_ref()
            .is_some_and(|name| name.len() > MAX_LANGUAGE)
        {
            let message = "language is BCP 47, such as de-AT, and this is longer than any";
            return Err(refused(TranscribeError::BadMessage, message));
        }
        let mut state = self.lock();
        let track = self.track_of(&mut state, who)?;
        track.lock().input.restart(start.clone())?;
        track.bridge.speak(language);
        self.tell_missed(&mut state, &track);
        if let Some(person) = state.people.get_mut(&who) {
            person.start = start;
        }
        Ok(())
    }

    /// One frame of a speaker.
    pub(super) fn hear(
        self: &Arc<Self>,
        who: RowId,
        frame: Bytes,
        now: Instant,
    ) -> Result<Frame, Refused> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return Err(refused(
                TranscribeError::SessionEnded,
                "the session has ended",
            ));
        }
        if state.draining {
            return Err(refused(
                TranscribeError::Draining,
                "the server stops; connect again and send this anew",
            ));
        }
        let track = self.track_of(&mut state, who)?;
        state.spoke(who, Some(now));
        let session_ms = self.session_ms(&mut state, now);
        self.begin_track(&state, &track, session_ms);
        let paused = state.paused;
        let mut input = track.lock();
        let before = track.bridge.audio_ms();
        let bytes = frame.len();
        let taken = match input.input.take(frame, now) {
            Ok(taken) => taken,
            Err(refused) => {
                drop(input);
                self.miss_wrong_rate(&mut state, &track, session_ms, bytes, &refused);
                return Err(refused);
            }
        };
        // What is refused keeps no session from its end.
        state.last_audio = now;
        let frame_ms = taken.audio.len() as u64 / 32;
        self.parts.metrics.chunks.inc();
        let done = Frame {
            ack_ms: taken.ack_ms,
            wait: taken.wait,
        };
        if paused {
            drop(input);
            self.parts.metrics.unheard(taken.audio.len());
            let missed = Missed::new(session_ms, frame_ms, HOST_AWAY);
            self.miss(&mut state, &track, missed);
            return Ok(done);
        }
        if (input.input.is_live() || before == 0) && input.clock.heard(before, frame_ms, session_ms)
        {
            track.bridge.mark_pause();
        }
        drop(input);
        let rest = track.bridge.push(taken.audio);
        if !rest.is_empty() {
            // The track has become as long as one may be.
            self.let_go(&mut state, who);
            let next = self.track_of(&mut state, who)?;
            self.begin_track(&state, &next, session_ms);
            next.lock()
                .clock
                .heard(0, rest.len() as u64 / 32, session_ms);
            next.bridge.push(rest);
        }
        Ok(done)
    }

    /// Audio of a track has come: with the first of it the row is written. Who takes the session up reads there when its clock began.
    fn begin_track(&self, state: &State, track: &Track, session_ms: u64) {
        if std::mem::replace(&mut track.lock().has_begun, true) {
            return;
        }
        let began_ms = state.epoch.map_or_else(wall_ms, |(_, began_ms)| began_ms);
        let session_ms = i64::try_from(session_ms).unwrap_or(i64::MAX);
        self.parts.writer.write(Record::Track(Row {
            id: track.id,
            session_id: self.row.id,
            participant_id: track.speaker,
            provider: self.parts.provider.to_owned(),
            started_ms: began_ms.saturating_add(session_ms),
            audio_ms: None,
            ended_ms: None,
        }));
    }

    /// No audio comes from a speaker for a while.
    pub(super) fn pause_track(&self, who: RowId) {
        let mut state = self.lock();
        state.spoke(who, None);
        if let Some(track) = state
            .people
            .get(&who)
            .and_then(|person| person.track.as_ref())
        {
            track.bridge.pause();
            self.tell_state(&state, who, ProviderState::Paused, None);
        }
    }

    /// A speaker has said all.
    pub(super) fn finish_track(self: &Arc<Self>, who: RowId) {
        let mut state = self.lock();
        let of_them = state.tracks.iter().filter(|track| track.speaker == who);
        if of_them.count() <= MAX_ENDING {
            return self.let_go(&mut state, who);
        }
        let person = state.people.get(&who);
        if let Some(track) = person.and_then(|person| person.track.as_ref()) {
            // Its provider is asked for the last words all the same.
            track.bridge.pause();
        }
    }

    /// Nothing more is said to a speaker's track, which ends when its provider has said all. The next audio begins another.
    fn let_go(self: &Arc<Self>, state: &mut State, who: RowId) {
        let person = state.people.get_mut(&who);
        if let Some(track) = person.and_then(|person| person.track.take()) {
            self.tell_missed(state, &track);
            track.bridge.finish();
        }
    }

    /// Ends the tracks of speakers who do not come back.
    pub(super) fn drop_left_tracks(self: &Arc<Self>, state: &mut State, now: Instant) {
        let is_over = |left: Instant| now >= left + TRACK_GRACE;
        let mut over = Vec::new();
        for (id, person) in &mut state.people {
            if person.left.take_if(|left| is_over(*left)).is_some() {
                over.push(*id);
            }
        }
        for who in over {
            self.let_go(state, who);
        }
    }

    /// The track of a speaker; the first audio begins it.
    fn track_of(self: &Arc<Self>, state: &mut State, who: RowId) -> Result<Arc<Track>, Refused> {
        let open = state
            .people
            .values()
            .filter(|person| person.track.is_some())
            .count();
        let Some(person) = state.people.get(&who) else {
            return Err(refused(
                TranscribeError::RoleForbidden,
                "you are not in this session",
            ));
        };
        if let Some(track) = &person.track {
            return Ok(track.clone());
        }
        if person.role == Role::Listener {
            let message = "a listener does not speak; join as speaker";
            return Err(refused(TranscribeError::RoleForbidden, message));
        }
        if open >= self.parts.config.max_tracks {
            let message = "as many speakers as a session may have are in this one";
            return Err(refused(TranscribeError::TooManyTracks, message));
        }
        let Some(bridges) = &self.parts.bridges else {
            let message = "this server does not transcribe: it was started without --transcribe";
            return Err(refused(TranscribeError::NotTranscribed, message));
        };
        let start = person.start.clone();
        let language = start.language.clone();
        let spec = TrackSpec {
            language: language.or_else(|| self.row.language.clone()),
        };
        let (bridge, heard) = bridges.open(spec);
        let track = Arc::new(Track {
            id: RowId::random(),
            speaker: who,
            bridge,
            input: Mutex::new(TrackInput {
                input: Input::new(start)?,
                has_begun: false,
                clock: Clock::default(),
                pieces: 0,
                missed: None,
            }),
        });
        state.speakers.insert(track.id, who);
        state.tracks.push(track.clone());
        if let Some(person) = state.people.get_mut(&who) {
            person.track = Some(track.clone());
        }
        self.open_tracks.send_modify(|open| *open += 1);
        tokio::spawn(listen(self.clone(), track.clone(), heard));
        if state.paused {
            self.tell_state(state, who, ProviderState::Paused, None);
        }
        Ok(track)
    }
}

fn refused(code: TranscribeError, message: &str) -> Refused {
    Refused {
        code,
        message: message.to_owned(),
        measured_hz: None,
    }
}
