//! Signals that end a run.

use std::{fs, io};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{cli::screen::Screen, record::Exit};

/// Whether a signal has asked the run to end.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Starts to listen. SIGINT, SIGTERM and SIGHUP end the run, with its reports. A second SIGINT or SIGTERM
    /// ends the process at once. A second SIGHUP does not: the kernel, the shell and systemd each send one when a
    /// terminal closes.
    ///
    /// # Errors
    /// The system does not let this process listen.
    pub fn listen(screen: &Screen) -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = match ignores_hangup() {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        let (stop, asked) = watch::channel(false);
        let screen = screen.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = received(&mut hangup) => {}
            }
            screen.note(
                "ending early: closing all users; a second Ctrl-C ends at once, without a report",
            );
            stop.send_replace(true);
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(Exit::Killed.code().into());
        });
        Ok(Self(asked))
    }

    /// Whether the run has been asked to end.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Ready when the run is asked to end.
    pub async fn asked(mut self) {
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

async fn received(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => _ = hangup.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether this process was started to outlive its terminal, as with `nohup`.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The first bit is signal 1, SIGHUP.
    ignored.is_some_and(|mask| mask & 1 == 1)
}
