//! Whether a stream is alive: how long it has said nothing, how much that means nothing, how far it is behind.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::provider::{LossReason, pcm};

/// A provider that says nothing to so much speech is deaf.
const SPEECH: u64 = 8 * pcm::BYTES_PER_SECOND;
/// As long as that is spoken, but for the frames at its ends.
const SPEAKING: Duration = Duration::from_secs(7);
/// So much speech without a word of it is more than what is noise, or one sentence that is told in the end only.
const WORDLESS: u64 = 30 * pcm::BYTES_PER_SECOND;
const WORDLESS_FOR: Duration = Duration::from_secs(30);
/// Who is loud as speech is for no more than one part in so many makes noise: it adds up to nothing.
const RARELY: u64 = 10;
/// A connection on which nothing comes for so long while audio flows is dead.
const NOTHING: Duration = Duration::from_secs(20);
/// Audio flows if at least so much has come in that time.
const FLOWING: u64 = 5 * pcm::BYTES_PER_SECOND;
/// How long a recogniser may take to load.
const LOADING: Duration = Duration::from_secs(30);
/// So many messages without meaning
const GARBAGE: usize = 10;
/// in this time are a reason for a new stream.
const GARBAGE_WINDOW: Duration = Duration::from_secs(60);
/// From so much audio on that was received and not accepted it is slow, and until so little is left.
const SLOW: u64 = 5 * pcm::BYTES_PER_SECOND;
const NOT_SLOW: u64 = 2 * pcm::BYTES_PER_SECOND;
/// A new stream has time to catch up with what had waited.
const CATCH_UP: Duration = Duration::from_secs(5);

/// See [`health`](self).
pub(super) struct Health {
    opened: Instant,
    /// It has shown that it is loaded, and knows what it is to do. What has only taken audio has not.
    pub(super) is_ready: bool,
    garbage: VecDeque<Instant>,
    pub(super) is_slow: bool,
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            opened: now,
            is_ready: false,
            garbage: VecDeque::new(),
            is_slow: false,
        }
    }

    /// Something came that means nothing. `true`: that was too much.
    pub(super) fn garbage(&mut self, now: Instant) -> bool {
        while self
            .garbage
            .front()
            .is_some_and(|at| now.duration_since(*at) > GARBAGE_WINDOW)
        {
            self.garbage.pop_front();
        }
        self.garbage.push_back(now);
        self.garbage.len() >= GARBAGE
    }

    /// Whether it is dead, and of what. `quiet`: what was received since it has answered last.
    pub(super) fn is_dead(&self, now: Instant, quiet: &Quiet) -> Option<LossReason> {
        if !self.is_ready && self.age(now) < LOADING {
            return None;
        }
        let is_deaf = match self.is_ready {
            true => quiet.voiced.is(SPEECH, SPEAKING, now),
            false => quiet.voiced.is(WORDLESS, WORDLESS_FOR, now),
        };
        if is_deaf {
            return Some(LossReason::Silent);
        }
        (quiet.all.is(FLOWING, NOTHING, now)).then_some(LossReason::HalfOpen)
    }

    /// Says whether it is slow, when that changes.
    pub(super) fn slow_changed(&mut self, now: Instant, lag: u64) -> Option<bool> {
        let is_caught_up = now.duration_since(self.opened) >= CATCH_UP;
        let is_slow = if self.is_slow {
            lag > NOT_SLOW
        } else {
            is_caught_up && lag > SLOW
        };
        let has_changed = is_slow != self.is_slow;
        self.is_slow = is_slow;
        has_changed.then_some(is_slow)
    }

    /// How long the stream is open.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.opened)
    }
}

/// What was received since the provider has last answered, or said something.
#[derive(Default)]
pub(super) struct Quiet {
    all: Unanswered,
    voiced: Unanswered,
    /// What may be speech since the last partial or final, of whatever stream, less a part of the rest in between.
    wordless: Unanswered,
}

/// How loud audio is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loudness {
    Quiet,
    /// As loud as speech, and steady: no words need be said of it.
    Noise,
    /// It may be speech.
    Speech,
}

