//! The progress of a run: counters of the workers, and their sum.

use std::{
    fmt,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use crate::{
    base::units,
    measure::{nodes::FaultKind, sample::Sample, talk::TalkSample},
    record::Quantiles,
};

/// One worker's counters. The worker writes them; the leader reads them.
#[derive(Debug, Default)]
pub struct Counters {
    started: AtomicU64,
    connected: AtomicU64,
    stopped_sending: AtomicU64,
    gone: AtomicU64,
    rooms_joined: AtomicU64,
    rooms_left: AtomicU64,
    sent: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
    calls: AtomicU64,
    calls_ended: AtomicU64,
    errors: AtomicU64,
    audio_ms: AtomicU64,
    chunks: AtomicU64,
    words: AtomicU64,
}

impl Counters {
    /// Counts one sample. Each kind is named, so a forgotten new kind does not compile.
    pub fn add(&self, sample: &Sample) {
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Relaxed);
        };
        match sample {
            Sample::Connected { .. } => {
                add(&self.started);
                add(&self.connected);
            }
            Sample::NotConnected { .. } => {
                add(&self.started);
                add(&self.errors);
            }
            Sample::Dropped { .. } => {
                add(&self.gone);
                add(&self.errors);
            }
            Sample::StoppedSending => {
                // Pairs with the Acquire in `Progress::read`: messages sent before this are counted by then.
                self.stopped_sending.fetch_add(1, Release);
            }
            Sample::Closed | Sample::StormDropped { resumes: false, .. } => add(&self.gone),
            Sample::Error { .. } => add(&self.errors),
            Sample::Fault { kind, .. } => {
                match kind {
                    FaultKind::NotConnected => add(&self.started),
                    FaultKind::Dropped => add(&self.gone),
                    _ => {}
                }
                add(&self.errors);
            }
            Sample::RoomJoined => add(&self.rooms_joined),
            Sample::RoomLeft(_) | Sample::NamedRoomLeft => add(&self.rooms_left),
            Sample::Sent { .. } => add(&self.sent),
            Sample::Delivered(_) | Sample::DeliveredAcross(_) | Sample::Unreadable { .. } => {
                add(&self.delivered)
            }
            Sample::Refused => add(&self.refused),
            Sample::CallSent { .. } => add(&self.calls),
            // Of a call that failed an error tells by itself.
            Sample::CallAnswered { .. } | Sample::CallFailed { .. } => add(&self.calls_ended),
            Sample::CallTimedOut { .. } | Sample::CallWrong { .. } => {
                add(&self.calls_ended);
                add(&self.errors);
            }
            Sample::Talk(TalkSample::Spoken { audio, .. }) => {
                let ms = u64::try_from(audio.as_millis()).unwrap_or(u64::MAX);
                self.audio_ms.fetch_add(ms, Relaxed);
                add(&self.chunks);
            }
            Sample::Talk(TalkSample::Final { heard, .. }) => {
                self.words.fetch_add(heard.heard, Relaxed);
            }
            // Progress does not show these.
            Sample::Talk(_) => {}
            Sample::Connecting { .. }
            | Sample::ConnectingEnded
            | Sample::Paused { .. }
            | Sample::Searching { .. }
            | Sample::Matched { .. }
            | Sample::Unmatched(_)
            | Sample::DoubleMatch
            | Sample::SelfMatch
            | Sample::Gap { .. }
            | Sample::Duplicate { .. }
            | Sample::WrongPeer { .. }
            | Sample::Foreign
            | Sample::FlowEnded { .. }
            | Sample::StormDropped { .. }
            | Sample::Parted(_)
            | Sample::ConnectionLost { .. }
            | Sample::Resumed { .. }
            | Sample::NotResumed
            | Sample::MovedBack
            | Sample::Moved { .. }
            | Sample::NotMoved
            | Sample::HeardAgain { .. }
            | Sample::Arrived { .. }
            | Sample::Departed { .. }
            | Sample::Torn(_)
            | Sample::StormConnected { .. }
            | Sample::StormMatched { .. } => {}
        }
    }
}

