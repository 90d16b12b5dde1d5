//! Ctrl-C and SIGTERM: no server is left behind.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::Problem;

/// The process id of the server that runs; 0: none does.
static SERVER: AtomicI32 = AtomicI32::new(0);

/// From now on, the server that an interrupt kills.
pub(crate) fn guard(server: u32) {
    SERVER.store(i32::try_from(server).unwrap_or(0), Ordering::SeqCst);
}

/// From now on, there is none.
pub(crate) fn unguard() {
    SERVER.store(0, Ordering::SeqCst);
}

/// Starts a thread that waits for a signal, kills the server and ends the program.
pub(crate) fn watch() -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let runtime = runtime.map_err(|error| Problem::new(format!("no signals: {error}")))?;
    thread::spawn(move || {
        runtime.block_on(wait());
        if let Some(server) = Pid::from_raw(SERVER.swap(0, Ordering::SeqCst)) {
            // It may have ended by itself.
            let _ = kill_process(server, Signal::KILL);
        }
        std::process::exit(130);
    });
    Ok(())
}

async fn wait() {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        // Without handlers the signals end the program as they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