/// Bytes, and since when there are some.
#[derive(Default)]
struct Unanswered {
    bytes: u64,
    since: Option<Instant>,
}

impl Quiet {
    pub(super) fn add(&mut self, bytes: u64, loudness: Loudness, now: Instant) {
        self.all.add(bytes, now);
        if loudness != Loudness::Quiet {
            self.voiced.add(bytes, now);
        }
        if loudness == Loudness::Speech {
            self.wordless.add(bytes, now);
        } else {
            self.wordless.forget(bytes / RARELY);
        }
    }

    /// The provider has answered.
    pub(super) fn is_answered(&mut self) {
        self.all = Unanswered::default();
        self.voiced = Unanswered::default();
    }

    /// It has taken audio, and nobody knows whether it makes anything of it.
    pub(super) fn is_taken(&mut self) {
        self.all = Unanswered::default();
    }

    /// Whether it has long made no word of what may be speech.
    pub(super) fn is_wordless(&self, now: Instant) -> bool {
        self.wordless.is(WORDLESS, WORDLESS_FOR, now)
    }
}

impl Unanswered {
    fn add(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        self.since.get_or_insert(now);
    }

    fn forget(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.bytes == 0 {
            self.since = None;
        }
    }

    /// Whether there are so many, and the provider has had so long for an answer. What the network, or this machine, has
    /// held back comes at once: that is no time for an answer.
    fn is(&self, bytes: u64, time: Duration, now: Instant) -> bool {
        let waits = |since| now.duration_since(since) >= time;
        self.bytes >= bytes && self.since.is_some_and(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = pcm::BYTES_PER_SECOND;

    #[test]
    fn a_stream_that_says_nothing_to_speech_is_silent() {
        let now = Instant::now();
        let mut health = Health::new(now);
        let since = |seconds: u64, loudness| {
            let mut quiet = Quiet::default();
            quiet.add(seconds * SECOND, loudness, now);
            quiet
        };
        let speech = since(9, Loudness::Speech);
        assert_eq!(
            health.is_dead(now + Duration::from_secs(9), &speech),
            None,
            "it may be loading"
        );
        let much = since(30, Loudness::Speech);
        assert_eq!(
            health.is_dead(now + LOADING, &much),
            Some(LossReason::Silent)
        );
        health.is_ready = true;
        assert_eq!(
            health.is_dead(now + Duration::from_secs(9), &speech),
            Some(LossReason::Silent)
        );
        assert_eq!(
            health.is_dead(now + Duration::from_secs(1), &speech),
            None,
            "it came at once"
        );
        let silence = since(19, Loudness::Quiet);
        assert_eq!(
            health.is_dead(now + Duration::from_secs(19), &silence),
            None
        );
        assert_eq!(
            health.is_dead(now + Duration::from_secs(20), &silence),
            Some(LossReason::HalfOpen)
        );
        let muted = since(1, Loudness::Quiet);
        assert_eq!(
            health.is_dead(now + Duration::from_secs(3600), &muted),
            None,
            "no audio flows"
        );
    }

    #[test]
    fn ten_in_a_minute_are_too_much() {
        let now = Instant::now();
        let mut health = Health::new(now);
        for second in 0..100 {
            assert!(
                !health.garbage(now + Duration::from_secs(7 * second)),
                "{second}"
            );
        }
        let now = now + Duration::from_secs(700);
        let garbage: Vec<_> = (0..3).map(|_| health.garbage(now)).collect();
        assert_eq!(garbage, [false, true, true]);
    }

    #[test]
    fn it_is_slow_from_five_seconds_on_and_until_two() {
        let now = Instant::now();
        let mut health = Health::new(now);
        assert_eq!(health.slow_changed(now, 8 * SECOND), None, "it catches up");
        let now = now + CATCH_UP;
        assert_eq!(health.slow_changed(now, 5 * SECOND), None);
        assert_eq!(health.slow_changed(now, 5 * SECOND + 2), Some(true));
        assert_eq!(health.slow_changed(now, 3 * SECOND), None);
        assert_eq!(health.slow_changed(now, 2 * SECOND), Some(false));
    }
}
