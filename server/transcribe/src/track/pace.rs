//! How fast audio may come: live audio as it is spoken, a recording at four times that, and so does what was held back.

use std::time::{Duration, Instant};

/// How much faster than it is spoken audio is read: providers get no more either.
const SPEED: f64 = 4.0;

/// How many seconds may be read at once beyond that: less than the buffer of a speaker has room for.
const LIVE_BURST: f64 = 8.0;
const FILE_BURST: f64 = 2.0;

/// How far live audio may be ahead of the clock before it is not read any more.
const LIVE_AHEAD: f64 = 1.5;

/// A client's clock may run fast: live audio that comes up to 5 % too fast is let through for ever.
const LIVE_SPEED: f64 = 1.05;

/// After network, client or server have stood still, this much comes late, in seconds: more than a connection lasts on which
/// nothing moves.
const LIVE_CREDIT: f64 = 60.0;

/// What comes too fast for less than this may be a client's buffer.
const LONG: Duration = Duration::from_secs(1);

/// A shorter time says nothing of the rate.
const MEASURED: Duration = Duration::from_millis(200);

/// What is to be done with a client's audio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Paced {
    /// Read on.
    Go,
    /// Read on after this time.
    Wait(Duration),
    /// It comes this many times too fast: the rate is another than the client says.
    TooFast(f64),
}

/// How fast the audio of one speaker is read.
#[derive(Debug)]
pub(super) struct Pace {
    /// Seconds that were read beyond `SPEED`.
    burst: f64,
    /// When the last frame came.
    last: Option<Instant>,
    /// `None`: a recording.
    live: Option<Live>,
}

/// Whether live audio keeps to the clock.
#[derive(Debug, Default)]
struct Live {
    /// Seconds; below zero it is behind.
    ahead: f64,
    /// Since when it is ahead, and the audio since then in seconds.
    stretch: Option<(Instant, f64)>,
    /// How many times too fast it was when it was ahead too far for the first time.
    factor: Option<f64>,
}

impl Pace {
    pub(super) fn new(live: bool) -> Self {
        Self {
            burst: 0.0,
            last: None,
            live: live.then(Live::default),
        }
    }

    /// Other audio comes from now on. What was read too early counts all the same.
    pub(super) fn restart(&mut self, live: bool) {
        self.live = live.then(Live::default);
    }

    /// A frame with this much audio has come.
    pub(super) fn take(&mut self, audio: Duration, now: Instant) -> Paced {
        let passed = self.last.map_or(0.0, |last| {
            now.saturating_duration_since(last).as_secs_f64()
        });
        self.last = Some(now);
        let audio = audio.as_secs_f64();
        self.burst = (self.burst - passed * SPEED).max(0.0) + audio;
        let paced = match &mut self.live {
            Some(live) => live.take(audio, passed, now),
            None => Paced::Go,
        };
        let most = match self.live {
            Some(_) => LIVE_BURST,
            None => FILE_BURST,
        };
        match paced {
            Paced::Go if self.burst > most => {
                Paced::Wait(Duration::from_secs_f64((self.burst - most) / SPEED))
            }
            paced => paced,
        }
    }
}

impl Live {
    fn take(&mut self, audio: f64, passed: f64, now: Instant) -> Paced {
        let before = (self.ahead - passed * LIVE_SPEED).max(-LIVE_CREDIT);
        if before <= 0.0 {
            (self.stretch, self.factor) = (None, None);
        }
        self.ahead = before + audio;
        match &mut self.stretch {
            Some((_, sum)) => *sum += audio,
            // What is in the first frame was spoken before.
            None => self.stretch = Some((now, 0.0)),
        }
        if self.ahead <= LIVE_AHEAD {
            return Paced::Go;
        }
        if let Some((since, sum)) = self.stretch {
            let time = now.saturating_duration_since(since);
            if time >= MEASURED {
                self.factor.get_or_insert(sum / time.as_secs_f64());
            }
            if time >= LONG {
                return Paced::TooFast(self.factor.unwrap_or(1.0));
            }
        }
        Paced::Wait(Duration::from_secs_f64(
            (self.ahead - LIVE_AHEAD) / LIVE_SPEED,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(100);

    /// Frames at `times` their speed, read as the pace allows; when it was found too fast, and how many times.
    fn play(live: bool, times: f64, seconds: f64) -> Result<f64, (f64, f64)> {
        let start = Instant::now();
        let mut pace = Pace::new(live);
        let (mut sent, mut read_at) = (0.0, 0.0_f64);
        while sent / times < seconds {
            // A frame can be read when it was sent and the one before has let it.
            read_at = read_at.max(sent / times);
            match pace.take(FRAME, start + Duration::from_secs_f64(read_at)) {
                Paced::Go => {}
                Paced::Wait(wait) => read_at += wait.as_secs_f64(),
                Paced::TooFast(factor) => return Err((read_at, factor)),
            }
            sent += FRAME.as_secs_f64();
        }
        Ok(read_at)
    }

    #[test]
    fn a_wrong_rate_is_found_within_5_s_and_named() {
        for (times, most) in [(3.0, 1.2), (2.75625, 1.3), (2.0, 1.8), (1.378, 5.0)] {
            let (at, factor) = play(true, times, 10.0).expect_err("too fast");
            assert!(at <= most, "{times}: after {at} s");
            assert!((factor / times - 1.0).abs() < 0.1, "{times}: {factor}");
        }
        assert!(play(true, 1.02, 3_600.0).is_ok(), "a clock that runs fast");
    }

    #[test]
    fn a_recording_is_read_at_four_times_its_speed() {
        let took = play(false, 100.0, 1.0).expect("never too fast");
        // 100 s of audio, 2 s of it at once.
        assert!((took - 24.5).abs() < 0.5, "{took}");
    }

    /// What was held back for `seconds` is there at once: when the last of it was read, in seconds after it came.
    fn catch_up(pace: &mut Pace, seconds: u32, mut now: Instant) -> f64 {
        let came = now;
        for _ in 0..seconds * 10 {
            match pace.take(FRAME, now) {
                Paced::Go => {}
                Paced::Wait(wait) => now += wait,
                Paced::TooFast(factor) => panic!("taken for {factor} times its rate"),
            }
        }
        now.duration_since(came).as_secs_f64()
    }

    #[test]
    fn what_was_held_back_is_read_at_once_as_far_as_the_buffer_has_room_and_then_at_four_times_its_speed()
     {
        let start = Instant::now();
        for (seconds, takes) in [(8, 0.0), (50, (50.0 - LIVE_BURST) / SPEED)] {
            let mut pace = Pace::new(true);
            assert_eq!(pace.take(FRAME, start), Paced::Go);
            let took = catch_up(
                &mut pace,
                seconds,
                start + Duration::from_secs(seconds.into()),
            );
            assert!((took - takes).abs() < 0.2, "{seconds} s: {took} s");
        }
    }

    #[test]
    fn who_was_read_too_slowly_for_a_minute_is_not_taken_for_a_wrong_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(true);
        for frame in 0..300 {
            assert_eq!(pace.take(FRAME, start + 2 * FRAME * frame), Paced::Go);
        }
        let took = catch_up(&mut pace, 30, start + Duration::from_secs(60));
        assert!((took - 5.5).abs() < 0.2, "{took} s");
    }
}
