//! Tells the app what happens: lists of events by POST, signed by the Standard Webhooks specification
//! (<https://www.standardwebhooks.com>), and sent again when that fails.
//!
//! It is never in the way of users: where an event happens it is put into a queue, or counted as dropped when that is
//! full. All else is done by tasks of the main thread.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http_body_util::Full;
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    header::{CONTENT_TYPE, USER_AGENT},
};
use ring::hmac;
use serde::Serialize;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use voicematch_core::{
    events::{Event, EventKind, Listener},
    metrics::Metrics,
};

use crate::fetch::{Fetch, asked_wait};

/// Events that wait at the same time: those of some seconds at the highest rate, of hours at a usual one.
const MAX_QUEUED: usize = 10_000;

/// The memory of events that wait or are on their way.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;

/// Events of one request.
const MAX_BATCH: usize = 500;

/// The body of a request is full when it is longer.
const FULL_BATCH_BYTES: usize = 256 * 1024;

/// How long a request waits for more events: at a low rate each is told soon, and at a high one requests are few.
const LINGER: Duration = Duration::from_millis(100);

/// Requests at the same time, so that one which the app cannot take does not hold up the others.
const MAX_REQUESTS: usize = 4;

/// How often the same events are sent at the most.
const MAX_TRIES: u32 = 5;

/// By how much each wait for the next try is longer than the one before.
const WAIT_GROWTH: u32 = 5;

/// The longest wait that the app can ask for, with `Retry-After`.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// How long the end of the server waits until events are sent.
const FLUSH: Duration = Duration::from_secs(1);

/// What the app is told, and how.
#[derive(Debug, Clone)]
pub struct EventConfig {
    /// Where.
    pub url: Uri,
    /// What signs it.
    pub secret: Secret,
    /// Which events; none: all.
    pub kinds: Vec<EventKind>,
    /// How long the app has to answer.
    pub timeout: Duration,
    /// The wait after the first failure.
    pub retry_after: Duration,
}

/// A secret that the app has too.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads `whsec_` and base64, of as many bytes as the specification asks for.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = BASE64.decode(text.strip_prefix("whsec_")?).ok()?;
        (24..=64).contains(&secret.len()).then_some(Self(secret))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where events go, before any is told.
pub struct Events {
    queue: Arc<Queue>,
    receiver: mpsc::Receiver<Queued>,
    sender: Sender,
}

/// Takes events where they happen.
struct Queue {
    sender: mpsc::Sender<Queued>,
    kinds: Vec<EventKind>,
    waiting: Arc<Waiting>,
    next: AtomicUsize,
}

