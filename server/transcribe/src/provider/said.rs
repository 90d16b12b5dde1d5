//! What providers say, as JSON: times are seconds.

use serde::Deserialize;

use super::Word;

/// The most bytes of a message that is read as JSON.
pub(super) const MAX_JSON: usize = 64 * 1024;

/// A word with its times.
#[derive(Deserialize)]
pub(super) struct TimedWord {
    pub(super) word: String,
    pub(super) start: f64,
    pub(super) end: f64,
    #[serde(alias = "conf")]
    pub(super) confidence: Option<f64>,
}

impl From<TimedWord> for Word {
    fn from(said: TimedWord) -> Self {
        Self {
            word: said.word,
            start_ms: ms(said.start),
            end_ms: ms(said.end),
            confidence: said.confidence,
        }
    }
}

/// Milliseconds of seconds. What is out of range becomes the nearest number, which the bridge refuses.
#[expect(clippy::cast_possible_truncation, reason = "it saturates")]
pub(super) fn ms(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// Seconds of bytes of audio, in milliseconds.
pub(super) fn ms_of(bytes: u64) -> i64 {
    super::pcm::ms(bytes).cast_signed()
}
