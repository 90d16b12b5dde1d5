//! What goes wrong with the fake.

use std::time::Duration;

use crate::provider::options;

/// What the fake does.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How long it thinks about everything it says.
    pub delay: Duration,
    /// It says what it has so far after so much audio of an utterance.
    pub partial: Duration,
    /// An utterance lasts so long at most.
    pub final_: Duration,
    /// What comes on top of `delay`, at most, at random.
    pub jitter: Duration,
    /// The share of opens that fail, from 0 to 1.
    pub open_fails: f64,
    /// Refuses every open with this status.
    pub refuse: Option<u16>,
    /// Is busy at every open.
    pub is_busy: bool,
    /// Closes a stream so long after its open.
    pub close_after: Option<Duration>,
    pub close_code: u16,
    /// The share of answers beside which something without meaning comes, from 0 to 1.
    pub garbage: f64,
    /// Neither reads nor answers from so long after the open, with the stream open.
    pub stall_after: Option<Duration>,
    /// Takes so many seconds for one second of audio.
    pub slow: f64,
    /// Does not close when the audio is over.
    pub ignores_finish: bool,
    /// Makes what happens at random the same each time.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(80),
            partial: Duration::from_millis(300),
            final_: Duration::from_secs(2),
            jitter: Duration::ZERO,
            open_fails: 0.0,
            refuse: None,
            is_busy: false,
            close_after: None,
            close_code: 1011,
            garbage: 0.0,
            stall_after: None,
            slow: 0.0,
            ignores_finish: false,
            seed: None,
        }
    }
}

impl Options {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const KNOWN: [&str; 14] = [
            "delay",
            "partial",
            "final",
            "jitter",
            "open_fails",
            "refuse",
            "busy",
            "close_after",
            "close_code",
            "garbage",
            "stall_after",
            "slow",
            "finish",
            "seed",
        ];
        let mut found = Self::default();
        for (name, value) in options::parse(text, &KNOWN)? {
            let time = || options::duration(name, value);
            let share = || options::share(name, value);
            match name {
                "delay" => found.delay = time()?,
                "partial" => found.partial = time()?,
                "final" => found.final_ = time()?,
                "jitter" => found.jitter = time()?,
                "open_fails" => found.open_fails = share()?,
                "refuse" => found.refuse = Some(options::number(name, value, 400, 499)?),
                "busy" => found.is_busy = options::number(name, value, 429, 429)? == 429,
                "close_after" => found.close_after = Some(time()?),
                "close_code" => found.close_code = options::number(name, value, 1000, 4999)?,
                "garbage" => found.garbage = share()?,
                "stall_after" => found.stall_after = Some(time()?),
                "slow" => found.slow = options::number(name, value, 0.0, 1000.0)?,
                "finish" if value == "ignore" => found.ignores_finish = true,
                "finish" => return Err(format!("finish={value}: only finish=ignore is known")),
                _ => found.seed = Some(options::number(name, value, 0, u64::MAX)?),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read() {
        let all = "?delay=1ms&partial=2ms&final=3s&jitter=4ms&open_fails=5%&refuse=401&busy=429&close_after=6s&close_code=1012\
            &garbage=7%&stall_after=8s&slow=2&finish=ignore&seed=9";
        let ms = Duration::from_millis;
        let expected = Options {
            delay: ms(1),
            partial: ms(2),
            final_: ms(3000),
            jitter: ms(4),
            open_fails: 0.05,
            refuse: Some(401),
            is_busy: true,
            close_after: Some(ms(6000)),
            close_code: 1012,
            garbage: 0.07,
            stall_after: Some(ms(8000)),
            slow: 2.0,
            ignores_finish: true,
            seed: Some(9),
        };
        assert_eq!(Options::parse(all), Ok(expected));
        assert_eq!(Options::parse(""), Ok(Options::default()));
        let error = Options::parse("?close_afer=1s").expect_err("it is unknown");
        assert!(error.contains("\"close_after\" is nearest"), "{error}");
        for wrong in ["?busy=1", "?finish=maybe", "?refuse=200", "?slow=-1"] {
            assert!(Options::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Options::parse("?seed=x").is_err());
    }
}
