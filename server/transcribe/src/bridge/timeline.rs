//! Which audio of its track a stream has heard: a provider counts bytes and times from the first sample of its link.

use std::collections::VecDeque;

use crate::provider::{Utterance, Word, pcm};

/// How many holes of a stream are known. A hole is 2 s at least, so these are more than half an hour of audio.
const MAX_PIECES: usize = 1024;
/// How far times may lie behind the audio: recognisers round up.
const TOLERANCE_MS: i64 = 2000;
/// The longest utterance that may have begun before a stream that was resumed.
const LONGEST_MS: i64 = 60_000;
/// The most bytes of a text; 60 s of speech have about 1,000.
const MAX_TEXT: usize = 16 * 1024;
const MAX_ID: usize = 128;
const MAX_WORDS: usize = 2000;

/// See [`timeline`](self).
pub(super) struct Timeline {
    /// Where pieces without a hole begin: in the link, and in the track.
    pieces: VecDeque<(u64, u64)>,
    /// Bytes sent.
    sent: u64,
    is_resumed: bool,
}

impl Timeline {
    /// `from`: where in the track its audio begins.
    pub(super) fn new(from: u64, is_resumed: bool) -> Self {
        Self {
            pieces: [(0, from)].into(),
            sent: 0,
            is_resumed,
        }
    }

    /// Bytes sent on the link.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// So many bytes were sent, that lie there in the track. `true`: not behind those that were sent before.
    pub(super) fn send(&mut self, at: u64, length: u64) -> bool {
        let follows = self
            .pieces
            .back()
            .is_some_and(|(link, track)| track + (self.sent - link) == at);
        if !follows {
            if self.pieces.len() == MAX_PIECES {
                self.pieces.pop_front();
            }
            self.pieces.push_back((self.sent, at));
        }
        self.sent += length;
        !follows
    }

    /// The position in the track behind so many bytes of the link.
    pub(super) fn after(&self, bytes: u64) -> u64 {
        let index = self.pieces.partition_point(|(link, _)| *link < bytes);
        self.track(index, bytes.cast_signed())
    }

    /// The position in the track of the byte there; below 0 it lies before the link.
    fn at(&self, byte: i64) -> u64 {
        let index = self
            .pieces
            .partition_point(|(link, _)| link.cast_signed() <= byte);
        self.track(index, byte)
    }

    fn track(&self, behind: usize, byte: i64) -> u64 {
        let (link, track) = self
            .pieces
            .get(behind.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        track.saturating_add_signed(byte.saturating_sub(link.cast_signed()))
    }

    /// The utterance with the times of the track, or what is wrong with it.
    pub(super) fn place(&self, said: Utterance) -> Result<Utterance, &'static str> {
        let sent_ms = pcm::ms(self.sent).cast_signed();
        let least = if self.is_resumed {
            -LONGEST_MS
        } else {
            -TOLERANCE_MS
        };
        if said.start_ms > said.end_ms
            || said.start_ms < least
            || said.end_ms > sent_ms + TOLERANCE_MS
        {
            return Err("times that cannot be");
        }
        if said.text.len() > MAX_TEXT || said.id.len() > MAX_ID || said.words.len() > MAX_WORDS {
            return Err("more text than anybody says");
        }
        let start_ms = self.start(said.start_ms);
        let end_ms = self.end(said.end_ms.min(sent_ms)).max(start_ms);
        let is_share = |confidence: &f64| (0.0..=1.0).contains(confidence);
        let word = |word: Word| {
            let word_start = self
                .start(word.start_ms.clamp(said.start_ms, said.end_ms))
                .clamp(start_ms, end_ms);
            let word_end = self
                .end(word.end_ms.clamp(said.start_ms, said.end_ms))
                .clamp(word_start, end_ms);
            let confidence = word.confidence.filter(is_share);
            Word {
                word: word.word,
                start_ms: word_start,
                end_ms: word_end,
                confidence,
            }
        };
        Ok(Utterance {
            start_ms,
            end_ms,
            confidence: said.confidence.filter(is_share),
            words: said.words.into_iter().map(word).collect(),
            id: said.id,
            text: said.text,
            language: said.language,
        })
    }

    fn start(&self, ms: i64) -> i64 {
        let ms = if self.is_resumed { ms } else { ms.max(0) };
        pcm::ms(self.at(ms.saturating_mul(pcm::BYTES_PER_MS.cast_signed()))).cast_signed()
    }

