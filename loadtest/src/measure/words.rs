//! The ledger of words: what the speakers of a transcription session said, against what was heard and what is stored. Pure.
//!
//! Numbered audio is transcribed into one word for each chunk, so a word says who sent which chunk. A session's words are
//! kept until it ends, a bit for each and for each who hears it: a transcript is compared as a whole.

use std::{collections::BTreeMap, time::Duration};

use derive_more::AddAssign;
use serde::{Deserialize, Serialize};
use voicematch_protocol::numbered::parse_word;

#[cfg(test)]
mod tests;

/// One speaker's audio in one session.
#[derive(Debug, Clone)]
pub struct Track {
    /// The participant's id at the server.
    pub speaker: Box<str>,
    /// When the first chunk was due, since the start of the run.
    pub first_due: Duration,
    /// The audio of a chunk, and the time between two.
    pub every: Duration,
    /// Chunks that were sent: numbers 0 to this, without it.
    pub said: u32,
}

impl Track {
    /// When a chunk was due, since the start of the run.
    pub fn due(&self, chunk: u32) -> Duration {
        self.first_due
            .saturating_add(self.every.saturating_mul(chunk))
    }

    fn every_ms(&self) -> i64 {
        i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The audio of a session, by the numbers of its tracks.
#[derive(Debug, Clone, Default)]
pub struct Tracks(pub BTreeMap<u32, Track>);

impl Tracks {
    /// The moment at which the audio of the last of these words was due. `None`: none of them was said here.
    pub fn newest_due(&self, text: &str) -> Option<Duration> {
        let mut words = text.split_whitespace().rev();
        words.find_map(|word| {
            let (track, chunk) = parse_word(word)?;
            let track = self.0.get(&track)?;
            (chunk < track.said).then(|| track.due(chunk))
        })
    }

    /// Words of a text that nobody said here: they belong to another session.
    pub fn foreign(&self, text: &str) -> u64 {
        let words = text.split_whitespace().filter_map(parse_word);
        let foreign = words.filter(|(track, _)| !self.0.contains_key(track));
        foreign.count() as u64
    }
}

/// Words by what became of them at one who hears.
#[derive(AddAssign, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// For the first time.
    pub heard: u64,
    /// Again.
    pub twice: u64,
    /// After a later word of the same speaker.
    pub reordered: u64,
    /// Of another session, or told as another speaker's.
    pub misdelivered: u64,
    /// No word that was said, though the audio was numbered.
    pub altered: u64,
}

/// What one has heard, or what a transcript holds.
#[derive(Debug, Clone, Default)]
pub struct Hearing(BTreeMap<u32, HeardTrack>);

#[derive(Debug, Clone, Default)]
struct HeardTrack {
    words: Bits,
    last: Option<u32>,
    /// The first chunk of each text, and its place in the session, in milliseconds.
    places: Vec<(u32, i64)>,
}

impl Hearing {
    /// Takes the text of a `final`, or of a stored segment.
    pub fn hear(&mut self, tracks: &Tracks, speaker: &str, start_ms: i64, text: &str) -> Heard {
        let mut heard = Heard::default();
        let mut is_first = true;
        for word in text.split_whitespace() {
            let Some((number, chunk)) = parse_word(word) else {
                heard.altered += 1;
                continue;
            };
            let Some(track) = tracks.0.get(&number) else {
                heard.misdelivered += 1;
                continue;
            };
            if *track.speaker != *speaker {
                heard.misdelivered += 1;
                continue;
            }
            // Checked before it is kept: the number is the server's.
            if chunk >= track.said {
                heard.altered += 1;
                continue;
            }
            let mine = self.0.entry(number).or_default();
            if std::mem::take(&mut is_first) {
                mine.places.push((chunk, start_ms));
            }
            if !mine.words.set(chunk) {
                heard.twice += 1;
                continue;
            }
            heard.heard += 1;
            match mine.last {
                Some(last) if last > chunk => heard.reordered += 1,
                _ => mine.last = Some(chunk),
            }
        }
        heard
    }

    fn has(&self, track: u32, chunk: u32) -> bool {
        self.0.get(&track).is_some_and(|mine| mine.words.has(chunk))
    }

    /// Words that were said and are not here, as track and chunk.
    pub fn missing<'a>(&'a self, tracks: &'a Tracks) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let all = tracks.0.iter();
        let all = all.flat_map(|(number, track)| (0..track.said).map(|chunk| (*number, chunk)));
        all.filter(|(track, chunk)| !self.has(*track, *chunk))
    }

