//! Makes words of audio.

use std::time::Duration;

use bytes::Bytes;
use voicematch_protocol::numbered::Numbered;

use super::Options;
use crate::provider::{Event, Utterance, Word, pcm};

/// So much silence ends an utterance, in milliseconds.
const PAUSE_MS: u64 = 500;
/// The length of a word of audio without numbers, in milliseconds.
const WORD_MS: u64 = 300;

/// See [`ear`](self).
pub(super) struct Ear {
    partial_ms: u64,
    final_ms: u64,
    /// Bytes heard.
    pub(super) bytes: u64,
    /// The utterance that is being spoken.
    words: Vec<Word>,
    utterance: u32,
    /// Milliseconds of the utterance at its last partial.
    told_ms: u64,
    /// Milliseconds of silence since the last word.
    silence_ms: u64,
    /// Milliseconds of audio without numbers that are not a word yet.
    voiced_ms: u64,
    unnumbered_words: u32,
    /// Whether numbered audio has come: what has no number is then the rest of a chunk.
    is_numbered: bool,
}

impl Ear {
    pub(super) fn new(options: &Options) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            partial_ms: ms(options.partial).max(1),
            final_ms: ms(options.final_).max(1),
            bytes: 0,
            words: Vec::new(),
            utterance: 0,
            told_ms: 0,
            silence_ms: 0,
            voiced_ms: 0,
            unnumbered_words: 0,
            is_numbered: false,
        }
    }

    pub(super) fn hear(&mut self, pcm: &Bytes) -> Option<Event> {
        let start = pcm::ms(self.bytes);
        self.bytes += pcm.len() as u64;
        let end = pcm::ms(self.bytes);
        if let Some(numbered) = Numbered::read(pcm).or_else(|| Numbered::read_held(pcm)) {
            self.is_numbered = true;
            self.word(numbered.word(), start, end);
        } else if !pcm::is_voiced(pcm) {
            self.silence_ms += end - start;
        } else if self.is_numbered {
            self.lengthen(end);
        } else {
            self.silence_ms = 0;
            self.voiced_ms += end - start;
            if self.voiced_ms >= WORD_MS {
                self.unnumbered_words += 1;
                let word = format!("word {}", self.unnumbered_words);
                self.word(word, end.saturating_sub(self.voiced_ms), end);
            }
        }
        let length = end.saturating_sub(self.start());
        if self.words.is_empty() {
            None
        } else if length >= self.final_ms || self.silence_ms >= PAUSE_MS {
            self.finish()
        } else if length >= self.told_ms + self.partial_ms {
            self.told_ms = length;
            Some(Event::Partial(self.so_far()))
        } else {
            None
        }
    }

    fn word(&mut self, word: String, start: u64, end: u64) {
        self.silence_ms = 0;
        self.voiced_ms = 0;
        let (start_ms, end_ms) = (start.cast_signed(), end.cast_signed());
        self.words.push(Word {
            word,
            start_ms,
            end_ms,
            confidence: Some(1.0),
        });
    }

    fn lengthen(&mut self, end: u64) {
        if let Some(last) = self.words.last_mut() {
            last.end_ms = end.cast_signed();
        }
    }

    fn start(&self) -> u64 {
        self.words
            .first()
            .map_or(0, |word| word.start_ms.cast_unsigned())
    }

    fn so_far(&self) -> Utterance {
        let words: Vec<&str> = self.words.iter().map(|word| word.word.as_str()).collect();
        Utterance {
            id: self.utterance.to_string(),
            start_ms: self.words.first().map_or(0, |word| word.start_ms),
            end_ms: self.words.last().map_or(0, |word| word.end_ms),
            text: words.join(" "),
            language: None,
            confidence: Some(1.0),
            words: Vec::new(),
        }
    }

    /// The utterance as it is, if there is one.
    pub(super) fn finish(&mut self) -> Option<Event> {
        if self.words.is_empty() {
            return None;
        }
        let mut utterance = self.so_far();
        utterance.words = std::mem::take(&mut self.words);
        self.utterance += 1;
        self.told_ms = 0;
        Some(Event::Final(utterance))
    }
}
