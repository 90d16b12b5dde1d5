//! What this program takes of the machine: which CPU, which priority, how many open files.

use rustix::{
    process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::Problem;

/// Open files that are no user's: the poll, the log, `/proc`.
const RESERVE: u64 = 64;

/// Where the server and this program run.
#[derive(Debug)]
pub(crate) struct Places {
    cpus: Option<(usize, usize)>,
}

impl Places {
    /// The first CPU that this program may use for the server, the next for itself, if there are two.
    /// `nice` holds for both.
    pub(crate) fn choose(no_pin: bool, nice: Option<i32>) -> Result<Self, Problem> {
        if let Some(nice) = nice {
            setpriority_process(None, nice).map_err(|error| {
                Problem::new(format!("--nice {nice}: {error}; below 0 needs root"))
            })?;
        }
        let allowed = sched_getaffinity(None).unwrap_or_default();
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let cpus = allowed.next().zip(allowed.next()).filter(|_| !no_pin);
        let places = Self { cpus };
        places.go(places.cpus.map(|(_, own)| own))?;
        Ok(places)
    }

    /// Whether the server has a CPU that this program does not use: only then may it poll without sleeping.
    pub(crate) fn apart(&self) -> bool {
        self.cpus.is_some()
    }

    /// Runs `spawn` on the server's CPU: a child stays where it was started.
    pub(crate) fn on_server_cpu<T>(&self, spawn: impl FnOnce() -> T) -> Result<T, Problem> {
        self.go(self.cpus.map(|(server, _)| server))?;
        let spawned = spawn();
        self.go(self.cpus.map(|(_, own)| own))?;
        Ok(spawned)
    }

    /// In words, for the report.
    pub(crate) fn describe(&self) -> String {
        match self.cpus {
            Some((server, own)) => format!("server on CPU {server}, generator on CPU {own}"),
            None => "not pinned: server and generator share the CPUs".into(),
        }
    }

    fn go(&self, cpu: Option<usize>) -> Result<(), Problem> {
        let Some(cpu) = cpu else {
            return Ok(());
        };
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).map_err(|error| {
            Problem::new(format!(
                "cannot run on CPU {cpu} only ({error}); try --no-pin"
            ))
        })
    }
}

/// Raises the soft limit of open files, which the server inherits, and checks that `users` fit.
pub(crate) fn allow_open_files(users: usize) -> Result<(), Problem> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let fit = current.unwrap_or(u64::MAX).saturating_sub(RESERVE);
    if users as u64 <= fit {
        return Ok(());
    }
    Err(Problem::new(format!(
        "{users} users need as many open files, and this process may have {fit}: \
         ask for fewer --users, or raise the limit (ulimit -Hn, as root)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_users_than_files_are_refused_with_advice() {
        assert!(allow_open_files(2).is_ok());
        if let Err(problem) = allow_open_files(usize::MAX) {
            assert!(problem.to_string().contains("--users"), "{problem}");
        }
    }
}
