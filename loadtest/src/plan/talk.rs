//! Parts in transcription sessions, and interviews. Pure.

use std::{path::PathBuf, time::Duration};

use super::{flow::Between, limits::MAX_DURATION};

/// The rates that the server takes, in Hz. It makes the first of the second.
pub const RATES: [u32; 2] = [16_000, 48_000];

/// The longest frame that the server takes, in bytes.
const MAX_FRAME_BYTES: usize = 65_536;

/// The shortest and the longest chunk that the server takes.
const CHUNK: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// The most participants of a session, and its speakers.
const MAX_MEMBERS: u32 = 1_000;
const MAX_SPEAKERS: u32 = 20;
/// The most questions of an interview.
const MAX_CYCLES: u32 = 1_000;

/// A part in a transcription session. The first who comes has a second connection, as the session's host.
#[derive(Debug, Clone, PartialEq)]
pub struct Talk {
    /// How the names of the sessions begin; the run and numbers follow.
    pub name: String,
    /// How many users share a session: users 0 to 9 have the first, 10 to 19 the second.
    pub members: u32,
    /// The first so many of them speak; the others listen.
    pub speakers: u32,
    pub audio: Audio,
    /// Samples a second: one of [`RATES`].
    pub sample_rate: u32,
    /// The audio of a chunk, and the time between two.
    pub every: Duration,
    /// How long a speaker speaks. `None`: until the user's part in the plan is over.
    pub time: Option<Duration>,
    /// The server confirms each chunk, and not each second of audio.
    pub acks_each: bool,
    /// How long each request before the first word may take.
    pub within: Duration,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audio {
    /// Noise whose chunks have numbers. The provider `fake` answers a word for each.
    Numbered,
    Silence,
    /// A WAV file, or bare PCM named `.pcm` or `.raw`, of 16 bits, mono, at the talk's rate; from its start again at its
    /// end.
    File(PathBuf),
}

/// An interview with the tools of a survey.
#[derive(Debug, Clone, PartialEq)]
pub struct Interview {
    /// The survey's id.
    pub survey: String,
    pub over: Over,
    /// Questions that are answered at the most; the survey may have fewer.
    pub cycles: u32,
    /// Before each answer.
    pub think: Between,
    /// How long each call may take.
    pub within: Duration,
}

/// How tools are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Http,
    /// `/transcribe`.
    Ws,
}

impl Talk {
    /// The names under which its requests are measured, as calls.
    pub const CALLS: [&str; 3] = ["create_session", "join_session", "transcript"];

    /// Whether a word is expected of each chunk.
    pub fn is_numbered(&self) -> bool {
        self.audio == Audio::Numbered
    }

    /// The bytes of a chunk: samples have two.
    pub fn chunk_bytes(&self) -> usize {
        let samples = self.every.as_millis() * u128::from(self.sample_rate) / 1000;
        usize::try_from(samples).unwrap_or(0) * 2
    }

    /// Which session a user is in, and whether they speak there.
    pub fn place_of(&self, user: u32) -> (u32, bool) {
        let members = self.members.max(1);
        (user / members, user % members < self.speakers)
    }

    /// # Errors
    /// What to give instead.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        check_name(&self.name)?;
        if !(1..=MAX_MEMBERS).contains(&self.members) {
            return Err("a session has 1 to 1000 `members`");
        }
        if !(1..=self.members.min(MAX_SPEAKERS)).contains(&self.speakers) {
            return Err("a session has 1 to 20 `speakers`, and not more than `members`");
        }
        let [shortest, longest] = CHUNK;
        let whole = self.every.subsec_nanos().is_multiple_of(1_000_000);
        if self.every < shortest || self.every > longest || !whole {
            return Err("a chunk of audio has 20ms to 1s, in whole milliseconds: change `every`");
        }
        if !RATES.contains(&self.sample_rate) {
            return Err("the server takes a `sample_rate` of 16000 or 48000");
        }
        if self.chunk_bytes() > MAX_FRAME_BYTES {
            return Err("at 48 kHz a chunk of audio has at most 680ms: change `every`");
        }
        if self.time.is_some_and(|time| time.is_zero()) || self.within.is_zero() {
            return Err("nothing is done in 0s: give a longer time");
        }
        if self.time.is_some_and(|time| time > MAX_DURATION) {
            return Err("this takes more than 30 days: give a shorter time");
        }
        Ok(())
    }
}

impl Interview {
    /// The names under which its requests are measured, as calls: the first, and the three tools.
    pub const CALLS: [&str; 4] = [
        "begin_interview",
        "get_next_question",
        "validate_answer",
        "record_response",
    ];

    /// # Errors
    /// What to give instead.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        check_name(&self.survey)?;
        if !(1..=MAX_CYCLES).contains(&self.cycles) {
            return Err("an interview has 1 to 1000 questions: change `times`");
        }
        if self.think.from > self.think.to || self.think.to > MAX_DURATION {
            return Err("give `pause` as a time, or as two times of which the first is shorter");
        }
        match self.within.is_zero() {
            true => Err("nothing comes within 0s: give a longer time"),
            false => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    const LONGEST: usize = 24;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.len() <= LONGEST && name.chars().all(fits) {
        true => Ok(()),
        false => Err("a name has 1 to 24 of the characters A-Z, a-z, 0-9, _ and -"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(sample_rate: u32, every_ms: u64) -> Talk {
        Talk {
            name: "talk".to_owned(),
            members: 1,
            speakers: 1,
            audio: Audio::Numbered,
            sample_rate,
            every: Duration::from_millis(every_ms),
            time: None,
            acks_each: false,
            within: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_chunk_is_what_the_server_takes_at_that_rate() {
        for (rate, every_ms, bytes) in [
            (16_000, 100, 3_200),
            (16_000, 1_000, 32_000),
            (48_000, 20, 1_920),
            (48_000, 680, 65_280),
        ] {
            let talk = talk(rate, every_ms);
            assert_eq!((talk.check(), talk.chunk_bytes()), (Ok(()), bytes));
        }
        for (rate, every_ms, part) in [
            (48_000, 690, "680ms"),
            (16_000, 1_010, "20ms to 1s"),
            (44_100, 100, "16000 or 48000"),
        ] {
            let refused = talk(rate, every_ms).check();
            assert!(refused.is_err_and(|why| why.contains(part)), "{part}");
        }
    }
}
