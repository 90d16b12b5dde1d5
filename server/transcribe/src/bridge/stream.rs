//! An open stream of a track: audio goes to it as fast as it may.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Failure, GapReason, Heard, Inbox, ProviderState,
    health::Health,
    pace::Pace,
    timeline::Timeline,
    track::{Phase, Track},
};
use crate::provider::{Input, Link, Resume, pcm};

/// How long a provider may take to end.
const FINISHING: Duration = Duration::from_secs(5);
/// A stream that has lasted so long was a success.
const LASTED: Duration = Duration::from_secs(10);
/// How many frames under way are timed.
const MAX_TIMED: usize = 128;

/// See [`stream`](self).
pub(super) struct Stream {
    pub(super) link: Link,
    pub(super) timeline: Timeline,
    pub(super) health: Health,
    pace: Pace,
    /// Until when audio waits, so that the provider is not flooded.
    paced_until: Option<Instant>,
    /// The link takes no more at the moment.
    pub(super) is_blocked: bool,
    /// When frames were sent that are not accepted: how many bytes with them, and when.
    under_way: VecDeque<(u64, Instant)>,
    /// Bytes of the link that are accepted.
    accepted: u64,
    /// When it is closed, since it was told to finish.
    finish_by: Option<Instant>,
    /// It has accepted or said something.
    pub(super) has_answered: bool,
    pub(super) has_final: bool,
    /// Where it has gone on with a stream that was lost, until its first final. What was said of the audio before may have
    /// been lost on the way.
    pub(super) doubtful_below: Option<u64>,
}

impl Stream {
    /// `from`: where in the track its audio begins.
    pub(super) fn new(link: Link, from: u64, is_resumed: bool, now: Instant) -> Self {
        Self {
            link,
            timeline: Timeline::new(from, is_resumed),
            health: Health::new(now),
            pace: Pace::new(now),
            paced_until: None,
            is_blocked: false,
            under_way: VecDeque::new(),
            accepted: 0,
            finish_by: None,
            has_answered: false,
            has_final: false,
            doubtful_below: is_resumed.then_some(from),
        }
    }

    pub(super) fn due(&self) -> Instant {
        let times = [self.paced_until, self.finish_by];
        let far = Instant::now() + LASTED;
        times.into_iter().flatten().min().unwrap_or(far)
    }

    pub(super) fn was_useful(&self) -> bool {
        self.has_answered
    }

    pub(super) fn has_lasted(&self, now: Instant) -> bool {
        self.has_final || self.health.age(now) >= LASTED
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finish_by.is_some()
    }

    /// Whether the link takes an input now. A closed one does not: its last event says why.
    fn has_room(&mut self) -> bool {
        let audio = &self.link.audio;
        let (is_closed, is_full) = (audio.is_closed(), audio.capacity() == 0);
        self.is_blocked = is_full && !is_closed;
        !is_full && !is_closed
    }

    /// To be called if there is room.
    fn put(&self, input: Input) {
        // If it has closed in between, what was lost is sent again.
        let _ = self.link.audio.try_send(input);
    }

    /// `true`: it does not lie behind what was sent before.
    fn sent(&mut self, at: u64, length: u64, now: Instant) -> bool {
        let is_behind_hole = self.timeline.send(at, length);
        if self.under_way.len() < MAX_TIMED {
            self.under_way.push_back((self.timeline.sent(), now));
        }
        is_behind_hole
    }

    /// Where the next audio lies in the provider's job, in milliseconds.
    pub(super) fn job_ms(&self) -> u64 {
        let before = self.link.resume.as_ref().map_or(0, |resume| resume.start);
        pcm::ms(before.saturating_add(self.timeline.sent()))
    }

