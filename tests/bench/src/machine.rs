//! What this program takes of the machine: which CPU, which priority, how many open files.

use rustix::{
    process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{Problem, options::Common};

/// Open files that are no user's: the poll, the log, `/proc`.
const RESERVE: u64 = 64;

/// Where the server and this program run.
#[derive(Debug)]
pub(crate) struct Places {
    /// The server's CPUs, and this program's.
    cpus: Option<(Vec<usize>, usize)>,
}

impl Places {
    /// The first CPUs that this program may use for the server, the next, or else the last, for itself, if
    /// there are two. `nice` holds for both.
    pub(crate) fn choose(common: &Common) -> Result<Self, Problem> {
        if let Some(nice) = common.nice {
            setpriority_process(None, nice).map_err(|error| {
                Problem::new(format!("--nice {nice}: {error}; below 0 needs root"))
            })?;
        }
        let allowed = sched_getaffinity(None).unwrap_or_default();
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let server: Vec<_> = allowed
            .by_ref()
            .take(usize::from(common.server_cpus))
            .collect();
        let own = allowed.next().or(server.last().copied());
        let enough = server.len() == usize::from(common.server_cpus);
        if !enough && !common.no_pin {
            return Err(Problem::new(format!(
                "--server-cpus {}: this program may use {} only",
                common.server_cpus,
                server.len()
            )));
        }
        let cpus = own
            .map(|own| (server, own))
            .filter(|(server, own)| !common.no_pin && (server.len() > 1 || !server.contains(own)));
        let places = Self { cpus };
        places.go_home()?;
        Ok(places)
    }

    /// Whether the server has its CPUs to itself: only then may this program poll without sleeping.
    pub(crate) fn apart(&self) -> bool {
        self.cpus
            .as_ref()
            .is_some_and(|(server, own)| !server.contains(own))
    }

    /// Runs `spawn` on the server's CPUs: a child stays where it was started.
    pub(crate) fn on_server_cpus<T>(&self, spawn: impl FnOnce() -> T) -> Result<T, Problem> {
        if let Some((server, _)) = &self.cpus {
            go(server)?;
        }
        let spawned = spawn();
        self.go_home()?;
        Ok(spawned)
    }

    /// In words, for the report.
    pub(crate) fn describe(&self) -> String {
        match &self.cpus {
            Some((server, own)) if server.contains(own) => {
                format!("server on CPUs {server:?}, generator on CPU {own}, which it shares")
            }
            Some((server, own)) => format!("server on CPUs {server:?}, generator on CPU {own}"),
            None => "not pinned: server and generator share the CPUs".into(),
        }
    }

    fn go_home(&self) -> Result<(), Problem> {
        match &self.cpus {
            Some((_, own)) => go(&[*own]),
            None => Ok(()),
        }
    }
}

fn go(cpus: &[usize]) -> Result<(), Problem> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).map_err(|error| {
        Problem::new(format!(
            "cannot run on CPUs {cpus:?} only ({error}); try --no-pin"
        ))
    })
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
