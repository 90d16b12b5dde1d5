//! A PostgreSQL server of a test's own: Debian's package `postgresql`.
//!
//! It panics where something is wrong, as tests do.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

/// The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listens on a Unix socket in its folder only, so that it needs no port. Ended when dropped.
#[derive(Debug)]
pub struct Postgres {
    dir: TempDir,
    process: Option<Child>,
}

impl Postgres {
    /// A new cluster, and its server, which takes connections.
    pub async fn start() -> Self {
        // The path of a socket has at most 107 bytes: the target's folder may be too deep.
        let dir = tempfile::tempdir().expect("a folder");
        if let Some((uid, gid)) = postgres_user() {
            chown(dir.path(), Some(uid), Some(gid)).expect("a folder of the user postgres");
        }
        let mut server = Self { dir, process: None };
        let mut initdb = server.command("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--no-sync", "-D"]);
        let made = initdb.arg(server.data()).output().await;
        let made = made.expect("initdb: Debian's package postgresql");
        assert!(made.status.success(), "{made:?}");
        server.run();
        server.is_ready().await;
        server
    }

    /// Starts the server that is not running.
    pub fn run(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        let mut server = self.command("postgres");
        for setting in [
            "listen_addresses=",
            "shared_buffers=16MB",
            "max_connections=30",
        ] {
            server.args(["-c", setting]);
        }
        server.arg("-D").arg(self.data());
        server.arg("-k").arg(self.dir.path()).stderr(log);
        self.process = Some(server.spawn().expect("a server"));
    }

    /// Returns when it takes connections.
    pub async fn is_ready(&self) {
        let asking = async {
            while !self.try_ask("SELECT 1").await.status.success() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let ready = timeout(PATIENCE, asking).await;
        ready.expect("PostgreSQL takes connections");
    }

    /// For `--database`. The database that is always there is `postgres`.
    pub fn url(&self, database: &str) -> String {
        let folder = self.dir.path().display();
        format!("postgres://postgres@localhost/{database}?host={folder}")
    }

    /// What it answers to this SQL: the columns of a row are divided by `|`.
    pub async fn ask(&self, sql: &str) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.try_ask(sql).await;
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{sql}: {said}");
        String::from_utf8_lossy(&stdout).trim().to_owned()
    }

    async fn try_ask(&self, sql: &str) -> Output {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-t", "-A", "-U", "postgres", "-c", sql, "-h"]);
        psql.arg(self.dir.path());
        psql.output().await.expect("psql")
    }

    /// From now on, or not, it takes no writes, as after a failover to a standby. The server's present connections
    /// are ended, as they are then.
    pub async fn set_read_only(&self, value: bool) {
        let value = if value { "on" } else { "off" };
        let setting = "default_transaction_read_only";
        self.ask(&format!("ALTER SYSTEM SET {setting} = {value}"))
            .await;
        self.ask("SELECT pg_reload_conf()").await;
        let seen = async {
            while self.ask(&format!("SHOW {setting}")).await != value {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, seen).await.expect("it is set");
        self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voicematch'")
            .await;
    }

    /// Sends a signal to the server and to each of its processes, which have sessions of their own.
    pub fn signal(&self, signal: Signal) {
        let Some(own) = self.process.as_ref().and_then(Child::id) else {
            return;
        };
        let own = own.cast_signed();
        for pid in children(own).into_iter().chain([own]) {
            if let Some(pid) = Pid::from_raw(pid) {
                // A child may have ended meanwhile.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended();
        // Left by the dead one, with a lock that the next server would look at.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Ends those of its processes that serve voicematch, as a crash would. The server then ends all others, repairs its
    /// files and goes on by itself.
    pub async fn kill_backends(&self) {
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'voicematch'";
        let pids = self.ask(sql).await;
        for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
            if let Some(pid) = Pid::from_raw(pid) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Ends it in order, without waiting for its clients.
    pub fn stop(&mut self) {
        self.signal(Signal::CONT);
        let process = self.process.as_ref().and_then(Child::id);
        if let Some(pid) = process.and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, Signal::INT);
        }
        self.ended();
    }

    /// Waits for its end, on this thread: `drop` cannot wait otherwise.
    fn ended(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let until = Instant::now() + PATIENCE;
        while matches!(process.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let _ = process.start_kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(binaries().join(program));
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some((uid, gid)) = postgres_user() {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// PostgreSQL's programs, of the newest version.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("Debian's package postgresql");
    let newest = versions.flatten().map(|entry| entry.path()).max();
    newest.expect("a version of PostgreSQL").join("bin")
}

/// Whom root runs the server as, since it refuses root.
fn postgres_user() -> Option<(u32, u32)> {
    if !getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let mut lines = users.lines();
    let line = lines.find_map(|line| line.strip_prefix("postgres:"));
    let mut fields = line.expect("the user postgres").split(':').skip(1);
    let mut id = || fields.next()?.parse().ok();
    Some((id()?, id()?))
}

/// The processes that a process has started.
fn children(of: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent(Path::new(&format!("/proc/{pid}/stat"))) == Some(of))
        .collect()
}

fn parent(stat: &Path) -> Option<i32> {
    let stat = fs::read_to_string(stat).ok()?;
    // After the name in brackets: the state, and the parent.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
