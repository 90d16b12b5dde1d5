//! Leads a run: checks, workers, run states, and the ledgers at the end.

use std::{
    future::pending,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

mod probe;

use crate::{
    base::machine::users_that_fit,
    judge::{self, thresholds::Watch},
    measure::{
        books::{About, Books, MAX_READING_AGE},
        ledger::Scope,
        nodes::Nodes,
        server_use::Reading,
    },
    plan::{Plan, ResolvedPlan},
    record::{Record, Run},
    run::{
        error::RunError,
        observe::{Latest, watch_all},
        phases::phases,
        progress::{Counters, Progress},
        shards::start::{check_start, run_number, shard_data, wait_for_start},
        worker::{self, Job, WorkerResult},
    },
    user::{
        net::{servers::Servers, target::Target},
        run_state::RunState,
        talk::Talks,
    },
};
use probe::probe;

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(250);
/// How long messages under way at the end may still take: the least and the most.
const SETTLE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(20)];
/// Added, so that messages of the last moment have their full time.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// While the run goes on, a message that has not arrived after this time counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds for which a figure of the server is shown: a busy one does not answer each second.
const RECENT: usize = 5;
/// The users of one worker before another worker is started.
const USERS_PER_WORKER: u32 = 5_000;

/// Plays `plan` against `target`, and reports progress four times a second.
///
/// Users run on separate threads, so this may be called from any tokio runtime with its I/O and
/// time drivers enabled. Dropping the future ends the run.
///
/// # Errors
/// The run could not take place. A run in which everything failed has a [`Record`]; it is no error.
pub async fn run(
    plan: &Plan,
    target: &Target,
    on_progress: impl FnMut(&Progress) + Send,
) -> Result<Record, RunError> {
    run_until(plan, target, pending(), on_progress).await
}

/// Like [`run`], and ends the run early, with a record, when `stop` is ready.
///
/// # Errors
/// As for [`run`].
pub async fn run_until(
    plan: &Plan,
    target: &Target,
    stop: impl Future<Output = ()> + Send,
    mut on_progress: impl FnMut(&Progress) + Send,
) -> Result<Record, RunError> {
    let mut stop = pin!(stop);
    let plan = &Arc::new(plan.resolve()?);
    let talks = Talks::new(plan).map_err(|(file, reason)| RunError::Audio { file, reason })?;
    let talks = Arc::new(talks);
    let (servers, epoch) = tokio::select! {
        ready = get_ready(plan, target, &mut on_progress) => ready?,
        () = &mut stop => return Err(RunError::Stopped),
    };
    let late = epoch.elapsed();
    let admins = || target.nodes().iter().map(|node| node.admin.as_ref());
    let server_expected = admins().flatten().any(|admin| admin.given);
    let shared = !plan.shard.is_whole();
    let shard = shared.then(|| shard_data(plan, target.urls(), server_expected, late));
    let watch = Watch::new(
        plan.thresholds.clone(),
        plan.calls.clone(),
        plan.flow_names.clone(),
        server_expected,
    );
    let shared = (Arc::clone(&servers), Arc::clone(&talks));
    let (mut workers, mut recorder) = Workers::start(plan, shared, epoch, watch)?;
    let observed = admins().zip(recorder.servers.iter().cloned()).collect();
    let observing = watch_all(workers.epoch, observed);
    let leading = workers.lead(stop, &mut recorder, &mut on_progress);
    let outcome = tokio::select! {
        outcome = leading => outcome,
        never = observing => match never {},
    };
    let elapsed = workers.epoch.elapsed();
    let busiest_worker_percent = workers.collect().await?;
    let answers = talks.compare_answers(&servers).await;
    recorder.books.totals.talk.words += answers;
    recorder.close(elapsed);
    let about = About {
        urls: target.urls(),
        run: describe(plan, target, &workers, outcome.interrupted),
        started_at: workers.started_at,
        elapsed,
        active: outcome.active,
        kinds: Vec::new(),
        phases: phases(plan, &plan.phases_of_shard),
        steady: [plan.ramp, outcome.active],
        peak_connected: outcome.peak_users,
        workers: workers.counters.len() as u64,
        busiest_worker_percent,
        server_expected,
        shard,
    };
    Ok(judge::judge(&recorder.books, about, &mut recorder.watch))
}

