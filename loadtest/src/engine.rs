//! Leads a run: checks, workers, phases, and the books at the end.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use thiserror::Error;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    client::Endpoint,
    limits::{cpu_seconds, rss_bytes, users_that_fit},
    observe::Observer,
    plan::{Plan, PlanError},
    progress::{Counters, Progress},
    sample::ErrorKind,
    summary::{About, GeneratorUse, Summary, Tally},
    target::Target,
    user::Phase,
    worker::{self, Job, Yield},
};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);
/// How long messages under way at the end may still take.
const SETTLE: Duration = Duration::from_secs(2);
/// Users that one worker plays before another is started.
const USERS_PER_WORKER: u32 = 5_000;

/// A run that could not take place.
#[derive(Debug, Error)]
pub enum RunError {
    /// The plan cannot be played.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The first connection failed.
    #[error("cannot reach {url}: {reason}. {advice}")]
    Unreachable {
        /// What was tried.
        url: String,
        /// What happened.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// Each user takes a file descriptor, and there are not enough.
    #[error(
        "{users} users need more open files than this process may have: {fit} users fit. \
         Raise the hard limit (ulimit -Hn, LimitNOFILE=), or give --users {fit} or less"
    )]
    TooFewFiles {
        /// Asked for.
        users: u32,
        /// Possible.
        fit: u64,
    },
    /// Asked to end while the first connection was under way.
    #[error("ended before the first user started: nothing was measured")]
    Stopped,
    /// A worker thread could not start, or died.
    #[error("a worker of the load generator failed: {0}")]
    Worker(#[source] io::Error),
}

impl RunError {
    /// 2 for what the caller asked, 3 for a target out of reach, 98 for a fault of the generator.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Plan(_) | Self::TooFewFiles { .. } => 2,
            Self::Unreachable { .. } => 3,
            Self::Stopped | Self::Worker(_) => 98,
        }
    }
}

/// Plays `plan` against `target`, and tells of its progress four times a second.
///
/// Users are played on threads of their own, so this may be called from any tokio runtime with its I/O and
/// time drivers on. Dropping the future ends the run.
///
/// # Errors
/// The run could not take place. A run in which everything failed is a [`Summary`], not an error.
pub async fn run(
    plan: &Plan,
    target: &Target,
    on_progress: impl FnMut(&Progress) + Send,
) -> Result<Summary, RunError> {
    run_until(plan, target, std::future::pending(), on_progress).await
}

/// Like [`run`], and ends the run early, in good order, when `stop` is ready.
///
/// # Errors
/// As for [`run`].
pub async fn run_until(
    plan: &Plan,
    target: &Target,
    stop: impl Future<Output = ()> + Send,
    mut on_progress: impl FnMut(&Progress) + Send,
) -> Result<Summary, RunError> {
    plan.check()?;
    let fit = users_that_fit();
    if u64::from(plan.users) > fit {
        return Err(RunError::TooFewFiles {
            users: plan.users,
            fit,
        });
    }
    let mut stop = pin!(stop);
    let endpoint = tokio::select! {
        probed = probe(plan, target) => probed?,
        () = &mut stop => return Err(RunError::Stopped),
    };
    let cpu = cpu_seconds(false);
    let mut crew = Crew::start(plan, endpoint)?;
    let mut observer = Observer::default();
    let leading = crew.lead(stop, &mut on_progress);
    let led = match &target.admin {
        None => leading.await,
        Some(admin) => tokio::select! {
            led = leading => led,
            never = observer.watch(admin) => match never {},
        },
    };
    let elapsed = crew.epoch.elapsed();
    let (tally, busiest) = crew.collect().await?;
    let used = cpu_seconds(false) - cpu;
    Ok(tally.finish(About {
        plan: plan.clone(),
        target: target.url(),
        started_at: crew.started_at,
        elapsed,
        active: led.active,
        interrupted: led.interrupted,
        peak_users: led.peak_users,
        generator: GeneratorUse {
            workers: crew.counters.len(),
            cpu_seconds: used,
            cpu_percent: used * 100.0 / elapsed.as_secs_f64().max(1e-3),
            busiest_worker_percent: busiest,
            rss_peak_bytes: led.rss_peak,
        },
        server: observer.result(target.admin.as_ref()),
    }))
}

/// Opens one connection, so that a wrong address is one clear error and not one per user.
async fn probe(plan: &Plan, target: &Target) -> Result<Endpoint, RunError> {
    let unreachable = |reason: String, advice| {
        let url = target.url();
        RunError::Unreachable {
            url,
            reason,
            advice,
        }
    };
    const NAME: &str = "Check the host name.";
    let address: SocketAddr = match target.resolve().await {
        Ok(Some(address)) => address,
        Ok(None) => return Err(unreachable("the host has no address".to_owned(), NAME)),
        Err(error) => return Err(unreachable(error.to_string(), NAME)),
    };
    let endpoint = Endpoint::new(target, address);
    let connected = timeout(plan.connect_timeout, endpoint.connect(0)).await;
    match connected.unwrap_or(Err(ErrorKind::ConnectTimeout)) {
        Ok(connection) => {
            // How the server takes a close is measured on the users, not here.
            let _ = connection.close().await;
            Ok(endpoint)
        }
        Err(kind) => Err(unreachable(
            format!("{} at {address}", kind.name()),
            advice(&kind),
        )),
    }
}

