//! What the kernel says of this process, read from `/proc/self` (see proc(5)).

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::{
    fs::{CWD, Dir, Mode, OFlags, openat},
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Bytes of `/proc/self/stat` at most: 52 numbers and a name.
const STAT_BYTES: usize = 2048;

/// What is kept open, so that the figures can be read when descriptors have run out.
struct Proc {
    stat: File,
    fds: Mutex<Dir>,
}

impl Proc {
    fn open() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = openat(CWD, "/proc/self/fd", flags, Mode::empty()).ok()?;
        Some(Self {
            stat: File::open("/proc/self/stat").ok()?,
            fds: Mutex::new(Dir::new(fds).ok()?),
        })
    }

    fn get() -> Option<&'static Self> {
        static PROC: OnceLock<Option<Proc>> = OnceLock::new();
        PROC.get_or_init(Self::open).as_ref()
    }

    fn stat(&self) -> Option<String> {
        let mut stat = [0; STAT_BYTES];
        let length = self.stat.read_at(&mut stat, 0).ok()?;
        Some(String::from_utf8_lossy(stat.get(..length)?).into_owned())
    }

    fn open_fds(&self) -> Option<u64> {
        let mut fds = self.fds.lock().unwrap_or_else(PoisonError::into_inner);
        fds.rewind();
        let mut count = 0;
        while let Some(entry) = fds.read() {
            let name = entry.ok()?;
            let is_number = name.file_name().to_bytes().iter().all(u8::is_ascii_digit);
            count += u64::from(is_number);
        }
        Some(count)
    }
}

/// Opens what the figures are read from, while there are descriptors.
pub(super) fn prepare() {
    Proc::get();
    boot_time();
}

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
        let proc = Proc::get()?;
        let stat = proc.stat()?;
        // The second field is the program's name in brackets and may hold spaces: count from behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
            threads: field(20)?,
            start_time_seconds: boot_time()? + field(22)? as f64 / ticks,
            resident_bytes: field(24)? * page_size() as u64,
            open_fds: proc.open_fds()?,
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        })
    }
}

/// When the machine started, in seconds since 1970.
fn boot_time() -> Option<f64> {
    static BOOT: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
    })
}
