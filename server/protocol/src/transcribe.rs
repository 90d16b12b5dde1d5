//! The wire of `/transcribe`: audio and requests of one participant of a transcription session, and what is told to them.
//!
//! Audio is binary: PCM, 16 bits, little-endian, mono, 20 to 1,000 ms a frame. Everything else is a JSON text message.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::code::closed_list;

closed_list! {
    /// The `type` of what a participant says.
    SaidType {
        /// How the audio that follows is to be read. A binary frame without it means 16 kHz, an answer each second, live.
        Start = "start",
        /// Audio for clients that cannot send binary frames.
        AudioChunk = "audio_chunk",
        /// No audio comes for a while: nothing is kept open for this participant.
        Pause = "pause",
        /// Audio comes again. The next frame says the same.
        ResumeAudio = "resume_audio",
        /// Of the host: the session ends. Of a speaker: their audio ends.
        Stop = "stop",
        /// Answered with `pong`.
        Ping = "ping",
        /// A tool of a survey.
        Tool = "tool",
        /// Anything else.
        #[serde(other)]
        Unknown = "unknown",
    }
}

/// What a participant says, borrowed from the text it came in.
#[derive(Debug, Deserialize, Serialize)]
pub struct Said<'a> {
    /// What is said.
    #[serde(rename = "type")]
    pub kind: SaidType,
    /// Any JSON value; comes back, byte for byte, on the answer (`ping`, `tool`).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a RawValue>,
    /// Samples a second: 16,000, or 48,000, which the server reduces (`start`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// The language that is spoken, as BCP 47; without it the session's own (`start`).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Cow<'a, str>>,
    /// How often received audio is confirmed (`start`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// Whether it is spoken now; a recording is taken faster, as it comes (`start`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
    /// The audio (`audio_chunk`).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Chunk<'a>>,
    /// Which tool (`tool`).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Cow<'a, str>>,
    /// Its arguments, an object (`tool`).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<&'a RawValue>,
    /// The same as `arguments.value` (`tool`).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<&'a RawValue>,
}

impl<'a> Said<'a> {
    /// Reads a message. The error says what is wrong with it, for people.
    pub fn read(text: &'a str) -> Result<Self, String> {
        // serde takes a list of its fields for a struct, too.
        if !text.trim_start().starts_with('{') {
            return Err("a message is a JSON object, such as {\"type\":\"ping\"}".to_owned());
        }
        serde_json::from_str(text)
            .map_err(|error| format!("this message is not understood: {error:.200}"))
    }

    /// What `start` says of the audio that follows.
    pub fn start(&self) -> Start {
        let usual = Start::default();
        Start {
            sample_rate: self.sample_rate.unwrap_or(usual.sample_rate),
            language: self.language.as_deref().map(str::to_owned),
            ack: self.ack.unwrap_or(usual.ack),
            live: self.live.unwrap_or(usual.live),
        }
    }
}

/// How audio is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Samples a second.
    pub sample_rate: u32,
    /// The language that is spoken, as BCP 47; `None`: the session's own.
    pub language: Option<String>,
    /// How often received audio is confirmed.
    pub ack: Ack,
    /// Whether it is spoken now.
    pub live: bool,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            sample_rate: 16_000,
            language: None,
            ack: Ack::default(),
            live: true,
        }
    }
}

/// How often received audio is confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// Once a second of audio.
    #[default]
    Second,
    /// For each frame.
    Each,
}

/// Audio in a text message.
#[derive(Debug, Deserialize, Serialize)]
pub struct Chunk<'a> {
    /// PCM in base64.
    #[serde(borrow)]
    pub chunk: Cow<'a, str>,
}