/// The progress at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Time until the start; `None`: the run has started.
    pub starts_in: Option<Duration>,
    /// The current phase; empty for a plan of one phase.
    pub phase: String,
    /// Since the start of the run.
    pub elapsed: Duration,
    /// The planned time of sending.
    pub planned: Duration,
    /// Users in the plan.
    pub users: u32,
    /// Users who have connected or failed to.
    pub started: u64,
    /// Users connected now.
    pub connected: u64,
    /// Users who may still send.
    pub sending: u64,
    /// Users in a room now.
    pub in_rooms: u64,
    /// How often a user joined a room.
    pub matches: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that the partner received, without duplicates.
    pub delivered: u64,
    /// A moving average.
    pub messages_per_second: f64,
    pub errors: u64,
    /// Messages answered with `not_in_room`.
    pub refused: u64,
    /// Calls without an answer so far.
    pub open_calls: u64,
    /// Audio that was sent, of all speakers together.
    pub audio: Duration,
    /// Chunks of audio that were sent.
    pub chunks: u64,
    /// Words that hosts of transcription sessions have heard.
    pub words: u64,
    /// Segments and answers that wait to be stored at the server, by its own metrics.
    pub server_queue: Option<u64>,
    /// Memory of the server, by its own metrics.
    pub server_rss_bytes: Option<u64>,
    /// Match latency in the last complete second.
    pub matching: Quantiles,
    /// Message latency from the moment due, in the last complete second.
    pub message: Quantiles,
    /// How late the generator sent in the last complete second.
    pub own_lateness: Quantiles,
}

