//! The JSON of Gladia, as far as it is used. Unknown types and fields are ignored.

use serde::Deserialize;

use crate::provider::{
    OpenError, Utterance, Word,
    said::{self, TimedWord},
};

/// The answer to `POST /v2/live`.
#[derive(Deserialize)]
pub(super) struct Created {
    pub(super) id: String,
    pub(super) url: String,
}

/// What comes over the WebSocket.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Message {
    StartSession {},
    StartRecording {},
    Transcript {
        data: Transcript,
    },
    AudioChunk {
        acknowledged: bool,
        data: Option<Accepted>,
    },
    EndSession {},
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
pub(super) struct Transcript {
    pub(super) id: String,
    pub(super) is_final: bool,
    pub(super) utterance: Said,
}

/// Bytes of the whole session: where the chunk begins, and where it ends.
#[derive(Deserialize)]
pub(super) struct Accepted {
    pub(super) byte_range: [u64; 2],
}

#[derive(Deserialize)]
pub(super) struct Said {
    text: String,
    start: f64,
    end: f64,
    language: Option<String>,
    confidence: Option<f64>,
    #[serde(default)]
    words: Vec<TimedWord>,
}

impl Said {
    /// As an utterance whose times count from the begin of a link.
    pub(super) fn utterance(self, id: String, begin: Begin) -> Utterance {
        let since = |seconds: f64| begin.since(said::ms(seconds));
        let word = |timed: TimedWord| {
            let (start_ms, end_ms) = (since(timed.start), since(timed.end));
            Word {
                word: timed.word,
                start_ms,
                end_ms,
                confidence: timed.confidence,
            }
        };
        Utterance {
            id,
            start_ms: since(self.start),
            end_ms: since(self.end),
            text: self.text,
            language: self.language,
            confidence: self.confidence,
            words: self.words.into_iter().map(word).collect(),
        }
    }
}

/// Where a link begins in its session, in milliseconds: what it has resumed ends at `before_ms`, and its own audio begins at
/// `now_ms`.
#[derive(Clone, Copy, Default)]
pub(super) struct Begin {
    pub(super) before_ms: i64,
    pub(super) now_ms: i64,
}

impl Begin {
    fn since(self, ms: i64) -> i64 {
        if ms < self.now_ms {
            ms.min(self.before_ms).saturating_sub(self.before_ms)
        } else {
            ms - self.now_ms
        }
    }
}

/// The answer to `GET /v2/live/ID`.
#[derive(Deserialize)]
pub(super) struct JobResult {
    status: String,
    result: Option<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    transcription: Option<Transcription>,
}

#[derive(Deserialize)]
struct Transcription {
    utterances: Vec<Said>,
}

impl JobResult {
    /// What was said; [`OpenError::Busy`] while it is not known yet.
    pub(super) fn utterances(self) -> Result<Option<Vec<Utterance>>, OpenError> {
        match (
            self.status.as_str(),
            self.result.and_then(|result| result.transcription),
        ) {
            (_, Some(transcription)) => {
                let numbered = transcription.utterances.into_iter().enumerate();
                Ok(Some(
                    numbered
                        .map(|(number, said)| said.utterance(number.to_string(), Begin::default()))
                        .collect(),
                ))
            }
            ("queued" | "processing", None) => Err(OpenError::Busy(None)),
            _ => Ok(None),
        }
    }
}
