//! One speaker's audio: frames are checked and paced here, put on the session's clock, and passed to the bridge.

mod clock;
mod pace;
mod pcm;

use std::time::{Duration, Instant};

use bytes::Bytes;
use voicematch_protocol::transcribe::{Ack, Start, TranscribeError};

pub use clock::Clock;
use pace::{Pace, Paced};
use pcm::{RATE, Reduce};

/// The longest frame in bytes; a WebSocket message above it closes the connection.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

/// What was done with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The audio for the provider: 16 kHz.
    pub audio: Bytes,
    /// The audio so far, in milliseconds, if the client is to be told.
    pub ack_ms: Option<u64>,
    /// How long nothing more is to be read from this client.
    pub wait: Duration,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: TranscribeError,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// The rate at which samples came, where that is what is wrong. No more audio is taken then.
    pub measured_hz: Option<u32>,
}

impl Refused {
    fn new(code: TranscribeError, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            measured_hz: None,
        }
    }
}

/// What comes in from one speaker.
#[derive(Debug)]
pub struct Input {
    start: Start,
    pace: Pace,
    reduce: Option<Reduce>,
    /// Milliseconds that the client was told of last.
    acked_ms: u64,
    /// Samples at 16 kHz so far.
    samples: u64,
    /// The rate at which samples came, when that was found to be wrong.
    mismatch: Option<u32>,
}

impl Input {
    /// Audio as `start` says.
    pub fn new(start: Start) -> Result<Self, Refused> {
        let reduce = match start.sample_rate {
            RATE => None,
            pcm::REDUCED_RATE => Some(Reduce::default()),
            rate => {
                return Err(Refused::new(
                    TranscribeError::UnsupportedRate,
                    format!("audio of {rate} Hz is not taken; send 16000 Hz, or 48000 Hz"),
                ));
            }
        };
        Ok(Self {
            pace: Pace::new(start.live),
            start,
            reduce,
            acked_ms: 0,
            samples: 0,
            mismatch: None,
        })
    }

    /// Audio as `start` says from now on; how much came so far, and how fast, stays known.
    pub fn restart(&mut self, start: Start) -> Result<(), Refused> {
        let live = start.live;
        let kind = |start: &Start| (start.sample_rate, start.live);
        let is_same = kind(&start) == kind(&self.start) && self.mismatch.is_none();
        let before = std::mem::replace(self, Self::new(start)?);
        self.pace = before.pace;
        if !is_same {
            self.pace.restart(live);
        }
        self.samples = before.samples;
        self.acked_ms = self.audio_ms();
        Ok(())
    }

    /// Whether it is spoken now.
    pub fn is_live(&self) -> bool {
        self.start.live
    }

    /// Milliseconds of audio so far.
    pub fn audio_ms(&self) -> u64 {
        self.samples / u64::from(RATE / 1000)
    }

    /// Takes one frame.
    pub fn take(&mut self, frame: Bytes, now: Instant) -> Result<Taken, Refused> {
        if let Some(measured) = self.mismatch {
            return Err(self.too_fast(measured));
        }
        let rate = self.start.sample_rate;
        let frame_time = pcm::check(&frame, rate)?;
        let wait = match self.pace.take(frame_time, now) {
            Paced::Go => Duration::ZERO,
            Paced::Wait(wait) => wait,
            Paced::TooFast(factor) => {
                // Rounded to 100 Hz: the clock of the measurement is no better.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a rate, bounded here"
                )]
                let measured =
                    ((f64::from(rate) * factor).clamp(0.0, 1e9) / 100.0).round() as u32 * 100;
                self.mismatch = Some(measured);
                return Err(self.too_fast(measured));
            }
        };
        let audio = match &mut self.reduce {
            Some(reduce) => reduce.run(&frame),
            None => frame,
        };
        self.samples += audio.len() as u64 / 2;
        let audio_ms = self.audio_ms();
        let due = match self.start.ack {
            Ack::Each => true,
            Ack::Second => audio_ms / 1000 > self.acked_ms / 1000,
        };
        if due {
            self.acked_ms = audio_ms;
        }
        Ok(Taken {
            audio,
            ack_ms: due.then_some(audio_ms),
            wait,
        })
    }

    fn too_fast(&self, measured_hz: u32) -> Refused {
        let rate = self.start.sample_rate;
        let is_twice = (f64::from(measured_hz) / f64::from(rate) - 2.0).abs() < 0.1;
        let hint = match is_twice {
            true => "; stereo, or samples of 32 bits, are twice as many: send mono of 16 bits",
            false => "",
        };
        Refused {
            measured_hz: Some(measured_hz),
            ..Refused::new(
                TranscribeError::AudioRateMismatch,
                format!(
                    "samples come at about {measured_hz} Hz, not {rate} Hz; send the right sample_rate in start, or live: false for a recording{hint}"
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(sample_rate: u32, live: bool) -> Start {
        Start {
            sample_rate,
            live,
            ..Start::default()
        }
    }

    /// Milliseconds of audio that are taken at once, where each frame comes behind the next of these.
    fn taken_at_once(starts: &[Start]) -> u64 {
        let now = Instant::now();
        let mut input = Input::new(starts[0].clone()).expect("it is right");
        for start in starts.iter().cycle().take(1_000) {
            input.restart(start.clone()).expect("it is right");
            let bytes = start.sample_rate as usize / 10 * 2;
            let taken = input.take(vec![1; bytes].into(), now).expect("it is taken");
            if taken.wait > Duration::ZERO {
                break;
            }
        }
        input.audio_ms()
    }

    #[test]
    fn who_says_start_again_is_read_no_faster() {
        for (starts, most) in [
            (&[start(16_000, true)][..], 1_600),
            (&[start(16_000, false)], 2_100),
            (&[start(16_000, true), start(16_000, false)], 2_200),
            (&[start(16_000, true), start(48_000, true)], 8_100),
        ] {
            let taken = taken_at_once(starts);
            assert!(taken <= most, "{taken} ms: {starts:?}");
        }
    }
}
