//! PCM: what a frame must be, and 48 kHz made 16 kHz.

use std::{f32::consts::PI, sync::LazyLock, time::Duration};

use bytes::Bytes;
use voicematch_protocol::transcribe::TranscribeError;

use super::{MAX_FRAME_BYTES, Refused};

/// Samples a second for all providers.
pub(super) const RATE: u32 = 16_000;

/// The other rate that is taken.
pub(super) const REDUCED_RATE: u32 = 48_000;

/// The shortest and the longest frame.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// How files and streams of other formats begin.
const HEADERS: [(&[u8], &str); 5] = [
    (b"RIFF", "a WAV file's header"),
    (b"OggS", "an Ogg stream"),
    (b"\x1a\x45\xdf\xa3", "a WebM stream"),
    (b"fLaC", "a FLAC file's header"),
    (b"ID3", "an MP3 file's header"),
];

/// How long the audio of this frame is.
pub(super) fn check(frame: &[u8], rate: u32) -> Result<Duration, Refused> {
    let bad = |message: String| Err(Refused::new(TranscribeError::BadAudio, message));
    for (header, name) in HEADERS {
        if frame.starts_with(header) {
            return bad(format!(
                "this is {name}, and audio is bare PCM: 16 bits, little-endian, mono"
            ));
        }
    }
    if !frame.len().is_multiple_of(2) {
        return bad(format!(
            "a frame of {} bytes ends within a sample, which has 2; send 16-bit PCM",
            frame.len()
        ));
    }
    let time = Duration::from_secs_f64(frame.len() as f64 / 2.0 / f64::from(rate));
    if time < SHORTEST || time > LONGEST || frame.len() > MAX_FRAME_BYTES {
        return bad(format!(
            "a frame of {} ms; send 20 to {} ms of audio in each",
            time.as_millis(),
            LONGEST
                .as_millis()
                .min(MAX_FRAME_BYTES as u128 * 500 / u128::from(rate))
        ));
    }
    Ok(time)
}

/// Samples of 48 kHz for one of 16 kHz.
const FACTOR: usize = 3;

const TAPS: usize = 31;

/// A low-pass filter at 7.2 kHz (windowed sinc, Hamming): what is above 8 kHz would be heard as something else.
static FILTER: LazyLock<[f32; TAPS]> = LazyLock::new(|| {
    let cutoff = 7_200.0 / 48_000.0;
    let middle = (TAPS - 1) as f32 / 2.0;
    let mut taps = [0.0; TAPS];
    for (index, tap) in taps.iter_mut().enumerate() {
        let x = index as f32 - middle;
        let sinc = match x == 0.0 {
            true => 2.0 * cutoff,
            false => (2.0 * PI * cutoff * x).sin() / (PI * x),
        };
        let window = 0.54 - 0.46 * (2.0 * PI * index as f32 / (TAPS - 1) as f32).cos();
        *tap = sinc * window;
    }
    let sum: f32 = taps.iter().sum();
    taps.map(|tap| tap / sum)
});

/// Makes 16 kHz of 48 kHz, over the borders of frames.
#[derive(Debug, Default)]
pub(super) struct Reduce {
    /// Samples that later ones still need.
    rest: Vec<f32>,
}

impl Reduce {
    pub(super) fn run(&mut self, frame: &[u8]) -> Bytes {
        let samples = frame
            .chunks_exact(2)
            .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])));
        self.rest.extend(samples);
        let mut reduced = Vec::with_capacity(frame.len() / FACTOR + 2);
        let mut at = 0;
        while at + TAPS <= self.rest.len() {
            let window = &self.rest[at..at + TAPS];
            let sum: f32 = window.iter().zip(FILTER.iter()).map(|(a, b)| a * b).sum();
            #[expect(clippy::cast_possible_truncation, reason = "clamped")]
            let sample = sum.round().clamp(-32_768.0, 32_767.0) as i16;
            reduced.extend_from_slice(&sample.to_le_bytes());
            at += FACTOR;
        }
        self.rest.drain(..at);
        reduced.into()
    }
}

#[cfg(test)]
mod tests {
    use voicematch_protocol::numbered::Numbered;

    use super::*;

    fn tone(hertz: f32, samples: usize) -> Vec<u8> {
        let sample = |index: usize| {
            let phase = 2.0 * PI * hertz * index as f32 / 48_000.0;
            #[expect(clippy::cast_possible_truncation, reason = "within 10,000")]
            let value = (phase.sin() * 10_000.0) as i16;
            value.to_le_bytes()
        };
        (0..samples).flat_map(sample).collect()
    }

    fn loudness(pcm: &[u8]) -> f64 {
        let squares = pcm
            .chunks_exact(2)
            .map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])).powi(2));
        (squares.sum::<f64>() / (pcm.len() / 2) as f64).sqrt()
    }

    #[test]
    fn of_48_khz_a_third_is_left_and_what_16_khz_cannot_hold_is_gone() {
        for (hertz, least, most) in [(1_000.0, 6_800.0, 7_300.0), (15_000.0, 0.0, 100.0)] {
            let mut reduce = Reduce::default();
            let whole = tone(hertz, 48_000);
            let mut out = Vec::new();
            // Odd lengths, so that borders fall anywhere.
            for frame in whole.chunks(2 * 1_601) {
                out.extend_from_slice(&reduce.run(frame));
            }
            assert!((31_900..=32_000).contains(&out.len()), "{}", out.len());
            let found = loudness(&out);
            assert!((least..=most).contains(&found), "{hertz} Hz: {found}");
        }
    }

    #[test]
    fn numbers_in_the_held_form_are_read_after_it() {
        for frame_ms in [20, 100, 680] {
            let mut reduce = Reduce::default();
            for chunk in 0..20 {
                let numbered = Numbered {
                    track: 0x00c3_3c5a,
                    chunk: chunk * 700_001,
                    sent_us: 0,
                };
                let mut frame = tone(440.0, 48 * frame_ms);
                for sample in frame.chunks_exact_mut(2) {
                    let quiet = i16::from_le_bytes([sample[0], sample[1]]) / 20;
                    sample.copy_from_slice(&quiet.to_le_bytes());
                }
                assert!(numbered.write_held(&mut frame, FACTOR));
                let reduced = reduce.run(&frame);
                assert_eq!(Numbered::read_held(&reduced), Some(numbered), "{frame_ms}");
            }
        }
    }

    #[test]
    fn what_is_no_pcm_is_refused_with_a_reason() {
        let good = vec![0; 3_200];
        assert_eq!(check(&good, RATE).expect("taken").as_millis(), 100);
        for (frame, word) in [
            (vec![0; 3_201], "within a sample"),
            (vec![0; 2], "send 20"),
            (vec![0; 32_002], "send 20"),
            (b"RIFF....".repeat(100), "WAV"),
            (b"OggS....".repeat(100), "Ogg"),
            (b"\x1a\x45\xdf\xa3....".repeat(100), "WebM"),
        ] {
            let refused = check(&frame, RATE).expect_err(word);
            assert_eq!(refused.code, TranscribeError::BadAudio);
            assert!(refused.message.contains(word), "{}", refused.message);
        }
    }
}
