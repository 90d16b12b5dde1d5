//! The times of one speaker's audio on the clock of the session, so that speakers line up.

use std::collections::VecDeque;

/// If a frame comes this much later than the audio before it would have it, the speaker paused meanwhile.
const PAUSE_MS: u64 = 2_000;

/// Pauses that are remembered: a final is never about audio from before the last few.
const KEPT: usize = 64;

/// Where the audio lies on the session's clock: it runs with the samples, and jumps over pauses.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Milliseconds of audio, and of the session at that audio.
    anchors: VecDeque<(u64, u64)>,
}

impl Clock {
    /// Audio of `frame_ms` was received; `audio_ms` came before it. `session_ms`: now, on the session's clock. `true`: the clock
    /// has jumped.
    pub fn heard(&mut self, audio_ms: u64, frame_ms: u64, session_ms: u64) -> bool {
        let begun = session_ms.saturating_sub(frame_ms);
        let expected = self.anchors.back().map(|_| self.at(audio_ms));
        if expected.is_some_and(|expected| begun < expected + PAUSE_MS) {
            return false;
        }
        if self.anchors.len() == KEPT {
            self.anchors.pop_front();
        }
        self.anchors.push_back((audio_ms, begun));
        expected.is_some()
    }

    /// When the audio after the first `audio_ms` was spoken, in milliseconds of the session.
    pub fn at(&self, audio_ms: u64) -> u64 {
        self.on_piece(audio_ms, |audio| audio <= audio_ms)
    }

    /// When the first `audio_ms` had been spoken: before a pause that follows.
    pub fn until(&self, audio_ms: u64) -> u64 {
        self.on_piece(audio_ms, |audio| audio < audio_ms)
    }

    fn on_piece(&self, audio_ms: u64, begins_before: impl Fn(u64) -> bool) -> u64 {
        let mut pieces = self.anchors.iter().rev();
        let piece = pieces.find(|(audio, _)| begins_before(*audio));
        let (audio, session) = piece.or(self.anchors.front()).copied().unwrap_or_default();
        (session + audio_ms).saturating_sub(audio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_with_the_samples_and_jumps_over_pauses() {
        let mut clock = Clock::default();
        // Comes 5 s after the session has begun, jitters, pauses for a minute.
        for (audio, session) in [
            (0, 5_100),
            (100, 5_400),
            (200, 5_300),
            (300, 65_500),
            (400, 65_600),
        ] {
            let has_jumped = clock.heard(audio, 100, session);
            assert_eq!(has_jumped, audio == 300);
        }
        assert_eq!(clock.at(0), 5_000);
        assert_eq!(clock.at(250), 5_250);
        assert_eq!(clock.at(300), 65_400);
        assert_eq!(clock.until(300), 5_300);
        assert_eq!(clock.until(0), 5_000);
        assert_eq!(clock.at(450), 65_550);
    }
}