/// What waits or is on its way.
struct Waiting {
    bytes: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// One event's part of that; it ends when this is dropped.
struct Share {
    bytes: usize,
    waiting: Arc<Waiting>,
}

struct Queued {
    number: usize,
    event: Event,
    share: Share,
}

impl Waiting {
    fn dropped(&self, reason: &'static str, events: usize) {
        let dropped = &self.metrics.event_webhook.dropped;
        dropped.with_label_values(&[reason]).inc_by(events as u64);
    }
}

impl Share {
    /// `None`: too much waits already.
    fn take(bytes: usize, waiting: &Arc<Waiting>) -> Option<Self> {
        let before = waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        waiting.metrics.event_webhook.queued.inc();
        let waiting = waiting.clone();
        let share = Self { bytes, waiting };
        (before + bytes <= MAX_QUEUED_BYTES).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.waiting.metrics.event_webhook.queued.dec();
    }
}

impl Listener for Queue {
    fn wants(&self, kind: EventKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    fn hear(&self, event: Event) {
        let share = Share::take(event.data.bytes(), &self.waiting);
        let queued = share.map(|share| Queued {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            event,
            share,
        });
        if queued.is_none_or(|queued| self.sender.try_send(queued).is_err()) {
            self.waiting.dropped("queue_full", 1);
        }
    }
}

/// Sends requests.
struct Sender {
    config: EventConfig,
    key: hmac::Key,
    fetch: Fetch,
    process: String,
    waiting: Arc<Waiting>,
    /// Whether the last request failed; told once.
    is_down: AtomicBool,
}

/// The events of one request.
struct Batch {
    id: String,
    body: Vec<u8>,
    shares: Vec<Share>,
}

/// An event as the app sees it.
#[derive(Serialize)]
struct Told<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: &'a voicematch_core::events::Data,
}

fn written(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

impl Batch {
    fn new(process: &str, number: usize) -> Self {
        let now = written(SystemTime::now());
        Self {
            id: format!("msg_{process}_{number}"),
            body: format!(r#"{{"type":"events","timestamp":"{now}","data":["#).into_bytes(),
            shares: Vec::new(),
        }
    }

    fn push(&mut self, process: &str, queued: Queued) {
        let Queued {
            number,
            event,
            share,
        } = queued;
        let told = Told {
            id: format!("evt_{process}_{number}"),
            kind: event.kind.as_str(),
            timestamp: written(event.at),
            data: &event.data,
        };
        if !self.shares.is_empty() {
            self.body.push(b',');
        }
        // Nothing in an event can fail to be written.
        if let Err(error) = serde_json::to_writer(&mut self.body, &told) {
            tracing::error!(%error, "an event could not be written");
        }
        self.shares.push(share);
    }

    fn is_full(&self) -> bool {
        self.shares.len() >= MAX_BATCH || self.body.len() >= FULL_BATCH_BYTES
    }
}

/// Why a request was no success.
enum Failure {
    /// The app does not want these events.
    Refused(String),
    /// It may want them later, after this time at the earliest.
    Temporary(String, Duration),
}

/// The task that tells.
pub struct Telling {
    task: JoinHandle<()>,
    ending: watch::Sender<bool>,
    waiting: Arc<Waiting>,
}

impl Events {
    /// To be called inside the runtime that is to tell the app.
    pub fn new(config: EventConfig, metrics: &Arc<Metrics>) -> Result<Self, String> {
        let fetch = Fetch::new(&config.url)?;
        let waiting = Arc::new(Waiting {
            bytes: AtomicUsize::new(0),
            metrics: metrics.clone(),
        });
        // So that no two events of any server have the same id.
        let process = format!("{:016x}", rand::random::<u64>());
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let queue = Arc::new(Queue {
            sender,
            kinds: config.kinds.clone(),
            waiting: waiting.clone(),
            next: AtomicUsize::new(1),
        });
        let sender = Sender {
            key: hmac::Key::new(hmac::HMAC_SHA256, &config.secret.0),
            config,
            fetch,
            process,
            waiting,
            is_down: AtomicBool::new(false),
        };
        Ok(Self {
            queue,
            receiver,
            sender,
        })
    }

    /// Where the core tells of events.
    pub fn listener(&self) -> Arc<dyn Listener> {
        self.queue.clone()
    }

    /// Begins to tell the app.
    pub fn start(self) -> Telling {
        let (ending, is_ending) = watch::channel(false);
        Telling {
            waiting: self.sender.waiting.clone(),
            task: tokio::spawn(tell(self.receiver, Arc::new(self.sender), is_ending)),
            ending,
        }
    }
}

impl Telling {
    /// Tells what is there still, for a moment; what the app does not take is dropped.
    pub async fn flush(mut self) {
        // The task is there as long as this.
        let _ = self.ending.send(true);
        if timeout(FLUSH, &mut self.task).await.is_err() {
            self.task.abort();
        }
        let left = self.waiting.metrics.event_webhook.queued.get();
        if let Ok(left @ 1..) = usize::try_from(left) {
            self.waiting.dropped("shutdown", left);
            tracing::warn!(
                events = left,
                "the app was not told of these events; it did not take them in time"
            );
        }
    }
}

/// Takes events out of the queue and sends them, until the server ends.
async fn tell(
    mut receiver: mpsc::Receiver<Queued>,
    sender: Arc<Sender>,
    mut is_ending: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MAX_REQUESTS));
    let mut requests = JoinSet::new();
    let mut number = 0;
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        while requests.try_join_next().is_some() {}
        let Some(first) = next(&mut receiver, &mut is_ending).await else {
            break;
        };
        number += 1;
        if receiver.len() < MAX_BATCH {
            // Events that come meanwhile wake nobody.
            tokio::select! {
                () = sleep(LINGER) => {}
                () = ends(&mut is_ending) => {}
            }
        }
        let mut batch = Batch::new(&sender.process, number);
        batch.push(&sender.process, first);
        while !batch.is_full()
            && let Ok(event) = receiver.try_recv()
        {
            batch.push(&sender.process, event);
        }
        batch.body.extend_from_slice(b"]}");
        let (sender, is_ending) = (sender.clone(), is_ending.clone());
        requests.spawn(async move {
            sender.deliver(batch, is_ending).await;
            drop(place);
        });
    }
    while requests.join_next().await.is_some() {}
}

