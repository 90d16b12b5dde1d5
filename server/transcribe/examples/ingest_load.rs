//! What many speakers cost: so many tracks at 32,000 bytes a second, each a frame of 3,200 bytes each 100 ms, into bridges with
//! the fake provider, on one thread. The second half of the time goes through a task that looks at each frame on its way to
//! the provider, for the delay; the first half does without it, for the cost.
//!
//! It fails if a word was not heard, if the tracks held more audio than they may together (256 MiB), or if a second of audio took
//! more than a second of CPU.
//!
//! ```text
//! cargo run --release -p voicematch-transcribe --example ingest_load -- [TRACKS [SECONDS]]
//! ```
#![expect(clippy::print_stdout, reason = "it is what this program is for")]

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use voicematch_protocol::numbered::Numbered;
use voicematch_transcribe::{
    bridge::{AudioMetrics, Bridge, BridgeConfig, Bridges, Heard, TrackSpec},
    provider::{AUDIO_DEPTH, BoxFuture, Input, Link, OpenError, Provider, StreamSpec, fake::Fake},
};

const FRAME: usize = 3200;
/// The frames of 100 ms are spread over it.
const STEP: Duration = Duration::from_millis(1);
const STEPS: usize = 100;
/// The most seconds of CPU for a second of audio.
const MOST_CORES: f64 = 1.0;

/// What one half has shown.
struct Shown {
    /// How many words were heard.
    words: u64,
    /// The most audio that was held while they spoke, in bytes.
    held: u64,
    /// Seconds of CPU for a second of audio.
    cores: f64,
}

/// The fake, and how long each frame took to it.
struct Watched {
    fake: Fake,
    began: Instant,
    is_watching: AtomicBool,
    delays: Arc<Mutex<Vec<u32>>>,
}

impl Provider for Watched {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn open(&self, spec: StreamSpec) -> BoxFuture<'_, Result<Link, OpenError>> {
        Box::pin(async move {
            let mut link = self.fake.open(spec).await?;
            if self.is_watching.load(Relaxed) {
                let (audio, frames) = mpsc::channel(AUDIO_DEPTH);
                let inner = std::mem::replace(&mut link.audio, audio);
                tokio::spawn(watch(frames, inner, self.began, Arc::clone(&self.delays)));
            }
            Ok(link)
        })
    }
}

async fn watch(
    mut frames: mpsc::Receiver<Input>,
    inner: mpsc::Sender<Input>,
    began: Instant,
    delays: Arc<Mutex<Vec<u32>>>,
) {
    while let Some(input) = frames.recv().await {
        if let Input::Pcm(pcm) = &input
            && let Some(numbered) = Numbered::read(pcm)
        {
            let delay = micros(began.elapsed()).saturating_sub(numbered.sent_us);
            let delay = u32::try_from(delay).unwrap_or(u32::MAX);
            delays
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(delay);
        }
        if inner.send(input).await.is_err() {
            return;
        }
    }
}

struct Track {
    bridge: Bridge,
    next: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u32>());
    let tracks = arguments.next().transpose()?.unwrap_or(1000);
    let seconds = arguments.next().transpose()?.unwrap_or(30);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(tracks, Duration::from_secs(seconds.into()) / 2))
}

async fn run(count: u32, half: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let delays = Arc::new(Mutex::new(Vec::new()));
    let provider = Arc::new(Watched {
        fake: Fake::parse("")?,
        began: Instant::now(),
        is_watching: AtomicBool::new(false),
        delays: Arc::clone(&delays),
    });
    let metrics = AudioMetrics::new()?;
    let config = BridgeConfig::default();
    let most_held = config.memory_bytes;
    let bridges = Bridges::new(config, Arc::<Watched>::clone(&provider), metrics);
    println!("{count} tracks, dev build: {}", cfg!(debug_assertions));

    let idle = memory("VmRSS:");
    let sent = u64::from(count) * u64::try_from(half.as_millis() / 100)?;
    let first = round(&bridges, &provider, count, half, true).await;
    println!("words heard: {} of {sent}", first.words);
    println!(
        "memory: {} MB, {} MB before; audio held {} MB",
        memory("VmHWM:") / 1000,
        idle / 1000,
        bridges.held_bytes() / 1_000_000
    );

    provider.is_watching.store(true, Relaxed);
    let second = round(&bridges, &provider, count, half, false).await;
    let mut delays = std::mem::take(&mut *delays.lock().unwrap_or_else(PoisonError::into_inner));
    delays.sort_unstable();
    let at = |share: usize| {
        delays
            .get(delays.len() * share / 1000)
            .copied()
            .unwrap_or(0)
    };
    let most = delays.last().copied().unwrap_or(0);
    println!(
        "push to provider, us: p50 {} p99 {} p99.9 {} max {most}; {} frames",
        at(500),
        at(990),
        at(999),
        delays.len()
    );
    for shown in [&first, &second] {
        if shown.words != sent {
            return Err(format!("{} words were heard, and {sent} were said", shown.words).into());
        }
        if shown.held > most_held {
            return Err(format!("{} bytes were held, and {most_held} may be", shown.held).into());
        }
    }
    if first.cores > MOST_CORES {
        let cores = first.cores;
        return Err(format!("{cores:.2} cores were used, and {MOST_CORES} may be").into());
    }
    Ok(())
}