/// What a participant is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told<'a> {
    /// The first message of every connection.
    Ready {
        /// The session's slug.
        session: &'a str,
        /// The participant's id.
        participant: &'a str,
        /// What the participant is here.
        role: Role,
        /// Who transcribes; absent where nobody does.
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<&'a str>,
        /// The number that the next final or gap gets.
        next_seq: i64,
        /// What is allowed.
        limits: AudioLimits,
    },
    /// This much audio of this track has arrived: after `stop` it begins at 0 again.
    AudioAck {
        /// Milliseconds of audio.
        ms: u64,
    },
    /// What somebody seems to be saying; a later revision replaces it, and a final ends it.
    Partial {
        /// Which utterance.
        utterance: &'a str,
        /// Grows with each change.
        revision: u32,
        /// Who speaks: a participant's id.
        speaker: &'a str,
        /// When it began, in milliseconds since the session's first audio.
        start_ms: u64,
        /// The words so far.
        text: &'a str,
    },
    /// What somebody said.
    Final {
        /// Numbers the finals and gaps of the session, without holes.
        seq: i64,
        /// The utterance of its partials; absent where it is sent again.
        #[serde(skip_serializing_if = "Option::is_none")]
        utterance: Option<&'a str>,
        /// Who spoke.
        speaker: &'a str,
        /// When it began, in milliseconds since the session's first audio.
        start_ms: i64,
        /// When it ended.
        end_ms: i64,
        /// The language, as far as the provider says.
        #[serde(skip_serializing_if = "Option::is_none")]
        language: Option<&'a str>,
        /// How sure the provider is, 0 to 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        confidence: Option<f64>,
        /// The words.
        text: &'a str,
        /// Whether it is from before this connection.
        #[serde(skip_serializing_if = "is_false")]
        replayed: bool,
    },
    /// Audio that nobody transcribed.
    Gap {
        /// As of finals.
        seq: i64,
        /// Whose.
        speaker: &'a str,
        /// From then, in milliseconds since the session's first audio.
        from_ms: i64,
        /// Until then.
        to_ms: i64,
        /// Why.
        reason: &'a str,
        /// Whether it is from before this connection.
        #[serde(skip_serializing_if = "is_false")]
        replayed: bool,
    },
    /// All up to this number outlives a crash of the server.
    Stored {
        /// The last number.
        through: i64,
    },
    /// These are not stored: the database and the disk had no room, or the database has refused the rows.
    Lost {
        /// The first number.
        from_seq: i64,
        /// The last number.
        to_seq: i64,
    },
    /// How the recogniser of one speaker is.
    ProviderState {
        /// Whose.
        speaker: &'a str,
        /// How it is.
        state: ProviderState,
        /// When it is tried again, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_in_ms: Option<u64>,
    },
    /// The answer to `tool`.
    ToolResult {
        /// The request's.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
        /// Whether it was done.
        ok: bool,
        /// What the tool says, where it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<&'a RawValue>,
        /// Why not, where it was not: one of the surveys' error codes.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<&'a str>,
        /// The same for people.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    },
    /// The answer to `ping`.
    Pong {
        /// The request's.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
    },
    /// Another server has the session; the connection is closed next, with 4005.
    Moved {
        /// Where it is: `http://` or `https://`, a host, and perhaps a port. The same token opens `/transcribe` there.
        url: &'a str,
    },
    /// The session has ended; the connection is closed next.
    Ended {
        /// Why.
        reason: EndReason,
        /// Milliseconds of audio of all speakers.
        audio_ms: u64,
        /// The number of the last final or gap.
        segments: i64,
        /// All up to this number is stored.
        stored_through: i64,
    },
    /// A request was refused, or audio was not taken; the connection goes on unless it is closed next.
    Error {
        /// What is wrong.
        code: TranscribeError,
        /// The same for people, with what to do.
        message: &'a str,
        /// `audio_rate_mismatch`: the rate at which samples came.
        #[serde(skip_serializing_if = "Option::is_none")]
        measured_hz: Option<u32>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What one connection may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioLimits {
    /// The longest frame, in bytes.
    pub frame_bytes: usize,
    /// Speakers of a session at the same time.
    pub tracks: usize,
}

closed_list! {
    /// What a participant is in a session.
    Role {
        /// Receives the transcript, may end the session, and may speak.
        Host = "host",
        /// Sends audio.
        Speaker = "speaker",
        /// Receives the transcript where the session says so.
        Listener = "listener",
    }
}

closed_list! {
    /// Who receives the transcript of a session.
    Deliver {
        /// The host alone.
        Host = "host",
        /// The host, and each speaker their own words.
        Own = "own",
        /// The host, and all listeners.
        Listeners = "listeners",
    }
}

closed_list! {
    /// How the recogniser of one speaker is.
    ProviderState {
        /// It answers.
        Ok = "ok",
        /// It is behind by more than 5 s.
        Slow = "slow",
        /// It hears speech and says nothing: it is asked anew.
        Silent = "silent",
        /// The connection to it is made again.
        Reconnecting = "reconnecting",
        /// It has no place for this speaker now.
        Busy = "busy",
        /// It cannot be reached; audio is kept for a time.
        Down = "down",
        /// Nothing is transcribed, as nobody receives it or the speaker has paused.
        Paused = "paused",
    }
}

closed_list! {
    /// Why a session has ended.
    EndReason {
        /// The host has said so.
        Host = "host",
        /// The app has said so.
        App = "app",
        /// No audio came for ten minutes.
        Idle = "idle",
        /// It was as long as a session may be.
        MaxDuration = "max_duration",
        /// It was deleted.
        Deleted = "deleted",
    }
}

closed_list! {
    /// Why a request or audio of a transcription session was refused.
    TranscribeError {
        /// There is no session of this name.
        UnknownSession = "unknown_session",
        /// It has ended.
        SessionEnded = "session_ended",
        /// A slug that is none, or one that is taken.
        BadSlug = "bad_slug",
        /// A session of this slug is there already.
        SlugTaken = "slug_taken",
        /// The participant is there already: their own token is needed.
        ParticipantKnown = "participant_known",
        /// A token that is none of this server's.
        TokenInvalid = "token_invalid",
        /// A token whose time is over.
        TokenExpired = "token_expired",
        /// The role or the caller's rights do not allow it.
        RoleForbidden = "role_forbidden",
        /// Not JSON, or a field is missing or wrong.
        BadMessage = "bad_message",
        /// A `type` that is none.
        UnknownType = "unknown_type",
        /// A frame that is no PCM: odd bytes, too short, too long, or a file's header.
        BadAudio = "bad_audio",
        /// A sample rate other than 16,000 and 48,000.
        UnsupportedRate = "unsupported_rate",
        /// More samples a second than the rate says.
        AudioRateMismatch = "audio_rate_mismatch",
        /// The provider refuses to work, or was away for too long.
        ProviderDown = "provider_down",
        /// The provider has no place.
        ProviderBusy = "provider_busy",
        /// As much audio was transcribed today as the operator allows.
        Budget = "budget",
        /// Neither the database nor the disk has room.
        StorageFull = "storage_full",
        /// The database does not answer now.
        StorageUnavailable = "storage_unavailable",
        /// There are as many sessions as there may be.
        TooManySessions = "too_many_sessions",
        /// The session has as many speakers as it may have.
        TooManyTracks = "too_many_tracks",
        /// Too many messages.
        RateLimited = "rate_limited",
        /// The server is about to stop.
        Draining = "draining",
        /// Another server has the session, and this is where.
        Moved = "moved",
        /// Another server has the session, and has not said where it is reached.
        SessionElsewhere = "session_elsewhere",
        /// This server does not transcribe: it was started without a provider.
        NotTranscribed = "not_transcribed",
        /// The server's own fault.
        Internal = "internal",
    }
}
