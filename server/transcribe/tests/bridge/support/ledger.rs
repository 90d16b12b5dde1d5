//! What became of each chunk of a track.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use voicematch_protocol::numbered::parse_word;
use voicematch_transcribe::{
    bridge::{Failure, GapReason, Heard, ProviderState},
    provider::Utterance,
};

use super::CHUNK_MS;

/// See [`ledger`](self).
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    track: u32,
    /// How many chunks were said.
    pub chunks: u32,
    /// Chunks that were silence: nobody has to hear them.
    pub silent: BTreeSet<u32>,
    pub finals: Vec<Utterance>,
    pub cut: usize,
    pub gaps: Vec<(Range<u64>, GapReason)>,
    pub states: Vec<ProviderState>,
    pub failures: Vec<Failure>,
    pub jobs: Vec<String>,
    /// The pieces of jobs: where each begins in its job, and in the track.
    pub pieces: Vec<(u64, u64)>,
    /// The last revision of each utterance.
    pub revisions: BTreeMap<String, u32>,
    pub partials: usize,
    /// The latest end of a partial, in milliseconds.
    pub partial_end_ms: i64,
}

impl Ledger {
    pub(crate) fn new(track: u32) -> Self {
        Self {
            track,
            ..Self::default()
        }
    }

    pub(crate) fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Partial {
                utterance,
                revision,
            } => {
                self.partials += 1;
                self.partial_end_ms = self.partial_end_ms.max(utterance.end_ms);
                let last = self.revisions.insert(utterance.id, revision);
                assert!(revision > last.unwrap_or(0), "revisions rise");
            }
            Heard::Final { utterance, cut } => {
                self.cut += usize::from(cut);
                self.finals.push(utterance);
            }
            Heard::Gap {
                from_ms,
                to_ms,
                reason,
            } => {
                assert!(from_ms < to_ms, "a gap has a length");
                self.gaps.push((from_ms..to_ms, reason));
            }
            Heard::State(state) => self.states.push(state),
            Heard::Failed(failure) => self.failures.push(failure),
            Heard::Job { job, .. } => self.jobs.push(job),
            Heard::JobPiece { job_ms, at_ms, .. } => self.pieces.push((job_ms, at_ms)),
            Heard::Ended => {}
        }
    }

    /// All words of all finals.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.finals
            .iter()
            .flat_map(|said| said.text.split(' '))
            .collect()
    }

    /// The chunks in finals, in the order in which they came.
    pub(crate) fn heard(&self) -> Vec<u32> {
        let chunk = |word: &&str| match parse_word(word) {
            Some((track, chunk)) => {
                assert_eq!(track, self.track, "a word of another track");
                chunk
            }
            None => panic!("{word:?} was not said"),
        };
        self.words().iter().map(chunk).collect()
    }

    pub(crate) fn has_partial_at(&self, ms: i64) -> bool {
        self.partial_end_ms >= ms
    }

    fn in_gap(&self, chunk: u32) -> bool {
        let start = u64::from(chunk) * CHUNK_MS;
        self.gaps
            .iter()
            .any(|(gap, _)| gap.start <= start && start + CHUNK_MS <= gap.end)
    }

    /// Each chunk is a word once, in order, at its time, or lies in a gap.
    pub(crate) fn assert_complete(&self) {
        let heard = self.heard();
        assert!(
            heard.is_sorted_by(|one, next| one < next),
            "out of order or twice: {heard:?}"
        );
        for chunk in 0..self.chunks {
            let is_heard = heard.binary_search(&chunk).is_ok();
            let is_settled = is_heard || self.in_gap(chunk) || self.silent.contains(&chunk);
            assert!(
                is_settled,
                "chunk {chunk} is neither a word nor in a gap: {self:#?}"
            );
            assert!(
                !(is_heard && self.in_gap(chunk)),
                "chunk {chunk} is a word and in a gap: {self:#?}"
            );
        }
        for said in &self.finals {
            let words: Vec<_> = said.text.split(' ').collect();
            let chunk = |word: Option<&&str>| {
                i64::from(word.and_then(|word| parse_word(word)).expect("a word").1)
            };
            let length = CHUNK_MS.cast_signed();
            assert_eq!(said.start_ms, chunk(words.first()) * length, "{said:?}");
            assert_eq!(said.end_ms, (chunk(words.last()) + 1) * length, "{said:?}");
            for word in &said.words {
                assert_eq!(
                    word.start_ms,
                    chunk(Some(&word.word.as_str())) * length,
                    "{word:?}"
                );
                assert_eq!(word.end_ms, word.start_ms + length, "{word:?}");
            }
        }
        let ids: BTreeSet<_> = self.finals.iter().map(|said| &said.id).collect();
        assert_eq!(
            ids.len(),
            self.finals.len(),
            "each final has a number of its own"
        );
    }

    /// The same, and nothing was missed.
    pub(crate) fn assert_all_heard(&self) {
        self.assert_complete();
        assert_eq!(self.gaps, vec![], "{self:#?}");
    }

    /// Nobody was told that the provider is silent.
    pub(crate) fn assert_never_silent(&self) {
        assert!(
            !self.states.contains(&ProviderState::Silent),
            "{:?}",
            self.states
        );
    }

    /// Milliseconds in gaps.
    pub(crate) fn missed_ms(&self) -> u64 {
        self.gaps.iter().map(|(gap, _)| gap.end - gap.start).sum()
    }
}