/// All speak for so long, and end.
async fn round(
    bridges: &Bridges,
    provider: &Watched,
    count: u32,
    time: Duration,
    says_cost: bool,
) -> Shown {
    let mut listeners = tokio::task::JoinSet::new();
    let mut tracks = Vec::new();
    for _ in 0..count {
        let (bridge, heard) = bridges.open(TrackSpec::default());
        listeners.spawn(listen(heard));
        tracks.push(Track { bridge, next: 0 });
    }
    let (cpu, began) = (cpu_ns(), Instant::now());
    let held = speak(&mut tracks, provider.began, time, bridges).await;
    let (cpu, took) = (cpu_ns() - cpu, began.elapsed());
    let cores = share(cpu, time);
    println!(
        "{:.1} s of audio took {:.1} s",
        time.as_secs_f64(),
        took.as_secs_f64()
    );
    if says_cost {
        println!(
            "CPU seconds a second of audio: {:.3}, with {:.1} us a frame for making it",
            cores,
            making_us()
        );
        println!(
            "audio held while they speak: {} MB at the most",
            held / 1_000_000
        );
    }
    drop(tracks);
    let mut words = 0;
    while let Some(heard) = listeners.join_next().await {
        words += heard.unwrap_or(0);
    }
    Shown { words, held, cores }
}

/// Speaks for so long. The most audio that was held.
async fn speak(tracks: &mut [Track], began: Instant, time: Duration, bridges: &Bridges) -> u64 {
    let template = [0xb8, 0x0b, 0x3c, 0xf6].repeat(FRAME / 4);
    let mut step = tokio::time::interval(STEP);
    let steps = usize::try_from(time.as_millis()).unwrap_or(usize::MAX);
    let (count, mut held) = (tracks.len(), 0);
    for now in 0..steps {
        step.tick().await;
        held = held.max(bridges.held_bytes());
        let part = now % STEPS;
        for (number, track) in
            (0_u32..).zip(&mut tracks[count * part / STEPS..count * (part + 1) / STEPS])
        {
            let mut frame = template.clone();
            let numbered = Numbered {
                track: number,
                chunk: track.next,
                sent_us: micros(began.elapsed()),
            };
            if numbered.write(&mut frame) {
                track.bridge.push(frame.into());
            }
            track.next += 1;
        }
    }
    held
}

async fn listen(mut heard: mpsc::Receiver<Heard>) -> u64 {
    let mut words = 0;
    while let Some(heard) = heard.recv().await {
        if let Heard::Final { utterance, .. } = heard {
            words += utterance.text.split(' ').count() as u64;
        }
    }
    words
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn share(cpu_ns: u64, time: Duration) -> f64 {
    cpu_ns as f64 / 1e9 / time.as_secs_f64()
}

/// What one frame of the speakers themselves costs: a copy and the header.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn making_us() -> f64 {
    const FRAMES: u32 = 20_000;
    let template = vec![1; FRAME];
    let began = cpu_ns();
    for chunk in 0..FRAMES {
        let mut frame = template.clone();
        let _ = Numbered {
            track: 1,
            chunk,
            sent_us: 1,
        }
        .write(&mut frame);
        std::hint::black_box(&frame);
    }
    (cpu_ns() - began) as f64 / f64::from(FRAMES) / 1000.0
}

/// Nanoseconds that this thread, the only one that works, has run for.
fn cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|ns| ns.parse().ok())
        .unwrap_or(0)
}

/// Kilobytes of memory, by the name of the line.
fn memory(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
