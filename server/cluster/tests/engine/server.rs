//! An engine of the test's own, in its own folder, on its own port. Killed when dropped.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use redis::{Cmd, Value};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use voicematch_cluster::Settings;

use crate::support::{PATIENCE, eventually};

/// What a node may do, and nothing more: as operators are told.
const USERS: &str = include_str!("../../../../deploy/valkey/users.acl");

/// After the user's password. `cluster|slots` is for a Redis Cluster.
fn rights() -> String {
    let user = USERS
        .lines()
        .find_map(|line| line.strip_prefix("user vm on "));
    let (_, rights) = user.and_then(|user| user.split_once(' ')).expect("a user");
    format!("{rights} +cluster|slots")
}

pub(crate) const PASSWORD: &str = "s3cr3t";

pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    extra: String,
    process: Option<Child>,
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Server {
    /// Starts one that takes connections.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with further lines in its configuration.
    pub(crate) async fn start_with(extra: &str) -> Self {
        let mut server = Self::stopped(extra);
        server.run().await;
        server
    }

    /// One that does not run yet.
    pub(crate) fn stopped(extra: &str) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            port: free_port(),
            extra: extra.to_owned(),
            process: None,
        }
    }

    pub(crate) async fn run(&mut self) {
        let config = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsave \"\"\nappendonly no\nuser vm on >{PASSWORD} {}\n{}\n",
            self.port,
            self.dir.path().display(),
            rights(),
            self.extra
        );
        let file = self.dir.path().join("engine.conf");
        fs::write(&file, config).expect("written");
        let program = std::env::var("CLUSTER_ENGINE").unwrap_or_else(|_| "redis-server".to_owned());
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        let process = Command::new(program)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("Debian's package redis-server"));
        eventually("the engine answers", async || {
            self.ask("PING").await.is_ok()
        })
        .await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        let pid = Pid::from_raw(process.id().cast_signed()).expect("a process");
        kill_process(pid, signal).expect("signalled");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("killed");
            process.wait().expect("ended");
        }
    }

    /// A command of the test's, split at spaces, as the user who may do everything.
    pub(crate) async fn ask(&self, command: &str) -> redis::RedisResult<Value> {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            cmd.arg(word);
        });
        self.run_cmd(&cmd).await
    }

    pub(crate) async fn run_cmd(&self, cmd: &Cmd) -> redis::RedisResult<Value> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        let asked = async {
            cmd.query_async(&mut client.get_multiplexed_async_connection().await?)
                .await
        };
        tokio::time::timeout(PATIENCE, asked)
            .await
            .expect("answered")
    }

    /// For what is not about time, on a machine that does other things, too.
    pub(crate) fn patient(&self) -> Settings {
        self.settings().call_timeout(PATIENCE)
    }

    pub(crate) fn settings(&self) -> Settings {
        settings_at(self.port)
    }
}

pub(crate) fn settings_at(port: u16) -> Settings {
    Settings::new(&format!("redis://vm:{PASSWORD}@127.0.0.1:{port}"), "vm").expect("settings")
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // A stopped process is killed, too.
            let _ = (process.kill(), process.wait());
        }
    }
}