fn advice(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectRefused => "Nobody listens there: start the server, or check the port.",
        ErrorKind::ConnectTimeout => "No answer: check the address and the firewall.",
        ErrorKind::TlsFailed => {
            "Is its certificate signed by an authority of this system? Else give --ca FILE."
        }
        ErrorKind::HandshakeRejected(401 | 403) => {
            "The server wants to know who connects: give --token, --token-file or --header."
        }
        ErrorKind::HandshakeRejected(404) => "Check the path of the URL: /ws is the usual one.",
        ErrorKind::HandshakeRejected(_) => "The server refuses users: see its log and its limits.",
        ErrorKind::HandshakeInvalid | ErrorKind::Reset => {
            "Is it a WebSocket server? Check the port."
        }
        _ => "Check the address.",
    }
}

/// The workers of a run, from the outside.
struct Crew {
    plan: Plan,
    epoch: Instant,
    started_at: SystemTime,
    phase: watch::Sender<Phase>,
    counters: Vec<Arc<Counters>>,
    results: Vec<oneshot::Receiver<Yield>>,
}

/// What was seen while leading.
#[derive(Default)]
struct Led {
    active: Duration,
    interrupted: bool,
    peak_users: u64,
    rss_peak: u64,
}

impl Led {
    fn look(&mut self, progress: &Progress) {
        self.peak_users = self.peak_users.max(progress.connected);
        self.rss_peak = self.rss_peak.max(rss_bytes());
    }
}

impl Crew {
    fn start(plan: &Plan, endpoint: Endpoint) -> Result<Self, RunError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let wanted = usize::try_from(plan.users.div_ceil(USERS_PER_WORKER)).unwrap_or(usize::MAX);
        let workers = wanted.clamp(1, cores);
        let (phase, phases) = watch::channel(Phase::Running);
        // A fresh RandomState is seeded by the system: unlike enough for two runs at the same time.
        let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
        let run = u32::from_ne_bytes([a, b, c, d]);
        let mut crew = Self {
            plan: plan.clone(),
            epoch: Instant::now(),
            started_at: SystemTime::now(),
            phase,
            counters: Vec::new(),
            results: Vec::new(),
        };
        for first in (0..plan.users).take(workers) {
            let counters = Arc::new(Counters::default());
            crew.counters.push(Arc::clone(&counters));
            let job = Job {
                plan: plan.clone(),
                endpoint: endpoint.clone(),
                run,
                epoch: crew.epoch,
                phase: phases.clone(),
                counters,
                first,
                step: workers,
            };
            crew.results
                .push(worker::start(job).map_err(RunError::Worker)?);
        }
        Ok(crew)
    }

    /// Takes the run through its phases, until all workers are done.
    async fn lead(
        &mut self,
        stop: impl Future<Output = ()>,
        on_progress: &mut impl FnMut(&Progress),
    ) -> Led {
        let mut led = Led::default();
        let mut progress = Progress {
            planned: self.plan.end(),
            users: self.plan.users,
            ..Progress::default()
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = pin!(stop);
        let end = self.epoch + self.plan.end();
        let mut look = |crew: &Self, led: &mut Led| {
            let counters = crew.counters.iter().map(Arc::as_ref);
            progress = Progress::read(counters, crew.epoch.elapsed(), &progress);
            led.look(&progress);
            on_progress(&progress);
            progress.settled()
        };
        loop {
            tokio::select! {
                _ = ticks.tick() => { look(self, &mut led); }
                () = tokio::time::sleep_until(end) => break,
                () = &mut stop => { led.interrupted = true; break }
            }
        }
        led.active = self.epoch.elapsed();
        self.phase.send_replace(Phase::Settling);
        let latest = Instant::now() + SETTLE;
        ticks.reset();
        while !look(self, &mut led) && Instant::now() < latest {
            ticks.tick().await;
        }
        self.phase.send_replace(Phase::Closing);
        // Each worker drops its counters when it is done.
        while self
            .counters
            .iter()
            .any(|counters| Arc::strong_count(counters) > 1)
        {
            ticks.tick().await;
            look(self, &mut led);
        }
        led
    }

    /// The workers' results in one, and how busy the busiest was, in percent.
    async fn collect(&mut self) -> Result<(Tally, f64), RunError> {
        let (mut tally, mut busiest) = (Tally::default(), 0.0_f64);
        for result in self.results.drain(..) {
            let done = result
                .await
                .map_err(|died| RunError::Worker(io::Error::other(died)))?;
            tally.merge(done.tally);
            busiest = busiest.max(done.cpu_percent);
        }
        Ok((tally, busiest))
    }
}
