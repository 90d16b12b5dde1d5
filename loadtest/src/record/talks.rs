//! Transcription sessions and interviews.

use serde::{Deserialize, Serialize};

/// What became of audio and answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Talks {
    /// Sent, of all speakers together.
    pub audio_seconds: f64,
    pub chunks: u64,
    pub partials: u64,
    /// At hosts.
    pub finals: u64,
    /// Reported by the server.
    pub gaps: u64,
    pub gap_seconds: f64,
    pub words: Words,
    /// Transcripts that were compared with what was told.
    pub transcripts: u64,
    /// Words that were told as `final`, and are not in the transcript as they were told.
    pub not_stored: u64,
    /// Words in a transcript that were not said, or are there twice, or are somebody else's.
    pub wrongly_stored: u64,
    /// Words in a transcript that the host was never told.
    pub untold: u64,
    /// Answers of interviews that the server said are stored.
    pub answers: u64,
    /// Of those, how many are not in the export.
    pub answers_missing: u64,
    pub answers_twice: u64,
    /// Surveys whose export was compared.
    pub exports: u64,
}

/// Words of numbered audio, one for each chunk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Words {
    pub said: u64,
    /// By the host of the session, at least once.
    pub heard: u64,
    /// Of those, how many came later than the message time-out after the end of their utterance.
    pub late: u64,
    /// Never heard, and in no gap; or heard by the host and not by a listener who was there.
    pub lost: u64,
    /// Never heard, and in a gap that the server reported.
    pub in_gaps: u64,
    /// Said in sessions whose end was not seen.
    pub pending: u64,
    pub twice: u64,
    /// After a later word of the same speaker.
    pub reordered: u64,
    /// At the host of another session, as another speaker's, or at somebody who may not hear them.
    pub misdelivered: u64,
    /// Not a word that was said.
    pub altered: u64,
    /// Heard by listeners.
    pub at_listeners: u64,
    /// Heard, in percent of heard, lost and in gaps.
    pub success_percent: Option<f64>,
}
