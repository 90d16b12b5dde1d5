//! A PostgreSQL server of the test's own.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;
use voicematch_transcribe::store::{self, StoreError};

use crate::conformance::CHECKS;
use crate::support::{PATIENCE, soon};

/// Listens on a Unix socket in its folder only, so that it needs no port. Stopped when dropped.
pub(crate) struct Server {
    dir: TempDir,
    process: Option<Child>,
}

impl Server {
    /// A new cluster, and its server.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        if let Some((uid, gid)) = postgres_user() {
            chown(dir.path(), Some(uid), Some(gid)).expect("a folder of the user postgres");
        }
        let mut server = Self { dir, process: None };
        let made = server
            .command("initdb")
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .output()
            .expect("initdb: Debian's package postgresql");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        server.run();
        server
    }

    /// Starts the server that is not running.
    pub(crate) fn run(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        let process = self
            .command("postgres")
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "shared_buffers=16MB",
                "-c",
                "max_connections=30",
                "-k",
            ])
            .arg(self.dir.path())
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("a server"));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(binaries().join(program));
        command.arg("-D").arg(self.dir.path().join("data"));
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some((uid, gid)) = postgres_user() {
            command.uid(uid).gid(gid);
        }
        command
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@localhost/{database}?host={}",
            self.dir.path().display()
        )
    }

    /// A connection of the test's, as soon as the server takes one.
    pub(crate) async fn connect(&self) -> PgConnection {
        let options: PgConnectOptions = self.url("postgres").parse().expect("a URL");
        soon("the server is there", async {
            loop {
                match options.connect().await {
                    Ok(connection) => return connection,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await;
        done.expect("executed");
    }

    /// Sends a signal to the server and to each of its processes, which have sessions of their own.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(process) = &self.process else {
            return;
        };
        let own = process.id().cast_signed();
        for pid in children(own).into_iter().chain([own]) {
            if let Some(pid) = Pid::from_raw(pid) {
                // A child may have ended meanwhile.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut process) = self.process.take() {
            process.wait().expect("ended");
        }
        // Left by the dead one, with a lock that the next server would look at.
        let _ = fs::remove_file(self.dir.path().join("data/postmaster.pid"));
    }

    /// Ends it in order, without waiting for its clients.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::CONT);
        let Some(mut process) = self.process.take() else {
            return;
        };
        if let Some(pid) = Pid::from_raw(process.id().cast_signed()) {
            let _ = kill_process(pid, Signal::INT);
        }
        let until = Instant::now() + PATIENCE;
        while matches!(process.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl Drop for Server {
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
    let line = users
        .lines()
        .find_map(|line| line.strip_prefix("postgres:"));
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
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

#[tokio::test]
async fn postgresql_conforms() {
    let server = Server::start();
    for (name, check) in CHECKS {
        server.execute(&format!("CREATE DATABASE {name}")).await;
        let store = store::connect(&server.url(name), true).await;
        check(store.expect("a database")).await;
    }
}

#[tokio::test]
async fn what_postgresql_is_not_set_up_for() {
    let server = Server::start();
    drop(server.connect().await);
    let refused = |database: &'static str, migrate| {
        let url = server.url(database);
        async move {
            match store::connect(&url, migrate).await {
                Err(StoreError::Misconfigured(why)) => why,
                other => panic!("{:?}", other.err()),
            }
        }
    };
    assert!(refused("nowhere", true).await.contains("3D000"));
    assert!(
        refused("postgres", false)
            .await
            .contains("migrations are off")
    );
    // Three at once: one migrates, the others find nothing to do.
    let url = server.url("postgres");
    let all = tokio::join!(
        store::connect(&url, true),
        store::connect(&url, true),
        store::connect(&url, true)
    );
    for one in [all.0, all.1, all.2] {
        one.map(drop).expect("migrated");
    }
    store::connect(&url, false)
        .await
        .map(drop)
        .expect("nothing to do");
    server
        .execute("UPDATE voicematch_migrations SET version = 99")
        .await;
    assert!(refused("postgres", true).await.contains("version 99"));
    assert!(refused("postgres", false).await.contains("version 99"));
}
