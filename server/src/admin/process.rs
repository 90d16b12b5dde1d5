//! What the kernel says of this process, read from `/proc/self` (see proc(5)).

use std::{fs, sync::OnceLock};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// The process as it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// User and system time together, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes; shared pages count.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// The soft limit on open file descriptors.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When the process started, in seconds since 1970.
    pub start_time_seconds: f64,
}

impl Usage {
    /// Reads it; `None` where there is no `/proc`.
    pub(super) fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in brackets and may hold spaces: count from behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
            threads: field(20)?,
            start_time_seconds: boot_time()? + field(22)? as f64 / ticks,
            resident_bytes: field(24)? * page_size() as u64,
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        })
    }
}

fn boot_time() -> Option<f64> {
    static BOOT: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
    })
}
