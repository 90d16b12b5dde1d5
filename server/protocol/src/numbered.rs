//! Numbered audio: noise that says which chunk it is, so that a transcript proves what was heard.
//!
//! `loadtest` writes a header over the first bytes of each chunk of PCM; the `fake` provider answers one word for each
//! chunk, such as `c17-000123`. From the words follows which chunks arrived, arrived twice or never arrived, and when.
//!
//! The header, 16 bytes, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0-2 | [`MAGIC`] |
//! | 3-5 | track |
//! | 6-9 | chunk, from 0 |
//! | 10-15 | when it was sent, in microseconds of a clock that the writer chooses |
//!
//! A rate converter on the way changes every byte. For audio that passes one there is a held form ([`Numbered::write_held`]):
//! loud bits, each as long as four samples of the rate at which they are read.

/// The bytes of a header.
pub const HEADER_BYTES: usize = 16;

/// How a header begins. As PCM it is a loud sample and half of the next one.
pub const MAGIC: [u8; 3] = [0x56, 0x4d, 0xa7];

/// The highest number of a track.
pub const MAX_TRACK: u32 = 0x00ff_ffff;

/// The highest time of sending: nine years in microseconds.
pub const MAX_SENT_US: u64 = 0xffff_ffff_ffff;

/// The highest number of a chunk in the held form.
pub const MAX_HELD_CHUNK: u32 = 0x00ff_ffff;

/// The samples of a bit in the held form, where it is read: even what turns with each bit passes a low-pass at half
/// of the Nyquist frequency.
const HELD_SAMPLES: usize = 4;
/// Samples before the first bit: the converter may have none of the first ones yet.
const HELD_LEAD: usize = 8;
/// The latest sample at which the first bit may be found: converters are late.
const HELD_LATEST: usize = 24;
/// How loud a bit is, and what counts as one.
const HELD_LEVEL: i16 = 12_000;
const HELD_LEAST: i16 = 4_000;
/// The first bits, and what the others are checked with.
const HELD_MAGIC: u8 = 0xa7;

/// What a chunk says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// At most [`MAX_TRACK`].
    pub track: u32,
    /// The number of the chunk in its track, from 0.
    pub chunk: u32,
    /// At most [`MAX_SENT_US`].
    pub sent_us: u64,
}

impl Numbered {
    /// Writes the header over the first bytes of `chunk`. `false`, and nothing is written, if the chunk is too short or
    /// a number too high.
    #[must_use]
    pub fn write(&self, chunk: &mut [u8]) -> bool {
        let Some(header) = chunk.first_chunk_mut::<HEADER_BYTES>() else {
            return false;
        };
        if self.track > MAX_TRACK || self.sent_us > MAX_SENT_US {
            return false;
        }
        header[..3].copy_from_slice(&MAGIC);
        header[3..6].copy_from_slice(&self.track.to_le_bytes()[..3]);
        header[6..10].copy_from_slice(&self.chunk.to_le_bytes());
        header[10..].copy_from_slice(&self.sent_us.to_le_bytes()[..6]);
        true
    }