/// The next event. `None`: the server ends, and there is none.
async fn next(
    receiver: &mut mpsc::Receiver<Queued>,
    is_ending: &mut watch::Receiver<bool>,
) -> Option<Queued> {
    tokio::select! {
        biased;
        event = receiver.recv() => event,
        () = ends(is_ending) => {
            receiver.close();
            receiver.recv().await
        }
    }
}

/// Waits until the server ends.
async fn ends(is_ending: &mut watch::Receiver<bool>) {
    // An error means that nobody waits for the end any more.
    let _ = is_ending.wait_for(|ending| *ending).await;
}

impl Sender {
    /// Sends a batch until the app has taken it, at the most [`MAX_TRIES`] times.
    async fn deliver(&self, batch: Batch, mut is_ending: watch::Receiver<bool>) {
        let Batch { id, body, shares } = batch;
        let (body, events) = (Bytes::from(body), shares.len());
        let metrics = &self.waiting.metrics.event_webhook;
        let count = |result| metrics.requests.with_label_values(&[result]).inc();
        let mut wait = self.config.retry_after;
        for tried in 1..=MAX_TRIES {
            let (why, asked) = match self.post(&id, &body).await {
                Ok(()) => {
                    count("ok");
                    metrics.sent.inc_by(events as u64);
                    metrics.last_success.set(unix_seconds());
                    if self.is_down.swap(false, Ordering::Relaxed) {
                        tracing::info!(url = %self.config.url, "the app takes events again");
                    }
                    return;
                }
                Err(Failure::Refused(why)) => {
                    count("refused");
                    self.failed(&why);
                    self.waiting.dropped("refused", events);
                    return;
                }
                Err(Failure::Temporary(why, asked)) => (why, asked),
            };
            count("failed");
            self.failed(&why);
            if tried < MAX_TRIES {
                // Not all at the same moment, when the app comes back.
                let wait_now = wait.mul_f64(rand::random_range(0.5..1.0)).max(asked);
                wait *= WAIT_GROWTH;
                let is_last_moment = async {
                    ends(&mut is_ending).await;
                    sleep(LINGER).await;
                };
                tokio::select! {
                    () = sleep(wait_now) => {}
                    () = is_last_moment => {}
                }
            }
        }
        self.waiting.dropped("gave_up", events);
    }

    async fn post(&self, id: &str, body: &Bytes) -> Result<(), Failure> {
        let now = unix_seconds();
        let signed = [format!("{id}.{now}.").as_bytes(), body].concat();
        let signature = BASE64.encode(hmac::sign(&self.key, &signed));
        let request = Request::post(&self.config.url)
            .header(CONTENT_TYPE, "application/json")
            .header(
                USER_AGENT,
                concat!("voicematch-server/", env!("CARGO_PKG_VERSION")),
            )
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", format!("v1,{signature}"))
            .body(Full::new(body.clone()))
            .map_err(|error| Failure::Refused(error.to_string()))?;
        let answer = self.fetch.ask(request, self.config.timeout).await;
        let answer = answer.map_err(|why| Failure::Temporary(why, Duration::ZERO))?;
        let why = format!("the answer is {}", answer.status);
        match answer.status {
            status if status.is_success() => Ok(()),
            status
                if status.is_server_error()
                    || status == StatusCode::REQUEST_TIMEOUT
                    || status == StatusCode::TOO_MANY_REQUESTS =>
            {
                let wait = asked_wait(&answer.headers, MAX_WAIT);
                Err(Failure::Temporary(why, wait.unwrap_or_default()))
            }
            _ => Err(Failure::Refused(why)),
        }
    }

    fn failed(&self, why: &str) {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            let url = &self.config.url;
            tracing::error!(%url, error = why, "the app does not take events; they are sent again, and dropped when there are too many");
        }
    }
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_as_the_specification_says() {
        let of = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![7; bytes]));
        for bytes in [24, 32, 64] {
            assert_eq!(Secret::parse(&of(bytes)), Some(Secret(vec![7; bytes])));
        }
        let bare = BASE64.encode([7; 32]);
        for wrong in [&of(23), &of(65), &bare, "whsec_", "whsec_?", ""] {
            assert_eq!(Secret::parse(wrong), None, "{wrong}");
        }
        let shown = format!("{:?}", Secret::parse(&of(24)));
        assert_eq!(shown, "Some(Secret)");
    }
}
