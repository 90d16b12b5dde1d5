//! A thread that plays its part of the users, and counts their samples without a lock.

use std::{
    cell::RefCell,
    io,
    panic::resume_unwind,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    sync::{oneshot, watch},
    task::{JoinError, JoinSet, LocalSet},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    base::machine::cpu_seconds,
    measure::{sample::Sample, slice::Slice},
    plan::ResolvedPlan,
    run::progress::Counters,
    user::{
        WorkerContext,
        clock::{
            pacer::Pacer,
            stall::{BEAT, Pulse},
        },
        net::servers::Servers,
        play,
        run_state::{RunState, reached},
        talk::Talks,
    },
};

/// The inputs of a worker.
pub struct Job {
    pub plan: Arc<ResolvedPlan>,
    pub servers: Arc<Servers>,
    pub run: u32,
    pub epoch: Instant,
    pub state: watch::Receiver<RunState>,
    pub counters: Arc<Counters>,
    pub talks: Arc<Talks>,
    /// The channel for the measurements of each second.
    pub slices: mpsc::Sender<Slice>,
    /// Plays users `first`, `first + step`, ...
    pub first: u32,
    pub step: u32,
}

/// The result of a worker.
pub struct WorkerResult {
    /// Its CPU, in percent of one core.
    pub cpu_percent: f64,
}

/// Starts a worker. The receiver gets its result, or an error if it panicked.
///
/// # Errors
/// The system refuses a thread or a runtime.
pub fn start(job: Job) -> io::Result<oneshot::Receiver<io::Result<WorkerResult>>> {
    let (done, result) = oneshot::channel();
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    thread::Builder::new()
        .name(format!("loadtest-{}", job.first))
        .spawn(move || {
            // The receiver is gone if the run was dropped.
            let _ = done.send(LocalSet::new().block_on(&runtime, run(job)));
        })?;
    Ok(result)
}

async fn run(job: Job) -> io::Result<WorkerResult> {
    let (cpu, started) = (cpu_seconds(true), Instant::now());
    let slice = Rc::new(RefCell::new(Slice::default()));
    let sink = {
        let slice = Rc::clone(&slice);
        let (counters, epoch) = (job.counters, job.epoch);
        Box::new(move |sample| {
            counters.add(&sample);
            slice.borrow_mut().add(epoch.elapsed(), sample);
        })
    };
    let context = Rc::new(WorkerContext {
        plan: job.plan,
        servers: job.servers,
        epoch: job.epoch,
        run: job.run,
        state: job.state,
        sink,
        pacer: Pacer::new()?,
        pulse: Pulse::default(),
        talks: job.talks,
    });
    let show_pulse = || {
        if let Some(time) = context.pulse.beat(context.epoch.elapsed()) {
            (context.sink)(Sample::Paused { time });
        }
    };
    // The receiver is gone if the run was dropped.
    let hand_over = || _ = job.slices.send(slice.take());
    tokio::select! {
        () = play_all(&context, job.first, job.step) => {}
        () = every(Duration::from_secs(1), job.epoch, hand_over) => {}
        () = every(BEAT, job.epoch, show_pulse) => {}
        broken = context.pacer.run() => broken?,
    }
    hand_over();
    let busy = cpu_seconds(true) - cpu;
    let seconds = started
        .elapsed()
        .max(Duration::from_millis(1))
        .as_secs_f64();
    Ok(WorkerResult {
        cpu_percent: busy * 100.0 / seconds,
    })
}

/// Calls `act` at every whole `period` of the run, forever.
async fn every(period: Duration, epoch: Instant, act: impl Fn()) {
    let mut ticks = interval_at(epoch + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        act();
    }
}

/// Starts each user in turn, and waits until all are gone.
async fn play_all(context: &Rc<WorkerContext>, first: u32, step: u32) {
    let mut users = JoinSet::new();
    let starting = async {
        for start in context.plan.starts(first, step) {
            sleep_until(context.epoch + start.at).await;
            users.spawn_local(play(start, Rc::clone(context)));
            // Ended users are forgotten: users may come and go for days.
            while let Some(gone) = users.try_join_next() {
                end(gone);
            }
        }
    };
    tokio::select! {
        () = starting => {}
        () = reached(&context.state, RunState::Draining) => {}
    }
    while let Some(gone) = users.join_next().await {
        end(gone);
    }
}

/// A user who panicked has recorded no failure: the run must not pass without that user.
fn end(gone: Result<(), JoinError>) {
    if let Err(error) = gone
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "a bug")]
    async fn a_user_who_panics_takes_the_worker_along() {
        end(tokio::spawn(async {}).await);
        end(tokio::spawn(async { panic!("a bug") }).await);
    }
}
