//! What is measured of transcription sessions and interviews.

use std::time::Duration;

use derive_more::AddAssign;
use serde::{Deserialize, Serialize};

use crate::{
    base::units::percent_of,
    measure::{
        histogram::dense::Latencies,
        words::{Heard, Settled},
    },
    record,
};

/// One measurement of a part in a transcription session. Latencies are from the moment at which audio was due.
#[derive(Debug, Clone)]
pub enum TalkSample {
    /// A chunk of audio was sent, this much later than it was due. `numbered`: a word is expected of it.
    Spoken {
        lateness: Duration,
        audio: Duration,
        numbered: bool,
    },
    /// Its arrival was confirmed.
    Acked { latency: Duration },
    /// The newest word of a partial, from its chunk on.
    Partial { latency: Duration },
    /// A final at the host. `latency`: from its last chunk on; `None`: it has no known word.
    Final {
        heard: Heard,
        late: bool,
        latency: Option<Duration>,
    },
    /// A final was told as stored, this long after it was told.
    Stored { after: Duration },
    /// A final at a listener, this long after it was at the host.
    FannedOut {
        heard: Heard,
        after: Option<Duration>,
    },
    /// Words were told to somebody who may not hear them, or partials of another session.
    Misdelivered { words: u64 },
    /// A listener was never told of so many words that the host heard.
    Missed { words: u64 },
    /// Audio that nobody transcribed.
    Gap { audio: Duration },
    /// The session is over.
    Settled(Settled),
    /// An answer is stored, the server says.
    AnswerStored,
}

/// Counts of words.
#[derive(AddAssign, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordCounts {
    pub said: u64,
    pub at_host: Heard,
    /// In finals that came later than the message time-out.
    pub late: u64,
    pub at_listeners: Heard,
    pub settled: Settled,
    /// Not at a listener, though at the host.
    pub missed: u64,
    /// At somebody who may not hear them.
    pub misdelivered: u64,
    pub chunks: u64,
    pub audio_ms: u64,
    pub partials: u64,
    pub finals: u64,
    pub gaps: u64,
    pub gap_ms: u64,
    pub answers: u64,
    /// Stored, the server said, and not in the export.
    pub answers_missing: u64,
    /// In the export more than once.
    pub answers_twice: u64,
    /// Surveys whose export was compared.
    pub exports: u64,
}

/// What all parts in sessions have measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TalkCounts {
    pub words: WordCounts,
    pub ack: Latencies,
    pub partial: Latencies,
    /// The end of an utterance to its final.
    pub final_: Latencies,
    /// A final to its `stored`.
    pub stored: Latencies,
    /// From the host to a listener.
    pub fan_out: Latencies,
}

impl TalkCounts {
    pub fn add(&mut self, sample: TalkSample) {
        let words = &mut self.words;
        match sample {
            TalkSample::Spoken {
                audio, numbered, ..
            } => {
                words.chunks += 1;
                words.audio_ms += ms(audio);
                words.said += u64::from(numbered);
            }
            TalkSample::Acked { latency } => self.ack.record(latency),
            TalkSample::Partial { latency } => {
                words.partials += 1;
                self.partial.record(latency);
            }
            TalkSample::Final {
                heard,
                late,
                latency,
            } => {
                words.finals += 1;
                words.at_host += heard;
                words.late += if late { heard.heard } else { 0 };
                if let Some(latency) = latency {
                    self.final_.record(latency);
                }
            }
            TalkSample::Stored { after } => self.stored.record(after),
            TalkSample::FannedOut { heard, after } => {
                words.at_listeners += heard;
                if let Some(after) = after {
                    self.fan_out.record(after);
                }
            }
            TalkSample::Misdelivered { words: count } => words.misdelivered += count,
            TalkSample::Missed { words: count } => words.missed += count,
            TalkSample::Gap { audio } => {
                words.gaps += 1;
                words.gap_ms += ms(audio);
            }
            TalkSample::Settled(settled) => words.settled += settled,
            TalkSample::AnswerStored => words.answers += 1,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        let Self {
            words,
            ack,
            partial,
            final_,
            stored,
            fan_out,
        } = other;
        self.words += *words;
        self.ack.merge(ack);
        self.partial.merge(partial);
        self.final_.merge(final_);
        self.stored.merge(stored);
        self.fan_out.merge(fan_out);
    }

    /// `None`: nobody took part in a session.
    pub fn to_record(&self) -> Option<record::Talks> {
        let words = &self.words;
        let settled = &words.settled;
        (words.chunks + words.answers > 0).then(|| record::Talks {
            audio_seconds: record::digits(words.audio_ms as f64 / 1e3),
            chunks: words.chunks,
            partials: words.partials,
            finals: words.finals,
            gaps: words.gaps,
            gap_seconds: record::digits(words.gap_ms as f64 / 1e3),
            words: record::Words {
                said: words.said,
                heard: words.at_host.heard,
                late: words.late,
                lost: words.lost(),
                in_gaps: settled.in_gaps,
                pending: words.pending(),
                twice: words.twice(),
                reordered: words.reordered(),
                misdelivered: words.misdelivered(),
                altered: words.altered(),
                at_listeners: words.at_listeners.heard,
                success_percent: words.success(),
            },
            transcripts: settled.transcripts,
            not_stored: settled.not_stored,
            wrongly_stored: settled.wrongly_stored,
            untold: settled.untold,
            answers: words.answers,
            answers_missing: words.answers_missing,
            answers_twice: words.answers_twice,
            exports: words.exports,
        })
    }
}

impl WordCounts {
    pub fn twice(&self) -> u64 {
        self.at_host.twice + self.at_listeners.twice
    }

    pub fn reordered(&self) -> u64 {
        self.at_host.reordered + self.at_listeners.reordered
    }

    pub fn lost(&self) -> u64 {
        self.settled.lost + self.missed
    }

    pub fn altered(&self) -> u64 {
        self.at_host.altered + self.at_listeners.altered
    }

    pub fn misdelivered(&self) -> u64 {
        self.misdelivered + self.at_host.misdelivered + self.at_listeners.misdelivered
    }

    /// Said in sessions that were not settled.
    pub fn pending(&self) -> u64 {
        let known = self.at_host.heard + self.settled.lost + self.settled.in_gaps;
        self.said.saturating_sub(known)
    }

    /// Words that the host heard, in percent of those that were said. While the run is on, of those that are settled.
    pub fn success(&self) -> Option<f64> {
        let heard = self.at_host.heard;
        percent_of(heard, heard + self.settled.lost + self.settled.in_gaps)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
