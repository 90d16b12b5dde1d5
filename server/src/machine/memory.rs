//! The memory that this process may use.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A quarter of the memory that this process may use: the rest is for connections that wait for nothing, for
/// the kernel's buffers, and for what the allocator keeps.
pub fn default_limit() -> usize {
    const UNKNOWN: u64 = 1 << 30;
    let available = available().unwrap_or(UNKNOWN);
    usize::try_from(available / 4).unwrap_or(usize::MAX)
}

/// The memory of the machine, or of the container if that is less.
pub fn available() -> io::Result<u64> {
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
    fn this_process_may_use_some_memory() {
        assert!(default_limit() > 1 << 20);
    }
}
