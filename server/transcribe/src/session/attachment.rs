//! A participant's connection: what it says, and what it is to be told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde_json::value::RawValue;
use voicematch_protocol::transcribe::{
    AudioLimits, EndReason, Role, Said, SaidType, Told, TranscribeError,
};

use super::{Found, Session, State, tell};
use crate::{
    deliver::{Closing, Mail, Mailbox},
    record::{RowId, Segment},
    store::{StoreError, writer::Health},
    track::{MAX_FRAME_BYTES, Refused},
};

/// Segments that are read from the database at once.
const PAGE: u32 = 200;

/// A connection that asks for more than this many old segments is better served by the transcript itself.
const MAX_REPLAY: i64 = 5_000;

/// A connection of a participant. Dropping it detaches the participant.
pub struct Attachment {
    session: Arc<Session>,
    who: RowId,
    role: Role,
    epoch: u64,
    mailbox: Arc<Mailbox>,
    /// The number of the last segment that was told.
    told: i64,
    /// Up to this number, segments are from before this connection.
    replay_until: i64,
    told_stored: i64,
    /// Up to this number it was told what was lost.
    told_lost: i64,
    /// What is to be written, and was not returned yet: waiting for it may be given up at any time.
    out: Vec<String>,
    rest: Vec<String>,
    closing: Option<Closing>,
    /// Mail was taken, and the log was not read since.
    reading: bool,
}

/// What the socket is to do after what the client has said.
#[derive(Debug, Default)]
pub struct Reaction {
    /// How long nothing more is to be read.
    pub wait: Duration,
    /// A tool of the survey was called.
    pub tool: Option<Tool>,
    /// The session is to end.
    pub end: Option<EndReason>,
}

/// A call of a tool.
#[derive(Debug)]
pub struct Tool {
    /// The caller's id of the call, as JSON.
    pub id: Option<Box<RawValue>>,
    /// Which tool.
    pub name: String,
    /// Its arguments, as JSON.
    pub arguments: serde_json::Value,
}

/// What is to be written to the socket.
#[derive(Debug)]
pub enum Out {
    /// These messages.
    Text(Vec<String>),
    /// Nothing more: it is to be closed.
    Close(Closing),
}