impl Progress {
    /// Adds up the workers. `before`: the last result, for the rate.
    pub fn read<'a>(
        counters: impl Iterator<Item = &'a Counters>,
        elapsed: Duration,
        before: &Self,
    ) -> Self {
        let mut now = Self {
            elapsed,
            planned: before.planned,
            users: before.users,
            messages_per_second: before.messages_per_second,
            phase: before.phase.clone(),
            matching: before.matching,
            message: before.message,
            own_lateness: before.own_lateness,
            server_queue: before.server_queue,
            server_rss_bytes: before.server_rss_bytes,
            ..Self::default()
        };
        for worker in counters {
            // Read first: when no user sends any more, the counts that are read after it are final.
            let stopped = worker.stopped_sending.load(Acquire);
            let connected = worker.connected.load(Relaxed);
            now.sending += connected.saturating_sub(stopped);
            let joined = worker.rooms_joined.load(Relaxed);
            now.started += worker.started.load(Relaxed);
            now.connected += connected.saturating_sub(worker.gone.load(Relaxed));
            now.in_rooms += joined.saturating_sub(worker.rooms_left.load(Relaxed));
            now.matches += joined;
            now.sent += worker.sent.load(Relaxed);
            now.delivered += worker.delivered.load(Relaxed);
            now.errors += worker.errors.load(Relaxed);
            now.refused += worker.refused.load(Relaxed);
            now.audio += Duration::from_millis(worker.audio_ms.load(Relaxed));
            now.chunks += worker.chunks.load(Relaxed);
            now.words += worker.words.load(Relaxed);
            let ended = worker.calls_ended.load(Relaxed);
            now.open_calls += worker.calls.load(Relaxed).saturating_sub(ended);
        }
        let seconds = elapsed.saturating_sub(before.elapsed).as_secs_f64();
        if seconds > 0.0 {
            let rate = now.sent.saturating_sub(before.sent) as f64 / seconds;
            // Half old, half new: steady enough to read, quick enough to show a pause.
            now.messages_per_second = f64::midpoint(before.messages_per_second, rate);
        }
        now
    }

    /// Whether no user sends any more and no message is under way, as far as is known during the run.
    pub fn settled(&self) -> bool {
        self.sending == 0 && self.in_flight() == 0 && self.open_calls == 0
    }

    /// What speakers have sent, and hosts have heard; `None`: nobody has spoken.
    pub fn speech(&self) -> Option<String> {
        (!self.audio.is_zero()).then(|| {
            format!(
                "{} s of audio in {} chunks, {} words",
                self.audio.as_secs(),
                self.chunks,
                self.words
            )
        })
    }

    /// What the server's own metrics say; `None`: they are not read.
    pub fn server(&self) -> Option<String> {
        let queue = self.server_queue.map(|queue| format!("{queue} queued"));
        let memory = self.server_rss_bytes.map(|rss| units::bytes(rss as f64));
        let both: Vec<_> = queue.into_iter().chain(memory).collect();
        (!both.is_empty()).then(|| format!("server {}", both.join(", ")))
    }

    /// Messages that are under way or lost.
    pub fn in_flight(&self) -> u64 {
        self.sent
            .saturating_sub(self.delivered)
            .saturating_sub(self.refused)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            elapsed,
            planned,
            users,
            connected,
            in_rooms,
            sent,
            errors,
            ..
        } = self;
        write!(
            f,
            "{:>4}s of {}s  {connected}/{users} users  {in_rooms} matched  {sent} sent  {:.0} msg/s  {errors} errors",
            elapsed.as_secs(),
            planned.as_secs_f64().ceil(),
            self.messages_per_second
        )?;
        for more in [self.speech(), self.server()].into_iter().flatten() {
            write!(f, "  {more}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::sample::{Delivered, Direction, Kind, Route};

    #[test]
    fn the_picture_is_the_sum_of_the_workers() {
        let workers = [Counters::default(), Counters::default()];
        let latency = Duration::ZERO;
        let route = Route {
            kind: Kind::MESSAGE,
            direction: Direction::OffererToAnswerer,
        };
        let delivered = Sample::Delivered(Delivered {
            route,
            reach: None,
            latency,
            as_sent: latency,
            in_order: true,
            late: false,
            altered: false,
        });
        for worker in &workers {
            worker.add(&Sample::Connected { latency });
            worker.add(&Sample::RoomJoined);
            worker.add(&Sample::Sent {
                route,
                lateness: latency,
            });
        }
        workers[0].add(&delivered);
        workers[1].add(&Sample::Closed);
        let before = Progress {
            users: 9,
            ..Progress::default()
        };
        let now = Progress::read(workers.iter(), Duration::from_secs(1), &before);
        assert_eq!(
            (now.users, now.connected, now.in_rooms, now.matches),
            (9, 1, 2, 2)
        );
        assert_eq!((now.sent, now.delivered, now.in_flight()), (2, 1, 1));
        assert_eq!((now.sending, now.settled()), (2, false));
        workers[1].add(&delivered);
        let now_of = || Progress::read(workers.iter(), Duration::from_secs(1), &before);
        assert!(
            !now_of().settled(),
            "nothing is under way, but both may still send"
        );
        workers
            .iter()
            .for_each(|worker| worker.add(&Sample::StoppedSending));
        assert!(now_of().settled());
        assert!(
            (now.messages_per_second - 1.0).abs() < 1e-9,
            "half of 2, as there was no rate before"
        );
    }
    #[test]
    fn a_line_says_what_was_spoken_and_what_the_server_uses() {
        let worker = Counters::default();
        for _ in 0..25 {
            worker.add(&Sample::Talk(TalkSample::Spoken {
                lateness: Duration::ZERO,
                audio: Duration::from_millis(100),
                numbered: true,
            }));
        }
        let before = Progress {
            server_queue: Some(7),
            server_rss_bytes: Some(45_200_000),
            ..Progress::default()
        };
        let now = Progress::read([&worker].into_iter(), Duration::from_secs(5), &before);
        let line = now.to_string();
        let end = "  2 s of audio in 25 chunks, 0 words  server 7 queued, 45.2 MB";
        assert!(line.ends_with(end), "{line}");
        let silent = Progress::default().to_string();
        assert!(silent.ends_with("0 errors"), "{silent}");
    }
}
