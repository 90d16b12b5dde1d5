//! File descriptors. Each connection takes one; when they run out, a few that were kept back let operators and
//! health checks in, and tell newcomers that there is no room.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit, setrlimit},
};

/// Descriptors that are not for connections: listeners, runtimes, the admin address, the reserves.
const OTHER_USES: usize = 128;

/// Raises the limit on open files as far as the system allows. Returns the limit.
pub fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX))
}

/// The connections for which there are descriptors, if `open_files` is the limit on open files.
pub fn connections(open_files: usize) -> usize {
    open_files - OTHER_USES.min(open_files / 2)
}

/// Whether an error says that there are no descriptors, or no memory of the kernel for one.
pub fn have_run_out(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// How often it is logged that descriptors have run out.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Descriptors that are kept back for a listener.
pub struct Reserve {
    kept: Vec<OwnedFd>,
    size: usize,
    logged: Option<Instant>,
}

impl Reserve {
    /// Keeps `size` descriptors back, or an eighth of the limit on open files if that is less.
    pub fn new(size: usize) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let size = size.min(usize::try_from(limit / 8).unwrap_or(usize::MAX));
        let kept: Vec<OwnedFd> = (0..size).map_while(|_| spare().ok()).collect();
        Self {
            size: kept.len(),
            kept,
            logged: None,
        }
    }

    /// Takes back what was lent, as far as there is some. True if all of it is kept back again.
    pub fn is_whole(&mut self) -> bool {
        while self.kept.len() < self.size {
            let Ok(descriptor) = spare() else {
                return false;
            };
            self.kept.push(descriptor);
        }
        true
    }

    /// Gives up to `count` descriptors free, as an accept has failed with `error`: one for the connection, and others
    /// for its requests. False if none is left. Another listener may take them first.
    pub fn lend(&mut self, error: &io::Error, count: usize) -> bool {
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            tracing::warn!(%error, "out of descriptors; raise the limit on open files or lower --max-connections");
        }
        let left = self.kept.len().saturating_sub(count);
        let some = !self.kept.is_empty();
        self.kept.truncate(left);
        some
    }
}

fn spare() -> io::Result<OwnedFd> {
    io::stderr().as_fd().try_clone_to_owned()
}