    fn end(&self, ms: i64) -> i64 {
        let byte = ms.saturating_mul(pcm::BYTES_PER_MS.cast_signed());
        let position = u64::try_from(byte).map_or_else(|_| self.at(byte), |byte| self.after(byte));
        pcm::ms(position).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(start_ms: i64, end_ms: i64) -> Utterance {
        Utterance {
            start_ms,
            end_ms,
            ..Utterance::default()
        }
    }

    fn placed(timeline: &Timeline, start: i64, end: i64) -> Result<(i64, i64), &'static str> {
        timeline
            .place(said(start, end))
            .map(|said| (said.start_ms, said.end_ms))
    }

    #[test]
    fn times_count_from_the_first_sample_of_the_track() {
        let mut timeline = Timeline::new(10 * 32_000, false);
        assert!(!timeline.send(10 * 32_000, 32_000));
        assert_eq!(placed(&timeline, 0, 1000), Ok((10_000, 11_000)));
        // Two seconds were dropped.
        assert!(timeline.send(13 * 32_000, 32_000));
        assert_eq!(
            placed(&timeline, 500, 1000),
            Ok((10_500, 11_000)),
            "an end lies before the hole"
        );
        assert_eq!(
            placed(&timeline, 1000, 2000),
            Ok((13_000, 14_000)),
            "a start lies behind it"
        );
        assert_eq!(placed(&timeline, 900, 1100), Ok((10_900, 13_100)));
        assert_eq!(timeline.after(32_000), 11 * 32_000);
        assert_eq!(timeline.after(32_002), 13 * 32_000 + 2);
        assert_eq!(
            placed(&timeline, 1900, 2300),
            Ok((13_900, 14_000)),
            "rounded up by the recogniser"
        );
    }

    #[test]
    fn times_before_a_link_are_those_of_the_stream_that_it_resumes() {
        let mut timeline = Timeline::new(10 * 32_000, true);
        assert_eq!(
            placed(&timeline, -500, 0),
            Ok((9_500, 10_000)),
            "nothing was sent yet"
        );
        timeline.send(10 * 32_000, 32_000);
        assert_eq!(placed(&timeline, -500, 1000), Ok((9_500, 11_000)));
        assert_eq!(placed(&timeline, -700, -100), Ok((9_300, 9_900)));
    }

    #[test]
    fn times_that_cannot_be_are_refused() {
        let mut timeline = Timeline::new(0, false);
        timeline.send(0, 32_000);
        for (start, end) in [
            (500, 400),
            (0, 3001),
            (-2001, 500),
            (i64::MIN, i64::MAX),
            (i64::MAX, i64::MAX),
            (i64::MIN, i64::MIN),
        ] {
            assert!(placed(&timeline, start, end).is_err(), "{start} to {end}");
        }
        let long = Utterance {
            text: "x".repeat(MAX_TEXT + 1),
            ..said(0, 100)
        };
        assert!(timeline.place(long).is_err());
    }

    #[test]
    fn words_lie_within_their_utterance() {
        let mut timeline = Timeline::new(320_000, false);
        timeline.send(320_000, 32_000);
        let word = |start_ms, end_ms| Word {
            word: "w".to_owned(),
            start_ms,
            end_ms,
            confidence: Some(7.0),
        };
        let words = vec![word(-500, 100), word(500, 400), word(i64::MIN, i64::MAX)];
        let placed = timeline.place(Utterance {
            words,
            confidence: Some(f64::NAN),
            ..said(0, 900)
        });
        let placed = placed.expect("its times are right");
        assert_eq!(placed.confidence, None);
        for word in placed.words {
            assert!(
                10_000 <= word.start_ms && word.start_ms <= word.end_ms && word.end_ms <= 10_900,
                "{word:?}"
            );
            assert_eq!(word.confidence, None);
        }
    }

    #[test]
    fn a_stream_with_many_holes_takes_bounded_memory() {
        let mut timeline = Timeline::new(0, false);
        for hole in 0..5000 {
            timeline.send(hole * 6400, 3200);
        }
        assert_eq!(timeline.pieces.len(), MAX_PIECES);
        assert_eq!(timeline.after(timeline.sent()), 4999 * 6400 + 3200);
    }
}
