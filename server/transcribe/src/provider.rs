//! Who turns speech into text: one contract, which four providers fulfil.
//!
//! * [`fake`]: none; answers what numbered audio says of itself
//! * [`command`]: a program on this machine
//! * [`vosk`]: a vosk-server
//! * [`gladia`]: the service Gladia
//!
//! A provider opens streams, and a stream hears one speaker. What all of them need (buffers, reconnects, limits) is in
//! [`bridge`](crate::bridge).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
pub use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

pub mod command;
pub mod fake;
pub mod gladia;
mod options;
pub mod pcm;
mod said;
mod secret;
mod socket;
pub mod vosk;

pub use secret::{Secret, read_key};

/// How many frames may wait in [`Link::audio`].
pub const AUDIO_DEPTH: usize = 16;
/// How many events may wait in [`Link::events`].
pub const EVENT_DEPTH: usize = 64;

/// Turns speech into text.
pub trait Provider: Send + Sync {
    /// Its name in metrics and rows: `fake`, `command`, `vosk` or `gladia`.
    fn name(&self) -> &'static str;

    /// Opens a stream. The caller limits the time; dropping the future gives up.
    fn open(&self, spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>>;

    /// Makes the next `open` fast, if there is something to prepare. Inside a runtime.
    fn prepare(&self) {}

    /// How many streams it can serve at a time, if nothing else is configured.
    fn default_streams(&self) -> Option<usize> {
        None
    }

    /// Takes another key for what is opened from now on.
    fn set_key(&self, _key: Secret) {}

    /// What was said in a job that is over ([`Link::job`]), `None` if the provider keeps nothing.
    fn transcript<'a>(
        &'a self,
        _job: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<Utterance>>, OpenError>> {
        Box::pin(async { Ok(None) })
    }

    /// Deletes all that the provider keeps of a job. Deleting it again is no error.
    fn delete<'a>(&'a self, _job: &'a str) -> BoxFuture<'a, Result<(), OpenError>> {
        Box::pin(async { Ok(()) })
    }
}

/// What a stream shall be.
#[derive(Default)]
pub struct StreamSpec {
    /// What is spoken, as BCP 47, such as `de-AT`.
    pub language: Option<String>,
    /// An earlier link's stream, to go on with it. The audio that follows is what comes after what it has accepted: see
    /// [`Link::already`].
    pub resume: Option<Resume>,
}

/// Where an interrupted stream goes on. Its URL holds a token, so it is as secret as a key.
#[derive(Clone)]
pub struct Resume {
    pub(crate) url: Secret,
    pub(crate) job: String,
    /// Bytes of the whole stream before the link.
    pub(crate) start: u64,
    /// Bytes of the link that are known to be accepted.
    pub(crate) accepted: u64,
}

/// An open stream. Dropping it gives it up.
pub struct Link {
    /// [`AUDIO_DEPTH`] deep.
    pub audio: mpsc::Sender<Input>,
    /// [`EVENT_DEPTH`] deep. Its end is the end of the stream: a loss, unless [`Input::Finish`] was sent.
    pub events: mpsc::Receiver<Event>,
    /// The provider's name for this work, if it has one.
    pub job: Option<String>,
    /// For [`StreamSpec::resume`], if the provider can go on with an interrupted stream.
    pub resume: Option<Resume>,
    /// Of a stream that was resumed: so many bytes more than [`StreamSpec::resume`] knew had been accepted before.
    pub already: u64,
}

/// What goes to a provider.
#[derive(Debug)]
pub enum Input {
    /// PCM, as [`pcm`] says, whole samples.
    Pcm(Bytes),
    /// No audio follows: say what is left, then close.
    Finish,
}

/// What comes from a provider. Bytes and times count from the first sample that was sent on this link.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// It is able to hear. A partial and a final say so too.
    Ready,
    /// It has taken so many bytes, all in all. Before it is able to hear that means little: the pipe to a program does it.
    Accepted { bytes: u64 },
    /// What it thinks was said up to now; may change.
    Partial(Utterance),
    /// What was said.
    Final(Utterance),
    /// It has sent something that means nothing. The reason is a constant: what was sent is not logged.
    Garbage(&'static str),
    /// The stream is lost. Nothing follows.
    Lost(LossReason),
}

/// Something that was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Utterance {
    /// The provider's name for it: the same in all its partials and its final, unique in a stream and what it resumes.
    pub id: String,
    /// Milliseconds. Below 0: before this link, in a stream that was resumed.
    pub start_ms: i64,
    pub end_ms: i64,
    pub text: String,
    /// BCP 47.
    pub language: Option<String>,
    /// From 0 to 1.
    pub confidence: Option<f64>,
    /// Its words with their times, if the provider says them.
    pub words: Vec<Word>,
}

