//! A provider that hears nothing, for tests: it answers a word for each chunk of numbered audio
//! ([`numbered`](voicematch_protocol::numbered)), so that the transcript proves which chunks have arrived. Other audio
//! becomes `word 1 word 2 ...`, silence becomes nothing. What goes wrong is chosen by options.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{Instant, sleep_until},
};

mod ear;
mod options;

use ear::Ear;
pub use options::Options;

use super::{
    AUDIO_DEPTH, BoxFuture, EVENT_DEPTH, Event, Input, Link, LossReason, OpenError, Provider,
    StreamSpec, Utterance, pcm,
};

/// See [`fake`](self).
pub struct Fake {
    options: Options,
    random: Mutex<SmallRng>,
}

impl Fake {
    #[must_use]
    pub fn new(options: Options) -> Self {
        let random = options
            .seed
            .map_or_else(rand::make_rng, SmallRng::seed_from_u64);
        Self {
            options,
            random: Mutex::new(random),
        }
    }

    /// # Errors
    /// Which option is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::new(Options::parse(text)?))
    }

    fn next_random(&self) -> SmallRng {
        let mut random = self
            .random
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        SmallRng::seed_from_u64(random.random())
    }
}

impl Provider for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn open(&self, _spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>> {
        let mut random = self.next_random();
        let opened = if let Some(status) = self.options.refuse {
            Err(OpenError::Refused(status))
        } else if self.options.is_busy {
            Err(OpenError::Busy(None))
        } else if random.random_bool(self.options.open_fails) {
            Err(OpenError::Unreachable)
        } else {
            let (audio, heard) = mpsc::channel(AUDIO_DEPTH);
            let (said, events) = mpsc::channel(EVENT_DEPTH);
            tokio::spawn(Stream::new(self.options.clone(), random, said).run(heard));
            Ok(Link {
                audio,
                events,
                job: None,
                resume: None,
                already: 0,
            })
        };
        Box::pin(async { opened })
    }
}

struct Stream {
    options: Options,
    random: SmallRng,
    events: Sender<Event>,
    /// What it is going to say, and when.
    due: VecDeque<(Instant, Event)>,
    ear: Ear,
    /// Until when it is busy with audio that it has taken.
    busy_until: Instant,
    is_finished: bool,
}

impl Stream {
    fn new(options: Options, random: SmallRng, events: Sender<Event>) -> Self {
        let ear = Ear::new(&options);
        let mut stream = Self {
            options,
            random,
            events,
            due: VecDeque::new(),
            ear,
            busy_until: Instant::now(),
            is_finished: false,
        };
        stream.say(Event::Ready);
        stream
    }

    async fn run(mut self, mut audio: Receiver<Input>) {
        let opened = Instant::now();
        let far = opened + Duration::from_secs(365 * 24 * 3600);
        let close_at = self.options.close_after.map_or(far, |after| opened + after);
        let stall_at = self.options.stall_after.map_or(far, |after| opened + after);
        loop {
            let due = self.due.front().map_or(far, |(at, _)| *at);
            if self.is_finished && self.due.is_empty() && !self.options.ignores_finish {
                return;
            }
            tokio::select! {
                biased;
                () = sleep_until(close_at) => {
                    let lost = Event::Lost(LossReason::Closed(Some(self.options.close_code)));
                    let _ = self.events.send(lost).await;
                    return;
                }
                () = sleep_until(stall_at) => return self.events.closed().await,
                () = sleep_until(due) => {
                    let Some((_, event)) = self.due.pop_front() else { continue };
                    if self.events.send(event).await.is_err() {
                        return;
                    }
                }
                input = self.next(&mut audio), if !self.is_finished => match input {
                    Some(Input::Pcm(pcm)) => self.hear(&pcm),
                    Some(Input::Finish) => self.finish(),
                    None => return,
                },
                () = self.events.closed() => return,
            }
        }
    }

    /// The next input, when what came before has been worked through.
    async fn next(&self, audio: &mut Receiver<Input>) -> Option<Input> {
        if self.options.slow > 0.0 {
            sleep_until(self.busy_until).await;
        }
        audio.recv().await
    }

    fn hear(&mut self, pcm: &Bytes) {
        if self.options.slow > 0.0 {
            let length =
                Duration::from_secs_f64(pcm::seconds(pcm.len() as u64) * self.options.slow);
            self.busy_until = self.busy_until.max(Instant::now()) + length;
        }
        let said = self.ear.hear(pcm);
        self.say(Event::Accepted {
            bytes: self.ear.bytes,
        });
        if let Some(said) = said {
            self.say(said);
        }
    }

    fn finish(&mut self) {
        self.is_finished = true;
        if let Some(last) = self.ear.finish() {
            self.say(last);
        }
    }

    fn say(&mut self, event: Event) {
        let jitter = self.options.jitter.mul_f64(self.random.random());
        let at = Instant::now() + self.options.delay + jitter;
        // What is said stays in order, whatever the jitter.
        let at = self.due.back().map_or(at, |(last, _)| at.max(*last));
        if self.random.random_bool(self.options.garbage) {
            let garbage = self.garbage();
            self.due.push_back((at, garbage));
        }
        self.due.push_back((at, event));
    }

    fn garbage(&mut self) -> Event {
        let end_ms = i64::try_from(pcm::ms(self.ear.bytes)).unwrap_or_default();
        let (start_ms, end_ms) = match self.random.random_range(0..4) {
            0 => return Event::Garbage("not JSON"),
            1 => (end_ms, end_ms - 500),
            2 => (end_ms + 100_000, end_ms + 101_000),
            _ => (i64::MIN, i64::MAX),
        };
        let id = format!("garbage {}", self.random.random::<u32>());
        Event::Final(Utterance {
            id,
            start_ms,
            end_ms,
            text: "garbage".to_owned(),
            ..Utterance::default()
        })
    }
}
