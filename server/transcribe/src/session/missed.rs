//! Audio that was spoken in a session and not passed on to a provider: it is told and stored as a gap.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Entry, Session, State, tracks::Track};
use crate::{
    bridge::GapReason,
    record::{RowId, SegmentKind},
    track::Refused,
};

/// The host was away for so long that nothing was transcribed.
pub(super) const HOST_AWAY: &str = "host_away";

/// The speaker was away for a moment.
const SPEAKER_AWAY: &str = "speaker_away";

/// What is missed for so long becomes a gap although it goes on: a crash forgets no more of it.
const LONG_MS: u64 = 60_000;

/// After a pause of this length what is missed is another gap: nobody spoke meanwhile.
const PAUSE_MS: u64 = 2_000;

/// Audio of one speaker that has come and was not passed on, in milliseconds of the session.
#[derive(Clone, Copy)]
pub(super) struct Missed {
    from: u64,
    to: u64,
    reason: &'static str,
}

impl Missed {
    /// A frame of this length, which came at `session_ms`.
    pub(super) fn new(session_ms: u64, frame_ms: u64, reason: &'static str) -> Self {
        Self {
            from: session_ms.saturating_sub(frame_ms),
            to: session_ms,
            reason,
        }
    }
}

impl Session {
    /// A frame of a track was not passed on. Answers whether that is new.
    pub(super) fn miss(self: &Arc<Self>, state: &mut State, track: &Track, frame: Missed) -> bool {
        let before = track.lock().missed;
        let goes_on = before
            .filter(|before| before.reason == frame.reason && frame.from <= before.to + PAUSE_MS);
        if goes_on.is_none() {
            self.tell_missed(state, track);
        }
        let from = goes_on.map_or(frame.from, |before| before.from);
        track.lock().missed = Some(Missed { from, ..frame });
        if frame.to >= from + LONG_MS {
            self.tell_missed(state, track);
        }
        goes_on.is_none()
    }

    /// A frame of this many bytes was not taken, as samples come at another rate than the speaker has said.
    pub(super) fn miss_wrong_rate(
        self: &Arc<Self>,
        state: &mut State,
        track: &Track,
        session_ms: u64,
        bytes: usize,
        refused: &Refused,
    ) {
        let Some(hz) = refused.measured_hz else {
            return;
        };
        let reason = GapReason::RateMismatch;
        let time = Duration::from_secs_f64(bytes as f64 / 2.0 / f64::from(hz.max(1)));
        if let Some(bridges) = &self.parts.bridges {
            bridges.missed(time, reason);
        }
        let frame_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let frame = Missed::new(session_ms, frame_ms, reason.as_str());
        if self.miss(state, track, frame) {
            self.tell_wrong_rate(state, track.speaker, refused);
        }
    }

    /// What was missed of a track is over: it becomes a gap.
    pub(super) fn tell_missed(self: &Arc<Self>, state: &mut State, track: &Track) {
        let missed = track.lock().missed.take();
        if let Some(missed) = missed {
            self.add_gap(state, track, missed);
        }
    }

    /// The same for all tracks.
    pub(super) fn tell_all_missed(self: &Arc<Self>, state: &mut State) {
        for track in state.tracks.clone() {
            self.tell_missed(state, &track);
        }
    }

    /// A speaker is back whose track is still there: what they said meanwhile is missing.
    pub(super) fn came_back(
        self: &Arc<Self>,
        state: &mut State,
        who: RowId,
        left: Instant,
        now: Instant,
    ) {
        let person = state.people.get(&who);
        let track = person.and_then(|person| person.track.clone());
        if let Some(track) = track.filter(|track| track.has_begun()) {
            self.tell_missed(state, &track);
            let away = Missed {
                from: self.session_ms(state, left),
                to: self.session_ms(state, now),
                reason: SPEAKER_AWAY,
            };
            self.add_gap(state, &track, away);
        }
    }

    fn add_gap(self: &Arc<Self>, state: &mut State, track: &Track, missed: Missed) {
        let [from, to] = [missed.from, missed.to].map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let reason = missed.reason.to_owned();
        let segment = track.segment(self.row.id, SegmentKind::Gap, from, to, reason);
        self.add(
            state,
            Entry {
                segment,
                utterance: None,
            },
        );
    }
}
