//! What the kernel says about a process: memory and CPU time, from `/proc`.

use std::{fs, io};

use crate::{
    Problem,
    clock::{SECOND, now},
};

/// CPU time of the server and of this program up to a moment, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    at: u64,
    server: Times,
    own: Times,
}

/// Time on a CPU, and time runnable but waiting for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    ran: u64,
    waited: u64,
}

/// What was used between two samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    from: Sample,
    to: Sample,
}

impl Sample {
    /// Now, with the server's times up to now.
    pub(crate) fn take(server: u32) -> Result<Self, Problem> {
        let own = fs::read_to_string("/proc/thread-self/schedstat").and_then(|text| times(&text));
        let own = own.map_err(|error| unreadable("this program's CPU time", &error))?;
        Ok(Self {
            server: server_times(server)?,
            own,
            at: now(),
        })
    }

    /// From this moment until now.
    pub(crate) fn until_now(self, server: u32) -> Result<Window, Problem> {
        let to = Self::take(server)?;
        Ok(Window { from: self, to })
    }
}

impl Window {
    /// How long it was, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        (self.to.at - self.from.at).max(1) as f64 / SECOND as f64
    }

    /// Server CPU for each of `count` things, in microseconds.
    pub(crate) fn cpu_us_each(&self, count: u64) -> f64 {
        let ran = self.to.server.ran.saturating_sub(self.from.server.ran);
        ran as f64 / 1e3 / count.max(1) as f64
    }

    /// How busy the server was, in percent of one CPU.
    pub(crate) fn server_percent(&self) -> f64 {
        self.percent(self.to.server.ran, self.from.server.ran)
    }

    /// How long the server's threads waited for a CPU, together, in percent of the time.
    pub(crate) fn server_wait_percent(&self) -> f64 {
        self.percent(self.to.server.waited, self.from.server.waited)
    }

    /// How busy this program was, in percent of one CPU.
    pub(crate) fn own_percent(&self) -> f64 {
        self.percent(self.to.own.ran, self.from.own.ran)
    }

    /// How long this program waited for a CPU, in percent of the time.
    pub(crate) fn own_wait_percent(&self) -> f64 {
        self.percent(self.to.own.waited, self.from.own.waited)
    }

    fn percent(&self, to: u64, from: u64) -> f64 {
        100.0 * to.saturating_sub(from) as f64 / 1e9 / self.seconds()
    }
}

/// Resident memory, in bytes.
///
/// From `smaps_rollup`, which counts; `status` is off by up to 32 pages for each CPU.
pub(crate) fn rss(pid: u32) -> Result<u64, Problem> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let found = rollup.ok().and_then(|text| kib(&text, "Rss:"));
    let found = found.or_else(|| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        kib(&status, "VmRSS:")
    });
    found.map(|kib| kib * 1024).ok_or_else(gone)
}

/// The value of a line such as `Rss:    1234 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn server_times(pid: u32) -> Result<Times, Problem> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| gone())?;
    let mut sum = Times::default();
    let mut any = false;
    for task in tasks.flatten() {
        // A thread may end between the two looks.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
            continue;
        };
        let task = times(&text).map_err(|error| unreadable("the server's CPU time", &error))?;
        sum.ran += task.ran;
        sum.waited += task.waited;
        any = true;
    }
    if any { Ok(sum) } else { Err(gone()) }
}

fn times(schedstat: &str) -> io::Result<Times> {
    let mut fields = schedstat.split_whitespace().map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(ran)), Some(Ok(waited))) => Ok(Times { ran, waited }),
        _ => Err(io::Error::other("not two numbers")),
    }
}

fn gone() -> Problem {
    Problem::new(
        "the server's figures in /proc cannot be read: it has exited, or belongs to another user",
    )
}

fn unreadable(what: &str, error: &io::Error) -> Problem {
    Problem::new(format!(
        "{what} cannot be read from /proc/.../schedstat ({error}): this needs a Linux kernel with CONFIG_SCHED_INFO"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let Ok(start) = Sample::take(pid) else {
            return; // no schedstat here
        };
        let until = now() + 20_000_000;
        while now() < until {
            std::hint::spin_loop();
        }
        let window = start.until_now(pid).expect("it was there before");
        assert!(window.seconds() >= 0.02);
        assert!(window.own_percent() <= 101.0, "{window:?}");
        assert!(rss(pid).is_ok_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn lines_of_proc_are_read() {
        assert_eq!(
            kib("Name:\tx\nRss:     4321 kB\nPss: 1 kB\n", "Rss:"),
            Some(4321)
        );
        assert_eq!(kib("Pss: 1 kB\n", "Rss:"), None);
        let read = times("12 34 5\n").ok();
        assert_eq!(
            read,
            Some(Times {
                ran: 12,
                waited: 34
            })
        );
        assert!(times("12").is_err());
    }

    #[test]
    fn nobody_has_no_figures() {
        assert!(rss(0).is_err() && Sample::take(0).is_err());
    }
}
