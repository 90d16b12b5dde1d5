//! File descriptors and memory of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything that is not a user: threads, metrics, the report.
const RESERVE: u64 = 64;

/// Raises the soft limit of open files to the hard one, and says how many users fit.
///
/// What is open already (a server in the same process, say) is taken off.
pub fn users_that_fit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it cannot be raised, what holds is the limit as it was.
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(u64::MAX, |limit| {
        limit.saturating_sub(RESERVE + open_files())
    })
}

/// Files that this process has open.
pub fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Files that this process may have open. `None`: no limit.
pub fn max_open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Resident memory of this process, in bytes. 0: unknown.
pub fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// CPU time of this process or, if `thread`, of the calling thread, in seconds.
pub fn cpu_seconds(thread: bool) -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    let clock = if thread {
        ClockId::ThreadCPUTime
    } else {
        ClockId::ProcessCPUTime
    };
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(rss_bytes() > 100_000, "{}", rss_bytes());
        let before = cpu_seconds(true);
        while cpu_seconds(true) - before < 0.01 {}
        assert!(cpu_seconds(false) >= 0.01);
    }
}
