//! The audio of a speaker, chunk by chunk.

use std::{fs, path::Path, sync::Arc};

use voicematch_protocol::numbered::Numbered;

use super::Talks;
use crate::plan::talk::{Audio, Talk};

/// The longest file that is played: an hour of audio.
const MAX_FILE_BYTES: u64 = 3_600 * 32_000;
/// The bytes before the sample rate in the chunk `fmt `, and of what is checked.
const FORMAT: [u8; 8] = [1, 0, 1, 0, 0x80, 0x3e, 0, 0];

/// What one speaker says.
pub enum Voice {
    /// Noise whose chunks have the number of this track.
    Numbered {
        track: u32,
        noise: Vec<u8>,
    },
    Silence {
        bytes: usize,
    },
    File {
        audio: Arc<[u8]>,
        bytes: usize,
    },
}

impl Voice {
    pub fn new(talk: &Talk, talks: &Talks, track: u32) -> Self {
        let bytes = talk.chunk_bytes();
        match &talk.audio {
            Audio::Numbered => Self::Numbered {
                track,
                noise: noise(track, bytes),
            },
            Audio::Silence => Self::Silence { bytes },
            Audio::File(path) => match talks.files.get(path) {
                Some(audio) => Self::File {
                    audio: Arc::clone(audio),
                    bytes,
                },
                None => Self::Silence { bytes },
            },
        }
    }

    /// The n-th chunk. `now_us`: the time of the run, for its header.
    pub fn chunk(&self, n: u32, now_us: u64) -> Vec<u8> {
        match self {
            Self::Numbered { track, noise } => {
                let mut chunk = noise.clone();
                let header = Numbered {
                    track: *track,
                    chunk: n,
                    sent_us: now_us,
                };
                // A chunk has 640 bytes or more, and a run does not count to 16 million speakers.
                let _is_written = header.write(&mut chunk);
                chunk
            }
            Self::Silence { bytes } => vec![0; *bytes],
            Self::File { audio, bytes } => {
                let at = (n as usize).wrapping_mul(*bytes) % audio.len();
                audio
                    .iter()
                    .cycle()
                    .skip(at)
                    .take(*bytes)
                    .copied()
                    .collect()
            }
        }
    }
}

/// Quiet noise, the same for the same track.
fn noise(track: u32, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(track) | 1 << 32;
    let samples = (0..bytes / 2).flat_map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let sample = i16::try_from(state >> 54).unwrap_or(0) - 512;
        sample.to_le_bytes()
    });
    samples.collect()
}

/// The samples of a file: PCM, 16 kHz, 16 bits, mono, as they are or as WAV.
///
/// # Errors
/// Why it cannot be played.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE_BYTES {
        return Err("it is longer than an hour: give a shorter one".to_owned());
    }
    let file = fs::read(path).map_err(|error| error.to_string())?;
    let samples = match file.starts_with(b"RIFF") {
        true => wav(&file).ok_or("it is no WAV of PCM, 16 kHz, 16 bits, mono: convert it")?,
        false => &file[..],
    };
    match samples.len() {
        0 | 1 => Err("there is no audio in it".to_owned()),
        bytes => Ok(samples[..bytes & !1].to_vec()),
    }
}

/// The samples of a WAV file.
fn wav(file: &[u8]) -> Option<&[u8]> {
    let mut rest = file.get(12..)?;
    let mut fits = false;
    loop {
        let (head, after) = rest.split_at_checked(8)?;
        let length = u32::from_le_bytes(head[4..].try_into().ok()?) as usize;
        let body = after.get(..length.min(after.len()))?;
        match &head[..4] {
            b"fmt " => fits = body.starts_with(&FORMAT) && body.get(14..16) == Some(&[16, 0]),
            b"data" => return fits.then_some(body),
            _ => {}
        }
        rest = after.get(length + (length & 1)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_is_read_and_another_rate_is_refused() {
        let wave = |rate: u32| {
            let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
            file.extend(rate.to_le_bytes());
            file.extend(b"\0\x7d\0\0\x02\0\x10\0LIST\x03\0\0\0abc\0data\x04\0\0\0\x01\x02\x03\x04");
            file
        };
        assert_eq!(wav(&wave(16_000)), Some(&[1, 2, 3, 4][..]));
        assert_eq!(wav(&wave(48_000)), None);
        let good = wave(16_000);
        for length in 0..good.len() - 4 {
            assert_eq!(wav(&good[..length]).unwrap_or_default(), b"", "{length}");
        }
    }

    #[test]
    fn a_chunk_has_its_number_in_it() {
        let voice = Voice::Numbered {
            track: 3,
            noise: noise(3, 3_200),
        };
        let read = Numbered::read(&voice.chunk(7, 12)).expect("numbered");
        assert_eq!((read.track, read.chunk, read.sent_us), (3, 7, 12));
        let audio: Arc<[u8]> = vec![1, 2, 3, 4, 5, 6].into();
        let file = Voice::File { audio, bytes: 4 };
        assert_eq!(file.chunk(1, 0), [5, 6, 1, 2], "from its start again");
    }
}