impl Attachment {
    /// A connection of this participant, who is in the session. It is told what came after the segment `after`; without
    /// it, what comes from now on. The participant's connection before, if there is one, is replaced.
    pub(crate) fn new(
        session: Arc<Session>,
        who: RowId,
        after: Option<i64>,
        now: Instant,
    ) -> Option<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let mut guard = session.lock();
        let state = &mut *guard;
        let last = state.log.last();
        let person = state.people.get_mut(&who)?;
        let (before, epoch) = person.attach(mailbox.clone());
        let left = person.unheard_since(before.is_some(), now);
        if let Some(before) = before {
            before.close(Closing::Replaced);
        }
        let (role, name) = (person.role, person.name.clone());
        if role == Role::Host {
            (state.host_seen, state.paused) = (now, false);
        }
        let ready = Told::Ready {
            session: &session.row.slug,
            participant: &name,
            role,
            provider: session
                .parts
                .bridges
                .as_ref()
                .map(|_| session.parts.provider),
            next_seq: last + 1,
            limits: AudioLimits {
                frame_bytes: MAX_FRAME_BYTES,
                tracks: session.parts.config.max_tracks,
            },
        };
        mailbox.send(tell::write(&ready));
        mailbox.log_grew();
        if let Some(left) = left {
            session.came_back(state, who, left, now);
        }
        if role == Role::Host {
            session.tell_all_missed(state);
        }
        // Who asks for what came meanwhile has not heard what became of the segments before, either.
        let settled = match after {
            Some(_) => 0,
            None => state.log.stored_through(),
        };
        let after = after.map_or(last, |after| after.clamp(0, last));
        drop(guard);
        session.parts.metrics.connections.inc();
        Some(Self {
            session,
            who,
            role,
            epoch,
            mailbox,
            told: after.max(last - MAX_REPLAY),
            replay_until: last,
            told_stored: settled,
            told_lost: settled,
            out: Vec::new(),
            rest: Vec::new(),
            closing: None,
            reading: false,
        })
    }

    /// What the participant is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> RowId {
        self.session.row.id
    }

    /// The client has sent audio.
    pub fn audio(&self, frame: Bytes, now: Instant) -> Reaction {
        match self.session.hear(self.who, frame, now) {
            Ok(done) => {
                if let Some(ms) = done.ack_ms {
                    self.tell(&Told::AudioAck { ms });
                }
                Reaction {
                    wait: done.wait,
                    ..Reaction::default()
                }
            }
            Err(refused) => self.refuse(&refused),
        }
    }

    /// The client has answered a ping: up to now nothing that it said is missing.
    pub fn is_alive(&self, now: Instant) {
        let mut state = self.session.lock();
        let person = state.people.get_mut(&self.who);
        if let Some(spoke) = person.and_then(|person| person.spoke.as_mut()) {
            *spoke = now;
        }
    }

    /// The client has sent a message.
    pub fn text(&self, text: &str, now: Instant) -> Reaction {
        let said = match Said::read(text) {
            Ok(said) => said,
            Err(message) => return self.error(TranscribeError::BadMessage, &message),
        };
        match said.kind {
            SaidType::Start => match self.session.start_track(self.who, said.start()) {
                Ok(()) => Reaction::default(),
                Err(refused) => self.refuse(&refused),
            },
            SaidType::AudioChunk => {
                let chunk = said.data.as_ref().map(|data| BASE64.decode(&*data.chunk));
                match chunk {
                    Some(Ok(frame)) => self.audio(frame.into(), now),
                    _ => self.error(
                        TranscribeError::BadAudio,
                        "data.chunk is the base64 of PCM, and this is none",
                    ),
                }
            }
            SaidType::Pause => {
                self.session.pause_track(self.who);
                Reaction::default()
            }
            SaidType::ResumeAudio => Reaction::default(),
            SaidType::Stop if self.role == Role::Host => Reaction {
                end: Some(EndReason::Host),
                ..Reaction::default()
            },
            SaidType::Stop => {
                self.session.lock().spoke(self.who, None);
                self.session.finish_track(self.who);
                Reaction::default()
            }
            SaidType::Ping => {
                self.tell(&Told::Pong { id: said.id });
                Reaction::default()
            }
            SaidType::Tool => match Tool::read(&said) {
                Ok(tool) => Reaction {
                    tool: Some(tool),
                    ..Reaction::default()
                },
                Err(message) => self.error(TranscribeError::BadMessage, message),
            },
            SaidType::Unknown => self.error(
                TranscribeError::UnknownType,
                "send audio, start, audio_chunk, pause, resume_audio, stop, ping or tool",
            ),
        }
    }

    fn tell(&self, told: &Told<'_>) {
        self.mailbox.send(tell::write(told));
    }

    fn refuse(&self, refused: &Refused) -> Reaction {
        self.session.parts.metrics.refused(refused.code);
        self.tell(&Told::Error {
            code: refused.code,
            message: &refused.message,
            measured_hz: refused.measured_hz,
        });
        Reaction::default()
    }

    /// Tells the client what is wrong.
    pub fn error(&self, code: TranscribeError, message: &str) -> Reaction {
        self.refuse(&Refused {
            code,
            message: message.to_owned(),
            measured_hz: None,
        })
    }

    /// Waits for what is to be written next. It may be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// Old segments cannot be read from the database now.
    pub async fn next(&mut self) -> Result<Out, StoreError> {
        loop {
            if !self.reading {
                let mail = self.mailbox.next().await;
                self.take(mail);
            }
            // Where the wait in here is given up, the next call goes on with it.
            self.read_log().await?;
            self.reading = false;
            let mut out = std::mem::take(&mut self.out);
            out.append(&mut self.rest);
            if !out.is_empty() {
                return Ok(Out::Text(out));
            }
            if let Some(closing) = self.closing {
                return Ok(Out::Close(closing));
            }
        }
    }

    /// Finals come before partials, and the last words last.
    fn take(&mut self, mail: Mail) {
        self.out.extend(mail.messages);
        self.rest.extend(mail.partials);
        self.rest.extend(mail.last_words);
        self.closing = mail.closing.or(self.closing);
        self.reading = true;
    }

    /// What is new in the log, for this participant; and how far it is stored.
    async fn read_log(&mut self) -> Result<(), StoreError> {
        loop {
            let (through, settled) = {
                let session = self.session.clone();
                let state = session.lock();
                match state.log.read(self.told, PAGE as usize) {
                    Found::Here(found) if found.is_empty() => break,
                    Found::Here(found) => {
                        for entry in found {
                            self.tell_segment(&state, &entry.segment, entry.utterance.as_deref());
                        }
                        continue;
                    }
                    Found::Stored(through) => (through, state.log.stored_through()),
                }
            };
            let session = self.session.clone();
            // Asked before the database is: then all that is settled is there, but for what is lost.
            let is_whole = session.parts.writer.health() == Health::Good;
            let there = if is_whole { settled } else { 0 };
            let page = session
                .parts
                .store
                .segments(session.row.id, self.told, PAGE)
                .await?;
            let state = session.lock();
            let is_last = page.len() < PAGE as usize || page.iter().any(|it| it.seq > through);
            for segment in page.iter().take_while(|segment| segment.seq <= through) {
                self.pass_over(&state, segment.seq - 1, there)?;
                self.tell_segment(&state, segment, None);
            }
            if is_last {
                self.pass_over(&state, through, there)?;
            }
            if self.out.len() >= PAGE as usize {
                // Written before more is read.
                self.mailbox.log_grew();
                return Ok(());
            }
        }
        self.tell_stored();
        Ok(())
    }

    /// The segments up to `to` are neither in memory nor in the database, which has all up to `there` that is stored. They
    /// are lost; or it has them later: then the client comes back for them.
    fn pass_over(&mut self, state: &State, to: i64, there: i64) -> Result<(), StoreError> {
        for (from_seq, to_seq) in state.log.not_lost(self.told + 1, to) {
            if to_seq > there {
                let message = format!("segments from {from_seq} on are not in it yet");
                return Err(StoreError::Temporary(message));
            }
            // By a process before this one.
            if self.role == Role::Host {
                self.out.push(tell::write(&Told::Lost { from_seq, to_seq }));
            }
        }
        self.told = self.told.max(to);
        Ok(())
    }

    fn tell_segment(&mut self, state: &State, segment: &Segment, utterance: Option<&str>) {
        self.told = segment.seq;
        let speaker = state.speakers.get(&segment.track_id);
        let Some(speaker) = speaker.and_then(|speaker| state.people.get(speaker)) else {
            return;
        };
        if self.session.receives(self.who, self.role, speaker.row.id) {
            let replayed = segment.seq <= self.replay_until;
            let utterance = utterance.filter(|_| !replayed);
            self.out
                .push(tell::segment(segment, utterance, &speaker.name, replayed));
        }
    }

    /// The host hears what is safe, and what is not.
    fn tell_stored(&mut self) {
        if self.role != Role::Host {
            return;
        }
        let state = self.session.lock();
        let settled = state.log.stored_through();
        for (from_seq, to_seq) in state.log.lost_after(self.told_lost) {
            self.out.push(tell::write(&Told::Lost { from_seq, to_seq }));
        }
        self.told_lost = self.told_lost.max(settled);
        let stored = settled.min(self.told);
        if stored > self.told_stored {
            self.told_stored = stored;
            self.out
                .push(tell::write(&Told::Stored { through: stored }));
        }
    }
}

impl Tool {
    /// A call as a message says it: what `answer` holds is the argument `value`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(said: &Said<'_>) -> Result<Self, &'static str> {
        let name = said
            .name
            .as_deref()
            .ok_or("name is the tool's, and it is missing")?;
        let arguments = said.arguments.map_or("{}", RawValue::get);
        let arguments = serde_json::from_str(arguments).map_err(|_| "arguments is no JSON")?;
        let serde_json::Value::Object(mut arguments) = arguments else {
            return Err("arguments is an object, such as {\"question\":\"use\",\"value\":3}");
        };
        if let Some(answer) = said.answer
            && !arguments.contains_key("value")
        {
            let answer = serde_json::from_str(answer.get()).map_err(|_| "answer is no JSON")?;
            arguments.insert("value".into(), answer);
        }
        Ok(Self {
            id: said.id.map(ToOwned::to_owned),
            name: name.to_owned(),
            arguments: arguments.into(),
        })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.session.parts.metrics.connections.dec();
        let mut state = self.session.lock();
        if let Some(person) = state.people.get_mut(&self.who) {
            person.detach(self.epoch, Instant::now());
        }
    }
}
