//! The memory that connections use together for unfinished messages, outboxes and handshakes. Each of them has
//! limits of its own; the sum of all is what could bring the process down.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use prometheus::IntGauge;
use tokio::sync::Notify;

/// Bytes in use, and their limit.
pub struct Memory {
    limit: usize,
    used: IntGauge,
    exceeded: Notify,
}

impl Memory {
    /// Counts in `used`.
    pub fn new(limit: usize, used: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used,
            exceeded: Notify::new(),
        })
    }

    /// The most bytes that should be in use.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether more bytes are in use than should be.
    pub fn is_exceeded(&self) -> bool {
        usize::try_from(self.used.get()).is_ok_and(|used| used > self.limit)
    }

    /// Waits until it is.
    pub async fn exceeded(&self) {
        while !self.is_exceeded() {
            self.exceeded.notified().await;
        }
    }

    fn change(&self, from: usize, to: usize) {
        self.used.add(to as i64 - from as i64);
        if to > from && self.is_exceeded() {
            self.exceeded.notify_one();
        }
    }
}

/// What one connection uses. Dropping it gives everything back.
pub struct Share {
    memory: Arc<Memory>,
    bytes: AtomicUsize,
}

impl Share {
    /// `bytes` are in use from the start.
    pub fn new(memory: Arc<Memory>, bytes: usize) -> Self {
        memory.change(0, bytes);
        Self {
            memory,
            bytes: AtomicUsize::new(bytes),
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A part of the connection uses `to` bytes now, and used `from` before.
    pub fn change(&self, from: usize, to: usize) {
        if from != to {
            // Wraps around, as the sum is never negative.
            self.bytes
                .fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
            self.memory.change(from, to);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.change(self.bytes(), 0);
    }
}

/// A quarter of the memory that this process may use: the rest is for connections that wait for nothing, for
/// the kernel's buffers, and for what the allocator keeps.
pub fn default_limit() -> usize {
    const UNKNOWN: u64 = 1 << 30;
    let available = available().unwrap_or(UNKNOWN);
    usize::try_from(available / 4).unwrap_or(usize::MAX)
}

/// The memory of the machine, or of the container if that is less.
fn available() -> io::Result<u64> {
    let machine = fs::read_to_string("/proc/meminfo")?;
    let total = machine.lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
        Some(kib.parse::<u64>().ok()? * 1024)
    });
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let limits = groups.lines().flat_map(group_limits);
    let least = limits.chain(total).min();
    least.ok_or_else(|| io::Error::other("no total in /proc/meminfo"))
}

/// The limits of a control group and of those that it is in, from a line of `/proc/self/cgroup` (see
/// cgroups(7)).
fn group_limits(line: &str) -> Vec<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (root, file) = match fields.next() {
        Some("") => ("/sys/fs/cgroup", "memory.max"),
        Some("memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let path = fields.next().unwrap_or_default().trim_start_matches('/');
    let group: PathBuf = Path::new(root).join(path);
    // "max", or a directory that a container does not see: no limit from there.
    let limit = |group: &Path| {
        fs::read_to_string(group.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let within = group
        .ancestors()
        .take_while(|group| group.starts_with(root));
    within.filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_uses_is_counted_until_it_ends() {
        let used = IntGauge::new("used", "Bytes.").expect("a name");
        let memory = Memory::new(100, used.clone());
        let (first, second) = (
            Share::new(memory.clone(), 60),
            Share::new(memory.clone(), 0),
        );
        second.change(0, 50);
        assert!(memory.is_exceeded());
        second.change(50, 10);
        assert_eq!((second.bytes(), used.get()), (10, 70));
        drop((first, second));
        assert_eq!(used.get(), 0);
    }

    #[test]
    fn this_process_may_use_some_memory() {
        assert!(default_limit() > 1 << 20);
    }
}
