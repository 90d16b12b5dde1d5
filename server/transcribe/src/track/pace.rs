//! How fast audio may come: live audio as it is spoken, a recording at four times that.

use std::time::{Duration, Instant};

/// How far audio may be ahead before it is not read any more.
const LIVE_AHEAD: f64 = 1.5;
const FILE_AHEAD: f64 = 2.0;

/// How much faster than it is spoken a recording is read.
const FILE_SPEED: f64 = 4.0;

/// Live audio of a slightly fast clock is let through: what comes 5 % too fast for ever.
const LIVE_SPEED: f64 = 1.05;

/// After the network has stood still, this much may come at once, in seconds.
const LIVE_CREDIT: f64 = 10.0;

/// What comes too fast for less than this may be a client's buffer.
const BURST: Duration = Duration::from_secs(1);

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

/// How far the audio of one speaker is ahead of the clock.
#[derive(Debug)]
pub(super) struct Pace {
    live: bool,
    /// Seconds; below zero it is behind.
    ahead: f64,
    /// When the last frame came.
    last: Option<Instant>,
    /// Since when it is ahead, and the audio since then in seconds.
    stretch: Option<(Instant, f64)>,
    /// How many times too fast it was when it was ahead too far for the first time.
    factor: Option<f64>,
}

impl Pace {
    pub(super) fn new(live: bool) -> Self {
        Self {
            live,
            ahead: 0.0,
            last: None,
            stretch: None,
            factor: None,
        }
    }

    /// A frame with this much audio has come.
    pub(super) fn take(&mut self, audio: Duration, now: Instant) -> Paced {
        let passed = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        let (speed, floor, limit) = match self.live {
            true => (LIVE_SPEED, -LIVE_CREDIT, LIVE_AHEAD),
            false => (FILE_SPEED, 0.0, FILE_AHEAD),
        };
        let before = (self.ahead - passed.as_secs_f64() * speed).max(floor);
        if before <= 0.0 {
            (self.stretch, self.factor) = (None, None);
        }
        self.ahead = before + audio.as_secs_f64();
        match &mut self.stretch {
            Some((_, sum)) => *sum += audio.as_secs_f64(),
            // What is in the first frame was spoken before.
            None => self.stretch = Some((now, 0.0)),
        }
        if self.ahead <= limit {
            return Paced::Go;
        }
        if self.live
            && let Some((since, sum)) = self.stretch
        {
            let time = now.saturating_duration_since(since);
            if time >= MEASURED {
                self.factor.get_or_insert(sum / time.as_secs_f64());
            }
            if time >= BURST {
                return Paced::TooFast(self.factor.unwrap_or(1.0));
            }
        }
        Paced::Wait(Duration::from_secs_f64((self.ahead - limit) / speed))
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

    #[test]
    fn what_the_network_has_held_back_may_come_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(true);
        assert_eq!(pace.take(FRAME, start), Paced::Go);
        let later = start + Duration::from_secs(8);
        for _ in 0..80 {
            assert_eq!(pace.take(FRAME, later), Paced::Go);
        }
    }
}
