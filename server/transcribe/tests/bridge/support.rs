//! Speakers, and a ledger of what became of each chunk of their audio.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use prometheus::{Registry, proto::MetricFamily};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use voicematch_protocol::numbered::Numbered;
use voicematch_transcribe::{
    bridge::{AudioMetrics, Bridge, BridgeConfig, Bridges, Heard, TrackSpec},
    provider::{BoxFuture, Link, OpenError, Provider, StreamSpec, fake::Fake},
};

pub(crate) mod ear;
pub(crate) mod gladia;
pub(crate) mod ledger;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod subjects;
pub(crate) mod tls;
pub(crate) mod vosk;

pub(crate) use ledger::Ledger;

/// The length of a chunk.
pub(crate) const CHUNK_MS: u64 = 100;
/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until `read` gives `expected`.
pub(crate) async fn becomes<T: PartialEq + Debug>(
    expected: T,
    what: &str,
    read: impl AsyncFn() -> T,
) {
    let begun = Instant::now();
    loop {
        let found = read().await;
        if found == expected {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{what} is {found:?} after {PATIENCE:?}, not {expected:?}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// A bridge with a metrics registry of its own.
pub(crate) struct Rig {
    pub bridges: Bridges,
    pub registry: Registry,
}

impl Rig {
    pub(crate) fn new(provider: Arc<dyn Provider>, config: BridgeConfig) -> Self {
        let metrics = AudioMetrics::new().expect("the names are right");
        let registry = Registry::new();
        metrics.register(&registry).expect("it is empty");
        Self {
            bridges: Bridges::new(config, provider, metrics),
            registry,
        }
    }

    /// With a buffer that is large enough for a machine that is busy with something else.
    pub(crate) fn patient(provider: Arc<dyn Provider>) -> Self {
        let buffer = Duration::from_secs(60);
        Self::new(
            provider,
            BridgeConfig {
                buffer,
                ..BridgeConfig::default()
            },
        )
    }

    /// With the fake provider.
    pub(crate) fn fake(options: &str) -> Self {
        Self::new(Arc::new(fake(options)), BridgeConfig::default())
    }

    pub(crate) fn speaker(&self, track: u32) -> Speaker {
        let (bridge, heard) = self.bridges.open(TrackSpec {
            language: Some("en".to_owned()),
        });
        Speaker {
            track,
            next: 0,
            bridge,
            heard,
            ledger: Ledger::new(track),
        }
    }

    /// The sum of all series of a metric, to three digits.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let family = family.unwrap_or_else(|| panic!("there is no metric {name}"));
        let sum: f64 = family.get_metric().iter().map(value).sum();
        (sum * 1000.0).round() / 1000.0
    }

    /// A series of a metric, by the value of its last label.
    pub(crate) fn series(&self, name: &str, label: &str) -> f64 {
        let families: Vec<MetricFamily> = self.registry.gather();
        let metrics = families
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(MetricFamily::get_metric);
        let mut with_label = metrics
            .filter(|metric| metric.get_label().iter().any(|pair| pair.value() == label))
            .map(value);
        with_label
            .next()
            .unwrap_or_else(|| panic!("there is no series {label} of {name}"))
    }
}

fn value(metric: &prometheus::proto::Metric) -> f64 {
    let histogram = metric.get_histogram();
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let count = histogram.get_sample_count() as f64;
    metric.get_counter().get_value() + metric.get_gauge().get_value() + count
}

pub(crate) fn fake(options: &str) -> Fake {
    Fake::parse(options).expect("the options are right")
}

/// A chunk of a tone.
fn tone(amplitude: i16) -> Vec<u8> {
    let wave = [amplitude; 4].into_iter().chain([-amplitude; 4]);
    let wave: Vec<u8> = wave.flat_map(i16::to_le_bytes).collect();
    wave.repeat(usize::try_from(CHUNK_MS * 2).expect("small"))
}

/// A chunk that says which one it is, as loud as speech. Of three in a row one is less loud, as syllables are.
pub(crate) fn numbered(track: u32, chunk: u32) -> Bytes {
    let mut pcm = tone(if chunk.is_multiple_of(3) {
        1_000
    } else {
        3_000
    });
    assert!(
        Numbered {
            track,
            chunk,
            sent_us: 0
        }
        .write(&mut pcm)
    );
    pcm.into()
}

/// A chunk of noise, as loud as speech and steady.
pub(crate) fn noise() -> Bytes {
    tone(3_000).into()
}

/// A chunk of digital silence.
pub(crate) fn silence() -> Bytes {
    vec![0; usize::try_from(CHUNK_MS * 32).expect("small")].into()
}

/// One track, and what was heard of it.
pub(crate) struct Speaker {
    pub track: u32,
    /// The number of the next chunk.
    pub next: u32,
    pub bridge: Bridge,
    pub heard: mpsc::Receiver<Heard>,
    pub ledger: Ledger,
}

impl Speaker {
    pub(crate) fn say(&mut self) {
        self.bridge.push(numbered(self.track, self.next));
        self.next += 1;
    }

    /// Speaks in real time, and hears what comes meanwhile.
    pub(crate) async fn talk(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / u128::from(CHUNK_MS) {
            self.say();
            self.listen(Duration::from_millis(CHUNK_MS)).await;
        }
    }

    /// Is silent in real time: audio flows.
    pub(crate) async fn be_silent(&mut self, time: Duration) {
        self.play(&silence(), time).await;
    }

    /// Says nothing in real time, beside a fan.
    pub(crate) async fn make_noise(&mut self, time: Duration) {
        self.play(&noise(), time).await;
    }

    /// Plays a chunk without words again and again.
    async fn play(&mut self, chunk: &Bytes, time: Duration) {
        for _ in 0..time.as_millis() / u128::from(CHUNK_MS) {
            self.bridge.push(chunk.clone());
            self.ledger.silent.insert(self.next);
            self.next += 1;
            self.listen(Duration::from_millis(CHUNK_MS)).await;
        }
    }

    /// Hears for so long.
    pub(crate) async fn listen(&mut self, time: Duration) {
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                Some(heard) = self.heard.recv() => self.ledger.note(heard),
            }
        }
    }

    /// Hears until something comes that is wanted.
    pub(crate) async fn hear(&mut self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let next = async {
            loop {
                let heard = self.heard.recv().await.expect("the track goes on");
                self.ledger.note(heard.clone());
                if wanted(&heard) {
                    return heard;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, next).await {
            Ok(heard) => heard,
            Err(_) => panic!("it did not come; {:?}", self.ledger),
        }
    }

    pub(crate) async fn hear_final(&mut self) {
        self.hear(|heard| matches!(heard, Heard::Final { .. }))
            .await;
    }

    /// Finishes the track and hears what is left.
    pub(crate) async fn finish(mut self) -> Ledger {
        self.bridge.finish();
        self.hear(|heard| *heard == Heard::Ended).await;
        assert_eq!(self.heard.recv().await, None, "nothing follows the end");
        self.ledger.chunks = self.next;
        self.ledger
    }
}

/// A provider whose streams are opened by others, one after the other; the last one opens all that follow.
pub(crate) struct Sequence {
    steps: Mutex<Vec<Step>>,
    pub opens: AtomicUsize,
}

pub(crate) enum Step {
    Provider(Arc<dyn Provider>),
    Error(OpenError),
}

impl Step {
    pub(crate) fn fake(options: &str) -> Self {
        Self::Provider(Arc::new(fake(options)))
    }
}

impl Sequence {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        let mut steps: Vec<_> = steps.into_iter().collect();
        steps.reverse();
        Arc::new(Self {
            steps: Mutex::new(steps),
            opens: AtomicUsize::new(0),
        })
    }

    /// From now on all streams are opened like this.
    pub(crate) fn switch(&self, step: Step) {
        *self.steps.lock().expect("nobody panics with it") = vec![step];
    }

    pub(crate) fn opens(&self) -> usize {
        self.opens.load(SeqCst)
    }
}

impl Provider for Sequence {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn open(&self, spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>> {
        self.opens.fetch_add(1, SeqCst);
        let mut steps = self.steps.lock().expect("nobody panics with it");
        let step = if steps.len() > 1 { steps.pop() } else { None };
        let step = step
            .as_ref()
            .or(steps.last())
            .expect("a sequence has a step");
        match step {
            Step::Provider(provider) => {
                let provider = Arc::clone(provider);
                Box::pin(async move { provider.open(spec).await })
            }
            Step::Error(error) => {
                let error = error.clone();
                Box::pin(async { Err(error) })
            }
        }
    }
}
