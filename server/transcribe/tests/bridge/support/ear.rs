//! What the fake servers hear: a word for each chunk of numbered audio, a final each two seconds or after silence.

use serde_json::{Value, json};
use voicematch_protocol::numbered::Numbered;

/// Chunks of an utterance.
const UTTERANCE: usize = 20;
/// Chunks of silence that end it.
const PAUSE: usize = 5;

#[derive(Default)]
pub(crate) struct Ear {
    /// Bytes heard.
    pub bytes: u64,
    /// The utterance that is being spoken: words with their times in seconds.
    words: Vec<(String, f64, f64)>,
    silence: usize,
    pub utterance: usize,
}

/// What an ear makes of a chunk.
pub(crate) enum Told {
    Nothing,
    Partial(Said),
    Final(Said),
}

pub(crate) struct Said {
    pub number: usize,
    pub text: String,
    pub start: f64,
    pub end: f64,
    /// `conf` is the name of the confidence, which differs.
    words: Vec<(String, f64, f64)>,
}

impl Said {
    pub(crate) fn words(&self, confidence: &str) -> Value {
        let word = |(word, start, end): &(String, f64, f64)| json!({"word": word, "start": start, "end": end, confidence: 0.9});
        self.words.iter().map(word).collect()
    }
}

impl Ear {
    pub(crate) fn hear(&mut self, chunk: &[u8]) -> Told {
        let start = self.seconds();
        self.bytes += chunk.len() as u64;
        match Numbered::read(chunk) {
            Some(numbered) => {
                self.silence = 0;
                self.words.push((numbered.word(), start, self.seconds()));
            }
            None => self.silence += 1,
        }
        if self.words.is_empty() {
            Told::Nothing
        } else if self.words.len() >= UTTERANCE || self.silence >= PAUSE {
            self.last()
        } else if self.words.len().is_multiple_of(3) && self.silence == 0 {
            Told::Partial(self.so_far())
        } else {
            Told::Nothing
        }
    }

    /// The utterance as it is becomes final.
    pub(crate) fn last(&mut self) -> Told {
        if self.words.is_empty() {
            return Told::Nothing;
        }
        let said = self.so_far();
        self.words.clear();
        self.utterance += 1;
        Told::Final(said)
    }

    fn so_far(&self) -> Said {
        let texts: Vec<_> = self
            .words
            .iter()
            .map(|(word, _, _)| word.as_str())
            .collect();
        Said {
            number: self.utterance,
            text: texts.join(" "),
            start: self.words.first().map_or(0.0, |word| word.1),
            end: self.words.last().map_or(0.0, |word| word.2),
            words: self.words.clone(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "small")]
    fn seconds(&self) -> f64 {
        self.bytes as f64 / 32_000.0
    }
}
