//! The tracks of a session: from a speaker's frames to the bridge, and from what the bridge has heard to segments.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use voicematch_protocol::transcribe::{ProviderState, Role, Start, Told, TranscribeError};

use super::{
    Entry, Session, State, TRACK_GRACE,
    missed::{HOST_AWAY, Missed},
    tell,
};
use crate::{
    bridge::{self, Bridge, Heard, TrackSpec},
    provider::Utterance,
    record::{ProviderJob, Record, RowId, Segment, SegmentKind, Track as Row},
    time::wall_ms,
    track::{Clock, Input, Refused},
};

/// The longest name of a language, in bytes.
const MAX_LANGUAGE: usize = 128;

/// One speaker's audio while it is transcribed.
pub(crate) struct Track {
    id: RowId,
    pub(super) speaker: RowId,
    pub(super) bridge: Bridge,
    input: Mutex<TrackInput>,
}

pub(super) struct TrackInput {
    input: Input,
    clock: Clock,
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

    /// When the audio after the first `audio_ms` was spoken, in milliseconds of the session.
    fn at(&self, audio_ms: u64) -> i64 {
        i64::try_from(self.lock().clock.at(audio_ms)).unwrap_or(i64::MAX)
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
        track.lock().input.restart(start)?;
        track.bridge.speak(language);
        self.tell_missed(&mut state, &track);
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
        state.last_audio = now;
        state.spoke(who, Some(now));
        let session_ms = self.session_ms(&mut state, now);
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
        if input.input.is_live() || before == 0 {
            input.clock.heard(before, frame_ms, session_ms);
        }
        drop(input);
        track.bridge.push(taken.audio);
        Ok(done)
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
    pub(super) fn finish_track(&self, who: RowId) {
        if let Some(track) = self
            .lock()
            .people
            .get(&who)
            .and_then(|person| person.track.as_ref())
        {
            track.bridge.finish();
        }
    }

    /// Ends the tracks of speakers who do not come back.
    pub(super) fn drop_left_tracks(&self, state: &mut State, now: Instant) {
        for person in state.people.values_mut() {
            let over = person.left.is_some_and(|left| now >= left + TRACK_GRACE);
            if over && let Some(track) = &person.track {
                track.bridge.finish();
                person.left = None;
            }
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
        let spec = TrackSpec {
            language: self.row.language.clone(),
        };
        let (bridge, heard) = bridges.open(spec);
        let track = Arc::new(Track {
            id: RowId::random(),
            speaker: who,
            bridge,
            input: Mutex::new(TrackInput {
                input: Input::new(Start::default())?,
                clock: Clock::default(),
                missed: None,
            }),
        });
        self.parts.writer.write(Record::Track(Row {
            id: track.id,
            session_id: self.row.id,
            participant_id: who,
            provider: self.parts.provider.to_owned(),
            started_ms: wall_ms(),
            audio_ms: None,
            ended_ms: None,
        }));
        state.speakers.insert(track.id, who);
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

    /// Something that the bridge has heard.
    fn heard(self: &Arc<Self>, track: &Track, heard: Heard) {
        let mut state = self.lock();
        match heard {
            Heard::Partial {
                utterance,
                revision,
            } => {
                let Some(name) = state
                    .people
                    .get(&track.speaker)
                    .map(|person| person.name.clone())
                else {
                    return;
                };
                let id = utterance_name(track, &utterance);
                let told = Told::Partial {
                    utterance: &id,
                    revision,
                    speaker: &name,
                    start_ms: u64::try_from(track.at(start(&utterance))).unwrap_or(0),
                    text: &utterance.text,
                };
                self.tell_partial(&state, track.speaker, &id, &tell::write(&told));
            }
            Heard::Final { utterance, .. } => {
                let (from, to) = (track.at(start(&utterance)), track.at(end(&utterance)));
                let id = utterance_name(track, &utterance);
                let words = words(track, &utterance);
                if self.parts.config.log_text {
                    let (slug, text) = (&self.row.slug, &utterance.text);
                    tracing::info!(slug, start_ms = from, text, "said");
                }
                let mut segment =
                    track.segment(self.row.id, SegmentKind::Final, from, to, utterance.text);
                segment.language = utterance.language;
                segment.confidence = utterance.confidence;
                segment.words = words;
                self.add(
                    &mut state,
                    Entry {
                        segment,
                        utterance: Some(id),
                    },
                );
            }
            Heard::Gap {
                from_ms,
                to_ms,
                reason,
            } => {
                let (from, to) = (track.at(from_ms), track.at(to_ms));
                let segment = track.segment(
                    self.row.id,
                    SegmentKind::Gap,
                    from,
                    to,
                    reason.as_str().to_owned(),
                );
                self.add(
                    &mut state,
                    Entry {
                        segment,
                        utterance: None,
                    },
                );
            }
            Heard::State(provider) => {
                let (provider, retry_in_ms) = on_the_wire(provider);
                self.tell_state(&state, track.speaker, provider, retry_in_ms);
            }
            Heard::Failed(failure) => self.tell_failure(&state, track.speaker, failure),
            Heard::Job { job, at_ms } => {
                self.parts.writer.write(Record::ProviderJob(ProviderJob {
                    track_id: track.id,
                    job,
                    start_ms: track.at(at_ms),
                }));
            }
            Heard::Ended => {}
        }
    }

    /// A track has ended: the next audio of the speaker begins another.
    fn track_ended(self: &Arc<Self>, track: &Track) {
        let audio_ms = track.audio_ms();
        let mut state = self.lock();
        self.tell_missed(&mut state, track);
        state.audio_ms += audio_ms;
        if let Some(person) = state.people.get_mut(&track.speaker) {
            person.track = None;
        }
        self.parts.writer.write(Record::TrackEnded {
            id: track.id,
            audio_ms: i64::try_from(audio_ms).unwrap_or(i64::MAX),
            ended_ms: wall_ms(),
        });
        self.open_tracks.send_modify(|open| *open -= 1);
    }
}

/// Listens to the bridge until the track has ended.
async fn listen(session: Arc<Session>, track: Arc<Track>, mut heard: mpsc::Receiver<Heard>) {
    while let Some(heard) = heard.recv().await {
        session.heard(&track, heard);
    }
    session.track_ended(&track);
}

/// How a provider does, as participants are told.
fn on_the_wire(provider: bridge::ProviderState) -> (ProviderState, Option<u64>) {
    match provider {
        bridge::ProviderState::Ok => (ProviderState::Ok, None),
        bridge::ProviderState::Slow => (ProviderState::Slow, None),
        bridge::ProviderState::Silent => (ProviderState::Silent, None),
        bridge::ProviderState::Reconnecting { retry_in_ms } => {
            (ProviderState::Reconnecting, Some(retry_in_ms))
        }
        bridge::ProviderState::Busy => (ProviderState::Busy, None),
        bridge::ProviderState::Down => (ProviderState::Down, None),
        bridge::ProviderState::Paused => (ProviderState::Paused, None),
    }
}

fn refused(code: TranscribeError, message: &str) -> Refused {
    Refused {
        code,
        message: message.to_owned(),
        measured_hz: None,
    }
}

/// Providers count the utterances of a stream; in a session there are several.
fn utterance_name(track: &Track, utterance: &Utterance) -> String {
    format!("{:x}-{}", track.id.0 & 0xffff_ffff, utterance.id)
}

fn start(utterance: &Utterance) -> u64 {
    u64::try_from(utterance.start_ms).unwrap_or(0)
}

fn end(utterance: &Utterance) -> u64 {
    u64::try_from(utterance.end_ms).unwrap_or(0)
}

/// The words with their times on the session's clock, as JSON.
fn words(track: &Track, utterance: &Utterance) -> Option<String> {
    #[derive(serde::Serialize)]
    struct Word<'a> {
        word: &'a str,
        start_ms: i64,
        end_ms: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        confidence: Option<f64>,
    }
    let words: Vec<_> = utterance
        .words
        .iter()
        .map(|word| Word {
            word: &word.word,
            start_ms: track.at(u64::try_from(word.start_ms).unwrap_or(0)),
            end_ms: track.at(u64::try_from(word.end_ms).unwrap_or(0)),
            confidence: word.confidence,
        })
        .collect();
    (!words.is_empty()).then(|| serde_json::to_string(&words).unwrap_or_default())
}