/// Makes all checks before a run, and waits for the start. Returns the servers and the moment of the start.
async fn get_ready(
    plan: &ResolvedPlan,
    target: &Target,
    on_progress: &mut impl FnMut(&Progress),
) -> Result<(Arc<Servers>, Instant), RunError> {
    check_start(plan)?;
    // A user in a transcription session may be its host beside.
    let connections = if plan.has_talks { 2 } else { 1 };
    let (users, fit) = (plan.peak_of_shard, users_that_fit() / connections);
    if u64::from(users) > fit {
        return Err(RunError::TooFewFiles { users, fit });
    }
    let servers = Arc::new(probe(plan, target).await?);
    Ok((servers, wait_for_start(plan, on_progress).await?))
}

/// How long the run waits at its end for messages, or requests, under way.
fn settling(plan: &ResolvedPlan, messages: bool) -> Duration {
    let [least, most] = SETTLE;
    match messages {
        true => (plan.message_timeout + LAST_MOMENT).clamp(least, most),
        false => least,
    }
}

/// The settings of the run, for the record. Times are filled in at the end.
fn describe(plan: &ResolvedPlan, target: &Target, workers: &Workers, interrupted: bool) -> Run {
    let shared = !plan.shard.is_whole();
    Run {
        id: format!("{:08x}", workers.run),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: None,
        target: target.url(),
        scenario: plan.name.clone(),
        command: String::new(),
        started_at: String::new(),
        started_at_unix_ms: 0,
        elapsed_ms: 0.0,
        active_ms: 0.0,
        interrupted,
        users: u64::from(plan.peak_of_shard),
        load: None,
        shard: shared.then(|| plan.shard.to_string()),
        merged_from: Vec::new(),
        missing_shards: Vec::new(),
    }
}

/// The leader's view of the workers.
struct Workers {
    plan: Arc<ResolvedPlan>,
    /// The number of this run in its messages.
    run: u32,
    epoch: Instant,
    started_at: SystemTime,
    state: watch::Sender<RunState>,
    counters: Vec<Arc<Counters>>,
    results: Vec<oneshot::Receiver<io::Result<WorkerResult>>>,
}

/// The books of a run, and the thresholds that may end it.
struct Recorder {
    books: Books,
    watch: Watch,
    /// The latest readings of the servers' metrics, in order.
    servers: Vec<Latest>,
}

impl Recorder {
    /// Whether a threshold ends the run, if it is still `on`.
    fn tick(&mut self, now: Duration, on: bool) -> bool {
        let reading = self.read(now);
        self.books.tick(now, reading);
        self.watch.look(&self.books, now, on).is_some()
    }

    /// Counts what is left.
    fn close(&mut self, now: Duration) {
        let reading = self.read(now);
        self.books.close(now, reading);
        self.watch.look(&self.books, now, false);
    }

    /// All servers together.
    fn read(&mut self, now: Duration) -> Option<Reading> {
        let fresh = |reading: &Reading| now.saturating_sub(reading.at) < MAX_READING_AGE;
        let mut all = None::<Reading>;
        for (place, latest) in self.servers.iter().enumerate() {
            let Some(reading) = latest.get().filter(fresh) else {
                continue;
            };
            self.books.nodes.read(place, reading);
            all = Some(match all {
                Some(others) => others.beside(reading),
                None => reading,
            });
        }
        all
    }
}

/// What the leader saw during the run.
#[derive(Default)]
struct RunOutcome {
    active: Duration,
    interrupted: bool,
    peak_users: u64,
}

