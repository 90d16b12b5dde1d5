//! The audio of a speaker, chunk by chunk.

use std::{fs, path::Path, sync::Arc};

use voicematch_protocol::numbered::Numbered;

use super::Talks;
use crate::plan::talk::{Audio, RATES, Talk};

/// Of so many samples of the higher rate the server makes one.
const REDUCED_BY: usize = (RATES[1] / RATES[0]) as usize;

/// The longest audio that is played: an hour.
const MAX_SECONDS: u64 = 3_600;

/// What one speaker says.
pub enum Voice {
    /// Noise whose chunks have the number of this track.
    Numbered {
        track: u32,
        noise: Vec<u8>,
        /// The server makes other samples of these: numbers are written so that they can be read after that.
        is_reduced: bool,
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
                is_reduced: talk.sample_rate != RATES[0],
            },
            Audio::Silence => Self::Silence { bytes },
            Audio::File(path) => match talks.files.get(&(path.clone(), talk.sample_rate)) {
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
            Self::Numbered {
                track,
                noise,
                is_reduced,
            } => {
                let mut chunk = noise.clone();
                let header = Numbered {
                    track: *track,
                    chunk: n,
                    sent_us: now_us,
                };
                // A chunk has 20 ms or more, and a run does not count to 16 million speakers, or chunks of one.
                let _is_written = match is_reduced {
                    true => header.write_held(&mut chunk, REDUCED_BY),
                    false => header.write(&mut chunk),
                };
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

/// The samples of a file of 16 bits, mono, `rate` samples a second: WAV, or bare PCM named `.pcm` or `.raw`.
///
/// # Errors
/// Why it cannot be played.
pub fn read(path: &Path, rate: u32) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_SECONDS * u64::from(rate) * 2 {
        return Err("it is longer than an hour: give a shorter one".to_owned());
    }
    let file = fs::read(path).map_err(|error| error.to_string())?;
    let is_bare = ["pcm", "raw"]
        .iter()
        .any(|ext| path.extension() == Some(ext.as_ref()));
    let samples = match is_bare {
        true => &file[..],
        false => wav(&file, rate)?,
    };
    match samples.len() {
        0 | 1 => Err("there is no audio in it".to_owned()),
        bytes => Ok(samples[..bytes & !1].to_vec()),
    }
}

/// The samples of a WAV file (<https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html>).
fn wav(file: &[u8], rate: u32) -> Result<&[u8], String> {
    let cut = || "it is a WAV file that ends before its audio".to_owned();
    if !file.starts_with(b"RIFF") || file.get(8..12) != Some(b"WAVE") {
        return Err("it is no WAV file: convert it, or name bare PCM .pcm or .raw".to_owned());
    }
    let mut rest = &file[12..];
    let mut is_known = false;
    loop {
        let (head, after) = rest.split_at_checked(8).ok_or_else(cut)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let body = after.get(..length.min(after.len())).ok_or_else(cut)?;
        match &head[..4] {
            b"fmt " => {
                check_format(body.first_chunk().ok_or_else(cut)?, rate)?;
                is_known = true;
            }
            b"data" if is_known => return Ok(body),
            _ => {}
        }
        rest = after.get(length + (length & 1)..).ok_or_else(cut)?;
    }
}

/// Refuses another format than PCM of 16 bits, mono, at this rate.
fn check_format(format: &[u8; 16], rate: u32) -> Result<(), String> {
    let short = |at: usize| u16::from_le_bytes([format[at], format[at + 1]]);
    let (kind, channels, bits) = (short(0), short(2), short(14));
    let hertz = u32::from_le_bytes([format[4], format[5], format[6], format[7]]);
    if (kind, channels, bits, hertz) == (1, 1, 16, rate) {
        return Ok(());
    }
    let kind = match kind {
        1 => "PCM".to_owned(),
        other => format!("format {other}"),
    };
    Err(format!(
        "it is WAV of {kind}, {hertz} Hz, {bits} bits, {channels} channels, and is to be PCM, {rate} Hz, 16 bits, mono: \
         convert it, or set the talk's `sample_rate`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(rate: u32, channels: u8) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0".to_vec();
        file.extend([channels, 0]);
        file.extend(rate.to_le_bytes());
        file.extend(b"\0\x7d\0\0\x02\0\x10\0LIST\x03\0\0\0abc\0data\x04\0\0\0\x01\x02\x03\x04");
        file
    }

    #[test]
    fn a_wav_is_read_and_what_is_none_or_of_another_kind_is_refused_with_a_reason() {
        for rate in RATES {
            assert_eq!(wav(&wave(rate, 1), rate), Ok(&[1, 2, 3, 4][..]));
        }
        let good = wave(16_000, 1);
        for length in 0..good.len() - 4 {
            assert_ne!(
                wav(&good[..length], 16_000),
                Ok(&[1, 2, 3, 4][..]),
                "{length}"
            );
        }
        for (file, rate, part) in [
            (wave(44_100, 1), 16_000, "44100 Hz"),
            (wave(16_000, 1), 48_000, "to be PCM, 48000 Hz"),
            (wave(16_000, 2), 16_000, "2 channels"),
            (b"OggS and so on".to_vec(), 16_000, "no WAV"),
            (good[..30].to_vec(), 16_000, "ends before"),
        ] {
            let refused = wav(&file, rate).expect_err(part);
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn bare_pcm_is_told_by_its_name() {
        let file = tempfile::Builder::new().suffix(".pcm").tempfile();
        let file = file.expect("a file");
        fs::write(file.path(), [1, 2, 3, 4, 5]).expect("written");
        assert_eq!(read(file.path(), 16_000), Ok(vec![1, 2, 3, 4]));
        let other = file.path().with_extension("mp3");
        fs::rename(file.path(), &other).expect("renamed");
        let refused = read(&other, 16_000);
        fs::remove_file(&other).expect("removed");
        assert!(refused.is_err_and(|reason| reason.contains("no WAV")));
    }

    #[test]
    fn a_chunk_has_its_number_in_it() {
        let voice = Voice::Numbered {
            track: 3,
            noise: noise(3, 3_200),
            is_reduced: false,
        };
        let read = Numbered::read(&voice.chunk(7, 12)).expect("numbered");
        assert_eq!((read.track, read.chunk, read.sent_us), (3, 7, 12));
        let audio: Arc<[u8]> = vec![1, 2, 3, 4, 5, 6].into();
        let file = Voice::File { audio, bytes: 4 };
        assert_eq!(file.chunk(1, 0), [5, 6, 1, 2], "from its start again");
    }
}
