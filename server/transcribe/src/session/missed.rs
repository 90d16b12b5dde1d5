//! Audio that was spoken in a session and not passed on to a provider: it is told and stored as a gap.

use std::{sync::Arc, time::Instant};

use super::{Entry, Session, State, tracks::Track};
use crate::record::{RowId, SegmentKind};

/// The host was away for so long that nothing was transcribed.
pub(super) const HOST_AWAY: &str = "host_away";

/// The speaker was away for a moment.
const SPEAKER_AWAY: &str = "speaker_away";

/// What is missed for so long becomes a gap although it goes on: a crash forgets no more of it.
const LONG_MS: u64 = 60_000;

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
    /// A frame of a track was not passed on.
    pub(super) fn miss(self: &Arc<Self>, state: &mut State, track: &Track, frame: Missed) {
        let is_long = {
            let mut input = track.lock();
            let missed = input.missed.get_or_insert(frame);
            missed.to = frame.to;
            missed.to >= missed.from + LONG_MS
        };
        if is_long {
            self.tell_missed(state, track);
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
        let people = state.people.values();
        let tracks: Vec<_> = people.filter_map(|person| person.track.clone()).collect();
        for track in tracks {
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
        if let Some(track) = person.and_then(|person| person.track.clone()) {
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