    /// Words that are due from `since` on, and that `other` has heard and this one has not.
    pub fn missing_of(&self, other: &Self, tracks: &Tracks, since: Duration) -> u64 {
        let missing = self.missing(tracks).filter(|(number, chunk)| {
            let due = tracks.0.get(number).map(|track| track.due(*chunk));
            due.is_some_and(|due| due >= since) && other.has(*number, *chunk)
        });
        missing.count() as u64
    }

    /// Where a chunk lies in the session, in milliseconds, from the nearest text that was heard of its track.
    fn place(&self, track: &Track, number: u32, chunk: u32) -> Option<i64> {
        let places = &self.0.get(&number)?.places;
        let nearest = places
            .iter()
            .min_by_key(|(known, _)| known.abs_diff(chunk))?;
        let chunks = i64::from(chunk) - i64::from(nearest.0);
        Some(nearest.1 + chunks * track.every_ms())
    }
}

/// Audio of which the server said that nobody transcribed it.
#[derive(Debug, Clone)]
pub struct Gap {
    pub speaker: Box<str>,
    /// Since the session's first audio, in milliseconds.
    pub from_ms: i64,
    pub to_ms: i64,
}

/// What became of the words of a session that is over, beside those that were heard.
#[derive(AddAssign, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Not heard, and in no gap.
    pub lost: u64,
    /// Not heard, and the server said so.
    pub in_gaps: u64,
    /// Transcripts that were compared.
    pub transcripts: u64,
    /// Told as `final`, and not in the transcript as they were told.
    pub not_stored: u64,
    /// In the transcript, and not said, or there twice, or somebody else's.
    pub wrongly_stored: u64,
    /// In the transcript, and never told.
    pub untold: u64,
}

/// A final, as it was told or as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Final {
    pub speaker: Box<str>,
    pub start_ms: i64,
    pub text: Box<str>,
}

impl Final {
    fn words(&self) -> u64 {
        self.text.split_whitespace().count() as u64
    }
}

/// Settles a session. `told`: the finals that its host was told, and `stored`: those of its transcript, by `seq`; `None`: it
/// could not be read.
pub fn settle(
    tracks: &Tracks,
    host: &Hearing,
    gaps: &[Gap],
    told: &BTreeMap<i64, Final>,
    stored: Option<&BTreeMap<i64, Final>>,
) -> Settled {
    let mut settled = Settled::default();
    for (number, chunk) in host.missing(tracks) {
        match is_in_gap(tracks, host, gaps, number, chunk) {
            true => settled.in_gaps += 1,
            false => settled.lost += 1,
        }
    }
    let Some(stored) = stored else {
        return settled;
    };
    settled.transcripts = 1;
    let mut transcript = Hearing::default();
    for (seq, segment) in stored {
        let Final {
            speaker,
            start_ms,
            text,
        } = segment;
        let read = transcript.hear(tracks, speaker, *start_ms, text);
        settled.wrongly_stored += read.twice + read.misdelivered + read.altered;
        if !told.contains_key(seq) {
            settled.untold += read.heard;
        }
    }
    for (seq, told) in told {
        if stored.get(seq) != Some(told) {
            settled.not_stored += told.words();
        }
    }
    settled
}

/// A chunk counts as in a gap that begins or ends within it.
fn is_in_gap(tracks: &Tracks, host: &Hearing, gaps: &[Gap], number: u32, chunk: u32) -> bool {
    let Some(track) = tracks.0.get(&number) else {
        return false;
    };
    let every = track.every_ms();
    let place = host.place(track, number, chunk);
    gaps.iter().any(|gap| {
        let is_there =
            place.is_none_or(|at| at < gap.to_ms + every && at + every > gap.from_ms - every);
        gap.speaker == track.speaker && is_there
    })
}

/// A set of numbers.
#[derive(Debug, Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Whether it is new.
    fn set(&mut self, number: u32) -> bool {
        let (place, bit) = Self::place(number);
        if self.0.len() <= place {
            self.0.resize(place + 1, 0);
        }
        let is_new = self.0[place] & bit == 0;
        self.0[place] |= bit;
        is_new
    }

    fn has(&self, number: u32) -> bool {
        let (place, bit) = Self::place(number);
        self.0.get(place).is_some_and(|bits| bits & bit != 0)
    }

    fn place(number: u32) -> (usize, u64) {
        (number as usize / 64, 1 << (number % 64))
    }
}
