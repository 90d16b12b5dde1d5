//! Whether loud audio rises and falls, as speech does, or is steady noise: hiss, hum, a fan.
//!
//! Measured in white, pink and brown noise and in espeak-ng's speech of 130 to 400 words a minute, in four voices: within 3 s the
//! loudest 50 ms of noise are at most 1.5 times as loud as the quietest, those of speech at least 5 times, and 3 times in white
//! noise of a quarter of its power.

use std::collections::VecDeque;

/// Every so manieth sample is looked at, and only what changes between two of them: rumble does not.
const STEP: usize = 4;
/// Loudness is compared in pieces of so many of these: 50 ms, shorter than the pauses between words.
const PIECE: u32 = 200;
/// So many pieces are compared, 3 s: nobody speaks for so long without a pause.
const PIECES: usize = 60;
/// What is steady is nowhere so many times as loud as elsewhere.
const RISE: u32 = 2;

/// What was heard lately. See [`noise`](self).
#[derive(Default)]
pub(super) struct Noise {
    before: i16,
    /// The piece that has begun: how loud all of it is together, and how many samples it has.
    sum: u64,
    count: u32,
    /// How loud the latest pieces are.
    pieces: VecDeque<u32>,
}

impl Noise {
    /// Hears more. `true`: for the last 3 s it is steady.
    pub(super) fn hear(&mut self, pcm: &[u8]) -> bool {
        for sample in pcm.chunks_exact(2 * STEP) {
            let sample = i16::from_le_bytes([sample[0], sample[1]]);
            self.sum += u64::from(sample.abs_diff(self.before));
            self.before = sample;
            self.count += 1;
            if self.count == PIECE {
                self.end_piece();
            }
        }
        let [quietest, loudest] = [self.pieces.iter().min(), self.pieces.iter().max()];
        match (quietest, loudest) {
            (Some(quietest), Some(loudest)) if self.pieces.len() == PIECES => {
                *loudest < quietest.saturating_mul(RISE).max(1)
            }
            _ => false,
        }
    }

    fn end_piece(&mut self) {
        if self.pieces.len() == PIECES {
            self.pieces.pop_front();
        }
        let mean = std::mem::take(&mut self.sum) / u64::from(PIECE);
        self.pieces
            .push_back(u32::try_from(mean).unwrap_or(u32::MAX));
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise of this loudness, in frames of 20 ms.
    fn white(seed: &mut u64, loudness: f64, ms: usize) -> Vec<Vec<u8>> {
        let mut sample = || {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let sample = i16::from_le_bytes([seed.to_le_bytes()[6], seed.to_le_bytes()[7]]);
            #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
            let sample = (f64::from(sample) * loudness) as i16;
            sample.to_le_bytes()
        };
        (0..ms / 20)
            .map(|_| (0..320).flat_map(|_| sample()).collect())
            .collect()
    }

    fn hear(noise: &mut Noise, frames: &[Vec<u8>]) -> bool {
        frames.iter().fold(false, |_, frame| noise.hear(frame))
    }

    #[test]
    fn hiss_and_hum_are_steady_and_syllables_are_not() {
        let (mut noise, mut seed) = (Noise::default(), 7);
        assert!(!hear(&mut noise, &white(&mut seed, 0.1, 2_980)), "not yet");
        assert!(hear(&mut noise, &white(&mut seed, 0.1, 60_000)));
        // Syllables.
        for _ in 0..20 {
            assert!(!hear(&mut noise, &white(&mut seed, 0.3, 80)));
            assert!(!hear(&mut noise, &white(&mut seed, 0.1, 80)));
        }
        assert!(
            hear(&mut noise, &white(&mut seed, 0.1, 3_100)),
            "hiss again"
        );
        let mut noise = Noise::default();
        let hum: Vec<u8> = (0..16_000 * 4)
            .flat_map(|n| i16::to_le_bytes(if n / 67 % 2 == 0 { 3_000 } else { -3_000 }))
            .collect();
        let frames: Vec<_> = hum.chunks(640).map(<[u8]>::to_vec).collect();
        assert!(hear(&mut noise, &frames));
    }

    #[test]
    fn silence_is_steady_until_somebody_speaks() {
        let mut noise = Noise::default();
        assert!(hear(&mut noise, &[vec![0; 128_000]]));
        assert!(!hear(&mut noise, &white(&mut 7, 0.1, 100)));
    }

    #[test]
    fn frames_of_a_second_are_heard_like_short_ones() {
        let mut noise = Noise::default();
        let second = white(&mut 7, 0.1, 1_000).concat();
        assert!(!noise.hear(&second) && !noise.hear(&second));
        assert!(noise.hear(&second));
    }
}
