//! The audio of all providers: PCM, 16 bits little-endian, 16 kHz, mono.

/// Samples in a second.
pub const SAMPLE_RATE: u32 = 16_000;
/// Bytes in a millisecond.
pub const BYTES_PER_MS: u64 = 32;
/// Bytes in a second.
pub const BYTES_PER_SECOND: u64 = 32_000;

/// The mean amplitude from which on audio counts as speech: -45 dB of full scale. Rooms are quieter, speech at a
/// microphone is louder.
const VOICED: u32 = 180;
/// Every so manieth sample is looked at.
const STEP: usize = 4;

/// Whether somebody may be speaking. Noise as loud as speech counts too: only a recogniser can tell.
#[must_use]
pub fn is_voiced(pcm: &[u8]) -> bool {
    let mut sum: u64 = 0;
    let mut count: u64 = 0;
    for sample in pcm.chunks_exact(2 * STEP) {
        let sample = i16::from_le_bytes([sample[0], sample[1]]);
        sum += u64::from(sample.unsigned_abs());
        count += 1;
    }
    sum > u64::from(VOICED) * count
}

/// The milliseconds of so many bytes, rounded down.
#[must_use]
pub fn ms(bytes: u64) -> u64 {
    bytes / BYTES_PER_MS
}

/// The seconds of so many bytes.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53 bytes, 9,000 years"
)]
pub fn seconds(bytes: u64) -> f64 {
    bytes as f64 / BYTES_PER_SECOND as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(amplitude: i16) -> Vec<u8> {
        let samples = (0..1600).map(|n| {
            if n / 10 % 2 == 0 {
                amplitude
            } else {
                -amplitude
            }
        });
        samples.flat_map(i16::to_le_bytes).collect()
    }

    #[test]
    fn speech_is_louder_than_a_room() {
        assert!(!is_voiced(&[]));
        assert!(!is_voiced(&[0; 3200]));
        assert!(!is_voiced(&tone(100)));
        assert!(is_voiced(&tone(1000)));
        assert!(is_voiced(&tone(i16::MIN + 1)));
        assert!(is_voiced(&i16::MIN.to_le_bytes().repeat(1600)));
    }
}