    /// The header with which `chunk` begins, if it does.
    #[must_use]
    pub fn read(chunk: &[u8]) -> Option<Self> {
        let header = chunk.first_chunk::<HEADER_BYTES>()?;
        if header[..3] != MAGIC {
            return None;
        }
        let number = |bytes: &[u8]| {
            let mut number = [0; 8];
            number[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(number)
        };
        Some(Self {
            track: u32::try_from(number(&header[3..6])).ok()?,
            chunk: u32::try_from(number(&header[6..10])).ok()?,
            sent_us: number(&header[10..]),
        })
    }

    /// Writes the held form over the first samples of `chunk`, PCM of `factor` times the rate at which it is read: a
    /// byte that is always the same, three of the track, three of the chunk's number, and their check. The time of sending
    /// is not in it. `false`, and nothing is written, if the chunk has less than 17 ms at 16 kHz or a number is too high.
    #[must_use]
    pub fn write_held(&self, chunk: &mut [u8], factor: usize) -> bool {
        if self.track > MAX_TRACK || self.chunk > MAX_HELD_CHUNK {
            return false;
        }
        let [a, b, c, _] = self.track.to_le_bytes();
        let [d, e, f, _] = self.chunk.to_le_bytes();
        let bytes = [HELD_MAGIC, a, b, c, d, e, f, check(&[a, b, c, d, e, f])];
        let (lead, held) = (HELD_LEAD * factor * 2, HELD_SAMPLES * factor * 2);
        let Some(header) = chunk.get_mut(lead..lead + bytes.len() * 8 * held) else {
            return false;
        };
        for (at, bit) in header.chunks_exact_mut(held).enumerate() {
            let is_set = bytes[at / 8] >> (at % 8) & 1 == 1;
            let level = if is_set { HELD_LEVEL } else { -HELD_LEVEL };
            for sample in bit.chunks_exact_mut(2) {
                sample.copy_from_slice(&level.to_le_bytes());
            }
        }
        true
    }

    /// The held form with which `chunk` begins, if it does, whatever converter it has passed.
    #[must_use]
    pub fn read_held(chunk: &[u8]) -> Option<Self> {
        (0..=HELD_LATEST).find_map(|first| {
            let mut bytes = [0_u8; 8];
            for at in 0..bytes.len() * 8 {
                let place = (first + at * HELD_SAMPLES) * 2;
                let sample = chunk.get(place..)?.first_chunk()?;
                let level = i16::from_le_bytes(*sample);
                if level.unsigned_abs() < HELD_LEAST.unsigned_abs() {
                    return None;
                }
                bytes[at / 8] |= u8::from(level > 0) << (at % 8);
            }
            let [HELD_MAGIC, a, b, c, d, e, f, sum] = bytes else {
                return None;
            };
            (sum == check(&[a, b, c, d, e, f])).then(|| Self {
                track: u32::from_le_bytes([a, b, c, 0]),
                chunk: u32::from_le_bytes([d, e, f, 0]),
                sent_us: 0,
            })
        })
    }

    /// The word that stands for the chunk in a transcript.
    #[must_use]
    pub fn word(&self) -> String {
        format!("c{}-{:06}", self.track, self.chunk)
    }
}

fn check(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(HELD_MAGIC, |sum, byte| sum.rotate_left(1) ^ byte)
}

/// The track and the chunk of a word, if it is one of [`Numbered::word`].
#[must_use]
pub fn parse_word(word: &str) -> Option<(u32, u32)> {
    let (track, chunk) = word.strip_prefix('c')?.split_once('-')?;
    let number = |digits: &str| {
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { digits.parse().ok() } else { None }
    };
    Some((number(track)?, number(chunk)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Numbered = Numbered {
        track: 17,
        chunk: 123,
        sent_us: 987_654_321_012,
    };

    #[test]
    fn what_is_written_is_read() {
        for numbered in [
            SOME,
            Numbered {
                track: 0,
                chunk: 0,
                sent_us: 0,
            },
            Numbered {
                track: MAX_TRACK,
                chunk: u32::MAX,
                sent_us: MAX_SENT_US,
            },
        ] {
            let mut chunk = [7; 20];
            assert!(numbered.write(&mut chunk));
            assert_eq!(Numbered::read(&chunk), Some(numbered));
            assert_eq!(chunk[HEADER_BYTES..], [7; 4], "the rest of the chunk stays");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut short = [7; HEADER_BYTES - 1];
        assert!(!SOME.write(&mut short));
        assert_eq!(short, [7; HEADER_BYTES - 1]);
        assert!(
            !Numbered {
                track: MAX_TRACK + 1,
                ..SOME
            }
            .write(&mut [0; 16])
        );
        assert!(
            !Numbered {
                sent_us: MAX_SENT_US + 1,
                ..SOME
            }
            .write(&mut [0; 16])
        );
    }

    #[test]
    fn the_held_form_is_read_at_the_other_rate() {
        let held = Numbered { sent_us: 0, ..SOME };
        // 20 ms, and the first of each three samples: a converter at its simplest, here with and without a delay.
        let mut chunk = vec![0; 960 * 2];
        assert!(held.write_held(&mut chunk, 3));
        for delay in [0, 5, 15] {
            let late = std::iter::repeat_n([0, 0], delay).flatten();
            let kept = chunk.chunks_exact(6).flat_map(|three| [three[0], three[1]]);
            let read: Vec<u8> = late.chain(kept).collect();
            assert_eq!(Numbered::read_held(&read), Some(held), "{delay}");
            assert_eq!(Numbered::read(&read), None);
            let mut wrong = read.clone();
            let place = (HELD_LEAD + delay + 20 * HELD_SAMPLES) * 2;
            for byte in &mut wrong[place..place + HELD_SAMPLES * 2] {
                *byte = !*byte;
            }
            assert_eq!(Numbered::read_held(&wrong), None, "a bit is wrong");
        }
        let too_high = Numbered {
            chunk: MAX_HELD_CHUNK + 1,
            ..SOME
        };
        assert!(!too_high.write_held(&mut chunk, 3));
        assert!(!SOME.write_held(&mut [0; 700 * 2], 3), "too short");
    }

    #[test]
    fn other_audio_has_no_number() {
        for other in [&[][..], &MAGIC, &[0; 3200], &[0xff; 16]] {
            assert_eq!(Numbered::read(other), None);
            assert_eq!(Numbered::read_held(other), None);
        }
    }

    #[test]
    fn words_name_their_chunk() {
        assert_eq!(SOME.word(), "c17-000123");
        assert_eq!(parse_word("c17-000123"), Some((17, 123)));
        let long = Numbered {
            chunk: 12_345_678,
            ..SOME
        };
        assert_eq!(parse_word(&long.word()), Some((17, 12_345_678)));
        for other in [
            "",
            "c",
            "c-",
            "c1-",
            "c-1",
            "17-000123",
            "c17_000123",
            "c17-+00123",
            "c17-99999999999",
        ] {
            assert_eq!(parse_word(other), None, "{other}");
        }
    }
}