    /// The provider has accepted so many bytes: how long each frame took.
    pub(super) fn accept(&mut self, bytes: u64, now: Instant, mut took: impl FnMut(Duration)) {
        self.accepted = self.accepted.max(bytes);
        while let Some((end, sent)) = self.under_way.front() {
            if *end > bytes {
                break;
            }
            took(now.duration_since(*sent));
            self.under_way.pop_front();
        }
    }
}

/// A stream that was lost and that its provider may go on with.
pub(super) struct Interrupted {
    pub(super) resume: Resume,
    timeline: Timeline,
}

impl Interrupted {
    pub(super) fn new(stream: Stream) -> Option<Self> {
        let resume = Resume {
            accepted: stream.accepted,
            ..stream.link.resume?
        };
        Some(Self {
            resume,
            timeline: stream.timeline,
        })
    }

    /// The position in the track behind what the provider has accepted; `already`: so much more than we knew.
    pub(super) fn accepted(&self, already: u64) -> u64 {
        let bytes = self.resume.accepted.saturating_add(already);
        self.timeline.after(bytes.min(self.timeline.sent()))
    }
}

impl Track {
    /// Sends what there is, and finishes or closes the stream if it is time to. `true` if the phase has changed.
    pub(super) fn pump(&mut self, now: Instant) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        let Phase::Streaming(mut stream) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return false;
        };
        let lag = inbox.buffer.end().saturating_sub(self.accepted);
        self.observe_lag(lag, now);
        let mut is_late = false;
        match stream.finish_by {
            Some(by) => is_late = now >= by,
            None => self.send(&mut stream, &mut inbox, now),
        }
        let dead = if stream.is_finishing() {
            None
        } else {
            stream.health.is_dead(now, &inbox.quiet)
        };
        let slow = stream.health.slow_changed(now, lag);
        let is_ready = stream.health.is_ready;
        self.phase = Phase::Streaming(stream);
        if is_late {
            let from = self.cut();
            inbox.buffer.give_up_sent(from, GapReason::ProviderLost);
            self.hub.metrics.errors.inc();
        }
        drop(inbox);
        match slow {
            Some(true) => self.set_state(ProviderState::Slow),
            Some(false) if is_ready => self.is_in_time(),
            _ => {}
        }
        if is_late {
            self.rest();
        } else if let Some(reason) = dead {
            self.lose(reason, now);
        }
        is_late || dead.is_some()
    }

    /// The job of the provider goes on there with the audio that lies there in the track.
    pub(super) fn tell_piece(&mut self, job_ms: u64, at: u64) {
        if let Some(job) = self.job.clone() {
            let at_ms = pcm::ms(at);
            self.tell(Heard::JobPiece { job, job_ms, at_ms });
        }
    }

    fn send(&mut self, stream: &mut Stream, inbox: &mut Inbox, now: Instant) {
        stream.paced_until = None;
        let mut is_spent = false;
        let is_for_another = inbox.language != self.language && !inbox.buffer.is_sent();
        while let Some((at, length)) = inbox.buffer.peek().filter(|_| !is_for_another) {
            if !stream.has_room() {
                return;
            }
            if let Err(until) = stream.pace.take(length, now) {
                stream.paced_until = Some(until);
                return;
            }
            if !self.hub.budget.take(length, now) {
                is_spent = true;
                break;
            }
            self.tell_gaps(&mut inbox.buffer);
            let Some((pcm, follows_pause)) = inbox.buffer.take() else {
                break;
            };
            let job_ms = stream.job_ms();
            stream.put(Input::Pcm(pcm));
            if stream.sent(at, length, now) || follows_pause {
                self.tell_piece(job_ms, at);
            }
            self.hub.metrics.audio.inc_by(pcm::seconds(length));
        }
        if is_spent {
            inbox.buffer.drop_unsent(GapReason::Budget);
            self.tell_failure(Failure::Budget);
        }
        if (is_spent || is_for_another || Self::is_quiet(inbox, now)) && stream.has_room() {
            stream.put(Input::Finish);
            stream.finish_by = Some(now + FINISHING);
        }
    }
}
