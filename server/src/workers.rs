//! The threads that serve connections.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::{MissedTickBehavior, interval},
};
use voicematch_core::{metrics, pause};

use crate::transport::ws::sockets::Polling;

/// The threads that serve connections, each with a runtime of its own: a connection never moves between
/// them, and no task is woken on another thread to relay a message.
pub struct Workers {
    pub handles: Vec<Handle>,
    threads: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Workers {
    pub fn start(count: usize) -> std::io::Result<Self> {
        let mut workers = Self {
            handles: Vec::new(),
            threads: Vec::new(),
        };
        for index in 0..count.max(1) {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let polling = {
                let _context = runtime.enter();
                Polling::new()?
            };
            let (stop, stopped) = oneshot::channel();
            workers.handles.push(runtime.handle().clone());
            let run = move || {
                metrics::enter_worker(index);
                runtime.block_on(async {
                    tokio::select! {
                        // A dropped sender means stop too.
                        _ = stopped => {}
                        _ = polling.serve() => {}
                        () = every(pause::TICK, || pause::tick(Instant::now())) => {}
                    }
                });
            };
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(run)?;
            workers.threads.push((stop, thread));
        }
        Ok(workers)
    }

    /// Ends the threads, and every connection with them.
    pub fn stop(self) {
        for (stop, thread) in self.threads {
            let _ = stop.send(());
            // The thread ends at once; a panic is in the log already.
            let _ = thread.join();
        }
    }
}

/// Calls `act` at once and in each `period`, for ever.
pub async fn every(period: Duration, act: impl Fn()) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        act();
    }
}