/// A word of an [`Utterance`], with times that count as its times do.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    pub word: String,
    pub start_ms: i64,
    pub end_ms: i64,
    /// From 0 to 1.
    pub confidence: Option<f64>,
}

/// Why a stream was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The provider closed it, with this WebSocket close code if there was one.
    Closed(Option<u16>),
    /// Its connection broke.
    Broken,
    /// Its connection is open, and nothing comes.
    HalfOpen,
    /// It is connected, and says nothing although somebody speaks.
    Silent,
    /// It sent too much that means nothing.
    Garbage,
    /// The program ended, or had to be ended.
    Crashed,
}

impl LossReason {
    /// All of them as they stand in metrics.
    pub const ALL: [&'static str; 6] = [
        "broken",
        "closed",
        "crashed",
        "garbage",
        "half_open",
        "silent",
    ];

    /// As it stands in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Broken => "broken",
            Self::HalfOpen => "half_open",
            Self::Silent => "silent",
            Self::Garbage => "garbage",
            Self::Crashed => "crashed",
        }
    }

    /// The close code, if the provider has sent one.
    pub(crate) fn code(self) -> Option<u16> {
        match self {
            Self::Closed(code) => code,
            _ => None,
        }
    }

    /// Whether the stream may still exist at the provider. The codes are those that Gladia's SDK does not retry.
    #[must_use]
    pub fn is_resumable(self) -> bool {
        !matches!(
            self,
            Self::Closed(Some(1000 | 1001 | 4400..=4499)) | Self::Crashed
        )
    }
}

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As many streams as it allows are open; it may have said when to ask again.
    #[error("the provider is busy")]
    Busy(Option<Duration>),
    /// It does not serve us: 401, 402 or 403.
    #[error("the provider refuses with status {0}")]
    Refused(u16),
    /// It does not answer, or says that it cannot.
    #[error("the provider cannot be reached")]
    Unreachable,
    /// It does not take what was asked. The sentence holds no secret.
    #[error("the provider does not take it: {0}")]
    BadConfig(String),
    /// What [`StreamSpec::resume`] names is no more.
    #[error("the interrupted stream is no more")]
    Gone,
}

/// The provider that `text` names: `fake`, `fake:?OPTIONS`, `command:PROGRAM ARGS`, `vosk:ws://HOST:PORT`, `gladia` or
/// `gladia:URL`.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn parse(text: &str, key: Option<Secret>) -> Result<Arc<dyn Provider>, String> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "fake" => Ok(Arc::new(fake::Fake::parse(rest)?)),
        "command" => Ok(Arc::new(command::Command::parse(rest)?)),
        "vosk" => Ok(Arc::new(vosk::Vosk::parse(rest)?)),
        "gladia" => {
            let key = key.ok_or("gladia needs a key; name its file with --gladia-key-file")?;
            Ok(Arc::new(gladia::Gladia::parse(rest, key)?))
        }
        _ => Err(options::unknown(
            "provider",
            kind,
            &["fake", "command", "vosk", "gladia"],
        )),
    }
}
