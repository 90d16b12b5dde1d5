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

/// The bytes of a header.
pub const HEADER_BYTES: usize = 16;

/// How a header begins. As PCM it is a loud sample and half of the next one.
pub const MAGIC: [u8; 3] = [0x56, 0x4d, 0xa7];

/// The highest number of a track.
pub const MAX_TRACK: u32 = 0x00ff_ffff;

/// The highest time of sending: nine years in microseconds.
pub const MAX_SENT_US: u64 = 0xffff_ffff_ffff;

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

    /// The word that stands for the chunk in a transcript.
    #[must_use]
    pub fn word(&self) -> String {
        format!("c{}-{:06}", self.track, self.chunk)
    }
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
    fn other_audio_has_no_number() {
        for other in [&[][..], &MAGIC, &[0; 3200], &[0xff; 16]] {
            assert_eq!(Numbered::read(other), None);
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
