//! The server as a process.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use rustix::process::Signal;

use super::{
    becomes, eventually,
    http::{self, Response},
    processes,
};

/// The program, with nothing in its environment that could change what is tested.
pub(crate) fn binary() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_voicematch-server")))
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if [
            "VOICEMATCH_",
            "OTEL_",
            "DATABASE_URL",
            "GLADIA_API_KEY",
            "TRANSCRIPTION_JWT_SECRET",
        ]
        .iter()
        .any(|prefix| name_text.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    // Not in the home folder of the user who runs the tests.
    command.env(
        "VOICEMATCH_STATE_DIR",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/state"),
    );
    command
}

/// A process whose output is kept. Dropping it kills the process.
pub(crate) struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// The lines that came through a pipe so far.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Lines {
    /// None for a stream that goes elsewhere.
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let filled = lines.clone();
        let reader = std::thread::spawn(move || {
            let lines = pipe
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).lines());
            for line in lines.map_while(Result::ok) {
                filled.lock().unwrap().push(line);
            }
        });
        Self { lines, reader }
    }

    fn so_far(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Process {
    pub(crate) fn spawn(command: Command) -> Self {
        Self::spawn_with(command, Stdio::piped(), Stdio::piped())
    }

    fn spawn_with(mut command: Command, stdout: Stdio, stderr: Stdio) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self {
            stdout: Lines::of(child.stdout.take()),
            stderr: Lines::of(child.stderr.take()),
            child,
        }
    }

    /// What it has written on stdout.
    pub(crate) fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// What it has written on stderr: its log.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        processes::signal(self.child.id(), signal);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end, and for all that it wrote; `None`: a signal ended it.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        eventually("the process ends", async || {
            self.has_ended() && self.stdout.reader.is_finished() && self.stderr.reader.is_finished()
        })
        .await;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either may fail because the process has ended already, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.stderr().join("\n"));
        }
    }
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) process: Process,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl TestServer {
    /// Starts the server with these flags, on free ports of loopback.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_command(binary(), "127.0.0.1:0", flags).await
    }

    /// Starts the server with these variables in its environment.
    pub(crate) async fn start_with_env(variables: &[(&str, &str)]) -> Self {
        let mut command = binary();
        command.envs(variables.iter().copied());
        Self::start_command(command, "127.0.0.1:0", &[]).await
    }

    /// Starts the server with at first `soft` open files allowed, and `hard` if it asks for more.
    pub(crate) async fn start_with_open_files(soft: usize, hard: usize, flags: &[&str]) -> Self {
        let mut shell = clean(Command::new("sh"));
        let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_voicematch-server")]);
        Self::start_command(shell, "127.0.0.1:0", flags).await
    }

    /// Starts the server with mounts of its own, which `script` makes: they end with it. Its files are in
    /// `/proc/PID/root`. Needs no root where the system lets users have namespaces.
    pub(crate) async fn start_with_mounts(script: &str, flags: &[&str]) -> Self {
        let mut unshare = clean(Command::new("unshare"));
        let script = format!("{script} && exec \"$0\" \"$@\"");
        unshare.args(["--map-root-user", "--mount", "sh", "-c", &script]);
        unshare.arg(env!("CARGO_BIN_EXE_voicematch-server"));
        Self::start_command(unshare, "127.0.0.1:0", flags).await
    }

    /// Starts the server that `command` runs, listening on `listen`.
    pub(crate) async fn start_command(mut command: Command, listen: &str, flags: &[&str]) -> Self {
        command.args(["--listen", listen, "--admin-listen", "127.0.0.1:0"]);
        command.args(flags);
        Self::listening(Process::spawn(command)).await
    }

    /// Starts the server with its admin address there.
    pub(crate) async fn start_with_admin(admin: &str, flags: &[&str]) -> Self {
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", admin]);
        command.args(flags);
        Self::listening_at(command).await
    }

    /// Starts the server that `command` runs, which says where it listens.
    pub(crate) async fn listening_at(command: Command) -> Self {
        Self::listening(Process::spawn(command)).await
    }

    /// Starts the server with its output going to `stdout` or its log to `stderr`, but not both.
    pub(crate) async fn start_into(
        stdout: Option<Stdio>,
        stderr: Option<Stdio>,
        flags: &[&str],
    ) -> Self {
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(flags);
        let [stdout, stderr] = [stdout, stderr].map(|to| to.unwrap_or_else(Stdio::piped));
        Self::listening(Process::spawn_with(command, stdout, stderr)).await
    }

    async fn listening(mut process: Process) -> Self {
        let mut addresses = None;
        eventually("the server says where it listens", async || {
            addresses = printed_addresses(&process.stdout())
                .or_else(|| logged_addresses(&process.stderr()));
            addresses.is_some() || process.has_ended()
        })
        .await;
        let (public, admin) = addresses.expect("the server ended at once");
        Self {
            process,
            public,
            admin,
        }
    }

    /// GET on the public port.
    pub(crate) async fn public(&self, path: &str) -> Response {
        http::get(self.public, path).await
    }

    /// GET on the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Response {
        http::get(self.admin, path).await
    }

    /// Every metric as it is now.
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(self.admin("/metrics").await.text())
    }

    /// One metric as it is now; `labels` as in `reason="closed"`, or empty.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        self.metrics().await.get(name, labels)
    }

    /// Waits until a metric has this value: some are counted just after the client has been told.
    #[track_caller]
    pub(crate) fn reaches(&self, name: &str, labels: &str, value: f64) -> impl Future<Output = ()> {
        let what = format!("{name}{{{labels}}}");
        becomes(value, what, async || self.metric(name, labels).await)
    }

    /// Memory in use, in bytes.
    pub(crate) async fn resident_bytes(&self) -> f64 {
        self.metric("process_resident_memory_bytes", "").await
    }
}

/// The addresses in the two lines that a server prints at its start.
fn printed_addresses(lines: &[String]) -> Option<(SocketAddr, SocketAddr)> {
    let address = |label: &str| {
        let line = lines.iter().find(|line| line.starts_with(label))?;
        let (_, rest) = line.split_once("://")?;
        rest.split('/').next()?.parse().ok()
    };
    Some((address("public")?, address("admin")?))
}

/// The addresses in the log line of a server that listens.
fn logged_addresses(lines: &[String]) -> Option<(SocketAddr, SocketAddr)> {
    let line = lines.iter().find(|line| line.contains(" listening "))?;
    let address = |label: &str| {
        line.split_once(label)?
            .1
            .split([' ', ','])
            .next()?
            .parse()
            .ok()
    };
    Some((address("public=")?, address("admin=")?))
}

/// The samples of a scrape: by name, and labels as they are written.
pub(crate) struct Metrics(BTreeMap<(String, String), f64>);

impl Metrics {
    /// Every line must be a comment or a sample.
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
                let labels = labels.strip_suffix('}').unwrap();
                let value: f64 = value.parse().unwrap();
                ((name.to_owned(), labels.to_owned()), value)
            });
        Self(samples.collect())
    }

    #[track_caller]
    pub(crate) fn get(&self, name: &str, labels: &str) -> f64 {
        let key = (name.to_owned(), labels.to_owned());
        match self.0.get(&key) {
            Some(&value) => value,
            None => panic!("no metric {name}{{{labels}}}"),
        }
    }

    /// Every sample of one name, by labels.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let samples = self.0.iter().filter(move |((found, _), _)| found == name);
        samples.map(|((_, labels), &value)| (labels.as_str(), value))
    }
}