impl Workers {
    fn start(
        plan: &Arc<ResolvedPlan>,
        (servers, talks): (Arc<Servers>, Arc<Talks>),
        epoch: Instant,
        watch: Watch,
    ) -> Result<(Self, Recorder), RunError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let wanted = plan.peak_of_shard.div_ceil(USERS_PER_WORKER);
        let threads = wanted.clamp(1, u32::try_from(cores).unwrap_or(1));
        let (state, states) = watch::channel(RunState::Running);
        let (run, scope) = if plan.shard.is_whole() {
            // The system seeds a fresh RandomState: different for two runs at the same time.
            let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
            (u32::from_ne_bytes([a, b, c, d]), Scope::Whole)
        } else {
            (run_number(plan), Scope::Shard)
        };
        let (books, slices) = Books::open(plan.fair_wait, scope);
        let patience = Some(plan.message_timeout.max(PATIENCE));
        let mut books = books.with_patience(patience.filter(|_| plan.all_come_back));
        books.nodes = Nodes::new(servers.count());
        let latest = std::iter::repeat_with(Latest::default).take(servers.count());
        let mut workers = Self {
            plan: Arc::clone(plan),
            run,
            epoch,
            started_at: plan.start_at.unwrap_or_else(SystemTime::now),
            state,
            counters: Vec::new(),
            results: Vec::new(),
        };
        for worker in 0..threads {
            let (first, step) = plan.users_of_worker(worker, threads);
            let counters = Arc::new(Counters::default());
            workers.counters.push(Arc::clone(&counters));
            let job = Job {
                plan: Arc::clone(plan),
                servers: Arc::clone(&servers),
                run: workers.run,
                epoch: workers.epoch,
                state: states.clone(),
                counters,
                talks: Arc::clone(&talks),
                slices: slices.clone(),
                first,
                step,
            };
            workers
                .results
                .push(worker::start(job).map_err(RunError::Worker)?);
        }
        Ok((
            workers,
            Recorder {
                books,
                watch,
                servers: latest.collect(),
            },
        ))
    }

    /// Leads the run through its states, until all workers are done.
    async fn lead(
        &mut self,
        stop: impl Future<Output = ()>,
        recorder: &mut Recorder,
        on_progress: &mut impl FnMut(&Progress),
    ) -> RunOutcome {
        let mut outcome = RunOutcome::default();
        let mut progress = Progress {
            planned: self.plan.end,
            users: self.plan.peak_of_shard,
            ..Progress::default()
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = pin!(stop);
        let alone = self.plan.shard.is_whole();
        let end = self.epoch + self.plan.end;
        // Shortly after the workers hand over their slices at whole seconds.
        let mut next_look = Duration::from_millis(1100);
        let mut look = |workers: &Self, outcome: &mut RunOutcome, on: bool| {
            let now = workers.epoch.elapsed();
            let counters = workers.counters.iter().map(Arc::as_ref);
            progress = Progress::read(counters, now, &progress);
            outcome.peak_users = outcome.peak_users.max(progress.connected);
            on_progress(&progress);
            progress.phase = match workers.plan.phase_at(now) {
                Some((phase, _)) if workers.plan.phases.len() > 1 => phase.name.clone(),
                _ => String::new(),
            };
            let ends = now >= next_look && recorder.tick(now, on);
            if let Some(second) = recorder.books.series.cells().next_back() {
                progress.matching = second.matching.quantiles();
                progress.message = second.message.quantiles();
                progress.own_lateness = second.lateness.quantiles();
            }
            let recent = || recorder.books.series.cells().rev().take(RECENT);
            progress.server_queue =
                recent().find_map(|second| second.now.transcribing().map(|it| it.queue));
            progress.server_rss_bytes =
                recent().find_map(|second| second.now.server.map(|it| it.rss_bytes));
            while next_look <= now {
                next_look += Duration::from_secs(1);
            }
            // Users of other shards may still send to these.
            let awaited = !alone || progress.in_flight() > 0;
            (alone && progress.settled(), ends, awaited)
        };
        loop {
            tokio::select! {
                _ = ticks.tick() => if look(self, &mut outcome, true).1 { outcome.interrupted = true; break },
                () = tokio::time::sleep_until(end) => break,
                () = &mut stop => { outcome.interrupted = true; break }
            }
        }
        outcome.active = self.epoch.elapsed();
        self.state.send_replace(RunState::Draining);
        let settling_from = Instant::now();
        ticks.reset();
        // An answer to a request may take an hour; the run waits in full only for messages.
        while let (false, _, awaited) = look(self, &mut outcome, false)
            && settling_from.elapsed() < settling(&self.plan, awaited)
        {
            ticks.tick().await;
        }
        self.state.send_replace(RunState::Closing);
        // Each worker drops its counters at its end.
        while self
            .counters
            .iter()
            .any(|counters| Arc::strong_count(counters) > 1)
        {
            ticks.tick().await;
            look(self, &mut outcome, false);
        }
        outcome
    }

    /// Waits for the workers. Returns the CPU of the busiest one, in percent.
    async fn collect(&mut self) -> Result<f64, RunError> {
        let mut busiest = 0.0_f64;
        for result in self.results.drain(..) {
            let died = "it panicked, which is a fault in loadtest: please report the message above";
            let ended = result.await.map_err(|_gone| io::Error::other(died));
            let done = ended.and_then(|done| done).map_err(RunError::Worker)?;
            busiest = busiest.max(done.cpu_percent);
        }
        Ok(busiest)
    }
}
